//! The tables that functions use, as they stood when they were looked up; looked up again where they turn out to be
//! others. Somebody else's table may come after the server.

use super::Functions;
use crate::error::chain;
use convoy_schema::{Schema, Store};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

/// How soon tables are looked up again that were not as the schema says. Who comes earlier waits.
const RENEW_INTERVAL: Duration = Duration::from_millis(100);

/// A schema's tables as they stood.
pub(super) struct OpenTables {
    schema: Arc<Schema>,
    pub store: Store,
    since: Instant,
}

impl OpenTables {
    /// Returns tables that were just looked up.
    pub fn new(schema: Arc<Schema>, store: Store) -> OpenTables {
        OpenTables { schema, store, since: Instant::now() }
    }
}

impl Functions {
    /// Looks tables up again, which a call has found to be others than these. Returns whether it may be run again.
    pub(super) async fn renew(&self, found_outdated: &Arc<OpenTables>) -> bool {
        let _one_at_a_time = self.renewing.lock().await;
        if !Arc::ptr_eq(&self.tables(), found_outdated) {
            return true;
        }
        tokio::time::sleep(RENEW_INTERVAL.saturating_sub(found_outdated.since.elapsed())).await;
        let schema = found_outdated.schema.clone();
        let looked_up = async {
            let lease = self.pool.get().await.map_err(|error| chain(&error).to_string())?;
            let store = Store::load(lease.client(), schema.clone()).await;
            store.map_err(|error| chain(&error).to_string())
        };
        match looked_up.await {
            Ok(store) => {
                let mut tables = self.tables.write().unwrap_or_else(PoisonError::into_inner);
                // The project may have been read again meanwhile.
                if Arc::ptr_eq(&tables, found_outdated) {
                    *tables = Arc::new(OpenTables::new(schema, store));
                }
                true
            }
            Err(error) => {
                tracing::warn!(error, "the tables could not be looked up again");
                false
            }
        }
    }
}
