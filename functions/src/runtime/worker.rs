//! Carries out one call in one context, and says how it ended.

use super::bridge::Outcome;
use super::isolate::Isolate;
use super::messages::Job;
use super::meter::Tripped;
use super::stack;
use crate::call::{CallError, Fault};
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
    /// Whether it is the arguments that are at fault.
    #[serde(default)]
    arguments: bool,
}

/// What the engine throws where there is no memory left; null where there is none for an error either.
const OUT_OF_MEMORY: [&str; 3] =
    ["InternalError: out of memory", "InternalError: string too long", "null"];

/// Runs a call to its end.
pub(super) fn run(isolate: &Isolate, job: &Job, limits: &Limits) -> Result<String, CallError> {
    run_to_its_end(isolate, job, limits).map_err(|error| match (error.fault, &error.detail) {
        (Fault::Limit, Some(detail)) => {
            let (cpu, bytes) = (isolate.cpu_time(), isolate.memory_bytes());
            let took = format!("it took {cpu:?} of processor time and {bytes} bytes of memory");
            let detail = format!("{detail}; {took}");
            error.with_detail(detail)
        }
        _ => error,
    })
}

fn run_to_its_end(isolate: &Isolate, job: &Job, limits: &Limits) -> Result<String, CallError> {
    let name = &job.call.name;
    let mut went_on = isolate.begin(job, limits);
    loop {
        if let Some(why) = isolate.tripped() {
            return Err(stopped(name, why, limits));
        }
        went_on.map_err(|thrown| threw(name, &thrown, "", limits))?;
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
        went_on = isolate.reply(reply);
    }
    let Some(outcome) = isolate.bridge().take_outcome() else {
        return Err(given_up(isolate, name, limits));
    };
    let value = told(job, outcome, limits)?;
    // Nothing may be taken for done that was begun and failed.
    match isolate.unawaited().map_err(|thrown| threw(name, &thrown, "", limits))? {
        None => Ok(value),
        Some(failure) => {
            let error = failure_told(job, &failure, limits);
            let detail = error.detail.clone().unwrap_or_default();
            Err(error.with_detail(format!("nobody awaited what failed in {detail}")))
        }
    }
}

/// Reads what the script said.
fn told(job: &Job, outcome: Outcome, limits: &Limits) -> Result<String, CallError> {
    let name = &job.call.name;
    match outcome {
        Outcome::Value(value) if value.len() <= limits.result_bytes_max => Ok(value),
        Outcome::Value(value) => {
            let (length, limit) = (value.len(), limits.result_bytes_max);
            let message = format!(
                "the result of {name} has {length} bytes, more than {limit}: return less, page by page with .paginate()"
            );
            let detail = format!("result: {length} bytes, {limit} allowed");
            Err(CallError::new("LIMIT_EXCEEDED", message).of(Fault::Limit).with_detail(detail))
        }
        Outcome::Failure(failure) => Err(failure_told(job, &failure, limits)),
    }
}

/// Reads what the script said of an error.
fn failure_told(job: &Job, failure: &str, limits: &Limits) -> CallError {
    let name = &job.call.name;
    let failure: Failure<'_> = match serde_json::from_str(failure) {
        Ok(failure) => failure,
        Err(error) => {
            return failed(name).with_detail(format!("{name}: its error can't be read: {error}"));
        }
    };
    let stack = stack::mapped(&failure.stack, job.project.graph());
    if let Some(code) = failure.code {
        let data = failure.data.map(|data| data.get().to_owned()).filter(|data| data != "null");
        let detail = format!("{name}: {code}: {}\n{stack}", failure.message);
        let fault = if failure.arguments { Fault::Arguments } else { Fault::Function };
        return CallError { code, message: failure.message, data, detail: Some(detail), fault };
    }
    threw(name, &failure.thrown.unwrap_or_default(), &stack, limits)
}

/// What becomes of a call that threw something that is no error of its own.
fn threw(name: &str, thrown: &str, stack: &str, limits: &Limits) -> CallError {
    match OUT_OF_MEMORY.contains(&thrown) {
        true => out_of_memory(name, limits),
        false => failed(name).of(Fault::Function).with_detail(format!("{name}: {thrown}\n{stack}")),
    }
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
    .of(Fault::Function)
    .with_detail("it awaits a promise that nobody resolves")
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
    .of(Fault::Limit)
    .with_detail(format!("memory: {} bytes allowed", limits.memory_bytes_max))
}

fn stopped(name: &str, why: Tripped, limits: &Limits) -> CallError {
    match why {
        Tripped::Cpu => CallError::new(
            "LIMIT_EXCEEDED",
            format!("{name} took more than {:?} of processor time and was stopped", limits.cpu_max),
        )
        .of(Fault::Limit)
        .with_detail(format!("processor time: {:?} allowed", limits.cpu_max)),
        Tripped::Memory => out_of_memory(name, limits),
        Tripped::Wall => timed_out(name, limits.wall_max),
        Tripped::Cancelled => {
            CallError::new("UNAVAILABLE", format!("{name} was stopped: its caller is gone"))
        }
    }
}

pub(super) fn timed_out(name: &str, limit: Duration) -> CallError {
    CallError::new("TIMEOUT", format!("{name} took longer than {limit:?} and was stopped"))
        .of(Fault::Limit)
        .with_detail(format!("time: {limit:?} allowed"))
}
