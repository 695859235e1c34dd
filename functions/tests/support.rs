//! Projects in temporary folders, and a host that keeps its tables in memory.

use convoy_functions::{
    Call, CallError, CallKind, Caller, Host, HostError, HostFuture, Limits, ModuleCache, Project,
    ProjectError, Runtime,
};
use serde_json::{Value, json};
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;
use tempfile::TempDir;

/// What a `_generated/server.ts` has.
const GENERATED: &str = "
import { createFunctionHelpers, type DataModel as Of, type GenericServerContext } from 'convoy';
import type schema from '../schema';
export type DataModel = Of<typeof schema>;
export type ServerContext = GenericServerContext<DataModel>;
export const { query, mutation, internalQuery, internalMutation } = createFunctionHelpers<ServerContext>();
";

/// Which zod a project has.
#[derive(Clone, Copy, Debug)]
pub enum Zod {
    Three,
    Four,
}

/// A folder with npm packages, filled once for all tests; it lies in `target/`.
pub fn packages() -> &'static Path {
    static PACKAGES: OnceLock<PathBuf> = OnceLock::new();
    PACKAGES.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("functions-packages");
        let done = folder.join("done");
        if !done.exists() {
            fs::create_dir_all(&folder).expect("the folder can be made");
            fs::write(folder.join("package.json"), "{\"private\": true}")
                .expect("it can be written");
            let packages = ["zod@4.6.7", "zod3@npm:zod@3.25.76", "typescript@5.9.3"];
            let status =
                Command::new("npm").arg("install").args(packages).current_dir(&folder).status();
            assert!(status.expect("npm is there").success(), "npm install {packages:?}");
            fs::write(done, "").expect("it can be written");
        }
        folder
    })
}

/// A project in a folder of its own.
pub struct Folder {
    dir: TempDir,
}

impl Folder {
    pub fn new(zod: Zod, files: &[(&str, &str)]) -> Self {
        let folder = Self { dir: tempfile::tempdir().expect("a folder") };
        let modules = folder.path().join("node_modules");
        fs::create_dir(&modules).expect("it can be made");
        let package = packages().join("node_modules").join(match zod {
            Zod::Three => "zod3",
            Zod::Four => "zod",
        });
        std::os::unix::fs::symlink(package, modules.join("zod")).expect("it can be linked");
        folder.write("convoy/_generated/server.ts", GENERATED);
        for (file, text) in files {
            folder.write(&format!("convoy/{file}"), text);
        }
        folder
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    pub fn write(&self, file: &str, text: &str) {
        let path = self.path().join(file);
        fs::create_dir_all(path.parent().expect("a folder")).expect("it can be made");
        fs::write(path, text).expect("it can be written");
    }

    pub fn load(&self) -> Result<Project, ProjectError> {
        let limits = Limits { prepare_cpu_max: Duration::from_secs(1), ..Limits::default() };
        Project::load(self.path(), &limits, &ModuleCache::default())
    }

    pub fn runtime(&self) -> Runtime {
        self.runtime_with(Limits::default())
    }

    pub fn runtime_with(&self, limits: Limits) -> Runtime {
        let limits = Limits { workers: 4, ready_contexts: 1, ..limits };
        let project = self.load().unwrap_or_else(|error| panic!("{error}"));
        Runtime::new(Arc::new(project), limits)
    }
}

/// A host with tables in memory.
#[derive(Default)]
pub struct Memory {
    pub tables: Mutex<BTreeMap<String, Vec<Value>>>,
    pub asked: Mutex<Vec<(String, Value)>>,
    pub logged: Mutex<Vec<String>>,
    pub fails: Mutex<Option<HostError>>,
}

impl Memory {
    pub fn asked(&self) -> Vec<(String, Value)> {
        self.asked.lock().expect("not poisoned").clone()
    }

    pub fn logged(&self) -> Vec<String> {
        self.logged.lock().expect("not poisoned").clone()
    }

