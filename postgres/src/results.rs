//! The results that a statement's rows make, each within its limits of rows and bytes.

use crate::jobs::{Job, Jobs};
use convoy_engine::{ErrorCode, QueryError, QueryRead, TextRow};

/// Why a row was not taken.
pub(crate) enum Misfit {
    /// With it its result is too large, and is answered so.
    TooLarge,
    /// It can't be read.
    Row(tokio_postgres::Error),
}

/// The results that a statement's rows make, one after the other. The first of the job's reads is the one whose rows
/// come now; it leaves the job when it is answered.
pub(crate) struct Results {
    is_batch: bool,
    /// The number in the batch of the job's first read.
    number: i64,
    /// Its rows so far, each with its place.
    rows: Vec<(i64, TextRow)>,
    bytes: usize,
}

impl Results {
    pub(crate) fn new(is_batch: bool) -> Results {
        Results { is_batch, number: 1, rows: Vec::new(), bytes: 0 }
    }

    pub(crate) fn take(
        &mut self,
        row: &tokio_postgres::Row,
        job: &mut Job,
        jobs: &Jobs<'_>,
    ) -> Result<(), Misfit> {
        let (mut place, mut first_column) = (0, 0);
        if self.is_batch {
            let number: i64 = row.try_get(0).map_err(Misfit::Row)?;
            place = row.try_get(1).map_err(Misfit::Row)?;
            first_column = 2;
            while self.number < number && !job.reads.is_empty() {
                self.answer(job, jobs);
            }
        }
        let row = text_row(row, first_column, &mut self.bytes).map_err(Misfit::Row)?;
        self.rows.push((place, row));
        let excess = job.reads.front().and_then(|read| excess(read, self.rows.len(), self.bytes));
        let Some(error) = excess else { return Ok(()) };
        if let Some(read) = job.reads.pop_front() {
            jobs.answer(&read, Err(error));
        }
        Err(Misfit::TooLarge)
    }

    /// Answers the job's first read with its rows.
    pub(crate) fn answer(&mut self, job: &mut Job, jobs: &Jobs<'_>) {
        let mut rows = std::mem::take(&mut self.rows);
        self.bytes = 0;
        self.number += 1;
        // They come in their order; the place says so, and what it says counts.
        if !rows.is_sorted_by_key(|(place, _)| *place) {
            rows.sort_by_key(|(place, _)| *place);
        }
        let Some(read) = job.reads.pop_front() else { return };
        if self.is_batch {
            jobs.counters.read_in_batch();
        }
        jobs.answer(&read, Ok(rows.into_iter().map(|(_, row)| row).collect()));
    }

    /// Answers all that is left: no more rows come.
    pub(crate) fn finish(&mut self, job: &mut Job, jobs: &Jobs<'_>) {
        while !job.reads.is_empty() {
            self.answer(job, jobs);
        }
    }
}

fn text_row(
    row: &tokio_postgres::Row,
    first_column: usize,
    bytes: &mut usize,
) -> Result<TextRow, tokio_postgres::Error> {
    let column = |index| {
        let text: Option<&str> = row.try_get(index)?;
        *bytes += text.map_or(0, str::len);
        Ok(text.map(Box::from))
    };
    (first_column..row.len()).map(column).collect()
}

/// Returns the error for a result of this size, if it is too large.
fn excess(read: &QueryRead, rows: usize, bytes: usize) -> Option<QueryError> {
    let message = if rows > read.rows_max {
        format!("the result has more than {} rows", read.rows_max)
    } else if bytes > read.bytes_max {
        format!("the result has more than {} bytes", read.bytes_max)
    } else {
        return None;
    };
    let message = format!("{message}; give the query a narrower WHERE or a LIMIT");
    Some(QueryError::new(ErrorCode::LimitExceeded, message))
}
