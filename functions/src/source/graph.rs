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
/// The module that stands for namespaces that nobody asks for.
const EMPTY: &str = "convoy:engine/empty.js";
/// Modules of one project; more is a link that leads back, or no project.
const MODULES_MAX: usize = 20_000;

/// Convoy's own modules that the entry imports, before any of the project's.
const ENGINE: [&str; 4] = [
    "convoy:engine/world/index.js",
    "convoy:engine/host.ts",
    "convoy:engine/invoke.ts",
    "convoy:engine/describe.ts",
];

/// A module of which a project has one at most.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Single {
    /// `schema.ts`: its tables.
    Schema,
    /// `server.ts`: who calls.
    Server,
}

impl Single {
    pub(crate) const ALL: [Single; 2] = [Single::Schema, Single::Server];

    /// Returns its file, from the project's root.
    pub(crate) fn file(self) -> &'static str {
        match self {
            Single::Schema => "schema.ts",
            Single::Server => SERVER,
        }
    }

    /// Returns what it is called among `Modules` of `functions/js/describe.ts`.
    fn name(self) -> &'static str {
        match self {
            Single::Schema => "schema",
            Single::Server => "server",
        }
    }
}

/// The file of [`Single::Server`].
pub(crate) const SERVER: &str = "server.ts";

/// The modules.
#[derive(Debug)]
pub(crate) struct Graph {
    modules: HashMap<String, Arc<CompiledModule>>,
    /// By module and specifier, the name of what is meant.
    meant: HashMap<String, HashMap<String, String>>,
    entry: Bytecode,
}

/// A module that is to be read.
#[derive(Clone, Debug)]
struct Wanted {
    name: String,
    path: Option<PathBuf>,
}

/// A namespace that a module of a package offers, and that nobody may ask for.
struct Offer {
    base: String,
    specifier: String,
    namespace: String,
    target: Wanted,
}

/// A graph that is being read.
struct Walk<'a> {
    imports: Imports,
    cache: &'a ModuleCache,
    graph: Graph,
    wanted: Vec<Wanted>,
    offers: Vec<Offer>,
}

