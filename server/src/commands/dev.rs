//! `convoy dev`: the project served while it is being written. Tables are created, code is generated and what runs is
//! replaced with each save; without a database there is one of its own.

use crate::app::FrontPage;
use crate::config::{ServeArgs, postgres_search};
use crate::demo::settings;
use crate::error::{ServerError, chain};
use crate::generation::Generator;
use crate::listener::bind_next;
use crate::loading::{OpenProject, ProjectLoader, Runs, Tables, has_project};
use crate::project::{Failure, NamedQueries, ProjectError};
use crate::reload::{RETRY_DELAY, reload_on};
use crate::saves::Saves;
use crate::serve::{ServeOptions, Server};
use crate::shutdown;
use axum::Router;
use clap::Args;
use convoy_codegen::FunctionEntry;
use convoy_postgres::launcher::{Fsync, LaunchOptions, PrivatePostgres, Reporter};
use convoy_types::DatabaseUrl;
use std::path::PathBuf;
use tokio::sync::watch;
use tokio::time::sleep;
use tracing::{info, warn};

/// The database of a private Postgres: the one that there is.
const DATABASE: &str = "postgres";
/// Where a project's own data are, and its pages.
const DATA: &str = ".convoy/postgres";
const PUBLIC: &str = "public";

/// Watches the project, creates its tables, serves it
#[derive(Args, Debug)]
pub struct DevArgs {
    /// What to serve, and how.
    #[command(flatten)]
    pub serve: ServeArgs,
    /// The folder of the private Postgres that serves where no database is given; its data stay
    #[arg(long, value_name = "DIR", env = "CONVOY_DATA")]
    pub data: Option<PathBuf>,
    /// Creates tables and generates code once, and ends
    #[arg(long, env = "CONVOY_ONCE")]
    pub once: bool,
    /// Watches, creates tables and generates code, and serves nothing
    #[arg(long, env = "CONVOY_NO_SERVE")]
    pub no_serve: bool,
    /// Writes nothing, and ends with 1 where what was generated is not what would be; for tests of a change
    #[arg(long, env = "CONVOY_CHECK")]
    pub check: bool,
}

