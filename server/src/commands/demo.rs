//! `convoy demo`: everything with nothing set up. What is said and how it ends; `demo/` has what happens.

use crate::config::{LISTEN_DEFAULT, switch};
use crate::demo::shop::RATE_DEFAULT;
use crate::demo::terminal::{StatusLine, aligned, clock, decimal, duration, print};
use crate::demo::verify::{self, Report, Verdict};
use crate::demo::writer::{RATE_MAX, Tally, Writer};
use crate::demo::{Demo, DemoOptions};
use crate::error::ServerError;
use crate::shutdown;
use clap::Args;
use serde_json::json;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

/// How long the writer may get nothing done before the demo gives up: its Postgres is gone.
const STUCK_MAX: Duration = Duration::from_secs(20);

/// The options of `demo`.
#[derive(Args, Clone, Debug)]
pub struct DemoArgs {
    /// The address to listen on, of loopback; the next free port where this one is taken
    #[arg(long, value_name = "ADDR", default_value = LISTEN_DEFAULT, env = "CONVOY_LISTEN")]
    pub listen: SocketAddr,
    /// Commits a second that the demo makes itself; 0 leaves all of them to you
    #[arg(long, value_name = "N", default_value_t = RATE_DEFAULT, value_parser = clap::value_parser!(u32).range(0..=i64::from(RATE_MAX)), env = "CONVOY_RATE")]
    pub rate: u32,
    /// Runs for so long (10s, 2m) without a browser, then compares every panel with its SELECT; fails if one differs
    #[arg(long = "for", value_name = "TIME", value_parser = time, env = "CONVOY_FOR")]
    pub length: Option<Duration>,
    /// Prints what a run with --for came to as JSON
    #[arg(long, requires = "length", value_parser = switch, env = "CONVOY_JSON")]
    pub json: bool,
    /// The folder of the Postgres programs; by default PATH, the usual folders, and npm's @embedded-postgres
    #[arg(long, value_name = "DIR", env = "CONVOY_PG_BIN")]
    pub pg_bin: Option<PathBuf>,
}

/// Reads a time: `10s`, `2m`, `500ms`, or seconds without a unit.
fn time(text: &str) -> Result<Duration, String> {
    let (number, seconds) = match text {
        _ if text.ends_with("ms") => (&text[..text.len() - 2], 0.001),
        _ if text.ends_with('s') => (&text[..text.len() - 1], 1.0),
        _ if text.ends_with('m') => (&text[..text.len() - 1], 60.0),
        _ if text.ends_with('h') => (&text[..text.len() - 1], 3600.0),
        _ => (text, 1.0),
    };
    number
        .parse::<f64>()
        .ok()
        .and_then(|number| Duration::try_from_secs_f64(number * seconds).ok())
        .filter(|time| !time.is_zero() && *time <= Duration::from_secs(7 * 24 * 3600))
        .ok_or_else(|| "a time, like 10s, 2m or 500ms, of a week at most".to_owned())
}

/// Runs until a signal comes, or for as long as it was told.
///
/// # Errors
/// Whatever keeps it from running, and a panel that is not what its SELECT says.
pub async fn run(args: DemoArgs) -> Result<(), ServerError> {
    let source_error = |source| ServerError::System { doing: "listening for signals", source };
    let stopping = shutdown::listen().map_err(source_error)?;
    let status = Arc::new(StatusLine::new());
    let options = DemoOptions {
        listen: args.listen,
        rate: args.rate,
        pg_bin: args.pg_bin.clone(),
        program: program(),
    };
    let demo = tokio::select! {
        demo = Demo::start(options, status.clone()) => demo,
        () = shutdown::begun(stopping.clone()) => {
            status.clear();
            return Ok(());
        }
    };
    status.clear();
    let mut demo = demo?;
    let outcome = match args.length {
        Some(length) => run_for(&demo, &args, length, &status, stopping).await,
        None => run_on(&mut demo, args.rate, &status, stopping).await,
    };
    status.step("stopping");
    demo.stop().await;
    status.clear();
    let closing = outcome?;
    print(&closing);
    Ok(())
}

/// Returns how this program was called, for lines to paste.
pub(super) fn program() -> String {
    let called = std::env::args().next().unwrap_or_default();
    if called.is_empty() { "convoy".to_owned() } else { called }
}

/// Runs until somebody ends it; returns the last words.
async fn run_on(
    demo: &mut Demo,
    rate: u32,
    status: &StatusLine,
    stopping: watch::Receiver<bool>,
) -> Result<String, ServerError> {
    let origin = format!("http://{}", demo.server.address());
    let writes = match rate {
        0 => "nothing writes to it but you".to_owned(),
        rate => format!("{} commits a second", decimal(rate.into())),
    };
    print(&format!(
        "A shop of {} rows in a private Postgres {}, {writes}.\n\n{}\nOpen the page, and change a row from \
         another terminal. Ctrl-C stops the demo and leaves nothing behind.\n",
        decimal(demo.rows),
        demo.version,
        aligned(&[
            ("dashboard", origin),
            ("watch", demo.recipes.watch.clone()),
            ("change", demo.recipes.change.clone()),
            ("now your own", demo.recipes.own.clone()),
        ])
    ));
    let started = Instant::now();
    let writer = (rate > 0).then(|| Writer::start(&demo.url, rate));
    let written = || writer.as_ref().map(Writer::tally).unwrap_or_default();
    let mut last_progress = (Instant::now(), Tally::default());
    let mut tick = interval(Duration::from_secs(1));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let outcome = loop {
        tokio::select! {
            () = shutdown::begun(stopping.clone()) => break Ok(()),
            failure = demo.server.failed() => break Err(failure),
            _ = tick.tick() => {}
        }
        let tally = written();
        if tally.commits > last_progress.1.commits || tally.failures == last_progress.1.failures {
            last_progress = (Instant::now(), tally.clone());
        } else if last_progress.0.elapsed() > STUCK_MAX {
            let reason = tally.last_failure.unwrap_or_default();
            break Err(ServerError::Unwell(format!(
                "nothing could be written for {STUCK_MAX:?}: {reason}"
            )));
        }
        if status.is_terminal() {
            status.step(&status_text(demo, started.elapsed(), &tally));
        }
    };
    status.step("stopping");
    let tally = match writer {
        Some(writer) => writer.stop().await,
        None => Tally::default(),
    };
    outcome?;
    Ok(format!(
        "Stopped after {} and {} commits. Postgres and its folder are gone.\n",
        clock(started.elapsed()),
        decimal(tally.commits)
    ))
}

