//! `convoy init`: writes a small project that `convoy dev` runs, a chat.
//!
//! What it writes lies in `templates/init/`, as it is but for the package's name. A file that is there is never
//! written to; where there is a schema already, the parts that are made for ours are left out.

use super::demo::program;
use super::output::{Tone, print, table};
use crate::error::ServerError;
use clap::Args;
use serde_json::{Map, Value, json};
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// The longest name of a package, in bytes, by npm's rules.
const NAME_BYTES_MAX: usize = 214;

macro_rules! template {
    ($path:literal) => {
        include_str!(concat!("../../templates/init/", $path))
    };
}

/// What belongs to any project.
const FRAME: [(&str, &str); 3] = [
    ("tsconfig.json", template!("tsconfig.json")),
    (".gitignore", template!("gitignore")),
    ("README.md", template!("README.md")),
];

/// What belongs to ours. The schema is the last: while it is not there, all of it is still to be written.
const CHAT: [(&str, &str); 7] = [
    ("convoy/functions/messages.ts", template!("convoy/functions/messages.ts")),
    ("convoy/queries/messages/count.sql", template!("convoy/queries/messages/count.sql")),
    ("public/index.html", template!("public/index.html")),
    ("public/live.js", template!("public/live.js")),
    ("public/main.css", template!("public/main.css")),
    ("public/main.js", template!("public/main.js")),
    (SCHEMA, template!("convoy/schema.ts")),
];
const SCHEMA: &str = "convoy/schema.ts";

/// The options of `init`.
#[derive(Args, Clone, Debug)]
pub struct InitArgs {
    /// The folder of the project; it is made where it is not there
    #[arg(value_name = "DIR", default_value = ".")]
    pub dir: PathBuf,
    /// The folder of the package that is imported as `convoy`, which gives editors its types; by default `client` beside
    /// this program's source
    #[arg(long, value_name = "DIR", env = "CONVOY_CLIENT")]
    pub client: Option<PathBuf>,
}

/// What became of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Written,
    /// It was there.
    LeftAlone,
    /// It would not fit the schema that is there.
    LeftOut,
}

/// Writes the project.
///
/// # Errors
/// [`ServerError::Misused`] where it is no folder, or has a project elsewhere; else what the system refused.
pub fn run(args: &InitArgs) -> Result<(), ServerError> {
    let dir = args.dir.as_path();
    if dir.exists() && !dir.is_dir() {
        return Err(misused(format!("{} is a file: name a folder, or a new one", dir.display())));
    }
    if dir.join("src/convoy").is_dir() && !dir.join("convoy").exists() {
        let shown = dir.join("src/convoy");
        let message =
            format!("there is a project already, in {}: name another folder", shown.display());
        return Err(misused(message));
    }
    let client = match &args.client {
        Some(client) if !is_client(client) => {
            let shown = client.display();
            return Err(misused(format!(
                "--client {shown}: no package named \"convoy\" is there, which is in `client` of Convoy's source"
            )));
        }
        Some(client) => client.canonicalize().ok(),
        None => client_beside(std::env::current_exe().ok().as_deref()),
    };
    fs::create_dir_all(dir).map_err(failed("making the project's folder"))?;
    let name = package_name(&dir.canonicalize().map_err(failed("finding the project's folder"))?);
    let package = package_json(&name, client.as_deref());

    let has_schema = dir.join(SCHEMA).exists();
    let mut outcomes = vec![("package.json", write(dir, "package.json", &package)?)];
    for (path, text) in FRAME {
        outcomes.push((path, write(dir, path, text)?));
    }
    for (path, text) in CHAT {
        let outcome = match (has_schema, dir.join(path).exists()) {
            (true, false) => Outcome::LeftOut,
            _ => write(dir, path, text)?,
        };
        outcomes.push((path, outcome));
    }
    let installed = dependencies(&dir.join("package.json"));
    print(&report(dir, &outcomes, &steps(dir, &installed, client.as_deref())));
    Ok(())
}

