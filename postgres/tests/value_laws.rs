//! Values as a real server sees them: keys compare as `<` and `=` do, and `write_json` gives `to_jsonb(x)::text`.
//!
//! The server makes the values, from edges and at random; `CONVOY_SEED` replays a run.

use std::cmp::Ordering;

use convoy_postgres::launcher::Locale;
use convoy_postgres::testing;
use convoy_types::{Collation, Key, KeyBuilder, PgType, write_json};
use tokio_postgres::{Client, NoTls, SimpleQueryMessage, SimpleQueryRow};

/// Makes the types that a database has not from the beginning.
pub const TYPES: &str = "create type mood as enum ('sad', 'ok ay', 'q\"\\', 'ä'); create domain any_name as text; \
    create domain price as numeric(10, 2) check (value < 1e8)";

/// Pairs tried of each type.
const PAIRS: u32 = 2000;

/// How the server makes values of a type: one of the edges, or the expression's.
pub struct Law {
    pub ty: PgType,
    pub sql_type: &'static str,
    pub edges: &'static [&'static str],
    random: &'static str,
}

/// Returns the laws of all types that Convoy reads.
pub fn laws() -> Vec<Law> {
    let law = |ty, sql_type, edges, random| Law { ty, sql_type, edges, random };
    let text = "(select coalesce(string_agg(case floor(random() * 4) when 0 then chr(1 + floor(random() * 126)::int) \
                when 1 then chr(128 + floor(random() * 2000)::int) when 2 then 'a' else 'A' end, ''), '') \
                from generate_series(1, floor(random() * 6)::int))";
    let texts: &[&str] = &[
        "",
        " ",
        "a",
        "a ",
        "ab",
        "A",
        "ä",
        "💧",
        "NULL",
        "null",
        "\"",
        "\\",
        "{",
        "}",
        ",",
        "\n",
        "\u{1}",
        "\u{7f}",
        "\u{2028}",
        "\u{feff}",
        "\u{ffff}",
        "\u{10000}",
    ];
    let date = "date '2000-01-01' + ((random() - 0.5) * 4e6)::int";
    let timestamp = "timestamp '2000-01-01' + (random() - 0.5) * 4e6 * interval '1 day'";
    vec![
        law(PgType::Bool, "bool", &["t", "f"], "random() < 0.5"),
        law(
            PgType::Int2,
            "int2",
            &["-32768", "-1", "0", "1", "32767"],
            "((random() - 0.5) * 65534)::int2",
        ),
        law(
            PgType::Int4,
            "int4",
            &["-2147483648", "-1", "0", "1", "2147483647"],
            "((random() - 0.5) * 4e9)::int4",
        ),
        law(
            PgType::Int8,
            "int8",
            &["-9223372036854775808", "-1", "0", "1", "9223372036854775807"],
            "((random() - 0.5) * 1.8e19)::int8",
        ),
        law(
            PgType::Numeric,
            "numeric",
            &[
                "NaN",
                "Infinity",
                "-Infinity",
                "0",
                "0.00",
                "1",
                "1.0",
                "1.00",
                "10",
                "-1",
                "-1.5",
                "0.1",
                "1e100",
                "-1e-100",
                // Of a thousand digits, on either side of the point.
                "1e1000",
                "-123456789e992",
                "1e-1000",
            ],
            "round(((random() - 0.5) * 10 ^ (random() * 20 - 5))::numeric, floor(random() * 12)::int)",
        ),
        law(
            PgType::Float8,
            "float8",
            &[
                "NaN",
                "Infinity",
                "-Infinity",
                "0",
                "-0",
                "5e-324",
                "-5e-324",
                "1e15",
                "1e20",
                "1e-7",
                "1.7976931348623157e308",
            ],
            "(random() - 0.5) * 10 ^ (random() * 600 - 300)",
        ),
        law(
            PgType::Float4,
            "float4",
            &[
                "NaN",
                "Infinity",
                "-Infinity",
                "0",
                "-0",
                "0.1",
                "1e-45",
                "1e6",
                "16777216",
                "3.4028235e38",
            ],
            "((random() - 0.5) * 10 ^ (random() * 70 - 35))::float4",
        ),
        law(PgType::Text, "text", texts, text),
        law(PgType::Varchar, "varchar", texts, text),
        law(PgType::Bpchar, "char(9)", texts, text),
        // Domains are their base types, to whoever reads them.
        law(PgType::Text, "any_name", texts, text),
        law(PgType::Numeric, "price", &["0", "1.5", "1.50", "-2", "99999999.99"], "random() * 1e4"),
        law(PgType::Enum, "mood", &["sad", "ok ay", "q\"\\", "ä"], "enum_first(null::mood)"),
        law(
            PgType::Uuid,
            "uuid",
            &["00000000-0000-0000-0000-000000000000", "80000000-0000-0000-0000-000000000000"],
            "md5(random()::text)::uuid",
        ),
        law(
            PgType::Bytea,
            "bytea",
            &["", "\\x00", "\\x0000", "\\x00ff", "\\x01", "\\xff"],
            "decode(md5(random()::text), 'hex')",
        ),
        law(
            PgType::Date,
            "date",
            &[
                "infinity",
                "-infinity",
                "4714-11-24 BC",
                "0001-12-31 BC",
                "0001-01-01",
                "2000-02-29",
                "5874897-12-31",
            ],
            date,
        ),
        law(
            PgType::Time,
            "time",
            &["00:00:00", "00:00:00.000001", "12:00:00.5", "23:59:59.999999", "24:00:00"],
            "(time '00:00' + random() * interval '1 day')::time",
        ),
        law(
            PgType::Timestamp,
            "timestamp",
            &[
                "infinity",
                "-infinity",
                "4714-11-24 00:00 BC",
                "0001-12-31 23:59:59.999999 BC",
                "294276-12-31 23:59:59.999999",
            ],
            timestamp,
        ),
        law(
            PgType::TimestampTz,
            "timestamptz",
            &[
                "infinity",
                "-infinity",
                "4700-01-01 00:00+0 BC",
                "0001-12-31 23:59:59.5+0 BC",
                "1880-01-01 00:00+0",
            ],
            timestamp,
        ),
        law(
            PgType::Interval,
            "interval",
            &[
                "0",
                "1 mon",
                "30 days",
                "720:00:00",
                "1 year",
                "360 days",
                "-1 mon +30 days",
                "1 day -00:00:00.5",
            ],
            "make_interval(months => ((random() - 0.5) * 4e9)::int, days => ((random() - 0.5) * 4e9)::int, \
             secs => (random() - 0.5) * 1e12)",
        ),
        law(
            PgType::Jsonb,
            "jsonb",
            &[
                "null",
                "1.50",
                "1e3",
                "\"a\\\\\\u0001\"",
                "{}",
                "[]",
                "{\"b\": [1, \"x, }\"], \"a\": null}",
            ],
            "to_jsonb(random())",
        ),
    ]
}

