//! Values and their JSON, each line as a real server gave it, and laws.

use super::*;
use proptest::prelude::*;

fn json(ty: &PgType, text: &str) -> String {
    let mut out = String::from("kept ");
    write_json(ty, text.as_bytes(), &mut out).unwrap_or_else(|error| panic!("{text:?}: {error}"));
    out.strip_prefix("kept ").expect("appends").to_owned()
}

fn array(element: PgType) -> PgType {
    PgType::Array(Box::new(element))
}

#[test]
fn scalars() {
    let cases = [
        (PgType::Bool, "t", "true"),
        (PgType::Bool, "f", "false"),
        (PgType::Int2, "-7", "-7"),
        (PgType::Int8, "9223372036854775807", "9223372036854775807"),
        (PgType::Numeric, "1.00", "1.00"),
        (PgType::Numeric, "NaN", r#""NaN""#),
        (PgType::Numeric, "-Infinity", r#""-Infinity""#),
        (PgType::Float8, "1e+20", "100000000000000000000"),
        (PgType::Float8, "1e-07", "0.0000001"),
        (PgType::Float8, "-0", "0"),
        (PgType::Float8, "-1.5e-07", "-0.00000015"),
        (PgType::Float8, "Infinity", r#""Infinity""#),
        (PgType::Float4, "0.1", "0.1"),
        (PgType::Float4, "3.4028235e+38", "340282350000000000000000000000000000000"),
        (PgType::Text, "", r#""""#),
        (
            PgType::Text,
            "a \"b\" \\ / \u{8}\u{c}\n\r\t\u{1}\u{1f}\u{7f}ä💧",
            "\"a \\\"b\\\" \\\\ / \\b\\f\\n\\r\\t\\u0001\\u001f\u{7f}ä💧\"",
        ),
        (PgType::Bpchar, "a  ", r#""a  ""#),
        (PgType::Enum, "open", r#""open""#),
        (
            PgType::Uuid,
            "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
            r#""a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11""#,
        ),
        (PgType::Date, "0044-03-15 BC", r#""0044-03-15 BC""#),
        (PgType::Date, "infinity", r#""infinity""#),
        (PgType::Time, "24:00:00", r#""24:00:00""#),
        (PgType::Timestamp, "2024-02-29 12:34:56.5", r#""2024-02-29T12:34:56.5""#),
        (PgType::Timestamp, "0044-03-15 12:00:00 BC", r#""0044-03-15T12:00:00 BC""#),
        (PgType::Timestamp, "-infinity", r#""-infinity""#),
        (PgType::TimestampTz, "2024-02-29 12:34:56.5+00", r#""2024-02-29T12:34:56.5+00:00""#),
        (PgType::TimestampTz, "2024-02-29 12:34:56-05:30", r#""2024-02-29T12:34:56-05:30""#),
        (PgType::TimestampTz, "0044-03-15 12:00:00+00 BC", r#""0044-03-15T12:00:00+00:00 BC""#),
        (PgType::Interval, "1 year -2 days +03:04:05.5", r#""1 year -2 days +03:04:05.5""#),
        (PgType::Bytea, "\\x00ff", r#""\\x00ff""#),
        (PgType::Jsonb, r#"{"a": [1, 1E2, null]}"#, r#"{"a": [1, 1E2, null]}"#),
    ];
    for (ty, text, expected) in cases {
        assert_eq!(json(&ty, text), expected, "{ty:?} {text:?}");
    }
}

#[test]
fn arrays() {
    let cases = [
        (PgType::Int4, "{}", "[]"),
        (PgType::Int4, "{1,NULL,-3}", "[1, null, -3]"),
        (PgType::Int4, "{{1,2},{3,4}}", "[[1, 2], [3, 4]]"),
        (PgType::Int4, "[2:3]={7,8}", "[7, 8]"),
        (PgType::Int4, "[0:0][-1:0]={{7,8}}", "[[7, 8]]"),
        (PgType::Bool, "{t,f}", "[true, false]"),
        (PgType::Float8, "{1e+20,NaN}", r#"[100000000000000000000, "NaN"]"#),
        (
            PgType::Text,
            r#"{a,"b c","",NULL,"NULL","\"\\{,}"}"#,
            r#"["a", "b c", "", null, "NULL", "\"\\{,}"]"#,
        ),
        (
            PgType::Timestamp,
            r#"{"2024-01-01 00:00:00",infinity}"#,
            r#"["2024-01-01T00:00:00", "infinity"]"#,
        ),
        (PgType::Bytea, r#"{"\\x00"}"#, r#"["\\x00"]"#),
        (
            PgType::Jsonb,
            r#"{"{\"a\": [1, \"x\"]}",1,null,NULL}"#,
            r#"[{"a": [1, "x"]}, 1, null, null]"#,
        ),
    ];
    for (element, text, expected) in cases {
        assert_eq!(json(&array(element), text), expected, "{text:?}");
    }
}

#[test]
fn refuses_what_is_no_value_and_leaves_the_output() {
    let wrong: [(PgType, &[u8]); 22] = [
        (PgType::Bool, b"yes"),
        (PgType::Int4, b"1\", \"x\": \"2"),
        (PgType::Numeric, b"0x10"),
        (PgType::Float8, b"inf"),
        (PgType::Float8, b"1e+99999"),
        (PgType::Text, b"\xFF"),
        (PgType::Uuid, b"\""),
        (PgType::Date, b"01.02.2024"),
        (PgType::Time, b"noon"),
        (PgType::Timestamp, b"2024-01-01"),
        (PgType::TimestampTz, b"2024-01-01 00:00:00 CET"),
        (PgType::Interval, b"P1D"),
        (PgType::Bytea, b"\\000"),
        (array(PgType::Int4), b""),
        (array(PgType::Int4), b"1"),
        (array(PgType::Int4), b"{1"),
        (array(PgType::Int4), b"{1,}"),
        (array(PgType::Int4), b"{1}}"),
        (array(PgType::Int4), b"{1}2"),
        (array(PgType::Int4), b"[1:1]"),
        (array(PgType::Text), b"{\"a}"),
        (array(PgType::Int4), b"{{{{{{{1}}}}}}}"),
    ];
    for (ty, text) in wrong {
        let mut out = String::from("kept");
        let error = write_json(&ty, text, &mut out).expect_err("no value");
        assert_eq!(error, ParseValueError::Malformed { type_name: ty.name(), len: text.len() });
        assert_eq!(out, "kept", "{ty:?}");
    }
    for ty in [PgType::Other, array(PgType::Other), array(array(PgType::Int4))] {
        let error = write_json(&ty, b"{}", &mut String::new()).expect_err("not shown");
        assert_eq!(error, ParseValueError::Unsupported { type_name: ty.name() });
    }
}

#[test]
fn numbers_are_quoted() {
    let cases = [
        ("1", r#""1""#),
        ("-1.50", r#""-1.50""#),
        ("[1, null, [2.5, true]]", r#"["1", null, ["2.5", true]]"#),
        (r#"["1 2", "\"3", 4]"#, r#"["1 2", "\"3", "4"]"#),
        (r#"[{"a": [1, "}"]}, 2]"#, r#"[{"a": [1, "}"]}, "2"]"#),
    ];
    for (json, expected) in cases {
        assert_eq!(quote_numbers(json), expected, "{json}");
    }
    for json in ["null", "true", r#""1""#, "[]", r#"{"a": 1}"#, r#"["a\\", "b"]"#] {
        assert!(matches!(quote_numbers(json), Cow::Borrowed(same) if same == json), "{json}");
    }
}

/// An element as Postgres quotes it in an array.
fn quote_element(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

proptest! {
    #[test]
    fn texts_read_back(text in any::<String>()) {
        let read: String = serde_json::from_str(&json(&PgType::Text, &text)).expect("JSON");
        prop_assert_eq!(read, text);
    }

    #[test]
    fn floats_read_back(value in any::<f64>().prop_filter("finite", |value| value.is_finite())) {
        let json = json(&PgType::Float8, &format!("{value:e}"));
        prop_assert!(serde_json::from_str::<serde_json::Number>(&json).is_ok(), "{}", json);
        prop_assert_eq!(json.parse::<f64>(), Ok(value));
    }

    #[test]
    fn arrays_read_back(elements in prop::collection::vec(prop::option::of(any::<String>()), 0..6)) {
        let shown: Vec<_> = elements.iter().map(|element| {
            element.as_deref().map_or_else(|| "NULL".to_owned(), quote_element)
        }).collect();
        let text = format!("{{{}}}", shown.join(","));
        let read: Vec<Option<String>> = serde_json::from_str(&json(&array(PgType::Text), &text)).expect("JSON");
        prop_assert_eq!(read, elements);
    }

    #[test]
    fn quoted_numbers_have_the_same_digits(numbers in prop::collection::vec("-?(0|[1-9][0-9]{0,25})(\\.[0-9]{1,9})?", 0..5)) {
        let quoted = quote_numbers(&format!("[{}]", numbers.join(", "))).into_owned();
        let read: Vec<String> = serde_json::from_str(&quoted).expect("JSON");
        prop_assert_eq!(read, numbers);
    }

    #[test]
    fn no_bytes_panic(bytes: Vec<u8>, text in "[\\[\\]{}\",0-9\\\\aN:=ULe.+-]{0,24}") {
        for ty in [PgType::Int4, PgType::Text, PgType::Float8, PgType::TimestampTz, PgType::Jsonb] {
            for text in [&bytes[..], text.as_bytes()] {
                let _ = write_json(&ty, text, &mut String::new());
                let _ = write_json(&array(ty.clone()), text, &mut String::new());
            }
        }
        let _ = quote_numbers(&text);
        let _ = quote_numbers(&String::from_utf8_lossy(&bytes));
    }
}
