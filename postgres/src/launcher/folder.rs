//! The temporary folder of one private server, and its removal however we end.
//!
//! Layout: `lock` (locked as long as we live), `log`, `data/` and `socket/` (0700, owned by the
//! account that the server runs as), `pg/` (a copy of the programs where that account can't enter
//! the cache). The name carries our pid and start time, so that a later start knows a leftover.
//! Data that are kept are elsewhere, and so is their log ([`super::kept`]).
//!
//! Three removers: [`RunFolder`]'s drop; its watchdog, a shell that waits for our end of a pipe to
//! close, which happens on any death; and [`sweep`] at the next start, should both have been killed.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{
    DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, chown, symlink,
};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::error::LaunchError;
use super::process::{self, Account, Signal};

/// How the folders' names start; pid, start time and a random number follow.
const PREFIX: &str = "convoy-pg-";

/// The longest path in `sockaddr_un` (unix(7): `sun_path` less its closing zero), in bytes.
const SOCKET_PATH_BYTES_MAX: usize = if cfg!(target_os = "linux") { 107 } else { 103 };

/// Waits for the end of file, then stops what runs on the data folder ($2) and removes the folder ($1).
///
/// A line on the pipe means that all is done already. The pid in `postmaster.pid` may be another's
/// by now, so it must be seen to work in our folder before it gets a signal.
const WATCHDOG: &str = r#"
trap '' HUP INT QUIT TERM
if read -r _; then exit 0; fi
ours() {
  read -r pid 2>/dev/null <"$2/postmaster.pid" || return 1
  kill -0 "$pid" 2>/dev/null || return 1
  case "$(readlink "/proc/$pid/cwd" 2>/dev/null || ps -o args= -p "$pid" 2>/dev/null)" in
    *"$2"*) return 0 ;;
  esac
  return 1
}
n=0
while [ $n -lt 150 ] && ours "$1" "$2"; do
  case $n in 0) kill -INT "$pid" ;; 50) kill -QUIT "$pid" ;; 100) kill -KILL "$pid" ;; esac
  sleep 0.1 2>/dev/null || sleep 1
  n=$((n + 1))
done
rm -rf -- "$1"
"#;

/// A server's temporary folder; dropping it removes it.
#[derive(Debug)]
pub(super) struct RunFolder {
    path: PathBuf,
    data: PathBuf,
    /// Held, not used: the lock goes when we do.
    _lock: File,
    watchdog: Option<Child>,
}

impl RunFolder {
    /// Makes the folder under `temp_dir`, with `data` and `socket` owned by `account`; without `data` where these are
    /// kept elsewhere.
    pub(super) fn new(
        temp_dir: &Path,
        account: Option<&Account>,
        kept_data: Option<PathBuf>,
    ) -> Result<RunFolder, LaunchError> {
        let pid = std::process::id();
        let start = process::start_ticks(pid).unwrap_or(0);
        let name = format!("{PREFIX}{pid}-{start}-{:08x}", rand::random::<u32>());
        let path = temp_dir.join(name);
        let socket = path.join("socket").join(".s.PGSQL.65535");
        if socket.as_os_str().len() > SOCKET_PATH_BYTES_MAX {
            let limit = SOCKET_PATH_BYTES_MAX;
            return Err(LaunchError::SocketPathTooLong { path: socket, limit });
        }

        let doing = || LaunchError::io(format!("make the folder {}", path.display()));
        DirBuilder::new().mode(0o700).create(&path).map_err(doing())?;
        // From here on a failure must not leave the folder behind, lock or no lock.
        let locked = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(path.join("lock"))
            .and_then(|lock| lock.try_lock().map_err(io::Error::from).map(|()| lock));
        let lock = match locked {
            Ok(lock) => lock,
            Err(error) => {
                let _ = fs::remove_dir_all(&path);
                return Err(doing()(error));
            }
        };
        let own_data = kept_data.is_none().then(|| path.join("data"));
        let data = kept_data.unwrap_or_else(|| path.join("data"));
        let watchdog = start_watchdog(&path, &data);
        let folder = RunFolder { path: path.clone(), data, _lock: lock, watchdog };
        for inner in own_data.into_iter().chain([folder.socket()]) {
            DirBuilder::new().mode(0o700).create(&inner).map_err(doing())?;
            if let Some(account) = account {
                chown(&inner, Some(account.uid), Some(account.gid)).map_err(doing())?;
            }
        }
        if account.is_some() {
            // The account has to pass through; what it passes to stays 0700.
            fs::set_permissions(&path, fs::Permissions::from_mode(0o711)).map_err(doing())?;
        }
        Ok(folder)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn data(&self) -> &Path {
        &self.data
    }

    pub(super) fn socket(&self) -> PathBuf {
        self.path.join("socket")
    }

    pub(super) fn log(&self) -> PathBuf {
        self.path.join("log")
    }

    /// Copies an installation here, for an account that can't enter the folder it is in.
    pub(super) fn adopt_programs(&self, bin: &Path) -> Result<PathBuf, LaunchError> {
        let from = bin.parent().unwrap_or(bin);
        let to = self.path.join("pg");
        copy_tree(from, &to).map_err(LaunchError::io(format!(
            "copy {} to {}",
            from.display(),
            to.display()
        )))?;
        Ok(to.join("bin"))
    }
}

impl Drop for RunFolder {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(%error, folder = %self.path.display(), "could not remove the folder of the private Postgres");
        }
        if let Some(mut watchdog) = self.watchdog.take() {
            if let Some(mut pipe) = watchdog.stdin.take() {
                let _ = pipe.write_all(b"done\n");
            }
            // It has nothing left to wait for: it reads the line, or the end of file, and exits.
            let _ = watchdog.wait();
        }
    }
}

