//! Who calls, as a project's `createContext` says: run once for each request or stream, and where it read tables, again at
//! the snapshot of a read when what it read has changed.
//!
//! The second is a live query of its own kind (`Statement::identity`): its arguments are the request's head and who that was
//! found to be. It has a value for as long as the head says the same, and then an error. Neither argument is ever shown, and
//! what `createContext` throws is not kept.

use super::host::CallHost;
use super::tables::OpenTables;
use super::{Functions, console, failure, now_ms};
use crate::auth::{Caller, Identify, Identity, JwtHost, RequestHead};
use crate::protocol::{ApiError, Code};
use convoy_engine::{
    Argument, ErrorCode, FunctionAnswer, FunctionRead, QueryError, QueryReference, RecordedRead,
};
use convoy_functions::{Call, CallKind, Host, HostError, HostFuture};
use convoy_postgres::{FunctionRun, Lease, Pool};
use futures_util::future::BoxFuture;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::OnceCell;
use tokio_postgres::Client;

/// The function's name, in errors and logs.
const CREATE_CONTEXT: &str = "createContext";
/// The largest head of a request, as JSON in bytes, that is kept for as long as a session lives.
const HEAD_BYTES_MAX: usize = 64 << 10;

impl Identify for Functions {
    fn identify<'a>(&'a self, request: &'a RequestHead) -> BoxFuture<'a, Result<Caller, ApiError>> {
        Box::pin(self.create_context(request))
    }
}

impl Functions {
    async fn create_context(&self, request: &RequestHead) -> Result<Caller, ApiError> {
        let head = shown(request).to_string();
        let mut host = self.context_host(Reads::InPool(self.pool.clone(), OnceCell::new()));
        let mut auth = self.run_context(&head, &host).await;
        if let Some(tables) = host.reads.host().and_then(|reads| reads.outdated().cloned())
            && self.renew(&tables).await
        {
            host = self.context_host(Reads::InPool(self.pool.clone(), OnceCell::new()));
            auth = self.run_context(&head, &host).await;
        }
        let identity = Identity::new(auth?, host.expires_at())?;
        let has_read = host.reads.host().is_some_and(|reads| !reads.take_reads().is_empty());
        let watch = has_read.then(|| self.watch(head, &identity)).transpose()?;
        Ok(Caller { identity, watch })
    }

    /// Returns what says of a request's head, for as long as it is so, that this is who calls.
    fn watch(&self, head: String, identity: &Identity) -> Result<QueryReference, ApiError> {
        if head.len() > HEAD_BYTES_MAX {
            let message = format!(
                "the request's head has {} bytes as JSON, and at most {HEAD_BYTES_MAX} are taken: send fewer or smaller \
                 headers",
                head.len()
            );
            return Err(ApiError::new(Code::PayloadTooLarge, message));
        }
        let args = [head, identity.key.to_string()].map(|arg| Some(Argument::String(arg)));
        Ok(QueryReference::fixed(self.identity.clone(), args.into()))
    }

    /// Says whether who calls is still who it was. Returns also the tables that it went by, where they have turned out to be
    /// others.
    pub(super) async fn check_identity(
        &self,
        function: &FunctionRead,
        client: Arc<Client>,
    ) -> (FunctionRun, Option<Arc<OpenTables>>) {
        let param = |at: usize| function.params.get(at).and_then(Option::as_deref);
        let (head, before) = (param(0).unwrap_or("{}"), param(1).unwrap_or("null"));
        let reads = CallHost::new(CREATE_CONTEXT, client, self.tables(), now_ms());
        let host = self.context_host(Reads::AtSnapshot(reads.clone()));
        let auth = self.run_context(head, &host).await;
        let failure = reads.take_failure();
        let spoilt = failure.is_some();
        let auth = match failure {
            // Whatever the function made of it.
            Some(failure) => Err(failure::of_call(CREATE_CONTEXT, failure.error.into())),
            None => auth,
        };
        let outcome = match auth {
            // It says nothing of who calls. If it is not Postgres that is away, the engine must not take it for that.
            Err(error) if matches!(error.code, ErrorCode::Unavailable | ErrorCode::Timeout) => {
                let code = if spoilt { error.code } else { ErrorCode::Timeout };
                Err(QueryError { code, ..error })
            }
            auth => {
                let now = auth.map(|auth| Identity::new(auth, None));
                let is_same = matches!(now, Ok(Ok(identity)) if *identity.key == *before);
                let value = if is_same { Ok("true".to_owned()) } else { Err(somebody_else()) };
                self.recorded(reads.take_reads())
                    .map(|reads: Vec<RecordedRead>| FunctionAnswer { value, reads })
            }
        };
        (FunctionRun { outcome, spoilt }, reads.outdated().cloned())
    }

    fn context_host(&self, reads: Reads) -> Arc<ContextHost> {
        let (tables, jwt) = (self.tables(), self.jwt.clone());
        Arc::new(ContextHost { reads, tables, jwt, expires_at_ms: Mutex::new(None) })
    }

