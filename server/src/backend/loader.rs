//! A project's functions, read and put to work: the first time, and again whenever the project is read again.

use super::tables::OpenTables;
use super::{Functions, add_queries, console, record};
use crate::auth::JwtHost;
use crate::error::{ServerError, chain};
use crate::loading::Tables;
use crate::project::{Failure, NamedQueries, ProjectError, root};
use convoy_codegen::FunctionEntry;
use convoy_functions::{
    FunctionInfo, FunctionKind, Limits, ModuleCache, Project, Runtime, Visibility,
};
use convoy_postgres::{Pool, SessionOptions, connect};
use convoy_schema::{Plan, Schema, Store};
use convoy_types::DatabaseUrl;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tracing::{info, warn};

/// Mutations that run at a time, a connection each. Further ones wait.
const CONNECTIONS: usize = 8;
/// How long a mutation waits for one.
const CONNECTION_WAIT_MAX: Duration = Duration::from_secs(10);

/// Reads a project's functions.
pub(crate) struct Loader {
    folder: PathBuf,
    url: DatabaseUrl,
    session: SessionOptions,
    tables: Tables,
    limits: Limits,
    cache: Arc<ModuleCache>,
    functions: Arc<Functions>,
    /// Whether the functions could not be taken in when they were last read.
    is_behind: AtomicBool,
}

impl Loader {
    /// Reads a project's functions for the first time, with the tables that they use.
    ///
    /// # Errors
    /// What is not in order, in the project or in the database.
    pub(crate) async fn open(
        folder: &Path,
        url: &DatabaseUrl,
        session: &SessionOptions,
        tables: Tables,
    ) -> Result<Loader, ServerError> {
        let (limits, cache) = (Limits::default(), Arc::new(ModuleCache::default()));
        let project = read(folder, &limits, &cache).await?;
        let (opened, plan) = open_tables(&project, url, session, tables).await?;
        tell(&plan, tables);
        let pool = Pool::new(url.clone(), session.clone(), CONNECTIONS, CONNECTION_WAIT_MAX);
        let (runtime, jwt) = (Runtime::new(project, limits.clone()), JwtHost::new(&root(folder)));
        let functions = Functions::new(runtime, opened, pool, jwt);
        Ok(Loader {
            folder: folder.to_owned(),
            url: url.clone(),
            session: session.clone(),
            tables,
            limits,
            cache,
            functions,
            is_behind: AtomicBool::new(false),
        })
    }

    /// Returns whether the functions could not be taken in when they were last read.
    pub(crate) fn is_behind(&self) -> bool {
        self.is_behind.load(Ordering::Relaxed)
    }

    /// Returns whether functions that could not be taken in can be read now.
    pub(crate) async fn has_mended(&self) -> bool {
        self.is_behind() && read(&self.folder, &self.limits, &self.cache).await.is_ok()
    }

    /// Returns whether a folder's functions can be read.
    pub(crate) async fn can_read(folder: &Path) -> bool {
        read(folder, &Limits::default(), &Arc::default()).await.is_ok()
    }

    /// Returns the functions that it reads.
    pub(crate) fn functions(&self) -> &Arc<Functions> {
        &self.functions
    }

    /// Returns the functions as generated code knows them.
    pub(crate) fn entries(&self) -> Vec<FunctionEntry> {
        let project = self.functions.project();
        let entry = |function: &FunctionInfo| FunctionEntry {
            name: function.name.clone(),
            kind: match function.kind {
                FunctionKind::Query => convoy_codegen::FunctionKind::Query,
                FunctionKind::Mutation => convoy_codegen::FunctionKind::Mutation,
            },
            visibility: match function.visibility {
                Visibility::Public => convoy_codegen::Visibility::Public,
                Visibility::Internal => convoy_codegen::Visibility::Internal,
            },
            module: Path::new(&function.file).with_extension("").display().to_string(),
            export: function.export.clone(),
        };
        project.functions().values().map(entry).collect()
    }

    /// Adds the project's query functions to its queries. Where something is not in order, the version before goes on.
    pub(crate) async fn load(&self, queries: &mut NamedQueries, failures: &mut Vec<Failure>) {
        let outcome = self.take_in(queries).await;
        self.is_behind.store(outcome.is_err(), Ordering::Relaxed);
        let Err(error) = outcome else { return };
        warn!("the functions stay as they were: {}", chain(&error));
        let (message, twice) = match &error {
            ServerError::Project(ProjectError::Twice { name, first, second }) => {
                let shown = |path: &Path| {
                    path.strip_prefix(root(&self.folder)).unwrap_or(path).display().to_string()
                };
                let (first, second) = (shown(first), shown(second));
                (format!("{second}: {first} defines the query {name} too"), Some(name))
            }
            error => (chain(error).to_string(), None),
        };
        let before = self.functions.project();
        let is_query = |kind| kind == FunctionKind::Query;
        let known = before.functions().values().filter(|function| {
            is_query(function.kind)
                && function.visibility == Visibility::Public
                && Some(&function.name) != twice
        });
        let known = known.map(|function| (&function.name, function.file.clone()));
        let twice = twice.map(|name| (name, String::new()));
        failures.extend(known.chain(twice).map(|(name, file)| Failure {
            name: Some(name.clone()),
            file,
            error: ProjectError::Functions { message: message.clone() },
        }));
    }

