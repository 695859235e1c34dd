//! One line of progress on standard error: rewritten on a terminal, plain lines elsewhere.

use std::io::{IsTerminal, Write};

/// The line; it goes when it is dropped.
#[derive(Debug)]
pub(crate) struct Progress {
    is_terminal: bool,
}

impl Progress {
    /// Returns a line on which nothing stands yet.
    pub(crate) fn new() -> Self {
        Progress { is_terminal: std::io::stderr().is_terminal() }
    }

    /// Says what happens now.
    pub(crate) fn say(&self, text: &str) {
        let mut out = std::io::stderr().lock();
        // Nobody has to read it.
        let _ = match self.is_terminal {
            true => write!(out, "\r\x1b[K{text}").and_then(|()| out.flush()),
            false => writeln!(out, "{text}"),
        };
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.is_terminal {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}
