//! Which files of a folder are the project's (`docs/protocol.md`, section 7).

use super::ProjectError;
use crate::source::Single;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Folders within folders: more than this is a link that leads back.
const DEPTH_MAX: usize = 32;
/// Endings of modules.
const EXTENSIONS: [&str; 5] = ["ts", "tsx", "mts", "js", "mjs"];

/// The files that a project's modules begin with.
#[derive(Debug)]
pub(super) struct Files {
    /// Where names and paths begin.
    pub(super) root: PathBuf,
    /// `schema.ts` and `server.ts`, as far as they are there.
    pub(super) singles: Vec<(Single, PathBuf)>,
    /// By name: their path from the root.
    pub(super) functions: BTreeMap<String, PathBuf>,
}

impl Files {
    pub(super) fn of(folder: &Path) -> Result<Self, ProjectError> {
        if !folder.is_dir() {
            return Err(ProjectError::NoFolder { path: folder.to_owned() });
        }
        let root = root(folder);
        // Imports are resolved to real paths, and names are paths from here.
        let root =
            root.canonicalize().map_err(|source| ProjectError::Read { path: root, source })?;
        let single = |single: Single| (single, root.join(single.file()));
        let singles = Single::ALL.map(single).into_iter().filter(|(_, path)| path.is_file());
        let mut files = Self { singles: singles.collect(), functions: BTreeMap::new(), root };
        let functions = files.root.join("functions");
        if functions.is_dir() {
            files.add_folder(&functions, "functions", 0)?;
        }
        Ok(files)
    }

    fn add_folder(&mut self, folder: &Path, name: &str, depth: usize) -> Result<(), ProjectError> {
        let unread = |source| ProjectError::Read { path: folder.to_owned(), source };
        if depth == DEPTH_MAX {
            return Err(unread(std::io::Error::other(
                "folders are nested too deeply: a link that leads back?",
            )));
        }
        for entry in fs::read_dir(folder).map_err(unread)? {
            let path = entry.map_err(unread)?.path();
            let Some(file) = path.file_name().and_then(|file| file.to_str()) else { continue };
            if file.starts_with(['_', '.']) {
                continue;
            }
            let inner = format!("{name}/{file}");
            if path.is_dir() {
                check_segment(&inner, file)?;
                self.add_folder(&path, &inner, depth + 1)?;
            } else if let Some(stem) = function_file(file) {
                check_segment(&inner, stem)?;
                let path = path
                    .canonicalize()
                    .map_err(|source| ProjectError::Read { path: path.clone(), source })?;
                self.functions.insert(inner, path);
            }
        }
        Ok(())
    }
}

/// Returns the folder in which a project's files are.
fn root(folder: &Path) -> PathBuf {
    [folder.join("convoy"), folder.join("src/convoy")]
        .into_iter()
        .find(|candidate| candidate.is_dir())
        .unwrap_or_else(|| folder.to_owned())
}

/// Returns the stem of a file that holds functions.
fn function_file(file: &str) -> Option<&str> {
    let (stem, extension) = file.rsplit_once('.')?;
    let is_other = stem.ends_with(".d") || stem.contains(".test") || stem.contains(".spec");
    (EXTENSIONS.contains(&extension) && !is_other).then_some(stem)
}

fn check_segment(file: &str, segment: &str) -> Result<(), ProjectError> {
    let mut characters = segment.chars();
    let good = characters.next().is_some_and(|first| first.is_alphabetic() || first == '$')
        && characters
            .all(|character| character.is_alphanumeric() || character == '_' || character == '$');
    if good {
        Ok(())
    } else {
        Err(ProjectError::Name { file: file.to_owned(), segment: segment.to_owned() })
    }
}

/// Returns what the functions of a file are called by: `orders` for `functions/orders.ts`.
pub(super) fn module_name(file: &str) -> String {
    let inner = file.strip_prefix("functions/").unwrap_or(file);
    inner.rsplit_once('.').map_or(inner, |(stem, _)| stem).replace('/', ".")
}

#[cfg(test)]
mod tests {
    use super::{function_file, module_name};

    #[test]
    fn tests_and_declarations_hold_no_functions() {
        assert_eq!(function_file("orders.ts"), Some("orders"));
        assert_eq!(function_file("orders.mjs"), Some("orders"));
        for other in ["orders.test.ts", "orders.d.ts", "orders.md", "orders"] {
            assert_eq!(function_file(other), None, "{other}");
        }
    }

    #[test]
    fn folders_are_dots() {
        assert_eq!(module_name("functions/orders.ts"), "orders");
        assert_eq!(module_name("functions/admin/orders.ts"), "admin.orders");
    }
}
