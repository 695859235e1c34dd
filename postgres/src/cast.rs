//! Reads values by their types' own input functions, and says them in their types' own output.

use crate::error::{PostgresError, argument_error, is_lost};
use crate::pool::{Lease, Pool};
use crate::text_param::TextParam;
use convoy_engine::{CastRequest, CastValue, QueryError};
use std::time::{Duration, Instant};

/// At most so many values in one statement.
const BATCH_MAX: usize = 100;

/// What becomes of one value: its text, null, or why it is no such value.
pub(crate) type Outcome = Result<Option<String>, QueryError>;

/// How soon casts are tried again while the database is away, at first and at most.
const RETRY_DELAY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));
/// How long they are tried. Whoever waits for a first answer has given up by then.
const AWAY_MAX: Duration = Duration::from_secs(60);

/// Casts all values, however often the connection is lost over it; each has its own error.
pub(crate) async fn cast(pool: &Pool, values: &[CastRequest]) -> Vec<Outcome> {
    let (started, mut delay) = (Instant::now(), RETRY_DELAY.0);
    loop {
        match cast_once(pool, values).await {
            Ok(outcomes) => return outcomes,
            Err(error) if error.is_retryable() && started.elapsed() < AWAY_MAX => {
                tracing::debug!(error = %error.chain(), "values could not be cast: trying again");
            }
            Err(error) => {
                let error = QueryError::from(error);
                return values.iter().map(|_| Err(error.clone())).collect();
            }
        }
        tokio::time::sleep(delay).await;
        delay = (delay * 2).min(RETRY_DELAY.1);
    }
}

/// Casts many values in one statement, and singly where that fails.
async fn cast_once(pool: &Pool, values: &[CastRequest]) -> Result<Vec<Outcome>, PostgresError> {
    let mut lease = pool.get_briefly(Duration::ZERO).await?;
    // A default may call what leaves a setting behind.
    lease.mark_used();
    lease.client().batch_execute("BEGIN READ ONLY; SAVEPOINT convoy").await?;
    let mut outcomes = Vec::with_capacity(values.len());
    for batch in values.chunks(BATCH_MAX) {
        match cast_together(&lease, batch).await {
            Ok(texts) => outcomes.extend(texts.into_iter().map(Ok)),
            Err(error) if is_lost(&error) => return Err(error.into()),
            Err(error) if batch.len() == 1 => {
                outcomes.push(Err(argument_error(&error)));
                back(&lease).await;
            }
            Err(_) => {
                back(&lease).await;
                for value in batch {
                    match cast_together(&lease, std::slice::from_ref(value)).await {
                        Ok(texts) => outcomes.push(Ok(texts.into_iter().next().flatten())),
                        Err(error) if is_lost(&error) => return Err(error.into()),
                        Err(error) => {
                            outcomes.push(Err(argument_error(&error)));
                            back(&lease).await;
                        }
                    }
                }
            }
        }
    }
    Ok(outcomes)
}

async fn back(lease: &Lease) {
    // Should this fail, so does what follows, and says so.
    let _ = lease.client().batch_execute("ROLLBACK TO SAVEPOINT convoy").await;
}

async fn cast_together(
    lease: &Lease,
    values: &[CastRequest],
) -> Result<Vec<Option<String>>, tokio_postgres::Error> {
    let mut params = Vec::new();
    let mut inner = Vec::new();
    let mut outer = Vec::new();
    for (number, request) in values.iter().enumerate() {
        let value = match &request.value {
            CastValue::Text(text) => {
                params.push(TextParam(Some(text)));
                format!("${}", params.len())
            }
            CastValue::Expression(expression) => format!("({expression}\n)"),
        };
        inner.push(format!("{value}::{} AS v{number}", request.type_name));
        // `format` uses the type's output function, where a cast to text may say it otherwise (`bool`, `bpchar`).
        outer.push(format!(
            "CASE pg_catalog.num_nulls(v{number}) WHEN 0 THEN pg_catalog.format('%s', v{number}) END"
        ));
    }
    let sql = format!("SELECT {} FROM (SELECT {}) AS q", outer.join(", "), inner.join(", "));
    let statement = lease.client().prepare(&sql).await?;
    let mut rows = std::pin::pin!(lease.client().query_raw(&statement, params).await?);
    let row = futures_util::StreamExt::next(&mut rows).await.transpose()?;
    let Some(row) = row else { return Ok(vec![None; values.len()]) };
    (0..row.len()).map(|column| row.try_get(column)).collect()
}
