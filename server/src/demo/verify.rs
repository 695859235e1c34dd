//! `convoy demo --for`: a run without a browser that ends in a verdict.
//!
//! A subscriber of our own follows the panels while the writer writes. When the writer has stopped and its last commit
//! has come through, what the subscriber has must be what each panel's SELECT says. On the way, each transition is
//! checked for a torn view: the regions must add up to the total.

use super::change::flushed;
use super::panels::PANELS;
use super::shop;
use super::subscriber::{Panel, Row, Step, Subscriber, SubscriberError};
use super::terminal::{StatusLine, clock, decimal};
use super::writer::{Tally, Writer};
use crate::error::{ServerError, chain};
use convoy_postgres::{Connection, connect};
use convoy_types::{DatabaseUrl, Lsn};
use hdrhistogram::Histogram;
use serde_json::{Map, Value};
use std::net::SocketAddr;
use std::time::{Duration, Instant, UNIX_EPOCH};
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

/// How long first answers may take, and the last commit to come through.
const ANSWER_MAX: Duration = Duration::from_secs(30);
/// The longest latency that is told apart, in microseconds.
const LATENCY_MICROS_MAX: u64 = 60_000_000;

/// What a run came to.
#[derive(Debug)]
pub(crate) struct Report {
    /// What was written.
    pub tally: Tally,
    /// In how long.
    pub elapsed: Duration,
    /// Transitions that changed a panel.
    pub transitions: u64,
    /// Those in which the regions did not add up to the total.
    pub torn: u64,
    /// From the newest commit in each transition to its arrival, in microseconds.
    pub latency: Histogram<u64>,
    /// The position that was awaited before the comparison.
    pub lsn: Lsn,
    /// Each panel, and what of it differs from its SELECT.
    pub panels: Vec<(&'static str, Verdict)>,
}

/// Whether a panel is what its SELECT says.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// It is, in so many rows.
    Equal(usize),
    /// It is not: the first difference.
    Different(String),
}

impl Report {
    /// Returns what is not as it should be.
    pub(crate) fn failure(&self) -> Option<String> {
        let different: Vec<&str> = self
            .panels
            .iter()
            .filter(|(_, verdict)| matches!(verdict, Verdict::Different(_)))
            .map(|(id, _)| *id)
            .collect();
        if !different.is_empty() {
            return Some(format!(
                "these panels differ from their SELECT: {}",
                different.join(", ")
            ));
        }
        if self.torn > 0 {
            return Some(format!(
                "{} transitions showed regions that don't add up to the total",
                self.torn
            ));
        }
        match &self.tally {
            Tally { commits: 0, last_failure: Some(reason), .. } => {
                Some(format!("nothing was written: {reason}"))
            }
            _ => None,
        }
    }
}

/// What the subscriber saw.
struct Watch {
    subscriber: Subscriber,
    transitions: u64,
    torn: u64,
    latency: Histogram<u64>,
}

