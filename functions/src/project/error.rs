//! Why a project can't be used.

use crate::source::Position;
use std::io;
use std::path::PathBuf;
use thiserror::Error;

/// Why a project can't be used. Files are named from the project's root.
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
        "{file}: {segment:?} can't be part of a function's name: letters, digits, _ and $, no digit first; a leading _ hides a file"
    )]
    Name {
        /// The file.
        file: String,
        /// The part.
        segment: String,
    },
    /// Two functions have one name.
    #[error("the function {name} is defined twice: in {first} and in {second}")]
    Twice {
        /// The name.
        name: String,
        /// One file.
        first: String,
        /// The other.
        second: String,
    },
    /// A file is not the language it should be.
    #[error("{at}: {message}")]
    Syntax {
        /// Where.
        at: Position,
        /// What is wrong.
        message: String,
    },
    /// A module of the old kind.
    #[error(
        "{file} is a CommonJS module (module.exports), which functions can't import: use a package with ES modules"
    )]
    CommonJs {
        /// The file.
        file: String,
    },
    /// An import means nothing.
    #[error("{at}: can't import {specifier:?}: {reason}")]
    Import {
        /// Where.
        at: Position,
        /// What was asked for.
        specifier: String,
        /// Why, and what to do.
        reason: String,
    },
    /// The project reaches more modules than any should.
    #[error(
        "the project imports more than {limit} modules: functions should import what they need alone"
    )]
    TooManyModules {
        /// The limit.
        limit: usize,
    },
    /// A module failed while it was evaluated.
    #[error("evaluating the project's modules: {message}\n{stack}")]
    Evaluate {
        /// What it said.
        message: String,
        /// Where, in the lines of the sources.
        stack: String,
    },
    /// The engine could not be set up.
    #[error("setting up a JavaScript context")]
    Engine {
        /// The engine's words.
        #[source]
        source: rquickjs::Error,
    },
    /// What the modules define could not be read.
    #[error("reading what the project's modules define")]
    Description {
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
}
