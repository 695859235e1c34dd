//! The results that a statement's rows make, each within its limits of rows and bytes.

use crate::budget::Room;
use crate::jobs::{Job, Jobs};
use convoy_engine::{ErrorCode, QueryError, QueryRead, ReadRows};

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
    /// Its rows so far.
    rows: ReadRows,
    /// The place of each, in a batch.
    places: Vec<i64>,
    /// What its rows take; whoever takes the answer in gives it back.
    room: Room,
}

impl Results {
    pub(crate) fn new(is_batch: bool, jobs: &Jobs<'_>) -> Results {
        let room = Room::new(jobs.memory);
        Results { is_batch, number: 1, rows: ReadRows::default(), places: Vec::new(), room }
    }

    /// Takes a row in, once there is room for it.
    pub(crate) async fn take(
        &mut self,
        row: &tokio_postgres::Row,
        job: &mut Job,
        jobs: &Jobs<'_>,
    ) -> Result<(), Misfit> {
        let mut first_column = 0;
        if self.is_batch {
            let number: i64 = row.try_get(0).map_err(Misfit::Row)?;
            let place = row.try_get(1).map_err(Misfit::Row)?;
            first_column = 2;
            while self.number < number && !job.reads.is_empty() {
                self.answer(job, jobs);
            }
            self.places.push(place);
        }
        let before = self.rows.memory_bytes();
        let texts = (first_column..row.len()).map(|column| row.try_get(column));
        self.rows.try_push(texts).map_err(Misfit::Row)?;
        self.room.grow(self.rows.memory_bytes() - before).await;
        let excess = job.reads.front().and_then(|read| excess(read, &self.rows));
        let Some(error) = excess else { return Ok(()) };
        if let Some(read) = job.reads.pop_front() {
            jobs.answer(&read, Err(error));
        }
        // What still comes of it is let go.
        self.rows = ReadRows::default();
        self.room = Room::new(jobs.memory);
        Err(Misfit::TooLarge)
    }

    /// Answers the job's first read with its rows.
    pub(crate) fn answer(&mut self, job: &mut Job, jobs: &Jobs<'_>) {
        // What comes next is mostly about as large.
        let room = ReadRows::with_room_of(&self.rows);
        let mut rows = std::mem::replace(&mut self.rows, room);
        self.number += 1;
        // They come in their order; the place says so, and what it says counts.
        if !self.places.is_sorted() {
            rows = rows.sorted_by(&self.places);
        }
        self.places.clear();
        let Some(read) = job.reads.pop_front() else { return };
        if self.is_batch {
            jobs.counters.read_in_batch();
        }
        self.room.hand_over(rows.memory_bytes());
        jobs.answer(&read, Ok(rows));
    }

    /// Answers all that is left: no more rows come.
    pub(crate) fn finish(&mut self, job: &mut Job, jobs: &Jobs<'_>) {
        while !job.reads.is_empty() {
            self.answer(job, jobs);
        }
    }
}

/// Returns the error for a result of this size, if it is too large.
fn excess(read: &QueryRead, rows: &ReadRows) -> Option<QueryError> {
    let message = if rows.len() > read.rows_max {
        format!("the result has more than {} rows", read.rows_max)
    } else if rows.text_bytes() > read.bytes_max {
        format!("the result has more than {} bytes", read.bytes_max)
    } else {
        return None;
    };
    let message = format!("{message}; give the query a narrower WHERE or a LIMIT");
    Some(QueryError::new(ErrorCode::LimitExceeded, message))
}