impl Graph {
    /// Reads the modules that a project's schema and function files reach.
    ///
    /// # Errors
    /// The first module that can't be read, compiled or found.
    pub(crate) fn load(
        root: &Path,
        singles: &[(Single, PathBuf)],
        functions: &BTreeMap<String, PathBuf>,
        cache: &ModuleCache,
    ) -> Result<Self, ProjectError> {
        let entry = entry(singles, functions)?;
        let mut wanted: Vec<Wanted> =
            ENGINE.into_iter().map(|name| Wanted { name: name.to_owned(), path: None }).collect();
        // Last in, first read: so what is wrong is told of the first file first.
        let files = functions
            .iter()
            .rev()
            .map(|(name, path)| Wanted { name: name.clone(), path: Some(path.clone()) });
        wanted.extend(files);
        wanted.extend(singles.iter().map(|(single, path)| Wanted {
            name: single.file().to_owned(),
            path: Some(path.clone()),
        }));
        let graph = Self { modules: HashMap::new(), meant: HashMap::new(), entry };
        let mut walk =
            Walk { imports: Imports::new(root), cache, graph, wanted, offers: Vec::new() };
        walk.read_wanted()?;
        walk.settle_offers()?;
        let graph = walk.graph;
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

impl Walk<'_> {
    fn read_wanted(&mut self) -> Result<(), ProjectError> {
        while let Some(Wanted { name, path }) = self.wanted.pop() {
            if self.graph.modules.contains_key(&name) {
                continue;
            }
            if self.graph.modules.len() == MODULES_MAX {
                return Err(ProjectError::TooManyModules { limit: MODULES_MAX });
            }
            let module = match &path {
                Some(path) => {
                    let unread = |source| ProjectError::Read { path: path.clone(), source };
                    self.cache.compiled(&name, &fs::read_to_string(path).map_err(unread)?)?
                }
                None => self.cache.compiled(&name, embedded::text(&name).unwrap_or_default())?,
            };
            let mut meant = HashMap::new();
            for import in &module.imports {
                let (target, is_pure) =
                    match self.imports.resolve(&name, path.as_deref(), import)? {
                        Resolved::Embedded(name) => (Wanted { name, path: None }, false),
                        Resolved::File { path, is_pure } => {
                            (Wanted { name: self.imports.name(&path), path: Some(path) }, is_pure)
                        }
                    };
                meant.insert(import.specifier.clone(), target.name.clone());
                match &import.namespace {
                    Some(namespace) if is_pure && package(&name).is_some() => {
                        self.offers.push(Offer {
                            base: name.clone(),
                            specifier: import.specifier.clone(),
                            namespace: namespace.clone(),
                            target,
                        })
                    }
                    _ => self.wanted.push(target),
                }
            }
            self.graph.meant.insert(name.clone(), meant);
            self.graph.modules.insert(name, module);
        }
        Ok(())
    }

    /// A package's `export * as locales from './locales'` is read only if that is reached in another way, or if anybody outside
    /// the package mentions the word at all; else it is an empty namespace. Each context would have to evaluate it, and of zod
    /// it is almost half.
    fn settle_offers(&mut self) -> Result<(), ProjectError> {
        loop {
            let offers = std::mem::take(&mut self.offers);
            let (asked, unasked): (Vec<_>, Vec<_>) =
                offers.into_iter().partition(|offer| self.is_asked_for(offer));
            if asked.is_empty() {
                for offer in unasked {
                    let meant = self.graph.meant.entry(offer.base).or_default();
                    meant.insert(offer.specifier, EMPTY.to_owned());
                }
                self.wanted.push(Wanted { name: EMPTY.to_owned(), path: None });
                return self.read_wanted();
            }
            self.offers = unasked;
            self.wanted.extend(asked.into_iter().map(|offer| offer.target));
            self.read_wanted()?;
        }
    }

    fn is_asked_for(&self, offer: &Offer) -> bool {
        let own = package(&offer.base);
        self.graph.modules.contains_key(&offer.target.name)
            || self.graph.modules.iter().any(|(name, module)| {
                package(name) != own && module.text.contains(&offer.namespace)
            })
    }
}

/// Returns the package that a module is of, by its name; none where it is the project's own.
fn package(name: &str) -> Option<&str> {
    let (before, inner) = name.rsplit_once("node_modules/")?;
    let parts = if inner.starts_with('@') { 2 } else { 1 };
    let length: usize = inner.split('/').take(parts).map(|part| part.len() + 1).sum();
    name.get(..(before.len() + "node_modules/".len() + length - 1).min(name.len()))
}

/// The module that imports all others, and leaves `__convoy` to Rust. What is Convoy's own is evaluated first.
fn entry(
    singles: &[(Single, PathBuf)],
    functions: &BTreeMap<String, PathBuf>,
) -> Result<Bytecode, ProjectError> {
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    let mut imports = String::from(
        "import 'convoy:engine/world/index.js';\nimport { reply } from 'convoy:engine/host.ts';\nimport { invoke, rejected, unawaited } from 'convoy:engine/invoke.ts';\n\
         import { describe } from 'convoy:engine/describe.ts';\n",
    );
    let (mut named, mut known) = (String::new(), String::new());
    for single in Single::ALL {
        let name = single.name();
        match singles.iter().any(|(there, _)| *there == single) {
            true => {
                imports += &format!("import * as {name} from '{}';\n", single.file());
                known += &format!("{name}, ");
            }
            false => known += &format!("{name}: undefined, "),
        }
    }
    for (i, name) in functions.keys().enumerate() {
        imports += &format!("import * as functions{i} from {};\n", quoted(name));
        named += &format!("{}: functions{i},", quoted(name));
    }
    let code = format!(
        "{imports}const modules = {{ {known}functions: {{ {named} }} }};\n\
         const value = Object.freeze({{ reply, rejected, unawaited, invoke: (...call) => invoke(modules, ...call), describe: () => describe(modules) }});\n\
         Object.defineProperty(globalThis, '__convoy', {{ value }});\n"
    );
    Bytecode::compile(ENTRY, &code).map_err(|message| ProjectError::Syntax {
        at: super::Position { file: ENTRY.to_owned(), line: 1, column: 1 },
        message,
    })
}
