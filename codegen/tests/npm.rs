//! TypeScript and zod, from npm, into `target/`, once.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// TypeScript as it was in JavaScript, and as it is since 7; and what the seeds' validators are made of.
const PACKAGES: [&str; 3] = ["typescript@5.9.3", "typescript7@npm:typescript@7.0.2", "zod@4.6.7"];

/// What is said where they are missing.
pub const NEEDED: &str = "these tests need node and npm: apt-get install nodejs npm";

/// Which TypeScript.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compiler {
    /// 5.9
    Five,
    /// 7.0
    Seven,
}

/// Returns the folder with the packages, fetched at the first call.
pub fn modules() -> &'static Path {
    static MODULES: OnceLock<PathBuf> = OnceLock::new();
    MODULES.get_or_init(|| {
        let folder = target().join("codegen-npm");
        let stamp = folder.join(PACKAGES.join(" ").replace('/', "+"));
        if !stamp.exists() {
            std::fs::create_dir_all(&folder).expect("a folder in target");
            std::fs::write(folder.join("package.json"), "{\"private\": true}").expect("a file");
            let args = ["install", "--no-audit", "--no-fund", "--ignore-scripts"];
            run(Command::new("npm").args(args).args(PACKAGES).current_dir(&folder));
            std::fs::write(&stamp, "").expect("a file");
        }
        folder.join("node_modules")
    })
}

/// Runs the older compiler on a project; returns what it printed, one diagnostic a line, which is empty where all is
/// well.
pub fn tsc(project: &Path) -> String {
    tsc_of(Compiler::Five, project)
}

/// Runs a compiler on a project.
pub fn tsc_of(compiler: Compiler, project: &Path) -> String {
    let package = match compiler {
        Compiler::Five => "typescript/bin/tsc",
        Compiler::Seven => "typescript7/bin/tsc",
    };
    let output = Command::new("node")
        .arg(modules().join(package))
        .args(["--noEmit", "--pretty", "false", "-p", "."])
        .current_dir(project)
        .output()
        .expect(NEEDED);
    let printed = String::from_utf8(output.stdout).expect("UTF-8");
    assert_eq!(output.status.success(), printed.is_empty(), "{printed}");
    printed
}

/// Runs a file of a project under Node; returns what it printed.
///
/// # Panics
/// With its words, where it fails.
pub fn node(project: &Path, file: &str) -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixture/run.mjs");
    let output = Command::new("node")
        .arg(script)
        .arg(modules())
        .arg(project)
        .arg(file)
        .output()
        .expect(NEEDED);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{file}: {said}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// Returns the folder that builds go to.
fn target() -> PathBuf {
    let test = std::env::current_exe().expect("the test's own path");
    test.ancestors().nth(3).expect("target/debug/deps/test").to_owned()
}

fn run(command: &mut Command) {
    let output = command.output().expect(NEEDED);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
}
