//! Values as a real server sees them: keys compare as `<` and `=` do, and `write_json` gives `to_jsonb(x)::text`.
//!
//! The server makes the values, from edges and at random; `CONVOY_SEED` replays a run.

use std::cmp::Ordering;

use convoy_postgres::launcher::Locale;
use convoy_postgres::testing;
use convoy_postgres::testing::values::{Law, TYPES, laws};
use convoy_types::{Collation, Key, KeyBuilder, PgType, write_json};
use tokio_postgres::{Client, NoTls, SimpleQueryMessage, SimpleQueryRow};

/// Pairs tried of each type.
const PAIRS: u32 = 2000;

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
