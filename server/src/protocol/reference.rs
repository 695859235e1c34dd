//! Query references and arguments: from JSON to what the engine takes.

use super::error::{ApiError, Code};
use super::{push_json_str, shortened};
use convoy_engine::{
    Argument, ArgumentMisfit, ErrorCode, ParamDeclaration, ParamSource, QueryError,
    arguments_with_claims,
};
use convoy_types::nearest;
use serde_json::{Map, Value};

/// What a client names: a query of ours, or SQL of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reference {
    /// A named query and its arguments.
    Named {
        /// The name.
        name: String,
        /// The arguments by name.
        args: Vec<(String, Argument)>,
    },
    /// Ad hoc SQL and its parameters.
    Sql {
        /// The statement.
        sql: String,
        /// `$1` first.
        params: Vec<Argument>,
    },
}

impl Reference {
    /// Reads a reference from an object; fields that the caller has taken out are gone from it.
    pub(super) fn read(
        mut object: Map<String, Value>,
        args_bytes_max: usize,
    ) -> Result<Reference, ApiError> {
        let (name, sql) = (object.remove("query"), object.remove("sql"));
        let (args, params) = (object.remove("args"), object.remove("params"));
        if let Some((unknown, _)) = object.into_iter().next() {
            return Err(ApiError::invalid(format!(
                "a query reference has no field {:?}: it is {{\"query\", \"args\"}} or {{\"sql\", \"params\"}}",
                shortened(&unknown)
            )));
        }
        match (name, sql) {
            (Some(Value::String(name)), None) if params.is_none() => {
                let args = match args {
                    None => Vec::new(),
                    Some(args) => named_arguments(args, args_bytes_max)?,
                };
                Ok(Reference::Named { name, args })
            }
            (None, Some(Value::String(sql))) if args.is_none() => {
                let params = match params {
                    None => Vec::new(),
                    Some(params) => positional_arguments(params, args_bytes_max)?,
                };
                Ok(Reference::Sql { sql, params })
            }
            _ => Err(ApiError::invalid(
                "a query reference is {\"query\": \"name\", \"args\": {…}} or {\"sql\": \"select …\", \"params\": […]}",
            )),
        }
    }

    /// Returns about how many bytes a subscription keeps of it for itself: what was given with a name.
    pub fn kept_bytes(&self) -> usize {
        fn bytes(argument: &Argument) -> usize {
            match argument {
                Argument::Null | Argument::Bool(_) => 5,
                Argument::Number(text) | Argument::String(text) | Argument::Object(text) => {
                    text.len() + 2
                }
                Argument::Array(elements) => {
                    elements.iter().map(|element| bytes(element) + 1).sum()
                }
            }
        }
        match self {
            Reference::Named { args, .. } => {
                args.iter().map(|(name, value)| name.len() + 4 + bytes(value)).sum()
            }
            Reference::Sql { .. } => 0,
        }
    }

    /// Reads the body of `POST /api/sql`.
    ///
    /// # Errors
    /// `INVALID_ARGS` where it is no object with `sql` and perhaps `params`, `PAYLOAD_TOO_LARGE` past the limit.
    pub fn read_sql_body(body: &[u8], args_bytes_max: usize) -> Result<Reference, ApiError> {
        match parse(body, "the body")? {
            Value::Object(object) if object.contains_key("sql") => {
                Reference::read(object, args_bytes_max)
            }
            _ => {
                Err(ApiError::invalid("the body must be {\"sql\": \"select …\", \"params\": […]}"))
            }
        }
    }
}

/// Reads the arguments of a named query: an object, or nothing at all.
///
/// # Errors
/// `INVALID_ARGS` where it is no JSON object, `PAYLOAD_TOO_LARGE` past the limit.
pub fn read_args(text: &[u8], bytes_max: usize) -> Result<Vec<(String, Argument)>, ApiError> {
    check_size(text.len(), bytes_max)?;
    if text.trim_ascii().is_empty() {
        return Ok(Vec::new());
    }
    named_arguments(parse(text, "the arguments")?, bytes_max)
}

/// Returns arguments as one JSON object, its members and those of all objects in it in the order of their names: equal
/// arguments have one text.
pub fn arguments_text(args: Vec<(String, Argument)>) -> String {
    let mut out = String::new();
    push_members(&mut out, args, push_sorted);
    out
}

fn push_members<T>(out: &mut String, mut members: Vec<(String, T)>, push: impl Fn(&mut String, T)) {
    members.sort_by(|(left, _), (right, _)| left.cmp(right));
    out.push('{');
    for (position, (name, value)) in members.into_iter().enumerate() {
        if position > 0 {
            out.push(',');
        }
        push_json_str(out, &name);
        out.push(':');
        push(out, value);
    }
    out.push('}');
}

