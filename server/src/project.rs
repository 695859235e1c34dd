//! A project's named queries: where they lie, what they are called (`docs/protocol.md`, section 7).

use convoy_engine::{QueryError, Statement};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use thiserror::Error;

/// Folders within folders: more than this is a link that leads back.
const DEPTH_MAX: usize = 32;
/// The largest `.sql` file that is read, in bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Why a project can't be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ProjectError {
    /// The folder is not there.
    #[error("the project folder {} is not there: give it with --project", path.display())]
    NoFolder {
        /// The folder.
        path: PathBuf,
    },
    /// A file or folder can't be read.
    #[error("reading {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// The system's words.
        #[source]
        source: io::Error,
    },
    /// A part of a path is none of a name.
    #[error(
        "{}: {segment:?} can't be part of a query's name: letters, digits, _ and $, no digit first; a leading _ hides a file",
        path.display()
    )]
    Name {
        /// The file.
        path: PathBuf,
        /// The part.
        segment: String,
    },
    /// Two files have one name.
    #[error("the query {name} is defined twice: in {} and in {}", first.display(), second.display())]
    Twice {
        /// The name.
        name: String,
        /// One file.
        first: PathBuf,
        /// The other.
        second: PathBuf,
    },
    /// The project's functions, or the tables that they use, are not in order.
    #[error("{message}")]
    Functions {
        /// What is wrong, with file, line and column.
        message: String,
    },
    /// What is in a file is no query.
    #[error("{}: {error}", path.display())]
    Statement {
        /// The file.
        path: PathBuf,
        /// What is wrong, with the line.
        error: QueryError,
    },
}

/// A file that is not in order.
#[derive(Debug)]
pub struct Failure {
    /// The query that it would be; none where that is what is wrong.
    pub name: Option<String>,
    /// The file, from the project's root.
    pub file: String,
    /// What is wrong.
    pub error: ProjectError,
}

/// A named query: its statement, and its file.
#[derive(Clone, Debug)]
pub struct NamedQuery {
    /// What it asks.
    pub statement: Arc<Statement>,
    /// Where it is, from the project's root.
    pub file: String,
    path: PathBuf,
}

impl NamedQuery {
    fn check_without_identity(&self) -> Result<(), ProjectError> {
        let checked = self.statement.check_without_identity();
        checked.map_err(|error| ProjectError::Statement { path: self.path.clone(), error })
    }
}

/// The named queries of a project.
#[derive(Clone, Debug, Default)]
pub struct NamedQueries {
    by_name: BTreeMap<String, NamedQuery>,
}

/// What a project's folder holds.
#[derive(Default)]
struct Loading {
    root: PathBuf,
    queries: NamedQueries,
    failures: Vec<Failure>,
}

impl NamedQueries {
    /// Reads the queries of the project in this folder; there may be none.
    ///
    /// # Errors
    /// The first thing that is not in order, in the order of the files' names.
    pub fn load(project: &Path) -> Result<Self, ProjectError> {
        let (queries, failures) = Self::load_what_is_good(project)?;
        match failures.into_iter().next() {
            Some(failure) => Err(failure.error),
            None => Ok(queries),
        }
    }

    /// Reads the queries of the project in this folder, and says which files are not in order.
    ///
    /// # Errors
    /// Where a folder can't be read, so that nobody knows which queries there are.
    pub fn load_what_is_good(project: &Path) -> Result<(Self, Vec<Failure>), ProjectError> {
        if !project.is_dir() {
            return Err(ProjectError::NoFolder { path: project.to_owned() });
        }
        let root = root(project);
        let folder = root.join("queries");
        let mut loading = Loading { root, ..Loading::default() };
        if folder.is_dir() {
            loading.load_folder(&folder, &mut Vec::new())?;
        }
        Ok((loading.queries, loading.failures))
    }

    /// Checks that no query asks for what only an identity has.
    ///
    /// # Errors
    /// The first that does, with its line.
    pub fn check_without_identity(&self) -> Result<(), ProjectError> {
        self.by_name.values().try_for_each(NamedQuery::check_without_identity)
    }

