//! Batches: many queries of one template, read by one statement (`docs/postgres.md`, P13).
//!
//! The statement is the analysis' (`engine/src/analyse/batch.rs`); whether it is used is decided here, at its first use
//! and again from time to time: Postgres must take it, the parameters' types must have arrays, and its plan must not be
//! dearer than those of the single statements. (A condition that an index serves only where the value is known while
//! planning, of a partial index say, would make each of the batch's results a scan of the whole table.)
//!
//! How many go into one statement follows from how long the last ones took: what is slow is spread over connections.

use crate::error::PostgresError;
use crate::pool::Lease;
use crate::text_param::TextParam;
use convoy_engine::{BatchStatement, Batching, QueryRead, ReadCompany, ReadingRole};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio_postgres::types::{ToSql, Type};

/// Bytes of arguments in one batch. A query with more of its own goes by itself.
const ARGUMENT_BYTES_MAX: usize = 1 << 20;
/// A batch that takes longer makes the next ones smaller.
const TARGET: Duration = Duration::from_millis(200);
/// How long it holds what was found out about a statement. Tables grow, indexes come and go.
const KNOWN_FOR: Duration = Duration::from_secs(60);
/// Statements of which something is known; past it all is found out anew.
const STATEMENTS_MAX: usize = 4096;
/// Single statements whose plans are compared with the batch's.
const SAMPLES: usize = 3;
/// How much dearer than a single plan a batch's share may look, as the planner's guesses for a value that it does not know
/// are coarse …
const DEARER_MAX: f64 = 1.5;
/// … and what a statement of its own costs beside its plan, in the planner's units: some 50 µs, in which ten pages or a
/// few thousand rows are gone through.
const STATEMENT_COST: f64 = 20.0;

/// What the arrays of these types are, and whether somebody has made a cast of his own from text. An array of composites
/// (category C, their domains too) would be unnested to their columns.
const ARRAYS_SQL: &str = "\
SELECT t.oid, CASE WHEN t.typcategory = 'C' THEN 0::pg_catalog.oid ELSE t.typarray END,
       t.typdelim::pg_catalog.text,
       EXISTS (SELECT FROM pg_catalog.pg_cast c
               WHERE c.castsource = 'pg_catalog.text'::pg_catalog.regtype AND c.casttarget = t.oid)
FROM pg_catalog.pg_type t WHERE t.oid = ANY($1)";

/// How a batch statement is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BatchCall {
    /// The types of the arrays.
    pub(crate) types: Arc<[u32]>,
    /// What stands between the elements of each.
    delimiters: Arc<[char]>,
}

/// What was found out about a batch statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is used so.
    Use(BatchCall),
    /// It is not used.
    Singly,
}

#[derive(Debug)]
struct Known {
    verdict: Option<(Verdict, Instant)>,
    /// How many go into the next batch, and since when.
    size: Option<(usize, Instant)>,
}

/// What is known of batch statements. One for all reads.
#[derive(Debug)]
pub(crate) struct Batches {
    size_max: usize,
    known: Mutex<HashMap<(Arc<str>, ReadingRole), Known>>,
}

/// What reads count.
#[derive(Debug, Default)]
pub struct ReadCounters {
    statements: AtomicU64,
    batched: AtomicU64,
}

impl ReadCounters {
    /// Returns how many statements were run to read results.
    pub fn statements(&self) -> u64 {
        self.statements.load(Ordering::Relaxed)
    }

    /// Returns how many results were read by statements that read several.
    pub fn batched(&self) -> u64 {
        self.batched.load(Ordering::Relaxed)
    }

    pub(crate) fn ran_statement(&self) {
        self.statements.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn read_in_batch(&self) {
        self.batched.fetch_add(1, Ordering::Relaxed);
    }
}

impl Batches {
    pub(crate) fn new(size_max: usize) -> Batches {
        Batches { size_max: size_max.max(1), known: Mutex::default() }
    }

    fn known(&self) -> std::sync::MutexGuard<'_, HashMap<(Arc<str>, ReadingRole), Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts queries into groups: those that one statement should read are in one.
    pub(crate) fn group(&self, queries: Vec<QueryRead>) -> Vec<Vec<QueryRead>> {
        let mut groups: Vec<Group> = Vec::new();
        let mut open: HashMap<(*const BatchStatement, ReadingRole), usize> = HashMap::new();
        for query in queries {
            let batch = match (&query.statement.batching, query.company) {
                (Batching::Together(batch), ReadCompany::Others) if self.size_max > 1 => batch,
                _ => {
                    groups.push(Group::of(query, 1));
                    continue;
                }
            };
            let key = (std::ptr::from_ref(batch), query.role);
            match open.get(&key).map(|&at| &mut groups[at]) {
                Some(group) if group.takes(&query) => group.add(query),
                _ => {
                    open.insert(key, groups.len());
                    let size = self.size(batch, query.role);
                    groups.push(Group::of(query, size));
                }
            }
        }
        groups.into_iter().map(|group| group.queries).collect()
    }

