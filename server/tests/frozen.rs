//! A Postgres whose processes all stand still, as on a machine that is out of breath: its kernel answers for it.

use convoy_postgres::launcher::PrivatePostgres;
use std::process::Command;

/// Stands still until it is dropped.
pub struct Frozen {
    pids: Vec<String>,
}

impl Frozen {
    /// Stops the postmaster, so that no more are born, and then all its children.
    pub fn new(server: &PrivatePostgres) -> Frozen {
        let postmaster = server.pid().to_string();
        let mut frozen = Frozen { pids: vec![postmaster.clone()] };
        frozen.signal("-STOP");
        for entry in std::fs::read_dir("/proc").expect("processes").flatten() {
            let pid = entry.file_name().to_string_lossy().into_owned();
            let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
            // proc(5): the parent is the second field after the name's closing parenthesis.
            let parent = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(1));
            if parent == Some(&postmaster) {
                frozen.pids.push(pid);
            }
        }
        frozen.signal("-STOP");
        frozen
    }

    fn signal(&self, signal: &str) {
        // One that has ended since is no error.
        let _ = Command::new("kill").arg(signal).args(&self.pids).output();
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        self.signal("-CONT");
    }
}
