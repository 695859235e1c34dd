//! Reading a project, the first time and again: its `.sql` files, and its functions where this server runs any.

use crate::error::{ServerError, chain};
use crate::generation::Generator;
use crate::mutations::Backend;
use crate::project::{Failure, NamedQueries, ProjectError, root};
use convoy_codegen::FunctionEntry;
use convoy_postgres::SessionOptions;
use convoy_types::DatabaseUrl;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use tracing::{info, warn};

/// What to do about a build that runs no functions.
#[cfg(not(feature = "functions"))]
pub const NO_FUNCTIONS: &str =
    "this convoy was built without functions: cargo build --release --features functions";

/// What is done about tables that the schema declares and the database has not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tables {
    /// They are created.
    Create,
    /// They are missed; only what Convoy itself needs to serve is created.
    Check,
    /// They are missed; nothing at all is written.
    Look,
}

/// Reads one project.
pub struct ProjectLoader {
    folder: PathBuf,
    /// Who keeps generated code true, where that is asked for.
    generator: Option<Generator>,
    /// What was said of code that could not be generated; none where it could.
    told: Mutex<Option<String>>,
    #[cfg(feature = "functions")]
    functions: Option<crate::backend::Loader>,
}

impl ProjectLoader {
    /// Returns one that reads `.sql` files alone.
    pub fn of_files(folder: &Path) -> ProjectLoader {
        ProjectLoader {
            folder: folder.to_owned(),
            generator: None,
            told: Mutex::default(),
            #[cfg(feature = "functions")]
            functions: None,
        }
    }

    /// Returns the project's folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Has code generated each time that the project is read.
    pub fn generate_with(&mut self, generator: Generator) {
        self.generator = Some(generator);
    }

    /// Returns the project's functions, as generated code knows them.
    pub fn function_entries(&self) -> Vec<FunctionEntry> {
        #[cfg(feature = "functions")]
        if let Some(functions) = &self.functions {
            return functions.entries();
        }
        Vec::new()
    }

    /// Reads the project, and says which files are not in order. Functions that are in order are served from then on.
    ///
    /// # Errors
    /// Where a folder can't be read, so that nobody knows which queries there are.
    pub async fn load_what_is_good(&self) -> Result<(NamedQueries, Vec<Failure>), ProjectError> {
        let folder = self.folder.clone();
        let load = move || NamedQueries::load_what_is_good(&folder);
        let loaded = tokio::task::spawn_blocking(load).await;
        #[cfg_attr(not(feature = "functions"), expect(unused_mut))]
        let (mut queries, mut failures) = loaded
            .map_err(|_| ProjectError::Functions { message: "it could not be read".into() })??;
        #[cfg(feature = "functions")]
        if let Some(functions) = &self.functions {
            functions.load(&mut queries, &mut failures).await;
        } else if has_functions(&self.folder) {
            warn!("the project has functions by now: convoy serves them when it is started again");
        }
        if failures.is_empty() {
            self.generate(&queries).await;
        }
        Ok((queries, failures))
    }

    /// Generates code for these queries and the functions that there are, where that is asked for. What keeps it from that is
    /// logged, once.
    pub async fn generate(&self, queries: &NamedQueries) {
        let Some(generator) = &self.generator else { return };
        let written = generator.write(queries, self.function_entries()).await;
        let failure = written.as_ref().err().map(|error| chain(error).to_string());
        let before = std::mem::replace(
            &mut *self.told.lock().unwrap_or_else(PoisonError::into_inner),
            failure.clone(),
        );
        match written {
            Ok(changed) if changed.is_empty() => {}
            Ok(changed) => info!("generated {}", changed.join(", ")),
            Err(_) if failure == before => {}
            Err(error) => {
                warn!(error = %chain(&error), "the generated code stays as it was, until that is mended");
            }
        }
    }

    /// Returns whether code could not be generated when that was last tried.
    pub fn is_behind(&self) -> bool {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }
}

/// Returns whether a project has functions, or tables that they use.
pub fn has_functions(folder: &Path) -> bool {
    let root = root(folder);
    root.join("schema.ts").is_file() || root.join("functions").is_dir()
}

/// A project, opened: its named queries, who runs its functions, and who reads it again.
pub struct OpenProject {
    /// Its queries.
    pub queries: NamedQueries,
    /// Who runs its functions; none where it has none.
    pub backend: Option<Backend>,
    /// Who reads it again.
    pub loader: ProjectLoader,
}

impl OpenProject {
    /// Reads a project for the first time.
    ///
    /// # Errors
    /// What is not in order, in the project or in the database.
    #[cfg(feature = "functions")]
    pub async fn open(
        folder: &Path,
        url: &DatabaseUrl,
        session: &SessionOptions,
        tables: Tables,
    ) -> Result<OpenProject, ServerError> {
        use crate::backend::{Loader, add_queries};
        let mut queries = NamedQueries::load(folder)?;
        if !has_functions(folder) {
            let loader = ProjectLoader::of_files(folder);
            return Ok(OpenProject { queries, backend: None, loader });
        }
        let functions = Loader::open(folder, url, session, tables).await?;
        add_queries(&mut queries, &functions.functions().project(), folder)?;
        let backend = Some(functions.functions().backend());
        let mut loader = ProjectLoader::of_files(folder);
        loader.functions = Some(functions);
        Ok(OpenProject { queries, backend, loader })
    }

    /// Reads a project for the first time.
    ///
    /// # Errors
    /// What is not in order; also where it has functions, which this build does not run.
    #[cfg(not(feature = "functions"))]
    pub async fn open(
        folder: &Path,
        _: &DatabaseUrl,
        _: &SessionOptions,
        _: Tables,
    ) -> Result<OpenProject, ServerError> {
        if has_functions(folder) {
            let root = root(folder);
            return Err(ServerError::Misused(format!(
                "{} has functions: {NO_FUNCTIONS}",
                root.display()
            )));
        }
        let queries = NamedQueries::load(folder)?;
        Ok(OpenProject { queries, backend: None, loader: ProjectLoader::of_files(folder) })
    }
}
