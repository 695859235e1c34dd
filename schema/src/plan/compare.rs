//! One declared table against what stands there.

use super::{Plan, Step, StepKind, WarningKind};
use crate::catalogue::{MARK, Standing, index_mark, table_mark};
use crate::declared::{Field, FieldType, Layout, Table};
use crate::layout::{CREATION_TIME, DOC, ID, Kind, TableLayout, index_keys};
use crate::names::{BY_CREATION_TIME, index_name, literal, quoted};

/// From so many rows on, an index takes long enough for its writers to notice.
const ROWS_BIG: f64 = 100_000.0;

/// Adds what a table needs. `doubtful` are the fields that documents hold other values in.
pub(super) fn table(
    table: &Table,
    stands: Option<&Standing>,
    doubtful: &[String],
    plan: &mut Plan,
) {
    let Some(stands) = stands else {
        match table.managed {
            true => create(table, plan),
            false => plan.warn(
                WarningKind::Absent,
                &table.name,
                "declared .unmanaged(), and not in the database: create it, or leave .unmanaged() out",
            ),
        }
        return;
    };
    if !table.managed {
        unmanaged(table, stands, plan);
        return;
    }
    if let Some(what) = foreign(table, stands) {
        plan.warn(WarningKind::Incompatible, &table.name, what);
        return;
    }
    let shape = stands.shape(table);
    if shape != table.layout {
        let what = match shape {
            Layout::Document => {
                "declared .relational(), and stands as documents: convoy graduate writes the SQL that moves it"
            }
            Layout::Relational => {
                "stands as columns, and is not declared .relational(): functions use the columns; add it to schema.ts"
            }
        };
        plan.warn(WarningKind::Incompatible, &table.name, what);
    }
    if shape == Layout::Relational {
        for field in &table.fields {
            column(table, field, stands, plan);
        }
        extra_columns(table, stands, plan);
    }
    indexes(table, shape, stands, doubtful, plan);
}

/// A table of ours that is declared no longer.
pub(super) fn undeclared(name: &str, plan: &mut Plan) {
    plan.warn_with(
        WarningKind::Drift,
        name,
        "a table that Convoy made, declared no longer; it is kept with its rows",
        vec![format!("drop table {};", quoted(name))],
    );
}

fn create(table: &Table, plan: &mut Plan) {
    let name = quoted(&table.name);
    let mut columns = vec![
        format!(
            "{ID} text collate \"C\" primary key default {} || pg_catalog.gen_random_uuid()::text",
            literal(&format!("{}:", table.name))
        ),
        format!(
            "{CREATION_TIME} float8 not null default (extract(epoch from pg_catalog.clock_timestamp()) * 1000)::float8"
        ),
    ];
    let what = match table.layout {
        Layout::Document => {
            columns.push(format!("{DOC} jsonb not null check (jsonb_typeof({DOC}) = 'object')"));
            "document table"
        }
        Layout::Relational => {
            columns.extend(table.fields.iter().map(|field| column_definition(field, true)));
            "relational table"
        }
    };
    plan.steps.push(Step {
        kind: StepKind::CreateTable,
        name: table.name.clone(),
        what: format!("{what}, {}", counted(table.fields.len(), "field")),
        statements: vec![
            format!("create table if not exists {name} ({})", columns.join(", ")),
            // The table is ours, so that old rows may be in the log whole.
            format!("alter table {name} replica identity full"),
            format!("comment on table {name} is {}", literal(&table_mark(table.layout))),
        ],
    });
    for (index, fields) in all_indexes(table) {
        create_index(table, index, fields, table.layout, plan);
    }
}

/// Returns a number with its noun.
pub(super) fn counted(number: usize, noun: &str) -> String {
    match number {
        1 => format!("1 {noun}"),
        _ if noun.ends_with('x') => format!("{number} {noun}es"),
        _ => format!("{number} {noun}s"),
    }
}

