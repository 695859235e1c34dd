//! Carries out one call in one context, and says how it ended.

use super::bridge::Outcome;
use super::isolate::Isolate;
use super::messages::Job;
use super::meter::Tripped;
use super::stack;
use crate::call::CallError;
use crate::limits::Limits;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

/// Why the script says that a call has no value (`functions/js/invoke.ts`): `code` and `message`, or `thrown`.
#[derive(Deserialize)]
struct Failure<'a> {
    code: Option<String>,
    #[serde(default)]
    message: String,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    thrown: Option<String>,
    stack: String,
}

/// Runs a call to its end.
pub(super) fn run(isolate: &Isolate, job: &Job, limits: &Limits) -> Result<String, CallError> {
    let name = &job.call.name;
    let mut unwatched = None;
    let mut is_running = isolate.begin(job, limits);
    loop {
        if let Some(why) = isolate.tripped() {
            return Err(stopped(name, why, limits));
        }
        if !is_running {
            return Err(given_up(isolate, name, limits));
        }
        if isolate.bridge().outstanding() == 0 {
            break;
        }
        let left = job.deadline.saturating_duration_since(Instant::now());
        let reply = match job.replies.recv_timeout(left) {
            Ok(reply) => reply,
            Err(RecvTimeoutError::Timeout) => return Err(timed_out(name, limits.wall_max)),
            Err(RecvTimeoutError::Disconnected) => {
                return Err(stopped(name, Tripped::Cancelled, limits));
            }
        };
        // The handler has returned, so whoever asked did not wait for the answer.
        if isolate.bridge().is_finished()
            && let Err(error) = &reply.result
        {
            unwatched.get_or_insert_with(|| error.clone());
        }
        is_running = isolate.reply(&reply);
    }
    let Some(outcome) = isolate.bridge().take_outcome() else {
        return Err(given_up(isolate, name, limits));
    };
    let value = told(job, outcome, limits)?;
    match unwatched {
        None => Ok(value),
        Some(error) => Err(CallError {
            data: error.data.clone(),
            ..CallError::new(&error.code, error.message.clone())
                .with_detail(format!("{name}: a ctx.db call that nobody awaited failed: {error}"))
        }),
    }
}

/// Reads what the script said.
fn told(job: &Job, outcome: Outcome, limits: &Limits) -> Result<String, CallError> {
    let name = &job.call.name;
    let failure = match outcome {
        Outcome::Value(value) if value.len() <= limits.result_bytes_max => return Ok(value),
        Outcome::Value(value) => {
            let (length, limit) = (value.len(), limits.result_bytes_max);
            let message = format!(
                "the result of {name} has {length} bytes, more than {limit}: return less, page by page with .paginate()"
            );
            return Err(CallError::new("LIMIT_EXCEEDED", message));
        }
        Outcome::Failure(failure) => failure,
    };
    let failure: Failure<'_> = match serde_json::from_str(&failure) {
        Ok(failure) => failure,
        Err(error) => {
            return Err(
                failed(name).with_detail(format!("{name}: its error can't be read: {error}"))
            );
        }
    };
    let stack = stack::mapped(&failure.stack, job.project.graph());
    if let Some(code) = failure.code {
        let data = failure.data.map(|data| data.get().to_owned()).filter(|data| data != "null");
        let detail = format!("{name}: {code}: {}\n{stack}", failure.message);
        return Err(CallError { code, message: failure.message, data, detail: Some(detail) });
    }
    let thrown = failure.thrown.unwrap_or_default();
    // The engine throws null where there is no memory left for an error.
    if ["InternalError: out of memory", "InternalError: string too long", "null"]
        .contains(&thrown.as_str())
    {
        return Err(
            out_of_memory(name, limits).with_detail(format!("{name} threw {thrown}\n{stack}"))
        );
    }
    Err(failed(name).with_detail(format!("{name}: {thrown}\n{stack}")))
}

/// Nothing is left that could go on.
fn given_up(isolate: &Isolate, name: &str, limits: &Limits) -> CallError {
    // An error needs memory too: where there was none, nobody heard of it.
    if is_full(isolate, limits) {
        return out_of_memory(name, limits);
    }
    CallError::new(
        "TIMEOUT",
        format!("{name} awaits something that never settles: a promise that nobody resolves"),
    )
}

fn is_full(isolate: &Isolate, limits: &Limits) -> bool {
    isolate.memory_bytes() > limits.memory_bytes_max / 10 * 9
}

/// What a client hears of an error that is none of its business.
fn failed(name: &str) -> CallError {
    CallError::new("INTERNAL", format!("{name} failed; the server's log says why"))
}

fn out_of_memory(name: &str, limits: &Limits) -> CallError {
    let limit = limits.memory_bytes_max >> 20;
    CallError::new(
        "LIMIT_EXCEEDED",
        format!("{name} needs more than {limit} MiB of memory: read and keep less at a time"),
    )
}

fn stopped(name: &str, why: Tripped, limits: &Limits) -> CallError {
    match why {
        Tripped::Cpu => CallError::new(
            "LIMIT_EXCEEDED",
            format!("{name} took more than {:?} of processor time and was stopped", limits.cpu_max),
        ),
        Tripped::Wall => timed_out(name, limits.wall_max),
        Tripped::Cancelled => {
            CallError::new("UNAVAILABLE", format!("{name} was stopped: its caller is gone"))
        }
    }
}

pub(super) fn timed_out(name: &str, limit: Duration) -> CallError {
    CallError::new("TIMEOUT", format!("{name} took longer than {limit:?} and was stopped"))
}
