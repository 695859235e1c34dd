//! One case: a table, what is watched of it, what is done to it, and what must come of that.

use crate::screen::{Panels, Screen};
use crate::support::{connect, until};
use serde_json::Value;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

/// `{t}` stands for the case's own table, which has `id, a, b, note` and the rows -1, -2 and 1 to 5. The writer adds rows
/// from 1000 on and changes `b` of row 1, to numbers above 1000 whatever its type.
#[derive(Clone, Debug)]
pub struct Case {
    pub name: &'static str,
    /// What is done before anybody watches.
    pub before: &'static str,
    /// What is done under the writer's hands.
    pub ddl: &'static str,
    /// What concerned panels come to.
    pub then: Then,
    /// What undoes it, where an error is what comes of it: then all is live again.
    pub undo: &'static str,
    /// Panels that nothing may be said of.
    pub calm: &'static [&'static str],
    /// Panels that end with what Postgres says.
    pub concerned: &'static [&'static str],
    /// What is written last, to see that all are live.
    pub last: &'static str,
    /// What the writer writes besides, where `{n}` is another number each time. It may not yet be possible before the DDL.
    pub writes: &'static [&'static str],
    /// Whether `b` is there afterwards.
    pub keeps_b: bool,
    /// Whether the user's own writes may fail for a moment, for want of a replica identity.
    pub blocks_writes: bool,
}

/// What comes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// What Postgres says.
    Result,
    /// An error with these words.
    Error(&'static str),
}

/// Rows that no writer touches, of columns that are mostly left alone, by each kind of plan.
const CALM: [&str; 3] = [
    "select id, a from {t} where id < 0 order by id",
    "select count(*) as n, sum(a) as a from {t} where id < 0",
    "with few as (select id, a from {t} where id < 0) select x.id, x.a from few x join other on other.id = x.a",
];

/// The rest, by each kind of plan.
const CONCERNED: [&str; 4] = [
    "select id, a, b, note from {t} where id > 0 order by id desc limit 20",
    "select a, count(*) as n, sum(b) as b from {t} where id > 0 group by a",
    "with many as (select id, b from {t} where id > 0) select count(*) as n, sum(b) as b from many",
    "select * from {t} where id between 1 and 9 order by id",
];

impl Case {
    /// A case in which all of a table's rows stay what they are.
    pub const fn of(name: &'static str, ddl: &'static str) -> Case {
        Case {
            name,
            before: "",
            ddl,
            then: Then::Result,
            undo: "",
            calm: &CALM,
            concerned: &CONCERNED,
            last: "insert into {t} (id, a, b) values (9, 9, 9)",
            writes: &[],
            keeps_b: true,
            blocks_writes: false,
        }
    }
}

/// Longer than the watch takes to see anything, on a machine with much to do.
const SOON: Duration = Duration::from_secs(20);