/// Opens a log to append to.
pub(super) fn open_to_append(log: &Path) -> Result<File, LaunchError> {
    let doing = LaunchError::io(format!("open {}", log.display()));
    OpenOptions::new().create(true).append(true).open(log).map_err(doing)
}

/// Starts the shell that cleans up after us; without a shell the next start's [`sweep`] has to.
fn start_watchdog(folder: &Path, data: &Path) -> Option<Child> {
    let mut command = Command::new("/bin/sh");
    command
        .args(["-c", WATCHDOG, "convoy-watchdog"])
        .arg(folder)
        .arg(data)
        .current_dir("/")
        .process_group(0)
        .stdin(Stdio::piped())
        // Whoever reads our output must not have to wait for the watchdog's copy of it to close.
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    match command.spawn() {
        Ok(child) => Some(child),
        Err(error) => {
            tracing::debug!(%error, "no watchdog for the private Postgres' folder");
            None
        }
    }
}

/// Removes the folders under `temp_dir` whose makers are dead.
pub(super) fn sweep(temp_dir: &Path) {
    let our_uid = process::effective_uid();
    for entry in fs::read_dir(temp_dir).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some((pid, start)) = name.to_str().and_then(maker_of) else { continue };
        let folder = entry.path();
        // `DirEntry::metadata` does not follow links, so nobody can point us elsewhere.
        let is_ours = entry.metadata().is_ok_and(|meta| meta.is_dir() && meta.uid() == our_uid);
        // The lock tells of makers whose pids we can't see (another container's); the pid tells of
        // one that has made the folder and not yet the lock.
        if !is_ours || process::start_ticks(pid) == Some(start) || is_locked(&folder) {
            continue;
        }
        if let Some(postmaster) = running_postmaster(&folder.join("data")) {
            // Its maker's death has told it to stop, or tells it now; the next start removes it.
            process::send(postmaster, Signal::Int);
            continue;
        }
        if let Err(error) = fs::remove_dir_all(&folder) {
            tracing::debug!(%error, folder = %folder.display(), "could not remove a stale folder");
        } else {
            tracing::info!(folder = %folder.display(), "removed a dead owner's private Postgres");
        }
    }
}

fn maker_of(name: &str) -> Option<(u32, u64)> {
    let mut parts = name.strip_prefix(PREFIX)?.splitn(3, '-');
    let pid = parts.next()?.parse().ok()?;
    let start = parts.next()?.parse().ok()?;
    parts.next()?;
    Some((pid, start))
}

