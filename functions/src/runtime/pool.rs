//! Workers, the calls that wait for them, and the contexts that wait for calls.

use super::isolate::Isolate;
use super::messages::{FromWorker, Job, Ticket};
use super::worker;
use crate::call::CallError;
use crate::limits::Limits;
use crate::project::{Project, ProjectError};
use rustix::process::setpriority_process;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::{mem, thread};

/// Native stack of a worker beside what scripts may use of it.
const STACK_BYTES: usize = 1 << 20;

/// How much the threads that prepare contexts give way to all others (as `nice` counts).
const PREPARING_NICE: i32 = 10;

/// Workers that run calls, and threads that prepare contexts for the calls to come while processors have nothing better to do.
pub(super) struct Pool {
    state: Mutex<State>,
    /// A call waits, or the pool is closed.
    calls: Condvar,
    /// A context was taken, there is a new version, or the pool is closed.
    taken: Condvar,
    limits: Arc<Limits>,
}

struct State {
    project: Arc<Project>,
    jobs: VecDeque<Job>,
    ready: Vec<Isolate>,
    preparing: usize,
    /// Contexts that calls have, or make.
    lent: usize,
    /// Workers that were replaced and still run.
    given_up: usize,
    /// Preparing this version failed, and would again.
    is_broken: bool,
    is_closed: bool,
}

impl Pool {
    pub(super) fn start(project: Arc<Project>, limits: Arc<Limits>) -> Arc<Self> {
        let state = State {
            project,
            jobs: VecDeque::new(),
            ready: Vec::new(),
            preparing: 0,
            lent: 0,
            given_up: 0,
            is_broken: false,
            is_closed: false,
        };
        let pool = Arc::new(Self {
            state: Mutex::new(state),
            calls: Condvar::new(),
            taken: Condvar::new(),
            limits,
        });
        for _ in 0..pool.limits.workers.max(1) {
            pool.start_worker();
        }
        for _ in 0..pool.limits.preparing_max {
            pool.start_thread("convoy-prepare", Self::prepare_ahead);
        }
        pool
    }

    /// Lets another worker take the place of one that still runs a call nobody waits for: it may be at something that can't be
    /// stopped. Past the limit it keeps its place.
    pub(super) fn give_up(self: &Arc<Self>, ticket: &Ticket) {
        let mut state = self.lock();
        if state.given_up < self.limits.given_up_max && ticket.replace() {
            state.given_up += 1;
            drop(state);
            self.start_worker();
        }
    }

    fn start_worker(self: &Arc<Self>) {
        self.start_thread("convoy-function", Self::work);
    }

    fn start_thread(self: &Arc<Self>, name: &str, run: fn(&Self)) {
        let pool = self.clone();
        let started = thread::Builder::new()
            .name(name.to_owned())
            .stack_size(self.limits.stack_bytes_max + STACK_BYTES)
            .spawn(move || run(&pool));
        if let Err(error) = started {
            tracing::error!(error = %error, name, "could not start a thread for functions");
        }
    }

    pub(super) fn project(&self) -> Arc<Project> {
        self.lock().project.clone()
    }

    pub(super) fn ready_len(&self) -> usize {
        self.lock().ready.len()
    }

    pub(super) fn swap(&self, project: Arc<Project>) {
        let mut state = self.lock();
        let old = (mem::replace(&mut state.project, project), mem::take(&mut state.ready));
        state.is_broken = false;
        drop(state);
        self.taken.notify_all();
        // Freeing heaps takes its time, which nobody should wait for.
        drop(old);
    }

