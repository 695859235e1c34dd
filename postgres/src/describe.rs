//! Which relations, parameters, columns and functions a statement has: Postgres' word, never a parser's
//! (`docs/postgres.md`, P11).
//!
//! In a fresh read-only transaction, as the role that will read, the statement is prepared; the relations are those
//! that the session then holds locks on. They are asked for before anything else is, and through a function that
//! itself locks nothing, so that no look-up of ours is taken for the statement's.

use crate::catalog::{self, ReadThrough, Tree};
use crate::collation::Collations;
use crate::error::{PostgresError, Sent, query_error};
use crate::functions;
use crate::pool::Lease;
use crate::types::Types;
use convoy_engine::{
    ErrorCode, OutputColumn, ParamType, QueryError, Statement, StatementFacts, TableFacts,
    TableKind,
};
use convoy_types::RelationId;
use std::collections::{BTreeMap, BTreeSet};
use tokio_postgres::error::SqlState;
use tokio_postgres::types::Type;

const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY";

/// The locks of our own session. `pg_lock_status()` is what the view `pg_locks` reads; the view itself would be
/// locked and counted.
const LOCKS_SQL: &str = "\
SELECT l.relation, l.mode FROM pg_catalog.pg_lock_status() AS l
WHERE l.pid = pg_catalog.pg_backend_pid() AND l.locktype = 'relation'";

const PARAMS_SQL: &str = "\
SELECT parameter_types::pg_catalog.oid[] FROM pg_catalog.pg_prepared_statements
WHERE name = 'convoy_describe'";

/// A statement's facts before anything is published.
#[derive(Debug)]
pub(crate) struct Description {
    /// All but the publications and the tables, which follow.
    pub(crate) facts: StatementFacts,
    /// The tables, said to be in no publication.
    pub(crate) tables: Vec<TableFacts>,
    /// The tables with all that inherits from them.
    pub(crate) trees: BTreeMap<RelationId, Tree>,
}

impl Description {
    /// Returns the parts of which the engine's facts are made.
    pub(crate) fn take(self) -> (StatementFacts, Vec<TableFacts>) {
        (self.facts, self.tables)
    }
}

/// Asks all about a statement. The connection is in an empty transaction afterwards.
pub(crate) async fn describe(
    lease: &mut Lease,
    statement: &Statement,
    collations: &Collations,
) -> Result<Description, QueryError> {
    lease.mark_used();
    let begun = lease.client().batch_execute(BEGIN).await;
    begun.map_err(|error| query_error(&error, None))?;
    prepare(lease, statement).await?;
    let described = ask(lease, statement, collations).await;
    // A prepared statement outlives its transaction, and the pool's clean-up.
    let end = format!("ROLLBACK; DEALLOCATE convoy_describe; {BEGIN}");
    if lease.client().batch_execute(&end).await.is_err() {
        lease.mark_broken();
    }
    described
}

/// Asks what there is to know of the prepared statement.
async fn ask(
    lease: &Lease,
    statement: &Statement,
    collations: &Collations,
) -> Result<Description, QueryError> {
    let mut relations = locked_relations(lease).await?;
    let param_oids = param_oids(lease).await?;
    let described =
        lease.client().prepare_typed(&statement.text, &as_types(&param_oids)).await.map_err(
            |error| query_error(&error, Some(Sent { text: &statement.text, prefix_chars: 0 })),
        )?;
    relations.extend(named_relations(lease, &statement.directives.depends).await?);
    if described.columns().is_empty() {
        let message =
            "the statement has no result; a live query is one SELECT with at least one column";
        return Err(QueryError::new(ErrorCode::InvalidArgs, message));
    }
    let ids: Vec<RelationId> = relations.into_iter().collect();
    let trees = catalog::trees(lease.client(), &ids).await?;
    let has_views = trees.values().any(|tree| tree.root.kind == TableKind::View);
    let through = if has_views { ReadThrough::Views } else { ReadThrough::Tables };
    let tables = catalog::table_facts(lease.client(), &trees, collations, through).await?;
    let functions =
        functions::functions(lease.client(), &statement.text, &param_oids, &trees).await?;

    let column_oids: Vec<u32> = described.columns().iter().map(|c| c.type_().oid()).collect();
    let asked: Vec<u32> = column_oids.iter().chain(&param_oids).copied().collect();
    let types = Types::load(lease.client(), &asked).await?;
    let output = |column: &tokio_postgres::Column| {
        let type_oid = column.type_().oid();
        OutputColumn {
            name: column.name().to_owned(),
            type_oid,
            type_name: types.name(type_oid),
            ty: types.pg_type(type_oid),
        }
    };
    let param = |&type_oid: &u32| ParamType {
        type_oid,
        type_name: types.cast_name(type_oid),
        ty: types.pg_type(type_oid),
    };
    let facts = StatementFacts {
        params: param_oids.iter().map(param).collect(),
        columns: described.columns().iter().map(output).collect(),
        tables: Vec::new(),
        functions,
        default_collation: collations.of_database(lease.client()).await?,
        server_version_num: server_version_num(lease).await?,
    };
    check_rights(lease, param_oids.len()).await?;
    Ok(Description { facts, tables, trees })
}

