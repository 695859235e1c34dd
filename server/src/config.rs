//! Options: flags, each with a `CONVOY_…` variable, and what libpq's users expect to be heeded (`PGPASSWORD`, the
//! passfile, …). No other module reads the environment, but for colours (`telemetry.rs`).

use crate::auth::JwtArgs;
use crate::error::ServerError;
use crate::limits::{MemoryLimits, MemoryParts, RequestLimits, seconds, seconds_or_none};
use crate::passfile;
use clap::{Args, Parser, Subcommand};
use convoy_engine::Limits;
use convoy_postgres::launcher::Search;
use convoy_postgres::{BATCH_MAX, SessionOptions};
use convoy_types::DatabaseUrl;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// How long after a statement's time the database may be silent before the read counts as lost.
const READ_SILENCE: Duration = Duration::from_secs(10);
/// Where it listens unless told otherwise.
pub const LISTEN_DEFAULT: &str = "127.0.0.1:4500";

/// Live queries on your own Postgres.
#[derive(Parser, Debug)]
#[command(name = "convoy", version, disable_help_subcommand = true)]
#[command(after_help = "Every option has a variable, named after it: CONVOY_…, as its help says.")]
pub struct Cli {
    /// What to log: error, warn, info, debug, trace, or tracing's directives; info, but warn in `demo`, which says itself
    /// what there is to know
    #[arg(long, global = true, value_name = "FILTER", env = "CONVOY_LOG")]
    pub log: Option<String>,
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Everything with nothing set up: a private Postgres, sample tables, a write load, a live dashboard
    Demo(crate::commands::demo::DemoArgs),
    /// Serves a project while it is being written: watches it, creates its tables, replaces what runs
    Dev(Box<crate::commands::dev::DevArgs>),
    /// Brings what the project's schema declares into a database; creates and never drops
    #[command(visible_alias = "deploy")]
    Migrate(crate::commands::migrate::MigrateArgs),
    /// Prints the SQL that moves a table's documents to columns
    Graduate(crate::commands::graduate::GraduateArgs),
    /// Serves live queries of a database
    Serve(Box<ServeArgs>),
    /// Writes a small project that `convoy dev` runs; leaves alone what is there
    Init(crate::commands::init::InitArgs),
    /// Runs a named query of the project, straight from the database
    Query(crate::commands::query::QueryArgs),
    /// Says how a query would be kept live, and why
    Explain(crate::commands::explain::ExplainArgs),
    /// Checks a database and prints each fix as SQL
    Doctor(crate::commands::doctor::DoctorArgs),
    /// Runs the benchmarks
    Bench(crate::commands::bench::BenchArgs),
}

impl Cli {
    /// Returns what to log.
    pub fn log_filter(&self) -> &str {
        match (&self.log, &self.command) {
            (Some(filter), _) => filter,
            (None, Command::Demo(_)) => "warn,tokio_postgres=error",
            (None, _) => "info,tokio_postgres=warn",
        }
    }
}

/// Which database.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Database")]
pub struct DatabaseArgs {
    /// The database: postgres://user:password@host:5432/name or host=… dbname=…; DATABASE_URL serves too, and what the
    /// URL leaves open is taken from PGHOST, PGUSER, PGPASSWORD, PGPASSFILE and their like
    #[arg(long, value_name = "URL", env = "CONVOY_DATABASE_URL", hide_env_values = true)]
    pub database_url: Option<String>,
    /// The time zone of timestamptz values
    #[arg(long, value_name = "ZONE", default_value = "UTC", env = "CONVOY_TIMEZONE")]
    pub timezone: String,
    /// The role that ad hoc SQL logs in as; its password is in CONVOY_SQL_PASSWORD or the passfile
    #[arg(long, value_name = "ROLE", env = "CONVOY_SQL_ROLE")]
    pub sql_role: Option<String>,
    /// How long one statement may run, in seconds
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = seconds, env = "CONVOY_STATEMENT_TIMEOUT")]
    pub statement_timeout: Duration,
    /// Connections for reads; as many again for --sql-role, and a few beside them
    #[arg(long, value_name = "N", default_value_t = 12, env = "CONVOY_CONNECTIONS")]
    pub connections: usize,
}

