//! `convoy serve`: the server.

use crate::app::FrontPage;
use crate::config::ServeArgs;
use crate::error::ServerError;
use crate::loading::{OpenProject, Runs, Tables};
use crate::reload::reload_on;
use crate::serve::{ServeOptions, Server, bind};
use crate::shutdown;
use axum::Router;
use tracing::info;

/// Serves until a signal comes.
///
/// # Errors
/// Whatever keeps it from serving.
pub async fn run(args: ServeArgs) -> Result<(), ServerError> {
    let source_error = |source| ServerError::System { doing: "listening for signals", source };
    let stopping = shutdown::listen().map_err(source_error)?;
    // From the start: until somebody listens, SIGHUP ends the process.
    let hang_ups = shutdown::hang_ups().map_err(source_error)?;
    let url = args.database.url()?;
    let session = args.database.session();
    let opening =
        OpenProject::open(&args.project, &url, &session, Tables::Check, Runs::WhatIsThere);
    let OpenProject { queries, backend, loader } = tokio::select! {
        opened = opening => opened?,
        () = shutdown::begun(stopping.clone()) => return Ok(()),
    };
    let ad_hoc_url = args.database.ad_hoc_url(&url)?;
    let listener = bind(args.listen).await?;
    info!(database = %url, queries = queries.len(), allow_sql = args.allow_sql, "starting");
    let options = ServeOptions {
        front_page: FrontPage::of(args.public.as_deref())?,
        args,
        url,
        ad_hoc_url,
        queries,
        backend,
        loopback_origins: false,
        is_own_postgres: false,
        extra: Router::new(),
    };
    let mut server = tokio::select! {
        server = Server::start(listener, options) => server?,
        () = shutdown::begun(stopping.clone()) => return Ok(()),
    };
    let reload = reload_on(hang_ups, server.app().clone(), loader);
    info!("listening on http://{}", server.address());
    let outcome = tokio::select! {
        () = shutdown::begun(stopping) => Ok(()),
        failure = server.failed() => Err(failure),
        () = reload => Ok(()),
    };
    server.stop().await;
    info!("stopped");
    outcome
}
