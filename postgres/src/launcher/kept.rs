//! A folder whose data stay: who may have it, what it has to be like, and that only whole data are found in it.
//!
//! Layout: `data/` (Postgres' own: 0700, of the account that the server runs as), `log` and `log.old` (of this run and
//! the one before), `password` (the superuser's, for TCP), `lock`, and a `.gitignore`, since it lies in a project.
//! `data.new/` is where `initdb` works; one rename makes it `data/`, so that nothing half made ever has that name.
//!
//! The lock belongs to us *and to every process of the server*, which have it as their standard input (flock(2): a lock
//! is its open file's, and goes when the last copy is closed). So it is free exactly when nobody can write to the data
//! any more, whoever died first and in whichever container: a pid file alone can't say that. What the file says, our pid
//! and when we started, is for the one who finds it locked.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use super::error::LaunchError;
use super::folder;
use super::process::{self, Account};

/// How long the server of a dead owner may take to end: its watchdog gives it 15 s before SIGKILL, and recovery is not
/// begun before.
const HANDOVER_LIMIT: Duration = Duration::from_secs(20);
/// What a folder may hold that has no data yet.
const OURS: [&str; 6] = ["data.new", "log", "log.old", "password", "lock", ".gitignore"];

/// A folder with kept data, which nobody else has at the time.
#[derive(Debug)]
pub(super) struct KeptFolder {
    path: PathBuf,
    lock: File,
}

impl KeptFolder {
    /// Makes the folder where it is not there, and locks it; waits for the server of an owner that has died.
    pub(super) fn open(
        path: &Path,
        account: Option<&Account>,
        cancelled: &dyn Fn() -> bool,
    ) -> Result<KeptFolder, LaunchError> {
        let path = make(path, account)?;
        check_content(&path)?;
        check_owner(&path, account)?;
        let lock = lock(&path, cancelled)?;
        let folder = KeptFolder { path, lock };
        if let Some(pid) = folder::running_postmaster(&folder.data()) {
            // Not a server of ours, which would have the lock.
            return Err(in_use(&folder.path, Some(pid)));
        }
        folder.sign()?;
        folder.tidy_up(account)?;
        Ok(folder)
    }

    /// Returns the folder of the data.
    pub(super) fn data(&self) -> PathBuf {
        self.path.join("data")
    }

    pub(super) fn log(&self) -> PathBuf {
        self.path.join("log")
    }

    /// Returns which major version made the data; `None` where there are none yet.
    pub(super) fn made_by(&self) -> Result<Option<u32>, LaunchError> {
        let file = self.data().join("PG_VERSION");
        match fs::read_to_string(&file) {
            Ok(text) => match text.trim().parse() {
                Ok(major) => Ok(Some(major)),
                Err(_) => Err(unfit(&self.path, "data/PG_VERSION has no version of Postgres")),
            },
            Err(_) if !self.data().exists() => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(unfit(
                &self.path,
                "what is in data/ was not made by Postgres: move it away to begin with empty data",
            )),
            Err(error) => Err(LaunchError::io(format!("read {}", file.display()))(error)),
        }
    }

    /// Makes the folder in which `initdb` works.
    pub(super) fn begin(&self, account: Option<&Account>) -> Result<PathBuf, LaunchError> {
        let fresh = self.path.join("data.new");
        DirBuilder::new()
            .mode(0o700)
            .create(&fresh)
            .and_then(|()| give(&fresh, account))
            .map_err(LaunchError::io(format!("make {}", fresh.display())))?;
        Ok(fresh)
    }

    /// Removes what an `initdb` that failed has made.
    pub(super) fn give_up(&self) {
        let _ = fs::remove_dir_all(self.path.join("data.new"));
    }

    /// Makes what `initdb` has made the data. It has written all of it to disk before.
    pub(super) fn finish(&self) -> Result<(), LaunchError> {
        let data = self.data();
        fs::rename(self.path.join("data.new"), &data)
            .and_then(|()| File::open(&self.path)?.sync_all())
            .map_err(LaunchError::io(format!("make {}", data.display())))
    }

