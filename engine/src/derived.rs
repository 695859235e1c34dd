//! Derived fields: values inside of a jsonb column that conditions test, `doc->>'k'`, as if they were columns.
//!
//! For the index a derived field is a field like any other. The analysis numbers those of a statement behind its
//! table's columns; here all statements' are numbered together, each once, for as long as a statement uses it. A row's
//! derived values are read from the column's own text, and only those that somebody tests.

use crate::analyse::is_decimal;
use crate::args::canonical;
use crate::database::{ErrorCode, QueryError};
use crate::facts::TableFacts;
use crate::template::{Plan, QueryTemplate};
use convoy_query_index::{Condition, FieldId, FieldSet, FieldValue, TemplateId};
use convoy_types::{
    Datum, Key, ParseValueError, PgType, RelationId, json_at, json_elements, json_text,
};
use std::collections::{BTreeSet, HashMap};

/// A number with more digits than this is left to Postgres.
const DIGITS_MAX: usize = 1000;

/// A value inside of a jsonb column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DerivedField {
    /// The table.
    pub relation: RelationId,
    /// Its number, behind the table's columns.
    pub field: FieldId,
    /// What it is.
    pub value: JsonValue,
}

/// What is read of a jsonb column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JsonValue {
    /// The column.
    pub column: FieldId,
    /// The keys that lead to the value, through objects.
    pub path: Vec<String>,
    /// As what it is read.
    pub reads: JsonReads,
}

/// As what a value inside of a jsonb is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JsonReads {
    /// As `->>` gives it, cast to this type. What a cast does to a text that is not its type's own is left to Postgres.
    Text(PgType),
    /// As a JSON scalar, for `@>`.
    Scalar,
    /// As the scalars in a JSON array, for `@>`.
    Elements,
}

impl JsonValue {
    /// Returns what a column holds at the path; unknown where that is only Postgres' to say.
    pub(crate) fn read(&self, column: &Datum) -> FieldValue {
        let text = match column.known() {
            None => return FieldValue::Unknown,
            Some(None) => return FieldValue::Null,
            Some(Some(text)) => std::str::from_utf8(text).ok(),
        };
        let value = text.and_then(|text| self.read_text(text).ok());
        value.unwrap_or(FieldValue::Unknown)
    }

    fn read_text(&self, json: &str) -> Result<FieldValue, ParseValueError> {
        let found = json_at(json, &self.path)?;
        Ok(match &self.reads {
            JsonReads::Text(ty) => match found.map(json_text).transpose()?.flatten() {
                None => FieldValue::Null,
                Some(text) => match own_text(&text, ty) {
                    Some(text) => FieldValue::Key(Key::of(ty, text.as_bytes())?),
                    None => FieldValue::Unknown,
                },
            },
            JsonReads::Scalar => FieldValue::Key(Key::of_json(found)?),
            JsonReads::Elements => {
                let elements = found.map(json_elements).transpose()?.flatten().unwrap_or_default();
                let keys = elements.into_iter().map(|element| Key::of_json(Some(element)));
                FieldValue::Elements(
                    keys.collect::<Result<BTreeSet<_>, _>>()?.into_iter().collect(),
                )
            }
        })
    }

    /// Returns the value as SQL would write it.
    pub(crate) fn describe(&self, table: &TableFacts) -> String {
        let mut text = match table.columns.get(usize::from(self.column.0)) {
            Some(column) => column.name.clone(),
            None => format!("column {}", self.column.0),
        };
        for (position, key) in self.path.iter().enumerate() {
            let is_last = position + 1 == self.path.len();
            let arrow = match &self.reads {
                JsonReads::Text(_) if is_last => "->>",
                _ => "->",
            };
            text.push_str(arrow);
            text.push_str(&format!("'{}'", key.replace('\'', "''")));
        }
        match &self.reads {
            JsonReads::Text(PgType::Text) | JsonReads::Scalar | JsonReads::Elements => text,
            JsonReads::Text(ty) => format!("({text})::{}", ty.name()),
        }
    }
}

/// Returns a text as its type prints it, if that is how it is written.
fn own_text(text: &str, ty: &PgType) -> Option<String> {
    match ty {
        PgType::Numeric => (is_decimal(text) && text.len() <= DIGITS_MAX).then(|| text.to_owned()),
        ty => canonical(text, ty),
    }
}

/// The derived fields of one table.
#[derive(Debug)]
struct OfTable {
    /// How many columns the table has: where the numbers begin.
    columns: u16,
    /// The fields, and how many statements use each.
    fields: Vec<(DerivedField, usize)>,
}

