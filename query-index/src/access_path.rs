//! How live queries are found, in words.

use crate::fields::FieldId;
use crate::normal_form::CONJUNCTIONS_MAX;

/// How the index finds the live queries of a predicate, for `explain`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccessPath {
    /// One look-up by these fields' values together.
    Equality(Vec<FieldId>),
    /// One look-up by the field's value, among the elements of each query's list.
    In(FieldId),
    /// A look-up for each of the elements that a row's array has in the field.
    Element(FieldId),
    /// The intervals that hold the field's value.
    Range(FieldId),
    /// The same, where the intervals are of texts that begin alike.
    Prefix(FieldId),
    /// Only rows that hold null in the field.
    IsNull(FieldId),
    /// Only rows that hold a value in the field.
    IsNotNull(FieldId),
    /// Several of the above at once.
    All(Vec<AccessPath>),
    /// Each of these in turn, for a condition with `OR`.
    Any(Vec<AccessPath>),
    /// None: every change of the table concerns every query, or is tested for every query.
    Table,
    /// The same, and the reason is an `OR` of more alternatives than are looked up.
    WideOr,
    /// Not at all: no row can meet the condition.
    Never,
}

impl AccessPath {
    /// Returns the path in words.
    pub fn describe(&self, field_name: &dyn Fn(FieldId) -> String) -> String {
        let list = |paths: &[AccessPath], separator: &str| {
            let paths: Vec<String> = paths.iter().map(|path| path.describe(field_name)).collect();
            paths.join(separator)
        };
        match self {
            AccessPath::Equality(fields) => {
                let names: Vec<String> = fields.iter().map(|&field| field_name(field)).collect();
                format!("equality ({})", names.join(", "))
            }
            AccessPath::In(field) => format!("in ({})", field_name(*field)),
            AccessPath::Element(field) => format!("element ({})", field_name(*field)),
            AccessPath::Range(field) => format!("range ({})", field_name(*field)),
            AccessPath::Prefix(field) => format!("prefix ({})", field_name(*field)),
            AccessPath::IsNull(field) => format!("null ({})", field_name(*field)),
            AccessPath::IsNotNull(field) => format!("not null ({})", field_name(*field)),
            AccessPath::All(paths) => list(paths, " with "),
            AccessPath::Any(paths) => list(paths, " or "),
            AccessPath::Table => "table".to_owned(),
            AccessPath::WideOr => {
                format!("table, for an OR has more than {CONJUNCTIONS_MAX} alternatives")
            }
            AccessPath::Never => "never".to_owned(),
        }
    }
}
