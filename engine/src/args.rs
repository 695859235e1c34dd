//! Arguments as a client gives them: JSON, not yet read as any type; and the texts that the types' inputs read.

use crate::database::{ErrorCode, QueryError};
use crate::facts::ParamType;
use crate::statement::{ParamDeclaration, ParamSource};
use convoy_types::PgType;
use std::fmt::Write;
use thiserror::Error;

/// A JSON value. The wire's parser makes it; the engine turns it into the text that a parameter's type reads.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Argument {
    /// `null`
    Null,
    /// `true`, `false`
    Bool(bool),
    /// A number, with every digit as it was sent.
    Number(String),
    /// A string, unescaped.
    String(String),
    /// An array.
    Array(Vec<Argument>),
    /// An object, as JSON text.
    Object(String),
}

impl Argument {
    /// Appends it as JSON.
    pub fn push_json(&self, out: &mut String) {
        write_json(self, out);
    }
}

/// Why arguments by name don't fit a named query's parameters.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ArgumentMisfit {
    /// There is no such parameter.
    #[error("unknown argument {name:?}")]
    Unknown {
        /// What was given.
        name: String,
    },
    /// It says who asks, which arguments never do.
    #[error("{name:?} is a claim of who asks, and can't be given as an argument")]
    IsClaim {
        /// What was given.
        name: String,
    },
    /// Who asks has no such claim.
    #[error("the caller has no claim {name:?}, which the query needs")]
    NoClaim {
        /// The claim.
        name: String,
    },
    /// Null, where that is not allowed.
    #[error(
        "argument {name:?} must not be null: `-- @param {name} {type_name} null` would allow it"
    )]
    Null {
        /// The parameter.
        name: String,
        /// Its type.
        type_name: String,
    },
    /// It is not given and has no default.
    #[error("argument {name:?} is missing: give it a value of type {type_name}")]
    Missing {
        /// The parameter.
        name: String,
        /// Its type.
        type_name: String,
    },
}

/// Puts arguments into the order of the parameters, with what who asks has for those that are not arguments; none where
/// one is not given and has a default.
///
/// # Errors
/// The first that does not fit: one that is unknown, then one that is null or missing, in the parameters' order.
pub fn arguments_with_claims(
    params: &[ParamDeclaration],
    mut given: Vec<(String, Argument)>,
    claim: impl Fn(&ParamDeclaration) -> Option<Argument>,
) -> Result<Vec<Option<Argument>>, ArgumentMisfit> {
    for (name, _) in &given {
        let name = name.clone();
        match params.iter().find(|param| param.name == name).map(|param| param.source) {
            Some(ParamSource::Argument) => {}
            Some(ParamSource::Claim) => return Err(ArgumentMisfit::IsClaim { name }),
            Some(ParamSource::Identity) | None => return Err(ArgumentMisfit::Unknown { name }),
        }
    }
    let in_place = |param: &ParamDeclaration| {
        let (name, type_name) = (param.name.clone(), param.type_name.clone());
        if param.source != ParamSource::Argument {
            // One that says null says nothing.
            return match claim(param).filter(|value| *value != Argument::Null) {
                Some(value) => Ok(Some(value)),
                None if param.default.is_some() => Ok(None),
                None if param.nullable => Ok(Some(Argument::Null)),
                None => Err(ArgumentMisfit::NoClaim { name }),
            };
        }
        let position = given.iter().position(|(name, _)| *name == param.name);
        match position.map(|position| given.swap_remove(position).1) {
            Some(Argument::Null) if !param.nullable => {
                Err(ArgumentMisfit::Null { name, type_name })
            }
            Some(argument) => Ok(Some(argument)),
            None if param.default.is_some() => Ok(None),
            None => Err(ArgumentMisfit::Missing { name, type_name }),
        }
    };
    params.iter().map(in_place).collect()
}

/// Returns the text that a parameter's type is to read; none for null.
///
/// Numbers, strings and booleans go as they are; JSON arrays become Postgres' array literals; parameters of type json
/// and jsonb take any JSON, a string being the JSON string.
///
/// # Errors
/// [`ErrorCode::InvalidArgs`] for an array or object where the type is neither, and for a zero byte.
pub fn argument_text(argument: &Argument, param: &ParamType) -> Result<Option<String>, QueryError> {
    let element = param.type_name.strip_suffix("[]");
    let base = element.unwrap_or(&param.type_name);
    let is_json = matches!(base.strip_prefix("pg_catalog.").unwrap_or(base), "json" | "jsonb");
    let text = match argument {
        Argument::Null => return Ok(None),
        Argument::Array(elements) if element.is_some() || matches!(param.ty, PgType::Array(_)) => {
            let mut text = String::new();
            write_array(elements, is_json, &mut text)?;
            text
        }
        // A text of Postgres' own for a whole array: `{1,2}`.
        Argument::String(text) if element.is_some() => text.clone(),
        _ if is_json => {
            let mut text = String::new();
            write_json(argument, &mut text);
            text
        }
        Argument::Bool(value) => value.to_string(),
        Argument::Number(text) | Argument::String(text) => text.clone(),
        Argument::Array(_) => return Err(mismatch("an array", param)),
        Argument::Object(_) => return Err(mismatch("an object", param)),
    };
    if text.contains('\0') {
        return Err(QueryError::new(
            ErrorCode::InvalidArgs,
            format!(
                "a value for {} holds a zero byte, which Postgres can't store",
                param.type_name
            ),
        ));
    }
    Ok(Some(text))
}