fn column_definition(field: &Field, is_empty: bool) -> String {
    let not_null = if is_empty && !field.may_be_absent() { " not null" } else { "" };
    format!("{} {}{not_null}", quoted(&field.name), field.ty.column_type())
}

/// Returns all indexes that a table is to have, with their fields.
fn all_indexes(table: &Table) -> impl Iterator<Item = (&str, &[String])> {
    let declared = table.indexes.iter().map(|index| (index.name.as_str(), index.fields.as_slice()));
    std::iter::once((BY_CREATION_TIME, &[][..])).chain(declared)
}

fn index_statements(table: &Table, index: &str, fields: &[String], shape: Layout) -> Vec<String> {
    let name = quoted(&index_name(&table.name, index));
    let keys = index_keys(table, fields, shape);
    vec![
        format!("create index if not exists {name} on {} ({keys})", quoted(&table.name)),
        format!("comment on index {name} is {}", literal(&index_mark(&keys))),
    ]
}

fn create_index(table: &Table, index: &str, fields: &[String], shape: Layout, plan: &mut Plan) {
    let what = match fields {
        [] => format!("index of {} by creation time", table.name),
        fields => format!("index of {} on {}", table.name, fields.join(", ")),
    };
    plan.steps.push(Step {
        kind: StepKind::CreateIndex,
        name: index_name(&table.name, index),
        what,
        statements: index_statements(table, index, fields, shape),
    });
}

fn indexes(table: &Table, shape: Layout, stands: &Standing, doubtful: &[String], plan: &mut Plan) {
    let mut wanted = Vec::new();
    for (index, fields) in all_indexes(table) {
        let name = index_name(&table.name, index);
        let mark = index_mark(&index_keys(table, fields, shape));
        let drop = format!("drop index {};", quoted(&name));
        match stands.indexes.get(&name).map(|index| index.comment.as_deref()) {
            Some(Some(comment)) if comment == mark => {}
            Some(Some(comment)) if comment.starts_with(MARK) => plan.warn_with(
                WarningKind::Incompatible,
                &name,
                format!(
                    "the index is on {}, and now declared on {}: drop it, and Convoy makes the new one",
                    &comment[MARK.len()..],
                    &mark[MARK.len()..]
                ),
                vec![drop],
            ),
            Some(_) => plan.warn(
                WarningKind::Note,
                &name,
                "an index of this name is there that Convoy did not make; it is taken as it is",
            ),
            None => {
                let held_up = fields.iter().find(|field| doubtful.contains(field));
                if let Some(field) = held_up {
                    let what = format!("not created while documents hold other values in {field:?}");
                    plan.warn(WarningKind::Incompatible, &name, what);
                } else {
                    note_size(table, index, fields, shape, stands, plan);
                    create_index(table, index, fields, shape, plan);
                }
            }
        }
        wanted.push(name);
    }
    for (name, index) in &stands.indexes {
        let is_ours = index.comment.as_deref().is_some_and(|comment| comment.starts_with(MARK));
        if is_ours && !wanted.contains(name) {
            plan.warn_with(
                WarningKind::Drift,
                name,
                format!("an index of {} that Convoy made, declared no longer", table.name),
                vec![format!("drop index {};", quoted(name))],
            );
        }
    }
}

/// Says of a big table that its writers wait while an index is built, and how they need not.
fn note_size(
    table: &Table,
    index: &str,
    fields: &[String],
    shape: Layout,
    stands: &Standing,
    plan: &mut Plan,
) {
    let Some(rows) = stands.rows_estimate.filter(|rows| *rows >= ROWS_BIG) else { return };
    let sql = index_statements(table, index, fields, shape).into_iter().map(|statement| {
        let concurrently = statement.replacen("create index if", "create index concurrently if", 1);
        format!("{concurrently};")
    });
    plan.warn_with(
        WarningKind::Note,
        index_name(&table.name, index),
        format!("{} has some {rows:.0} rows: writers wait while the index is built, unless this is run first", table.name),
        sql.collect(),
    );
}

