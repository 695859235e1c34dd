//! Values: from JSON to the text that Postgres' input functions read, and from Postgres' text to JSON.

use crate::layout::Kind;
use serde_json::Value;
use std::cmp::Ordering;

/// A double's decimal exponent is within this; what is beyond it no double holds.
const EXPONENT_MAX: i32 = 400;

/// Whole numbers beyond this are not all doubles: 2^53.
const SAFE_INTEGER_MAX: i128 = 1 << 53;

/// Returns a value as its type's input function reads it; null for null. None where it is no such value.
pub(crate) fn param(kind: Kind, value: &Value) -> Option<Option<String>> {
    let text = match (kind, value) {
        (Kind::Jsonb, value) => value.to_string(),
        (_, Value::Null) => return Some(None),
        (Kind::Text, Value::String(text)) => text.clone(),
        (Kind::Numeric, Value::Number(number)) => plain_decimal(&number.to_string())?,
        (Kind::Float, Value::Number(number)) => double(&number.to_string())?.to_string(),
        (Kind::Bool, Value::Bool(true)) => "t".to_owned(),
        (Kind::Bool, Value::Bool(false)) => "f".to_owned(),
        (Kind::Int, Value::Number(number)) => {
            i32::try_from(whole(&number.to_string())?).ok()?.to_string()
        }
        (Kind::BigInt, Value::Number(number)) => whole(&number.to_string())?.to_string(),
        // A number that a double may not hold comes as a string, and goes back as one.
        (Kind::BigInt, Value::String(text)) => text.trim().parse::<i64>().ok()?.to_string(),
        (Kind::Other, Value::String(text)) => text.clone(),
        (Kind::Other, Value::Number(number)) => number.to_string(),
        (Kind::Other, Value::Bool(value)) => value.to_string(),
        // Arrays, composites and json: not in the text that their input functions take.
        _ => return None,
    };
    Some(Some(text))
}

/// Returns whether a text that somebody gives us back is one of such a value, as Postgres writes it.
pub(crate) fn is_value(kind: Kind, text: &str) -> bool {
    match kind {
        Kind::Text | Kind::Other => !text.contains('\0'),
        Kind::Numeric => plain_decimal(text).is_some() || text == "NaN" || is_infinite(text),
        Kind::Float => double(text).is_some() || text == "NaN" || is_infinite(text),
        Kind::Int => text.parse::<i32>().is_ok(),
        Kind::BigInt => text.parse::<i64>().is_ok(),
        Kind::Bool => matches!(text, "true" | "false"),
        Kind::Jsonb => serde_json::from_str::<Value>(text).is_ok(),
    }
}

fn is_infinite(text: &str) -> bool {
    matches!(text, "Infinity" | "-Infinity")
}

/// Returns what a type is called in messages.
pub(crate) fn described(kind: Kind) -> &'static str {
    match kind {
        Kind::Text => "a string",
        Kind::Numeric | Kind::Float => "a number",
        Kind::Int | Kind::BigInt => "a whole number",
        Kind::Bool => "a boolean",
        Kind::Jsonb => "any JSON",
        Kind::Other => "a string",
    }
}

/// Compares two values by their texts, where that can be told without Postgres.
pub(crate) fn compare(kind: Kind, byte_order: bool, a: &str, b: &str) -> Option<Ordering> {
    match kind {
        Kind::Text if byte_order => Some(a.cmp(b)),
        Kind::Text | Kind::Other | Kind::Jsonb => (a == b).then_some(Ordering::Equal),
        Kind::Bool => Some(is_true(a).cmp(&is_true(b))),
        Kind::Int | Kind::BigInt => Some(a.parse::<i64>().ok()?.cmp(&b.parse::<i64>().ok()?)),
        Kind::Float => a.parse::<f64>().ok()?.partial_cmp(&b.parse::<f64>().ok()?),
        // Two decimals may be one double.
        Kind::Numeric if a == b => Some(Ordering::Equal),
        Kind::Numeric => a
            .parse::<f64>()
            .ok()?
            .partial_cmp(&b.parse::<f64>().ok()?)
            .filter(|order| *order != Ordering::Equal),
    }
}

fn is_true(text: &str) -> bool {
    text.starts_with('t')
}

/// Appends a value's text as JSON; a null is `null`.
pub(crate) fn write_json(kind: Kind, text: Option<&str>, out: &mut String) {
    let Some(text) = text else { return out.push_str("null") };
    match kind {
        Kind::Text => write_string(text, out),
        Kind::Bool => out.push_str(if is_true(text) { "true" } else { "false" }),
        // Postgres has made JSON of these.
        Kind::Jsonb | Kind::Other => out.push_str(text),
        Kind::Int => out.push_str(text),
        Kind::BigInt => match text.parse::<i128>() {
            Ok(number) if number.abs() <= SAFE_INTEGER_MAX => out.push_str(text),
            _ => write_string(text, out),
        },
        Kind::Float | Kind::Numeric => match text.parse::<f64>() {
            Ok(number) if number.is_finite() => out.push_str(&number_json(number)),
            // JSON has no word for them.
            _ => write_string(text, out),
        },
    }
}