impl Law {
    /// Returns the expression that makes one value.
    pub fn value(&self) -> String {
        let edges: Vec<_> = self.edges.iter().map(|edge| format!("'{edge}'")).collect();
        let (edges, count, ty) = (edges.join(", "), self.edges.len(), self.sql_type);
        format!(
            "case when random() < 0.6 then (array[{edges}]::{ty}[])[1 + floor(random() * {count})::int] \
             else ({})::{ty} end",
            self.random
        )
    }
}

/// Connects, with the settings that every connection of Convoy's has, and a seed.
async fn connect(url: &str) -> anyhow::Result<Client> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    tokio::spawn(connection);
    let given = std::env::var("CONVOY_SEED").ok().and_then(|seed| seed.parse::<u32>().ok());
    let seed = given.unwrap_or_else(rand::random);
    // Shown where the test fails.
    println!("replay with CONVOY_SEED={seed}");
    client
        .batch_execute(&format!(
            "set timezone = 'UTC'; set intervalstyle = postgres; set datestyle = 'ISO'; set extra_float_digits = 1; \
             set bytea_output = hex; set client_encoding = 'UTF8'; set standard_conforming_strings = on; \
             {TYPES}; select setseed({})",
            f64::from(seed) / f64::from(u32::MAX)
        ))
        .await?;
    Ok(client)
}

