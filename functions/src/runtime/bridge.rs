//! What JavaScript can call: the natives of `functions/js/host.ts` and of `js/world/`.

use super::messages::FromWorker;
use crate::call::CallKind;
use rquickjs::{Ctx, Function, Object};
use serde_json::json;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::mpsc::UnboundedSender;

/// Operations that write.
const WRITES: [&str; 4] = ["db.insert", "db.patch", "db.replace", "db.delete"];

/// One context's way out.
#[derive(Debug)]
pub(super) struct Bridge {
    link: Mutex<Link>,
}

/// The call that is under way.
#[derive(Debug, Default)]
struct Link {
    /// None while modules are evaluated.
    out: Option<UnboundedSender<FromWorker>>,
    kind: Option<CallKind>,
    host_calls_max: usize,
    host_calls: usize,
    log_bytes_left: usize,
    outstanding: usize,
    outcome: Option<Outcome>,
    /// What was logged while modules were evaluated.
    early: Vec<String>,
}

/// How a call ended, in the script's words.
#[derive(Debug)]
pub(super) enum Outcome {
    /// A value, as JSON.
    Value(String),
    /// An error, as JSON.
    Failure(String),
}

impl Bridge {
    /// Makes one for a context whose modules are to be evaluated, and may log so many bytes.
    pub(super) fn new(log_bytes_max: usize) -> Self {
        Self { link: Mutex::new(Link { log_bytes_left: log_bytes_max, ..Link::default() }) }
    }

    /// Begins a call.
    pub(super) fn begin(
        &self,
        out: UnboundedSender<FromWorker>,
        kind: CallKind,
        host_calls_max: usize,
        log_bytes_max: usize,
    ) {
        *self.lock() = Link {
            out: Some(out),
            kind: Some(kind),
            host_calls_max,
            log_bytes_left: log_bytes_max,
            ..Link::default()
        };
    }

    /// Ends the call: nobody is told any more.
    pub(super) fn forget_call(&self) {
        *self.lock() = Link::default();
    }

    /// Takes what was logged while modules were evaluated.
    pub(super) fn take_early(&self) -> Vec<String> {
        std::mem::take(&mut self.lock().early)
    }

    /// Returns how many operations the host has not answered.
    pub(super) fn outstanding(&self) -> usize {
        self.lock().outstanding
    }

    /// Notes that the host has answered one.
    pub(super) fn answered(&self) {
        let mut link = self.lock();
        link.outstanding = link.outstanding.saturating_sub(1);
    }

    /// Takes what the script said of how the call ends.
    pub(super) fn take_outcome(&self) -> Option<Outcome> {
        self.lock().outcome.take()
    }

    /// Puts the natives where `world/` and `host.ts` find them. While modules are evaluated it is `now_ms`.
    pub(super) fn install(self: &Arc<Self>, ctx: &Ctx<'_>, now_ms: f64) -> rquickjs::Result<()> {
        let natives = Object::new(ctx.clone())?;
        let bridge = self.clone();
        natives.set(
            "request",
            Function::new(ctx.clone(), move |id: u32, op: String, args: String| {
                bridge.request(id, op, args)
            })?,
        )?;
        let bridge = self.clone();
        natives.set(
            "log",
            Function::new(ctx.clone(), move |level: String, text: String| {
                bridge.log(&level, &text)
            })?,
        )?;
        let bridge = self.clone();
        natives.set(
            "done",
            Function::new(ctx.clone(), move |value: String| bridge.finish(Outcome::Value(value)))?,
        )?;
        let bridge = self.clone();
        natives.set(
            "fail",
            Function::new(ctx.clone(), move |error: String| {
                bridge.finish(Outcome::Failure(error))
            })?,
        )?;
        natives.set("decodeUtf8", Function::new(ctx.clone(), decode_utf8)?)?;
        natives.set("evaluatedAt", now_ms)?;
        ctx.globals().set("__convoyNatives", natives)
    }

    /// Passes an operation on, or returns why not, as an error's JSON.
    fn request(&self, id: u32, op: String, args: String) -> Option<String> {
        let mut link = self.lock();
        let refused = |code: &str, message: String| {
            Some(json!({ "code": code, "message": message }).to_string())
        };
        let Some(out) = link.out.clone() else {
            return refused(
                "INTERNAL",
                "a module asks the database while it is evaluated: only functions can".to_owned(),
            );
        };
        if link.kind != Some(CallKind::Mutation) && WRITES.contains(&op.as_str()) {
            return refused(
                "FORBIDDEN",
                format!("ctx.{op} in a query: queries only read; make the function a mutation"),
            );
        }
        if link.host_calls == link.host_calls_max {
            let limit = link.host_calls_max;
            return refused(
                "LIMIT_EXCEEDED",
                format!(
                    "more than {limit} ctx.db calls in one call of a function: read more at a time, with .collect()"
                ),
            );
        }
        link.host_calls += 1;
        link.outstanding += 1;
        // Nobody listens any more only once the call is given up.
        let _ = out.send(FromWorker::Ask { id, op, args });
        None
    }

    fn log(&self, level: &str, text: &str) {
        let mut link = self.lock();
        if link.log_bytes_left == 0 {
            return;
        }
        let fits = text.len() < link.log_bytes_left;
        link.log_bytes_left = link.log_bytes_left.saturating_sub(text.len().max(1));
        let message = if fits { text } else { "[this logs too much: the rest is left out]" };
        let args = json!({ "level": level, "message": message }).to_string();
        match &link.out {
            Some(out) => drop(out.send(FromWorker::Log { args })),
            None => link.early.push(args),
        }
    }

    /// The first word counts.
    fn finish(&self, outcome: Outcome) {
        self.lock().outcome.get_or_insert(outcome);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Link> {
        self.link.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads UTF-8; none where it is to be exact and is not.
fn decode_utf8(bytes: Vec<u8>, is_fatal: bool) -> Option<String> {
    match String::from_utf8(bytes) {
        Ok(text) => Some(text),
        Err(_) if is_fatal => None,
        Err(error) => Some(String::from_utf8_lossy(error.as_bytes()).into_owned()),
    }
}