fn mismatch(what: &str, param: &ParamType) -> QueryError {
    QueryError::new(
        ErrorCode::InvalidArgs,
        format!("{what} was given where the parameter's type is {}", param.type_name),
    )
}

/// Writes an array literal (PostgreSQL manual, 8.15.2). Elements are quoted always, which every type's input allows.
fn write_array(elements: &[Argument], is_json: bool, out: &mut String) -> Result<(), QueryError> {
    out.push('{');
    for (index, element) in elements.iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        match element {
            Argument::Null => out.push_str("NULL"),
            Argument::Array(inner) if !is_json => write_array(inner, is_json, out)?,
            _ if is_json => {
                let mut json = String::new();
                write_json(element, &mut json);
                write_element(&json, out);
            }
            Argument::Bool(value) => write_element(if *value { "true" } else { "false" }, out),
            Argument::Number(text) | Argument::String(text) | Argument::Object(text) => {
                write_element(text, out);
            }
            Argument::Array(_) => {}
        }
    }
    out.push('}');
    Ok(())
}

fn write_element(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        if matches!(c, '"' | '\\') {
            out.push('\\');
        }
        out.push(c);
    }
    out.push('"');
}

fn write_json(argument: &Argument, out: &mut String) {
    match argument {
        Argument::Null => out.push_str("null"),
        Argument::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
        Argument::Number(text) | Argument::Object(text) => out.push_str(text),
        Argument::String(text) => {
            out.push('"');
            for c in text.chars() {
                match c {
                    '"' | '\\' => {
                        out.push('\\');
                        out.push(c);
                    }
                    '\0'..='\u{1f}' => {
                        let _ = write!(out, "\\u{:04x}", u32::from(c));
                    }
                    _ => out.push(c),
                }
            }
            out.push('"');
        }
        Argument::Array(elements) => {
            out.push('[');
            for (index, element) in elements.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write_json(element, out);
            }
            out.push(']');
        }
    }
}

/// Returns what Postgres would print for a text that a type has read, where that needs no question to Postgres.
pub fn canonical(text: &str, ty: &PgType) -> Option<String> {
    let integer = |min: i64, max: i64| {
        let digits = text.strip_prefix('-').unwrap_or(text);
        let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        let value = if plain { text.parse::<i64>().ok() } else { None };
        value.filter(|value| (min..=max).contains(value)).map(|value| value.to_string())
    };
    match ty {
        PgType::Int2 => integer(i16::MIN.into(), i16::MAX.into()),
        PgType::Int4 => integer(i32::MIN.into(), i32::MAX.into()),
        PgType::Int8 => integer(i64::MIN, i64::MAX),
        PgType::Bool => match text {
            "t" | "true" => Some("t".to_owned()),
            "f" | "false" => Some("f".to_owned()),
            _ => None,
        },
        PgType::Text | PgType::Varchar if !text.contains('\0') => Some(text.to_owned()),
        PgType::Uuid => is_plain_uuid(text).then(|| text.to_owned()),
        _ => None,
    }
}

