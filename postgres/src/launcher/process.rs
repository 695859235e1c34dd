//! Child processes that can't outlive us: who they run as, which signal they get when we die, and
//! waiting for them with a limit. The only file of this crate with `unsafe`.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

/// The unprivileged account that the server runs as when we are root: Postgres refuses root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Account {
    pub(super) name: String,
    pub(super) uid: u32,
    pub(super) gid: u32,
}

impl Account {
    /// Returns the account to change to, or `None` where we are not root and stay who we are.
    ///
    /// `postgres` where it exists, else `nobody`; `initdb` insists on an account with a name.
    pub(super) fn to_change_to() -> Option<Account> {
        if effective_uid() != 0 {
            return None;
        }
        let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
        Some(account_in(&passwd).unwrap_or(Account {
            name: "nobody".into(),
            uid: 65_534,
            gid: 65_534,
        }))
    }

    /// Returns whether this account may run `program`: it can enter every folder on the way.
    pub(super) fn can_run(&self, program: &Path) -> bool {
        let Ok(program) = program.canonicalize() else { return false };
        self.first_closed(&program).is_none()
    }

    /// Returns the first folder on the way to `path`, which is canonical, that this account may not enter, or `path`.
    pub(super) fn first_closed<'a>(&self, path: &'a Path) -> Option<&'a Path> {
        let open = |path: &Path| fs::metadata(path).is_ok_and(|meta| self.may_execute(&meta));
        path.ancestors().filter(|path| !open(path)).last()
    }

    fn may_execute(&self, meta: &fs::Metadata) -> bool {
        use std::os::unix::fs::MetadataExt;
        let bit = match (meta.uid() == self.uid, meta.gid() == self.gid) {
            (true, _) => 0o100,
            (false, true) => 0o010,
            (false, false) => 0o001,
        };
        meta.mode() & bit != 0
    }
}

fn account_in(passwd: &str) -> Option<Account> {
    ["postgres", "nobody"].iter().find_map(|wanted| {
        passwd.lines().find_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next()?;
            let uid = fields.nth(1)?.parse().ok()?;
            let gid = fields.next()?.parse().ok()?;
            (name == *wanted && uid != 0).then(|| Account { name: name.into(), uid, gid })
        })
    })
}

/// A signal that the launcher sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Signal {
    /// To a postmaster: fast shutdown.
    Int,
    /// To a postmaster: immediate shutdown, without a checkpoint.
    Quit,
    /// To anything: death.
    Kill,
}

impl Signal {
    fn number(self) -> libc::c_int {
        match self {
            Signal::Int => libc::SIGINT,
            Signal::Quit => libc::SIGQUIT,
            Signal::Kill => libc::SIGKILL,
        }
    }
}