fn push_elements<T>(out: &mut String, elements: Vec<T>, push: impl Fn(&mut String, T)) {
    out.push('[');
    for (position, element) in elements.into_iter().enumerate() {
        if position > 0 {
            out.push(',');
        }
        push(out, element);
    }
    out.push(']');
}

fn push_sorted(out: &mut String, argument: Argument) {
    match argument {
        Argument::Array(elements) => push_elements(out, elements, push_sorted),
        Argument::Object(text) => match serde_json::from_str(&text) {
            Ok(value) => push_sorted_value(out, value),
            Err(_) => out.push_str(&text),
        },
        scalar => scalar.push_json(out),
    }
}

fn push_sorted_value(out: &mut String, value: Value) {
    match value {
        Value::Array(elements) => push_elements(out, elements, push_sorted_value),
        Value::Object(members) => {
            push_members(out, members.into_iter().collect(), push_sorted_value);
        }
        scalar => out.push_str(&scalar.to_string()),
    }
}

/// Reads the parameters of ad hoc SQL: an array, or nothing at all.
///
/// # Errors
/// As [`read_args`].
pub fn read_params(text: &[u8], bytes_max: usize) -> Result<Vec<Argument>, ApiError> {
    check_size(text.len(), bytes_max)?;
    if text.trim_ascii().is_empty() {
        return Ok(Vec::new());
    }
    positional_arguments(parse(text, "params")?, bytes_max)
}

/// Puts arguments into the order of the parameters, with what `claim` says for those that are not arguments; none where
/// one is not given and has a default.
///
/// # Errors
/// `INVALID_ARGS` for one that is unknown, missing, or null where null may not be given; `FORBIDDEN` where the caller has
/// not the claim that it takes.
pub fn arguments_by_name(
    params: &[ParamDeclaration],
    given: Vec<(String, Argument)>,
    claim: impl Fn(&ParamDeclaration) -> Option<Argument>,
) -> Result<Vec<Option<Argument>>, QueryError> {
    let invalid = |message: String| QueryError::new(ErrorCode::InvalidArgs, message);
    let of_clients = || params.iter().filter(|param| param.source == ParamSource::Argument);
    let known = || of_clients().map(|param| param.name.as_str());
    arguments_with_claims(params, given, claim).map_err(|misfit| {
        let name = match &misfit {
            ArgumentMisfit::Unknown { name } => name,
            ArgumentMisfit::NoClaim { .. } => {
                return QueryError::new(ErrorCode::Forbidden, misfit.to_string());
            }
            _ => return invalid(misfit.to_string()),
        };
        let shown = shortened(name);
        invalid(match nearest(name, known()) {
            Some(nearest) => format!("unknown argument {shown:?}: did you mean {nearest:?}?"),
            None if known().next().is_none() => {
                format!("unknown argument {shown:?}: the query takes none")
            }
            None => format!(
                "unknown argument {shown:?}: there are {}",
                known().collect::<Vec<_>>().join(", ")
            ),
        })
    })
}

pub(super) fn parse(text: &[u8], what: &str) -> Result<Value, ApiError> {
    serde_json::from_slice(text)
        .map_err(|error| ApiError::invalid(format!("{what}: no valid JSON ({error})")))
}

fn check_size(bytes: usize, bytes_max: usize) -> Result<(), ApiError> {
    if bytes > bytes_max {
        return Err(ApiError::new(
            Code::PayloadTooLarge,
            format!(
                "the arguments take {bytes} bytes, and at most {bytes_max} are taken (--args-bytes-max)"
            ),
        ));
    }
    Ok(())
}

fn named_arguments(value: Value, bytes_max: usize) -> Result<Vec<(String, Argument)>, ApiError> {
    check_value_size(&value, bytes_max)?;
    match value {
        Value::Object(object) => {
            Ok(object.into_iter().map(|(name, value)| (name, argument(value))).collect())
        }
        _ => {
            Err(ApiError::invalid("the arguments must be a JSON object, by name: {\"tenant\": 7}"))
        }
    }
}

fn positional_arguments(value: Value, bytes_max: usize) -> Result<Vec<Argument>, ApiError> {
    check_value_size(&value, bytes_max)?;
    match value {
        Value::Array(values) => Ok(values.into_iter().map(argument).collect()),
        _ => Err(ApiError::invalid("params must be a JSON array, $1 first: [7, \"open\"]")),
    }
}

fn check_value_size(value: &Value, bytes_max: usize) -> Result<(), ApiError> {
    check_size(text_bytes(value), bytes_max)
}

