//! Every bound of the crate: what it counts, its default, and what happens when it is reached.

use std::thread::available_parallelism;
use std::time::Duration;

/// The bounds of a [`Runtime`](crate::Runtime) and of each call.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Calls that run at a time, a thread each. Further ones wait.
    pub workers: usize,
    /// Workers that run on after their call was given up, and whose place others have taken. Further ones keep their place until
    /// they come to an end.
    pub given_up_max: usize,
    /// Calls that wait for a worker. One more is `UNAVAILABLE`.
    pub queue_len_max: usize,
    /// Contexts that are prepared ahead and kept between calls, each with twice the memory of the project's modules. A call that
    /// finds none prepares its own.
    pub ready_contexts: usize,
    /// Threads that prepare contexts ahead, and give way to all others.
    pub preparing_max: usize,
    /// Bytes of a call's heap, what its modules take included. Then it is stopped, whatever it catches, with `LIMIT_EXCEEDED`.
    /// That is looked at every ten thousand steps or so; at three times as much the engine refuses more at once.
    pub memory_bytes_max: usize,
    /// Bytes of native stack of a call. Deeper recursion is JavaScript's own `RangeError`.
    pub stack_bytes_max: usize,
    /// Processor time of a call. Then it is stopped, whatever it catches, with `LIMIT_EXCEEDED`.
    pub cpu_max: Duration,
    /// Processor time of evaluating a project's modules. Then the project can't be used.
    pub prepare_cpu_max: Duration,
    /// How long a call may take, waiting included. Then it fails with `TIMEOUT`, or with `UNAVAILABLE` where no worker began it.
    pub wall_max: Duration,
    /// Operations that one call may ask of the host, log lines apart. One more is `LIMIT_EXCEEDED`.
    pub host_calls_max: usize,
    /// Bytes of a call's result as JSON. More is `LIMIT_EXCEEDED`.
    pub result_bytes_max: usize,
    /// Bytes that one call may log. What comes after is left out, which the last line says.
    pub log_bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        let cores = available_parallelism().map_or(2, usize::from);
        Self {
            workers: (cores * 4).max(16),
            given_up_max: 64,
            queue_len_max: 10_000,
            ready_contexts: (cores * 4).max(8),
            preparing_max: (cores / 2).max(1),
            memory_bytes_max: 64 << 20,
            stack_bytes_max: 1 << 20,
            cpu_max: Duration::from_secs(1),
            prepare_cpu_max: Duration::from_secs(10),
            wall_max: Duration::from_secs(30),
            host_calls_max: 4096,
            result_bytes_max: 16 << 20,
            log_bytes_max: 256 << 10,
        }
    }
}
