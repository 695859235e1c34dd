//! What a scan has to answer, by brute force: rows in a list, filtered, sorted and cut.

use convoy_postgres::testing::Dice;
use serde_json::{Map, Value, json};
use std::cmp::Ordering;

/// The fields of the tables that laws are tried on, for `support::table`.
pub const FIELDS: [&str; 5] =
    ["s: string?|null", "n: number?|null", "b: boolean?", "j: json?|null", "it's: string"];

/// Their indexes.
pub const INDEXES: [(&str, &[&str]); 5] = [
    ("by_s", &["s"]),
    ("by_n_s", &["n", "s"]),
    ("by_b_n", &["b", "n"]),
    ("by_j_s", &["j", "s"]),
    ("by_r", &["it's", "b"]),
];

pub fn index_texts() -> Vec<String> {
    INDEXES.iter().map(|(name, fields)| format!("{name}({})", fields.join(", "))).collect()
}

/// A row.
#[derive(Clone, Debug)]
pub struct Row {
    pub id: String,
    pub creation_time: f64,
    pub doc: Map<String, Value>,
}

/// A value in the order of a B-tree.
#[derive(Clone, Debug, PartialEq)]
enum Key {
    Text(String),
    Number(f64),
    Bool(bool),
    /// A JSON scalar's rank by its type, and itself.
    Json(u8, Box<Key>),
    /// Last.
    Null,
}

impl Key {
    fn compare(&self, other: &Key) -> Ordering {
        match (self, other) {
            (Key::Null, Key::Null) => Ordering::Equal,
            (Key::Null, _) => Ordering::Greater,
            (_, Key::Null) => Ordering::Less,
            (Key::Text(a), Key::Text(b)) => a.as_bytes().cmp(b.as_bytes()),
            (Key::Number(a), Key::Number(b)) => a.partial_cmp(b).expect("finite"),
            (Key::Bool(a), Key::Bool(b)) => a.cmp(b),
            (Key::Json(a, x), Key::Json(b, y)) => a.cmp(b).then_with(|| x.compare(y)),
            _ => panic!("{self:?} and {other:?} are not of one field"),
        }
    }
}

fn scalar(value: &Value) -> Key {
    match value {
        Value::Null => Key::Null,
        Value::Bool(value) => Key::Bool(*value),
        Value::Number(number) => Key::Number(number.as_f64().expect("a double")),
        Value::String(text) => Key::Text(text.clone()),
        other => panic!("{other} is no scalar"),
    }
}

/// Postgres' order of JSON scalars (PostgreSQL manual, 8.14.4): null, strings, numbers, booleans.
fn json_key(value: &Value) -> Key {
    let rank = match value {
        Value::Null => 0,
        Value::String(_) => 1,
        Value::Number(_) => 2,
        _ => 3,
    };
    Key::Json(rank, Box::new(scalar(value)))
}

fn key(row: &Row, field: &str) -> Key {
    match (field, row.doc.get(field)) {
        ("_creationTime", _) => Key::Number(row.creation_time),
        (_, None) => Key::Null,
        ("j", Some(value)) => json_key(value),
        (_, Some(value)) => scalar(value),
    }
}

fn value_key(field: &str, value: &Value) -> Key {
    if field == "j" { json_key(value) } else { scalar(value) }
}

/// Returns the rows that a scan without cursors and limit gives.
pub fn scan<'a>(rows: &'a [Row], args: &Value) -> Vec<&'a Row> {
    let index = INDEXES.iter().find(|(name, _)| args["index"] == **name);
    let fields: &[&str] = index.map_or(&[], |(_, fields)| fields);
    let range = args["range"].as_array().cloned().unwrap_or_default();
    let passes = |row: &&Row| {
        range.iter().all(|test| {
            let (field, value) = (test["field"].as_str().expect("a field"), &test["value"]);
            let (has, wants) = (key(row, field), value_key(field, value));
            let op = test["op"].as_str().expect("an op");
            if op == "eq" {
                let is_null = has == Key::Null || has == json_key(&Value::Null);
                return if value.is_null() { is_null } else { has == wants };
            }
            let order = has.compare(&wants);
            has != Key::Null
                && match op {
                    "gt" => order == Ordering::Greater,
                    "gte" => order != Ordering::Less,
                    "lt" => order == Ordering::Less,
                    _ => order != Ordering::Greater,
                }
        })
    };
    let equal = range.iter().filter(|test| test["op"] == "eq").count();
    let order: Vec<&str> = match args["orderBy"].as_str() {
        Some("_creationTime") => Vec::new(),
        Some(field) if !fields.iter().take(equal + 1).any(|of| *of == field) => vec![field],
        _ => fields.to_vec(),
    };
    let mut found: Vec<&Row> = rows.iter().filter(passes).collect();
    found.sort_by(|a, b| {
        let fields = order.iter().map(|field| key(a, field).compare(&key(b, field)));
        let time = a.creation_time.partial_cmp(&b.creation_time).expect("finite");
        fields.fold(Ordering::Equal, Ordering::then).then(time).then_with(|| a.id.cmp(&b.id))
    });
    if args["order"] == "desc" {
        found.reverse();
    }
    found
}

