//! A folder whose files stand at `/`: an app's page, its scripts and pictures, as they lie there.
//!
//! Responsible for what a path names, and for sending it. Never sends what is not below the folder, wherever a link
//! leads, and nothing hidden (`.env`, `.git/config`). Leaves to the router that the server's own paths come first.

use crate::error::ServerError;
use axum::body::{Body, Bytes};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, ETAG, HeaderMap, IF_NONE_MATCH,
};
use axum::http::{HeaderName, StatusCode};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use std::ffi::OsStr;
use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};
use tokio::io::AsyncReadExt;
use tokio::task::spawn_blocking;
use tracing::warn;

/// What is read of a file at a time, in bytes.
const CHUNK_BYTES: u64 = 64 << 10;
/// What stands at `/`, and at a path that is the page's own to understand.
const INDEX: &str = "index.html";

/// A folder whose files stand at `/`.
#[derive(Clone, Debug)]
pub struct PublicFolder {
    path: PathBuf,
}

/// A file that was found, open.
struct Found {
    file: File,
    meta: Metadata,
    kind: &'static str,
}

impl PublicFolder {
    /// Takes a folder that is there. It is looked up at each request, so it may be a link that goes elsewhere later.
    ///
    /// # Errors
    /// [`ServerError::Misused`] where it is no folder.
    pub fn open(path: &Path) -> Result<Self, ServerError> {
        if !path.is_dir() {
            let shown = path.display();
            let message = format!("the public folder {shown} is not there: give it with --public");
            return Err(ServerError::Misused(message));
        }
        // The process' own folder may change.
        let path = std::path::absolute(path)
            .map_err(|source| ServerError::System { doing: "finding the public folder", source })?;
        Ok(PublicFolder { path })
    }

    /// Answers with the file that a URL's path names; `None` where there is none.
    pub async fn file(&self, path: &str, headers: &HeaderMap) -> Option<Response> {
        self.answer(segments(path)?, headers).await
    }

    /// Answers with the file that a URL's path names, or with the index page where the path may be one that the page
    /// makes up: its last part has no extension.
    pub async fn file_or_index(&self, path: &str, headers: &HeaderMap) -> Option<Response> {
        let segments = segments(path)?;
        let may_be_the_pages = segments.last().is_none_or(|last| !last.contains(&b'.'));
        if !segments.is_empty()
            && let Some(response) = self.answer(segments, headers).await
        {
            return Some(response);
        }
        if !may_be_the_pages {
            return None;
        }
        self.answer(vec![INDEX.into()], headers).await
    }

    async fn answer(&self, segments: Vec<Vec<u8>>, headers: &HeaderMap) -> Option<Response> {
        let root = self.path.clone();
        let found = spawn_blocking(move || find(&root, &segments)).await;
        match found.ok()? {
            Ok(found) => Some(respond(found?, headers)),
            Err(error) => {
                // The path is the client's; the log is for who runs the server.
                warn!(%error, folder = %self.path.display(), "a file of the public folder can't be read");
                None
            }
        }
    }
}

/// Takes a URL's path apart; `None` where it can't name a file of ours: hidden, above, or no path at all.
fn segments(path: &str) -> Option<Vec<Vec<u8>>> {
    let path = path.strip_prefix('/')?;
    if path.is_empty() {
        return Some(Vec::new());
    }
    // A folder's own path, `rooms/`, is that of the folder.
    let path = path.strip_suffix('/').unwrap_or(path);
    path.split('/').map(|segment| decoded(segment).filter(|name| is_plain(name))).collect()
}

/// Whether it is one visible name: `.` and `..` begin as hidden ones do.
fn is_plain(name: &[u8]) -> bool {
    !name.is_empty() && !name.starts_with(b".") && !name.iter().any(|byte| matches!(byte, 0 | b'/'))
}

/// RFC 3986, 2.1; `None` where a `%` has no two digits after it.
fn decoded(segment: &str) -> Option<Vec<u8>> {
    let mut bytes = segment.bytes();
    let mut name = Vec::with_capacity(segment.len());
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            name.push(byte);
            continue;
        }
        let mut digit = || char::from(bytes.next()?).to_digit(16);
        name.push(u8::try_from(digit()? * 16 + digit()?).ok()?);
    }
    Some(name)
}

/// Opens the file below `root`; `None` where there is none, or none to be shown.
fn find(root: &Path, segments: &[Vec<u8>]) -> io::Result<Option<Found>> {
    let there = |result: io::Result<PathBuf>| match result {
        Ok(path) => Ok(Some(path)),
        // A name that is too long is no file's, nor is one below a file.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(error),
        Err(_) => Ok(None),
    };
    let Some(root) = there(root.canonicalize())? else { return Ok(None) };
    let wanted =
        segments.iter().fold(root.clone(), |path, name| path.join(OsStr::from_bytes(name)));
    // Without links, so that what is looked at is where the file really is.
    let Some(path) = there(wanted.canonicalize())? else { return Ok(None) };
    let Ok(below) = path.strip_prefix(&root) else { return Ok(None) };
    let is_plain_name = |part| matches!(part, Component::Normal(name) if is_plain(name.as_bytes()));
    // Before it is opened: to open a pipe is to wait for its other end.
    if !below.components().all(is_plain_name) || !fs::metadata(&path)?.is_file() {
        return Ok(None);
    }
    let file = File::open(&path)?;
    let meta = file.metadata()?;
    // By the name that was asked for: a link `app.js` to `app.4f1a` is a script.
    Ok(meta.is_file().then(|| Found { kind: kind_of(&wanted), file, meta }))
}

