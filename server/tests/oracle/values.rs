//! Random values as SQL literals, from small sets, so that conditions meet rows.

use super::dice::Dice;
use super::schema::{Kind, Table};

/// Returns a value for a column, often null.
pub fn value(kind: Kind, dice: &mut Dice) -> String {
    match dice.percent(12) {
        true => "NULL".to_owned(),
        false => present(kind, dice),
    }
}

/// Returns a value that is not null.
pub fn present(kind: Kind, dice: &mut Dice) -> String {
    let text = |text: &str| format!("'{}'", text.replace('\'', "''"));
    let any = |dice: &mut Dice, texts: &[&str]| text(dice.pick::<&str>(texts));
    match kind {
        Kind::Int4 | Kind::Generated => match dice.below(12) {
            0 => "2147483647".to_owned(),
            1 => "'-2147483648'".to_owned(),
            _ => dice.between(-3, 9).to_string(),
        },
        Kind::Int8 => match dice.below(8) {
            0 => "9007199254740993".to_owned(),
            1 => "'-9223372036854775808'".to_owned(),
            _ => dice.between(0, 5).to_string(),
        },
        Kind::Text => match dice.below(14) {
            0 => text(&dice.noise(5_000)),
            _ => any(
                dice,
                &[
                    "",
                    "a",
                    "B",
                    "c",
                    "A",
                    "b",
                    "C",
                    "ä",
                    "z",
                    "Zebra",
                    "o'clock",
                    "back\\slash",
                    "\"quoted\"",
                    "日本",
                    "a b",
                    "tab\there",
                    "line\nend",
                    "€",
                    "𝄞",
                    "10",
                    "9",
                ],
            ),
        },
        Kind::Varchar => any(dice, &["", "a", "B", "b", "x y", "ß", "trail  "]),
        Kind::Numeric => dice
            .pick(&[
                "0",
                "1",
                "1.0",
                "1.00",
                "-5.50",
                "'NaN'",
                "100000000000000000000",
                "0.000001",
                "'Infinity'",
                "12.345",
                "7",
                "-0.0",
            ])
            .to_string(),
        Kind::Float8 => dice
            .pick(&[
                "'0'",
                "'-0'",
                "'1.5'",
                "'NaN'",
                "'Infinity'",
                "'-Infinity'",
                "'1e20'",
                "'1e-07'",
                "'0.1'",
                "'2'",
                "'1e300'",
            ])
            .to_string(),
        Kind::Bool => dice.pick(&["true", "false"]).to_string(),
        Kind::Timestamptz => any(
            dice,
            &[
                "2026-01-01 00:00:00+00",
                "2026-01-01 12:34:56.789+02",
                "1999-12-31 23:59:59.999999+00",
                "infinity",
                "-infinity",
                "0044-03-15 00:00:00+00 BC",
                "2026-06-15 08:00:00+00",
            ],
        ),
        Kind::Date => any(
            dice,
            &["2026-01-01", "2026-02-28", "1970-01-01", "infinity", "0001-01-01 BC", "12345-01-01"],
        ),
        Kind::Uuid => any(
            dice,
            &[
                "00000000-0000-0000-0000-000000000000",
                "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
                "ffffffff-ffff-ffff-ffff-ffffffffffff",
                "12345678-1234-1234-1234-123456789abc",
            ],
        ),
        Kind::Jsonb => match dice.below(10) {
            0 => text(&format!("{{\"long\": \"{}\"}}", dice.noise(4_000))),
            _ => any(
                dice,
                &[
                    "null",
                    "1",
                    "1.0",
                    "1e3",
                    "\"text\"",
                    "[]",
                    "{}",
                    "{\"b\": 1, \"a\": [1, null, \"x\"]}",
                    "{\"a\": 1.50, \"ü\": \"\\u00e9\"}",
                    "[1, 2.0, {\"deep\": true}]",
                    "{\"a\": 1}",
                    "{\"a\": 2}",
                ],
            ),
        },
        Kind::Json => {
            any(dice, &["null", "{\"b\":1,\"b\":1E2}", "[1,  2]", "\"x\"", "{\"a\": {}}"])
        }
        Kind::Bytea => any(dice, &["\\x", "\\x00", "\\xdeadbeef", "\\xff00ff"]),
        Kind::Ints => any(dice, &["{}", "{1}", "{1,NULL,3}", "{-1,0,1}", "{3,2,1}"]),
        Kind::Texts => any(
            dice,
            &["{}", "{a}", "{NULL,\"NULL\"}", "{\"a,b\",\"q\\\"q\",\"\\\\\"}", "{\"\",ä}"],
        ),
        Kind::Mood => any(dice, &["wary", "calm", "angry"]),
        Kind::Small => dice.between(-4, 4).to_string(),
    }
}

/// Returns the key of this number: its columns' values.
pub fn key(table: &Table, number: usize) -> Vec<String> {
    let (first, second) = if table.key_len > 1 { (number / 4, number % 4) } else { (number, 0) };
    table
        .key()
        .iter()
        .zip([first, second])
        .map(|(column, number)| match column.kind {
            Kind::Int4 | Kind::Int8 | Kind::Small => number.to_string(),
            Kind::Text => format!("'{}{number}'", ["k", "K", "ä", "'' "][number % 4]),
            Kind::Uuid => format!("'{:08x}-0000-4000-8000-{:012x}'", number * 0x1357, number),
            Kind::Date => format!("date '2026-01-01' + {number}"),
            Kind::Numeric => format!("{number}.50"),
            other => unreachable!("no key is of kind {other:?}"),
        })
        .collect()
}

/// Returns the condition that a row has this key; for a table without one, some condition that few rows meet.
pub fn has_key(table: &Table, number: usize, dice: &mut Dice) -> String {
    if table.key_len == 0 {
        return format!("hid % {} = {}", KEYLESS_PARTS, number % KEYLESS_PARTS);
    }
    let _ = dice;
    let key = key(table, number);
    let parts =
        table.key().iter().zip(key).map(|(column, value)| format!("{} = {value}", column.sql()));
    parts.collect::<Vec<_>>().join(" AND ")
}

const KEYLESS_PARTS: usize = 12;