/// The options of `serve`.
#[derive(Args, Clone, Debug)]
pub struct ServeArgs {
    /// Which database.
    #[command(flatten)]
    pub database: DatabaseArgs,
    /// The address to listen on; port 0 takes a free one
    #[arg(long, value_name = "ADDR", default_value = LISTEN_DEFAULT, env = "CONVOY_LISTEN")]
    pub listen: SocketAddr,
    /// The project's folder; SIGHUP reads it again, and running subscriptions go over to what changed
    #[arg(long, value_name = "DIR", default_value = ".", env = "CONVOY_PROJECT")]
    pub project: PathBuf,
    /// A folder whose files stand at /, in place of the status page: index.html there, and at paths that name no file
    /// and have no extension; the server's own paths come first
    #[arg(long, value_name = "DIR", env = "CONVOY_PUBLIC")]
    pub public: Option<PathBuf>,
    /// Lets clients send SQL of their own: any SELECT that the role may run
    #[arg(long, value_parser = switch, env = "CONVOY_ALLOW_SQL")]
    pub allow_sql: bool,
    /// A host beside loopback that requests may name; again for more, or with commas
    #[arg(long, value_name = "HOST", value_delimiter = ',', env = "CONVOY_ALLOW_HOST")]
    pub allow_host: Vec<String>,
    /// An origin whose pages may call, like `https://app.example`; again for more, or with commas
    #[arg(long, value_name = "ORIGIN", value_delimiter = ',', env = "CONVOY_ALLOW_ORIGIN")]
    pub allow_origin: Vec<String>,
    /// Keeps this replication slot through a restart, which then need not wait for open transactions; without it the
    /// slot is temporary and goes with the process
    #[arg(long, value_name = "NAME", env = "CONVOY_SLOT")]
    pub slot: Option<String>,
    /// WAL that the engine may be behind, in bytes; past it the slot is dropped and everything is read again
    #[arg(long, value_name = "BYTES", default_value_t = 1 << 30, env = "CONVOY_MAX_LAG")]
    pub max_lag: u64,
    /// WAL that the engine may be behind, in bytes, and still take in each change; past it what was touched is read again
    #[arg(long, value_name = "BYTES", default_value_t = 64 << 20, env = "CONVOY_REFRESH_LAG")]
    pub refresh_lag: u64,
    /// How long the replication connection may be silent, in seconds; then it counts as lost, here and (as its
    /// wal_sender_timeout) at the server, and everything is read again over a new one
    #[arg(long, value_name = "SECONDS", default_value = "15", value_parser = seconds, env = "CONVOY_REPLICATION_TIMEOUT")]
    pub replication_timeout: Duration,
    /// The lag below which the server first calls itself ready, in seconds
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds, env = "CONVOY_READY_LAG")]
    pub ready_lag: Duration,
    /// How callers are identified.
    #[command(flatten)]
    pub jwt: JwtArgs,
    /// The bounds of results.
    #[command(flatten)]
    pub results: ResultLimits,
    /// The bounds of memory.
    #[command(flatten)]
    pub memory: MemoryLimits,
    /// The bounds of requests.
    #[command(flatten)]
    pub limits: RequestLimits,
}

/// The bounds of results, as flags.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Results")]
pub struct ResultLimits {
    /// How long a slow query may hold up its session, in seconds; then it is stale
    #[arg(long, value_name = "SECONDS", default_value = "2", value_parser = seconds, env = "CONVOY_MAX_HOLD")]
    pub max_hold: Duration,
    /// Rows in a result; past it the query fails
    #[arg(long, value_name = "N", default_value_t = 100_000, env = "CONVOY_RESULT_ROWS_MAX")]
    pub result_rows_max: usize,
    /// Bytes in a result; past it the query fails
    #[arg(long, value_name = "BYTES", default_value_t = 16 << 20, env = "CONVOY_RESULT_BYTES_MAX")]
    pub result_bytes_max: usize,
    /// Reads that run at a time
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = at_least_one, env = "CONVOY_READS_MAX")]
    pub reads_max: usize,
    /// Live queries of one template that one statement reads when they are read together; 1 reads each by a statement of
    /// its own
    #[arg(long, value_name = "N", default_value_t = BATCH_MAX, value_parser = at_least_one, env = "CONVOY_BATCH_MAX")]
    pub batch_max: usize,
    /// How long a first answer may take while the database can't be asked, in seconds
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = seconds, env = "CONVOY_FIRST_ANSWER_MAX")]
    pub first_answer_max: Duration,
    /// How often one live query is read again and compared with what is held, in seconds; 0 never. What differs is
    /// logged as an error, counted in `convoy_audit_mismatches_total`, and mended
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = seconds_or_none, env = "CONVOY_AUDIT_INTERVAL")]
    pub audit_interval: Duration,
}