fn respond(found: Found, headers: &HeaderMap) -> Response {
    let Found { file, meta, kind } = found;
    let tag = entity_tag(&meta);
    // Asked for each time: what is there may be another file by then.
    let common = [(ETAG, tag.clone()), (CACHE_CONTROL, "no-cache".to_owned())];
    if is_known(headers, &tag) {
        return (StatusCode::NOT_MODIFIED, common).into_response();
    }
    let length = meta.len();
    let about = [
        (CONTENT_TYPE, kind.to_owned()),
        (CONTENT_LENGTH, length.to_string()),
        (HeaderName::from_static("x-content-type-options"), "nosniff".to_owned()),
    ];
    let file = tokio::fs::File::from_std(file);
    // One chunk at a time, when the client has taken the one before.
    let chunks = stream::try_unfold((file, length), async |(mut file, left)| {
        if left == 0 {
            return Ok(None);
        }
        let mut chunk = vec![0; usize::try_from(left.min(CHUNK_BYTES)).unwrap_or(0)];
        let read = file.read(&mut chunk).await?;
        if read == 0 {
            // It is shorter by now: the client must not take this for the whole.
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
        }
        chunk.truncate(read);
        Ok(Some((Bytes::from(chunk), (file, left - read as u64))))
    });
    (common, about, Body::from_stream(chunks)).into_response()
}

/// Says whether a file is the one that the browser has: which file, how long, and when it was last written.
fn entity_tag(meta: &Metadata) -> String {
    let (seconds, nanoseconds) = (meta.mtime(), meta.mtime_nsec());
    format!("W/\"{:x}-{:x}-{seconds:x}.{nanoseconds:x}\"", meta.ino(), meta.len())
}

/// RFC 9110, 13.1.2: a list of tags, compared weakly.
fn is_known(headers: &HeaderMap, tag: &str) -> bool {
    let weak = |tag: &str| tag.trim().trim_start_matches("W/").to_owned();
    let known = headers.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    known
        .flat_map(|list| list.split(','))
        .any(|known| known.trim() == "*" || weak(known) == weak(tag))
}

/// Returns the content type of a file with this name.
fn kind_of(path: &Path) -> &'static str {
    let extension = path.extension().unwrap_or_default().to_ascii_lowercase();
    match extension.to_str().unwrap_or_default() {
        "html" | "htm" => "text/html; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "json" | "map" => "application/json",
        "webmanifest" => "application/manifest+json",
        "txt" => "text/plain; charset=utf-8",
        "md" => "text/markdown; charset=utf-8",
        "csv" => "text/csv; charset=utf-8",
        "xml" => "text/xml; charset=utf-8",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "gif" => "image/gif",
        "webp" => "image/webp",
        "avif" => "image/avif",
        "ico" => "image/x-icon",
        "woff2" => "font/woff2",
        "woff" => "font/woff",
        "ttf" => "font/ttf",
        "otf" => "font/otf",
        "wasm" => "application/wasm",
        "pdf" => "application/pdf",
        "mp3" => "audio/mpeg",
        "ogg" => "audio/ogg",
        "wav" => "audio/wav",
        "mp4" => "video/mp4",
        "webm" => "video/webm",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_come_apart_into_plain_names() {
        let names = |path| segments(path).map(|names| names.concat());
        assert_eq!(segments("/"), Some(Vec::new()));
        assert_eq!(segments("/a/b%20c.js"), Some(vec![b"a".to_vec(), b"b c.js".to_vec()]));
        assert_eq!(names("/%C3%BC"), Some("ü".into()));
        assert_eq!(names("/rooms/"), Some(b"rooms".to_vec()));
        for path in [
            "",
            "a",
            "//a",
            "/a//b",
            "/..",
            "/a/../b",
            "/%2e%2e/a",
            "/.env",
            "/a/.git/config",
            "/%2Eenv",
            "/a%2fb",
            "/a%00",
            "/%",
            "/%4",
            "/%zz",
            "/./a",
        ] {
            assert_eq!(segments(path), None, "{path}");
        }
    }

    #[test]
    fn tags_are_compared_weakly_and_one_of_a_list_will_do() {
        let check = |value: &'static str, tag| {
            let headers = [(IF_NONE_MATCH, value.parse().expect("a header"))].into_iter().collect();
            is_known(&headers, tag)
        };
        assert!(check("W/\"1-2\"", "W/\"1-2\""));
        assert!(check("\"x\", \"1-2\"", "W/\"1-2\""));
        assert!(check("*", "W/\"1-2\""));
        assert!(!check("\"1-3\"", "W/\"1-2\"") && !check("", "W/\"1-2\""));
        assert!(!is_known(&HeaderMap::new(), "W/\"1-2\""));
    }
}
