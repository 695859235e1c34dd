//! A context with a heap of its own, its project's modules evaluated, ready for a call.

use super::bridge::Bridge;
use super::heap::Heap;
use super::messages::{Job, Reply};
use super::meter::{Meter, Tripped};
use super::stack;
use crate::call::CallKind;
use crate::limits::Limits;
use crate::project::ProjectError;
use crate::source::{ENTRY, Graph};
use rquickjs::loader::{ImportAttributes, Loader, Resolver};
use rquickjs::module::Declared;
use rquickjs::promise::PromiseState;
use rquickjs::{
    CatchResultExt, CaughtError, Context, Ctx, Error, Function, Module, Object, Promise, Runtime,
};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;

/// The part of its memory that a heap may grow by before cycles are looked for. Most calls end before, and their heap is put back
/// as a whole.
const GC_FRACTION: usize = 4;

/// How many times its memory a heap is refused more at once. A script is stopped at its memory, but only after some ten thousand
/// steps at most.
const REFUSED_FROM: usize = 3;

/// A context, ready for a call, and after [`Isolate::reset`] for another one, which finds what the first has found.
pub(crate) struct Isolate {
    context: Context,
    heap: Heap,
    graph: Arc<Graph>,
    bridge: Arc<Bridge>,
    meter: Arc<Meter>,
}

/// Finds modules in a graph.
#[derive(Clone)]
struct Modules(Arc<Graph>);

impl Resolver for Modules {
    fn resolve<'js>(
        &mut self,
        _: &Ctx<'js>,
        base: &str,
        name: &str,
        _: Option<ImportAttributes<'js>>,
    ) -> rquickjs::Result<String> {
        let meant = self.0.meant(base, name).map(str::to_owned);
        meant.ok_or_else(|| {
            Error::new_resolving_message(
                base,
                name,
                "only what a string literal names can be imported",
            )
        })
    }
}

impl Loader for Modules {
    fn load<'js>(
        &mut self,
        ctx: &Ctx<'js>,
        name: &str,
        _: Option<ImportAttributes<'js>>,
    ) -> rquickjs::Result<Module<'js, Declared>> {
        self.0.bytecode(name).ok_or_else(|| Error::new_loading(name))?.load(ctx)
    }
}