/// Writes a file that is not there.
fn write(dir: &Path, path: &str, text: &str) -> Result<Outcome, ServerError> {
    let doing = || failed_at("writing", dir.join(path));
    let file = dir.join(path);
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder).map_err(doing())?;
    }
    match OpenOptions::new().write(true).create_new(true).open(&file) {
        Ok(mut file) => file.write_all(text.as_bytes()).map_err(doing())?,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            return Ok(Outcome::LeftAlone);
        }
        Err(error) => return Err(doing()(error)),
    }
    Ok(Outcome::Written)
}

/// Returns the template with the project's name, and with the package where that is known.
fn package_json(name: &str, client: Option<&Path>) -> String {
    let mut package: Map<String, Value> =
        serde_json::from_str(template!("package.json")).unwrap_or_default();
    package.insert("name".into(), name.into());
    if let (Some(client), Some(Value::Object(dependencies))) =
        (client, package.get_mut("dependencies"))
    {
        let zod = std::mem::take(dependencies);
        dependencies.insert("convoy".into(), json!(format!("file:{}", client.display())));
        dependencies.extend(zod);
    }
    format!("{:#}\n", Value::Object(package))
}

/// Makes a name that npm takes of a folder's: lower case, letters, digits and `-`, `_`, `.` but at the beginning, and none
/// of a package that it depends on.
fn package_name(folder: &Path) -> String {
    let folder = folder.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    let mut name = String::new();
    for c in folder.chars() {
        match c {
            'a'..='z' | '0'..='9' | '_' | '.' => name.push(c),
            _ if name.ends_with('-') => {}
            _ => name.push('-'),
        }
        if name.len() == NAME_BYTES_MAX {
            break;
        }
    }
    match name.trim_start_matches(['-', '_', '.']).trim_end_matches('-') {
        "" => "app".to_owned(),
        name @ ("convoy" | "zod" | "node_modules" | "favicon.ico") => format!("my-{name}"),
        name => name.to_owned(),
    }
}

/// Returns the package in the source that this program was built from: `client` beside its `target` folder.
fn client_beside(program: Option<&Path>) -> Option<PathBuf> {
    let program = program?.canonicalize().ok()?;
    let target = program.ancestors().find(|path| path.ends_with("target"))?;
    let client = target.parent()?.join("client");
    is_client(&client).then_some(client)
}

fn is_client(folder: &Path) -> bool {
    let package = fs::read(folder.join("package.json")).unwrap_or_default();
    let package: Value = serde_json::from_slice(&package).unwrap_or_default();
    package["name"] == "convoy"
}

/// Returns the names of what the package depends on, whoever wrote it.
fn dependencies(package: &Path) -> Vec<String> {
    let package: Value =
        serde_json::from_slice(&fs::read(package).unwrap_or_default()).unwrap_or_default();
    let lists =
        ["dependencies", "devDependencies"].iter().filter_map(|name| package[*name].as_object());
    lists.flat_map(Map::keys).cloned().collect()
}

/// Returns what to do next: what to type, and what that is for.
fn steps(dir: &Path, installed: &[String], client: Option<&Path>) -> Vec<(String, &'static str)> {
    let has = |name: &str| installed.iter().any(|installed| installed == name);
    let mut steps = Vec::new();
    let mut program = program();
    if dir != Path::new(".") {
        steps.push((format!("cd {}", shell_word(&dir.to_string_lossy())), ""));
        // As it was called from here; what PATH finds it finds from there too.
        if program.contains('/')
            && let Ok(absolute) = std::path::absolute(&program)
        {
            program = absolute.to_string_lossy().into_owned();
        }
    }
    let install = if has("zod") { "npm install" } else { "npm install zod" };
    steps.push((install.to_owned(), "zod, which the schema is written with"));
    if !has("convoy") {
        let (folder, what) = match client {
            Some(client) => {
                (shell_word(&client.to_string_lossy()), "the types of \"convoy\" for your editor")
            }
            None => (
                "SOURCE/client".to_owned(),
                "the types of \"convoy\" for your editor; SOURCE is where Convoy's source is",
            ),
        };
        steps.push((format!("npm install {folder}"), what));
    }
    steps.push((
        format!("{} dev", shell_word(&program)),
        "its own Postgres, and the page: it says where",
    ));
    steps
}

