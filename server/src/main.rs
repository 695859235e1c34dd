//! The `convoy` binary: reads the command line, runs the command, ends with its status.

use clap::Parser;
use convoy_server::config::{Cli, Command};
use convoy_server::error::{ServerError, chain};
use convoy_server::{commands, open_files, telemetry};
use std::process::ExitCode;

/// Gives back what a burst of requests, frames and answers took: the system's allocator keeps it, in an arena for each
/// thread (`bench/README.md`, "Memory").
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// What is free for a second goes back to the system, by a thread of the allocator's own; ends with a 0 for C.
// Whoever sets `_RJEM_MALLOC_CONF` overrides it.
#[expect(
    unsafe_code,
    reason = "the allocator finds its settings by the symbol's name, which nothing else has"
)]
#[unsafe(export_name = "_rjem_malloc_conf")]
pub static ALLOCATOR_SETTINGS: &[u8; 60] =
    b"background_thread:true,dirty_decay_ms:1000,muzzy_decay_ms:0\0";

/// How long tasks that block may hold up the end.
const END_MAX: std::time::Duration = std::time::Duration::from_secs(1);

fn main() -> ExitCode {
    // Misuse ends here, with status 2.
    let cli = Cli::parse();
    if let Err(error) = telemetry::start(cli.log_filter()) {
        eprintln!("convoy: {error}");
        return ExitCode::from(2);
    }
    open_files::raise_limit();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("convoy: starting threads: {error}");
            return ExitCode::FAILURE;
        }
    };
    let outcome = runtime.block_on(run(cli.command));
    runtime.shutdown_timeout(END_MAX);
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("convoy: {}", chain(&error));
            ExitCode::from(error.exit_status())
        }
    }
}

async fn run(command: Command) -> Result<(), ServerError> {
    match command {
        Command::Demo(args) => commands::demo::run(args).await,
        Command::Dev(args) => commands::dev::run(*args).await,
        Command::Migrate(args) => commands::migrate::run(args).await,
        Command::Graduate(args) => commands::graduate::run(args).await,
        Command::Serve(args) => commands::serve::run(*args).await,
        Command::Init(args) => commands::init::run(&args),
        Command::Query(args) => commands::query::run(args).await,
        Command::Explain(args) => commands::explain::run(args).await,
        Command::Doctor(args) => commands::doctor::run(args).await,
        Command::Bench(args) => commands::bench::run(args).await,
    }
}