impl Isolate {
    /// Sets up a context and evaluates the project's modules in it.
    ///
    /// # Errors
    /// `Evaluate` where a module throws or takes too long.
    pub(crate) fn prepare(
        graph: &Arc<Graph>,
        now_ms: f64,
        limits: &Limits,
    ) -> Result<Self, ProjectError> {
        let engine = |source| ProjectError::Engine { source };
        let heap = Heap::default();
        let runtime = Runtime::new_with_alloc(heap.clone()).map_err(engine)?;
        // The meter stops what takes more than it may. The engine itself refuses only what goes far beyond before it is asked: it
        // has places that do not survive a refusal.
        runtime.set_memory_limit(limits.memory_bytes_max.saturating_mul(REFUSED_FROM));
        runtime.set_gc_threshold(limits.memory_bytes_max / GC_FRACTION);
        runtime.set_max_stack_size(limits.stack_bytes_max);
        runtime.set_loader(Modules(graph.clone()), Modules(graph.clone()));
        let meter =
            Arc::new(Meter::new(limits.prepare_cpu_max, heap.clone(), limits.memory_bytes_max));
        let of_handler = meter.clone();
        runtime.set_interrupt_handler(Some(Box::new(move || of_handler.stop())));
        runtime.set_host_promise_rejection_tracker(Some(Box::new(
            |ctx, promise, reason, is_handled| {
                // Not there while modules are evaluated. Where there is no memory to note it, the call ends for that.
                let _ = Self::convoy(&ctx)
                    .and_then(|convoy| convoy.get::<_, Function<'_>>("rejected"))
                    .and_then(|rejected| rejected.call::<_, ()>((promise, reason, is_handled)))
                    .catch(&ctx);
            },
        )));
        let context = Context::full(&runtime).map_err(engine)?;
        let isolate = Self {
            context,
            heap,
            graph: graph.clone(),
            bridge: Arc::new(Bridge::new(limits.log_bytes_max)),
            meter,
        };
        isolate.meter.slice(|| isolate.context.with(|ctx| isolate.evaluate(&ctx, now_ms)))?;
        // What evaluating left behind is not copied with each reset.
        runtime.run_gc();
        isolate.keep();
        Ok(isolate)
    }

    #[allow(unsafe_code, reason = "the heap can't know who uses it")]
    fn keep(&self) {
        // SAFETY: this context is the runtime's only one, has not been given away, and nothing runs in it.
        unsafe { self.heap.keep() };
    }

    /// Forgets the call: the context is as it was before, to the byte.
    #[allow(unsafe_code, reason = "the heap can't know who uses it")]
    pub(super) fn reset(self) -> Self {
        self.bridge.forget_call();
        self.meter.forget_call();
        // SAFETY: nobody else has the context, so nothing runs in it; values of the engine's don't leave the methods that call it.
        // What has a finalizer in Rust are the natives, all made before. They are alive: `host.ts` holds them in a binding of its
        // module, which lasts as long as the context and which no other module can import. What rquickjs has of the engine's
        // outside the heap, prototypes of Rust classes, was made with the natives too: a call must make no Rust class.
        unsafe { self.heap.restore() };
        self
    }

    fn evaluate(&self, ctx: &Ctx<'_>, now_ms: f64) -> Result<(), ProjectError> {
        self.bridge.install(ctx, now_ms).map_err(|source| ProjectError::Engine { source })?;
        let failed = |error: CaughtError<'_>| self.unevaluated(&error);
        let promise: Promise<'_> = Module::import(ctx, ENTRY).catch(ctx).map_err(failed)?;
        self.run_jobs(ctx);
        if self.meter.tripped().is_some() {
            return Err(self.stuck());
        }
        match promise.state() {
            PromiseState::Resolved => Ok(()),
            PromiseState::Rejected => {
                let error = promise.result::<()>().unwrap_or(Err(Error::Unknown)).catch(ctx);
                Err(error.err().map_or_else(|| self.stuck(), |error| self.unevaluated(&error)))
            }
            PromiseState::Pending => Err(self.stuck()),
        }
    }

    /// Returns what the project's modules define, as JSON.
    pub(crate) fn describe(&self) -> Result<String, ProjectError> {
        self.meter.slice(|| {
            self.context.with(|ctx| {
                let describe =
                    Self::convoy(&ctx).and_then(|convoy| convoy.get::<_, Function<'_>>("describe"));
                let text = describe.and_then(|describe| describe.call::<_, String>(())).catch(&ctx);
                text.map_err(|error| self.unevaluated(&error))
            })
        })
    }

    /// Takes what the modules logged while they were evaluated.
    pub(crate) fn take_logs(&self) -> Vec<String> {
        self.bridge.take_early()
    }

    /// Begins a call.
    ///
    /// # Errors
    /// What was thrown where the script could not even begin.
    pub(super) fn begin(&self, job: &Job, limits: &Limits) -> Result<(), String> {
        self.meter.begin(limits.cpu_max, job.deadline, job.ticket.clone());
        self.bridge.begin(
            job.out.clone(),
            job.call.kind,
            limits.host_calls_max,
            limits.log_bytes_max,
        );
        self.run(|ctx| {
            let invoke: Function<'_> = Self::convoy(ctx)?.get("invoke")?;
            let seed = vec![job.call.seed as u32, (job.call.seed >> 32) as u32];
            invoke.call::<_, ()>((
                job.function.file.as_str(),
                job.function.export.as_str(),
                job.call.args.as_str(),
                job.call.auth.as_deref(),
                job.call.kind == CallKind::Arguments,
                job.call.now_ms,
                seed,
            ))
        })
    }

    /// Hands an answer of the host to the script, which goes on.
    ///
    /// # Errors
    /// What was thrown where it can't: an answer may be too large for the heap.
    pub(super) fn reply(&self, reply: Reply) -> Result<(), String> {
        self.bridge.answered();
        let Reply { id, result } = reply;
        self.run(|ctx| {
            let told: Function<'_> = Self::convoy(ctx)?.get("reply")?;
            let (ok, json) = match result {
                Ok(value) => (true, value),
                Err(error) => {
                    let data =
                        error.data.as_deref().and_then(|data| serde_json::from_str(data).ok());
                    let data: serde_json::Value = data.unwrap_or_default();
                    let error =
                        json!({ "code": error.code, "message": error.message, "data": data });
                    (false, error.to_string())
                }
            };
            // The text stays out of the heap.
            told.call::<_, ()>((id, ok, ctx.json_parse(json)?))
        })
    }

    /// Returns why something that nobody awaited has failed, in the script's words; none where nothing has.
    ///
    /// # Errors
    /// What was thrown where it can't be told.
    pub(super) fn unawaited(&self) -> Result<Option<String>, String> {
        let mut failure = None;
        self.run(|ctx| {
            let unawaited: Function<'_> = Self::convoy(ctx)?.get("unawaited")?;
            failure = unawaited.call(())?;
            Ok(())
        })?;
        Ok(failure)
    }

    /// Returns why the script was stopped, if it was.
    pub(super) fn tripped(&self) -> Option<Tripped> {
        self.meter.tripped()
    }

    /// Returns the processor time that the call has taken.
    pub(super) fn cpu_time(&self) -> Duration {
        self.meter.used()
    }

    pub(super) fn bridge(&self) -> &Bridge {
        &self.bridge
    }

    /// Returns how many bytes its heap has.
    pub(super) fn memory_bytes(&self) -> usize {
        self.heap.bytes()
    }

    /// Returns whether the context is of this version.
    pub(super) fn is_of(&self, graph: &Arc<Graph>) -> bool {
        Arc::ptr_eq(&self.graph, graph)
    }

    /// Runs a part of the script, and what comes of it; returns what it threw.
    fn run(&self, begin: impl FnOnce(&Ctx<'_>) -> rquickjs::Result<()>) -> Result<(), String> {
        self.meter.slice(|| {
            self.context.with(|ctx| {
                let begun = begin(&ctx).catch(&ctx).map_err(|error| thrown(&error).0);
                self.run_jobs(&ctx);
                begun
            })
        })
    }

    /// Runs what waits, until nothing does or the script was stopped.
    fn run_jobs(&self, ctx: &Ctx<'_>) {
        // The engine asks while script runs. What it does at one go, reading JSON say, is looked at here.
        self.meter.look();
        while self.meter.tripped().is_none() && ctx.execute_pending_job() {
            self.meter.look();
        }
    }

    fn convoy<'js>(ctx: &Ctx<'js>) -> rquickjs::Result<Object<'js>> {
        ctx.globals().get("__convoy")
    }

    fn unevaluated(&self, error: &CaughtError<'_>) -> ProjectError {
        if self.meter.tripped().is_some() {
            return self.stuck();
        }
        let (message, stack) = thrown(error);
        ProjectError::Evaluate { message, stack: stack::mapped(&stack, &self.graph) }
    }

    fn stuck(&self) -> ProjectError {
        let message = match self.meter.tripped() {
            Some(Tripped::Memory) => "they take too much memory",
            Some(_) => "they take too much processor time",
            None => "a module awaits something that never settles",
        };
        ProjectError::Evaluate { message: message.to_owned(), stack: String::new() }
    }
}

/// Returns the words of what was thrown, and its stack.
fn thrown(error: &CaughtError<'_>) -> (String, String) {
    match error {
        CaughtError::Exception(exception) => {
            let name = exception.get::<_, String>("name").unwrap_or_else(|_| "Error".to_owned());
            let message = format!("{name}: {}", exception.message().unwrap_or_default());
            (message, exception.stack().unwrap_or_default())
        }
        CaughtError::Value(value) if value.is_null() => ("null".to_owned(), String::new()),
        CaughtError::Value(value) => (format!("threw {value:?}"), String::new()),
        CaughtError::Error(error) => (error.to_string(), String::new()),
    }
}
