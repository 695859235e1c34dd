//! Modules that were compiled before, by what they say: of a saved file, that file alone is compiled anew.

use super::bytecode::Bytecode;
use super::position::{LineMap, Position};
use super::transpile::{Import, transpile};
use crate::project::ProjectError;
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use xxhash_rust::xxh3::xxh3_128;

/// A module, ready to be loaded.
#[derive(Debug)]
pub(crate) struct CompiledModule {
    /// Its source.
    pub(crate) text: String,
    pub(crate) bytecode: Bytecode,
    pub(crate) lines: Option<LineMap>,
    pub(crate) imports: Vec<Import>,
}

/// Compiled modules of the versions of a project.
#[derive(Debug, Default)]
pub struct ModuleCache {
    by_name: Mutex<HashMap<String, (u128, Arc<CompiledModule>)>>,
    compiled: AtomicUsize,
}

impl ModuleCache {
    /// Returns the module of a name and text, compiled now or before.
    pub(crate) fn compiled(
        &self,
        name: &str,
        text: &str,
    ) -> Result<Arc<CompiledModule>, ProjectError> {
        let digest = xxh3_128(text.as_bytes());
        let known = self.by_name.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned();
        if let Some((of, module)) = known
            && of == digest
        {
            return Ok(module);
        }
        self.compiled.fetch_add(1, Ordering::Relaxed);
        let transpiled = transpile(name, text)?;
        let bytecode =
            Bytecode::compile(name, &transpiled.code).map_err(|message| ProjectError::Syntax {
                at: Position { file: name.to_owned(), line: 1, column: 1 },
                message,
            })?;
        let module = Arc::new(CompiledModule {
            text: text.to_owned(),
            bytecode,
            lines: transpiled.lines,
            imports: transpiled.imports,
        });
        let mut by_name = self.by_name.lock().unwrap_or_else(PoisonError::into_inner);
        by_name.insert(name.to_owned(), (digest, module.clone()));
        Ok(module)
    }

    /// Returns how many modules were compiled, the same one each time that it changed.
    pub fn compiled_count(&self) -> usize {
        self.compiled.load(Ordering::Relaxed)
    }

    /// Forgets the modules that are not among those of the names.
    pub(crate) fn keep(&self, names: impl Fn(&str) -> bool) {
        self.by_name.lock().unwrap_or_else(PoisonError::into_inner).retain(|name, _| names(name));
    }
}
