//! The `convoy` binary: reads the command line, runs the command, ends with its status.

use clap::Parser;
use convoy_server::config::{Cli, Command};
use convoy_server::error::{ServerError, chain};
use convoy_server::{commands, telemetry};
use std::process::ExitCode;

/// How long tasks that block may hold up the end.
const END_MAX: std::time::Duration = std::time::Duration::from_secs(1);

fn main() -> ExitCode {
    // Misuse ends here, with status 2.
    let cli = Cli::parse();
    if let Err(error) = telemetry::start(cli.log_filter()) {
        eprintln!("convoy: {error}");
        return ExitCode::from(2);
    }
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
        Command::Serve(args) => commands::serve::run(*args).await,
        Command::Query(args) => commands::query::run(args).await,
        Command::Explain(args) => commands::explain::run(args).await,
        Command::Doctor(args) => commands::doctor::run(args).await,
        Command::Bench(args) => commands::bench::run(args).await,
    }
}