/// Writes for so long, and compares.
///
/// # Errors
/// Where there is nothing to compare: the subscriber or the database failed.
pub(crate) async fn run(
    address: SocketAddr,
    url: &DatabaseUrl,
    rate: u32,
    length: Duration,
    status: &StatusLine,
) -> Result<Report, ServerError> {
    let mut subscriber = Subscriber::open(address).await.map_err(unwell)?;
    timeout(ANSWER_MAX, first_answers(&mut subscriber))
        .await
        .map_err(|_| {
            ServerError::Unwell(format!("the panels have no results after {ANSWER_MAX:?}"))
        })?
        .map_err(unwell)?;
    let connection = connect(url, &shop::session("convoy demo check")).await?;
    let latency = Histogram::new_with_bounds(1, LATENCY_MICROS_MAX, 3)
        .expect("bounds and precision are in range");
    let watched = Watch { subscriber, transitions: 0, torn: 0, latency };
    let (awaited, target) = watch::channel(None);
    let awaiting = watched.subscriber.session_handle();
    let mut watching = tokio::spawn(watched.until(target));

    let started = Instant::now();
    let writer = Writer::start(url, rate);
    let end = sleep(length);
    tokio::pin!(end);
    let mut tick = interval(Duration::from_secs(1));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let early = loop {
        tokio::select! {
            () = &mut end => break None,
            watched = &mut watching => break Some(watched),
            _ = tick.tick(), if status.is_terminal() => {
                let (now, commits) = (clock(started.elapsed()), decimal(writer.tally().commits));
                status.step(&format!("{now} of {}  {commits} commits", clock(length)));
            }
        }
    };
    let tally = writer.stop().await;
    let elapsed = started.elapsed();
    // The subscriber ends before it is told to only where it failed.
    if let Some(watched) = early {
        return Err(ended(watched).err().unwrap_or(ServerError::EngineStopped));
    }
    status.step("waiting for the last commit");
    let lsn = flushed(connection.client()).await?;
    awaiting.await_lsn(lsn).await.map_err(unwell)?;
    let _ = awaited.send(Some(lsn));
    let Ok(watched) = timeout(ANSWER_MAX, &mut watching).await else {
        watching.abort();
        return Err(ServerError::Unwell(format!(
            "the last commit, at {lsn}, did not come through within {ANSWER_MAX:?}"
        )));
    };
    let watched = ended(watched)?;
    status.step("comparing each panel with its SELECT");
    let panels = compare(&connection, &watched.subscriber).await?;
    let Watch { transitions, torn, latency, .. } = watched;
    Ok(Report { tally, elapsed, transitions, torn, latency, lsn, panels })
}

fn unwell(error: SubscriberError) -> ServerError {
    ServerError::Unwell(chain(&error))
}

fn ended(
    watched: Result<Result<Watch, SubscriberError>, tokio::task::JoinError>,
) -> Result<Watch, ServerError> {
    match watched {
        Ok(watched) => watched.map_err(unwell),
        Err(error) => Err(ServerError::Unwell(format!("the subscriber: {error}"))),
    }
}

async fn first_answers(subscriber: &mut Subscriber) -> Result<(), SubscriberError> {
    while !subscriber.is_current() {
        subscriber.next().await?;
    }
    Ok(())
}

impl Watch {
    /// Follows the stream until it has passed the target with no panel left behind.
    async fn until(
        mut self,
        mut target: watch::Receiver<Option<Lsn>>,
    ) -> Result<Self, SubscriberError> {
        let mut passed = Lsn::default();
        loop {
            let wanted = *target.borrow_and_update();
            if wanted.is_some_and(|wanted| passed >= wanted) && self.subscriber.is_current() {
                return Ok(self);
            }
            tokio::select! {
                step = self.subscriber.next() => {
                    let step = step?;
                    passed = step.lsn;
                    self.note(step);
                }
                // One that is gone says no more; the stream's end ends this too.
                Ok(()) = target.changed() => {}
            }
        }
    }

    fn note(&mut self, step: Step) {
        if !step.is_change {
            return;
        }
        self.transitions += 1;
        if let Some(committed_at) = step.committed_at {
            let now = step.received_at.duration_since(UNIX_EPOCH).unwrap_or_default().as_micros();
            let now = i64::try_from(now).unwrap_or(i64::MAX);
            let micros = u64::try_from(now.saturating_sub(committed_at.unix_micros())).unwrap_or(0);
            self.latency.saturating_record(micros.clamp(1, LATENCY_MICROS_MAX));
        }
        if let (Some(totals), Some(revenue)) =
            (self.subscriber.panel("totals"), self.subscriber.panel("revenue"))
            && totals.is_current
            && revenue.is_current
            && ["orders", "revenue"]
                .iter()
                .any(|column| sum(totals, column) != sum(revenue, column))
        {
            self.torn += 1;
        }
    }
}