fn is_locked(folder: &Path) -> bool {
    let lock = OpenOptions::new()
        .write(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(folder.join("lock"));
    match lock {
        Ok(lock) => lock.try_lock().is_err(),
        Err(error) => error.kind() != io::ErrorKind::NotFound,
    }
}

/// Returns the postmaster that still runs on `data`, if there is one.
pub(super) fn running_postmaster(data: &Path) -> Option<u32> {
    let text = fs::read_to_string(data.join("postmaster.pid")).ok()?;
    let pid: u32 = text.lines().next()?.trim().parse().ok()?;
    let works_here = match fs::read_link(format!("/proc/{pid}/cwd")) {
        Ok(cwd) => cwd == data,
        // Without /proc a living pid has to be enough: the folder then stays a little longer.
        Err(_) => !cfg!(target_os = "linux") && process::start_ticks(pid).is_some(),
    };
    works_here.then_some(pid)
}

/// Returns the last lines of a log, on one line.
pub(super) fn tail(log: &Path) -> String {
    const BYTES: u64 = 4096;
    const LINES: usize = 12;
    let read = || -> io::Result<String> {
        let mut file = File::open(log)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(BYTES)))?;
        let mut bytes = Vec::new();
        file.take(BYTES).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    let text = read().unwrap_or_default();
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    match lines.len() {
        0 => "(nothing)".into(),
        count => lines[count.saturating_sub(LINES)..].join(" | "),
    }
}

fn copy_tree(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir(to)?;
    fs::set_permissions(to, fs::Permissions::from_mode(0o755))?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        let kind = entry.file_type()?;
        if kind.is_dir() {
            copy_tree(&source, &target)?;
        } else if kind.is_symlink() {
            symlink(fs::read_link(&source)?, &target)?;
        } else {
            fs::copy(&source, &target)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_goes_with_its_value_and_is_private() {
        let temp = tempfile::tempdir_in("/tmp").expect("a folder");
        let folder = RunFolder::new(temp.path(), None, None).expect("a run folder");
        for path in [folder.path().to_owned(), folder.data().to_owned(), folder.socket()] {
            let mode = fs::metadata(&path).expect("it exists").mode();
            assert_eq!(mode & 0o777, 0o700, "{}", path.display());
        }
        drop(folder);
        assert_eq!(fs::read_dir(temp.path()).expect("readable").count(), 0);
    }

    #[test]
    fn a_socket_path_that_does_not_fit_is_refused() {
        let deep = PathBuf::from("/tmp").join("x".repeat(80));
        let refused = RunFolder::new(&deep, None, None).expect_err("too long");
        assert!(matches!(refused, LaunchError::SocketPathTooLong { .. }), "{refused}");
    }

    #[test]
    fn the_sweep_takes_the_dead_and_leaves_the_living() {
        let temp = tempfile::tempdir_in("/tmp").expect("a folder");
        let living = RunFolder::new(temp.path(), None, None).expect("a run folder");
        let mut child = Command::new("true").spawn().expect("true runs");
        child.wait().expect("true ends");
        let dead = temp.path().join(format!("{PREFIX}{}-7-0", child.id()));
        // Our own pid, as of another start: its maker is dead although the pid is not.
        let reused = temp.path().join(format!("{PREFIX}{}-7-0", std::process::id()));
        let locked = temp.path().join(format!("{PREFIX}{}-8-0", child.id()));
        let other = temp.path().join("convoy-pg-notes");
        for folder in [&dead, &reused, &locked, &other] {
            fs::create_dir(folder).expect("a folder");
        }
        let lock = File::create(locked.join("lock")).expect("a lock");
        lock.try_lock().expect("nobody else has it");
        sweep(temp.path());
        assert!(!dead.exists());
        assert_eq!(reused.exists(), !cfg!(target_os = "linux"));
        assert!(locked.exists() && other.exists() && living.path().exists());
    }

    #[test]
    fn a_tail_is_bounded_and_on_one_line() {
        let temp = tempfile::tempdir().expect("a folder");
        let log = temp.path().join("log");
        assert_eq!(tail(&log), "(nothing)");
        fs::write(&log, "line\n".repeat(10_000) + "last\n").expect("written");
        let tail = tail(&log);
        assert!(tail.ends_with("line | last") && tail.len() < 200, "{tail}");
    }
}
