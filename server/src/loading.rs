//! Reading a project, the first time and again: its `.sql` files, and its functions where this server runs any.

#[cfg(feature = "functions")]
use crate::backend::{LateFunctions, Loader};
use crate::error::{ServerError, chain};
use crate::generation::Generator;
use crate::mutations::Backend;
use crate::project::{Failure, NamedQueries, ProjectError, root};
use convoy_codegen::FunctionEntry;
use convoy_postgres::SessionOptions;
use convoy_types::DatabaseUrl;
use std::path::{Path, PathBuf};
#[cfg(feature = "functions")]
use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicBool, Ordering},
};
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

/// Which projects have somebody who runs functions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Runs {
    /// Those that have functions when they are opened.
    WhatIsThere,
    /// All: functions may come while they are served.
    WhatComes,
}

/// Reads one project.
pub struct ProjectLoader {
    folder: PathBuf,
    /// Who keeps generated code true, where that is asked for.
    generator: Option<Generator>,
    /// What was said of code that could not be generated; none where it could.
    told: Mutex<Option<String>>,
    /// Who reads its functions, from when it has any.
    #[cfg(feature = "functions")]
    functions: OnceLock<Loader>,
    /// Where they are expected, though the project began without.
    #[cfg(feature = "functions")]
    expected: Option<Expected>,
}

/// Functions that may come, and what to do then.
#[cfg(feature = "functions")]
struct Expected {
    url: DatabaseUrl,
    session: SessionOptions,
    tables: Tables,
    functions: Arc<LateFunctions>,
    /// Whether they were there and could not be opened.
    is_behind: AtomicBool,
}

impl ProjectLoader {
    /// Returns one that reads `.sql` files alone.
    pub fn of_files(folder: &Path) -> ProjectLoader {
        ProjectLoader {
            folder: folder.to_owned(),
            generator: None,
            told: Mutex::default(),
            #[cfg(feature = "functions")]
            functions: OnceLock::new(),
            #[cfg(feature = "functions")]
            expected: None,
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
        if let Some(functions) = self.functions.get() {
            return functions.entries();
        }
        Vec::new()
    }

    /// Reads the project, and says which files are not in order. Functions that are in order are served from then on.
    ///
    /// # Errors
    /// Where a folder can't be read, so that nobody knows which queries there are.
    pub async fn load_what_is_good(&self) -> Result<(NamedQueries, Vec<Failure>), ProjectError> {
        if let Some(generator) = &self.generator
            && let Err(error) = generator.prepare()
        {
            warn!(error = %chain(&error), "functions may find nothing to import");
        }
        let folder = self.folder.clone();
        let load = move || NamedQueries::load_what_is_good(&folder);
        let loaded = tokio::task::spawn_blocking(load).await;
        #[cfg_attr(not(feature = "functions"), expect(unused_mut))]
        let (mut queries, mut failures) = loaded
            .map_err(|_| ProjectError::Functions { message: "it could not be read".into() })??;
        #[cfg(feature = "functions")]
        self.open_expected(&mut failures).await;
        #[cfg(feature = "functions")]
        if let Some(functions) = self.functions.get() {
            functions.load(&mut queries, &mut failures).await;
        } else if self.expected.is_none() && has_functions(&self.folder) {
            warn!("the project has functions by now: convoy serves them when it is started again");
        }
        #[cfg(not(feature = "functions"))]
        if has_functions(&self.folder) {
            warn!("the project has functions by now: {NO_FUNCTIONS}");
        }
        if failures.is_empty() {
            self.generate(&queries).await;
        }
        Ok((queries, failures))
    }

    /// Opens functions that have come.
    #[cfg(feature = "functions")]
    async fn open_expected(&self, failures: &mut Vec<Failure>) {
        let Some(expected) = self.expected.as_ref().filter(|_| self.functions.get().is_none())
        else {
            return;
        };
        if !has_functions(&self.folder) {
            return expected.is_behind.store(false, Ordering::Relaxed);
        }
        let Expected { url, session, tables, .. } = expected;
        let opened = Loader::open(&self.folder, url, session, *tables).await;
        expected.is_behind.store(opened.is_err(), Ordering::Relaxed);
        match opened {
            Ok(loader) => {
                if loader.functions().project().has_context() {
                    warn!(
                        "createContext came: callers are told apart when convoy is started again"
                    );
                }
                expected.functions.come(loader.functions().clone());
                let _ = self.functions.set(loader);
            }
            Err(error) => {
                let message = format!("the functions can't be served yet: {}", chain(&error));
                let error = ProjectError::Functions { message };
                failures.push(Failure { name: None, file: String::new(), error });
            }
        }
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

    /// Returns whether something is to be tried again: code could not be generated, or functions not be read.
    pub fn is_behind(&self) -> bool {
        #[cfg(feature = "functions")]
        if self.functions.get().is_some_and(Loader::is_behind) || self.is_expecting() {
            return true;
        }
        self.is_generation_behind()
    }

    /// Returns whether code could not be generated when that was last tried.
    pub fn is_generation_behind(&self) -> bool {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// Returns whether functions that could not be read could be now, though none of their files was saved: what they import
    /// may be there by now.
    pub async fn has_mended(&self) -> bool {
        #[cfg(feature = "functions")]
        match self.functions.get() {
            Some(functions) => return functions.has_mended().await,
            None if self.is_expecting() => return Loader::can_read(&self.folder).await,
            None => {}
        }
        false
    }

    /// Returns whether functions have come that could not be opened yet.
    #[cfg(feature = "functions")]
    fn is_expecting(&self) -> bool {
        let expected = self.expected.as_ref();
        expected.is_some_and(|expected| expected.is_behind.load(Ordering::Relaxed))
    }
}

/// Returns whether a project has functions, tables that they use, or says in TypeScript who calls.
pub fn has_functions(folder: &Path) -> bool {
    let root = root(folder);
    let is_file = |name: &str| root.join(name).is_file();
    is_file("schema.ts") || is_file("server.ts") || root.join("functions").is_dir()
}

/// Returns whether there is anything of a project in a folder.
pub fn has_project(folder: &Path) -> bool {
    has_functions(folder) || root(folder).join("queries").is_dir()
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
        runs: Runs,
    ) -> Result<OpenProject, ServerError> {
        use crate::backend::add_queries;
        let mut queries = NamedQueries::load(folder)?;
        if !has_functions(folder) {
            let mut loader = ProjectLoader::of_files(folder);
            if runs == Runs::WhatIsThere {
                return Ok(OpenProject { queries, backend: None, loader });
            }
            let functions = Arc::new(LateFunctions::default());
            let backend = Some(functions.backend());
            loader.expected = Some(Expected {
                url: url.clone(),
                session: session.clone(),
                tables,
                functions,
                is_behind: AtomicBool::new(false),
            });
            return Ok(OpenProject { queries, backend, loader });
        }
        let functions = Loader::open(folder, url, session, tables).await?;
        add_queries(&mut queries, &functions.functions().project(), folder)?;
        let backend = Some(functions.functions().backend());
        let loader = ProjectLoader::of_files(folder);
        let _ = loader.functions.set(functions);
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
        _: Runs,
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