    /// Returns how many queries the next batch may have; 1 if they are to be read singly.
    fn size(&self, batch: &BatchStatement, role: ReadingRole) -> usize {
        match self.known().get(&(batch.sql.clone(), role)) {
            Some(Known { verdict: Some((Verdict::Singly, at)), .. })
                if at.elapsed() < KNOWN_FOR =>
            {
                1
            }
            // One by one says nothing of how long a batch would take now.
            Some(Known { size: Some((1, at)), .. }) if at.elapsed() >= KNOWN_FOR => 2,
            Some(Known { size: Some((size, _)), .. }) => *size,
            _ => self.size_max,
        }
    }

    /// Returns what was found out about a statement not long ago.
    pub(crate) fn verdict(&self, batch: &BatchStatement, role: ReadingRole) -> Option<Verdict> {
        let known = self.known();
        let (verdict, at) = known.get(&(batch.sql.clone(), role))?.verdict.as_ref()?;
        (at.elapsed() < KNOWN_FOR).then(|| verdict.clone())
    }

    /// Remembers what was found out.
    pub(crate) fn decide(&self, batch: &BatchStatement, role: ReadingRole, verdict: Verdict) {
        self.change(batch, role, |known| known.verdict = Some((verdict, Instant::now())));
    }

    /// Remembers how long a batch took.
    pub(crate) fn took(
        &self,
        batch: &BatchStatement,
        role: ReadingRole,
        queries: usize,
        time: Duration,
    ) {
        let size = next_size(queries, time, self.size_max);
        self.change(batch, role, |known| known.size = Some((size, Instant::now())));
    }

    fn change(&self, batch: &BatchStatement, role: ReadingRole, change: impl FnOnce(&mut Known)) {
        let mut known = self.known();
        let key = (batch.sql.clone(), role);
        if known.len() >= STATEMENTS_MAX && !known.contains_key(&key) {
            known.clear();
        }
        change(known.entry(key).or_insert(Known { verdict: None, size: None }));
    }
}

/// Returns how many queries a batch should have after one of so many took so long: as many as fit into the target's time,
/// at most twice as many as it had.
fn next_size(queries: usize, time: Duration, size_max: usize) -> usize {
    let fit = TARGET.as_secs_f64() / time.as_secs_f64().max(1e-6) * queries as f64;
    (fit as usize).min(queries.saturating_mul(2)).clamp(1, size_max)
}

/// Queries for one statement.
struct Group {
    queries: Vec<QueryRead>,
    bytes: usize,
    size_max: usize,
}

impl Group {
    fn of(query: QueryRead, size_max: usize) -> Group {
        Group { bytes: argument_bytes(&query), queries: vec![query], size_max }
    }

    /// Returns whether a query may come in: there is room, and its limits are the others'.
    fn takes(&self, query: &QueryRead) -> bool {
        self.queries.len() < self.size_max
            && self.bytes + argument_bytes(query) <= ARGUMENT_BYTES_MAX
            && self.queries.first().is_some_and(|first| first.timeout == query.timeout)
    }

    fn add(&mut self, query: QueryRead) {
        self.bytes += argument_bytes(&query);
        self.queries.push(query);
    }
}

fn argument_bytes(query: &QueryRead) -> usize {
    query.params.iter().flatten().map(|text| text.len()).sum()
}

impl BatchCall {
    /// Returns the arrays that a batch of these queries takes.
    pub(crate) fn arrays(&self, queries: &[QueryRead]) -> Vec<String> {
        let array = |(at, &delimiter): (usize, &char)| {
            let values = queries.iter().map(|query| query.params.get(at)?.as_deref());
            array_text(values, delimiter)
        };
        self.delimiters.iter().enumerate().map(array).collect()
    }
}

/// Returns an array's text form (PostgreSQL manual, 8.15.2). Every element is quoted, so that none is taken for null or
/// for syntax.
fn array_text<'a>(values: impl Iterator<Item = Option<&'a str>>, delimiter: char) -> String {
    let mut text = String::from("{");
    for (at, value) in values.enumerate() {
        if at > 0 {
            text.push(delimiter);
        }
        let Some(value) = value else {
            text.push_str("NULL");
            continue;
        };
        text.push('"');
        for c in value.chars() {
            if matches!(c, '"' | '\\') {
                text.push('\\');
            }
            text.push(c);
        }
        text.push('"');
    }
    text.push('}');
    text
}

/// Why nothing was found out.
#[derive(Debug)]
pub(crate) enum Unjudged {
    /// The batch statement, or what was asked about its types, is refused.
    Refused(PostgresError),
    /// One of the plans could not be made with its arguments.
    Failed(PostgresError),
}