fn is_plain_uuid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(index, byte)| match index {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(argument: Argument, type_name: &str, ty: PgType) -> Result<Option<String>, QueryError> {
        argument_text(&argument, &ParamType { type_oid: 0, type_name: type_name.to_owned(), ty })
    }

    fn string(text: &str) -> Argument {
        Argument::String(text.to_owned())
    }

    fn number(text: &str) -> Argument {
        Argument::Number(text.to_owned())
    }

    #[test]
    fn a_claim_is_never_an_argument() {
        let param = |name: &str, source| ParamDeclaration {
            name: name.to_owned(),
            type_name: "text".to_owned(),
            default: None,
            nullable: false,
            source,
        };
        let params = [param("a", ParamSource::Argument), param("b", ParamSource::Claim)];
        let given = |names: &[&str]| -> Vec<_> {
            names.iter().map(|name| ((*name).to_owned(), string("given"))).collect()
        };
        let claim = |_: &ParamDeclaration| Some(string("claimed"));
        assert_eq!(
            arguments_with_claims(&params, given(&["a"]), claim),
            Ok(vec![Some(string("given")), Some(string("claimed"))])
        );
        for names in [&["a", "b"][..], &["b"]] {
            let misfit = ArgumentMisfit::IsClaim { name: "b".to_owned() };
            assert_eq!(arguments_with_claims(&params, given(names), claim), Err(misfit));
        }
        let nothing = |_: &ParamDeclaration| Some(Argument::Null);
        let misfit = ArgumentMisfit::NoClaim { name: "b".to_owned() };
        assert_eq!(arguments_with_claims(&params, given(&["a"]), nothing), Err(misfit.clone()));
        assert_eq!(arguments_with_claims(&params, given(&["a"]), |_| None), Err(misfit));
        let of_function = [param("identity", ParamSource::Identity)];
        let misfit = ArgumentMisfit::Unknown { name: "identity".to_owned() };
        assert_eq!(arguments_with_claims(&of_function, given(&["identity"]), claim), Err(misfit));
    }

    #[test]
    fn scalars_go_as_they_are() {
        let check = |argument, type_name: &str, expect: &str| {
            assert_eq!(text(argument, type_name, PgType::Other), Ok(Some(expect.to_owned())));
        };
        check(number("9007199254740993"), "bigint", "9007199254740993");
        check(string("a'b"), "text", "a'b");
        check(Argument::Bool(true), "boolean", "true");
        check(string("a\"b\n"), "jsonb", r#""a\"b\u000a""#);
        check(
            Argument::Array(vec![number("1"), Argument::Null, string("x")]),
            "json",
            r#"[1,null,"x"]"#,
        );
        check(Argument::Object("{\"a\":1}".to_owned()), "jsonb", "{\"a\":1}");
        assert_eq!(text(Argument::Null, "jsonb", PgType::Jsonb), Ok(None));
    }

    #[test]
    fn arrays_become_array_literals() {
        let array = PgType::Array(Box::new(PgType::Text));
        let elements = vec![string("a,\"\\"), Argument::Null, string("NULL"), string("")];
        assert_eq!(
            text(Argument::Array(elements), "text[]", array.clone()),
            Ok(Some(r#"{"a,\"\\",NULL,"NULL",""}"#.to_owned()))
        );
        let nested = Argument::Array(vec![
            Argument::Array(vec![number("1"), number("2")]),
            Argument::Array(vec![number("3"), Argument::Null]),
        ]);
        assert_eq!(
            text(nested, "integer[]", array.clone()),
            Ok(Some(r#"{{"1","2"},{"3",NULL}}"#.to_owned()))
        );
        assert_eq!(text(string("{1,2}"), "integer[]", array.clone()), Ok(Some("{1,2}".to_owned())));
        let json = Argument::Array(vec![string("a"), Argument::Array(vec![number("1")])]);
        assert_eq!(text(json, "jsonb[]", array.clone()), Ok(Some(r#"{"\"a\"","[1]"}"#.to_owned())));
        assert_eq!(text(Argument::Array(vec![]), "text[]", array), Ok(Some("{}".to_owned())));
    }

    #[test]
    fn says_what_does_not_fit() {
        let message = |argument, type_name: &str| {
            text(argument, type_name, PgType::Int4).expect_err("refused").message
        };
        assert_eq!(
            message(Argument::Array(vec![]), "integer"),
            "an array was given where the parameter's type is integer"
        );
        assert!(message(Argument::Object("{}".to_owned()), "integer").contains("an object"));
        assert!(message(string("a\0"), "text").contains("zero byte"));
    }

    #[test]
    fn knows_plain_outputs() {
        let check = |text: &str, ty: PgType, expect: Option<&str>| {
            assert_eq!(canonical(text, &ty).as_deref(), expect, "{text:?} as {ty:?}");
        };
        check("007", PgType::Int4, Some("7"));
        check("-0", PgType::Int2, Some("0"));
        check("40000", PgType::Int2, None);
        check("-2147483648", PgType::Int4, Some("-2147483648"));
        check("9223372036854775808", PgType::Int8, None);
        check(" 1", PgType::Int4, None);
        check("1_0", PgType::Int4, None);
        check("", PgType::Int4, None);
        check("-", PgType::Int4, None);
        check("true", PgType::Bool, Some("t"));
        check("yes", PgType::Bool, None);
        check(" a ", PgType::Text, Some(" a "));
        check("A0EEBC99-9c0b-4ef8-bb6d-6bb9bd380a11", PgType::Uuid, None);
        check(
            "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
            PgType::Uuid,
            Some("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
        );
        check("1.50", PgType::Numeric, None);
    }
}