/// The derived fields that statements use.
#[derive(Debug, Default)]
pub(crate) struct DerivedFields {
    tables: HashMap<RelationId, OfTable>,
    by_template: HashMap<TemplateId, Vec<(RelationId, FieldId)>>,
}

impl DerivedFields {
    /// Returns a table's fields, for [`crate::tables::field_values`].
    pub fn of_table(&self, table: RelationId) -> impl Iterator<Item = &DerivedField> {
        self.tables.get(&table).into_iter().flat_map(|of| &of.fields).map(|(field, _)| field)
    }

    /// Notes which fields a statement uses, and gives them in it the numbers that they have here.
    ///
    /// # Errors
    /// [`ErrorCode::Internal`] where there are no more numbers.
    pub fn adopt(
        &mut self,
        id: TemplateId,
        template: &mut QueryTemplate,
    ) -> Result<(), QueryError> {
        self.release(id);
        let mut numbers = HashMap::new();
        for derived in &mut template.derived {
            let table = template.tables.iter().find(|table| table.id == derived.relation);
            let columns = table.and_then(|table| u16::try_from(table.columns.len()).ok());
            let number = columns.and_then(|columns| self.use_field(id, derived, columns));
            let Some(number) = number else {
                let message = "too many values inside of a table's JSON columns are compared";
                return Err(QueryError::new(ErrorCode::Internal, message));
            };
            numbers.insert((derived.relation, derived.field), number);
            derived.field = number;
        }
        if numbers.is_empty() {
            return Ok(());
        }
        for predicate in &mut template.predicates {
            renumber(&mut predicate.condition, &|field| {
                numbers.get(&(predicate.relation, field)).copied()
            });
        }
        let (table, conditions, derived) = match &mut template.plan {
            Plan::Window(plan) => (plan.table.id, vec![&mut plan.condition], &mut plan.derived),
            Plan::Groups(plan) => {
                let filters = plan.filters.iter_mut();
                let conditions = std::iter::once(&mut plan.condition).chain(filters).collect();
                (plan.table.id, conditions, &mut plan.derived)
            }
            Plan::Refresh(_) => return Ok(()),
        };
        for condition in conditions {
            renumber(condition, &|field| numbers.get(&(table, field)).copied());
        }
        derived.clone_from(&template.derived);
        Ok(())
    }

    fn use_field(
        &mut self,
        id: TemplateId,
        derived: &DerivedField,
        columns: u16,
    ) -> Option<FieldId> {
        let relation = derived.relation;
        let of = self.tables.entry(relation).or_insert(OfTable { columns, fields: Vec::new() });
        if of.columns != columns {
            // The table is another; who knows it as it was is analysed again before it counts.
            *of = OfTable { columns, fields: Vec::new() };
            for used in self.by_template.values_mut() {
                used.retain(|(table, _)| *table != relation);
            }
        }
        let known = of.fields.iter().position(|(field, _)| field.value == derived.value);
        let position = match known.or_else(|| of.fields.iter().position(|(_, uses)| *uses == 0)) {
            Some(position) => position,
            None => {
                of.fields.push((derived.clone(), 0));
                of.fields.len() - 1
            }
        };
        let number = u16::try_from(position).ok()?.checked_add(columns)?;
        let (field, uses) = &mut of.fields[position];
        *field = DerivedField { field: FieldId(number), ..derived.clone() };
        *uses += 1;
        self.by_template.entry(id).or_default().push((relation, FieldId(number)));
        Some(FieldId(number))
    }

    /// Forgets what a statement uses.
    pub fn release(&mut self, id: TemplateId) {
        for (relation, number) in self.by_template.remove(&id).into_iter().flatten() {
            let Some(of) = self.tables.get_mut(&relation) else { continue };
            if let Some((_, uses)) = of.fields.iter_mut().find(|(field, _)| field.field == number) {
                *uses = uses.saturating_sub(1);
            }
            if of.fields.iter().all(|(_, uses)| *uses == 0) {
                self.tables.remove(&relation);
            }
        }
    }
}

/// Returns the columns that fields are, or are read from.
pub(crate) fn columns_of(fields: &FieldSet, derived: &[DerivedField]) -> FieldSet {
    let column = |field: FieldId| {
        let of = derived.iter().find(|derived| derived.field == field);
        of.map_or(field, |derived| derived.value.column)
    };
    fields.iter().map(column).collect()
}

