//! Data that are kept: there again at the next start, however the last one ended, and one server's at a time.

use std::fs;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use convoy_postgres::launcher::{
    LaunchError, LaunchOptions, Listen, Locale, PrivatePostgres, Progress, Reporter, Search,
};

use crate::launcher::{
    CHILD_VARIABLE, Copy, ask, entries, eventually, options_in, pretend_programs, runs, temp_dir,
    this_binary,
};

const OWNER: &str = "launcher_kept::child_that_keeps_data";
const FILL: &str = "CREATE TABLE t AS SELECT 'kept' AS v";

/// A folder for the sockets, and beside it one for a project.
struct Place {
    temp: tempfile::TempDir,
}

impl Place {
    fn new() -> Place {
        let temp = temp_dir();
        for name in ["run", "project"] {
            fs::create_dir(temp.path().join(name)).expect("a folder");
            let open = fs::Permissions::from_mode(0o755);
            fs::set_permissions(temp.path().join(name), open).expect("it is ours");
        }
        Place { temp }
    }

    fn run(&self) -> PathBuf {
        self.temp.path().join("run")
    }

    fn kept(&self) -> PathBuf {
        self.temp.path().join("project/.convoy/postgres")
    }

    fn options(&self) -> LaunchOptions {
        LaunchOptions { keep: Some(self.kept()), ..options_in(&self.run()) }
    }

    async fn start(&self) -> PrivatePostgres {
        PrivatePostgres::start(self.options()).await.expect("it starts")
    }

    /// Starts one whose predecessor was killed, once the last of its processes has noticed.
    async fn start_when_free(&self) -> PrivatePostgres {
        for _ in 0..400 {
            match PrivatePostgres::start(self.options()).await {
                Err(LaunchError::InUse { .. }) => {
                    tokio::time::sleep(std::time::Duration::from_millis(50)).await
                }
                started => return started.expect("it starts"),
            }
        }
        panic!("it is in use for ever")
    }

    /// Starts a server elsewhere, for its programs: those that were fetched may go with it, as root
    /// has them copied to where the server's account can read them.
    async fn programs(&self) -> PrivatePostgres {
        let elsewhere = self.temp.path().join("elsewhere");
        fs::create_dir(&elsewhere).expect("a folder");
        PrivatePostgres::start(options_in(&elsewhere)).await.expect("it starts")
    }

    async fn refused(&self) -> LaunchError {
        PrivatePostgres::start(self.options()).await.expect_err("refused")
    }
}

/// Makes a table in a database of its own.
async fn fill(server: &PrivatePostgres) {
    server.create_database("shop", Locale::C).await.expect("a database");
    execute(server, FILL).await;
}

async fn execute(server: &PrivatePostgres, sql: &str) {
    let url = server.url("shop");
    let (client, connection) =
        tokio_postgres::connect(&url, tokio_postgres::NoTls).await.expect("a connection");
    let statement = async move { client.batch_execute(sql).await };
    tokio::join!(statement, connection).0.expect("done");
}

async fn is_filled(server: &PrivatePostgres) -> bool {
    ask(&server.url("shop"), "SELECT v FROM t").await.is_ok_and(|value| value == "kept")
}

fn kill(pid: u32) {
    let killed = Command::new("kill").args(["-KILL", &pid.to_string()]).status();
    assert!(killed.expect("kill runs").success());
}

fn is_root() -> bool {
    let temp = temp_dir();
    let is_root = fs::metadata(temp.path()).expect("it exists").uid() == 0;
    if !is_root {
        println!("skipped: not root");
    }
    is_root
}