/// Returns the sum of a column in hundredths, or none where something is no such number. Null counts as nothing.
fn sum(panel: &Panel, column: &str) -> Option<i128> {
    panel.rows.iter().map(|(_, row)| hundredths(row.get(column)?)).sum()
}

fn hundredths(value: &Value) -> Option<i128> {
    let text = match value {
        Value::Null => return Some(0),
        Value::Number(number) => number.to_string(),
        _ => return None,
    };
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
    if fraction.len() > 2 {
        return None;
    }
    format!("{whole}{fraction:0<2}").parse().ok()
}

/// Compares every panel with its SELECT, all read at one snapshot.
async fn compare(
    connection: &Connection,
    subscriber: &Subscriber,
) -> Result<Vec<(&'static str, Verdict)>, ServerError> {
    let client = connection.client();
    client.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
    let mut verdicts = Vec::new();
    for panel in PANELS {
        // As the contract has values: what to_jsonb gives. A subquery keeps its order where nothing is joined to it.
        let sql = format!("SELECT to_jsonb(panel)::text FROM ({}) AS panel", panel.sql);
        let rows = client.query(&sql, &[]).await?;
        let mut selected = Vec::new();
        for row in rows {
            let text: String = row.try_get(0)?;
            let row: Map<String, Value> = serde_json::from_str(&text).map_err(|error| {
                ServerError::Unwell(format!("to_jsonb gave no object: {error}"))
            })?;
            selected.push(row);
        }
        let shown = subscriber.panel(panel.id).map_or(&[][..], |panel| &panel.rows);
        verdicts.push((panel.id, verdict(shown, &selected)));
    }
    client.batch_execute("COMMIT").await?;
    Ok(verdicts)
}

fn verdict(shown: &[Row], selected: &[Map<String, Value>]) -> Verdict {
    let differs = shown.iter().zip(selected).position(|((_, shown), selected)| shown != selected);
    match differs {
        Some(at) => Verdict::Different(format!(
            "row {at} is shown as {} and selected as {}",
            Value::Object(shown[at].1.clone()),
            Value::Object(selected[at].clone())
        )),
        None if shown.len() != selected.len() => Verdict::Different(format!(
            "{} rows are shown and {} selected",
            shown.len(),
            selected.len()
        )),
        None => Verdict::Equal(selected.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn row(value: Value) -> Map<String, Value> {
        value.as_object().cloned().expect("an object")
    }

    #[test]
    fn a_verdict_names_the_first_difference() {
        let selected = [row(json!({"a": 1, "b": 2})), row(json!({"a": 3, "b": 4}))];
        let shown = |values: &[Value]| -> Vec<Row> {
            values.iter().map(|value| (String::new(), row(value.clone()))).collect()
        };
        // The order of columns is not the row's.
        let same = shown(&[json!({"b": 2, "a": 1}), json!({"a": 3, "b": 4})]);
        assert!(matches!(verdict(&same, &selected), Verdict::Equal(2)));
        let wrong = shown(&[json!({"a": 1, "b": 2}), json!({"a": 3, "b": 5})]);
        assert!(
            matches!(verdict(&wrong, &selected), Verdict::Different(text) if text.contains("row 1"))
        );
        assert!(
            matches!(verdict(&same[..1], &selected), Verdict::Different(text) if text.contains("1 rows"))
        );
    }

    #[test]
    fn sums_are_exact_to_the_cent() {
        let numbers: Vec<Value> =
            serde_json::from_str("[12.5, 7, 99999999999999.99, -0.01, null]").expect("JSON");
        let read: Vec<_> = numbers.iter().map(hundredths).collect();
        assert_eq!(read, [Some(1250), Some(700), Some(9_999_999_999_999_999), Some(-1), Some(0)]);
        assert_eq!(hundredths(&json!("12")), None);
        assert_eq!(hundredths(&serde_json::from_str("1.234").expect("JSON")), None);
    }
}