    /// Takes out the queries that ask for what only an identity has, and says which.
    pub fn take_without_identity(&mut self) -> Vec<Failure> {
        let mut failures = Vec::new();
        self.by_name.retain(|name, query| match query.check_without_identity() {
            Ok(()) => true,
            Err(error) => {
                let (name, file) = (Some(name.clone()), query.file.clone());
                failures.push(Failure { name, file, error });
                false
            }
        });
        failures
    }

    /// Returns a query.
    pub fn get(&self, name: &str) -> Option<&Arc<Statement>> {
        self.by_name.get(name).map(|query| &query.statement)
    }

    /// Returns a query with its file.
    pub fn query(&self, name: &str) -> Option<&NamedQuery> {
        self.by_name.get(name)
    }

    /// Puts a query in, in place of the one of its name.
    pub fn insert(&mut self, name: String, query: NamedQuery) {
        self.by_name.insert(name, query);
    }

    /// Adds a query that is a function of the project.
    ///
    /// # Errors
    /// Where a file has its name already.
    pub fn add_function(
        &mut self,
        name: &str,
        statement: Arc<Statement>,
        file: &str,
        root: &Path,
    ) -> Result<(), ProjectError> {
        let path = root.join(file);
        if let Some(first) = self.by_name.get(name) {
            let (name, first) = (name.to_owned(), first.path.clone());
            return Err(ProjectError::Twice { name, first, second: path });
        }
        let file = file.to_owned();
        self.insert(name.to_owned(), NamedQuery { statement, file, path });
        Ok(())
    }

    /// Takes a query out.
    pub fn remove(&mut self, name: &str) -> Option<NamedQuery> {
        self.by_name.remove(name)
    }

    /// Returns the queries in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = &NamedQuery> {
        self.by_name.values()
    }

    /// Returns the names in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.by_name.keys().map(String::as_str)
    }

    /// Returns how many there are.
    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    /// Returns whether there is none.
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }
}

impl Loading {
    fn load_folder(
        &mut self,
        folder: &Path,
        segments: &mut Vec<String>,
    ) -> Result<(), ProjectError> {
        let error = |source| ProjectError::Read { path: folder.to_owned(), source };
        let mut entries = std::fs::read_dir(folder)
            .map_err(error)?
            .map(|entry| entry.map(|entry| entry.path()))
            .collect::<Result<Vec<_>, _>>()
            .map_err(error)?;
        entries.sort();
        for path in entries {
            let Some(name) = path.file_name().map(|name| name.to_string_lossy().into_owned())
            else {
                continue;
            };
            if name.starts_with(['_', '.']) || name.contains(".test.") {
                continue;
            }
            if path.is_dir() {
                if segments.len() < DEPTH_MAX {
                    segments.push(name);
                    self.load_folder(&path, segments)?;
                    segments.pop();
                }
                continue;
            }
            let Some(stem) = name.strip_suffix(".sql") else { continue };
            segments.push(stem.to_owned());
            self.load_file(path, segments);
            segments.pop();
        }
        Ok(())
    }

    fn load_file(&mut self, path: PathBuf, segments: &[String]) {
        let name = segments.join(".");
        let file = path.strip_prefix(&self.root).unwrap_or(&path).display().to_string();
        // First, since both paths say more than one: `a/b.sql` beside `a.b.sql`.
        if let Some(first) = self.queries.by_name.get(&name) {
            let error =
                ProjectError::Twice { name: name.clone(), first: first.path.clone(), second: path };
            return self.failures.push(Failure { name: Some(name), file, error });
        }
        if let Some(segment) = segments.iter().find(|segment| !is_identifier(segment)) {
            let error = ProjectError::Name { path, segment: segment.clone() };
            return self.failures.push(Failure { name: None, file, error });
        }
        match read_statement(&path, &name) {
            Ok(statement) => {
                let statement = Arc::new(statement);
                self.queries.insert(name, NamedQuery { statement, file, path });
            }
            Err(error) => self.failures.push(Failure { name: Some(name), file, error }),
        }
    }
}

