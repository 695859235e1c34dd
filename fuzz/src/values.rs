//! Values in Postgres' text form, and JSON.

use convoy_types::{
    Key, KeyBuilder, PgType, json_at, json_elements, json_members, json_text, quote_numbers,
    write_json,
};

const TYPES: [PgType; 19] = [
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
    PgType::Enum,
    PgType::Uuid,
    PgType::Bytea,
    PgType::Date,
    PgType::Time,
    PgType::Timestamp,
    PgType::TimestampTz,
    PgType::Interval,
    PgType::Jsonb,
];

/// A type, by its number, and two values of it, with a zero byte between them.
pub fn values(data: &[u8]) {
    let Some((&number, data)) = data.split_first() else { return };
    let ty = TYPES[usize::from(number) % TYPES.len()].clone();
    let array = PgType::Array(Box::new(ty.clone()));
    let mut texts = data.splitn(2, |byte| *byte == 0);
    let (a, b) = (texts.next().unwrap_or_default(), texts.next().unwrap_or_default());
    for ty in [&ty, &array] {
        // What Postgres would not send may come to be no JSON, but to no harm.
        let _ = write_json(ty, a, &mut String::new());
    }
    let (key_a, key_b) = (Key::of(&ty, a), Key::of(&ty, b));
    let mut both = KeyBuilder::new();
    let _ = both.push_nullable(&ty, Some(a)).and_then(|()| both.push_nullable(&ty, Some(b)));
    both.push_null();
    let _ = both.finish();
    let (Ok(key_a), Ok(key_b)) = (key_a, key_b) else { return };
    let number = |text: &[u8]| std::str::from_utf8(text).ok()?.parse::<i64>().ok();
    let is_number = matches!(ty, PgType::Int2 | PgType::Int4 | PgType::Int8 | PgType::Numeric);
    if let (true, Some(a), Some(b)) = (is_number, number(a), number(b)) {
        assert_eq!(key_a.cmp(&key_b), a.cmp(&b), "{ty:?} {a} {b}");
    }
}

/// A path, and after a zero byte JSON, which may be none.
pub fn json(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (path, json) = text.split_once('\0').unwrap_or(("a", text));
    let path: Vec<&str> = path.split('/').collect();
    let _ = quote_numbers(json);
    let _ = json_text(json);
    let _ = json_members(json);
    let _ = json_elements(json);
    let _ = Key::of_json(Some(json));
    let _ = Key::of(&PgType::Jsonb, json.as_bytes());
    if let Ok(Some(inner)) = json_at(json, &path) {
        assert!(json.contains(inner), "{inner:?} is not in {json:?}");
    }
    if serde_json::from_str::<serde_json::Value>(json).is_ok() {
        let quoted = quote_numbers(json);
        let read = serde_json::from_str::<serde_json::Value>(&quoted);
        assert!(read.is_ok(), "{json:?} is {quoted:?}: {read:?}");
    }
}
