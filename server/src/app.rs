//! What every request's handler shares, and the router.

use crate::auth::{Caller, Identify, Identity, RequestHead};
use crate::error::ServerError;
use crate::guard::{self, Guard};
use crate::limits::{MemoryParts, RequestLimits};
use crate::metrics::Metrics;
use crate::mutations::Mutations;
use crate::pipeline::{EventQueue, Lag};
use crate::project::NamedQueries;
use crate::protocol::{ApiError, Code, Detail, Reference};
use crate::public_folder::PublicFolder;
use crate::routes;
use crate::sessions::Sessions;
use crate::wish;
use axum::Router;
use axum::middleware;
use convoy_engine::{Argument, QueryReference, Statement, StatementKind};
use convoy_postgres::DatabaseHandle;
use convoy_types::nearest;
use std::ops::Deref;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

/// Whether clients may send SQL of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AdHocSql {
    /// Never.
    Refused,
    /// Any SELECT that the role may run.
    Allowed,
}

/// What stands at `/`.
#[derive(Clone, Debug)]
pub enum FrontPage {
    /// The status page of `serve`.
    Status,
    /// The demo's dashboard.
    Demo,
    /// The files of a folder, wherever none of the server's own paths is; the status page while it has no `index.html`.
    Public(PublicFolder),
}

impl FrontPage {
    /// Returns the front page of a server with this public folder, or with none.
    ///
    /// # Errors
    /// [`ServerError::Misused`] where the folder is not there.
    pub fn of(public: Option<&Path>) -> Result<Self, ServerError> {
        match public {
            Some(folder) => PublicFolder::open(folder).map(FrontPage::Public),
            None => Ok(FrontPage::Status),
        }
    }
}

/// All of it.
pub struct AppState {
    /// Who may call.
    pub guard: Guard,
    /// Who finds out who calls; none: nobody is told from anybody else.
    pub identify: Option<Arc<dyn Identify>>,
    /// The bounds of requests.
    pub limits: RequestLimits,
    /// The bounds of memory.
    pub memory: MemoryParts,
    /// Whether clients may send SQL.
    pub ad_hoc_sql: AdHocSql,
    /// What stands at `/`.
    pub front_page: FrontPage,
    /// The project's queries; replaced as a whole when the project is read again.
    pub queries: RwLock<Arc<NamedQueries>>,
    /// Who carries mutations out, where there is a project with functions.
    pub mutations: Option<Arc<dyn Mutations>>,
    /// The sessions.
    pub sessions: Arc<Sessions>,
    /// The database, for questions that are not the engine's.
    pub database: DatabaseHandle,
    /// The way to the engine.
    pub queue: Arc<EventQueue>,
    /// How far behind it is.
    pub lag: Arc<Lag>,
    /// What is counted.
    pub metrics: Metrics,
    /// How long a one-shot query may take in all.
    pub answer_timeout: Duration,
    /// When the server began.
    pub started_at: Instant,
}

/// A handle on it.
#[derive(Clone)]
pub struct App(Arc<AppState>);

impl Deref for App {
    type Target = AppState;

    fn deref(&self) -> &AppState {
        &self.0
    }
}

impl App {
    /// Returns a handle on this state.
    pub fn new(state: AppState) -> Self {
        App(Arc::new(state))
    }

    /// Returns the router, with `extra` routes that stand behind the same guard.
    pub fn router(&self, extra: Router<App>) -> Router {
        routes::router()
            .merge(extra)
            .fallback(routes::elsewhere)
            .method_not_allowed_fallback(routes::method_not_allowed)
            .layer(middleware::from_fn_with_state(self.clone(), guard::check))
            .with_state(self.clone())
    }

    /// Returns the project's queries.
    pub fn named_queries(&self) -> Arc<NamedQueries> {
        self.queries.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Replaces the project's queries. What runs is the engine's to change (`reload.rs`).
    pub fn replace_queries(&self, queries: NamedQueries) {
        *self.queries.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(queries);
    }

    /// Returns how much may be told of what callers ask, to whoever asks about it.
    pub fn detail(&self) -> Detail {
        if self.identify.is_some() { Detail::Nobodys } else { Detail::Everything }
    }

    /// Finds out who asks. Once for each request or stream.
    ///
    /// # Errors
    /// Why it may not, fit for the client.
    pub async fn identify(&self, request: &RequestHead) -> Result<Caller, ApiError> {
        match &self.identify {
            Some(identify) => identify.identify(request).await,
            None => Ok(Identity::nobody().into()),
        }
    }

    /// Holds the arguments of a query function against its types, as far as that can be known before it runs. Those of any
    /// other query the engine reads.
    ///
    /// # Errors
    /// What is wrong with them, fit for the client.
    pub async fn check_arguments(&self, query: &QueryReference) -> Result<(), ApiError> {
        let statement = &query.statement;
        match (&self.mutations, &statement.name, query.args.first()) {
            (Some(functions), Some(name), Some(Some(Argument::String(args))))
                if statement.kind == StatementKind::Function =>
            {
                functions.check_arguments(name, args).await
            }
            _ => Ok(()),
        }
    }

    /// Finds out what a reference names, and has its arguments put in order, with what is known of who asks.
    ///
    /// # Errors
    /// What is wrong with it, fit for the client.
    pub fn resolve(
        &self,
        reference: Reference,
        identity: &Identity,
    ) -> Result<QueryReference, ApiError> {
        match reference {
            Reference::Named { name, args } => {
                let queries = self.named_queries();
                let Some(statement) = queries.get(&name) else {
                    let shown: String = name.chars().take(100).collect();
                    if self.mutations.as_ref().is_some_and(|known| known.is_mutation(&name)) {
                        return Err(ApiError::new(
                            Code::NotFound,
                            format!("{name} is a mutation, not a query: POST /api/mutation/{name}"),
                        ));
                    }
                    let hint = match nearest(&name, queries.names()) {
                        Some(nearest) => format!("did you mean {nearest:?}?"),
                        None if queries.is_empty() => "the project has no queries".to_owned(),
                        None => "its file would be queries/….sql in the project, folders as dots"
                            .to_owned(),
                    };
                    return Err(ApiError::new(
                        Code::NotFound,
                        format!("no query is named {shown:?}: {hint}"),
                    ));
                };
                Ok(wish::reference(statement.clone(), args, identity)?)
            }
            Reference::Sql { .. } if self.ad_hoc_sql == AdHocSql::Refused => Err(ApiError::new(
                Code::Forbidden,
                "ad hoc SQL is off: name a query of the project, or start the server with --allow-sql",
            )),
            Reference::Sql { sql, params } => {
                let statement = Statement::ad_hoc(&sql).map_err(ApiError::from)?;
                let params = params.into_iter().map(Some).collect();
                Ok(QueryReference::fixed(Arc::new(statement), params))
            }
        }
    }
}
