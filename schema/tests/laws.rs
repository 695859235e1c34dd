//! Laws, on random documents, scans and changes: both layouts answer as the model does; pages add up to the whole; what
//! changes an answer is covered by what was recorded.

use crate::model::{self, Row, any_doc, any_scan, any_value, shown};
use crate::support::{Db, execute, schema, table};
use convoy_postgres::testing::{Dice, seeds};
use convoy_schema::{CreationClock, RecordedRead, Store};
use serde_json::{Value, json};

const TABLES: [&str; 2] = ["docs", "cols"];

fn both() -> Value {
    let indexes = model::index_texts();
    let indexes: Vec<&str> = indexes.iter().map(String::as_str).collect();
    schema(vec![
        table("docs", "document", &model::FIELDS, &indexes),
        table("cols", "relational", &model::FIELDS, &indexes),
    ])
}

pub async fn insert_any(db: &Db, store: &Store, table: &str, dice: &mut Dice) -> Row {
    let doc = any_doc(dice);
    let creation_time = 1000.0 + dice.below(5) as f64;
    let mut clock = CreationClock::new(creation_time);
    let id = db.insert_at(store, table, Value::Object(doc.clone()), &mut clock).await;
    Row { id: id.expect("inserted"), creation_time, doc }
}

pub fn docs(answer: &Value) -> Vec<Value> {
    answer["docs"].as_array().expect("docs").iter().map(shown).collect()
}

fn expected(rows: &[Row], args: &Value) -> Vec<Value> {
    model::scan(rows, args).into_iter().map(Row::shown).collect()
}

#[tokio::test]
async fn both_layouts_answer_as_the_model() {
    for seed in seeds(6) {
        let mut dice = Dice::of(seed);
        let mut db = match seed % 2 {
            0 => Db::new("law_layouts").await,
            _ => Db::english("law_layouts").await,
        };
        let store = db.with(&both()).await;
        for table in TABLES {
            let mut rows = Vec::new();
            for _ in 0..40 {
                rows.push(insert_any(&db, &store, table, &mut dice).await);
            }
            for _ in 0..60 {
                let mut args = any_scan(&mut dice, table);
                let whole = db.scan(&store, args.clone()).await.expect("a scan");
                let expect = expected(&rows, &args);
                assert_eq!(docs(&whole), expect, "{args}");
                assert_eq!(whole["done"], true);
                // In pages, forward.
                let (mut pages, mut after) = (Vec::new(), Value::Null);
                loop {
                    let limit = 1 + dice.below(8);
                    args["limit"] = json!(limit);
                    args["after"] = after.clone();
                    let page = db.scan(&store, args.clone()).await.expect("a page");
                    let found = docs(&page);
                    assert_eq!(page["done"], found.len() < limit, "{args}");
                    // The same page once more, up to where it ended, however many there are by then.
                    let mut again = args.clone();
                    again["limit"] = Value::Null;
                    again["until"] = page["cursor"].clone();
                    if !found.is_empty() {
                        let again_found = db.scan(&store, again.clone()).await.expect("a page");
                        assert_eq!(docs(&again_found), found, "{again}");
                    }
                    pages.extend(found);
                    if page["done"] == true {
                        break;
                    }
                    after = page["cursor"].clone();
                }
                assert_eq!(pages, expect, "{args} in pages");
            }
        }
    }
}

/// Returns whether a recorded read has a row.
async fn covers(db: &Db, reads: &[RecordedRead], id: &str) -> bool {
    for read in reads {
        let ids = execute(&db.client, &read.sql, &read.args).await;
        if ids.iter().any(|found| found == id) {
            return true;
        }
    }
    false
}

