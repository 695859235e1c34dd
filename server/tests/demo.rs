//! `convoy demo` as its user has it: the binary itself, which comes and goes without a trace.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// How long a demo may take to come and to go on a busy machine.
const PATIENCE: Duration = Duration::from_secs(90);

/// Returns a demo that has nothing of our environment to go by, and `temp` for its temporary files.
fn demo(temp: &Path, flags: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_convoy"));
    command
        .arg("demo")
        .args(flags)
        .env("TMPDIR", temp)
        .env("DATABASE_URL", "postgres://nobody@192.0.2.1/none");
    if let Some(folder) = std::env::var_os(convoy_postgres::testing::PG_BIN_VARIABLE) {
        command.env("CONVOY_PG_BIN", folder);
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Returns a folder that also the account may enter that Postgres runs as when we are root. Its name is short, because a
/// socket's path is.
fn open_folder() -> tempfile::TempDir {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::Builder::new().prefix("demo").tempdir().expect("a folder");
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755))
        .expect("rights");
    folder
}

fn words(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

/// Says what is left in the folder of temporary files, and which processes name it.
fn traces(temp: &Path) -> Vec<PathBuf> {
    let files =
        std::fs::read_dir(temp).expect("the folder").map(|entry| entry.expect("an entry").path());
    let name = temp.to_string_lossy().into_owned();
    let names_it = |process: &Path| {
        let line = std::fs::read(process.join("cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(&name)
    };
    let processes =
        std::fs::read_dir("/proc").into_iter().flatten().flatten().map(|entry| entry.path());
    files.chain(processes.filter(|process| names_it(process))).collect()
}

/// Does what Ctrl-C does.
fn interrupt(child: &Child) {
    let done = Command::new("kill").args(["-INT", &child.id().to_string()]).status().expect("kill");
    assert!(done.success());
}

/// Waits for the end of a process, but not for ever.
fn ended(child: &mut Child) -> std::process::ExitStatus {
    let started = Instant::now();
    loop {
        if let Some(status) = child.try_wait().expect("a child") {
            return status;
        }
        assert!(started.elapsed() < PATIENCE, "it has not ended after {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn two_at_once_end_with_panels_that_agree() {
    let temp = open_folder();
    let start = |flags: &[&str]| {
        let flags = [&["--for", "3s", "--rate", "50"], flags].concat();
        demo(temp.path(), &flags).spawn().expect("a demo")
    };
    // Both ask for the same port, and one of them takes the next.
    let (plain, json) = (start(&[]), start(&["--json"]));
    let plain = plain.wait_with_output().expect("an end");
    let json = json.wait_with_output().expect("an end");
    let (stdout, stderr) = words(&plain);
    assert!(plain.status.success(), "{stdout}{stderr}");
    for word in ["commits", "transitions", "p50", "p99", "All 5 panels agree"] {
        assert!(stdout.contains(word), "{word} is not in {stdout}");
    }
    let (stdout, stderr) = words(&json);
    assert!(json.status.success(), "{stdout}{stderr}");
    let report: serde_json::Value = serde_json::from_str(&stdout).expect("JSON");
    let number = |name: &str| report[name].as_u64().unwrap_or_else(|| panic!("{name} in {report}"));
    assert_eq!((&report["agrees"], number("torn")), (&true.into(), 0), "{report}");
    assert!(number("commits") >= 20 && number("transitions") >= 5, "{report}");
    assert!(
        report["panels"]
            .as_array()
            .is_some_and(|panels| panels.iter().all(|panel| panel["agrees"] == true)),
        "{report}"
    );
    assert_eq!(traces(temp.path()), Vec::<PathBuf>::new());
}

#[test]
fn ctrl_c_leaves_no_process_and_no_folder() {
    let temp = open_folder();
    let mut child = demo(temp.path(), &["--listen", "127.0.0.1:0"]).spawn().expect("a demo");
    let mut lines = BufReader::new(child.stdout.take().expect("its output")).lines();
    // Its last words before it waits; where it fails there are none, and its end tells.
    let printed: Vec<String> =
        lines.by_ref().map_while(Result::ok).take_while(|line| !line.contains("Ctrl-C")).collect();
    let line = |label: &str| {
        let found = printed.iter().find_map(|line| line.trim_start().strip_prefix(label));
        found.unwrap_or_else(|| panic!("{label} is not in {printed:?}")).trim().to_owned()
    };
    assert!(line("watch").starts_with("curl -N 'http://127.0.0.1:"));
    assert!(line("now your own").contains(" serve "));
    // The line that changes a row works as it stands.
    if !line("change").starts_with("curl") {
        let output = Command::new("sh").arg("-c").arg(line("change")).output().expect("a shell");
        assert_eq!(words(&output).0.trim(), "UPDATE 1", "{:?}", words(&output));
    }
    assert!(!traces(temp.path()).is_empty(), "a demo that runs can be told from one that does not");
    // Twice, as timeout(1) does: a hasty end would leave the cleaning to others.
    interrupt(&child);
    interrupt(&child);
    let status = ended(&mut child);
    let mut complaints = String::new();
    child.stderr.take().expect("its errors").read_to_string(&mut complaints).expect("text");
    let goodbye: Vec<String> = lines.map_while(Result::ok).collect();
    assert!(status.success(), "{complaints}");
    assert!(goodbye.iter().any(|line| line.contains("Stopped after")), "{goodbye:?}");
    assert_eq!(traces(temp.path()), Vec::<PathBuf>::new());
}

#[test]
fn ctrl_c_while_it_starts_leaves_nothing_either() {
    let temp = open_folder();
    let mut child = demo(temp.path(), &["--listen", "127.0.0.1:0"]).spawn().expect("a demo");
    let stderr = BufReader::new(child.stderr.take().expect("its errors"));
    let mut lines = stderr.lines().map_while(Result::ok);
    assert!(lines.any(|line| line.starts_with("preparing Postgres")), "it prepares one");
    interrupt(&child);
    let complaints: Vec<String> = lines.collect();
    assert!(ended(&mut child).success(), "{complaints:?}");
    assert_eq!(complaints.iter().filter(|line| line.contains("WARN")).count(), 0, "{complaints:?}");
    assert_eq!(traces(temp.path()), Vec::<PathBuf>::new());
}

#[test]
fn what_makes_no_sense_is_refused_at_once() {
    let temp = open_folder();
    for (flags, mends) in [
        (&["--listen", "0.0.0.0:0"][..], "ssh -L"),
        (&["--rate", "1000000"], "5000"),
        (&["--for", "soon"], "like 10s"),
        (&["--pg-bin", "/nowhere"], "/nowhere"),
    ] {
        let output = demo(temp.path(), flags).output().expect("a demo");
        let (stdout, stderr) = words(&output);
        assert!(!output.status.success() && stdout.is_empty(), "{flags:?}: {stdout}");
        assert!(stderr.contains(mends), "{flags:?}: {stderr}");
    }
}