/// Runs a case.
pub async fn check(address: SocketAddr, url: String, case: Case) -> Result<(), String> {
    let client = connect(&url).await;
    let table = case.name.replace([' ', ',', '-'], "_");
    let sql = |text: &str| text.replace("{t}", &table);
    let script = format!(
        "create table {{t}} (id int4 primary key, a int4, b int4, note text); \
         alter table {{t}} replica identity full; \
         create table if not exists other (id int4 primary key); insert into other values (1), (2) on conflict do nothing; \
         insert into {{t}} select n, abs(n) % 3, n, 'note ' || n from generate_series(-2, 5) n where n <> 0; {}",
        case.before
    );
    // Two that make `other` at once would meet.
    retried(&client, &sql(&script)).await?;
    let calm = case.calm.iter().enumerate().map(|(n, text)| (format!("calm {n}"), sql(text)));
    let concerned = case.concerned.iter().enumerate();
    let concerned: Vec<_> =
        concerned.map(|(n, text)| (format!("concerned {n}"), sql(text))).collect();
    let panels: Vec<_> = calm.chain(concerned.iter().cloned()).collect();
    let named: Vec<_> = panels.iter().map(|(name, sql)| (name.as_str(), sql.as_str())).collect();
    let mut screen = Screen::open(address, &named, Box::new(|_, _| Ok(()))).await;
    let answered = |panels: &Panels| panels.by_name.len() == named.len();
    let first = screen.until(&format!("all answers of {}", case.name), answered).await;
    if let Some((name, panel)) = first.by_name.iter().find(|(_, panel)| !panel.is_in_cut()) {
        return Err(format!("{name} is no good from the beginning: {:?}", panel.error));
    }

    let writer = Writer::start(url.clone(), &table, &case);
    writer.goes_on().await;
    client
        .batch_execute(&sql(case.ddl))
        .await
        .map_err(|error| format!("{}: {error:?}", case.ddl))?;
    writer.tries_on().await;
    if let Then::Error(words) = case.then {
        let has_error = |panels: &Panels| {
            let says = |name: &String| {
                let error = panels.by_name[name].error.as_ref();
                error.is_some_and(|error| {
                    error["message"].as_str().is_some_and(|text| text.contains(words))
                })
            };
            concerned.iter().all(|(name, _)| says(name))
        };
        wait(&mut screen, &format!("errors that say {words:?}"), has_error).await?;
        client
            .batch_execute(&sql(case.undo))
            .await
            .map_err(|error| format!("{}: {error:?}", case.undo))?;
    }
    writer.goes_on().await;
    writer.does_everything().await;
    let failures = writer.end().await;
    if !case.blocks_writes && failures.without_identity > Duration::ZERO {
        return Err(format!("the user's own writes failed for {:?}", failures.without_identity));
    }
    if failures.without_identity > Duration::from_secs(8) {
        return Err(format!("the user's own writes failed for {:?}", failures.without_identity));
    }
    agree(&mut screen, &client, &concerned, "after the DDL").await?;
    client
        .batch_execute(&sql(case.last))
        .await
        .map_err(|error| format!("{}: {error:?}", case.last))?;
    agree(&mut screen, &client, &concerned, "after a last write").await?;
    let panels = screen.panels();
    for (name, panel) in panels.by_name.iter().filter(|(name, _)| name.starts_with("calm")) {
        if panel.updates_in_all() != 1 {
            return Err(format!(
                "{name} is not concerned, and was told {:?} {:?} {:?}",
                panel.updates, panel.errors, panel.digests
            ));
        }
    }
    Ok(())
}

async fn retried(client: &Client, script: &str) -> Result<(), String> {
    for _ in 0..20 {
        match client.batch_execute(script).await {
            Err(error)
                if error.code() == Some(&SqlState::UNIQUE_VIOLATION)
                    || error.code() == Some(&SqlState::DUPLICATE_OBJECT)
                    || error.code() == Some(&SqlState::DUPLICATE_TABLE) => {}
            outcome => return outcome.map_err(|error| format!("{script}: {error:?}")),
        }
    }
    Err(format!("{script}: again and again"))
}

async fn wait(
    screen: &mut Screen,
    what: &str,
    wanted: impl Fn(&Panels) -> bool,
) -> Result<(), String> {
    let waits = async { screen.until(what, &wanted).await };
    match tokio::time::timeout(SOON, waits).await {
        Ok(_) => Ok(()),
        Err(_) => Err(format!("never {what}: {}", brief(&screen.panels()))),
    }
}

/// Waits until all these panels show what Postgres says.
async fn agree(
    screen: &mut Screen,
    client: &Client,
    panels: &[(String, String)],
    when: &str,
) -> Result<(), String> {
    let mut wanted = Vec::new();
    for (name, sql) in panels {
        let ask = format!("select coalesce(json_agg(to_json(r)), '[]')::text from ({sql}) r");
        let row = client.query_one(&ask, &[]).await.map_err(|error| format!("{sql}: {error:?}"))?;
        let rows: Value = serde_json::from_str(row.get(0)).map_err(|error| error.to_string())?;
        let rows = rows.as_array().cloned().unwrap_or_default();
        wanted.push((name.clone(), comparable(sql, rows), sql.clone()));
    }
    let is_so = |panels: &Panels| {
        wanted.iter().all(|(name, rows, sql)| {
            let panel = &panels.by_name[name];
            panel.is_in_cut() && comparable(sql, panel.shown.rows.clone()) == *rows
        })
    };
    wait(screen, when, is_so).await.map_err(|problem| {
        let panels = screen.panels();
        let differs = wanted
            .iter()
            .filter(|(name, rows, sql)| comparable(sql, panels[name].shown.rows.clone()) != *rows);
        let differs: Vec<_> = differs
            .map(|(name, rows, sql)| {
                let shown = comparable(sql, panels[name].shown.rows.clone());
                let at = shown.iter().zip(rows).take_while(|(shown, row)| shown == row).count();
                format!(
                    "{name}, {sql}: {} rows, not {}; from {at} on {:?}, not {:?}",
                    shown.len(),
                    rows.len(),
                    shown.get(at),
                    rows.get(at)
                )
            })
            .collect();
        format!("{problem}; {differs:#?}")
    })
}