#[tokio::test]
async fn what_changes_an_answer_is_covered_by_what_was_recorded() {
    let (mut changed, mut unchanged, mut woken) = (0, 0, 0);
    for seed in seeds(6) {
        let mut dice = Dice::of(seed);
        let mut db = Db::new("law_recorded").await;
        let store = db.with(&both()).await;
        for table in TABLES {
            let mut rows = Vec::new();
            for _ in 0..25 {
                rows.push(insert_any(&db, &store, table, &mut dice).await);
            }
            for _ in 0..80 {
                let mut args = any_scan(&mut dice, table);
                let whole = db.scan(&store, args.clone()).await.expect("a scan");
                let cursors = cursors(&db, &store, &args, docs(&whole).len(), &mut dice).await;
                for (key, cursor) in ["after", "until"].into_iter().zip(cursors) {
                    args[key] = cursor;
                }
                if dice.percent(60) {
                    args["limit"] = json!(1 + dice.below(4));
                }
                let (before, reads) = db.scan_recorded(&store, args.clone()).await.expect("a scan");
                // One row comes, goes, or changes.
                let place = dice.below(rows.len());
                let id = rows[place].id.clone();
                let (id, was_covered) = match dice.below(3) {
                    0 => {
                        let row = insert_any(&db, &store, table, &mut dice).await;
                        rows.push(row.clone());
                        (row.id, false)
                    }
                    1 if rows.len() > 10 => {
                        let was_covered = covers(&db, &reads, &id).await;
                        let delete = json!({ "id": id }).to_string();
                        store.delete(&db.client, &delete).await.expect("deleted");
                        rows.remove(place);
                        (id, was_covered)
                    }
                    _ => {
                        let was_covered = covers(&db, &reads, &id).await;
                        let field = *dice.pick(&[&"s", &"n", &"b", &"j", &"it's"]);
                        let value = any_value(&mut dice, field);
                        let mut patch = json!({ "id": id, "set": {}, "unset": [] });
                        match &value {
                            Some(value) => patch["set"][field] = value.clone(),
                            None => patch["unset"] = json!([field]),
                        }
                        store.patch(&db.client, &patch.to_string()).await.expect("patched");
                        match value {
                            Some(value) => rows[place].doc.insert(field.to_owned(), value),
                            None => rows[place].doc.shift_remove(field),
                        };
                        (id, was_covered)
                    }
                };
                let after = db.scan(&store, args.clone()).await.expect("a scan");
                let is_covered = was_covered || covers(&db, &reads, &id).await;
                if before == after {
                    unchanged += 1;
                    woken += usize::from(is_covered);
                } else {
                    changed += 1;
                    assert!(is_covered, "{args}: {before} became {after} by {id}, and {reads:?}");
                }
            }
        }
    }
    println!("{changed} changed the answer; of {unchanged} that did not, {woken} were covered");
    assert!(
        changed > 100 && woken < unchanged / 2,
        "the law is tried, and says more than all rows"
    );
}

/// Returns two places in a scan, or none, in their order.
async fn cursors(
    db: &Db,
    store: &Store,
    args: &Value,
    length: usize,
    dice: &mut Dice,
) -> [Value; 2] {
    let mut places = [Value::Null, Value::Null];
    if length == 0 {
        return places;
    }
    let mut at = [dice.below(length) + 1, dice.below(length) + 1];
    at.sort_unstable();
    for (place, at) in places.iter_mut().zip(at) {
        if dice.percent(40) {
            let mut args = args.clone();
            args["limit"] = json!(at);
            *place = db.scan(store, args).await.expect("a scan")["cursor"].clone();
        }
    }
    places
}

#[tokio::test]
async fn a_patch_is_what_it_says_in_both_layouts() {
    for seed in seeds(2) {
        let mut dice = Dice::of(seed);
        let mut db = Db::new("law_patch").await;
        let store = db.with(&both()).await;
        for table in TABLES {
            let mut row = insert_any(&db, &store, table, &mut dice).await;
            for _ in 0..40 {
                let (mut set, mut unset) = (serde_json::Map::new(), Vec::new());
                for field in ["s", "n", "b", "j", "it's"] {
                    match any_value(&mut dice, field) {
                        _ if dice.percent(50) => {}
                        Some(value) => {
                            set.insert(field.to_owned(), value.clone());
                            row.doc.insert(field.to_owned(), value);
                        }
                        None => {
                            unset.push(field);
                            row.doc.shift_remove(field);
                        }
                    }
                }
                let patch = json!({ "id": row.id, "set": set, "unset": unset }).to_string();
                store.patch(&db.client, &patch).await.expect("patched");
                let found = db.get(&store, json!({ "id": row.id })).await.expect("read");
                assert_eq!(shown(&found), row.shown(), "{patch}");
            }
        }
    }
}
