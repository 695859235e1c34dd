//! Names of every kind: quotes, upper case, other scripts, reserved words, and what looks like SQL.

use crate::support::{Db, execute, schema, table};
use convoy_schema::plan;
use serde_json::json;

#[tokio::test]
async fn names_are_taken_as_they_are() {
    let mut db = Db::new("odd_names").await;
    let tables = [
        "select",
        "We\"ird",
        "it's",
        "Ünï.cödé",
        "a:b",
        "x; drop table y --",
        "back\\slash",
        "doc",
    ];
    let fields = [
        "order",
        "it's",
        "a\"b",
        "back\\slash",
        "名前",
        "$1",
        "UPPER",
        "doc",
        "?",
        "convoy_0",
        "n::text",
    ];
    let long = "é".repeat(31);
    for layout in ["document", "relational"] {
        for name in tables.into_iter().chain([long.as_str()]) {
            let declared: Vec<String> =
                fields.iter().map(|field| format!("{field}: string?")).collect();
            let declared: Vec<&str> = declared.iter().map(String::as_str).collect();
            let indexes =
                ["by it's(it's, a\"b)", "By(back\\slash, order)", "名前(名前, $1)", "d(doc, ?)"];
            let schema = schema(vec![table(name, layout, &declared, &indexes)]);
            let store = db.with(&schema).await;
            let again = plan(&db.client, &crate::support::read(&schema)).await.expect("a plan");
            assert!(again.is_empty() && again.warnings.is_empty(), "{}", again.render());
            let mut doc = json!({});
            for field in fields {
                doc[field] = json!(field);
            }
            let id = db.insert(&store, name, doc.clone()).await.expect("inserted");
            db.insert(&store, name, json!({})).await.expect("inserted");
            let found = db.get(&store, json!({ "id": id })).await.expect("read");
            for field in fields {
                assert_eq!(found[field], field, "{name}");
                let args = json!({ "table": name, "orderBy": field, "limit": 1 });
                let found = db.scan(&store, args).await.expect("a scan");
                assert_eq!(found["docs"][0]["_id"], id, "{name} by {field}");
                let patch = json!({ "id": id, "set": { field: "x" } }).to_string();
                store.patch(&db.client, &patch).await.expect("patched");
                let back = json!({ "id": id, "set": {}, "unset": [field] }).to_string();
                store.patch(&db.client, &back).await.expect("patched");
            }
            let put = json!({ "id": id, "doc": doc }).to_string();
            store.replace(&db.client, &put).await.expect("replaced");
            for (index, field) in
                [("by it's", "it's"), ("By", "back\\slash"), ("名前", "名前"), ("d", "doc")]
            {
                let range = json!([{ "op": "eq", "field": field, "value": field }]);
                let args = json!({ "table": name, "index": index, "range": range });
                let (answer, reads) = db.scan_recorded(&store, args).await.expect("a scan");
                assert_eq!(answer["docs"][0]["_id"], id, "{name} by {index}");
                assert_eq!(answer["docs"].as_array().expect("docs").len(), 1);
                assert_eq!(
                    execute(&db.client, &reads[0].sql, &reads[0].args).await,
                    std::slice::from_ref(&id)
                );
            }
            db.run(&format!("drop table \"{}\"", name.replace('"', "\"\""))).await;
        }
    }
}