    /// Returns the superuser's password, which is asked for over TCP; the one given here where there are no data yet.
    pub(super) fn password(&self, fresh: Option<&str>) -> Result<Option<String>, LaunchError> {
        let file = self.path.join("password");
        let doing = || LaunchError::io(format!("keep the password in {}", file.display()));
        if let Some(fresh) = fresh {
            // Of data that never came to be.
            remove_file(&file).map_err(doing())?;
            let mut options = OpenOptions::new();
            let mut file =
                options.write(true).create_new(true).mode(0o600).open(&file).map_err(doing())?;
            file.write_all(fresh.as_bytes()).and_then(|()| file.sync_all()).map_err(doing())?;
        }
        match fs::read_to_string(&file) {
            Ok(password) => Ok(Some(password)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(doing()(error)),
        }
    }

    /// Returns a copy of the lock for a child to hold.
    pub(super) fn lock_to_pass_on(&self) -> Result<Stdio, LaunchError> {
        let copied = self.lock.try_clone().map_err(LaunchError::io("pass the lock on"))?;
        Ok(copied.into())
    }

    /// Writes into the lock whose it is.
    fn sign(&self) -> Result<(), LaunchError> {
        let pid = std::process::id();
        let start = process::start_ticks(pid).unwrap_or(0);
        let mut file = &self.lock;
        self.lock
            .set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| file.write_all(format!("{pid} {start}\n").as_bytes()))
            .map_err(LaunchError::io(format!("write {}", self.path.join("lock").display())))
    }

    /// Puts away what others left: an interrupted `initdb`, the log of the run before, a misleading `postmaster.pid`.
    fn tidy_up(&self, account: Option<&Account>) -> Result<(), LaunchError> {
        let fresh = self.path.join("data.new");
        match fs::remove_dir_all(&fresh) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(LaunchError::io(format!("remove {}", fresh.display()))(error));
            }
            _ => {}
        }
        match fs::rename(self.log(), self.path.join("log.old")) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(LaunchError::io(format!("rename {}", self.log().display()))(error));
            }
            _ => {}
        }
        // A project is under version control, and this is none of its source.
        let ignore =
            OpenOptions::new().write(true).create_new(true).open(self.path.join(".gitignore"));
        if let Ok(mut ignore) = ignore {
            let _ = ignore.write_all(b"*\n");
        }
        forget_postmaster(&self.data(), account)
            .map_err(LaunchError::io("read the postmaster.pid of a server that was killed"))
    }
}

/// Makes the folder and what is above it; returns its path without links.
fn make(path: &Path, account: Option<&Account>) -> Result<PathBuf, LaunchError> {
    let doing = || LaunchError::io(format!("make the folder {}", path.display()));
    let absolute = std::path::absolute(path).map_err(doing())?;
    // Before anything is made: it would stay.
    let there = absolute.ancestors().find_map(|above| above.canonicalize().ok());
    if let (Some(account), Some(there)) = (account, there) {
        // The folder itself is ours to open.
        let above = if path.exists() { there.parent() } else { Some(there.as_path()) };
        if let Some(closed) = above.and_then(|above| account.first_closed(above)) {
            return Err(LaunchError::ClosedToAccount {
                folder: absolute.clone(),
                closed: closed.to_owned(),
                account: account.name.clone(),
            });
        }
    }
    let missing: Vec<&Path> = absolute.ancestors().take_while(|above| !above.exists()).collect();
    for folder in missing.iter().rev() {
        match DirBuilder::new().create(folder) {
            // Another start may have been faster.
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(doing()(error));
            }
            _ => {}
        }
        if account.is_some() {
            // Whatever our umask is, the account has to pass.
            let mode = fs::metadata(folder).map_err(doing())?.mode() | 0o011;
            let open = fs::Permissions::from_mode(mode & 0o777);
            fs::set_permissions(folder, open).map_err(doing())?;
        }
    }
    let path = absolute.canonicalize().map_err(doing())?;
    if !path.is_dir() {
        return Err(unfit(&path, "it is no folder"));
    }
    Ok(path)
}

/// Checks that the folder is ours, and the data the account's, as Postgres insists on.
fn check_owner(path: &Path, account: Option<&Account>) -> Result<(), LaunchError> {
    let our_uid = process::effective_uid();
    let wrong =
        |path: &Path, owner, uid| LaunchError::WrongOwner { path: path.to_owned(), owner, uid };
    let doing = || LaunchError::io(format!("look at the folder {}", path.display()));
    let owner = fs::metadata(path).map_err(doing())?.uid();
    if owner != our_uid {
        // For root too: in another's folder, the files that we write could be links to anything.
        return Err(wrong(path, owner, our_uid));
    }
    // Nobody else looks in; the account passes through, and what it passes to is 0700.
    let mode = if account.is_some() { 0o711 } else { 0o700 };
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(doing())?;
    let data = path.join("data");
    let uid = account.map_or(our_uid, |account| account.uid);
    match fs::symlink_metadata(&data) {
        Ok(meta) if meta.uid() != uid => Err(wrong(&data, meta.uid(), uid)),
        _ => Ok(()),
    }
}

