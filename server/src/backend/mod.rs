//! A project's functions at work: its queries as the engine's live queries, its mutations as transactions.
//!
//! `convoy-functions` runs them and knows no database; `convoy-schema` is their `ctx.db` and knows no JavaScript. Here
//! they meet: `host` is what one call may ask, `queries` runs calls at a read's snapshot, `mutations` in a transaction
//! of their own, `identify` runs `createContext`, `record` remembers which mutations were done and `positions` where,
//! `tables` is how the tables stand, `console` is what they say.

mod console;
mod failure;
mod host;
mod identify;
mod late;
mod loader;
mod mutations;
mod positions;
mod queries;
mod record;
mod tables;

pub(crate) use late::LateFunctions;
pub(crate) use loader::{Loader, migrate, schema};

use crate::auth::{Identify, JwtHost};
use crate::mutations::Backend;
use crate::pipeline::EventQueue;
use crate::project::{NamedQueries, ProjectError};
use convoy_engine::{Event, Statement};
use convoy_functions::{FunctionKind, Project, Runtime, Visibility};
use convoy_postgres::Pool;
use failure::Failures;
use positions::Positions;
use std::collections::HashMap;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use std::time::{SystemTime, UNIX_EPOCH};
use tables::OpenTables;

/// Recorded statements that are kept read, so that each call need not read its own again.
const STATEMENTS_MAX: usize = 4096;

/// What a watched `createContext` is called among the live queries: no query can have this name.
const WATCHED_CONTEXT: &str = "createContext()";

/// What all calls of a project's functions share.
pub(crate) struct Functions {
    runtime: Runtime,
    tables: RwLock<Arc<OpenTables>>,
    /// Who looks them up again.
    renewing: tokio::sync::Mutex<()>,
    pool: Pool,
    jwt: Arc<JwtHost>,
    queue: OnceLock<Arc<EventQueue>>,
    statements: Mutex<HashMap<String, Arc<Statement>>>,
    /// What stands for `createContext` where it is watched.
    identity: Arc<Statement>,
    failures: Failures,
    positions: Positions,
}

impl fmt::Debug for Functions {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Functions").finish_non_exhaustive()
    }
}

impl Functions {
    /// Returns the functions of a runtime's project, with the tables that they use, on these connections.
    fn new(runtime: Runtime, tables: OpenTables, pool: Pool, jwt: JwtHost) -> Arc<Functions> {
        Arc::new(Functions {
            runtime,
            tables: RwLock::new(Arc::new(tables)),
            renewing: tokio::sync::Mutex::default(),
            pool,
            jwt: Arc::new(jwt),
            queue: OnceLock::new(),
            statements: Mutex::default(),
            identity: Arc::new(Statement::identity(WATCHED_CONTEXT)),
            failures: Failures::default(),
            positions: Positions::default(),
        })
    }

    /// Returns them as what the server works with.
    pub(crate) fn backend(self: &Arc<Self>) -> Backend {
        // Decided once: a `createContext` that comes later is not asked until the next start (`loader` says so).
        let identify: Option<Arc<dyn Identify>> =
            self.project().has_context().then(|| self.clone() as Arc<dyn Identify>);
        Backend { functions: self.clone(), mutations: self.clone(), identify }
    }

    /// Returns the version of the project that calls run by.
    pub(crate) fn project(&self) -> Arc<Project> {
        self.runtime.project()
    }

    /// Puts a new version of the project in the place of the one before, for calls that begin from now on.
    fn swap(&self, project: Arc<Project>, tables: Arc<OpenTables>) {
        let is_other_context = project.context_version() != self.project().context_version();
        self.runtime.swap(project);
        *self.tables.write().unwrap_or_else(PoisonError::into_inner) = tables;
        if let Some(queue) = self.queue.get().filter(|_| is_other_context) {
            queue.push_control(Event::IdentitiesDoubted);
        }
    }

    /// Returns what a call has at `ctx.auth`. Where the project says who calls, nobody is null.
    fn auth_of(&self, identity: Option<&str>) -> Option<String> {
        let nobody = || self.project().has_context().then(|| "null".to_owned());
        identity.map(str::to_owned).or_else(nobody)
    }

    fn tables(&self) -> Arc<OpenTables> {
        self.tables.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Adds a project's query functions to its named queries: clients name both alike.
///
/// # Errors
/// Where a name is that of a `.sql` file too.
pub(crate) fn add_queries(
    queries: &mut NamedQueries,
    project: &Project,
    folder: &Path,
) -> Result<(), ProjectError> {
    let versions = project.versions();
    let is_query = |kind: FunctionKind| kind == FunctionKind::Query;
    for function in project.functions().values() {
        if is_query(function.kind) && function.visibility == Visibility::Public {
            let version = versions.get(&function.file).map_or("", String::as_str);
            let statement = Arc::new(Statement::function(&function.name, version));
            queries.add_function(&function.name, statement, &function.file, folder)?;
        }
    }
    Ok(())
}

/// Returns what `Date.now()` is in a call that begins now.
fn now_ms() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_millis() as f64)
}

/// Returns what a call's chance is made of. Queries have the same each time, so that nothing but data changes results.
fn seed_of(name: &str, args: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    (name, args).hash(&mut hasher);
    hasher.finish()
}