impl Default for ResultLimits {
    fn default() -> Self {
        let limits = Limits::default();
        ResultLimits {
            max_hold: limits.max_hold,
            result_rows_max: limits.result_rows_max,
            result_bytes_max: limits.result_bytes_max,
            reads_max: limits.reads_max,
            batch_max: BATCH_MAX,
            first_answer_max: limits.first_answer_max,
            audit_interval: limits.audit_interval,
        }
    }
}

impl ServeArgs {
    /// Returns the engine's limits, with these parts of memory.
    pub fn engine_limits(&self, memory: &MemoryParts) -> Limits {
        Limits {
            max_hold: self.results.max_hold,
            statement_timeout: self.database.statement_timeout,
            // The server ends statements itself; who says nothing for longer is gone.
            read_silence_max: self.database.statement_timeout + READ_SILENCE,
            result_rows_max: self.results.result_rows_max,
            result_bytes_max: self.results.result_bytes_max,
            memory_bytes_max: memory.results,
            write_log_bytes_max: memory.log,
            // There is either a log or what came before the first snapshot.
            early_bytes_max: memory.log,
            waiting_bytes_max: memory.waiting(),
            reads_max: self.results.reads_max,
            first_answer_max: self.results.first_answer_max,
            audit_interval: self.results.audit_interval,
            // A little sooner than promised: the promise is to the client, and the way there takes time.
            heartbeat: self.limits.heartbeat.mul_f64(0.9),
            ..Limits::default()
        }
    }
}

impl DatabaseArgs {
    /// Returns where the database is.
    ///
    /// # Errors
    /// [`ServerError::Misused`] where nobody says, or where it can't be read.
    pub fn url(&self) -> Result<DatabaseUrl, ServerError> {
        let given = self.database_url.clone().or_else(|| variable("DATABASE_URL"));
        let given = given.or_else(|| {
            (variable("PGHOST").or_else(|| variable("PGDATABASE")))
                .map(|_| "postgres://".to_owned())
        });
        let Some(text) = given else {
            return Err(ServerError::Misused(
                "which database? Give --database-url postgres://user@host/name, or set DATABASE_URL".to_owned(),
            ));
        };
        let defaults = environment_defaults();
        let defaults: Vec<_> =
            defaults.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let mut url = DatabaseUrl::parse_with_defaults(&text, &defaults)
            .map_err(|error| ServerError::Misused(error.to_string()))?;
        if url.password.is_none() {
            url.password = passfile::password(&url)?;
        }
        Ok(url)
    }

    /// Returns whether somebody says which database.
    pub fn is_given(&self) -> bool {
        let variables = ["DATABASE_URL", "PGHOST", "PGDATABASE"];
        self.database_url.is_some() || variables.into_iter().any(|name| variable(name).is_some())
    }

    /// Returns who reads ad hoc SQL, where that is somebody else.
    ///
    /// # Errors
    /// Where the passfile can't be read.
    pub fn ad_hoc_url(&self, url: &DatabaseUrl) -> Result<Option<DatabaseUrl>, ServerError> {
        let Some(role) = &self.sql_role else { return Ok(None) };
        let mut url = DatabaseUrl {
            user: role.clone(),
            password: variable("CONVOY_SQL_PASSWORD"),
            ..url.clone()
        };
        if url.password.is_none() {
            url.password = passfile::password(&url)?;
        }
        Ok(Some(url))
    }

    /// Returns what our sessions have set.
    pub fn session(&self) -> SessionOptions {
        SessionOptions {
            timezone: self.timezone.clone(),
            statement_timeout: self.statement_timeout,
            ..SessionOptions::default()
        }
    }
}