fn read_statement(path: &Path, name: &str) -> Result<Statement, ProjectError> {
    let error = |source| ProjectError::Read { path: path.to_owned(), source };
    if std::fs::metadata(path).map_err(error)?.len() > FILE_BYTES_MAX {
        let source = io::Error::new(io::ErrorKind::FileTooLarge, "a query has at most 1 MiB");
        return Err(error(source));
    }
    let text = std::fs::read_to_string(path).map_err(error)?;
    Statement::named(name, &text)
        .map_err(|error| ProjectError::Statement { path: path.to_owned(), error })
}

/// Returns the project's root.
pub(crate) fn root(project: &Path) -> PathBuf {
    [project.join("convoy"), project.join("src/convoy")]
        .into_iter()
        .find(|folder| folder.is_dir())
        .unwrap_or_else(|| project.to_owned())
}

/// Returns whether JavaScript takes it for an identifier (letters as Unicode sees them).
fn is_identifier(segment: &str) -> bool {
    let is_start = |c: char| c.is_alphabetic() || matches!(c, '_' | '$');
    segment.starts_with(is_start) && segment.chars().all(|c| is_start(c) || c.is_alphanumeric())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn project(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        for (path, text) in files {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().expect("a parent")).expect("folders");
            fs::write(path, text).expect("a file");
        }
        folder
    }

    fn names(files: &[(&str, &str)]) -> Vec<String> {
        let folder = project(files);
        let queries = NamedQueries::load(folder.path()).expect("good");
        queries.names().map(str::to_owned).collect()
    }

    const SQL: &str = "select 1 as a";

    #[test]
    fn folders_are_dots() {
        let files = [
            ("convoy/queries/orders/byTenant.sql", SQL),
            ("convoy/queries/all.sql", SQL),
            ("convoy/queries/_hidden.sql", SQL),
            ("convoy/queries/_folder/x.sql", SQL),
            ("convoy/queries/all.test.sql", "no sql"),
            ("convoy/queries/test.sql", SQL),
            ("convoy/queries/notes.md", "words"),
            ("queries/other.sql", SQL),
        ];
        assert_eq!(names(&files), ["all", "orders.byTenant", "test"]);
    }

    #[test]
    fn the_root_is_the_first_that_is_there() {
        assert_eq!(names(&[("src/convoy/queries/a.sql", SQL), ("queries/b.sql", SQL)]), ["a"]);
        assert_eq!(names(&[("queries/b.sql", SQL)]), ["b"]);
        assert_eq!(names(&[("readme", "")]), [""; 0]);
    }

    #[test]
    fn a_file_that_is_not_in_order_does_not_hide_the_others() {
        let folder = project(&[
            ("queries/a.sql", "delete from t"),
            ("queries/b-c.sql", SQL),
            ("queries/d.sql", SQL),
            ("queries/e/f.sql", SQL),
            ("queries/e.f.sql", SQL),
        ]);
        let (queries, failures) = NamedQueries::load_what_is_good(folder.path()).expect("folders");
        assert_eq!(queries.names().collect::<Vec<_>>(), ["d", "e.f"]);
        let failures: Vec<_> = failures
            .iter()
            .map(|failure| (failure.name.as_deref(), failure.file.as_str()))
            .collect();
        assert_eq!(
            failures,
            [
                (Some("a"), "queries/a.sql"),
                (None, "queries/b-c.sql"),
                (Some("e.f"), "queries/e.f.sql")
            ]
        );
    }

    #[test]
    fn what_is_not_in_order_is_named() {
        let error = |files: &[(&str, &str)]| {
            let folder = project(files);
            NamedQueries::load(folder.path()).expect_err("not in order").to_string()
        };
        let both = error(&[("queries/a/b.sql", SQL), ("queries/a.b.sql", SQL)]);
        assert!(both.contains("a.b.sql") && both.contains("a/b.sql"), "{both}");
        assert!(error(&[("queries/by-tenant.sql", SQL)]).contains("\"by-tenant\""));
        let line = error(&[("queries/a.sql", "\n-- @nothing\nselect 1 as a")]);
        assert!(line.contains("a.sql") && line.contains("line 2"), "{line}");
        assert!(NamedQueries::load(Path::new("/nowhere/at/all")).is_err());
    }
}