/// Returns rows as they stand where the statement says how, and otherwise in an order of our own: where there is none, there
/// is none to compare. What statements here order by is different in all rows.
pub fn comparable(sql: &str, mut rows: Vec<Value>) -> Vec<Value> {
    if !sql.contains(" order by ") {
        rows.sort_by_key(Value::to_string);
    }
    rows
}

fn brief(panels: &Panels) -> String {
    let panel = |(name, panel): (&String, &crate::screen::Panel)| {
        let error = panel.error.as_ref().map(|error| error["message"].clone());
        format!("{name}: {:?}, stale {}, {error:?}", panel.updates, panel.shown.is_stale)
    };
    format!("{:#?}", panels.by_name.iter().map(panel).collect::<Vec<_>>())
}

/// What the writer met.
#[derive(Debug, Default)]
struct Failures {
    /// From the first write to the last that failed for want of a replica identity.
    without_identity: Duration,
}

/// How often a writer has come how far.
#[derive(Debug, Default)]
struct Rounds {
    tried: AtomicU32,
    /// With the rows that all cases have.
    written: AtomicU32,
    /// With what the case has besides.
    complete: AtomicU32,
}

/// Writes to a table again and again, whatever becomes of it.
struct Writer {
    stop: Arc<AtomicBool>,
    rounds: Arc<Rounds>,
    task: tokio::task::JoinHandle<Failures>,
}

impl Writer {
    fn start(url: String, table: &str, case: &Case) -> Writer {
        let (stop, rounds) = (Arc::new(AtomicBool::new(false)), Arc::<Rounds>::default());
        // What stays of the columns, whatever is done to them.
        let rows = "insert into {t} (id) values ({n}); update {t} set a = 1 where id = {n}; \
                    update {t} set id = {n} + 50000 where id = {n}; delete from {t} where id = {n} + 49997";
        let statements = [rows, "update {t} set b = '{n}' where id = 1"].into_iter();
        let statements = statements.chain(case.writes.iter().copied());
        let statements = statements.map(|sql| sql.replace("{t}", table)).collect();
        let writes = write(url, statements, case.keeps_b, stop.clone(), rounds.clone());
        Writer { stop, rounds, task: tokio::spawn(writes) }
    }

    async fn more_of(count: &AtomicU32, what: &str) {
        let before = count.load(Ordering::Relaxed);
        until(what, async || count.load(Ordering::Relaxed) >= before + 3).await;
    }

    /// Waits until it has written some more.
    async fn goes_on(&self) {
        Writer::more_of(&self.rounds.written, "the writer goes on").await;
    }

    /// Waits until it has tried to.
    async fn tries_on(&self) {
        Writer::more_of(&self.rounds.tried, "the writer tries").await;
    }

    /// Waits until nothing that it writes fails.
    async fn does_everything(&self) {
        Writer::more_of(&self.rounds.complete, "the writer does everything").await;
    }

    async fn end(self) -> Failures {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.expect("a writer")
    }
}

async fn write(
    url: String,
    statements: Vec<String>,
    keeps_b: bool,
    stop: Arc<AtomicBool>,
    rounds: Arc<Rounds>,
) -> Failures {
    let client = connect(&url).await;
    let mut failures = Failures::default();
    let mut failed_since: Option<Instant> = None;
    let mut n = 1001;
    while !stop.load(Ordering::Relaxed) {
        let mut are_done = Vec::new();
        for sql in &statements {
            let outcome = client.batch_execute(&sql.replace("{n}", &n.to_string())).await;
            let code = outcome.as_ref().err().and_then(|error| error.code());
            if code == Some(&SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE) {
                let since = *failed_since.get_or_insert_with(Instant::now);
                failures.without_identity = since.elapsed();
            }
            // Or there is no such table, column or right just now.
            are_done
                .push(outcome.is_ok() || (!keeps_b && code == Some(&SqlState::UNDEFINED_COLUMN)));
        }
        n += 1;
        rounds.tried.fetch_add(1, Ordering::Relaxed);
        rounds.written.fetch_add(u32::from(are_done[..2] == [true; 2]), Ordering::Relaxed);
        let is_complete = are_done.iter().all(|is_done| *is_done);
        rounds.complete.fetch_add(u32::from(is_complete), Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(15)).await;
    }
    failures
}
