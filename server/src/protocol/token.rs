//! Resume tokens: the id of a transition.

use std::fmt;

/// Which session to go on with, and how far its client has got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResumeToken<'a> {
    /// What only the session's client knows.
    pub secret: &'a str,
    /// The number of the transition.
    pub sequence: u64,
}

impl<'a> ResumeToken<'a> {
    /// Reads one; none where it can't be one of ours.
    pub fn read(text: &'a str) -> Option<Self> {
        let (secret, sequence) = text.rsplit_once('-')?;
        Some(ResumeToken { secret, sequence: sequence.parse().ok()? })
    }
}

impl fmt::Display for ResumeToken<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}-{}", self.secret, self.sequence)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let token = ResumeToken { secret: "5d41402a", sequence: u64::MAX };
        assert_eq!(ResumeToken::read(&token.to_string()), Some(token));
        for none in ["", "5d41402a", "5d41402a-", "5d41402a-x", "5d41402a-18446744073709551616"] {
            assert_eq!(ResumeToken::read(none), None, "{none}");
        }
    }
}