/// Says why a table of the declared name can't be used, if so.
fn foreign(table: &Table, stands: &Standing) -> Option<String> {
    let name = &table.name;
    let mend = "rename one of them, or declare it .unmanaged() to use it as it is";
    if !stands.is_table {
        return Some(format!("something of this name is there that is no table: {mend}"));
    }
    if stands.shape(table) == Layout::Document
        && stands.column(DOC).is_none_or(|c| c.kind != Kind::Jsonb)
    {
        return Some(format!("the table has lost its column {DOC}: {mend}"));
    }
    let is_id = stands.column(ID).is_some_and(|column| column.kind == Kind::Text);
    let is_time = stands.column(CREATION_TIME).is_some_and(|column| column.kind == Kind::Float);
    if is_id && is_time && stands.primary_key == [ID] {
        return None;
    }
    Some(format!(
        "a table {name:?} is there that Convoy did not make (it needs {ID} text primary key and {CREATION_TIME} float8): {mend}"
    ))
}

fn fits(ty: FieldType, kind: Kind) -> bool {
    match ty {
        FieldType::String => matches!(kind, Kind::Text),
        FieldType::Number => matches!(kind, Kind::Float),
        FieldType::Boolean => kind == Kind::Bool,
        FieldType::Json => kind == Kind::Jsonb,
    }
}

fn column(table: &Table, field: &Field, stands: &Standing, plan: &mut Plan) {
    let (of, name) = (quoted(&table.name), quoted(&field.name));
    let place = format!("{}.{}", table.name, field.name);
    let Some(column) = stands.column(&field.name) else {
        plan.steps.push(Step {
            kind: StepKind::AddColumn,
            name: place.clone(),
            what: format!("column {}, null in rows that are there", field.ty.as_str()),
            statements: vec![format!(
                "alter table {of} add column if not exists {}",
                column_definition(field, false)
            )],
        });
        if !field.may_be_absent() {
            plan.warn_with(
                WarningKind::Missing,
                place,
                "declared as needed, and rows that are there have none: fill it, then forbid null, or declare it .optional()",
                vec![format!("alter table {of} alter column {name} set not null;")],
            );
        }
        return;
    };
    if !fits(field.ty, column.kind) {
        plan.warn_with(
            WarningKind::Incompatible,
            place,
            format!("declared {}, and the column is {}", field.ty.as_str(), column.type_name),
            vec![format!(
                "alter table {of} alter column {name} type {} using {name}::{};",
                field.ty.column_type(),
                field.ty.column_type().split(' ').next().unwrap_or_default()
            )],
        );
    } else if field.may_be_absent() && column.not_null {
        plan.warn_with(
            WarningKind::Incompatible,
            place,
            "declared optional or nullable, and the column takes no null",
            vec![format!("alter table {of} alter column {name} drop not null;")],
        );
    } else if !field.may_be_absent() && !column.not_null {
        plan.warn_with(
            WarningKind::Missing,
            place,
            "declared as needed, and the column takes null",
            vec![format!("alter table {of} alter column {name} set not null;")],
        );
    }
}

fn extra_columns(table: &Table, stands: &Standing, plan: &mut Plan) {
    for column in &stands.columns {
        if [ID, CREATION_TIME].contains(&column.name.as_str())
            || table.field(&column.name).is_some()
        {
            continue;
        }
        let needed = match column.not_null && !column.has_default {
            true => ", and takes no null, so that inserts fail",
            false => "",
        };
        plan.warn_with(
            WarningKind::Drift,
            format!("{}.{}", table.name, column.name),
            format!("a column that is not declared{needed}; it is kept"),
            vec![format!(
                "alter table {} drop column {};",
                quoted(&table.name),
                quoted(&column.name)
            )],
        );
    }
}

fn unmanaged(table: &Table, stands: &Standing, plan: &mut Plan) {
    if let Err(what) = TableLayout::new(table, Some(stands)) {
        plan.warn(WarningKind::Incompatible, &table.name, what);
    }
}
