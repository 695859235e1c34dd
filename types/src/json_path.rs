//! Values inside of a jsonb, found in its output text: what `->`, `->>` and `@>` look at.
//!
//! The text is Postgres' own: object keys are unique, and what stands at a path is shown there as it would be by
//! itself. It is read from the front to the value and never built up, so that a look costs no more than the text
//! before it.

use crate::error::ParseValueError;
use crate::key::{Key, KeyBuilder};
use std::borrow::Cow;

/// A member of a JSON object: its key, and its value's text.
pub type Member<'a> = (Cow<'a, str>, &'a str);

/// Returns the text of the value that a path of object keys leads to; none where there is no object or no such key.
///
/// ```
/// use convoy_types::json_at;
/// # fn main() -> Result<(), convoy_types::ParseValueError> {
/// assert_eq!(json_at(r#"{"a": {"b": [1, 2]}}"#, &["a", "b"])?, Some("[1, 2]"));
/// assert_eq!(json_at(r#"{"a": 1}"#, &["b"])?, None);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// [`ParseValueError::Malformed`] where the text is no JSON as far as it was read.
pub fn json_at<'a>(
    json: &'a str,
    path: &[impl AsRef<str>],
) -> Result<Option<&'a str>, ParseValueError> {
    let mut value = json.trim_matches(' ');
    for key in path {
        match member(value, key.as_ref()) {
            Some(Some(found)) => value = found,
            Some(None) => return Ok(None),
            None => return Err(malformed(json)),
        }
    }
    Ok(Some(value))
}

/// Returns what `->>` makes of a JSON value: a string's characters, any other value's text; none for `null`.
///
/// # Errors
/// [`ParseValueError::Malformed`] where the text is no JSON value.
pub fn json_text(json: &str) -> Result<Option<Cow<'_, str>>, ParseValueError> {
    match json.as_bytes() {
        b"null" => Ok(None),
        [b'"', ..] => unescaped(json).map(Some).ok_or_else(|| malformed(json)),
        [] => Err(malformed(json)),
        _ => Ok(Some(Cow::Borrowed(json))),
    }
}

/// Returns the members of a JSON object; none where the value is no object.
///
/// # Errors
/// [`ParseValueError::Malformed`] where the text is no JSON value.
pub fn json_members(json: &str) -> Result<Option<Vec<Member<'_>>>, ParseValueError> {
    match json.starts_with('{') {
        false => Ok(None),
        true => members(json).map(Some).ok_or_else(|| malformed(json)),
    }
}

fn members(json: &str) -> Option<Vec<Member<'_>>> {
    let mut members = Vec::new();
    let mut rest = skip_blanks(json.strip_prefix('{')?);
    while rest != "}" {
        let (name, value, behind) = first_member(rest)?;
        members.push((unescaped(name)?, value));
        rest = match behind {
            "}" => behind,
            _ => skip_blanks(behind.strip_prefix(',')?),
        };
    }
    Some(members)
}

/// Splits what an object has in it behind its first member: the quoted name, the value, the rest.
fn first_member(text: &str) -> Option<(&str, &str, &str)> {
    let (name, behind) = split_string(text)?;
    let behind = skip_blanks(behind).strip_prefix(':').map(skip_blanks)?;
    let (value, behind) = split_value(behind)?;
    Some((name, value, skip_blanks(behind)))
}

/// Returns the elements of a JSON array; none where the value is no array.
///
/// # Errors
/// [`ParseValueError::Malformed`] where the text is no JSON value.
pub fn json_elements(json: &str) -> Result<Option<Vec<&str>>, ParseValueError> {
    if !json.starts_with('[') {
        return Ok(None);
    }
    let mut elements = Vec::new();
    let mut rest = skip_blanks(&json[1..]);
    if rest == "]" {
        return Ok(Some(elements));
    }
    loop {
        let (element, behind) = split_value(rest).ok_or_else(|| malformed(json))?;
        elements.push(element);
        match skip_blanks(behind) {
            "]" => return Ok(Some(elements)),
            behind => {
                let next = behind.strip_prefix(',').ok_or_else(|| malformed(json))?;
                rest = skip_blanks(next);
            }
        }
    }
}

impl Key {
    /// Returns a key of a JSON value that is equal to another's exactly where both are scalars of one type and equal,
    /// numbers as numerics are. All arrays and objects have one key, and what is missing has another.
    ///
    /// # Errors
    /// [`ParseValueError::Malformed`] where the text is no JSON value.
    pub fn of_json(json: Option<&str>) -> Result<Key, ParseValueError> {
        const MISSING: u8 = 0;
        const NULL: u8 = 1;
        const BOOL: u8 = 2;
        const NUMBER: u8 = 3;
        const STRING: u8 = 4;
        const CONTAINER: u8 = 5;
        use crate::pg_type::PgType::{Bool, Numeric, Text};
        let Some(json) = json else { return Ok(KeyBuilder::of_tag(MISSING).finish()) };
        let tagged = |tag: u8, ty, text: &[u8]| {
            let mut builder = KeyBuilder::of_tag(tag);
            builder.push(&ty, text)?;
            Ok(builder.finish())
        };
        match json.as_bytes() {
            b"null" => Ok(KeyBuilder::of_tag(NULL).finish()),
            text @ (b"true" | b"false") => tagged(BOOL, Bool, text),
            [b'"', ..] => {
                let text = unescaped(json).ok_or_else(|| malformed(json))?;
                tagged(STRING, Text, text.as_bytes())
            }
            [b'[' | b'{', ..] => Ok(KeyBuilder::of_tag(CONTAINER).finish()),
            text @ [b'-' | b'0'..=b'9', ..] => tagged(NUMBER, Numeric, text),
            _ => Err(malformed(json)),
        }
    }
}