async fn rows(client: &Client, sql: &str) -> anyhow::Result<Vec<SimpleQueryRow>> {
    let messages = client.simple_query(sql).await?;
    let row = |message| if let SimpleQueryMessage::Row(row) = message { Some(row) } else { None };
    Ok(messages.into_iter().filter_map(row).collect())
}

fn text(row: &SimpleQueryRow, column: usize) -> &str {
    row.get(column).expect("not null")
}

/// Compares keys of pairs of values with what the server says of the pairs.
async fn check_keys(client: &Client, law: &Law, collation: Collation) -> anyhow::Result<()> {
    if !law.ty.has_equality(collation) {
        return Ok(());
    }
    let value = law.value();
    let sql = format!(
        "select a, b, case when a < b then '<' when a = b then '=' else '>' end \
         from (select {value} as a, {value} as b from generate_series(1, {PAIRS})) as pairs"
    );
    let mut equal_pairs = 0;
    for row in rows(client, &sql).await? {
        let (a, b) = (text(&row, 0), text(&row, 1));
        let order = Key::of(&law.ty, a.as_bytes())?.cmp(&Key::of(&law.ty, b.as_bytes())?);
        let expected = match text(&row, 2) {
            "<" => Ordering::Less,
            "=" => Ordering::Equal,
            _ => Ordering::Greater,
        };
        let context = format!("{} {a:?} {b:?} {collation:?}", law.sql_type);
        assert_eq!(order == Ordering::Equal, expected == Ordering::Equal, "{context}");
        if law.ty.has_order(collation) {
            assert_eq!(order, expected, "{context}");
        }
        equal_pairs += u32::from(order == Ordering::Equal);
    }
    assert!(
        equal_pairs > 0 && equal_pairs < PAIRS,
        "{}: {equal_pairs} of {PAIRS} pairs are equal",
        law.sql_type
    );
    Ok(())
}

/// Compares the JSON of values, and of arrays of them, with the server's.
async fn check_json(client: &Client, law: &Law) -> anyhow::Result<()> {
    let value = law.value();
    let array = PgType::Array(Box::new(law.ty.clone()));
    let sql = format!(
        "select a, to_jsonb(a), flat, to_jsonb(flat), square, to_jsonb(square) \
         from (select a, array[a, null, b, a] as flat, array[[a, b], [b, null]] as square \
               from (select {value} as a, {value} as b from generate_series(1, {PAIRS})) as pairs) as arrays"
    );
    for row in rows(client, &sql).await? {
        for (ty, column) in [(&law.ty, 0), (&array, 2), (&array, 4)] {
            let (shown, expected) = (text(&row, column), text(&row, column + 1));
            let mut json = String::new();
            write_json(ty, shown.as_bytes(), &mut json)?;
            assert_eq!(json, expected, "{} {shown:?}", law.sql_type);
        }
    }
    Ok(())
}

#[tokio::test]
async fn oids_are_the_servers() -> anyhow::Result<()> {
    let client = connect(&testing::shared().await.database("oids").await).await?;
    let sql = "select t.oid, t.typname, coalesce(element.oid, 0) from pg_type as t \
               left join pg_type as element on element.typarray = t.oid where t.oid < 16384";
    let mut known = Vec::new();
    for row in rows(&client, sql).await? {
        let (oid, element) = (text(&row, 0).parse()?, text(&row, 2).parse()?);
        match PgType::from_oid(oid) {
            PgType::Other if element != 0 => {
                assert_eq!(PgType::from_oid(element), PgType::Other, "{row:?}")
            }
            PgType::Other => {}
            PgType::Array(inner) => assert_eq!(*inner, PgType::from_oid(element), "{row:?}"),
            ty => {
                assert_eq!(ty.name(), text(&row, 1));
                known.push(ty);
            }
        }
    }
    // An enum's oid is its own.
    for law in laws().iter().filter(|law| law.ty != PgType::Enum) {
        assert!(known.contains(&law.ty), "{:?}", law.ty);
    }
    Ok(())
}

