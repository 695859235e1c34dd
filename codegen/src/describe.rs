//! A `.sql` file described: Postgres' word for its types, and the file's own for what Postgres can't know.

use crate::nulls::MadeNull;
use crate::project::{QueryColumn, QueryParam, SqlQuery, StatedType};
use crate::value_type::type_of;
use convoy_engine::{ErrorCode, ParamSource, QueryError, Statement};
use convoy_postgres::{ColumnShape, Lease, shape};

/// Asks Postgres what a `.sql` file takes and gives. `file` is its path from the project's root.
///
/// # Errors
/// What Postgres says of the statement; and where the header names columns that the result does not have.
pub async fn describe(
    lease: &mut Lease,
    statement: &Statement,
    file: &str,
) -> Result<SqlQuery, QueryError> {
    let shape = shape(lease, statement).await?;
    check_columns(statement, &shape.columns)?;
    if shape.params.len() > statement.params.len() {
        let missing = statement.params.len() + 1;
        return Err(invalid(format!(
            "${missing} has no name: the {missing}. `@param` line declares it, like `-- @param tenant int4`"
        )));
    }
    // A claim is nothing that a caller gives.
    let arguments = (statement.params.iter().zip(&shape.params))
        .filter(|(declared, _)| declared.source == ParamSource::Argument);
    let params = arguments.map(|(declared, ty)| QueryParam {
        name: declared.name.clone(),
        ty: type_of(ty),
        nullable: declared.nullable,
        optional: declared.default.is_some(),
    });
    let made_null = MadeNull::of(&statement.text, shape.columns.len());
    let directives = &statement.directives;
    let column = |(position, column): (usize, &ColumnShape)| {
        let is_never_null = directives.not_null.contains(&column.name)
            || column
                .origin
                .as_ref()
                .is_some_and(|origin| origin.not_null && !made_null.holds(position, &origin.table));
        let stated = directives.types.iter().find(|(name, _)| *name == column.name);
        QueryColumn {
            name: column.name.clone(),
            ty: type_of(&column.ty),
            nullable: !is_never_null,
            stated: stated.map(|(_, ty)| stated_type(ty)),
        }
    };
    Ok(SqlQuery {
        name: statement.name.clone().unwrap_or_default(),
        file: file.to_owned(),
        params: params.collect(),
        columns: shape.columns.iter().enumerate().map(column).collect(),
    })
}

/// Reads `Meta from './meta'`.
fn stated_type(text: &str) -> StatedType {
    let text = text.trim().trim_end_matches(';').trim_end();
    let module = |quote: char| {
        let inner = text.strip_suffix(quote)?;
        let (before, from) = inner.rsplit_once(quote)?;
        let ty = before.trim_end().strip_suffix("from")?;
        ty.ends_with(char::is_whitespace).then(|| (ty.trim().to_owned(), from.to_owned()))
    };
    match module('\'').or_else(|| module('"')) {
        Some((ty, from)) => StatedType { ty, from: Some(from) },
        None => StatedType { ty: text.to_owned(), from: None },
    }
}

/// Refuses columns that rows can't have, and directives about columns that are not there.
fn check_columns(statement: &Statement, columns: &[ColumnShape]) -> Result<(), QueryError> {
    for (position, column) in columns.iter().enumerate() {
        if column.name == "?column?" {
            let message = format!("column {} has no name: give it one with AS", position + 1);
            return Err(invalid(message));
        }
        if columns[..position].iter().any(|other| other.name == column.name) {
            return Err(invalid(format!(
                "two columns are named {:?}: rename one with AS",
                column.name
            )));
        }
    }
    let directives = &statement.directives;
    let named = directives.not_null.iter().map(|name| ("notnull", name));
    let named = named.chain(directives.types.iter().map(|(name, _)| ("type", name)));
    for (word, name) in named {
        if !columns.iter().any(|column| column.name == *name) {
            let columns: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
            return Err(invalid(format!(
                "@{word} names the column {name:?}, and the result has {}",
                columns.join(", ")
            )));
        }
    }
    Ok(())
}

fn invalid(message: impl Into<String>) -> QueryError {
    QueryError::new(ErrorCode::InvalidArgs, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stated_types_are_read() {
        let check = |text: &str, ty: &str, from: Option<&str>| {
            let expect = StatedType { ty: ty.to_owned(), from: from.map(str::to_owned) };
            assert_eq!(stated_type(text), expect, "{text}");
        };
        check("Meta from './meta'", "Meta", Some("./meta"));
        check("Meta[]  from \"../types/meta.js\";", "Meta[]", Some("../types/meta.js"));
        check("{ a: number }", "{ a: number }", None);
        check("'from' | 'to'", "'from' | 'to'", None);
    }
}
