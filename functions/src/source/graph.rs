//! All modules of one version of a project, and which import means which.

use super::bytecode::Bytecode;
use super::cache::{CompiledModule, ModuleCache};
use super::embedded;
use super::resolve::{Imports, Resolved};
use crate::project::ProjectError;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use xxhash_rust::xxh3::{Xxh3, xxh3_128};

/// The module that imports all others.
pub(crate) const ENTRY: &str = "convoy:entry";
/// Modules of one project; more is a link that leads back, or no project.
const MODULES_MAX: usize = 20_000;

/// Convoy's own modules that the entry imports, before any of the project's.
const ENGINE: [&str; 4] = [
    "convoy:engine/prelude.js",
    "convoy:engine/host.ts",
    "convoy:engine/invoke.ts",
    "convoy:engine/describe.ts",
];

/// The modules.
#[derive(Debug)]
pub(crate) struct Graph {
    modules: HashMap<String, Arc<CompiledModule>>,
    /// By module and specifier, the name of what is meant.
    meant: HashMap<String, HashMap<String, String>>,
    entry: Bytecode,
}

/// A module that is to be read.
struct Wanted {
    name: String,
    path: Option<PathBuf>,
}

impl Graph {
    /// Reads the modules that a project's schema and function files reach.
    ///
    /// # Errors
    /// The first module that can't be read, compiled or found.
    pub(crate) fn load(
        root: &Path,
        schema: Option<&Path>,
        functions: &BTreeMap<String, PathBuf>,
        cache: &ModuleCache,
    ) -> Result<Self, ProjectError> {
        let imports = Imports::new(root);
        let mut graph = Self {
            modules: HashMap::new(),
            meant: HashMap::new(),
            entry: entry(schema.is_some(), functions)?,
        };
        let mut wanted: Vec<Wanted> =
            ENGINE.into_iter().map(|name| Wanted { name: name.to_owned(), path: None }).collect();
        // Last in, first read: so what is wrong is told of the first file first.
        wanted.extend(
            functions
                .iter()
                .rev()
                .map(|(name, path)| Wanted { name: name.clone(), path: Some(path.clone()) }),
        );
        wanted.extend(
            schema.map(|path| Wanted { name: "schema.ts".to_owned(), path: Some(path.to_owned()) }),
        );
        while let Some(Wanted { name, path }) = wanted.pop() {
            if graph.modules.contains_key(&name) {
                continue;
            }
            if graph.modules.len() == MODULES_MAX {
                return Err(ProjectError::TooManyModules { limit: MODULES_MAX });
            }
            let text = match &path {
                Some(path) => fs::read_to_string(path)
                    .map_err(|source| ProjectError::Read { path: path.clone(), source })?,
                None => embedded::text(&name).unwrap_or_default().to_owned(),
            };
            let module = cache.compiled(&name, &text)?;
            let folder = path.as_deref().and_then(Path::parent);
            let mut meant = HashMap::new();
            for import in &module.imports {
                let next = match imports.resolve(&name, folder, import)? {
                    Resolved::Embedded(name) => Wanted { name, path: None },
                    Resolved::File(path) => Wanted { name: imports.name(&path), path: Some(path) },
                };
                meant.insert(import.specifier.clone(), next.name.clone());
                wanted.push(next);
            }
            graph.meant.insert(name.clone(), meant);
            graph.modules.insert(name, module);
        }
        cache.keep(|name| graph.modules.contains_key(name));
        Ok(graph)
    }

    /// Returns the module that a specifier means in a module.
    pub(crate) fn meant<'a>(&'a self, base: &str, specifier: &'a str) -> Option<&'a str> {
        // Rust and the entry name modules as they are.
        if base == ENTRY || base.is_empty() {
            return Some(specifier)
                .filter(|name| *name == ENTRY || self.modules.contains_key(*name));
        }
        self.meant.get(base)?.get(specifier).map(String::as_str)
    }

