//! The generated files on disk: written where they differ, or compared.

use crate::generate::{FOLDER, GeneratedFile, NAMES};
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Lines before and behind the first difference that are shown.
const CONTEXT_LINES: usize = 2;
/// Lines of a difference that are shown, of each side.
const DIFFERENT_LINES_MAX: usize = 6;

/// Why files can't be read or written.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum FilesError {
    /// One can't be read.
    #[error("reading {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// The system's words.
        #[source]
        source: io::Error,
    },
    /// One can't be written.
    #[error("writing {}", path.display())]
    Write {
        /// Which.
        path: PathBuf,
        /// The system's words.
        #[source]
        source: io::Error,
    },
}

/// A file that is not as it would be generated now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stale {
    /// The file, from the project's root: `_generated/api.ts`.
    pub file: String,
    /// What is the matter.
    pub why: Staleness,
}

/// What is the matter with a stale file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Staleness {
    /// It is not there.
    Missing,
    /// It is there, and nothing would be generated.
    Needless,
    /// It differs: the first difference, as a diff with its place.
    Differs(String),
}

impl fmt::Display for Stale {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.why {
            Staleness::Missing => write!(f, "{} is missing", self.file),
            Staleness::Needless => write!(f, "{} is not generated any more", self.file),
            Staleness::Differs(diff) => write!(f, "{} is stale:\n{diff}", self.file),
        }
    }
}

/// Writes the files that differ into `_generated` of a project's root, each in one step, so that no reader sees half of
/// one; removes those of ours that are not generated any more. Returns the names of what it changed.
///
/// # Errors
/// Where a file or the folder can't be read or written.
pub fn write(root: &Path, files: &[GeneratedFile]) -> Result<Vec<&'static str>, FilesError> {
    let folder = root.join(FOLDER);
    let mut changed = Vec::new();
    for name in NAMES {
        let path = folder.join(name);
        let old = read(&path)?;
        let error = |source| FilesError::Write { path: path.clone(), source };
        match (files.iter().find(|file| file.name == name), old) {
            (None, None) => continue,
            (Some(file), Some(old)) if file.text == old => continue,
            (Some(file), _) => {
                fs::create_dir_all(&folder).map_err(error)?;
                // A name that no watcher or loader takes for a module, in the same folder for the rename to be one step.
                let beside = folder.join(format!(".{name}.{}.tmp", std::process::id()));
                let written =
                    fs::write(&beside, &file.text).and_then(|()| fs::rename(&beside, &path));
                if written.is_err() {
                    // What is left of it is of no use; the first error is the one to tell.
                    let _ = fs::remove_file(&beside);
                }
                written.map_err(error)?;
            }
            (None, Some(_)) => fs::remove_file(&path).map_err(error)?,
        }
        changed.push(name);
    }
    Ok(changed)
}

/// Returns the files that [`write()`] would change, in the order of their names.
///
/// # Errors
/// Where a file can't be read.
pub fn check(root: &Path, files: &[GeneratedFile]) -> Result<Vec<Stale>, FilesError> {
    let mut stale = Vec::new();
    for name in NAMES {
        let old = read(&root.join(FOLDER).join(name))?;
        let why = match (files.iter().find(|file| file.name == name), old) {
            (None, None) => continue,
            (Some(file), Some(old)) if file.text == old => continue,
            (Some(_), None) => Staleness::Missing,
            (None, Some(_)) => Staleness::Needless,
            (Some(file), Some(old)) => Staleness::Differs(first_difference(&old, &file.text)),
        };
        stale.push(Stale { file: format!("{FOLDER}/{name}"), why });
    }
    Ok(stale)
}

fn read(path: &Path) -> Result<Option<String>, FilesError> {
    match fs::read(path) {
        // What is not UTF-8 is none of ours: it differs, whatever it is.
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(FilesError::Read { path: path.to_owned(), source }),
    }
}

