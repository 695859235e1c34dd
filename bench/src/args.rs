//! The command line of `convoy bench`.

use crate::chaos::Case;
use clap::builder::FalseyValueParser;
use clap::{Args, Parser, Subcommand, value_parser};
use std::num::NonZeroU32;

/// Measures Convoy on this machine.
#[derive(Args, Debug)]
pub struct BenchArgs {
    #[command(subcommand)]
    pub(crate) command: BenchCommand,
}

#[derive(Subcommand, Debug)]
pub(crate) enum BenchCommand {
    /// COMMIT to subscriber, against a bare replication client
    Latency(LatencyArgs),
    /// Resident memory a live query, and how long it takes to subscribe
    Memory(MemoryArgs),
    /// Many invalidated live queries read again, together against one by one
    Refresh(RefreshArgs),
    /// Very many sessions whose streams break at once, and that come back within a second: to the server that they know,
    /// and to one that has just begun
    Reconnect(ReconnectArgs),
    /// What a row change costs the index of live queries, against bare maps; needs no database
    Match(MatchArgs),
    /// Floods: huge transactions, many commits, slow readers; what becomes of everybody else, and whether all end up right
    Chaos(ChaosArgs),
    /// What a change and a live query cost, by how many there are: match, memory and refresh, one after the other, each with
    /// its defaults and CONVOY_BENCH_… variables
    Scale(ScaleArgs),
    /// One of the processes that a benchmark consists of; told what to do on standard input
    #[command(hide = true)]
    Worker,
}

/// A benchmark's own options, by themselves.
#[derive(Debug, Parser)]
struct Alone<T: Args> {
    #[command(flatten)]
    args: T,
}

/// Returns a benchmark's options where none is given: the defaults and the environment's.
///
/// # Errors
/// What in the environment is not understood.
pub(crate) fn defaults<T: Args>() -> Result<T, clap::Error> {
    Ok(Alone::<T>::try_parse_from(["bench"])?.args)
}

/// Which database is measured.
#[derive(Args, Clone, Debug, Default)]
pub struct TargetArgs {
    /// The database to measure; the schema convoy_bench is made in it and dropped again. Without one, a private
    /// Postgres is started, with fsync on. DATABASE_URL is not read: a benchmark writes
    #[arg(long, value_name = "URL", env = "CONVOY_BENCH_DATABASE_URL", hide_env_values = true)]
    pub database_url: Option<String>,
    /// Print the report as JSON
    #[arg(long, value_parser = FalseyValueParser::new(), env = "CONVOY_BENCH_JSON")]
    pub json: bool,
}

/// What costs are measured on.
#[derive(Args, Clone, Debug)]
pub struct ScaleArgs {
    /// Which database.
    #[command(flatten)]
    pub target: TargetArgs,
}

/// How latency is measured.
#[derive(Args, Clone, Debug)]
pub struct LatencyArgs {
    /// Which database.
    #[command(flatten)]
    pub target: TargetArgs,
    /// Commits a second; several rates are measured one after the other
    #[arg(
        long,
        value_name = "N,…",
        value_delimiter = ',',
        default_value = "100,1000",
        env = "CONVOY_BENCH_RATES"
    )]
    pub rates: Vec<NonZeroU32>,
    /// Connections of the writer, which take turns: so a disk that needs longer than from one commit to the next does
    /// not slow the writer down
    #[arg(long, value_name = "N", default_value = "8", env = "CONVOY_BENCH_CONNECTIONS")]
    pub connections: NonZeroU32,
    /// Subscribers, each with a query of its own
    #[arg(long, value_name = "N", default_value = "100", env = "CONVOY_BENCH_SUBSCRIBERS")]
    pub subscribers: NonZeroU32,
    /// Interleaved pairs: how often each side is measured
    #[arg(long, value_name = "N", default_value = "5", env = "CONVOY_BENCH_PAIRS")]
    pub pairs: NonZeroU32,
    /// How long each side of a pair is measured, in seconds
    #[arg(long, value_name = "SECONDS", default_value = "5", env = "CONVOY_BENCH_SECONDS")]
    pub seconds: NonZeroU32,
    /// How long the writer writes before that, in seconds
    #[arg(long, value_name = "SECONDS", default_value = "2", env = "CONVOY_BENCH_WARM_UP")]
    pub warm_up: u32,
}