fn renumber(condition: &mut Condition, number: &dyn Fn(FieldId) -> Option<FieldId>) {
    match condition {
        Condition::Compare { field, .. }
        | Condition::In { field, .. }
        | Condition::Prefix { field, .. }
        | Condition::HasElement { field, .. }
        | Condition::IsNull(field)
        | Condition::IsNotNull(field) => {
            if let Some(number) = number(*field) {
                *field = number;
            }
        }
        Condition::And(parts) | Condition::Or(parts) => {
            parts.iter_mut().for_each(|part| renumber(part, number));
        }
        Condition::Not(inner) => renumber(inner, number),
        Condition::Unknown => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analyse::fixture::Case;

    fn value(path: &[&str], reads: JsonReads) -> JsonValue {
        let path = path.iter().map(|&key| key.to_owned()).collect();
        JsonValue { column: FieldId(0), path, reads }
    }

    fn read(value: &JsonValue, json: &str) -> FieldValue {
        value.read(&Datum::Text(json.to_owned().into_bytes().into()))
    }

    #[test]
    fn statements_share_fields_and_free_them() {
        let mut fields = DerivedFields::default();
        let adopt = |fields: &mut DerivedFields, id, condition: &str| {
            let sql = format!("select id from orders where {condition}");
            let mut template = Case::new(&sql, "id").analyse().expect("a live query");
            fields.adopt(TemplateId(id), &mut template).expect("numbers enough");
            let Plan::Window(plan) = &template.plan else { panic!("{condition}") };
            let relation = plan.table.id;
            assert_eq!(plan.condition, template.predicates[0].condition);
            let tested = plan.condition.fields();
            assert!(plan.derived.iter().all(|derived| tested.contains(derived.field)));
            let columns = u16::try_from(plan.table.columns.len()).expect("a small table");
            let shown = tested.iter().map(|field| {
                (i32::from(field.0) - i32::from(columns), template.field_name(relation, field))
            });
            shown.collect::<Vec<_>>()
        };
        let named = |number, name: &str| (number, name.to_owned());
        let first = adopt(&mut fields, 0, "data->>'a' = 'x' and data->>'b' = 'y'");
        assert_eq!(first, [named(0, "data->>'a'"), named(1, "data->>'b'")]);
        let second = adopt(&mut fields, 1, "data->>'b' = 'y' and data->>'c' = 'z'");
        assert_eq!(second, [named(1, "data->>'b'"), named(2, "data->>'c'")]);
        fields.release(TemplateId(0));
        let third = adopt(&mut fields, 2, "(data->>'n')::int4 = 1 and data->>'b' = 'y'");
        assert_eq!(third, [named(0, "(data->>'n')::int4"), named(1, "data->>'b'")]);
        // The same statement, analysed again.
        assert_eq!(adopt(&mut fields, 1, "data->>'b' = 'y' and data->>'c' = 'z'"), second);
        fields.release(TemplateId(1));
        fields.release(TemplateId(2));
        assert!(fields.tables.is_empty() && fields.by_template.is_empty());
    }

    #[test]
    fn only_a_types_own_text_is_read() {
        let check = |ty: PgType, json: &str, expect: Option<&str>| {
            let expect = match expect {
                Some("null") => FieldValue::Null,
                Some(text) => FieldValue::Key(Key::of(&ty, text.as_bytes()).expect("a value")),
                None => FieldValue::Unknown,
            };
            let json = format!("{{\"k\": {json}}}");
            assert_eq!(read(&value(&["k"], JsonReads::Text(ty)), &json), expect, "{json}");
        };
        check(PgType::Text, "\"a\\n\"", Some("a\n"));
        check(PgType::Text, "null", Some("null"));
        check(PgType::Text, "[1, 2]", Some("[1, 2]"));
        check(PgType::Int4, "7", Some("7"));
        check(PgType::Int4, "\"-07\"", Some("-7"));
        check(PgType::Int4, "\" 7\"", None);
        check(PgType::Int4, "7.0", None);
        check(PgType::Int4, "3000000000", None);
        check(PgType::Numeric, "1.50", Some("1.5"));
        check(PgType::Numeric, "\"1e2\"", None);
        check(PgType::Bool, "true", Some("t"));
        check(PgType::Bool, "\"yes\"", None);
        check(PgType::Uuid, "\"A0EEBC99-9c0b-4ef8-bb6d-6bb9bd380a11\"", None);
    }

    #[test]
    fn what_is_not_told_is_unknown() {
        let text = value(&["k"], JsonReads::Text(PgType::Text));
        assert_eq!(text.read(&Datum::UnchangedToast), FieldValue::Unknown);
        assert_eq!(text.read(&Datum::Missing), FieldValue::Unknown);
        assert_eq!(text.read(&Datum::Null), FieldValue::Null);
        assert_eq!(read(&text, "[1]"), FieldValue::Null);
        assert_eq!(read(&text, "{"), FieldValue::Unknown);
        let elements = value(&["k"], JsonReads::Elements);
        assert_eq!(read(&elements, "{\"k\": 1}"), FieldValue::Elements(Box::new([])));
    }
}
