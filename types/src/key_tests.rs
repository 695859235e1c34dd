//! Laws of keys.

use super::*;
use crate::pg_type::Collation;
use proptest::prelude::*;
use std::cmp::Ordering;

/// Every type that has keys.
const TYPES: [PgType; 18] = [
    PgType::Bool,
    PgType::Int2,
    PgType::Int4,
    PgType::Int8,
    PgType::Numeric,
    PgType::Float4,
    PgType::Float8,
    PgType::Text,
    PgType::Varchar,
    PgType::Bpchar,
    PgType::Uuid,
    PgType::Date,
    PgType::Time,
    PgType::Timestamp,
    PgType::TimestampTz,
    PgType::Interval,
    PgType::Bytea,
    PgType::Enum,
];

fn key(ty: &PgType, text: &str) -> Key {
    Key::of(ty, text.as_bytes()).unwrap_or_else(|error| panic!("{text:?}: {error}"))
}

fn ascending(ty: &PgType, texts: &[&str]) {
    for (position, left) in texts.iter().enumerate() {
        for right in &texts[position + 1..] {
            assert!(key(ty, left) < key(ty, right), "{ty:?}: {left} {right}");
        }
        assert!(key(ty, left) < Key::null(), "{ty:?}: {left}");
    }
}

fn equal(ty: &PgType, texts: &[&str]) {
    for text in texts {
        assert_eq!(key(ty, text), key(ty, texts[0]), "{ty:?}: {text} {}", texts[0]);
    }
}

#[test]
fn values_order_as_in_postgres() {
    ascending(&PgType::Bool, &["f", "t"]);
    ascending(
        &PgType::Int8,
        &["-9223372036854775808", "-10", "-2", "0", "2", "10", "9223372036854775807"],
    );
    ascending(
        &PgType::Float8,
        &["-Infinity", "-1e+20", "-1", "-5e-324", "0", "5e-324", "1", "1e+20", "Infinity", "NaN"],
    );
    ascending(&PgType::Float4, &["-Infinity", "-1", "0", "1e-45", "0.1", "1", "Infinity", "NaN"]);
    ascending(&PgType::Text, &["", "A", "Ab", "B", "a", "a\u{1}", "a ", "ab", "b", "ä", "💧"]);
    ascending(
        &PgType::Bytea,
        &["\\x", "\\x00", "\\x0000", "\\x0001", "\\x00ff", "\\x01", "\\x0100", "\\xff", "\\xff00"],
    );
    ascending(
        &PgType::Date,
        &["-infinity", "4713-11-24 BC", "0001-12-31 BC", "0001-01-01", "2024-02-29", "infinity"],
    );
    ascending(&PgType::Time, &["00:00:00", "00:00:00.000001", "23:59:59", "24:00:00"]);
    ascending(
        &PgType::Timestamp,
        &["-infinity", "0044-03-15 12:00:00 BC", "2024-01-01 00:00:00", "infinity"],
    );
    ascending(
        &PgType::Interval,
        &["-1 mons", "-1 days", "00:00:00", "23:59:59", "1 day", "29 days", "1 mon", "31 days"],
    );
    ascending(
        &PgType::Uuid,
        &[
            "00000000-0000-0000-0000-000000000001",
            "7fffffff-0000-0000-0000-000000000000",
            "80000000-0000-0000-0000-000000000000",
        ],
    );
}