/// Returns a value for a field; none where it is missing.
pub fn any_value(dice: &mut Dice, field: &str) -> Option<Value> {
    let strings = [json!(""), json!("a"), json!("b"), json!("A"), json!("ä"), json!("a\\'b")];
    let numbers = [json!(0), json!(1), json!(-1), json!(1.5), json!(0.1), json!(1e21), json!(1e-7)];
    let all: Vec<Value> = match field {
        "s" => [&strings[..], &[json!(null)]].concat(),
        "n" => [&numbers[..], &[json!(null)]].concat(),
        "b" => vec![json!(true), json!(false)],
        "j" => vec![json!(null), json!("a"), json!("b"), json!(1), json!(2.5), json!(true)],
        _ => strings[1..].to_vec(),
    };
    let is_missing = field != "it's" && dice.percent(20);
    (!is_missing).then(|| all[dice.below(all.len())].clone())
}

pub fn any_doc(dice: &mut Dice) -> Map<String, Value> {
    let mut doc = Map::new();
    for field in ["s", "n", "b", "j", "it's"] {
        if let Some(value) = any_value(dice, field) {
            doc.insert(field.to_owned(), value);
        }
    }
    doc
}

/// Returns a scan's arguments, without cursors and limit.
pub fn any_scan(dice: &mut Dice, table: &str) -> Value {
    let mut args = json!({ "table": table, "order": dice.pick(&["asc", "desc"]) });
    let mut fields: Vec<&str> = Vec::new();
    if dice.percent(80) {
        let (name, of) = INDEXES[dice.below(INDEXES.len())];
        args["index"] = json!(name);
        fields = of.to_vec();
    }
    let mut range = Vec::new();
    let equal = if fields.is_empty() { 0 } else { dice.below(fields.len() + 1) };
    for field in &fields[..equal] {
        let value = any_value(dice, field);
        // A boolean is never null, but may be asked for.
        range.push(json!({ "op": "eq", "field": field, "value": value }));
    }
    let next = fields.get(equal).copied().unwrap_or("_creationTime");
    for ops in [["gt", "gte"], ["lt", "lte"]] {
        let value = match next {
            "_creationTime" => Some(json!(1000 + dice.below(4))),
            field => any_value(dice, field),
        };
        let value = value.filter(|value| next == "j" || !value.is_null());
        if let Some(value) = value.filter(|_| dice.percent(30)) {
            range.push(json!({ "op": dice.pick(&ops), "field": next, "value": value }));
        }
    }
    args["range"] = json!(range);
    if dice.percent(30) {
        args["orderBy"] = json!(dice.pick(&["s", "n", "b", "j", "it's", "_creationTime"]));
    }
    args
}

/// Returns a document as both layouts show it: of a field that may be missing and null, columns keep no difference;
/// numbers have many spellings.
pub fn shown(doc: &Value) -> Value {
    let mut doc = doc.clone();
    let members = doc.as_object_mut().expect("a document");
    members.retain(|name, value| name == "j" || !value.is_null());
    for value in members.values_mut() {
        if let Some(number) = value.as_f64() {
            *value = json!(format!("{number:e}"));
        }
    }
    members.sort_keys();
    doc
}

impl Row {
    pub fn shown(&self) -> Value {
        let mut doc = self.doc.clone();
        doc.insert("_id".to_owned(), json!(self.id));
        doc.insert("_creationTime".to_owned(), json!(self.creation_time));
        shown(&Value::Object(doc))
    }
}
