//! The table of `docs/postgres.md` that says which test holds which rule, and the tests themselves, agree.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// The rules that there are.
const RULES: std::ops::RangeInclusive<u32> = 1..=14;

/// A test, by its name and its file's path in the repository.
type Test = (String, String);

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Returns the rule that a test is named after.
fn rule_of(name: &str) -> Option<u32> {
    name.strip_prefix('p')?.split_once('_')?.0.parse().ok()
}

/// Returns the table's rows: the rule, the test and its file.
fn table() -> Vec<(u32, Test)> {
    let text = std::fs::read_to_string(repository().join("docs/postgres.md")).expect("the rules");
    let (_, table) =
        text.split_once("## Which test holds which rule").expect("the table's heading");
    let rows = table.lines().filter(|line| line.starts_with("| P"));
    rows.map(|line| {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [rule, _, name, file] = cells[..] else { panic!("not four cells: {line}") };
        let rule = rule.trim_start_matches('P').parse().expect(line);
        (rule, (name.trim_matches('`').to_owned(), file.trim_matches('`').to_owned()))
    })
    .collect()
}

/// Returns the tests below a folder that are named after a rule.
fn tests_in(folder: &Path, found: &mut BTreeSet<Test>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten() {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            tests_in(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).expect("a source file");
            let file =
                path.strip_prefix(repository()).expect("inside").to_string_lossy().into_owned();
            let mut is_test = false;
            for line in text.lines().map(str::trim) {
                if line.starts_with("#[") {
                    is_test |= line.contains("test");
                    continue;
                }
                let name = line
                    .trim_start_matches("pub ")
                    .trim_start_matches("async ")
                    .strip_prefix("fn ");
                let name = name.and_then(|rest| rest.split('(').next());
                if let Some(name) = name.filter(|name| is_test && rule_of(name).is_some()) {
                    found.insert((name.to_owned(), file.clone()));
                }
                is_test = false;
            }
        }
    }
}

#[test]
fn the_table_of_rules_and_the_tests_agree() {
    let mut there = BTreeSet::new();
    for entry in std::fs::read_dir(repository()).expect("the repository") {
        let krate = entry.expect("an entry").path();
        if krate.join("Cargo.toml").is_file() {
            tests_in(&krate.join("src"), &mut there);
            tests_in(&krate.join("tests"), &mut there);
        }
    }
    let table = table();
    let named: BTreeSet<Test> = table.iter().map(|(_, test)| test.clone()).collect();
    let missing: Vec<_> = named.difference(&there).collect();
    assert!(missing.is_empty(), "named in docs/postgres.md, and not there: {missing:#?}");
    let unnamed: Vec<_> = there.difference(&named).collect();
    assert!(
        unnamed.is_empty(),
        "named after a rule, and without a row in docs/postgres.md: {unnamed:#?}"
    );
    let mut seen = BTreeSet::new();
    for (rule, test @ (name, _)) in &table {
        assert!(seen.insert(test), "{name} stands in docs/postgres.md twice");
        assert_eq!(rule_of(name), Some(*rule), "{name} stands at P{rule}");
    }
    for rule in RULES {
        assert!(table.iter().any(|(of, _)| *of == rule), "nothing tests P{rule}");
    }
}
