//! A fresh database, and what is done to it in a few words.

use convoy_postgres::launcher::Locale;
use convoy_postgres::testing;
use convoy_schema::{CreationClock, RecordedRead, Schema, Store, StoreError, apply, plan};
use serde_json::{Value, json};
use std::sync::Arc;
use tokio_postgres::{Client, Config, NoTls};

/// A database with a connection.
pub struct Db {
    pub client: Client,
    pub url: String,
}

impl Db {
    pub async fn new(hint: &str) -> Db {
        let url = testing::shared().await.database(hint).await;
        Db { client: connect(&url).await, url }
    }

    /// Returns a database whose order of texts is that of English, which no answer may depend on.
    pub async fn english(hint: &str) -> Db {
        let url = testing::shared().await.database_with(hint, Locale::IcuEn).await;
        Db { client: connect(&url).await, url }
    }

    /// Brings a schema into the database, and loads it.
    pub async fn with(&mut self, schema: &Value) -> Store {
        self.migrate(schema).await;
        self.load(schema).await
    }

    /// Returns the plan as text, and does it.
    pub async fn migrate(&mut self, schema: &Value) -> String {
        let schema = read(schema);
        let planned = plan(&self.client, &schema).await.expect("a plan");
        apply(&mut self.client, &planned).await.expect("the plan is done");
        planned.render()
    }

    pub async fn load(&self, schema: &Value) -> Store {
        Store::load(&self.client, Arc::new(read(schema))).await.expect("the tables are found")
    }

    pub async fn run(&self, sql: &str) {
        self.client.batch_execute(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    }

    pub async fn text(&self, sql: &str) -> String {
        let row = self.client.query_one(sql, &[]).await;
        let row = row.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
        row.get::<_, Option<String>>(0).unwrap_or_else(|| "null".to_owned())
    }

    pub async fn insert(
        &self,
        store: &Store,
        table: &str,
        doc: Value,
    ) -> Result<String, StoreError> {
        let mut clock = CreationClock::new(1000.0);
        self.insert_at(store, table, doc, &mut clock).await
    }

    pub async fn insert_at(
        &self,
        store: &Store,
        table: &str,
        doc: Value,
        clock: &mut CreationClock,
    ) -> Result<String, StoreError> {
        let args = json!({ "table": table, "doc": doc }).to_string();
        let id = store.insert(&self.client, &args, clock).await?;
        Ok(serde_json::from_str::<Value>(&id).expect("JSON").as_str().expect("an id").to_owned())
    }

    pub async fn scan(&self, store: &Store, args: Value) -> Result<Value, StoreError> {
        Ok(self.scan_recorded(store, args).await?.0)
    }

    pub async fn scan_recorded(
        &self,
        store: &Store,
        args: Value,
    ) -> Result<(Value, Vec<RecordedRead>), StoreError> {
        let mut reads = Vec::new();
        let answer = store.scan(&self.client, &args.to_string(), &mut reads).await?;
        Ok((serde_json::from_str(&answer).expect("the answer is JSON"), reads))
    }

    pub async fn get(&self, store: &Store, args: Value) -> Result<Value, StoreError> {
        let answer = store.get(&self.client, &args.to_string(), &mut Vec::new()).await?;
        Ok(serde_json::from_str(&answer).expect("the answer is JSON"))
    }

    pub async fn raw(&self, store: &Store, text: &str, params: Value) -> Result<Value, StoreError> {
        let args = json!({ "text": text, "params": params }).to_string();
        let answer = store.raw(&self.client, &args, &mut Vec::new()).await?;
        Ok(serde_json::from_str(&answer).expect("the answer is JSON"))
    }
}

pub async fn connect(url: &str) -> Client {
    let config: Config = url.parse().expect("the launcher's URLs can be read");
    let (client, connection) = config.connect(NoTls).await.expect("the server is there");
    tokio::spawn(connection);
    client
}

pub fn read(schema: &Value) -> Schema {
    Schema::from_json(&schema.to_string()).expect("a schema")
}

/// Returns a table: fields as `name: type`, with `?` behind the type where it may be missing and `|null` where it may be
/// null; indexes as `name(field, field)`.
pub fn table(name: &str, layout: &str, fields: &[&str], indexes: &[&str]) -> Value {
    let fields: Vec<Value> = fields.iter().map(|field| {
        let (name, ty) = field.rsplit_once(": ").expect("name: type");
        let (ty, nullable) = ty.strip_suffix("|null").map_or((ty, false), |ty| (ty, true));
        let (ty, optional) = ty.strip_suffix('?').map_or((ty, false), |ty| (ty, true));
        json!({ "name": name, "type": ty, "ref": null, "optional": optional, "nullable": nullable })
    }).collect();
    let indexes: Vec<Value> = indexes
        .iter()
        .map(|index| {
            let (name, fields) =
                index.strip_suffix(')').and_then(|i| i.rsplit_once('(')).expect("name(fields)");
            json!({ "name": name, "fields": fields.split(", ").collect::<Vec<_>>() })
        })
        .collect();
    let managed = layout != "unmanaged";
    let layout = if managed { layout } else { "document" };
    json!({ "name": name, "managed": managed, "layout": layout, "fields": fields, "indexes": indexes })
}

pub fn schema(tables: Vec<Value>) -> Value {
    json!({ "tables": tables })
}

/// Executes a recorded read, as only a test does, and returns the ids that it has.
pub async fn execute(client: &Client, sql: &str, args: &[Option<String>]) -> Vec<String> {
    let mut text = sql.to_owned();
    // From the last, so that $1 is not taken for the beginning of $10.
    for (position, arg) in args.iter().enumerate().rev() {
        let literal = match arg {
            Some(arg) => format!("E'{}'", arg.replace('\\', "\\\\").replace('\'', "\\'")),
            None => "null".to_owned(),
        };
        let number = format!("${}", position + 1);
        // Only at the end of the statement or before what ends a parameter: a field may be called $1.
        for (end, with) in [(" ", " "), (")", ")")] {
            text = text.replace(&format!(" {number}{end}"), &format!(" {literal}{with}"));
        }
        if let Some(before) = text.strip_suffix(&format!(" {number}")) {
            text = format!("{before} {literal}");
        }
    }
    let found = client.query(&text, &[]).await;
    let rows = found.unwrap_or_else(|error| panic!("{text}: {error:?}"));
    rows.iter().map(|row| row.get(0)).collect()
}