/// Prepares the statement by name, through the extended protocol, in which Postgres takes one statement only.
pub(crate) async fn prepare(lease: &Lease, statement: &Statement) -> Result<(), QueryError> {
    let types: Vec<&str> = statement.params.iter().map(|p| p.type_name.as_str()).collect();
    let types = match types.is_empty() {
        true => String::new(),
        false => format!(" ({})", types.join(", ")),
    };
    let prefix = format!("PREPARE convoy_describe{types} AS ");
    let sql = format!("{prefix}{}", statement.text);
    let sent = Sent { text: &statement.text, prefix_chars: prefix.chars().count() };
    match lease.client().execute_typed(&sql, &[]).await {
        Ok(_) => Ok(()),
        Err(error) => {
            let mut told = query_error(&error, Some(sent));
            if told.message.starts_with("cannot insert multiple commands") {
                told.message = "a live query is one statement; this text has several".into();
            }
            Err(told)
        }
    }
}

/// Refuses a statement that the role may not run: PREPARE does not look at rights, and a result that is kept from
/// the stream alone would never meet them.
///
/// EXPLAIN starts the executor, which checks the rights on all that the statement names, whatever the plan leaves
/// out. Its other errors (a null that a domain refuses) say nothing. The last in its transaction, which it may spoil.
async fn check_rights(lease: &Lease, params: usize) -> Result<(), QueryError> {
    let nulls = match params {
        0 => String::new(),
        _ => format!("({})", vec!["NULL"; params].join(", ")),
    };
    let sql = format!(
        "SET LOCAL plan_cache_mode = force_generic_plan; EXPLAIN EXECUTE convoy_describe{nulls}"
    );
    match lease.client().batch_execute(&sql).await {
        Err(error) if error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) => {
            Err(query_error(&error, None))
        }
        _ => Ok(()),
    }
}

/// Returns what the session holds locks on; refuses what locks more than a reader does.
async fn locked_relations(lease: &Lease) -> Result<BTreeSet<RelationId>, QueryError> {
    let rows = lease.client().query_typed(LOCKS_SQL, &[]).await.map_err(PostgresError::from)?;
    let mut relations = BTreeSet::new();
    for row in rows {
        let mode: &str = row.try_get(1).map_err(PostgresError::from)?;
        let does = match mode {
            "AccessShareLock" => {
                relations.insert(RelationId(row.try_get(0).map_err(PostgresError::from)?));
                continue;
            }
            "RowShareLock" => "locks rows (FOR UPDATE or FOR SHARE)",
            _ => "writes",
        };
        let message = format!("the statement {does}; a live query is one SELECT that only reads");
        return Err(QueryError::new(ErrorCode::InvalidArgs, message));
    }
    Ok(relations)
}

/// Returns the types of the prepared statement's parameters.
pub(crate) async fn param_oids(lease: &Lease) -> Result<Vec<u32>, PostgresError> {
    Ok(lease.client().query_typed_one(PARAMS_SQL, &[]).await?.try_get(0)?)
}

/// Returns types of which only the oids are known, which is all that Parse needs.
pub(crate) fn as_types(oids: &[u32]) -> Vec<Type> {
    oids.iter().map(|&oid| crate::connect::param_type(oid)).collect()
}

/// Returns the tables that `@depends` names, as the role's `search_path` finds them.
async fn named_relations(lease: &Lease, names: &[String]) -> Result<Vec<RelationId>, QueryError> {
    let mut relations = Vec::new();
    for name in names {
        let sql = "SELECT pg_catalog.to_regclass($1)::pg_catalog.oid";
        let row = lease
            .client()
            .query_typed_one(sql, &[(&name.as_str(), Type::TEXT)])
            .await
            .map_err(|error| query_error(&error, None))?;
        let oid: Option<u32> = row.try_get(0).map_err(PostgresError::from)?;
        let oid = oid.ok_or_else(|| {
            let message = format!("@depends names {name}, and there is no such table");
            QueryError::new(ErrorCode::InvalidArgs, message)
        })?;
        relations.push(RelationId(oid));
    }
    Ok(relations)
}

async fn server_version_num(lease: &Lease) -> Result<u32, PostgresError> {
    let sql = "SELECT pg_catalog.current_setting('server_version_num')::pg_catalog.int4";
    let number: i32 = lease.client().query_typed_one(sql, &[]).await?.try_get(0)?;
    u32::try_from(number).map_err(|_| PostgresError::Unexpected { what: "server_version_num" })
}