/// Returns a double as JSON, in the fewest digits that read back as it.
fn number_json(number: f64) -> String {
    match number {
        0.0 => "0".to_owned(),
        _ if (1e-6..1e21).contains(&number.abs()) => number.to_string(),
        _ => format!("{number:e}"),
    }
}

/// Appends a text as a JSON string.
pub(crate) fn write_string(text: &str, out: &mut String) {
    out.push_str(&Value::from(text).to_string());
}

fn double(text: &str) -> Option<f64> {
    text.parse::<f64>().ok().filter(|number| number.is_finite())
}

fn whole(text: &str) -> Option<i64> {
    let plain = plain_decimal(text)?;
    match plain.split_once('.') {
        Some((whole, zeros)) => {
            zeros.bytes().all(|digit| digit == b'0').then(|| whole.parse().ok()).flatten()
        }
        None => plain.parse().ok(),
    }
}

/// Writes a JSON number without an exponent, as Postgres writes a numeric.
pub(crate) fn plain_decimal(text: &str) -> Option<String> {
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
        None => (text, 0),
    };
    let (sign, digits) = match mantissa.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", mantissa),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let is_number = !whole.is_empty()
        && whole.bytes().chain(fraction.bytes()).all(|digit| digit.is_ascii_digit())
        && exponent.abs() <= EXPONENT_MAX;
    if !is_number {
        return None;
    }
    if exponent == 0 {
        return Some(mantissa.to_owned());
    }
    let all = format!("{whole}{fraction}");
    let point = i32::try_from(whole.len()).ok()? + exponent;
    let length = i32::try_from(all.len()).ok()?;
    let text = if point <= 0 {
        format!("0.{}{all}", "0".repeat(usize::try_from(-point).ok()?))
    } else if point >= length {
        format!("{all}{}", "0".repeat(usize::try_from(point - length).ok()?))
    } else {
        let (whole, fraction) = all.split_at(usize::try_from(point).ok()?);
        format!("{whole}.{fraction}")
    };
    let text = match text.trim_start_matches('0') {
        "" => "0".to_owned(),
        rest if rest.starts_with('.') => format!("0{rest}"),
        rest => rest.to_owned(),
    };
    Some(format!("{sign}{text}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn decimals_lose_their_exponents() {
        for (text, expect) in [
            ("1", "1"),
            ("-1.50", "-1.50"),
            ("1e+21", "1000000000000000000000"),
            ("1.5e3", "1500"),
            ("1.2345e2", "123.45"),
            ("1e-7", "0.0000001"),
            ("-2.5e-3", "-0.0025"),
            ("0e5", "0"),
        ] {
            assert_eq!(plain_decimal(text).as_deref(), Some(expect), "{text}");
        }
        for text in ["", "-", "e5", "1e999999999", "NaN", "1.2.3", "0x1"] {
            assert_eq!(plain_decimal(text), None, "{text}");
        }
    }

    #[test]
    fn only_values_of_the_kind_are_taken() {
        let check = |kind, value: Value, expect: Option<&str>| {
            assert_eq!(param(kind, &value).flatten().as_deref(), expect, "{kind:?} {value}");
        };
        check(Kind::Text, json!("a"), Some("a"));
        check(Kind::Text, json!(1), None);
        check(Kind::Numeric, json!("1"), None);
        check(Kind::Float, json!(0.1), Some("0.1"));
        check(Kind::Bool, json!(true), Some("t"));
        check(Kind::Int, json!(3.0), Some("3"));
        check(Kind::Int, json!(3.5), None);
        check(Kind::BigInt, json!("9007199254740993"), Some("9007199254740993"));
        check(Kind::Jsonb, json!(null), Some("null"));
        check(Kind::Other, json!({}), None);
    }

    #[test]
    fn numbers_are_written_so_that_javascript_reads_them() {
        let check = |kind, text: &str, expect: &str| {
            let mut out = String::new();
            write_json(kind, Some(text), &mut out);
            assert_eq!(out, expect);
        };
        check(Kind::Float, "1e+21", "1e21");
        check(Kind::Float, "0.1", "0.1");
        check(Kind::Float, "-0", "0");
        check(Kind::Float, "NaN", "\"NaN\"");
        check(Kind::Numeric, "1.00", "1");
        check(Kind::Numeric, "0.12345678901234567890123", "0.12345678901234568");
        check(Kind::BigInt, "9007199254740992", "9007199254740992");
        check(Kind::BigInt, "9007199254740993", "\"9007199254740993\"");
        check(Kind::Text, "a\"b", "\"a\\\"b\"");
    }
}