/// Finds out whether these queries are read by their template's batch statement. Each question may fail and spoil the
/// transaction.
///
/// # Errors
/// What Postgres says of the batch statement, of its parameters, or of one of the plans.
pub(crate) async fn judge(
    lease: &mut Lease,
    batch: &BatchStatement,
    queries: &[QueryRead],
) -> Result<Verdict, Unjudged> {
    let Some(first) = queries.first() else { return Ok(Verdict::Singly) };
    let single = &first.statement;
    let Some(call) = call(lease, batch, &single.param_types).await.map_err(Unjudged::Refused)?
    else {
        return Ok(Verdict::Singly);
    };
    // Whatever is wrong with it is said here.
    let prepared = lease.prepared(&batch.sql, &call.types).await;
    prepared.map_err(|error| Unjudged::Refused(error.into()))?;
    let arrays = call.arrays(queries);
    let arrays: Vec<Option<&str>> = arrays.iter().map(|array| Some(array.as_str())).collect();
    let together =
        plan_cost(lease, &batch.sql, &call.types, &arrays).await.map_err(Unjudged::Failed)?;
    let mut singly = 0.0;
    let samples = queries.len().min(SAMPLES);
    for query in &queries[..samples] {
        let params: Vec<Option<&str>> = query.params.iter().map(Option::as_deref).collect();
        singly += plan_cost(lease, &single.sql, &single.param_types, &params)
            .await
            .map_err(Unjudged::Failed)?;
    }
    let (share, single) = (together / queries.len() as f64, singly / samples as f64);
    if share <= single * DEARER_MAX + STATEMENT_COST {
        return Ok(Verdict::Use(call));
    }
    tracing::info!(
        share,
        single,
        sql = &*first.statement.sql,
        "results of a statement are read one by one: together they would cost more"
    );
    Ok(Verdict::Singly)
}

/// Returns how a batch statement is called; none where a type has no arrays, or where a text's cast is not its type's
/// input.
async fn call(
    lease: &Lease,
    batch: &BatchStatement,
    param_types: &[u32],
) -> Result<Option<BatchCall>, PostgresError> {
    let oids: Vec<u32> = param_types.to_vec();
    let rows = lease.client().query_typed(ARRAYS_SQL, &[(&oids, Type::OID_ARRAY)]).await?;
    let mut found = HashMap::new();
    for row in &rows {
        let oid: u32 = row.try_get(0)?;
        let array: u32 = row.try_get(1)?;
        let delimiter = row.try_get::<_, &str>(2)?.chars().next().unwrap_or(',');
        let has_cast: bool = row.try_get(3)?;
        found.insert(oid, (array, delimiter, has_cast));
    }
    let (mut types, mut delimiters) = (Vec::new(), Vec::new());
    for (oid, &as_text) in param_types.iter().zip(&batch.as_text) {
        let (array, delimiter) = match found.get(oid) {
            Some((.., false)) if as_text => (Type::TEXT_ARRAY.oid(), ','),
            Some(&(array, delimiter, _)) if !as_text && array != 0 => (array, delimiter),
            _ => return Ok(None),
        };
        types.push(array);
        delimiters.push(delimiter);
    }
    Ok(Some(BatchCall { types: types.into(), delimiters: delimiters.into() }))
}

/// Returns what the planner thinks that a statement costs with these arguments.
async fn plan_cost(
    lease: &Lease,
    sql: &str,
    types: &[u32],
    params: &[Option<&str>],
) -> Result<f64, PostgresError> {
    let params: Vec<TextParam<'_>> = params.iter().map(|&param| TextParam(param)).collect();
    let typed: Vec<(&(dyn ToSql + Sync), Type)> = params
        .iter()
        .zip(types)
        .map(|(param, &oid)| (param as &(dyn ToSql + Sync), crate::connect::param_type(oid)))
        .collect();
    let rows = lease.client().query_typed(&format!("EXPLAIN {sql}"), &typed).await?;
    let line: Option<&str> = rows.first().map(|row| row.try_get(0)).transpose()?;
    let unexpected = PostgresError::Unexpected { what: "a plan" };
    line.and_then(total_cost).ok_or(unexpected)
}

/// Reads the total cost off a plan's first line: `Sort  (cost=78.13..78.78 rows=20 width=96)`.
fn total_cost(line: &str) -> Option<f64> {
    let (_, costs) = line.split_once("(cost=")?;
    let (_, total) = costs.split_once("..")?;
    total.split(' ').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_of_arrays_are_quoted() {
        let values = [Some("a"), None, Some("NULL"), Some(""), Some(r#"{"x\y",;}"#)];
        assert_eq!(array_text(values.into_iter(), ';'), r#"{"a";NULL;"NULL";"";"{\"x\\y\",;}"}"#);
        assert_eq!(array_text([].into_iter(), ','), "{}");
    }

    #[test]
    fn plans_say_what_they_cost() {
        let line = "Nested Loop  (cost=78.13..238.32 rows=60 width=112)";
        assert_eq!(total_cost(line), Some(238.32));
        assert_eq!(total_cost("Result"), None);
    }

    #[test]
    fn batches_grow_while_they_are_quick() {
        let milliseconds = Duration::from_millis;
        assert_eq!(next_size(256, milliseconds(10), 256), 256);
        assert_eq!(next_size(256, milliseconds(2_000), 256), 25);
        assert_eq!(next_size(4, milliseconds(10_000), 256), 1);
        assert_eq!(next_size(1, milliseconds(1), 256), 2);
        assert_eq!(next_size(8, Duration::ZERO, 256), 16);
    }
}