#[test]
fn values_are_equal_as_in_postgres() {
    equal(&PgType::Bool, &["t", "true"]);
    equal(&PgType::Numeric, &["1", "1.0", "1.00"]);
    equal(&PgType::Float8, &["0", "-0"]);
    equal(&PgType::Bpchar, &["a", "a ", "a   "]);
    equal(&PgType::Interval, &["1 mon", "30 days", "720:00:00", "1 mon 1 day -24:00:00"]);
    equal(&PgType::TimestampTz, &["2024-01-01 00:00:00+00", "2024-01-01 05:30:00+05:30"]);
    assert_ne!(key(&PgType::Text, "a"), key(&PgType::Text, "a "));
    // Postgres widens a float4 to compare it with a float8: 0.1::float4 = 0.1::float8 is false.
    assert_ne!(key(&PgType::Float4, "0.1"), key(&PgType::Float8, "0.1"));
    assert_eq!(key(&PgType::Float4, "0.1"), key(&PgType::Float8, "0.10000000149011612"));
    assert_eq!(key(&PgType::Int2, "-7"), key(&PgType::Int8, "-7"));
}

#[test]
fn refuses_what_is_no_value_and_leaves_the_builder() {
    let mut builder = KeyBuilder::new();
    builder.push(&PgType::Int4, b"1").expect("an integer");
    let before = builder.clone().finish();
    let wrong: [(&PgType, &[u8]); 9] = [
        (&PgType::Bool, b"yes"),
        (&PgType::Int2, b"32768"),
        (&PgType::Int4, b"1.0"),
        (&PgType::Int8, b""),
        (&PgType::Float8, b"one"),
        (&PgType::Float4, b"\xFF"),
        (&PgType::Numeric, b"-12.x"),
        (&PgType::Text, b"a\0b"),
        (&PgType::Bytea, b"\\x1"),
    ];
    for (ty, text) in wrong {
        let error = builder.push(ty, text).expect_err("no value");
        assert_eq!(error, ParseValueError::Malformed { type_name: ty.name(), len: text.len() });
    }
    for ty in [PgType::Jsonb, PgType::Other, PgType::Array(Box::new(PgType::Int4))] {
        assert!(!ty.has_equality(Collation::None));
        let error = builder.push(&ty, b"1").expect_err("no key");
        assert_eq!(error, ParseValueError::Unsupported { type_name: ty.name() });
    }
    assert_eq!(builder.finish(), before);
}

/// A value of one of the types in Postgres' output text.
fn any_text(ty: &PgType) -> BoxedStrategy<String> {
    match ty {
        PgType::Bool => prop_oneof![Just("t".to_owned()), Just("f".to_owned())].boxed(),
        PgType::Int2 => any::<i16>().prop_map(|value| value.to_string()).boxed(),
        PgType::Int4 => any::<i32>().prop_map(|value| value.to_string()).boxed(),
        PgType::Int8 => any::<i64>().prop_map(|value| value.to_string()).boxed(),
        PgType::Numeric => "-?(0|[1-9][0-9]{0,30})(\\.[0-9]{1,20})?".boxed(),
        PgType::Float4 => any::<f32>().prop_map(|value| format!("{value:e}")).boxed(),
        PgType::Float8 => any::<f64>().prop_map(|value| format!("{value:e}")).boxed(),
        PgType::Text | PgType::Varchar | PgType::Enum | PgType::Bpchar => "[^\0]{0,12}".boxed(),
        PgType::Uuid => "[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}".boxed(),
        PgType::Date => "[1-9][0-9]{3,5}-(0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8])( BC)?".boxed(),
        PgType::Time => "(0[0-9]|1[0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\\.[0-9]{1,6})?".boxed(),
        PgType::Timestamp => "[12][0-9]{3,4}-0[1-9]-[12][0-8] 0[0-9]:[0-5][0-9]:[0-5][0-9](\\.[0-9]{1,6})?( BC)?".boxed(),
        PgType::TimestampTz => "[12][0-9]{3,4}-0[1-9]-[12][0-8] 0[0-9]:[0-5][0-9]:[0-5][0-9][-+]0[0-9](:30)?".boxed(),
        PgType::Interval => "-?[0-9]{1,9} years [-+]?[0-9] mons [-+]?[0-9]{1,9} days -?[0-9]{2,9}:[0-5][0-9]:[0-5][0-9]".boxed(),
        PgType::Bytea => "\\\\x([0-9a-f]{2}|00|ff){0,8}".boxed(),
        PgType::Jsonb | PgType::Array(_) | PgType::Other => unreachable!("no keys"),
    }
}