/// Makes `command` run as `account`, in a process group of its own (Ctrl-C is for us, not for it),
/// and get `at_our_death` when the thread that spawns it ends.
///
/// So it must be spawned from a thread that lives as long as the child should. Outside Linux there
/// is no such signal; the folder's watchdog does its work there.
pub(super) fn bind_to_this_thread(
    command: &mut Command,
    account: Option<&Account>,
    at_our_death: Signal,
) {
    command.process_group(0);
    if let Some(account) = account {
        // `uid` also drops the supplementary groups.
        command.gid(account.gid).uid(account.uid);
    }
    #[cfg(target_os = "linux")]
    {
        let parent = std::process::id();
        let signal = at_our_death.number() as libc::c_ulong;
        let bind = move || {
            // SAFETY: both calls are async-signal-safe, take plain numbers and touch no memory.
            #[allow(unsafe_code)]
            let (result, parent_now) =
                unsafe { (libc::prctl(libc::PR_SET_PDEATHSIG, signal), libc::getppid()) };
            if result != 0 {
                return Err(std::io::Error::last_os_error());
            }
            // Whoever was our parent died before the signal was set: it will never come.
            if parent_now as u32 != parent {
                return Err(std::io::Error::from_raw_os_error(libc::ESRCH));
            }
            Ok(())
        };
        // `pre_exec` closures run after the change of uid, which would clear the signal.
        // SAFETY: between fork and exec only async-signal-safe calls are made, nothing allocates.
        #[allow(unsafe_code)]
        unsafe {
            command.pre_exec(bind);
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = at_our_death;
}

/// Returns the effective user id of this process.
pub(super) fn effective_uid() -> u32 {
    // SAFETY: takes nothing, can't fail.
    #[allow(unsafe_code)]
    unsafe {
        libc::geteuid()
    }
}

/// Sends `signal` to `pid`; a process that is gone is no error.
pub(super) fn send(pid: u32, signal: Signal) {
    if let Ok(pid) = libc::pid_t::try_from(pid)
        && pid > 1
    {
        // SAFETY: plain numbers; `pid > 1`, so it names one process, never a group or init.
        #[allow(unsafe_code)]
        let _ = unsafe { libc::kill(pid, signal.number()) };
    }
}

/// Returns when the process `pid` started, in the kernel's ticks since boot; `None` if there is no
/// such process. Outside Linux it is 0 for any process that exists.
pub(super) fn start_ticks(pid: u32) -> Option<u64> {
    #[cfg(target_os = "linux")]
    {
        // proc(5): field 22; the name in parentheses may hold anything, so count from its end.
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
    }
    #[cfg(not(target_os = "linux"))]
    {
        let pid = libc::pid_t::try_from(pid).ok().filter(|pid| *pid > 1)?;
        // SAFETY: signal 0 sends nothing, it only asks whether the process exists.
        #[allow(unsafe_code)]
        let gone = unsafe { libc::kill(pid, 0) } != 0
            && std::io::Error::last_os_error().raw_os_error() == Some(libc::ESRCH);
        (!gone).then_some(0)
    }
}

/// How a bounded wait ended.
#[derive(Debug)]
pub(super) enum Waited {
    /// The child ended and is reaped.
    Ended(ExitStatus),
    /// The limit passed; the child still runs.
    TimedOut,
    /// The caller's `cancelled` said so; the child still runs.
    Cancelled,
}

/// Waits for `child` for at most `limit`, calling `meanwhile` now and then.
pub(super) fn wait(
    child: &mut Child,
    limit: Duration,
    cancelled: &dyn Fn() -> bool,
    mut meanwhile: impl FnMut(),
) -> std::io::Result<Waited> {
    let deadline = Instant::now() + limit;
    let mut pause = Duration::from_millis(1);
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Waited::Ended(status));
        }
        if cancelled() {
            return Ok(Waited::Cancelled);
        }
        if Instant::now() >= deadline {
            return Ok(Waited::TimedOut);
        }
        meanwhile();
        // There is no portable wait with a limit; most children end within a few milliseconds.
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_account_is_postgres_before_nobody_and_never_root() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65533::/:/bin/false\n";
        let nobody = account_in(passwd).expect("nobody is there");
        assert_eq!((nobody.uid, nobody.gid), (65_534, 65_533));
        let postgres = account_in(&format!("{passwd}postgres:x:101:104:,,,:/var:/bin/sh\n"))
            .expect("postgres is there");
        assert_eq!((postgres.name.as_str(), postgres.uid, postgres.gid), ("postgres", 101, 104));
        assert_eq!(account_in("postgres:x:0:0::/:/bin/sh\n"), None);
        assert_eq!(account_in("postgres\nnobody:x:many:1\n"), None);
    }

    #[test]
    fn a_wait_ends_at_its_limit_and_when_cancelled() {
        let mut child = Command::new("sleep").arg("60").spawn().expect("sleep runs");
        let limit = Duration::from_millis(5);
        assert!(matches!(wait(&mut child, limit, &|| false, || ()), Ok(Waited::TimedOut)));
        let long = Duration::from_secs(60);
        assert!(matches!(wait(&mut child, long, &|| true, || ()), Ok(Waited::Cancelled)));
        send(child.id(), Signal::Kill);
        assert!(matches!(wait(&mut child, long, &|| false, || ()), Ok(Waited::Ended(_))));
    }

    #[test]
    fn this_process_has_a_start_and_a_reaped_one_has_none() {
        assert!(start_ticks(std::process::id()).is_some());
        let mut child = Command::new("true").spawn().expect("true runs");
        child.wait().expect("true ends");
        assert_eq!(start_ticks(child.id()), None);
    }
}