/// How memory is measured.
#[derive(Args, Clone, Debug)]
pub struct MemoryArgs {
    /// Which database.
    #[command(flatten)]
    pub target: TargetArgs,
    /// Live queries in all, of one template
    #[arg(long, value_name = "N", default_value = "10000", env = "CONVOY_BENCH_QUERIES")]
    pub queries: NonZeroU32,
    /// Rows of each result, 100 bytes as JSON each
    #[arg(long, value_name = "N", default_value = "10", env = "CONVOY_BENCH_ROWS")]
    pub rows: NonZeroU32,
    /// Sessions that they are spread over
    #[arg(long, value_name = "N", default_value = "10", env = "CONVOY_BENCH_SESSIONS")]
    pub sessions: NonZeroU32,
    /// How often, each time with a new server
    #[arg(long, value_name = "N", default_value = "5", env = "CONVOY_BENCH_RUNS")]
    pub runs: NonZeroU32,
}

/// How refreshes are measured.
#[derive(Args, Clone, Debug)]
pub struct RefreshArgs {
    /// Which database.
    #[command(flatten)]
    pub target: TargetArgs,
    /// Live queries in all, of one template
    #[arg(long, value_name = "N", default_value = "1000", env = "CONVOY_BENCH_QUERIES")]
    pub queries: NonZeroU32,
    /// Rows that each query sums up: the more, the less it matters how many statements read them
    #[arg(long, value_name = "N", default_value = "1", env = "CONVOY_BENCH_ROWS")]
    pub rows: NonZeroU32,
    /// Commits of a phase, each of which invalidates all of them
    #[arg(long, value_name = "N", default_value = "10", env = "CONVOY_BENCH_REFRESHES")]
    pub refreshes: NonZeroU32,
    /// Interleaved pairs: how often each way is measured, each time with a new server
    #[arg(long, value_name = "N", default_value = "5", env = "CONVOY_BENCH_PAIRS")]
    pub pairs: NonZeroU32,
}

/// How coming back is measured.
#[derive(Args, Clone, Debug)]
pub struct ReconnectArgs {
    /// Which database.
    #[command(flatten)]
    pub target: TargetArgs,
    /// Sessions, of one subscription each
    #[arg(long, value_name = "N", default_value = "10000", env = "CONVOY_BENCH_SESSIONS")]
    pub sessions: NonZeroU32,
    /// Live queries that they share, half of them kept from the WAL and half read again
    #[arg(long, value_name = "N", default_value = "100", env = "CONVOY_BENCH_QUERIES")]
    pub queries: NonZeroU32,
}

/// How matching is measured.
#[derive(Args, Clone, Debug)]
pub struct MatchArgs {
    /// The most live queries; the sweep begins at 10 and goes by powers of ten
    #[arg(long, value_name = "N", default_value = "1000000", env = "CONVOY_BENCH_QUERIES_MAX")]
    pub queries_max: NonZeroU32,
    /// Pairs of the index and the bare structure
    #[arg(long, value_name = "N", default_value = "7", env = "CONVOY_BENCH_PAIRS")]
    pub pairs: NonZeroU32,
    /// Print the report as JSON
    #[arg(long, value_parser = FalseyValueParser::new(), env = "CONVOY_BENCH_JSON")]
    pub json: bool,
}