    pub(super) fn submit(&self, job: Job) -> Result<(), CallError> {
        let mut state = self.lock();
        if state.jobs.len() == self.limits.queue_len_max {
            return Err(CallError::new(
                "UNAVAILABLE",
                "too many calls wait for a worker: try again in a moment",
            ));
        }
        state.jobs.push_back(job);
        drop(state);
        self.calls.notify_one();
        Ok(())
    }

    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.is_closed = true;
        let old = (mem::take(&mut state.jobs), mem::take(&mut state.ready));
        drop(state);
        self.calls.notify_all();
        self.taken.notify_all();
        drop(old);
    }

    fn work(&self) {
        while let Some((job, isolate)) = self.next_call() {
            if self.run(&job, isolate) {
                self.lock().given_up -= 1;
                return;
            }
        }
    }

    /// Waits for a call; none once the pool is closed.
    fn next_call(&self) -> Option<(Job, Option<Isolate>)> {
        let mut state = self.lock();
        while !state.is_closed {
            let Some(job) = state.jobs.pop_front() else {
                state = self.calls.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            if !job.ticket.is_cancelled() {
                let isolate = state.ready.pop_if(|isolate| isolate.is_of(job.project.graph()));
                state.lent += 1;
                if self.are_too_few(&state) {
                    self.taken.notify_one();
                }
                return Some((job, isolate));
            }
        }
        None
    }

    /// Waits until there are too few contexts; none once the pool is closed.
    fn next_to_prepare(&self) -> Option<Arc<Project>> {
        let mut state = self.lock();
        while !state.is_closed {
            if !state.is_broken && self.are_too_few(&state) {
                state.preparing += 1;
                return Some(state.project.clone());
            }
            state = self.taken.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        None
    }

    /// Returns whether another context should be prepared: there is one for each call that is expected, and where calls have them
    /// all, some for the next ones.
    fn are_too_few(&self, state: &State) -> bool {
        let ready = state.ready.len() + state.preparing;
        ready + state.lent < self.limits.ready_contexts || ready < self.limits.ready_contexts / 4
    }

    /// Runs a call, and returns whether another worker has taken this one's place meanwhile.
    fn run(&self, job: &Job, isolate: Option<Isolate>) -> bool {
        job.ticket.begin();
        let isolate = match isolate {
            Some(isolate) => Ok(isolate),
            None => self.prepare(&job.project),
        };
        let failed = |detail: String| {
            let message = format!("{} failed; the server's log says why", job.call.name);
            Err(CallError::new("INTERNAL", message).with_detail(detail))
        };
        // A fault of ours is no reason to lose the worker; only its context is not used again.
        let ran = match &isolate {
            Ok(isolate) => {
                catch_unwind(AssertUnwindSafe(|| worker::run(isolate, job, &self.limits)))
            }
            Err(error) => Ok(failed(error.to_string())),
        };
        let has_panicked = ran.is_err();
        let outcome = ran.unwrap_or_else(|_| failed("the worker panicked".to_owned()));
        // Before the caller hears and goes, which would be giving up.
        let is_replaced = job.ticket.end();
        // It may be gone.
        let _ = job.out.send(FromWorker::Done(outcome));
        self.take_back(isolate.ok(), has_panicked);
        is_replaced
    }

    /// Makes a call's context ready for another call, where one is wanted.
    fn take_back(&self, isolate: Option<Isolate>, has_panicked: bool) {
        // Also what is then let go: the engine takes a heap apart only where nothing in it is held.
        let isolate = isolate.map(Isolate::reset);
        let mut state = self.lock();
        state.lent -= 1;
        let is_wanted = |isolate: &Isolate| {
            !has_panicked
                && !state.is_closed
                && state.ready.len() < self.limits.ready_contexts
                && isolate.is_of(state.project.graph())
        };
        if isolate.as_ref().is_some_and(is_wanted) {
            state.ready.extend(isolate);
        } else {
            self.taken.notify_one();
            // Freeing a heap takes its time, which nobody should wait for.
            drop(state);
            drop(isolate);
        }
    }

    fn prepare(&self, project: &Project) -> Result<Isolate, ProjectError> {
        Isolate::prepare(project.graph(), project.loaded_at_ms(), &self.limits)
    }

    fn prepare_ahead(&self) {
        // Of this thread alone. Where it may not be, contexts are prepared all the same.
        let _ = setpriority_process(None, PREPARING_NICE);
        while let Some(project) = self.next_to_prepare() {
            let prepared = self.prepare(&project);
            let mut state = self.lock();
            state.preparing -= 1;
            let is_current = Arc::ptr_eq(&state.project, &project);
            match prepared {
                Ok(isolate) if is_current && !state.is_closed => state.ready.push(isolate),
                Ok(isolate) => {
                    drop(state);
                    drop(isolate);
                }
                Err(error) => {
                    // Its calls will say so too.
                    state.is_broken |= is_current;
                    tracing::warn!(error = %error, "could not prepare a context for functions");
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Pool").field("limits", &self.limits).finish_non_exhaustive()
    }
}