    async fn take_in(&self, queries: &mut NamedQueries) -> Result<(), ServerError> {
        let before = self.functions.project();
        let mut project = read(&self.folder, &self.limits, &self.cache).await?;
        if project.version() == before.version() {
            project = before;
        } else {
            let opened = if project.schema() == before.schema() {
                // They stand, and their documents may be too many to be counted at each save.
                self.functions.tables()
            } else {
                let (opened, plan) =
                    open_tables(&project, &self.url, &self.session, self.tables).await?;
                tell(&plan, self.tables);
                Arc::new(opened)
            };
            let mut trial = queries.clone();
            add_queries(&mut trial, &project, &self.folder)?;
            if project.has_context() != before.has_context() {
                warn!(
                    "createContext came or went: whether callers are told apart changes when convoy is started again"
                );
            }
            self.functions.swap(project.clone(), opened);
        }
        Ok(add_queries(queries, &project, &self.folder)?)
    }
}

async fn read(
    folder: &Path,
    limits: &Limits,
    cache: &Arc<ModuleCache>,
) -> Result<Arc<Project>, ServerError> {
    let (in_folder, limits, cache) = (folder.to_owned(), limits.clone(), cache.clone());
    let load = move || Project::load(&in_folder, &limits, &cache);
    let loaded = tokio::task::spawn_blocking(load).await;
    let failed = |message: String| ServerError::Project(ProjectError::Functions { message });
    match loaded {
        Ok(Ok(project)) => {
            project.logged().iter().for_each(|line| console::write("", line));
            Ok(Arc::new(project))
        }
        Ok(Err(error)) => Err(failed(format!("{}{}", chain(&error), may_be_none(folder)))),
        Err(error) => Err(failed(error.to_string())),
    }
}

/// Returns what to say where a folder has functions and may not be a project: others call a folder so, too.
fn may_be_none(folder: &Path) -> &'static str {
    let is_sure = root(folder) != folder
        || ["schema.ts", "server.ts"].iter().any(|file| folder.join(file).is_file());
    if is_sure || !folder.join("functions").is_dir() {
        return "";
    }
    "\nfunctions/ is taken for a project's here; where it is not, name another folder: --project DIR"
}

/// Returns what a project's `schema.ts` declares.
///
/// # Errors
/// What is not in order in the project.
pub(crate) async fn schema(folder: &Path) -> Result<Schema, ServerError> {
    let project = read(folder, &Limits::default(), &Arc::new(ModuleCache::default())).await?;
    Ok(Schema::from_json(project.schema())?)
}

/// What a project's schema and a database differ in.
pub(crate) struct Differences {
    /// In words, a line each.
    pub text: String,
    /// Whether anything was, or is, to be created.
    pub has_steps: bool,
}

/// Brings a project's schema into a database, or only says what that would take.
///
/// # Errors
/// What is not in order, in the project or in the database.
pub(crate) async fn migrate(
    folder: &Path,
    url: &DatabaseUrl,
    session: &SessionOptions,
    dry_run: bool,
) -> Result<Differences, ServerError> {
    let project = read(folder, &Limits::default(), &Arc::new(ModuleCache::default())).await?;
    let tables = if dry_run { Tables::Look } else { Tables::Create };
    let (_, plan) = open_tables(&project, url, session, tables).await?;
    Ok(Differences { text: plan.render(), has_steps: !plan.is_empty() })
}

/// Returns the tables that a project's functions use, and what was, or is, to be done about them.
async fn open_tables(
    project: &Project,
    url: &DatabaseUrl,
    session: &SessionOptions,
    tables: Tables,
) -> Result<(OpenTables, Plan), ServerError> {
    let schema = Arc::new(Schema::from_json(project.schema())?);
    let mut connection = connect(url, session).await?;
    let client = connection.client_mut().expect("nobody else has it");
    if tables != Tables::Look {
        client.batch_execute(record::CREATE_SQL).await?;
    }
    let plan = convoy_schema::plan(client, &schema).await?;
    if tables == Tables::Create {
        convoy_schema::apply(client, &plan).await?;
    }
    let store = Store::load(client, schema.clone()).await?;
    Ok((OpenTables::new(schema, store), plan))
}

/// Says what was done about the tables, or is to be done.
fn tell(plan: &Plan, tables: Tables) {
    match tables {
        _ if plan.is_empty() && plan.warnings.is_empty() => {}
        Tables::Create => info!("tables:\n{}", plan.render()),
        Tables::Check | Tables::Look if plan.is_empty() => warn!("tables:\n{}", plan.render()),
        Tables::Check | Tables::Look => {
            warn!("tables are missing: run convoy migrate\n{}", plan.render())
        }
    }
}
