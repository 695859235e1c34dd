//! The folders of one server: the temporary one, which goes with it, and the kept one, where its data are to stay.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use super::error::LaunchError;
use super::folder::{self, RunFolder};
use super::kept::KeptFolder;
use super::process::Account;

/// Where the files of one server are; dropping it removes the temporary ones.
#[derive(Debug)]
pub(super) struct Home {
    run: RunFolder,
    /// After `run`: its lock is the last thing to go.
    kept: Option<KeptFolder>,
}

impl Home {
    /// Makes the temporary folder under `temp_dir`, for a server with these kept data or with data that go with it.
    pub(super) fn new(
        temp_dir: &Path,
        account: Option<&Account>,
        kept: Option<KeptFolder>,
    ) -> Result<Home, LaunchError> {
        let data = kept.as_ref().map(KeptFolder::data);
        Ok(Home { run: RunFolder::new(temp_dir, account, data)?, kept })
    }

    /// Returns the temporary folder.
    pub(super) fn path(&self) -> &Path {
        self.run.path()
    }

    pub(super) fn data(&self) -> &Path {
        self.run.data()
    }

    pub(super) fn socket(&self) -> PathBuf {
        self.run.socket()
    }

    /// Returns the log, which stays where the data do.
    pub(super) fn log(&self) -> PathBuf {
        self.kept.as_ref().map_or_else(|| self.run.log(), KeptFolder::log)
    }

    /// Opens the log to append to.
    pub(super) fn open_log(&self) -> Result<File, LaunchError> {
        folder::open_to_append(&self.log())
    }

    pub(super) fn is_kept(&self) -> bool {
        self.kept.is_some()
    }

    pub(super) fn kept(&self) -> Option<&KeptFolder> {
        self.kept.as_ref()
    }

    /// Returns what Postgres' programs have for their standard input, which they don't read: the lock of kept data, so
    /// that it is held for as long as one of them lives.
    pub(super) fn stdin(&self) -> Result<Stdio, LaunchError> {
        self.kept.as_ref().map_or_else(|| Ok(Stdio::null()), KeptFolder::lock_to_pass_on)
    }

    /// Copies an installation to the temporary folder, for an account that can't enter the folder it is in.
    pub(super) fn adopt_programs(&self, bin: &Path) -> Result<PathBuf, LaunchError> {
        self.run.adopt_programs(bin)
    }
}