/// Returns how many bytes the value took as JSON at least: without blanks and escapes.
fn text_bytes(value: &Value) -> usize {
    let list = |bytes: usize, count: usize| 2 + bytes + count.saturating_sub(1);
    match value {
        Value::Null | Value::Bool(true) => 4,
        Value::Bool(false) => 5,
        Value::Number(number) => number.as_str().len(),
        Value::String(text) => text.len() + 2,
        Value::Array(values) => list(values.iter().map(text_bytes).sum(), values.len()),
        Value::Object(object) => {
            let field = |(name, value): (&String, &Value)| 3 + name.len() + text_bytes(value);
            list(object.iter().map(field).sum(), object.len())
        }
    }
}

/// Turns a JSON value into an argument, every digit kept.
pub(crate) fn argument(value: Value) -> Argument {
    match value {
        Value::Null => Argument::Null,
        Value::Bool(value) => Argument::Bool(value),
        Value::Number(number) => Argument::Number(number.to_string()),
        Value::String(text) => Argument::String(text),
        Value::Array(values) => Argument::Array(values.into_iter().map(argument).collect()),
        object @ Value::Object(_) => Argument::Object(object.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn param(name: &str, default: Option<&str>, nullable: bool) -> ParamDeclaration {
        ParamDeclaration {
            name: name.into(),
            type_name: "int8".into(),
            default: default.map(Into::into),
            nullable,
            source: ParamSource::Argument,
        }
    }

    fn order(text: &str) -> Result<Vec<Option<Argument>>, ApiError> {
        let params = [
            param("tenant", None, false),
            param("since", Some("now()"), false),
            param("status", None, true),
        ];
        Ok(arguments_by_name(&params, read_args(text.as_bytes(), 1000)?, |_| None)?)
    }

    #[test]
    fn arguments_keep_their_digits_and_get_their_places() {
        let args =
            order(r#"{"status":null,"tenant":123456789012345678901234567890.10}"#).expect("good");
        let number = Argument::Number("123456789012345678901234567890.10".into());
        assert_eq!(args, [Some(number), None, Some(Argument::Null)]);
    }

    #[test]
    fn equal_arguments_have_one_text() {
        let text = |text: &str| arguments_text(read_args(text.as_bytes(), 1000).expect("good"));
        assert_eq!(
            text(r#" {"b": [{"y": 1.50, "x": {"n": null, "m": "\u00fc"}}], "a": true} "#),
            r#"{"a":true,"b":[{"x":{"m":"ü","n":null},"y":1.50}]}"#
        );
        assert_eq!(text(""), "{}");
    }

    #[test]
    fn wrong_arguments_are_named() {
        let check = |text: &str, expect: &str| {
            let error = order(text).expect_err(text);
            assert_eq!(error.code, Code::InvalidArgs);
            assert!(error.message.contains(expect), "{text}: {}", error.message);
        };
        check(r#"{"tenat":1,"status":null}"#, "did you mean \"tenant\"");
        check(r#"{"status":null}"#, "\"tenant\" is missing");
        check("", "\"tenant\" is missing");
        check(r#"{"tenant":null,"status":null}"#, "must not be null");
        check("[1]", "must be a JSON object");
        check("{", "no valid JSON");
        assert_eq!(read_args(&[b' '; 1001], 1000).expect_err("long").code, Code::PayloadTooLarge);
    }

    #[test]
    fn sizes_are_those_of_compact_json() {
        for text in
            ["null", r#"{"a":[],"bc":{},"d":[true,false,null,-1.50,"ü"]}"#, r#"[[1],{"a":1}]"#]
        {
            let value = parse(text.as_bytes(), "it").expect("JSON");
            assert_eq!(text_bytes(&value), text.len(), "{text}");
        }
        let full = format!(r#"{{"a":"{}"}}"#, "x".repeat(92));
        assert_eq!(full.len(), 100);
        assert!(read_args(full.as_bytes(), 100).is_ok());
        assert_eq!(read_args(full.as_bytes(), 99).expect_err("long").code, Code::PayloadTooLarge);
    }

    #[test]
    fn references_are_one_of_two() {
        let read = |text: &str| match parse(text.as_bytes(), "it") {
            Ok(Value::Object(object)) => Reference::read(object, 100),
            _ => panic!("no object: {text}"),
        };
        assert_eq!(
            read(r#"{"sql":"select $1","params":[{"a": 1.50}]}"#),
            Ok(Reference::Sql {
                sql: "select $1".into(),
                params: vec![Argument::Object(r#"{"a":1.50}"#.into())]
            })
        );
        assert_eq!(
            read(r#"{"query":"a"}"#),
            Ok(Reference::Named { name: "a".into(), args: vec![] })
        );
        for wrong in
            ["{}", r#"{"query":1}"#, r#"{"query":"a","sql":"b"}"#, r#"{"query":"a","params":[]}"#]
        {
            assert!(read(wrong).is_err(), "{wrong}");
        }
        assert!(
            read(r#"{"query":"a","arg":{}}"#).expect_err("unknown").message.contains("\"arg\"")
        );
    }
}