#[tokio::test]
async fn kept_data_are_there_at_the_next_start() -> anyhow::Result<()> {
    let place = Place::new();
    let server = place.start().await;
    assert!(server.is_new());
    assert_eq!(server.data_dir(), place.kept().canonicalize()?.join("data"));
    let url = server.url("postgres");
    for (setting, value) in [("fsync", "on"), ("wal_level", "logical"), ("max_wal_senders", "50")] {
        assert_eq!(ask(&url, &format!("SHOW {setting}")).await?, value, "{setting}");
    }
    fill(&server).await;
    assert!(!server.ensure_database("shop", Locale::C).await?, "it is there");
    assert!(server.ensure_database("it's \"new\"", Locale::IcuEn).await?);
    let pid = server.pid();
    server.stop().await?;
    assert!(!runs(pid));
    assert_eq!(entries(&place.run()), 0, "a socket's folder is left");
    assert_eq!(fs::read_to_string(place.kept().join(".gitignore"))?, "*\n");

    // And with other settings, over TCP, by the password of the first time.
    let mut options = LaunchOptions { listen: Listen::Loopback, ..place.options() };
    options.settings.push(("work_mem".into(), "5MB".into()));
    let server = PrivatePostgres::start(options).await?;
    assert!(!server.is_new());
    let url = server.tcp_url("shop").expect("it listens");
    assert_eq!(ask(&url, "SELECT v FROM t").await?, "kept");
    assert_eq!(ask(&url, "SHOW work_mem").await?, "5MB");
    assert_eq!(ask(&url, "SHOW fsync").await?, "on");
    let log = fs::read_to_string(place.kept().join("log.old"))?;
    assert!(log.contains("database system is shut down"), "{log}");
    let pid = server.pid();
    drop(server);
    assert!(!runs(pid));
    assert_eq!(entries(&place.run()), 0, "a socket's folder is left");
    Ok(())
}

#[tokio::test]
async fn kept_data_outlive_a_killed_server() -> anyhow::Result<()> {
    let place = Place::new();
    let server = place.start().await;
    fill(&server).await;
    let pid = server.pid();
    kill(pid);
    eventually("the postmaster is gone", || !runs(pid));
    drop(server);
    assert!(place.kept().join("data/postmaster.pid").exists(), "it had no time to remove it");

    // Its pid is somebody else's by now, of the same account; Postgres alone would refuse to start.
    let mut other = as_owner_of(&place.kept().join("data"), Command::new("sleep"));
    let mut other = other.arg("600").spawn()?;
    let lock = place.kept().join("data/postmaster.pid");
    let text = fs::read_to_string(&lock)?;
    fs::write(&lock, text.replacen(&pid.to_string(), &other.id().to_string(), 1))?;
    let server = place.start_when_free().await;
    assert!(!server.is_new());
    assert!(is_filled(&server).await);
    assert!(runs(other.id()), "who has the pid is not touched");
    other.kill()?;
    other.wait()?;
    server.stop().await?;
    Ok(())
}