fn malformed(json: &str) -> ParseValueError {
    ParseValueError::Malformed { type_name: "jsonb", len: json.len() }
}

/// Returns an object's member, if the value is an object that has it; nothing at all where it is malformed.
fn member<'a>(json: &'a str, key: &str) -> Option<Option<&'a str>> {
    let Some(mut rest) = json.strip_prefix('{').map(skip_blanks) else { return Some(None) };
    if rest == "}" {
        return Some(None);
    }
    loop {
        let (name, value, behind) = first_member(rest)?;
        if unescaped(name)? == key {
            return Some(Some(value));
        }
        match behind {
            "}" => return Some(None),
            behind => rest = behind.strip_prefix(',').map(skip_blanks)?,
        }
    }
}

fn skip_blanks(text: &str) -> &str {
    text.trim_start_matches([' ', '\t', '\n', '\r'])
}

/// Splits a text behind the string that it begins with.
fn split_string(text: &str) -> Option<(&str, &str)> {
    let bytes = text.as_bytes();
    if bytes.first() != Some(&b'"') {
        return None;
    }
    let mut at = 1;
    loop {
        match bytes.get(at)? {
            b'"' => return Some(text.split_at(at + 1)),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

/// Splits a text behind the value that it begins with.
fn split_value(text: &str) -> Option<(&str, &str)> {
    let bytes = text.as_bytes();
    match bytes.first()? {
        b'"' => split_string(text),
        b'{' | b'[' => {
            let (mut at, mut depth) = (0, 0usize);
            loop {
                match bytes.get(at)? {
                    b'"' => {
                        at += split_string(&text[at..])?.0.len();
                        continue;
                    }
                    b'{' | b'[' => depth += 1,
                    b'}' | b']' => depth -= 1,
                    _ => {}
                }
                at += 1;
                if depth == 0 {
                    return Some(text.split_at(at));
                }
            }
        }
        _ => {
            let end = text.find([',', '}', ']', ' ']).unwrap_or(text.len());
            (end > 0).then(|| text.split_at(end))
        }
    }
}

/// Returns a string's characters, without the quotes.
fn unescaped(json: &str) -> Option<Cow<'_, str>> {
    let inside = json.strip_prefix('"')?.strip_suffix('"')?;
    if !inside.contains('\\') {
        return Some(Cow::Borrowed(inside));
    }
    let mut text = String::with_capacity(inside.len());
    let mut rest = inside.chars();
    while let Some(character) = rest.next() {
        if character != '\\' {
            text.push(character);
            continue;
        }
        text.push(match rest.next()? {
            'b' => '\u{8}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            // Output has them for control characters alone, never in pairs.
            'u' => {
                let digits = rest.as_str().get(..4)?;
                let code = u32::from_str_radix(digits, 16).ok()?;
                rest = rest.as_str()[4..].chars();
                char::from_u32(code)?
            }
            other @ ('"' | '\\' | '/') => other,
            _ => return None,
        });
    }
    Some(Cow::Owned(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_lead_through_objects() {
        let json =
            r#"{"a": {"b\"}": "x,}\"]", "c": [{"a": 1}, null]}, "": {}, "n": null, "é": 1.50}"#;
        let check = |path: &[&str], expect: Option<&str>| {
            assert_eq!(json_at(json, path).expect("JSON"), expect, "{path:?}");
        };
        check(&[], Some(json));
        check(&["a", "b\"}"], Some(r#""x,}\"]""#));
        check(&["a", "c"], Some(r#"[{"a": 1}, null]"#));
        check(&["a", "c", "a"], None);
        check(&["", "a"], None);
        check(&["n"], Some("null"));
        check(&["n", "a"], None);
        check(&["é"], Some("1.50"));
        check(&["b"], None);
    }

    #[test]
    fn what_is_no_json_is_an_error() {
        for json in [
            "{",
            "{\"a\"",
            "{\"a\": ",
            "{\"b\": [}",
            "{\"b\": 1 \"a\": 2}",
            "{\"\\",
            "{\"b\": \"\\",
        ] {
            assert!(json_at(json, &["a"]).is_err(), "{json}");
        }
        assert!(json_elements("[1, ").is_err() && json_text("\"\\x\"").is_err());
        assert!(Key::of_json(Some("")).is_err() && Key::of_json(Some("nul")).is_err());
    }

    #[test]
    fn texts_are_what_the_arrow_gives() {
        let check = |json: &str, expect: Option<&str>| {
            assert_eq!(json_text(json).expect("JSON").as_deref(), expect, "{json}");
        };
        check("null", None);
        check(r#""a\"\\\n\u001f\/é""#, Some("a\"\\\n\u{1f}/é"));
        check("1.50", Some("1.50"));
        check(r#"{"a": [1, 2]}"#, Some(r#"{"a": [1, 2]}"#));
        assert_eq!(json_elements("[]"), Ok(Some(vec![])));
        assert_eq!(
            json_elements(r#"["a, ]", [1, 2], {}]"#),
            Ok(Some(vec!["\"a, ]\"", "[1, 2]", "{}"]))
        );
        assert_eq!(json_elements("{}"), Ok(None));
    }

    #[test]
    fn keys_of_scalars_are_their_own() {
        let key = |json: Option<&str>| Key::of_json(json).expect("JSON");
        assert_eq!(key(Some("1.0")), key(Some("1")));
        assert_eq!(key(Some("[1]")), key(Some("{}")));
        let all = [
            None,
            Some("null"),
            Some("1"),
            Some("\"1\""),
            Some("true"),
            Some("\"true\""),
            Some("[]"),
        ];
        for (position, left) in all.iter().enumerate() {
            for right in &all[..position] {
                assert_ne!(key(*left), key(*right), "{left:?} {right:?}");
            }
        }
    }
}
