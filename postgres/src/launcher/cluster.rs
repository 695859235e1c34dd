//! Making a cluster: `initdb`, the settings that are ours, and the environment of Postgres' programs.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, chown};
use std::path::Path;
use std::process::{Child, Command, ExitStatus};
use std::time::Duration;

use super::error::LaunchError;
use super::folder;
use super::home::Home;
use super::process::{self, Account, Signal, Waited};
use super::server::STOP_LIMIT;
use super::{Fsync, LaunchOptions, Listen};

/// How long `initdb` may take; it is one second on an idle machine.
const INITDB_LIMIT: Duration = Duration::from_secs(120);

/// Returns a command that works in `work_dir`, without what the caller's environment says to Postgres.
pub(super) fn command(
    bin: &Path,
    program: &str,
    home: &Home,
    work_dir: &Path,
) -> Result<Command, LaunchError> {
    let mut command = Command::new(bin.join(program));
    // Our own working folder may be closed to the account that this runs as.
    command.current_dir(work_dir).stdin(home.stdin()?);
    for variable in ["PGDATA", "PGPORT", "PGHOST", "PGUSER", "PGDATABASE", "PGOPTIONS", "LANGUAGE"]
    {
        command.env_remove(variable);
    }
    // Messages in English: some of them are looked for, and all are searched for.
    command.env("LC_ALL", "C");
    Ok(command)
}

/// Makes a cluster in the folder `data`, which is empty.
pub(super) fn initdb(
    bin: &Path,
    home: &Home,
    data: &Path,
    account: Option<&Account>,
    password: Option<&str>,
    cancelled: &dyn Fn() -> bool,
) -> Result<(), LaunchError> {
    let password_file = home.path().join("password");
    if let Some(password) = password {
        let doing = || LaunchError::io("write the password for initdb");
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&password_file)
            .map_err(doing())?;
        file.write_all(password.as_bytes()).map_err(doing())?;
        if let Some(account) = account {
            chown(&password_file, Some(account.uid), Some(account.gid)).map_err(doing())?;
        }
    }
    let run = |locale: &'static str| -> Result<ExitStatus, LaunchError> {
        let log = home.open_log()?;
        let log_too = log.try_clone().map_err(LaunchError::io("open initdb's log"))?;
        let mut command = command(bin, "initdb", home, data)?;
        command
            .args(["-U", "postgres", "--encoding=UTF8", "--no-instructions"])
            .args(["--auth-local=trust", "--auth-host=scram-sha-256"])
            .arg(format!("--locale={locale}"))
            .arg("-D")
            .arg(data)
            .stdout(log)
            .stderr(log_too);
        if !home.is_kept() {
            command.arg("--no-sync");
        }
        if password.is_some() {
            command.arg("--pwfile").arg(&password_file);
        }
        process::bind_to_this_thread(&mut command, account, Signal::Int);
        let mut child = command.spawn().map_err(LaunchError::io("start initdb"))?;
        let waited = process::wait(&mut child, INITDB_LIMIT, cancelled, || ());
        match waited.map_err(LaunchError::io("wait for initdb"))? {
            Waited::Ended(status) => Ok(status),
            unfinished => {
                end_initdb(&mut child);
                Err(match unfinished {
                    Waited::Cancelled => LaunchError::Cancelled,
                    _ => LaunchError::Timeout {
                        what: "initdb",
                        limit: INITDB_LIMIT,
                        log: folder::tail(&home.log()),
                    },
                })
            }
        }
    };
    let mut status = run("C.UTF-8")?;
    if !status.success() && folder::tail(&home.log()).contains("invalid locale name") {
        status = run("C")?;
    }
    if password.is_some() {
        let _ = fs::remove_file(&password_file);
    }
    match status.success() {
        true => Ok(()),
        false => Err(LaunchError::Initdb { status, output: folder::tail(&home.log()) }),
    }
}

/// Ends `initdb` in order: on SIGINT it lets the server of the step under way end, which frees its shared memory and
/// writes nothing more into the folder, and then ends too. Killed, it would leave that server behind.
fn end_initdb(child: &mut Child) {
    process::send(child.id(), Signal::Int);
    if !matches!(process::wait(child, STOP_LIMIT, &|| false, || ()), Ok(Waited::Ended(_))) {
        process::send(child.id(), Signal::Kill);
        let _ = child.wait();
    }
}

/// Returns our settings, then the caller's: of two the later one holds.
pub(super) fn settings(options: &LaunchOptions, home: &Home) -> Vec<(String, String)> {
    let socket = home.socket().display().to_string();
    let is_synced = options.fsync == Fsync::On || home.is_kept();
    let ours = [
        ("listen_addresses", if options.listen == Listen::Loopback { "127.0.0.1" } else { "" }),
        ("unix_socket_directories", socket.as_str()),
        ("unix_socket_permissions", "0700"),
        ("wal_level", "logical"),
        ("fsync", if is_synced { "on" } else { "off" }),
        ("logging_collector", "off"),
    ];
    let ours = ours.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
    ours.chain(options.settings.iter().cloned()).collect()
}

/// Appends settings to `postgresql.conf`.
pub(super) fn configure(data: &Path, settings: &[(String, String)]) -> Result<(), LaunchError> {
    let lines: String =
        settings.iter().map(|(name, value)| format!("{name} = '{}'\n", quoted(value))).collect();
    fs::OpenOptions::new()
        .append(true)
        .open(data.join("postgresql.conf"))
        .and_then(|mut file| file.write_all(format!("\n# Convoy\n{lines}").as_bytes()))
        .map_err(LaunchError::io("write postgresql.conf"))
}

/// Quotes for postgresql.conf, where a backslash escapes too (manual, 20.1.2).
fn quoted(value: &str) -> String {
    value.replace('\\', "\\\\").replace('\'', "''").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_quoted_as_the_configuration_file_wants_it() {
        assert_eq!(quoted(r"it's a \path"), r"it''s a \\path");
        assert_eq!(quoted("two\nlines"), r"two\nlines");
    }
}
