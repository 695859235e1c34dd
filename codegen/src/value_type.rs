//! How values of Postgres' types look in TypeScript, as the wire carries them (`docs/protocol.md`, "Typed rows").

use convoy_postgres::SqlType;

/// A value's type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ValueType {
    /// `boolean`
    Boolean,
    /// `number`: int2, int4, float4, float8.
    Number,
    /// `string` in rows, for no digit to be lost; arguments may be numbers too: int8, numeric.
    Digits,
    /// `string`: any other type.
    Text,
    /// `unknown`: json and jsonb.
    Json,
    /// `unknown` in rows, where it is an object; arguments are in Postgres' own form, a string.
    Composite,
    /// The labels of an enum, in its order.
    Enum(Vec<String>),
    /// An array of these.
    Array(Box<ValueType>),
}

/// Where a value stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// In arguments, which a type's own input reads.
    Argument,
    /// In a row.
    Row,
}

/// Returns how values of a type look.
pub fn type_of(ty: &SqlType) -> ValueType {
    match ty {
        SqlType::Enum(labels) if !labels.is_empty() => ValueType::Enum(labels.clone()),
        SqlType::Enum(_) => ValueType::Text,
        SqlType::Array(element) => ValueType::Array(Box::new(type_of(element))),
        SqlType::Composite => ValueType::Composite,
        SqlType::Named(name) => match name.as_str() {
            "bool" => ValueType::Boolean,
            "int2" | "int4" | "float4" | "float8" => ValueType::Number,
            "int8" | "numeric" => ValueType::Digits,
            "json" | "jsonb" => ValueType::Json,
            _ => ValueType::Text,
        },
    }
}

impl ValueType {
    /// Returns the type in TypeScript.
    pub(crate) fn typescript(&self, place: Place) -> String {
        match self {
            ValueType::Boolean => "boolean".to_owned(),
            ValueType::Number => "number".to_owned(),
            ValueType::Digits if place == Place::Argument => "string | number".to_owned(),
            ValueType::Composite if place == Place::Argument => "string".to_owned(),
            ValueType::Digits | ValueType::Text => "string".to_owned(),
            ValueType::Json | ValueType::Composite => "unknown".to_owned(),
            ValueType::Enum(labels) => {
                let labels = labels.iter().map(|label| crate::typescript::string(label));
                labels.collect::<Vec<_>>().join(" | ")
            }
            ValueType::Array(element) => {
                let element = element.typescript(place);
                let is_union = element.contains('|') || element.starts_with('\'');
                if is_union { format!("({element})[]") } else { format!("{element}[]") }
            }
        }
    }
}

/// Returns a type that may be null, or may not.
pub(crate) fn or_null(typescript: String, nullable: bool) -> String {
    // `unknown` takes null in.
    if nullable && typescript != "unknown" { format!("{typescript} | null") } else { typescript }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_look_as_the_wire_has_them() {
        let check = |ty: SqlType, row: &str, argument: &str| {
            let ty = type_of(&ty);
            assert_eq!(ty.typescript(Place::Row), row);
            assert_eq!(ty.typescript(Place::Argument), argument);
        };
        let named = |name: &str| SqlType::Named(name.to_owned());
        let array = |of: SqlType| SqlType::Array(Box::new(of));
        let labels = || SqlType::Enum(vec!["open".into(), "it's".into()]);
        check(named("bool"), "boolean", "boolean");
        check(named("float8"), "number", "number");
        check(named("int8"), "string", "string | number");
        check(named("numeric"), "string", "string | number");
        check(named("timestamptz"), "string", "string");
        check(named("jsonb"), "unknown", "unknown");
        check(labels(), "'open' | 'it\\'s'", "'open' | 'it\\'s'");
        check(SqlType::Enum(Vec::new()), "string", "string");
        check(array(named("text")), "string[]", "string[]");
        check(array(named("int8")), "string[]", "(string | number)[]");
        check(array(labels()), "('open' | 'it\\'s')[]", "('open' | 'it\\'s')[]");
        check(array(named("json")), "unknown[]", "unknown[]");
        check(SqlType::Composite, "unknown", "string");
    }
}
