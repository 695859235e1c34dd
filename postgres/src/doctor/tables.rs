//! The checks of the user's tables: may they be read and published, and do their old rows carry an identity (P1)?

use super::{Check, CheckStatus};
use crate::error::PostgresError;
use crate::publication::{FULL, INSERTS_ONLY};
use convoy_engine::quote_identifier;
use tokio_postgres::Client;

/// Tables that are named one by one; the others are counted.
const TABLES_SHOWN: usize = 10;

/// The user's tables: those that could be published. A partition is published with the whole.
const TABLES_SQL: &str = "\
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND c.relpersistence = 'p'
  AND n.nspname NOT IN ('pg_catalog', 'information_schema')";

/// Whether a plain table's updates and deletes can be published (P1).
const IDENTITY_USABLE_SQL: &str = "\
((c.relreplident = 'f' AND NOT EXISTS (SELECT FROM pg_catalog.pg_attribute a
         WHERE a.attrelid = c.oid AND NOT a.attisdropped AND a.attgenerated = 'v'))
    OR (c.relreplident = 'd' AND EXISTS (SELECT FROM pg_catalog.pg_index i
         WHERE i.indrelid = c.oid AND i.indisprimary AND i.indisvalid AND i.indimmediate))
    OR (c.relreplident = 'i' AND EXISTS (SELECT FROM pg_catalog.pg_index i
         WHERE i.indrelid = c.oid AND i.indisreplident AND i.indisvalid AND i.indimmediate)))";

/// What the role may do with a table. To put it into a publication takes ownership of both.
const RIGHTS_SQL: &str = "\
  pg_catalog.has_schema_privilege(n.oid, 'USAGE') AND pg_catalog.has_any_column_privilege(c.oid, 'SELECT') AS readable,
  pg_catalog.pg_has_role(c.relowner, 'USAGE') OR EXISTS (
    SELECT FROM pg_catalog.pg_publication_rel r JOIN pg_catalog.pg_publication p ON p.oid = r.prpubid
    WHERE r.prrelid = c.oid AND p.pubname IN ('convoy_full', 'convoy_ins')) AS publishable,
  (SELECT o.rolname::text FROM pg_catalog.pg_roles o WHERE o.oid = c.relowner AND NOT o.rolsuper) AS owner";

/// Returns which tables can't be live for want of a right.
pub(super) async fn rights(client: &Client) -> Result<Check, PostgresError> {
    let name = "tables";
    let sql = format!(
        "SELECT *, pg_catalog.quote_ident(current_user) FROM (
           SELECT n.nspname::text AS namespace, c.relname::text AS name, {IDENTITY_USABLE_SQL}, {RIGHTS_SQL}
           {TABLES_SQL} AND NOT c.relispartition) AS asked
         WHERE NOT (readable AND publishable) ORDER BY namespace, name"
    );
    let (mut unreadable, mut unpublishable) = (0, 0);
    let mut fixes = Vec::new();
    for row in client.query_typed(&sql, &[]).await? {
        let table = qualified(row.try_get(0)?, row.try_get(1)?);
        let role: &str = row.try_get(6)?;
        if !row.try_get::<_, bool>(3)? {
            unreadable += 1;
            fixes.push(format!("GRANT SELECT ON {table} TO {role};"));
        }
        if !row.try_get::<_, bool>(4)? {
            unpublishable += 1;
            let publication = if row.try_get(2)? { FULL } else { INSERTS_ONLY };
            let add = format!("ALTER PUBLICATION {publication} ADD TABLE ONLY {table};");
            fixes.push(match row.try_get::<_, Option<&str>>(5)? {
                Some(owner) => format!(
                    "GRANT {} TO {role}; -- or, as a superuser, once convoy serve has run: {add}",
                    quote_identifier(owner)
                ),
                None => format!("{add} -- as a superuser, once convoy serve has run"),
            });
        }
    }
    if fixes.is_empty() {
        return Ok(Check::new(name, CheckStatus::Ok, "all tables may be read and published"));
    }
    let finding = format!(
        "{unreadable} tables may not be read, and {unpublishable} not be published: queries on them are refused"
    );
    Ok(Check::new(name, CheckStatus::Warn, finding).fix(shortened(&fixes)))
}

/// Returns which tables publish inserts only.
pub(super) async fn identities(client: &Client) -> Result<Check, PostgresError> {
    let name = "replica identity";
    let sql = format!(
        "SELECT n.nspname::text, c.relname::text, c.relreplident = 'f' {TABLES_SQL} AND c.relkind = 'r' AND NOT {IDENTITY_USABLE_SQL}
         ORDER BY 1, 2"
    );
    let mut fixes = Vec::new();
    for row in client.query_typed(&sql, &[]).await? {
        let table = qualified(row.try_get(0)?, row.try_get(1)?);
        fixes.push(match row.try_get(2)? {
            false => format!("ALTER TABLE {table} REPLICA IDENTITY FULL;"),
            true => format!(
                "ALTER TABLE {table} REPLICA IDENTITY DEFAULT; -- virtual generated columns can't be published, and \
                 FULL needs them"
            ),
        });
    }
    if fixes.is_empty() {
        return Ok(Check::new(name, CheckStatus::Ok, "all tables have a replica identity"));
    }
    let finding = format!(
        "{} tables have no usable replica identity (no primary key, or a deferrable one): queries on them \
         see inserts only",
        fixes.len()
    );
    let fix = format!("{}\n-- or, better, give each a primary key", shortened(&fixes));
    Ok(Check::new(name, CheckStatus::Warn, finding).fix(fix))
}

fn qualified(namespace: &str, name: &str) -> String {
    format!("{}.{}", quote_identifier(namespace), quote_identifier(name))
}

/// Returns the first lines, and how many more there are.
fn shortened(fixes: &[String]) -> String {
    let mut text = fixes[..fixes.len().min(TABLES_SHOWN)].join("\n");
    if fixes.len() > TABLES_SHOWN {
        text.push_str(&format!("\n-- and {} more", fixes.len() - TABLES_SHOWN));
    }
    text
}