    async fn run_context(&self, head: &str, host: &Arc<ContextHost>) -> Result<Value, QueryError> {
        if !self.project().has_context() {
            return Ok(Value::Null);
        }
        let call = Call {
            name: CREATE_CONTEXT.to_owned(),
            args: head.to_owned(),
            kind: CallKind::Context,
            caller: convoy_functions::Caller::Internal,
            now_ms: now_ms(),
            seed: rand::random(),
            auth: None,
        };
        let auth = self.runtime.call(call, host.clone()).await;
        let auth = auth.map_err(|error| failure::of_call(CREATE_CONTEXT, error))?;
        serde_json::from_str(&auth).map_err(|_| {
            QueryError::new(ErrorCode::Internal, "createContext gave what can't be read as JSON")
        })
    }
}

/// Returns a request as `createContext` sees it, as Node would show it.
fn shown(request: &RequestHead) -> Value {
    let mut headers = Map::new();
    for name in request.headers.keys() {
        let values = request.headers.get_all(name).iter();
        let values: Vec<_> =
            values.map(|value| String::from_utf8_lossy(value.as_bytes())).collect();
        let separator = if name == "cookie" { "; " } else { ", " };
        headers.insert(name.as_str().to_owned(), Value::from(values.join(separator)));
    }
    json!({
        "method": request.method.as_str(),
        "url": request.uri.to_string(),
        "headers": headers,
        "socket": { "remoteAddress": request.peer.map(|peer| peer.ip().to_string()) },
    })
}

/// What is told of a caller that is not who it was, or of whom nobody can say who it is now. Why is for the log.
fn somebody_else() -> QueryError {
    QueryError::new(ErrorCode::Unauthorized, "who calls is no longer who it was")
}

/// Where one run of `createContext` reads.
enum Reads {
    /// On a connection that is taken only when it does.
    InPool(Pool, OnceCell<(Lease, Arc<CallHost>)>),
    /// At the snapshot of a read.
    AtSnapshot(Arc<CallHost>),
}

impl Reads {
    /// Returns who has read; none where nothing was.
    fn host(&self) -> Option<&Arc<CallHost>> {
        match self {
            Reads::InPool(_, connected) => connected.get().map(|(_, host)| host),
            Reads::AtSnapshot(host) => Some(host),
        }
    }
}

/// What one run of `createContext` may ask: tokens verified, and reads.
struct ContextHost {
    reads: Reads,
    tables: Arc<OpenTables>,
    jwt: Arc<JwtHost>,
    /// When the first of the tokens expires that counted.
    expires_at_ms: Mutex<Option<u64>>,
}

impl ContextHost {
    fn expires_at(&self) -> Option<SystemTime> {
        let expires_at_ms = *self.expires_at_ms.lock().unwrap_or_else(PoisonError::into_inner);
        expires_at_ms.map(|ms| UNIX_EPOCH + Duration::from_millis(ms))
    }

    async fn verify(&self, args: &str) -> Result<String, HostError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Verified {
            expires_at: Option<u64>,
        }
        #[derive(Deserialize)]
        struct Refused {
            code: String,
            message: String,
        }
        let unread = || HostError {
            code: "INTERNAL".into(),
            message: "the token could not be verified".into(),
            data: None,
        };
        match self.jwt.verify_json(args).await {
            Ok(verified) => {
                let Verified { expires_at } =
                    serde_json::from_str(&verified).map_err(|_| unread())?;
                let mut first = self.expires_at_ms.lock().unwrap_or_else(PoisonError::into_inner);
                *first = [*first, expires_at].into_iter().flatten().min();
                Ok(verified)
            }
            Err(refused) => Err(match serde_json::from_str(&refused) {
                Ok(Refused { code, message }) => HostError { code, message, data: None },
                Err(_) => unread(),
            }),
        }
    }

    async fn read(&self, op: &str, args: String) -> Result<String, HostError> {
        let (pool, connection) = match &self.reads {
            Reads::InPool(pool, connection) => (pool, connection),
            Reads::AtSnapshot(host) => return host.call(op, args).await,
        };
        let connected = connection.get_or_try_init(|| async {
            let mut lease = pool.get().await?;
            lease.mark_used();
            lease.client().batch_execute("BEGIN READ ONLY").await?;
            let client = lease.client().clone();
            let host = CallHost::new(CREATE_CONTEXT, client, self.tables.clone(), now_ms());
            Ok::<_, convoy_postgres::PostgresError>((lease, host))
        });
        match connected.await {
            Ok((_, host)) => host.call(op, args).await,
            Err(error) => Err(HostError {
                code: "UNAVAILABLE".into(),
                message: QueryError::from(error).message,
                data: None,
            }),
        }
    }
}

impl Host for ContextHost {
    fn call<'a>(&'a self, op: &'a str, args: String) -> HostFuture<'a> {
        Box::pin(async move {
            match op {
                "jwt.verify" => self.verify(&args).await,
                "log" => {
                    console::write(CREATE_CONTEXT, &args);
                    Ok("null".to_owned())
                }
                _ => self.read(op, args).await,
            }
        })
    }
}