/// Returns the first lines in which texts differ, with those around them.
fn first_difference(old: &str, new: &str) -> String {
    let (old, new): (Vec<&str>, Vec<&str>) =
        (old.split_inclusive('\n').collect(), new.split_inclusive('\n').collect());
    let start = old.iter().zip(&new).take_while(|(old, new)| old == new).count();
    // The two meet again at the nearest line that both have.
    let meets = (0..old.len() + new.len() - 2 * start).find_map(|distance| {
        (0..=distance).find_map(|skipped| {
            let (a, b) = (start + distance - skipped, start + skipped);
            (a < old.len() && b < new.len() && old[a] == new[b] && old[a].trim().len() > 1)
                .then_some((a, b))
        })
    });
    let (old_end, new_end) = meets.unwrap_or((old.len(), new.len()));
    let mut diff = format!("@@ line {} @@\n", start + 1);
    let mut line = |sign: char, text: &str| {
        diff.push(sign);
        diff.push_str(text.trim_end_matches('\n'));
        diff.push('\n');
    };
    old[start.saturating_sub(CONTEXT_LINES)..start].iter().for_each(|text| line(' ', text));
    for (sign, lines) in [('-', &old[start..old_end]), ('+', &new[start..new_end])] {
        lines.iter().take(DIFFERENT_LINES_MAX).for_each(|text| line(sign, text));
        if lines.len() > DIFFERENT_LINES_MAX {
            line(sign, &format!("… {} more lines", lines.len() - DIFFERENT_LINES_MAX));
        }
    }
    let after = &old[old_end..old.len().min(old_end + CONTEXT_LINES)];
    after.iter().for_each(|text| line(' ', text));
    diff
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(texts: &[(&'static str, &str)]) -> Vec<GeneratedFile> {
        texts.iter().map(|&(name, text)| GeneratedFile { name, text: text.to_owned() }).collect()
    }

    #[test]
    fn only_what_differs_is_written() {
        let root = tempfile::tempdir().expect("a folder");
        let folder = root.path().join(FOLDER);
        let first = files(&[("api.ts", "a\n"), ("queries.d.ts", "q\n"), ("server.ts", "s\n")]);
        let all = vec!["api.ts", "queries.d.ts", "server.ts"];
        assert_eq!(write(root.path(), &first).expect("written"), all);
        assert_eq!(write(root.path(), &first).expect("as it is"), Vec::<&str>::new());
        assert_eq!(check(root.path(), &first).expect("read"), []);
        fs::write(folder.join("mine.ts"), "not ours").expect("a file");
        let modified = || fs::metadata(folder.join("server.ts")).and_then(|data| data.modified());
        let before = modified().expect("a time");
        let second = files(&[("api.ts", "b\n"), ("server.ts", "s\n")]);
        assert_eq!(write(root.path(), &second).expect("written"), ["api.ts", "queries.d.ts"]);
        assert_eq!(modified().expect("a time"), before);
        let mut names: Vec<_> = fs::read_dir(&folder)
            .expect("the folder")
            .map(|entry| entry.expect("an entry").file_name().into_string().expect("a name"))
            .collect();
        names.sort();
        assert_eq!(names, ["api.ts", "mine.ts", "server.ts"]);
    }

    #[test]
    fn a_check_says_what_is_stale_and_how() {
        let root = tempfile::tempdir().expect("a folder");
        let old = files(&[("api.ts", "one\ntwo\nthree\nfour\nfive\n"), ("queries.d.ts", "q\n")]);
        write(root.path(), &old).expect("written");
        let new = files(&[("api.ts", "one\ntwo\nthree\n4\n4b\nfive\n"), ("server.ts", "s\n")]);
        let told: Vec<String> =
            check(root.path(), &new).expect("read").iter().map(ToString::to_string).collect();
        assert_eq!(
            told,
            [
                "_generated/api.ts is stale:\n@@ line 4 @@\n two\n three\n-four\n+4\n+4b\n five\n",
                "_generated/queries.d.ts is not generated any more",
                "_generated/server.ts is missing",
            ]
        );
    }

    #[test]
    fn what_can_not_be_written_is_named() {
        let root = tempfile::tempdir().expect("a folder");
        fs::write(root.path().join(FOLDER), "a file").expect("a file");
        let error = write(root.path(), &files(&[("api.ts", "a\n")])).expect_err("no folder");
        assert!(error.to_string().contains("_generated/api.ts"), "{error}");
    }

    #[test]
    fn ends_of_files_differ_too() {
        assert_eq!(first_difference("a\nb\n", "a\n"), "@@ line 2 @@\n a\n-b\n");
        assert_eq!(first_difference("", "a\n"), "@@ line 1 @@\n+a\n");
        let long: String = (0..9).map(|line| format!("{line}\n")).collect();
        assert!(first_difference("", &long).ends_with("+5\n+… 3 more lines\n"));
    }
}