/// How it is flooded.
#[derive(Args, Clone, Debug)]
pub struct ChaosArgs {
    /// Which database.
    #[command(flatten)]
    pub target: TargetArgs,
    /// What to do; all of it where nothing is named
    #[arg(value_name = "CASE", env = "CONVOY_BENCH_CASES", value_delimiter = ',')]
    pub cases: Vec<Case>,
    /// Rows of the huge transaction
    #[arg(long, value_name = "N", default_value = "5000000", value_parser = value_parser!(u32).range(1..), env = "CONVOY_BENCH_ROWS")]
    pub rows: u32,
    /// WAL of the wide transaction, in bytes
    #[arg(
        long,
        value_name = "BYTES",
        default_value = "2147483648",
        env = "CONVOY_BENCH_WAL_BYTES"
    )]
    pub wal_bytes: u64,
    /// Commits a second that are tried for
    #[arg(long, value_name = "N", default_value = "10000", value_parser = value_parser!(u32).range(1..), env = "CONVOY_BENCH_RATE")]
    pub rate: u32,
    /// Connections that they come over
    #[arg(long, value_name = "N", default_value = "16", value_parser = value_parser!(u32).range(1..), env = "CONVOY_BENCH_CONNECTIONS")]
    pub connections: u32,
    /// Readers that are slow, or watch one row
    #[arg(long, value_name = "N", default_value = "1000", value_parser = value_parser!(u32).range(1..), env = "CONVOY_BENCH_READERS")]
    pub readers: u32,
    /// Rows that each slow reader watches, half of which change ten times a second
    #[arg(
        long,
        value_name = "N",
        default_value = "200",
        value_parser = value_parser!(u32).range(1..),
        env = "CONVOY_BENCH_READER_ROWS"
    )]
    pub reader_rows: u32,
    /// Rows of the large result
    #[arg(long, value_name = "N", default_value = "100000", value_parser = value_parser!(u32).range(1..), env = "CONVOY_BENCH_RESULT_ROWS")]
    pub result_rows: u32,
    /// Updates of one row a second
    #[arg(long, value_name = "N", default_value = "1000", value_parser = value_parser!(u32).range(1..), env = "CONVOY_BENCH_UPDATES")]
    pub updates: u32,
    /// How long what goes on for a while does, in seconds
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = seconds, env = "CONVOY_BENCH_SECONDS")]
    pub seconds: f64,
    /// How long nothing is done before and after, in seconds, to compare with
    #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = seconds, env = "CONVOY_BENCH_QUIET")]
    pub quiet: f64,
    /// How long everyone may take to end up right, in seconds
    #[arg(long, value_name = "SECONDS", default_value = "180", value_parser = seconds, env = "CONVOY_BENCH_PATIENCE")]
    pub patience: f64,
    /// An option for `convoy serve`; again for more: --serve=--memory-limit=100000000
    #[arg(
        long = "serve",
        value_name = "OPTION",
        env = "CONVOY_BENCH_SERVE",
        value_delimiter = ' '
    )]
    pub serve_options: Vec<String>,
    /// Throws a diff away, so that the comparison at the end has something to find
    #[arg(long, hide = true, value_parser = FalseyValueParser::new(), env = "CONVOY_BENCH_LOSE_ONE")]
    pub lose_one: bool,
}

/// Reads a number of seconds.
fn seconds(text: &str) -> Result<f64, String> {
    let seconds = text.parse().ok().filter(|seconds| (0.0..1e6).contains(seconds));
    seconds.ok_or_else(|| "a number of seconds, like 15 or 0.5".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        bench: BenchArgs,
    }

    #[test]
    fn defaults_are_the_documented_workload() {
        let cli = Cli::try_parse_from(["bench", "latency"]).expect("good");
        let BenchCommand::Latency(args) = cli.bench.command else { panic!("another command") };
        assert_eq!(args.rates.iter().map(|rate| rate.get()).collect::<Vec<_>>(), [100, 1000]);
        assert_eq!((args.subscribers.get(), args.pairs.get()), (100, 5));
    }

    #[test]
    fn a_rate_of_zero_is_refused() {
        assert!(Cli::try_parse_from(["bench", "latency", "--rates", "0"]).is_err());
        assert_eq!(defaults::<MemoryArgs>().expect("defaults").rows.get(), 10);
    }

    #[test]
    fn a_flood_of_nothing_is_refused() {
        for wrong in [["--rate", "0"], ["--seconds", "-1"], ["--seconds", "nan"], ["--rows", "0"]] {
            let args = ["bench", "chaos"].into_iter().chain(wrong);
            assert!(Cli::try_parse_from(args).is_err(), "{wrong:?}");
        }
        let args = defaults::<ChaosArgs>().expect("defaults");
        assert!(args.cases.is_empty() && args.rows == 5_000_000);
    }

    #[test]
    fn workers_are_not_in_the_help() {
        let help = Cli::try_parse_from(["bench", "--help"]).err().expect("help").to_string();
        assert!(help.contains("latency") && !help.contains("worker"), "{help}");
    }
}
