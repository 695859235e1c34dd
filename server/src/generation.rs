//! Code generated for a project while it is being written: `_generated/*`, kept true to what was read.

use crate::loading::has_project;
use crate::project::{NamedQueries, root};
use convoy_codegen::{FilesError, FunctionEntry, GenerateError, Project, Stale};
use convoy_engine::{QueryError, StatementKind};
use convoy_postgres::{Pool, PostgresError, SessionOptions};
use convoy_types::DatabaseUrl;
use std::path::{Path, PathBuf};
use std::time::Duration;
use thiserror::Error;

/// How long a connection is waited for, to ask what a `.sql` file takes and gives.
const CONNECTION_WAIT_MAX: Duration = Duration::from_secs(10);

/// Why code can't be generated. What there was stays.
#[derive(Debug, Error)]
pub enum GenerationError {
    /// A file can't be read or written.
    #[error(transparent)]
    Files(#[from] FilesError),
    /// What was read makes no sense together.
    #[error(transparent)]
    Generate(#[from] GenerateError),
    /// A `.sql` file is not in order.
    #[error("{file}: {error}")]
    Query {
        /// The file.
        file: String,
        /// What is wrong.
        error: QueryError,
    },
    /// The database can't be asked.
    #[error(transparent)]
    Postgres(#[from] PostgresError),
}

/// Generates code for one project.
pub struct Generator {
    folder: PathBuf,
    pool: Pool,
}

impl Generator {
    /// Returns the generator of a project, which asks this database what `.sql` files take and give.
    pub fn new(folder: &Path, url: &DatabaseUrl, session: &SessionOptions) -> Generator {
        let pool = Pool::new(url.clone(), session.clone(), 1, CONNECTION_WAIT_MAX);
        Generator { folder: folder.to_owned(), pool }
    }

    /// Writes what functions import before anybody can know which functions there are, where it is not there yet.
    ///
    /// # Errors
    /// Where a file can't be written.
    pub fn prepare(&self) -> Result<(), GenerationError> {
        let root = root(&self.folder);
        let is_there = root.join(convoy_codegen::FOLDER).join("server.ts").exists();
        if is_there || !has_project(&self.folder) {
            return Ok(());
        }
        let files = convoy_codegen::generate(&self.project(Vec::new()))?;
        convoy_codegen::write(&root, &files)?;
        Ok(())
    }

    /// Writes what has changed; returns the names of those files. Nothing where there is no project.
    ///
    /// # Errors
    /// What is not in order.
    pub async fn write(
        &self,
        queries: &NamedQueries,
        functions: Vec<FunctionEntry>,
    ) -> Result<Vec<&'static str>, GenerationError> {
        if !has_project(&self.folder) {
            return Ok(Vec::new());
        }
        let files = convoy_codegen::generate(&self.described(queries, functions).await?)?;
        Ok(convoy_codegen::write(&root(&self.folder), &files)?)
    }

    /// Returns which files are not what would be written.
    ///
    /// # Errors
    /// What is not in order.
    pub async fn check(
        &self,
        queries: &NamedQueries,
        functions: Vec<FunctionEntry>,
    ) -> Result<Vec<Stale>, GenerationError> {
        if !has_project(&self.folder) {
            return Ok(Vec::new());
        }
        let files = convoy_codegen::generate(&self.described(queries, functions).await?)?;
        Ok(convoy_codegen::check(&root(&self.folder), &files)?)
    }

    async fn described(
        &self,
        queries: &NamedQueries,
        functions: Vec<FunctionEntry>,
    ) -> Result<Project, GenerationError> {
        let mut project = self.project(functions);
        let mut lease = None;
        for query in queries.iter().filter(|query| query.statement.kind == StatementKind::Query) {
            let lease = match &mut lease {
                Some(lease) => lease,
                none => none.insert(self.pool.get().await?),
            };
            let described = convoy_codegen::describe(lease, &query.statement, &query.file).await;
            let failed = |error| GenerationError::Query { file: query.file.clone(), error };
            project.queries.push(described.map_err(failed)?);
        }
        Ok(project)
    }

    fn project(&self, functions: Vec<FunctionEntry>) -> Project {
        // Where a project comes while it is waited for, its root is known only then.
        let root = root(&self.folder);
        Project {
            functions,
            queries: Vec::new(),
            has_schema: root.join("schema.ts").is_file(),
            has_server: root.join("server.ts").is_file(),
        }
    }
}
