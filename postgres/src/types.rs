//! Types as the catalog has them: domains down to their base, enums, arrays.

use crate::error::PostgresError;
use convoy_types::PgType;
use std::collections::HashMap;
use tokio_postgres::Client;
use tokio_postgres::types::Type;

/// Domains over domains, arrays of domains …: nobody nests deeper.
const DEPTH_MAX: usize = 16;

/// Everything that the asked types are made of. `typelem` counts only where the type is that element's array.
const TYPES_SQL: &str = "\
WITH RECURSIVE made_of(oid) AS (
  SELECT asked FROM pg_catalog.unnest($1::pg_catalog.oid[]) AS asked
  UNION
  SELECT part FROM made_of
  JOIN pg_catalog.pg_type t ON t.oid = made_of.oid
  CROSS JOIN LATERAL (VALUES (t.typbasetype), (t.typelem)) AS parts(part)
  WHERE part <> 0
)
SELECT t.oid, t.typname::text, pg_catalog.format_type(t.oid, -1), t.typtype::text, t.typbasetype,
       CASE WHEN e.typarray = t.oid THEN e.oid ELSE 0::pg_catalog.oid END
FROM made_of
JOIN pg_catalog.pg_type t ON t.oid = made_of.oid
LEFT JOIN pg_catalog.pg_type e ON e.oid = t.typelem";

/// One type.
#[derive(Clone, Debug)]
struct TypeRow {
    name: String,
    cast_name: String,
    kind: TypeKind,
}

#[derive(Clone, Copy, Debug)]
enum TypeKind {
    Domain(u32),
    Enum,
    Array(u32),
    Other,
}

/// The types that somebody asked about.
#[derive(Clone, Debug, Default)]
pub(crate) struct Types(HashMap<u32, TypeRow>);

impl Types {
    /// Asks the catalog about these types.
    pub(crate) async fn load(client: &Client, oids: &[u32]) -> Result<Types, PostgresError> {
        let mut types = HashMap::new();
        for row in client.query_typed(TYPES_SQL, &[(&oids, Type::OID_ARRAY)]).await? {
            let (base, element): (u32, u32) = (row.try_get(4)?, row.try_get(5)?);
            let kind = match row.try_get::<_, &str>(3)? {
                "d" => TypeKind::Domain(base),
                "e" => TypeKind::Enum,
                _ if element != 0 => TypeKind::Array(element),
                _ => TypeKind::Other,
            };
            let (name, cast_name) = (row.try_get(1)?, row.try_get(2)?);
            types.insert(row.try_get(0)?, TypeRow { name, cast_name, kind });
        }
        Ok(Types(types))
    }

    /// Returns the type as far as we read it.
    pub(crate) fn pg_type(&self, oid: u32) -> PgType {
        self.resolve(oid, DEPTH_MAX)
    }

    fn resolve(&self, oid: u32, depth: usize) -> PgType {
        let builtin = PgType::from_oid(oid);
        let Some(row) = self.0.get(&oid).filter(|_| builtin == PgType::Other && depth > 0) else {
            return builtin;
        };
        match row.kind {
            TypeKind::Domain(base) => self.resolve(base, depth - 1),
            TypeKind::Enum => PgType::Enum,
            TypeKind::Array(element) => match self.resolve(element, depth - 1) {
                PgType::Other | PgType::Array(_) => PgType::Other,
                element => PgType::Array(Box::new(element)),
            },
            TypeKind::Other => PgType::Other,
        }
    }

    /// Returns the name that the protocol shows (`pg_type.typname`).
    pub(crate) fn name(&self, oid: u32) -> String {
        self.0.get(&oid).map_or_else(|| oid.to_string(), |row| row.name.clone())
    }

    /// Returns the name that a cast takes: with the type modifier -1, so that nothing is cut off.
    pub(crate) fn cast_name(&self, oid: u32) -> String {
        self.0.get(&oid).map_or_else(|| "text".into(), |row| row.cast_name.clone())
    }
}
