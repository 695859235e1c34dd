//! A project: what its folder holds, and what of it can be called.

mod error;
mod files;

pub use error::ProjectError;

use crate::call::{Call, CallError, CallKind, Caller};
use crate::limits::Limits;
use crate::runtime::Isolate;
use crate::source::{Graph, ModuleCache, SERVER};
use convoy_types::nearest;
use files::Files;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// The export of `server.ts` that says who calls.
const CREATE_CONTEXT: &str = "createContext";

/// A function of a project.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FunctionInfo {
    /// What it is called by: `orders.list`.
    pub name: String,
    /// Whether it may write.
    pub kind: FunctionKind,
    /// Whether clients may call it.
    pub visibility: Visibility,
    /// Its file, from the project's root: `functions/orders.ts`.
    pub file: String,
    /// The name of the export.
    pub export: String,
}

/// Whether a function may write.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum FunctionKind {
    /// It reads alone.
    Query,
    /// It reads and writes.
    Mutation,
}

/// Whether clients may call a function.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum Visibility {
    /// They may.
    Public,
    /// Only the server itself.
    Internal,
}

/// One version of a project: its modules compiled, evaluated once, and described.
#[derive(Debug)]
pub struct Project {
    functions: BTreeMap<String, FunctionInfo>,
    schema: String,
    has_context: bool,
    /// What stands for `createContext`, which no client calls by a name.
    context: FunctionInfo,
    logged: Vec<String>,
    graph: Arc<Graph>,
    loaded_at_ms: f64,
}

/// What the modules say of themselves (`functions/js/describe.ts`).
#[derive(Deserialize)]
struct Description<'a> {
    functions: Vec<Described>,
    /// Whether `server.ts` exports `createContext`.
    context: bool,
    #[serde(borrow)]
    schema: &'a RawValue,
}

#[derive(Deserialize)]
struct Described {
    file: String,
    export: String,
    kind: FunctionKind,
    visibility: Visibility,
}

impl Project {
    /// Reads the project in a folder: compiles what changed since the cache saw it, and evaluates it once. Blocks, for some
    /// hundred milliseconds the first time and some ten after a change.
    ///
    /// # Errors
    /// The first thing that is not in order, with file, line and column.
    pub fn load(folder: &Path, limits: &Limits, cache: &ModuleCache) -> Result<Self, ProjectError> {
        let files = Files::of(folder)?;
        let graph = Arc::new(Graph::load(&files.root, &files.singles, &files.functions, cache)?);
        let loaded_at_ms = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0.0, |since| since.as_millis() as f64);
        let isolate = Isolate::prepare(&graph, loaded_at_ms, limits)?;
        let text = isolate.describe()?;
        let described: Description<'_> =
            serde_json::from_str(&text).map_err(|source| ProjectError::Description { source })?;
        let functions = named(described.functions)?;
        let schema = described.schema.get().to_owned();
        let has_context = described.context;
        let context = FunctionInfo {
            name: CREATE_CONTEXT.to_owned(),
            kind: FunctionKind::Query,
            visibility: Visibility::Internal,
            file: SERVER.to_owned(),
            export: CREATE_CONTEXT.to_owned(),
        };
        Ok(Self {
            functions,
            schema,
            has_context,
            context,
            logged: isolate.take_logs(),
            graph,
            loaded_at_ms,
        })
    }

    /// Returns the functions by name.
    pub fn functions(&self) -> &BTreeMap<String, FunctionInfo> {
        &self.functions
    }

    /// Returns the schema as JSON; without a `schema.ts` it has no tables.
    pub fn schema(&self) -> &str {
        &self.schema
    }

    /// Returns whether the project says who calls: whether its `server.ts` exports `createContext`.
    pub fn has_context(&self) -> bool {
        self.has_context
    }

    /// Returns what tells this version of the project from others.
    pub fn version(&self) -> String {
        self.graph.version()
    }

    /// Returns what the modules logged while they were evaluated, each line as the arguments of the host's `log`.
    pub fn logged(&self) -> &[String] {
        &self.logged
    }

    /// Returns what tells this version of each file of functions from others, by its name: of what a call of one of its
    /// functions may run, and the schema.
    pub fn versions(&self) -> BTreeMap<String, String> {
        let files: BTreeSet<&str> =
            self.functions.values().map(|function| function.file.as_str()).collect();
        self.graph.versions_of(&files)
    }

    /// Returns what tells this version of `createContext` from others, with all that it imports; none where there is none.
    pub fn context_version(&self) -> Option<String> {
        if !self.has_context {
            return None;
        }
        self.graph.versions_of(&BTreeSet::from([SERVER])).remove(SERVER)
    }

    /// Returns how many modules the project has with all that it imports, and how many bytes they are as bytecode.
    pub fn size(&self) -> (usize, usize) {
        self.graph.size()
    }

    pub(crate) fn graph(&self) -> &Arc<Graph> {
        &self.graph
    }

    /// What `Date.now()` is while modules are evaluated: the same in each context of this version.
    pub(crate) fn loaded_at_ms(&self) -> f64 {
        self.loaded_at_ms
    }

    /// Returns the function that a call means.
    ///
    /// # Errors
    /// `NOT_FOUND`. An internal function is none for a client, and its name is not told.
    pub(crate) fn function(&self, call: &Call) -> Result<&FunctionInfo, CallError> {
        if call.kind == CallKind::Context {
            return Ok(&self.context);
        }
        let visible = |function: &&FunctionInfo| {
            call.caller == Caller::Internal || function.visibility == Visibility::Public
        };
        let name = call.name.as_str();
        let Some(function) = self.functions.get(name).filter(visible) else {
            let known =
                self.functions.values().filter(visible).map(|function| function.name.as_str());
            let hint = nearest(name, known)
                .map(|name| format!(": did you mean {name}?"))
                .unwrap_or_default();
            return Err(CallError::new("NOT_FOUND", format!("there is no function {name}{hint}")));
        };
        match (function.kind, call.kind) {
            (FunctionKind::Query, CallKind::Query | CallKind::Arguments)
            | (FunctionKind::Mutation, CallKind::Mutation)
            | (_, CallKind::Context) => Ok(function),
            (FunctionKind::Query, CallKind::Mutation) => Err(CallError::new(
                "NOT_FOUND",
                format!("{name} is a query, not a mutation: GET or POST /api/query/{name}"),
            )),
            (FunctionKind::Mutation, CallKind::Query | CallKind::Arguments) => Err(CallError::new(
                "NOT_FOUND",
                format!("{name} is a mutation, not a query: POST /api/mutation/{name}"),
            )),
        }
    }
}

fn named(described: Vec<Described>) -> Result<BTreeMap<String, FunctionInfo>, ProjectError> {
    let mut functions: BTreeMap<String, FunctionInfo> = BTreeMap::new();
    for Described { file, export, kind, visibility } in described {
        let name = format!("{}.{export}", files::module_name(&file));
        if let Some(other) = functions.get(&name) {
            return Err(ProjectError::Twice { name, first: other.file.clone(), second: file });
        }
        functions.insert(name.clone(), FunctionInfo { name, kind, visibility, file, export });
    }
    Ok(functions)
}
