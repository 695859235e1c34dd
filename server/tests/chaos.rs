//! `convoy bench chaos` in small: every case runs and everyone ends up right; and where somebody does not, it says so.

use convoy_postgres::testing;
use serde_json::Value;
use std::process::Output;
use std::time::Duration;
use tokio::process::Command;
use tokio::time::timeout;

/// Longer than any of these takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

async fn chaos(database: &str, options: &[&str]) -> Output {
    let url = testing::shared().await.database(database).await;
    let small = [
        "--json",
        "--quiet",
        "0.2",
        "--seconds",
        "1",
        "--rows",
        "20000",
        "--wal-bytes",
        "20000000",
        "--rate",
        "500",
        "--connections",
        "4",
        "--readers",
        "20",
        "--result-rows",
        "2000",
        "--updates",
        "200",
        // A server that does nothing has 43 MB in a debug build, and 46 at most here: the rows of the large transactions do not
        // fit in, should they be kept. More is a fault.
        "--serve=--memory-limit=60000000",
    ];
    // Somebody's own project, which is none of the benchmark's and not even in order.
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::create_dir(folder.path().join("queries")).expect("a folder");
    std::fs::write(folder.path().join("queries/bad.sql"), "nothing").expect("a file");
    let run = Command::new(env!("CARGO_BIN_EXE_convoy"))
        .current_dir(folder.path())
        .args(["bench", "chaos", "--database-url", &url])
        .args(small)
        .args(options)
        .kill_on_drop(true)
        .output();
    timeout(PATIENCE, run).await.expect("in time").expect("it runs")
}

/// Runs cases that end well, and returns their reports.
async fn good(database: &str, cases: &[&str]) -> Vec<Value> {
    let output = chaos(database, cases).await;
    let said = String::from_utf8_lossy(&output.stderr);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{text}");
    let report: Value = serde_json::from_str(&text).expect("JSON");
    let reports = report["cases"].as_array().expect("cases").clone();
    for report in &reports {
        assert_eq!(report["faults"], Value::Array(Vec::new()), "{report}");
        assert!(report["probes"].as_u64().is_some_and(|probes| probes > 5), "{report}");
        assert!(report["peak_bytes"].as_u64() > report["before_bytes"].as_u64(), "{report}");
    }
    reports
}

fn counted(report: &Value, name: &str) -> f64 {
    report["counted"][name].as_f64().unwrap_or(0.0)
}

#[tokio::test]
async fn large_transactions_in_small() {
    // Of 20 MB of rows none is kept.
    let serve = "--serve=--memory-backlog=8000000";
    let reports = good("chaos_large", &["huge-transaction", "wide-transaction", serve]).await;
    assert_eq!(reports.len(), 2);
    for report in &reports {
        assert!(counted(report, "transactions_without_rows") > 0.0, "{report}");
        assert!(counted(report, "reads") > 0.0, "{report}");
    }
}

#[tokio::test]
async fn slow_readers_in_small() {
    let serve = "--serve=--memory-streams=100000";
    let reports = good("chaos_slow", &["stopped-reader", "slow-readers", serve]).await;
    assert_eq!(reports.len(), 2);
    assert!(counted(&reports[1], "streams_full") > 0.0, "{}", reports[1]);
}

#[tokio::test]
async fn many_commits_and_large_results_in_small() {
    let reports = good("chaos_many", &["small-commits", "large-result", "hot-row"]).await;
    assert_eq!(reports.len(), 3);
    for report in &reports {
        assert!(report["diffs"].as_u64().is_some_and(|diffs| diffs > 20), "{report}");
    }
}

#[tokio::test]
async fn what_is_lost_is_found() {
    // The count of each group keeps counting from what it was shown: one lost diff is seen for ever.
    let output = chaos("chaos_lost", &["large-result", "--lose-one", "--patience", "3"]).await;
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let faults = report["cases"][0]["faults"].as_array().expect("faults").clone();
    assert!(!faults.is_empty(), "{report}");
    assert!(!faults.iter().any(|fault| fault.to_string().contains("memory")), "{report}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("large-result"), "{output:?}");
}