fn status_text(demo: &Demo, elapsed: Duration, tally: &Tally) -> String {
    let app = demo.server.app();
    let (_, streams) = app.sessions.count();
    let lag_bytes = app.lag.view(Instant::now()).lag_bytes;
    let failures = match tally.failures {
        0 => String::new(),
        failures => format!("  {} failed", decimal(failures)),
    };
    format!(
        "{}  {} commits{failures}  {} watching  lag {} B  Ctrl-C stops",
        clock(elapsed),
        decimal(tally.commits),
        decimal(streams as u64),
        decimal(lag_bytes),
    )
}

/// Runs for so long, and compares; returns the last words.
async fn run_for(
    demo: &Demo,
    args: &DemoArgs,
    length: Duration,
    status: &StatusLine,
    stopping: watch::Receiver<bool>,
) -> Result<String, ServerError> {
    let report = tokio::select! {
        report = verify::run(demo.server.address(), &demo.url, args.rate, length, status) => report?,
        () = shutdown::begun(stopping) => {
            return Err(ServerError::Unwell("stopped before anything was compared".to_owned()));
        }
    };
    status.clear();
    let failure = report.failure();
    let text = if args.json { json_report(&report) } else { text_report(&report, demo) };
    match failure {
        None => Ok(text),
        Some(failure) => {
            print(&text);
            Err(ServerError::Unwell(failure))
        }
    }
}

fn quantile(report: &Report, quantile: f64) -> Duration {
    Duration::from_micros(report.latency.value_at_quantile(quantile))
}

fn text_report(report: &Report, demo: &Demo) -> String {
    let rate = report.tally.commits as f64 / report.elapsed.as_secs_f64();
    let failures = match (&report.tally.last_failure, report.tally.failures) {
        (Some(reason), failures) => {
            format!("; {} failed, the last one because {reason}", decimal(failures))
        }
        (None, _) => String::new(),
    };
    let mut lines = vec![
        ("shop", format!("{} rows, Postgres {}", decimal(demo.rows), demo.version)),
        (
            "commits",
            format!(
                "{} in {:.1} s, {rate:.1} a second{failures}",
                decimal(report.tally.commits),
                report.elapsed.as_secs_f64()
            ),
        ),
        ("transitions", format!("{}, {} torn", decimal(report.transitions), decimal(report.torn))),
    ];
    if !report.latency.is_empty() {
        let max = Duration::from_micros(report.latency.max());
        lines.push((
            "latency",
            format!(
                "p50 {}, p99 {}, max {}, from the commit to the subscriber",
                duration(quantile(report, 0.5)),
                duration(quantile(report, 0.99)),
                duration(max)
            ),
        ));
    }
    for (id, verdict) in &report.panels {
        let words = match verdict {
            Verdict::Equal(rows) => {
                format!("equals its SELECT, {rows} row{}", if *rows == 1 { "" } else { "s" })
            }
            Verdict::Different(difference) => format!("DIFFERS: {difference}"),
        };
        lines.push((id, words));
    }
    let mut text = aligned(&lines);
    if report.failure().is_none() {
        text.push_str(&format!(
            "All {} panels agree with the database at {}. Now watch them in a browser: {} demo\n",
            report.panels.len(),
            report.lsn,
            program()
        ));
    }
    text
}

fn json_report(report: &Report) -> String {
    let milliseconds = |duration: Duration| duration.as_secs_f64() * 1e3;
    let panels: Vec<_> = report
        .panels
        .iter()
        .map(|(id, verdict)| match verdict {
            Verdict::Equal(rows) => json!({"id": id, "agrees": true, "rows": rows}),
            Verdict::Different(difference) => {
                json!({"id": id, "agrees": false, "difference": difference})
            }
        })
        .collect();
    let latency = (!report.latency.is_empty()).then(|| {
        json!({
            "p50": milliseconds(quantile(report, 0.5)),
            "p99": milliseconds(quantile(report, 0.99)),
            "max": milliseconds(Duration::from_micros(report.latency.max())),
        })
    });
    let report = json!({
        "agrees": report.failure().is_none(),
        "seconds": report.elapsed.as_secs_f64(),
        "commits": report.tally.commits,
        "failures": report.tally.failures,
        "transitions": report.transitions,
        "torn": report.torn,
        "latency_ms": latency,
        "lsn": report.lsn.to_string(),
        "panels": panels,
    });
    format!("{report}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_a_unit_or_are_seconds() {
        let read = ["10s", "10", "1.5m", "500ms", "1h"]
            .map(|text| time(text).map(|time| time.as_millis()));
        assert_eq!(read, [Ok(10_000), Ok(10_000), Ok(90_000), Ok(500), Ok(3_600_000)]);
        for wrong in ["", "s", "ms", "0s", "-1s", "1d", "1e9h", "ten"] {
            assert!(time(wrong).is_err(), "{wrong}");
        }
    }
}