/// Reads the variable of a flag that takes no value: `1`, `true`, `yes`, `on` and their opposites; an empty one is off.
///
/// # Errors
/// Where it is anything else: what turns something on or off is not guessed.
pub fn switch(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "1" | "true" | "yes" | "on" => Ok(true),
        "" | "0" | "false" | "no" | "off" => Ok(false),
        _ => Err("1, true, yes or on, or 0, false, no or off".to_owned()),
    }
}

/// Reads a count of which none is no sense.
fn at_least_one(text: &str) -> Result<usize, String> {
    let count = text.parse().ok().filter(|count| *count > 0);
    count.ok_or_else(|| "a number from 1 on".to_owned())
}

/// Returns an environment variable that is set and not empty.
pub(crate) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Returns where the programs of a private Postgres are looked for.
pub(crate) fn postgres_search(pg_bin: Option<PathBuf>) -> Search {
    let cache = variable("XDG_CACHE_HOME").map(PathBuf::from);
    let home = || variable("HOME").map(|home| PathBuf::from(home).join(".cache"));
    Search {
        pg_bin,
        path: std::env::var_os("PATH"),
        cache_dir: cache.or_else(home),
        ..Search::default()
    }
}

/// Returns what the environment says for parameters that the URL leaves open (PostgreSQL manual, 34.15).
fn environment_defaults() -> Vec<(&'static str, String)> {
    const VARIABLES: [(&str, &str); 11] = [
        ("host", "PGHOST"),
        ("port", "PGPORT"),
        ("dbname", "PGDATABASE"),
        ("user", "PGUSER"),
        ("password", "PGPASSWORD"),
        ("sslmode", "PGSSLMODE"),
        ("sslrootcert", "PGSSLROOTCERT"),
        ("sslcert", "PGSSLCERT"),
        ("sslkey", "PGSSLKEY"),
        ("application_name", "PGAPPNAME"),
        ("connect_timeout", "PGCONNECT_TIMEOUT"),
    ];
    let mut defaults: Vec<_> =
        VARIABLES.iter().filter_map(|(name, key)| Some((*name, variable(key)?))).collect();
    // Last, so that whoever says more wins: the operating system's user.
    if !defaults.iter().any(|(name, _)| *name == "user")
        && let Some(user) = variable("USER").or_else(|| variable("LOGNAME"))
    {
        defaults.push(("user", user));
    }
    defaults
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_option_has_a_variable_and_says_what_it_is() {
        fn check(command: &clap::Command) {
            for argument in command.get_arguments().filter(|argument| argument.get_long().is_some())
            {
                let id = argument.get_id().as_str();
                if matches!(id, "help" | "version") {
                    continue;
                }
                assert!(
                    argument.get_help().is_some(),
                    "{}: --{id} has no help",
                    command.get_name()
                );
                let variable = argument.get_env().map(|name| name.to_string_lossy().into_owned());
                let expected = variable.as_deref().is_some_and(|name| name.starts_with("CONVOY_"));
                assert!(expected, "{}: --{id} has no variable", command.get_name());
            }
            command.get_subcommands().for_each(check);
        }
        check(&Cli::command());
    }

    #[test]
    fn the_defaults_of_flags_are_those_of_the_limits() {
        let cli = Cli::try_parse_from(["convoy", "serve"]).expect("good");
        let Command::Serve(args) = cli.command else { panic!("serve") };
        assert_eq!(format!("{:?}", args.limits), format!("{:?}", RequestLimits::default()));
        assert_eq!(format!("{:?}", args.memory), format!("{:?}", MemoryLimits::default()));
        let parts = args.memory.parts().expect("shares");
        let (flags, limits) = (args.engine_limits(&parts), Limits::default());
        assert_eq!(flags.memory_bytes_max, limits.memory_bytes_max);
        assert_eq!(flags.write_log_bytes_max, limits.write_log_bytes_max);
        assert_eq!(flags.early_bytes_max, limits.early_bytes_max);
        assert_eq!(flags.waiting_bytes_max, limits.waiting_bytes_max);
        assert_eq!(format!("{:?}", args.results), format!("{:?}", ResultLimits::default()));
    }
}
