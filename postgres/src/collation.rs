//! How texts compare: which collations order by bytes, and which are not even equal by bytes.
//!
//! A collation called C.UTF-8 orders by code point in glibc, which is byte order in UTF-8; elsewhere it need not. So
//! it is tried on the server before it is believed (`docs/postgres.md`, P9).

use crate::error::PostgresError;
use convoy_engine::quote_identifier;
use convoy_types::Collation;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use tokio_postgres::Client;
use tokio_postgres::types::Type;

/// `pg_collation.oid` of "default", which stands for the database's.
const DEFAULT_COLLATION: u32 = 100;

const COLLATIONS_SQL: &str = "\
SELECT c.oid, n.nspname::text, c.collname::text, c.collprovider::text,
       coalesce(c.collcollate::text, ''), c.collisdeterministic
FROM pg_catalog.pg_collation c
JOIN pg_catalog.pg_namespace n ON n.oid = c.collnamespace
WHERE c.oid = ANY($1::pg_catalog.oid[])";

const DEFAULT_SQL: &str = "\
SELECT datlocprovider::text, datcollate::text, pg_catalog.getdatabaseencoding()::text
FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()";

/// Texts that every order of a language, or one that ignores punctuation or case, puts otherwise than their bytes.
const TRIAL: &str = "ARRAY['', 'a', 'B', 'b', 'A', 'Z', '_', '-', 'a b', 'ab', 'a-c', 'aé', 'é', 'É', 'z', \
     'ä', 'ss', 'ß', '~', '1', '10', '9', E'\\uffff', E'\\U00010000', E'\\u2028', 'e', 'f']::pg_catalog.text[]";

/// What was found out about the server's collations; for the life of the process, since they don't change.
#[derive(Debug, Default)]
pub(crate) struct Collations {
    known: Mutex<HashMap<u32, Collation>>,
}

impl Collations {
    /// Returns how these collations compare. 0, no collation, is left out.
    pub(crate) async fn load(
        &self,
        client: &Client,
        oids: &[u32],
    ) -> Result<HashMap<u32, Collation>, PostgresError> {
        let mut found = HashMap::new();
        let mut unknown = Vec::new();
        {
            let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            for &oid in oids.iter().filter(|&&oid| oid != 0) {
                match known.get(&oid) {
                    Some(&collation) => drop(found.insert(oid, collation)),
                    None => unknown.push(oid),
                }
            }
        }
        if unknown.is_empty() {
            return Ok(found);
        }
        for row in client.query_typed(COLLATIONS_SQL, &[(&unknown, Type::OID_ARRAY)]).await? {
            let oid: u32 = row.try_get(0)?;
            let (namespace, name): (&str, &str) = (row.try_get(1)?, row.try_get(2)?);
            let (provider, locale): (&str, &str) = (row.try_get(3)?, row.try_get(4)?);
            let deterministic: bool = row.try_get(5)?;
            let collation = if oid == DEFAULT_COLLATION || provider == "d" {
                database_default(client).await?
            } else if !deterministic {
                Collation::Nondeterministic
            } else {
                let clause =
                    format!("COLLATE {}.{}", quote_identifier(namespace), quote_identifier(name));
                by_provider(client, provider, locale, &clause).await?
            };
            found.insert(oid, collation);
        }
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.extend(found.iter().map(|(&oid, &collation)| (oid, collation)));
        Ok(found)
    }

    /// Returns how a text without a COLLATE of its own compares.
    pub(crate) async fn of_database(&self, client: &Client) -> Result<Collation, PostgresError> {
        let found = self.load(client, &[DEFAULT_COLLATION]).await?;
        Ok(found.get(&DEFAULT_COLLATION).copied().unwrap_or(Collation::Deterministic))
    }
}

async fn database_default(client: &Client) -> Result<Collation, PostgresError> {
    let row = client.query_typed_one(DEFAULT_SQL, &[]).await?;
    let (provider, locale): (&str, &str) = (row.try_get(0)?, row.try_get(1)?);
    if row.try_get::<_, &str>(2)? != "UTF8" {
        // We compare the texts that we get, which are UTF-8; the server compares its own encoding's bytes.
        return Ok(Collation::Deterministic);
    }
    by_provider(client, provider, locale, "").await
}

async fn by_provider(
    client: &Client,
    provider: &str,
    locale: &str,
    clause: &str,
) -> Result<Collation, PostgresError> {
    let lower = locale.to_ascii_lowercase();
    Ok(match (provider, lower.as_str()) {
        ("c", "c" | "posix") => Collation::ByteOrder,
        ("c", "c.utf8" | "c.utf-8") if orders_by_bytes(client, clause).await? => {
            Collation::ByteOrder
        }
        // The built-in provider's collations (PostgreSQL 17) all order by code point.
        ("b", _) => Collation::ByteOrder,
        _ => Collation::Deterministic,
    })
}

async fn orders_by_bytes(client: &Client, clause: &str) -> Result<bool, PostgresError> {
    let sql = format!(
        "SELECT pg_catalog.array_agg(s ORDER BY s {clause}) \
              = pg_catalog.array_agg(s ORDER BY s COLLATE pg_catalog.\"C\") \
         FROM pg_catalog.unnest({TRIAL}) AS s"
    );
    Ok(client.query_typed_one(&sql, &[]).await?.try_get(0)?)
}
