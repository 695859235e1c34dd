//! `convoy dev`: the project served while it is being written. Tables are created, code is generated and what runs is
//! replaced with each save; without a database there is one of its own.

use crate::app::FrontPage;
use crate::config::{ServeArgs, postgres_search};
use crate::demo::settings;
use crate::error::{ServerError, chain};
use crate::generation::Generator;
use crate::listener::bind_next;
use crate::loading::OpenProject;
use crate::project::{NamedQueries, ProjectError, root};
use crate::reload::Reload;
use crate::serve::{ServeOptions, Server};
use crate::shutdown;
use axum::Router;
use clap::Args;
use convoy_codegen::FunctionEntry;
use convoy_postgres::launcher::{Fsync, LaunchOptions, PrivatePostgres, Reporter};
use convoy_types::DatabaseUrl;
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::sync::mpsc;
use tracing::{info, warn};

/// The database of a private Postgres: the one that there is.
const DATABASE: &str = "postgres";
/// Where a project's own data are, and its pages.
const DATA: &str = ".convoy/postgres";
const PUBLIC: &str = "public";
/// Editors save in several steps: what comes so soon after a change is the same save.
const ONE_SAVE: Duration = Duration::from_millis(30);

/// Watches the project, creates its tables, serves it
#[derive(Args, Debug)]
pub struct DevArgs {
    /// What to serve, and how.
    #[command(flatten)]
    pub serve: ServeArgs,
    /// The folder of the private Postgres that serves where no database is given; its data stay
    #[arg(long, value_name = "DIR", env = "CONVOY_DATA")]
    pub data: Option<PathBuf>,
    /// Does everything once and ends
    #[arg(long, env = "CONVOY_ONCE")]
    pub once: bool,
    /// Serves nothing
    #[arg(long, env = "CONVOY_NO_SERVE")]
    pub no_serve: bool,
    /// Writes no code, and ends with 1 where what was generated is not what would be; for tests of a change
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
    let (url, postgres) = match serve.database.is_given() {
        true => (serve.database.url()?, None),
        false => {
            let postgres = tokio::select! {
                started = private_postgres(data.unwrap_or_else(|| serve.project.join(DATA))) => started?,
                () = shutdown::begun(stopping.clone()) => return Ok(()),
            };
            let url = DatabaseUrl::parse_with_defaults(&postgres.url(DATABASE), &[])
                .map_err(|error| ServerError::Misused(error.to_string()))?;
            (url, Some(postgres))
        }
    };
    if let Some(psql) = postgres.as_ref().and_then(|postgres| postgres.psql_line(DATABASE)) {
        info!("a Postgres of its own: {psql}");
    }
    let public = serve.project.join(PUBLIC);
    if serve.public.is_none() && public.is_dir() {
        serve.public = Some(public);
    }
    // Whoever develops may look into his own database, from this machine.
    serve.allow_sql |= serve.listen.ip().is_loopback();
    let ends = match (check, once, no_serve) {
        (true, ..) => Ends::Checked,
        (false, true, true) => Ends::Written,
        (false, true, false) => Ends::Served,
        (false, false, _) => Ends::Never,
    };
    let developing = develop(serve, url, ends);
    let outcome = tokio::select! {
        outcome = developing => outcome,
        () = shutdown::begun(stopping) => Ok(()),
    };
    if let Some(postgres) = postgres
        && let Err(error) = postgres.stop().await
    {
        warn!(error = %chain(&error), "the private Postgres");
    }
    outcome
}

/// When it ends by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ends {
    /// Once it is known whether the generated code is what would be generated.
    Checked,
    /// Once everything is written.
    Written,
    /// Never, but it does not watch.
    Served,
    /// Never.
    Never,
}

async fn develop(args: ServeArgs, url: DatabaseUrl, ends: Ends) -> Result<(), ServerError> {
    let folder = args.project.clone();
    let session = args.database.session();
    let generator = Generator::new(&folder, &url, &session);
    if ends != Ends::Checked {
        generator.prepare()?;
    }
    let OpenProject { queries, backend, mut loader } =
        OpenProject::open(&folder, &url, &session, true).await?;
    if ends == Ends::Checked {
        return check(&generator, &queries, loader.function_entries()).await;
    }
    let changed = generator.write(&queries, loader.function_entries()).await?;
    if !changed.is_empty() {
        info!("generated {}", changed.join(", "));
    }
    if ends == Ends::Written {
        return Ok(());
    }
    loader.generate_with(generator);
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
        extra: Router::new(),
    };
    let mut server = Server::start(listener, options).await?;
    info!("serving http://{}", server.address());
    let mut reload = Reload::new(server.app().clone(), loader);
    let (_watcher, mut saves) = watch(&root(&folder))?;
    let outcome = loop {
        tokio::select! {
            save = saves.recv(), if ends == Ends::Never => {
                let Some(path) = save else { break Ok(()) };
                tokio::time::sleep(ONE_SAVE).await;
                while saves.try_recv().is_ok() {}
                info!(file = %path.display(), "saved");
                reload.read().await;
            }
            failure = server.failed() => break Err(failure),
        }
    };
    server.stop().await;
    outcome
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
            "the generated code is not what the project says: run convoy dev --once --no-serve"
                .to_owned(),
        )),
    }
}

async fn private_postgres(data: PathBuf) -> Result<PrivatePostgres, ServerError> {
    let launch = LaunchOptions {
        keep: Some(data),
        search: postgres_search(None),
        temp_dir: std::env::temp_dir(),
        fsync: Fsync::On,
        settings: settings(),
        progress: Reporter::new(|step| info!("{step}")),
        ..LaunchOptions::default()
    };
    Ok(PrivatePostgres::start(launch).await?)
}

/// Watches a project's folder; each save is told by a file of it.
fn watch(root: &Path) -> Result<(RecommendedWatcher, mpsc::Receiver<PathBuf>), ServerError> {
    let failed = |error: notify::Error| ServerError::System {
        doing: "watching the project's folder",
        source: std::io::Error::other(error),
    };
    let (sender, saves) = mpsc::channel(256);
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
        let Ok(event) = event else { return };
        if matches!(event.kind, EventKind::Access(_)) {
            return;
        }
        for path in event.paths.into_iter().filter(|path| matters(path)) {
            // One that waits says enough.
            let _ = sender.try_send(path);
        }
    })
    .map_err(failed)?;
    watcher.watch(root, RecursiveMode::Recursive).map_err(failed)?;
    Ok((watcher, saves))
}

/// Returns whether a file is one that the project is made of, and not one that is made of it.
fn matters(path: &Path) -> bool {
    let is_ours = |part: &std::ffi::OsStr| {
        let part = part.to_string_lossy();
        part == "_generated" || part == "node_modules" || part.starts_with('.')
    };
    let extension = path.extension().and_then(|extension| extension.to_str());
    !path.iter().any(is_ours)
        && matches!(extension, None | Some("ts" | "tsx" | "js" | "mjs" | "json" | "sql"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_generated_is_no_save() {
        for path in ["/p/convoy/functions/a.ts", "/p/convoy/queries/b/c.sql", "/p/convoy/functions"]
        {
            assert!(matters(Path::new(path)), "{path}");
        }
        for path in [
            "/p/convoy/_generated/api.ts",
            "/p/convoy/functions/.a.ts.swp",
            "/p/convoy/functions/a.ts~",
            "/p/node_modules/zod/index.js",
        ] {
            assert!(!matters(Path::new(path)), "{path}");
        }
    }
}
