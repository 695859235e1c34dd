//! Columns: which of the outermost tables' a name or a `*` mentions.
//!
//! What a name means, the [`Scope`](crate::analyse::scope::Scope) says; where that is not certain, every column that
//! it may mean is mentioned.

use super::Walker;
use crate::analyse::scope::{NotUnderstood, Resolved, name_parts, not_understood};
use convoy_query_index::FieldId;
use sqlparser::ast::ObjectName;

/// The columns of a row that every table has and that the stream does not show.
const SYSTEM_COLUMNS: [&str; 6] = ["ctid", "xmin", "xmax", "cmin", "cmax", "tableoid"];

impl Walker<'_, '_> {
    fn add(&mut self, source: usize, field: FieldId) {
        self.fields[source].insert(field);
        if self.decides {
            self.deciding[source].insert(field);
        }
        self.rows_uncertain |= self.in_inner_aggregate && self.aggregates_matter;
    }

    fn add_all(&mut self, source: usize) {
        let all = self.scope.sources[source].table.fields();
        self.fields[source].union_with(&all);
        if self.decides {
            self.deciding[source].union_with(&all);
        }
        self.rows_uncertain |= self.in_inner_aggregate && self.aggregates_matter;
    }

    pub(super) fn add_everything(&mut self) {
        (0..self.scope.sources.len()).for_each(|source| self.add_all(source));
    }

    /// Adds the column in every table that has one of that name.
    pub(super) fn add_wherever(&mut self, name: &str) {
        for source in 0..self.scope.sources.len() {
            if let Some(field) = self.scope.sources[source].table.field(name) {
                self.add(source, field);
            }
        }
    }

    pub(super) fn name(&mut self, name: &str) -> Result<(), NotUnderstood> {
        if self.inner_tables.iter().any(|table| table.field(name).is_some()) {
            return Ok(());
        }
        if let Some(source) = self.scope.source(name) {
            // Perhaps the whole row.
            if self.scope.sources.iter().all(|source| source.table.field(name).is_none()) {
                self.add_all(source);
            }
        }
        match self.scope.resolve_name(name) {
            Resolved::Column(source, field) if self.nesting == 0 => self.add(source, field),
            Resolved::Elsewhere if is_system_column(name) => {
                return not_understood(format!("{name} is a system column"));
            }
            _ => self.add_wherever(name),
        }
        Ok(())
    }

    pub(super) fn qualified(&mut self, parts: &[String]) -> Result<(), NotUnderstood> {
        match self.scope.resolve_qualified(parts) {
            Resolved::Column(source, field) => self.add(source, field),
            Resolved::Odd(_) if parts.last().is_some_and(|name| is_system_column(name)) => {
                return not_understood("it reads a system column");
            }
            // A function of the row, written like a column.
            Resolved::Row(source) | Resolved::Odd(source) => self.add_all(source),
            Resolved::Several => self.add_everything(),
            // `schema.table.column` of an aliased table, say; Postgres knows.
            Resolved::Elsewhere => self.add_rows_of(parts),
        }
        Ok(())
    }

    /// `t.*`
    pub(super) fn row(&mut self, name: &ObjectName) -> Result<(), NotUnderstood> {
        let Some(parts) = name_parts(name) else { return not_understood("a name is oddly quoted") };
        self.add_rows_of(&parts);
        Ok(())
    }

    /// Adds every column of the sources that go by one of the names.
    fn add_rows_of(&mut self, names: &[String]) {
        for source in names.iter().filter_map(|name| self.scope.source(name)) {
            self.add_all(source);
        }
    }
}

fn is_system_column(name: &str) -> bool {
    SYSTEM_COLUMNS.contains(&name)
}
