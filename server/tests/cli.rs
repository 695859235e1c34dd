//! The command line: exit statuses, and variables in place of flags. Nothing here needs a database.

use std::process::{Command, Output};

pub fn convoy(arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_convoy"));
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if name.starts_with("CONVOY_") || name.starts_with("PG") || name == "DATABASE_URL" {
            command.env_remove(&*name);
        }
    }
    command.args(arguments).envs(variables.iter().copied()).output().expect("the program runs")
}

pub fn check(arguments: &[&str], variables: &[(&str, &str)], status: i32, hint: &str) {
    let output = convoy(arguments, variables);
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert_eq!(output.status.code(), Some(status), "{arguments:?} {variables:?}: {said}");
    assert!(said.contains(hint), "{arguments:?} {variables:?}: {said}");
}

#[test]
fn misuse_ends_with_two_and_failure_with_one() {
    let project = tempfile::tempdir().expect("a folder");
    let folder = project.path().to_str().expect("UTF-8");
    check(&["--help"], &[], 0, "Usage");
    check(&["--version"], &[], 0, "convoy ");
    check(&[], &[], 2, "Usage");
    check(&["serve", "--nothing"], &[], 2, "--nothing");
    check(&["serve", "--project", folder], &[], 2, "DATABASE_URL");
    check(&["serve", "--project", folder], &[("CONVOY_MAX_LAG", "much")], 2, "much");
    for flag in ["--reads-max", "--batch-max"] {
        check(&["serve", "--database-url", "postgres://x", flag, "0"], &[], 2, "from 1 on");
    }
    check(&["query", "orders", "--project", folder], &[], 2, "orders");
    check(&["demo", "--listen", "0.0.0.0:0"], &[], 2, "loopback");
    let nowhere = "postgres://nobody@127.0.0.1:1/none";
    check(&["doctor", "--database-url", nowhere], &[], 1, "127.0.0.1:1");
    // A statement without a blank is no name.
    check(&["explain", "values(1)", "--database-url", nowhere], &[], 1, "127.0.0.1:1");
}

#[test]
fn a_flag_has_a_variable_that_is_on_or_off() {
    let project = tempfile::tempdir().expect("a folder");
    let folder = project.path().to_str().expect("UTF-8");
    let query = ["query", "orders", "--project", folder];
    for value in ["1", "true", "YES", "on", "0", "false", "no", "off", ""] {
        check(&query, &[("CONVOY_QUERY_LIVE", value)], 2, "no query is named orders");
    }
    check(&query, &[("CONVOY_QUERY_LIVE", "perhaps")], 2, "perhaps");
}