    /// Returns a module's bytecode.
    pub(crate) fn bytecode(&self, name: &str) -> Option<&Bytecode> {
        if name == ENTRY {
            Some(&self.entry)
        } else {
            self.modules.get(name).map(|module| &module.bytecode)
        }
    }

    /// Returns line and column in a module's source of those in what runs.
    pub(crate) fn original(&self, name: &str, line: u32, column: u32) -> Option<(u32, u32)> {
        self.modules.get(name)?.lines.as_ref()?.original(line, column)
    }

    /// Returns what tells this version from others: a hash of all modules.
    pub(crate) fn version(&self) -> String {
        let mut names: Vec<_> = self.modules.keys().collect();
        names.sort();
        let mut hash = Xxh3::new();
        for name in names {
            hash.update(name.as_bytes());
            hash.update(self.modules[name].bytecode.bytes());
        }
        format!("{:032x}", hash.digest128())
    }

    /// Returns, of modules, what tells a version of each and of all that it imports from others. The schema counts as
    /// imported, and so does what is Convoy's own.
    pub(crate) fn versions_of(&self, names: &BTreeSet<&str>) -> BTreeMap<String, String> {
        let digests: HashMap<&str, u128> = self
            .modules
            .iter()
            .map(|(name, module)| (name.as_str(), xxh3_128(module.bytecode.bytes())))
            .collect();
        let version = |name: &str| {
            let mut reached: BTreeSet<&str> = BTreeSet::new();
            let mut waiting: Vec<&str> = ENGINE.into_iter().chain(["schema.ts", name]).collect();
            while let Some(next) = waiting.pop() {
                let Some((next, _)) = self.modules.get_key_value(next) else { continue };
                if reached.insert(next) {
                    waiting.extend(
                        self.meant
                            .get(next)
                            .into_iter()
                            .flat_map(HashMap::values)
                            .map(String::as_str),
                    );
                }
            }
            let mut hash = Xxh3::new();
            for name in reached {
                hash.update(name.as_bytes());
                hash.update(&digests.get(name).copied().unwrap_or_default().to_le_bytes());
            }
            format!("{:032x}", hash.digest128())
        };
        names.iter().map(|name| ((*name).to_owned(), version(name))).collect()
    }

    /// Returns how many modules there are, and how many bytes they are compiled.
    pub(crate) fn size(&self) -> (usize, usize) {
        (self.modules.len(), self.modules.values().map(|module| module.bytecode.len_bytes()).sum())
    }
}

/// The module that imports all others, and leaves `__convoy` to Rust. What is Convoy's own is evaluated first.
fn entry(schema: bool, functions: &BTreeMap<String, PathBuf>) -> Result<Bytecode, ProjectError> {
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    let mut imports = String::from(
        "import 'convoy:engine/prelude.js';\nimport { reply } from 'convoy:engine/host.ts';\nimport { invoke } from 'convoy:engine/invoke.ts';\n\
         import { describe } from 'convoy:engine/describe.ts';\n",
    );
    let mut named = String::new();
    if schema {
        imports += "import * as schema from 'schema.ts';\n";
    }
    for (i, name) in functions.keys().enumerate() {
        imports += &format!("import * as functions{i} from {};\n", quoted(name));
        named += &format!("{}: functions{i},", quoted(name));
    }
    let schema = if schema { "schema" } else { "schema: undefined" };
    let code = format!(
        "{imports}const modules = {{ {schema}, functions: {{ {named} }} }};\n\
         const value = Object.freeze({{ reply, invoke: (...call) => invoke(modules, ...call), describe: () => describe(modules) }});\n\
         Object.defineProperty(globalThis, '__convoy', {{ value }});\n"
    );
    Bytecode::compile(ENTRY, &code).map_err(|message| ProjectError::Syntax {
        at: super::Position { file: ENTRY.to_owned(), line: 1, column: 1 },
        message,
    })
}