/// Serves a project until a signal comes.
///
/// # Errors
/// Whatever keeps it from serving.
pub async fn run(args: DevArgs) -> Result<(), ServerError> {
    let DevArgs { mut serve, data, once, no_serve, check } = args;
    let system = |doing| move |source| ServerError::System { doing, source };
    let stopping = shutdown::listen().map_err(system("listening for signals"))?;
    if !serve.project.is_dir() {
        return Err(ProjectError::NoFolder { path: serve.project }.into());
    }
    // What only looks leaves nothing behind, and does not meet the Postgres of a `dev` that serves.
    let data = (!check).then(|| data.unwrap_or_else(|| serve.project.join(DATA)));
    let (url, postgres) = match serve.database.is_given() {
        true => (serve.database.url()?, None),
        false => {
            let postgres = tokio::select! {
                started = private_postgres(data) => started?,
                () = shutdown::begun(stopping.clone()) => return Ok(()),
            };
            let url = DatabaseUrl::parse_with_defaults(&postgres.url(DATABASE), &[])
                .map_err(|error| ServerError::Misused(error.to_string()))?;
            (url, Some(postgres))
        }
    };
    if !check
        && let Some(psql) = postgres.as_ref().and_then(|postgres| postgres.psql_line(DATABASE))
    {
        info!("a Postgres of its own: {psql}");
    }
    let public = serve.project.join(PUBLIC);
    if serve.public.is_none() && public.is_dir() {
        serve.public = Some(public);
    }
    // Whoever develops may look into his own database, from this machine.
    serve.allow_sql |= serve.listen.ip().is_loopback();
    let task = match (check, once, no_serve) {
        (true, ..) => Task::Check,
        (false, true, _) => Task::Sync,
        (false, false, true) => Task::Watch,
        (false, false, false) => Task::Serve,
    };
    // A check writes nothing in somebody's database; without tables it could not tell what queries give.
    let tables = match task == Task::Check && postgres.is_none() {
        true => Tables::Look,
        false => Tables::Create,
    };
    let outcome = develop(serve, url, postgres.is_some(), (task, tables), stopping).await;
    if let Some(postgres) = postgres
        && let Err(error) = postgres.stop().await
    {
        warn!(error = %chain(&error), "the private Postgres");
    }
    outcome
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Task {
    /// It is said whether the generated code is what would be generated.
    Check,
    /// Tables and code are written, once.
    Sync,
    /// They are, at each save.
    Watch,
    /// The same, and the project is served.
    Serve,
}

async fn develop(
    args: ServeArgs,
    url: DatabaseUrl,
    is_own_postgres: bool,
    (task, tables): (Task, Tables),
    stopping: watch::Receiver<bool>,
) -> Result<(), ServerError> {
    let folder = args.project.clone();
    let session = args.database.session();
    let generator = Generator::new(&folder, &url, &session);
    if task != Task::Check {
        generator.prepare()?;
    }
    if !has_project(&folder) {
        let shown = folder.display();
        match task {
            Task::Check | Task::Sync => {
                warn!("there is no project in {shown}: convoy init writes one")
            }
            Task::Watch | Task::Serve => info!(
                "there is no project in {shown} yet: convoy init writes one, and each save is taken in"
            ),
        }
    }
    // What a project that is watched has not it may have with the next save.
    let runs = match task {
        Task::Check | Task::Sync => Runs::WhatIsThere,
        Task::Watch | Task::Serve => Runs::WhatComes,
    };
    let OpenProject { queries, backend, mut loader } = tokio::select! {
        opened = OpenProject::open(&folder, &url, &session, tables, runs) => opened?,
        () = shutdown::begun(stopping.clone()) => return Ok(()),
    };
    if task == Task::Check {
        return check(&generator, &queries, loader.function_entries()).await;
    }
    if task == Task::Sync {
        let changed = generator.write(&queries, loader.function_entries()).await?;
        if !changed.is_empty() {
            info!("generated {}", changed.join(", "));
        }
        return Ok(());
    }
    // Where that fails, a table is missing, say, which somebody makes by hand: in the Postgres that would end with this.
    loader.generate_with(generator);
    loader.generate(&queries).await;
    let saves = Saves::of(&folder)?;
    if task == Task::Watch {
        tokio::select! {
            () = keep_written(saves, loader) => {}
            () = shutdown::begun(stopping) => {}
        }
        return Ok(());
    }
    let listener = bind_next(args.listen).await?;
    let ad_hoc_url = args.database.ad_hoc_url(&url)?;
    let options = ServeOptions {
        front_page: FrontPage::of(args.public.as_deref())?,
        args,
        url,
        ad_hoc_url,
        queries,
        backend,
        loopback_origins: true,
        is_own_postgres,
        extra: Router::new(),
    };
    let mut server = tokio::select! {
        server = Server::start(listener, options) => server?,
        () = shutdown::begun(stopping.clone()) => return Ok(()),
    };
    info!("serving http://{}", server.address());
    let app = server.app().clone();
    let outcome = tokio::select! {
        () = shutdown::begun(stopping) => Ok(()),
        failure = server.failed() => Err(failure),
        () = reload_on(saves, app, loader) => Ok(()),
    };
    server.stop().await;
    outcome
}

/// Keeps tables and code what the project says, for whoever serves it. Never ends.
async fn keep_written(mut saves: Saves, project: ProjectLoader) {
    info!("watching {}", project.folder().display());
    loop {
        tokio::select! {
            _ = saves.next() => {}
            () = sleep(RETRY_DELAY), if project.is_behind() => {
                if !project.is_generation_behind() && !project.has_mended().await {
                    continue;
                }
            }
        }
        match project.load_what_is_good().await {
            Ok((_, failures)) => {
                for Failure { error, .. } in failures {
                    warn!(error = %chain(&error), "a file is not in order");
                }
            }
            Err(error) => warn!(error = %chain(&error), "what was written stays as it was"),
        }
    }
}

/// Says which files are not what would be generated.
async fn check(
    generator: &Generator,
    queries: &NamedQueries,
    functions: Vec<FunctionEntry>,
) -> Result<(), ServerError> {
    let stale = generator.check(queries, functions).await?;
    for file in &stale {
        println!("{file}");
    }
    match stale.is_empty() {
        true => Ok(()),
        false => Err(ServerError::Unwell(
            "the generated code is not what the project says: run convoy dev --once".to_owned(),
        )),
    }
}

/// Starts a Postgres whose data stay in a folder, or with none, go with it.
async fn private_postgres(data: Option<PathBuf>) -> Result<PrivatePostgres, ServerError> {
    let launch = LaunchOptions {
        keep: data,
        search: postgres_search(None),
        temp_dir: std::env::temp_dir(),
        fsync: Fsync::On,
        settings: settings(),
        progress: Reporter::new(|step| info!("{step}")),
        ..LaunchOptions::default()
    };
    Ok(PrivatePostgres::start(launch).await?)
}