/// Checks that nothing of anybody else's is in a folder that has no data yet.
fn check_content(path: &Path) -> Result<(), LaunchError> {
    if path.join("data").exists() {
        return Ok(());
    }
    let doing = || LaunchError::io(format!("read the folder {}", path.display()));
    for entry in fs::read_dir(path).map_err(doing())? {
        let name = entry.map_err(doing())?.file_name();
        if !OURS.iter().any(|ours| name == *ours) {
            let name = name.to_string_lossy();
            let reason = format!("{name:?} is in it, which is not ours: name an empty folder");
            return Err(unfit(path, &reason));
        }
    }
    Ok(())
}

/// Locks the folder. A living owner is refused at once; the server of a dead one is waited for.
fn lock(path: &Path, cancelled: &dyn Fn() -> bool) -> Result<File, LaunchError> {
    let file = path.join("lock");
    let doing = || LaunchError::io(format!("lock {}", file.display()));
    let mut lock = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW)
        .open(&file)
        .map_err(doing())?;
    let deadline = Instant::now() + HANDOVER_LIMIT;
    loop {
        match lock.try_lock() {
            Ok(()) => break,
            Err(TryLockError::Error(error)) => return Err(doing()(error)),
            Err(TryLockError::WouldBlock) => {}
        }
        let holder = signature(&mut lock);
        if let Some((pid, start)) = holder
            && process::start_ticks(pid) == Some(start)
        {
            return Err(in_use(path, Some(pid)));
        }
        if cancelled() {
            return Err(LaunchError::Cancelled);
        }
        if Instant::now() >= deadline {
            return Err(in_use(path, folder::running_postmaster(&path.join("data"))));
        }
        // Nothing tells that a lock was given back, but to be blocked by it for as long as that takes.
        thread::sleep(Duration::from_millis(20));
    }
    Ok(lock)
}

/// Reads the pid and the start of the one who locked it.
fn signature(lock: &mut File) -> Option<(u32, u64)> {
    let mut text = String::new();
    lock.rewind().ok()?;
    lock.take(64).read_to_string(&mut text).ok()?;
    let (pid, start) = text.trim_end().split_once(' ')?;
    Some((pid.parse().ok()?, start.parse().ok()?))
}

/// Makes a `postmaster.pid` that was left behind one of a dead server, where its pid is another process' by now.
///
/// Postgres would refuse to start: it takes any living process of its account for the server. It does not so with its
/// own parent, which we are. The rest of the file stays: by it Postgres checks that no session of that server lives.
fn forget_postmaster(data: &Path, account: Option<&Account>) -> io::Result<()> {
    let file = data.join("postmaster.pid");
    let open = OpenOptions::new().read(true).write(true).custom_flags(libc::O_NOFOLLOW).open(file);
    let mut file = match open {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    let meta = file.metadata()?;
    let uid = account.map_or_else(process::effective_uid, |account| account.uid);
    // The account may put there what it likes; as root we write to nothing but its own files.
    if !meta.is_file() || meta.uid() != uid || meta.nlink() != 1 {
        return Ok(());
    }
    let mut text = String::new();
    (&file).take(4096).read_to_string(&mut text)?;
    let Some((pid, rest)) = text.split_once('\n') else { return Ok(()) };
    let Ok(pid) = pid.trim().parse::<u32>() else { return Ok(()) };
    // Where the process can be looked at, and works elsewhere: `running_postmaster` would have said otherwise.
    if fs::read_link(format!("/proc/{pid}/cwd")).is_err() {
        return Ok(());
    }
    file.rewind()?;
    file.set_len(0)?;
    file.write_all(format!("{}\n{rest}", std::process::id()).as_bytes())
}

fn remove_file(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn give(path: &Path, account: Option<&Account>) -> io::Result<()> {
    account.map_or(Ok(()), |account| chown(path, Some(account.uid), Some(account.gid)))
}

fn unfit(folder: &Path, reason: &str) -> LaunchError {
    LaunchError::UnfitFolder { folder: folder.to_owned(), reason: reason.to_owned() }
}

fn in_use(folder: &Path, pid: Option<u32>) -> LaunchError {
    LaunchError::InUse { folder: folder.to_owned(), pid }
}
