//! Convoy's benchmarks: the library behind `convoy bench`.
//!
//! What is measured is the executable itself: it is started again as `serve`, as the writer, as the subscribers and
//! as the bare replication client, each a process of its own, and spoken to over HTTP. So this crate does not depend
//! on the server. `bench/README.md` has the figures, and how to read them.

mod args;

mod chaos;
mod latency;
mod matching;
mod memory;
mod reconnect;
mod refresh;

mod serve;
mod target;
mod worker;

mod http;
mod sse;

mod clock;
mod machine;
mod process;
mod progress;
mod samples;
mod table;

pub use args::{
    BenchArgs, ChaosArgs, LatencyArgs, MatchArgs, MemoryArgs, ReconnectArgs, RefreshArgs,
    ScaleArgs, TargetArgs,
};
pub use chaos::Case;

use anyhow::Context;
use args::BenchCommand;
use convoy_postgres::launcher::Search;
use tokio::runtime;

/// Runs a benchmark and prints its report.
///
/// `search` says where the programs of a private Postgres are looked for. Runs on a thread with a runtime of its own,
/// so it may be called from anywhere, and blocks until it is done.
///
/// # Errors
/// What kept it from being measured, and commits that never arrived. A goal that was missed is no error.
pub fn run(args: BenchArgs, search: Search) -> anyhow::Result<()> {
    let thread = std::thread::Builder::new().name("bench".into());
    let work = move || {
        // One thread: a worker's time from the socket to the stamp must not have a hop between threads in it.
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        let result = runtime.block_on(async {
            tokio::select! {
                result = dispatch(args, search) => result,
                _ = tokio::signal::ctrl_c() => anyhow::bail!("interrupted: nothing was measured"),
            }
        });
        // A read of standard input would keep the runtime from ending.
        runtime.shutdown_background();
        result
    };
    let handle = thread.spawn(work).context("could not start the benchmark's thread")?;
    handle.join().map_err(|_| anyhow::anyhow!("the benchmark panicked"))?
}

async fn dispatch(args: BenchArgs, search: Search) -> anyhow::Result<()> {
    match args.command {
        BenchCommand::Latency(args) => latency::run(&args, search).await,
        BenchCommand::Memory(args) => memory::run(&args, search).await,
        BenchCommand::Refresh(args) => refresh::run(&args, search).await,
        BenchCommand::Reconnect(args) => reconnect::run(&args, search).await,
        BenchCommand::Match(args) => matching::run(&args),
        BenchCommand::Chaos(args) => chaos::run(&args, search).await,
        BenchCommand::Scale(args) => scale(args, search).await,
        BenchCommand::Worker => worker::run().await,
    }
}

/// Measures what a change and a live query cost, and prints the three reports.
async fn scale(args: ScaleArgs, search: Search) -> anyhow::Result<()> {
    let matching = MatchArgs { json: args.target.json, ..args::defaults()? };
    matching::run(&matching)?;
    let memory = MemoryArgs { target: args.target.clone(), ..args::defaults()? };
    memory::run(&memory, search.clone()).await?;
    let refresh = RefreshArgs { target: args.target, ..args::defaults()? };
    refresh::run(&refresh, search).await
}
