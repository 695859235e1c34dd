//! Who calls, as a project's `createContext` says: run once for each request or stream.

use super::host::CallHost;
use super::tables::OpenTables;
use super::{Functions, failure, now_ms};
use crate::auth::{Identify, Identity, JwtHost, RequestHead};
use crate::protocol::{ApiError, Code};
use convoy_functions::{Call, CallKind, Caller, Host, HostError, HostFuture};
use convoy_postgres::{Lease, Pool};

use futures_util::future::BoxFuture;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, UNIX_EPOCH};
use tokio::sync::OnceCell;

/// The function's name, in errors and logs.
const CREATE_CONTEXT: &str = "createContext";

impl Identify for Functions {
    fn identify<'a>(
        &'a self,
        request: &'a RequestHead,
    ) -> BoxFuture<'a, Result<Identity, ApiError>> {
        Box::pin(self.create_context(request))
    }
}

impl Functions {
    async fn create_context(&self, request: &RequestHead) -> Result<Identity, ApiError> {
        if !self.project().has_context() {
            return Ok(Identity::nobody());
        }
        let host = Arc::new(ContextHost {
            pool: self.pool.clone(),
            tables: self.tables(),
            jwt: self.jwt.clone(),
            connection: OnceCell::new(),
            expires_at_ms: Mutex::new(None),
        });
        let call = Call {
            name: CREATE_CONTEXT.to_owned(),
            args: shown(request).to_string(),
            kind: CallKind::Context,
            caller: Caller::Internal,
            now_ms: now_ms(),
            seed: rand::random(),
            auth: None,
        };
        let auth = self.runtime.call(call, host.clone()).await;
        let auth = auth.map_err(|error| failure::of_call(CREATE_CONTEXT, error))?;
        let auth: Value = serde_json::from_str(&auth).map_err(|_| {
            ApiError::new(Code::Internal, "createContext gave what can't be read as JSON")
        })?;
        let expires_at_ms = *host.expires_at_ms.lock().unwrap_or_else(PoisonError::into_inner);
        Identity::new(auth, expires_at_ms.map(|ms| UNIX_EPOCH + Duration::from_millis(ms)))
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

/// What one run of `createContext` may ask: tokens verified, and reads on a connection that is taken only then.
struct ContextHost {
    pool: Pool,
    tables: Arc<OpenTables>,
    jwt: Arc<JwtHost>,
    connection: OnceCell<(Lease, Arc<CallHost>)>,
    /// When the first of the tokens expires that counted.
    expires_at_ms: Mutex<Option<u64>>,
}

impl ContextHost {
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
        let connected = self.connection.get_or_try_init(|| async {
            let mut lease = self.pool.get().await?;
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
                message: convoy_engine::QueryError::from(error).message,
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
                _ => self.read(op, args).await,
            }
        })
    }
}