/// Not a test of its own: what the copies run, with data kept beside the folder that they are given.
#[tokio::test]
#[ignore = "runs as the child of other tests"]
async fn child_that_keeps_data() -> anyhow::Result<()> {
    let Some(temp_dir) = std::env::var_os(CHILD_VARIABLE) else { return Ok(()) };
    let temp_dir = Path::new(&temp_dir);
    let keep = temp_dir.parent().map(|above| above.join("project/.convoy/postgres"));
    let mut options = LaunchOptions { keep, ..options_in(temp_dir) };
    if let Some(bin) = std::env::var_os("CONVOY_TEST_PRETENDED_BIN") {
        options.search = Search { pg_bin: Some(bin.into()), ..Search::default() };
        options.progress = Reporter::new(|step| println!("STEP={step:?}"));
    }
    let server = PrivatePostgres::start(options).await?;
    if server.is_new() {
        fill(&server).await;
    }
    println!("PID={}", server.pid());
    let sql = "SELECT pid::text FROM pg_stat_activity WHERE backend_type = 'checkpointer'";
    println!("CHECKPOINTER={}", ask(&server.url("postgres"), sql).await?);
    std::io::stdin().read_to_end(&mut Vec::new())?;
    std::mem::forget(server);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn kept_data_outlive_a_killed_owner_and_wait_for_its_server() -> anyhow::Result<()> {
    let place = Place::new();
    let mut owner = Copy::start(Command::new(this_binary()), OWNER, &place.run());
    let pid: u32 = owner.value("PID").parse()?;
    let refused = place.refused().await;
    assert!(
        matches!(refused, LaunchError::InUse { pid: Some(pid), .. } if pid == owner.process.id()),
        "{refused}"
    );
    let named = format!("in use by the process {}", owner.process.id());
    assert!(refused.to_string().contains(&named), "{refused}");
    assert!(runs(pid));

    // At once, while its server still ends.
    owner.process.kill()?;
    owner.process.wait()?;
    let server = place.start().await;
    assert!(!runs(pid), "two servers on one folder");
    assert!(!server.is_new() && is_filled(&server).await);
    server.stop().await?;
    eventually("no socket's folder is left", || entries(&place.run()) == 0);
    Ok(())
}

#[tokio::test]
#[cfg(target_os = "linux")]
async fn a_server_that_hangs_after_its_owners_death_keeps_its_data() -> anyhow::Result<()> {
    let place = Place::new();
    let mut owner = Copy::start(Command::new(this_binary()), OWNER, &place.run());
    let pid: u32 = owner.value("PID").parse()?;
    let checkpointer = owner.value("CHECKPOINTER");
    let signal = |name: &str| Command::new("kill").args([name, &checkpointer]).status();
    signal("-STOP")?;
    owner.process.kill()?;
    owner.process.wait()?;
    let start = tokio::spawn(PrivatePostgres::start(place.options()));
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    assert!(!start.is_finished() && runs(pid), "it waits for the other's end");
    signal("-CONT")?;
    let server = start.await??;
    assert!(!runs(pid), "two servers on one folder");
    assert!(is_filled(&server).await);
    server.stop().await?;
    Ok(())
}

#[tokio::test]
async fn kept_data_are_one_servers_at_a_time() -> anyhow::Result<()> {
    let place = Place::new();
    let server = place.start().await;
    fill(&server).await;
    let refused = place.refused().await;
    let ours = std::process::id();
    assert!(
        matches!(refused, LaunchError::InUse { pid: Some(pid), .. } if pid == ours),
        "{refused}"
    );
    assert!(is_filled(&server).await);
    assert_eq!(entries(&place.run()), 1, "the refused one leaves nothing");
    server.stop().await?;

    // Somebody else's, who knows nothing of our lock.
    let data = place.kept().join("data");
    let programs = place.programs().await;
    let mut by_hand = as_owner_of(&data, Command::new(programs.bin_dir().join("postgres")));
    let socket = place.temp.path().join("hand");
    fs::create_dir(&socket)?;
    fs::set_permissions(&socket, fs::Permissions::from_mode(0o777))?;
    let mut by_hand: Child = by_hand
        .args(["-c", "listen_addresses="])
        .arg("-k")
        .arg(&socket)
        .arg("-D")
        .arg(&data)
        .current_dir("/")
        .stderr(Stdio::null())
        .spawn()?;
    eventually("it is up", || socket.join(".s.PGSQL.5432").exists());
    let refused = place.refused().await;
    let theirs = by_hand.id();
    assert!(
        matches!(refused, LaunchError::InUse { pid: Some(pid), .. } if pid == theirs),
        "{refused}"
    );
    assert!(runs(theirs), "it is not ours to stop");
    Command::new("kill").args(["-INT", &theirs.to_string()]).status()?;
    by_hand.wait()?;
    let server = place.start().await;
    assert!(is_filled(&server).await);
    server.stop().await?;
    Ok(())
}

#[tokio::test]
async fn an_interrupted_initdb_leaves_no_data() -> anyhow::Result<()> {
    let place = Place::new();
    // An `initdb` that gets half way and then waits.
    let bin = place.temp.path().join("bin");
    pretend_programs(&bin, "17.1");
    let script = "#!/bin/sh\nwhile [ \"$1\" != -D ]; do shift; done\necho 17 >\"$2/PG_VERSION\"\n\
                  mkdir \"$2/base\"\necho $$ >\"$2/half\"\nexec sleep 600\n";
    fs::write(bin.join("initdb"), script)?;
    let mut command = Command::new(this_binary());
    command.env("CONVOY_TEST_PRETENDED_BIN", &bin);
    let mut owner = Copy::start(command, OWNER, &place.run());
    owner.value("STEP");
    let half = place.kept().join("data.new/half");
    eventually("it is half way", || fs::read_to_string(&half).is_ok_and(|pid| pid.ends_with('\n')));
    let initdb: u32 = fs::read_to_string(&half)?.trim().parse()?;
    owner.process.kill()?;
    owner.process.wait()?;

    let server = place.start().await;
    assert!(!runs(initdb), "it may still write");
    assert!(server.is_new());
    assert!(!place.kept().join("data.new").exists() && !place.kept().join("data/half").exists());
    fill(&server).await;
    server.stop().await?;
    assert!(is_filled(&place.start().await).await);
    Ok(())
}

#[tokio::test]
async fn an_initdb_that_is_given_up_leaves_no_data() {
    let place = Place::new();
    let (step, steps) = std::sync::mpsc::channel();
    let options = LaunchOptions {
        progress: Reporter::new(move |progress| {
            let _ = step.send(progress.clone());
        }),
        ..place.options()
    };
    let start = tokio::spawn(PrivatePostgres::start(options));
    let first = tokio::task::spawn_blocking(move || steps.recv()).await.expect("not cancelled");
    assert!(matches!(first, Ok(Progress::Initializing { .. })), "{first:?}");
    start.abort();
    assert!(start.await.expect_err("aborted").is_cancelled());
    let made = ["data", "data.new"].map(|name| place.kept().join(name));
    eventually("all is gone", || {
        entries(&place.run()) == 0 && made.iter().all(|folder| !folder.exists())
    });
    // Its lock goes last.
    assert!(place.start_when_free().await.is_new());
}

#[tokio::test]
async fn data_of_another_version_are_refused_and_stay() -> anyhow::Result<()> {
    let place = Place::new();
    let server = place.start().await;
    fill(&server).await;
    let major = server.version().major;
    server.stop().await?;
    let programs = place.programs().await;
    let bin = programs.bin_dir().to_owned();
    let file = place.kept().join("data/PG_VERSION");
    fs::write(&file, "14\n")?;
    // These programs and no others: nothing is to be fetched here.
    let search = Search { pg_bin: Some(bin.clone()), major: None, ..place.options().search };
    let options = LaunchOptions { search, ..place.options() };
    let refused = PrivatePostgres::start(options).await.expect_err("refused");
    assert!(
        matches!(&refused, LaunchError::OtherVersion { made_by: 14, found, .. } if found.major == major),
        "{refused}"
    );
    let text = refused.to_string();
    for part in ["made by Postgres 14", &bin.display().to_string(), "--pg-bin", "move"] {
        assert!(text.contains(part), "no {part:?} in: {text}");
    }
    fs::write(&file, format!("{major}\n"))?;
    assert!(is_filled(&place.start().await).await);
    Ok(())
}

#[tokio::test]
async fn a_folder_that_is_not_ours_is_left_alone() -> anyhow::Result<()> {
    let place = Place::new();
    fs::create_dir_all(place.kept())?;
    let notes = place.kept().join("notes.txt");
    fs::write(&notes, "mine")?;
    let mode = fs::metadata(place.kept())?.mode();
    let refused = place.refused().await;
    assert!(matches!(refused, LaunchError::UnfitFolder { .. }), "{refused}");
    assert!(refused.to_string().contains("notes.txt"), "{refused}");
    assert_eq!((entries(&place.kept()), fs::metadata(place.kept())?.mode()), (1, mode));

    fs::remove_file(&notes)?;
    fs::create_dir(place.kept().join("data"))?;
    let account = place.temp.path().join("run");
    let refused = place.refused().await;
    // As root the folder would have to be the account's, first of all.
    let is_ours = fs::metadata(account)?.uid() != 0;
    match refused {
        LaunchError::UnfitFolder { .. } if is_ours => {}
        LaunchError::WrongOwner { .. } if !is_ours => {}
        other => panic!("{other}"),
    }
    fs::remove_dir_all(place.kept())?;
    fs::write(place.kept(), "")?;
    let refused = place.refused().await;
    assert!(refused.to_string().contains("it is no folder"), "{refused}");
    assert_eq!(entries(&place.run()), 0);
    Ok(())
}

#[tokio::test]
async fn as_root_the_data_are_another_accounts_who_has_to_get_there() -> anyhow::Result<()> {
    if !is_root() {
        return Ok(());
    }
    let place = Place::new();
    let project = place.temp.path().join("project");
    fs::set_permissions(&project, fs::Permissions::from_mode(0o700))?;
    let refused = place.refused().await;
    assert!(
        matches!(&refused, LaunchError::ClosedToAccount { closed, .. } if *closed == project),
        "{refused}"
    );
    assert!(refused.to_string().contains("chmod o+x"), "{refused}");
    assert_eq!(entries(&project), 0, "nothing is made where nothing can be");
    fs::set_permissions(&project, fs::Permissions::from_mode(0o711))?;
    let server = place.start().await;
    fill(&server).await;
    server.stop().await?;
    let data = place.kept().join("data");
    let meta = fs::metadata(&data)?;
    assert!(meta.uid() != 0 && meta.mode() & 0o777 == 0o700, "{meta:?}");

    let owner = meta.uid();
    chown(&data, Some(12_345), None)?;
    let refused = place.refused().await;
    assert!(
        matches!(refused, LaunchError::WrongOwner { owner: 12_345, uid, .. } if uid == owner),
        "{refused}"
    );
    assert!(refused.to_string().contains(&format!("chown -R {owner} ")), "{refused}");
    chown(&data, Some(owner), None)?;
    assert!(is_filled(&place.start().await).await);
    Ok(())
}

#[tokio::test]
async fn a_project_may_lie_deeper_than_a_socket_can() -> anyhow::Result<()> {
    let place = Place::new();
    let mut deep = place.temp.path().join("project");
    for _ in 0..4 {
        deep.push("a folder with a long name, an 'apostrophe' and an ü");
    }
    let options = || LaunchOptions { keep: Some(deep.clone()), ..place.options() };
    let server = PrivatePostgres::start(options()).await?;
    fill(&server).await;
    server.stop().await?;
    let server = PrivatePostgres::start(options()).await?;
    assert!(is_filled(&server).await);
    server.stop().await?;
    Ok(())
}

#[test]
fn data_are_kept_for_an_unprivileged_user_too() -> anyhow::Result<()> {
    if !is_root() {
        // Then every other test shows it.
        return Ok(());
    }
    const NOBODY: u32 = 65_534;
    let place = Place::new();
    for name in ["run", "project"] {
        chown(place.temp.path().join(name), Some(NOBODY), Some(NOBODY))?;
    }
    let binary = place.temp.path().join("tests");
    fs::copy(this_binary(), &binary)?;
    for _ in 0..2 {
        let mut command = Command::new(&binary);
        command.uid(NOBODY).gid(NOBODY).current_dir("/").env("HOME", "/nonexistent");
        // Another version may be in a cache that is closed to that user.
        command.env_remove(convoy_postgres::testing::PG_MAJOR_VARIABLE);
        let mut owner = Copy::start(command, OWNER, &place.run());
        let pid: u32 = owner.value("PID").parse()?;
        assert_eq!(fs::metadata(place.kept())?.mode() & 0o777, 0o700);
        drop(owner.process.stdin.take());
        assert!(owner.process.wait()?.success());
        eventually("the postmaster is gone", || !runs(pid));
        eventually("no socket's folder is left", || entries(&place.run()) == 0);
    }
    assert_eq!(fs::metadata(place.kept().join("data"))?.uid(), NOBODY);
    Ok(())
}

/// Makes the command run as the account that the data belong to.
fn as_owner_of(data: &Path, mut command: Command) -> Command {
    let meta = fs::metadata(data).expect("it exists");
    if is_root() {
        command.uid(meta.uid()).gid(meta.gid());
    }
    command
}
