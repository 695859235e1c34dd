//! Pages while rows come and go, and that an index is what a scan is read by.

use crate::support::{Db, schema, table};
use convoy_postgres::testing::{Dice, seeds};
use serde_json::{Value, json};
use std::collections::HashMap;

const FIELDS: [&str; 3] = ["owner: string", "rank: number?", "open: boolean"];
const INDEXES: [&str; 3] = ["by_owner(owner, rank)", "by_rank(rank)", "by_open(open)"];

fn both() -> Value {
    let tables = [("docs", "document"), ("cols", "relational")];
    schema(tables.map(|(name, layout)| table(name, layout, &FIELDS, &INDEXES)).into())
}

#[tokio::test]
async fn rows_that_stay_are_on_exactly_one_page() {
    for seed in seeds(4) {
        let mut dice = Dice::of(seed);
        let mut db = Db::new("pages").await;
        let store = db.with(&both()).await;
        for name in ["docs", "cols"] {
            let any = async |db: &Db, dice: &mut Dice| {
                let mut doc = json!({ "owner": dice.pick(&["a", "b"]), "open": dice.percent(50) });
                if dice.percent(80) {
                    doc["rank"] = json!(dice.below(5));
                }
                db.insert(&store, name, doc).await.expect("inserted")
            };
            let (mut stay, mut go) = (Vec::new(), Vec::new());
            for _ in 0..60 {
                let id = any(&db, &mut dice).await;
                if dice.percent(50) { stay.push(id) } else { go.push(id) }
            }
            for (index, order) in
                [("by_rank", "asc"), ("by_rank", "desc"), ("by_owner", "desc"), ("by_open", "asc")]
            {
                let (mut seen, mut after) = (HashMap::<String, usize>::new(), Value::Null);
                loop {
                    let limit = 1 + dice.below(7);
                    let args = json!({ "table": name, "index": index, "order": order, "limit": limit, "after": after });
                    let page = db.scan(&store, args).await.expect("a page");
                    for doc in page["docs"].as_array().expect("docs") {
                        *seen.entry(doc["_id"].as_str().expect("an id").to_owned()).or_default() +=
                            1;
                    }
                    if page["done"] == true {
                        break;
                    }
                    after = page["cursor"].clone();
                    // The row that the cursor was taken from may go as any other.
                    for _ in 0..dice.below(3) {
                        if dice.percent(50) || go.is_empty() {
                            go.push(any(&db, &mut dice).await);
                        } else {
                            let id = go.swap_remove(dice.below(go.len()));
                            let delete = json!({ "id": id }).to_string();
                            store.delete(&db.client, &delete).await.expect("deleted");
                        }
                    }
                    assert!(seen.len() < 1000, "it ends");
                }
                for id in &stay {
                    assert_eq!(seen.get(id), Some(&1), "{id} by {index}, {order}");
                }
                assert!(seen.values().all(|times| *times == 1), "nothing twice");
            }
        }
    }
}

#[tokio::test]
async fn scans_are_read_by_their_index() {
    let mut db = Db::new("explained").await;
    let store = db.with(&both()).await;
    db.run(
        "insert into cols (owner, rank, open)
           select 'o' || i % 100, case when i % 7 > 0 then i / 100 % 50 end, i % 2 = 0 from generate_series(1, 20000) i;
         insert into docs (doc) select jsonb_build_object('owner', owner, 'rank', rank, 'open', open) from cols;
         analyze docs, cols;
         -- Of a few rows, sorting what a bitmap has is as good.
         set enable_bitmapscan = off",
    )
    .await;
    let eq = |field: &str, value: Value| json!({ "op": "eq", "field": field, "value": value });
    for (name, order) in
        ["docs", "cols"].into_iter().flat_map(|name| [(name, "asc"), (name, "desc")])
    {
        let scans = [
            ("by_creation_time", json!([])),
            ("by_owner", json!([])),
            ("by_owner", json!([eq("owner", json!("o7"))])),
            ("by_owner", json!([eq("owner", json!("o7")), eq("rank", json!(7))])),
            ("by_owner", json!([eq("owner", json!("o7")), eq("rank", json!(null))])),
            (
                "by_owner",
                json!([eq("owner", json!("o7")), { "op": "gt", "field": "rank", "value": 10 }]),
            ),
            ("by_owner", json!([{ "op": "gte", "field": "owner", "value": "o5" }])),
            (
                "by_rank",
                json!([{ "op": "gte", "field": "rank", "value": 10 }, { "op": "lt", "field": "rank", "value": 40 }]),
            ),
            ("by_open", json!([eq("open", json!(true))])),
        ];
        for (index, range) in scans {
            let mut args = json!({ "table": name, "index": index, "range": range, "order": order, "limit": 20 });
            for _ in 0..2 {
                let plan = store.explain_scan(&db.client, &args.to_string()).await.expect("a plan");
                let by_index = format!("using {name}_{index}");
                assert!(plan.contains(&by_index) && !plan.contains("Sort"), "{args}\n{plan}");
                // And so is the next page.
                args["after"] =
                    db.scan(&store, args.clone()).await.expect("a page")["cursor"].clone();
            }
        }
    }
}