    fn carry_out(&self, op: &str, args: &Value) -> Value {
        let mut tables = self.tables.lock().expect("not poisoned");
        let id = args["id"].as_str().unwrap_or_default();
        let table = args["table"]
            .as_str()
            .or_else(|| id.split_once(':').map(|(table, _)| table))
            .unwrap_or_default();
        let rows = tables.entry(table.to_owned()).or_default();
        let place = rows.iter().position(|row| row["_id"] == id);
        match op {
            "db.insert" => {
                let id = format!("{table}:{}", rows.len() + 1);
                let mut row = json!({ "_id": id, "_creationTime": rows.len() + 1 });
                merge(&mut row, &args["doc"]);
                rows.push(row);
                json!(id)
            }
            "db.get" => place.map_or(Value::Null, |place| rows[place].clone()),
            "db.patch" => {
                let row = &mut rows[place.expect("there is such a row")];
                merge(row, &args["set"]);
                for field in args["unset"].as_array().expect("an array") {
                    row.as_object_mut().expect("a row").remove(field.as_str().expect("a name"));
                }
                Value::Null
            }
            "db.replace" => {
                let row = &mut rows[place.expect("there is such a row")];
                *row = json!({ "_id": row["_id"], "_creationTime": row["_creationTime"] });
                merge(row, &args["doc"]);
                Value::Null
            }
            "db.delete" => {
                rows.remove(place.expect("there is such a row"));
                Value::Null
            }
            "db.scan" => scan(rows, args),
            "db.raw" => json!([args]),
            other => panic!("{other}"),
        }
    }
}

/// Reads rows in order; a cursor is the last row's id.
fn scan(rows: &[Value], args: &Value) -> Value {
    let holds = |row: &&Value| {
        args["range"].as_array().expect("an array").iter().all(|condition| {
            let field = &row[condition["field"].as_str().expect("a name")];
            let order = compare(field, &condition["value"]);
            match condition["op"].as_str().expect("an operator") {
                "eq" => order.is_eq(),
                "gt" => order.is_gt(),
                "gte" => order.is_ge(),
                "lt" => order.is_lt(),
                _ => order.is_le(),
            }
        })
    };
    let mut docs: Vec<Value> = rows.iter().filter(holds).cloned().collect();
    let by = args["orderBy"].as_str().unwrap_or("_creationTime");
    docs.sort_by(|x, y| compare(&x[by], &y[by]));
    if args["order"] == "desc" {
        docs.reverse();
    }
    let place = |cursor: &Value| docs.iter().position(|doc| doc["_id"] == *cursor);
    let end = place(&args["until"]).map_or(docs.len(), |at| at + 1);
    let start = place(&args["after"]).map_or(0, |at| at + 1);
    let mut docs = docs[start.min(end)..end].to_vec();
    let is_cut = args["limit"].as_u64().is_some_and(|limit| (docs.len() as u64) > limit);
    if let Some(limit) = args["limit"].as_u64() {
        docs.truncate(limit as usize);
    }
    let cursor = docs.last().map_or(Value::Null, |doc| doc["_id"].clone());
    json!({ "docs": docs, "cursor": cursor, "done": !is_cut })
}

fn compare(x: &Value, y: &Value) -> Ordering {
    match (x, y) {
        (Value::Number(x), Value::Number(y)) => {
            x.as_f64().partial_cmp(&y.as_f64()).expect("numbers compare")
        }
        (Value::String(x), Value::String(y)) => x.cmp(y),
        _ => x.to_string().cmp(&y.to_string()),
    }
}

fn merge(into: &mut Value, from: &Value) {
    for (field, value) in from.as_object().expect("an object") {
        into[field] = value.clone();
    }
}

impl Host for Memory {
    fn call<'a>(&'a self, op: &'a str, args: String) -> HostFuture<'a> {
        Box::pin(async move {
            // As a database would: not at once.
            tokio::task::yield_now().await;
            let args: Value = serde_json::from_str(&args).expect("JSON");
            if op == "log" {
                let line = format!(
                    "{}: {}",
                    args["level"].as_str().expect("a level"),
                    args["message"].as_str().expect("text")
                );
                self.logged.lock().expect("not poisoned").push(line);
                return Ok("null".to_owned());
            }
            self.asked.lock().expect("not poisoned").push((op.to_owned(), args.clone()));
            if let Some(error) = self.fails.lock().expect("not poisoned").clone() {
                return Err(error);
            }
            Ok(self.carry_out(op, &args).to_string())
        })
    }
}

/// A call of a function by a client, at a fixed time.
pub fn call(kind: CallKind, name: &str, args: Value) -> Call {
    Call {
        name: name.to_owned(),
        args: args.to_string(),
        kind,
        caller: Caller::Client,
        now_ms: 1_700_000_000_000.0,
        seed: 7,
        auth: None,
    }
}

/// Runs a query.
pub async fn query(
    runtime: &Runtime,
    host: &Arc<Memory>,
    name: &str,
    args: Value,
) -> Result<Value, CallError> {
    run(runtime, host, call(CallKind::Query, name, args)).await
}

/// Runs a mutation.
pub async fn mutation(
    runtime: &Runtime,
    host: &Arc<Memory>,
    name: &str,
    args: Value,
) -> Result<Value, CallError> {
    run(runtime, host, call(CallKind::Mutation, name, args)).await
}

/// Runs a call.
pub async fn run(runtime: &Runtime, host: &Arc<Memory>, call: Call) -> Result<Value, CallError> {
    let text = runtime.call(call, host.clone()).await?;
    Ok(serde_json::from_str(&text).expect("JSON"))
}