#[tokio::test]
async fn p9_keys_compare_as_values_do() -> anyhow::Result<()> {
    let client = connect(&testing::shared().await.database("keys").await).await?;
    for law in laws() {
        check_keys(&client, &law, Collation::ByteOrder).await?;
    }
    Ok(())
}

#[tokio::test]
async fn p9_keys_are_equal_as_values_are_under_another_collation() -> anyhow::Result<()> {
    let url = testing::shared().await.database_with("keys_icu", Locale::IcuEn).await;
    let client = connect(&url).await?;
    for law in laws() {
        check_keys(&client, &law, Collation::Deterministic).await?;
    }
    Ok(())
}

#[tokio::test]
async fn p9_json_is_to_jsonb() -> anyhow::Result<()> {
    let client = connect(&testing::shared().await.database("json").await).await?;
    for law in laws() {
        check_json(&client, &law).await?;
    }
    Ok(())
}

#[tokio::test]
async fn p9_other_time_zones() -> anyhow::Result<()> {
    let client = connect(&testing::shared().await.database("zones").await).await?;
    // Of half hours, west of Greenwich, and (before 1900) of seconds.
    for zone in ["Asia/Kolkata", "America/St_Johns", "Europe/Amsterdam"] {
        client.batch_execute(&format!("set timezone = '{zone}'")).await?;
        for law in laws().iter().filter(|law| law.ty == PgType::TimestampTz) {
            check_keys(&client, law, Collation::None).await?;
            check_json(&client, law).await?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn p9_array_bounds_vanish() -> anyhow::Result<()> {
    let client = connect(&testing::shared().await.database("bounds").await).await?;
    for array in ["{}", "[2:3]={1,NULL}", "[0:0][-1:1]={{1,2,3}}", "{{{1},{2}}}"] {
        let sql = format!("select '{array}'::int4[], to_jsonb('{array}'::int4[])");
        for row in rows(&client, &sql).await? {
            let mut json = String::new();
            write_json(
                &PgType::Array(Box::new(PgType::Int4)),
                text(&row, 0).as_bytes(),
                &mut json,
            )?;
            assert_eq!(json, text(&row, 1), "{array}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn floats_compare_across_their_widths() -> anyhow::Result<()> {
    let client = connect(&testing::shared().await.database("widths").await).await?;
    let sql = "select a, b, case when a < b then '<' when a = b then '=' else '>' end \
               from unnest('{0.1,0.5,-0,1e-45,3.4e38,NaN,Infinity,16777217}'::float4[]) as a, \
                    unnest('{0.1,0.10000000149011612,0.5,0,1.401298464324817e-45,NaN,Infinity,16777216}'::float8[]) as b";
    for row in rows(&client, sql).await? {
        let (a, b) = (text(&row, 0), text(&row, 1));
        let order =
            Key::of(&PgType::Float4, a.as_bytes())?.cmp(&Key::of(&PgType::Float8, b.as_bytes())?);
        let expected = match text(&row, 2) {
            "<" => Ordering::Less,
            "=" => Ordering::Equal,
            _ => Ordering::Greater,
        };
        assert_eq!(order, expected, "{a} {b}");
    }
    Ok(())
}

#[tokio::test]
async fn several_columns_order_as_in_order_by() -> anyhow::Result<()> {
    let client = connect(&testing::shared().await.database("columns").await).await?;
    let types = [PgType::Text, PgType::Numeric, PgType::Int4];
    let sql = "select a, b, c from (select (array['', 'a', 'ab', 'b', null])[1 + floor(random() * 5)::int] as a, \
               (array[-1.5, -1, 0, 1, 1.5, null])[1 + floor(random() * 6)::int] as b, \
               nullif(floor(random() * 5)::int - 2, 2) as c from generate_series(1, 2000)) as rows order by a, b, c";
    let mut before: Option<Key> = None;
    for row in rows(&client, sql).await? {
        let mut builder = KeyBuilder::new();
        for (column, ty) in types.iter().enumerate() {
            builder.push_nullable(ty, row.get(column).map(str::as_bytes))?;
        }
        let key = builder.finish();
        assert!(before.is_none_or(|before| before <= key), "{row:?}");
        before = Some(key);
    }
    assert!(before.is_some());
    Ok(())
}
