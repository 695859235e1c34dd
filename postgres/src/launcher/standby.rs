//! A physical standby of a private server: a base backup by `pg_backup_start` and a file copy, since not every
//! installation has pg_basebackup, and the settings to follow the other from there (PostgreSQL manual, 26.3.3).

use std::fs;
use std::io;
use std::os::unix::fs::chown;
use std::path::Path;

use super::error::LaunchError;
use super::process::Account;
use super::server::{Keeper, Port, Seed};
use super::{Again, LaunchOptions, Listen, PrivatePostgres};

/// Folders whose content a backup leaves out: it is made again, or streamed (pg_wal).
const LEFT_EMPTY: [&str; 8] = [
    "pg_wal",
    "pg_replslot",
    "pg_dynshmem",
    "pg_notify",
    "pg_serial",
    "pg_snapshots",
    "pg_stat_tmp",
    "pg_subtrans",
];

/// Files that belong to the running server.
const LEFT_OUT: [&str; 2] = ["postmaster.pid", "postmaster.opts"];

impl PrivatePostgres {
    /// Starts a standby of this server that follows it over its Unix socket; `SELECT pg_promote()` ends that.
    ///
    /// It listens on a Unix socket alone. This server must keep the WAL that is written meanwhile (`wal_keep_size`).
    ///
    /// # Errors
    /// As [`start`](PrivatePostgres::start), and [`LaunchError::Database`] where this server refuses the backup.
    pub async fn standby(&self, options: LaunchOptions) -> Result<PrivatePostgres, LaunchError> {
        let mut options = LaunchOptions { listen: Listen::SocketOnly, keep: None, ..options };
        let following = format!(
            "host={} port={} user=postgres application_name=standby",
            self.facts.socket.display(),
            self.port()
        );
        options.settings.push(("primary_conninfo".into(), following));
        let start_limit = options.start_limit;
        let failed = |source| LaunchError::Database { doing: "back the server up".into(), source };
        let config = self.config("postgres");
        let (client, connection) = config.connect(tokio_postgres::NoTls).await.map_err(failed)?;
        let backup = async move {
            let begin = "SELECT pg_backup_start('standby', fast => true)";
            client.batch_execute(begin).await.map_err(failed)?;
            let seed = Seed::CopyOf(self.facts.data.clone());
            let (keeper, facts, current) = Keeper::start(options, seed).await?;
            let end = "SELECT labelfile FROM pg_backup_stop(wait_for_archive => false)";
            let row = client.query_one(end, &[]).await.map_err(failed)?;
            let label: String = row.try_get(0).map_err(failed)?;
            let account = Account::to_change_to();
            for (name, text) in [("backup_label", label.as_str()), ("standby.signal", "")] {
                let path = facts.data.join(name);
                fs::write(&path, text)
                    .and_then(|()| own(&path, account.as_ref()))
                    .map_err(LaunchError::io(format!("write {}", path.display())))?;
            }
            Ok(PrivatePostgres { facts, current, start_limit, keeper })
        };
        // The connection ends when the client goes.
        let standby: PrivatePostgres = tokio::join!(backup, connection).0?;
        standby.keeper.up(Port::Another).await?;
        standby.await_ready(Again::On(Port::Another)).await?;
        Ok(standby)
    }
}

/// Copies the files of a server that is in backup mode.
pub(super) fn copy_data(from: &Path, to: &Path, account: Option<&Account>) -> io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let name = entry.file_name();
        let (source, target) = (entry.path(), to.join(&name));
        if LEFT_OUT.iter().any(|left_out| name == *left_out) {
            continue;
        }
        if LEFT_EMPTY.iter().any(|empty| name == *empty) {
            make_folder(&target, account)?;
            continue;
        }
        copy(&source, &target, account)?;
    }
    make_folder(&to.join("pg_wal/archive_status"), account)
}

fn copy(source: &Path, target: &Path, account: Option<&Account>) -> io::Result<()> {
    if source.is_dir() {
        make_folder(target, account)?;
        for entry in fs::read_dir(source)? {
            let entry = entry?;
            copy(&entry.path(), &target.join(entry.file_name()), account)?;
        }
        return Ok(());
    }
    match fs::copy(source, target) {
        Ok(_) => own(target, account),
        // The server goes on while it is copied: what it has removed since, the WAL says as well.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

fn make_folder(path: &Path, account: Option<&Account>) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new().mode(0o700).create(path)?;
    own(path, account)
}

fn own(path: &Path, account: Option<&Account>) -> io::Result<()> {
    account.map_or(Ok(()), |account| chown(path, Some(account.uid), Some(account.gid)))
}