/// A type and two to four values of it, some null.
fn any_values() -> impl Strategy<Value = (PgType, Vec<Option<String>>)> {
    prop::sample::select(TYPES.to_vec()).prop_flat_map(|ty| {
        let value = prop::option::weighted(0.9, any_text(&ty));
        (Just(ty), prop::collection::vec(value, 4))
    })
}

fn build(values: &[(&PgType, &Option<String>)]) -> Key {
    let mut builder = KeyBuilder::new();
    for (ty, text) in values {
        builder.push_nullable(ty, text.as_deref().map(str::as_bytes)).expect("a value");
    }
    builder.finish()
}

proptest! {
    #[test]
    fn no_key_is_the_beginning_of_another((ty, values) in any_values()) {
        let (left, right) = (build(&[(&ty, &values[0])]), build(&[(&ty, &values[1])]));
        prop_assert!(left == right || !right.as_bytes().starts_with(left.as_bytes()), "{:?} {:?}", left, right);
    }

    #[test]
    fn the_first_of_several_values_is_found((first, a) in any_values(), (second, b) in any_values()) {
        for (a, b) in a.iter().zip(&b) {
            let both = build(&[(&first, a), (&second, b)]);
            prop_assert_eq!(Key::first_of(&first, both.as_bytes()), build(&[(&first, a)]));
        }
    }

    #[test]
    fn several_values_compare_one_by_one((first, a) in any_values(), (second, b) in any_values()) {
        let left = build(&[(&first, &a[0]), (&second, &b[0])]);
        // Half of the time the first values are the same, so that the second ones decide.
        for other in [&a[0], &a[1]] {
            let right = build(&[(&first, other), (&second, &b[1])]);
            let expected = build(&[(&first, &a[0])]).cmp(&build(&[(&first, other)]))
                .then_with(|| build(&[(&second, &b[0])]).cmp(&build(&[(&second, &b[1])])));
            prop_assert_eq!(left.cmp(&right), expected);
        }
    }

    #[test]
    fn a_successor_is_behind_all_that_begin_with_the_key((ty, values) in any_values(), (other, more) in any_values()) {
        let key = build(&[(&ty, &values[0])]);
        let successor = key.successor();
        prop_assert!(key < successor);
        prop_assert!(build(&[(&ty, &values[0]), (&other, &more[0])]) < successor);
        let next = build(&[(&ty, &values[1])]);
        prop_assert_eq!(next.cmp(&key) == Ordering::Greater, next >= successor);
    }

    #[test]
    fn integers_order_as_integers(left: i64, right: i64) {
        let of = |value: i64| key(&PgType::Int8, &value.to_string());
        prop_assert_eq!(of(left).cmp(&of(right)), left.cmp(&right));
    }

    #[test]
    fn texts_order_as_bytes(left in "[^\0]{0,8}", right in "[^\0]{0,8}") {
        prop_assert_eq!(key(&PgType::Text, &left).cmp(&key(&PgType::Text, &right)), left.as_bytes().cmp(right.as_bytes()));
    }

    #[test]
    fn bytea_orders_as_bytes(left in prop::collection::vec(prop_oneof![Just(0u8), Just(255), any::<u8>()], 0..6),
                             right in prop::collection::vec(prop_oneof![Just(0u8), Just(255), any::<u8>()], 0..6)) {
        let of = |bytes: &[u8]| {
            let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            key(&PgType::Bytea, &format!("\\x{digits}"))
        };
        prop_assert_eq!(of(&left).cmp(&of(&right)), left.cmp(&right));
    }

    #[test]
    fn no_bytes_panic(ty in prop::sample::select(TYPES.to_vec()), bytes: Vec<u8>) {
        let _ = Key::of(&ty, &bytes);
    }
}
