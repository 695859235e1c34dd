//! From a project to the texts of its generated files.

use crate::project::Project;
use crate::{api, functions, http, queries, server};
use std::collections::BTreeMap;
use thiserror::Error;

/// The folder of the generated files, in the project's root.
pub const FOLDER: &str = "_generated";

/// A generated file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GeneratedFile {
    /// Its name, in [`FOLDER`].
    pub name: &'static str,
    /// Its text, which ends with a newline.
    pub text: String,
}

/// Why nothing can be generated of a project.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum GenerateError {
    /// Two have one name.
    #[error("{name} is defined twice: in {first} and in {second}; rename one of them")]
    Twice {
        /// The name.
        name: String,
        /// Where one is.
        first: String,
        /// Where the other is.
        second: String,
    },
}

/// Returns the files of a project, in the order of their names.
///
/// # Errors
/// [`GenerateError::Twice`]
pub fn generate(project: &Project) -> Result<Vec<GeneratedFile>, GenerateError> {
    check_names(project)?;
    let mut files = vec![
        GeneratedFile { name: "api.ts", text: api::api(project) },
        GeneratedFile { name: "functions.ts", text: functions::functions(project) },
        GeneratedFile { name: "http.ts", text: http::http(project) },
    ];
    if !project.queries.is_empty() {
        let (declarations, map) = queries::queries(project);
        files.push(GeneratedFile { name: queries::FILE, text: declarations });
        files.push(GeneratedFile { name: queries::MAP_FILE, text: map });
    }
    files.push(GeneratedFile { name: "server.ts", text: server::server(project) });
    Ok(files)
}

/// All names that a file of [`FOLDER`] may have of ours: one that is not generated any more is to go.
pub(crate) const NAMES: [&str; 6] =
    ["api.ts", "functions.ts", "http.ts", queries::FILE, queries::MAP_FILE, "server.ts"];

fn check_names(project: &Project) -> Result<(), GenerateError> {
    let functions = project.functions.iter().map(|function| {
        (function.name.as_str(), format!("{}.ts ({})", function.module, function.export))
    });
    let queries = project.queries.iter().map(|query| (query.name.as_str(), query.file.clone()));
    let mut by_name = BTreeMap::new();
    for (name, place) in functions.chain(queries) {
        if let Some(first) = by_name.insert(name, place.clone()) {
            return Err(GenerateError::Twice { name: name.to_owned(), first, second: place });
        }
    }
    Ok(())
}