/// Says what became of each file, and what to do next.
fn report(dir: &Path, outcomes: &[(&str, Outcome)], steps: &[(String, &str)]) -> String {
    let line = |(path, outcome): &(&str, Outcome)| {
        let (word, why, tone) = match outcome {
            Outcome::Written => ("wrote", "", Tone::Good),
            Outcome::LeftAlone => ("left alone", "it is there", Tone::Quiet),
            Outcome::LeftOut => {
                ("left out", "it goes with our schema, and yours is there", Tone::Quiet)
            }
        };
        vec![
            (word.to_owned(), tone),
            ((*path).to_owned(), Tone::Plain),
            (why.to_owned(), Tone::Quiet),
        ]
    };
    let mut out = table(&outcomes.iter().map(line).collect::<Vec<_>>());
    let written = outcomes.iter().filter(|(_, outcome)| *outcome == Outcome::Written).count();
    let said = match written {
        0 => "nothing was written: all of it is there".to_owned(),
        1 => "1 file was written".to_owned(),
        count => format!("{count} files were written"),
    };
    let step = |(step, what): &(String, &str)| {
        vec![(format!("  {step}"), Tone::Plain), ((*what).to_owned(), Tone::Quiet)]
    };
    let steps = table(&steps.iter().map(step).collect::<Vec<_>>());
    out.push_str(&format!("\n{}: {said}. What to do next:\n{steps}", dir.display()));
    out
}

/// Quotes for a POSIX shell, where quotes are needed.
fn shell_word(text: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "-_./".contains(c);
    match !text.is_empty() && text.chars().all(plain) {
        true => text.to_owned(),
        false => format!("'{}'", text.replace('\'', r"'\''")),
    }
}

fn misused(message: String) -> ServerError {
    ServerError::Misused(message)
}

fn failed(doing: &'static str) -> impl FnOnce(io::Error) -> ServerError {
    move |source| ServerError::System { doing, source }
}

fn failed_at(doing: &'static str, path: PathBuf) -> impl FnOnce(io::Error) -> ServerError {
    move |source| ServerError::File { doing, path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_made_valid() {
        for (folder, name) in [
            ("/srv/shop", "shop"),
            ("/srv/My Shop!", "my-shop"),
            ("/srv/.hidden", "hidden"),
            ("/srv/_x.y", "x.y"),
            ("/srv/@scope", "scope"),
            ("/srv/Übung", "bung"),
            ("/srv/日本", "app"),
            ("/", "app"),
            ("/srv/convoy", "my-convoy"),
            ("/srv/Zod", "my-zod"),
            ("/srv/node_modules", "my-node_modules"),
        ] {
            assert_eq!(package_name(Path::new(folder)), name, "{folder}");
        }
        assert_eq!(package_name(&Path::new("/").join("a".repeat(250))).len(), NAME_BYTES_MAX);
    }

    #[test]
    fn the_package_depends_on_ours_only_where_it_is_known() {
        let without: Value = serde_json::from_str(&package_json("x", None)).expect("JSON");
        assert_eq!(without["name"], "x");
        assert_eq!(without["dependencies"], json!({"zod": "^4.0.0"}));
        let with = package_json("x", Some(Path::new("/srv/convoy/client")));
        let with: Value = serde_json::from_str(&with).expect("JSON");
        let wanted = json!({"convoy": "file:/srv/convoy/client", "zod": "^4.0.0"});
        assert_eq!(with["dependencies"], wanted);
    }

    #[test]
    fn every_template_is_written() {
        fn files(folder: &Path, names: &mut Vec<String>) {
            for entry in fs::read_dir(folder).expect("a folder").flatten() {
                match entry.path() {
                    path if path.is_dir() => files(&path, names),
                    path => names.push(path.display().to_string()),
                }
            }
        }
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("templates/init");
        let mut there = Vec::new();
        files(&folder, &mut there);
        let written = FRAME.iter().chain(&CHAT).map(|(path, _)| *path).chain(["package.json"]);
        let mut written: Vec<String> = written
            .map(|path| folder.join(path.trim_start_matches('.')).display().to_string())
            .collect();
        there.sort();
        written.sort();
        assert_eq!(there, written);
    }
}
