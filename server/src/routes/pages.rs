//! The pages, which are in the binary: no build step, no folder to ship, no request to anybody else.

use crate::app::{App, FrontPage};
use crate::routes;
use axum::extract::{Path, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, HeaderMap, IF_NONE_MATCH};
use axum::http::{HeaderName, StatusCode, Uri};
use axum::response::{IntoResponse, Response};

const HTML: &str = "text/html; charset=utf-8";
const JS: &str = "text/javascript; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SVG: &str = "image/svg+xml";

/// Everything from ourselves, nothing in line but styles that scripts set on elements.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; \
                      connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

struct Asset {
    name: &'static str,
    kind: &'static str,
    bytes: &'static [u8],
}

macro_rules! assets {
    ($($name:literal: $kind:expr),+ $(,)?) => {
        &[$(Asset { name: $name, kind: $kind, bytes: include_bytes!(concat!("../../assets/", $name)) }),+]
    };
}

static ASSETS: &[Asset] = assets! {
    "convoy.css": CSS,
    "convoy.js": JS,
    "demo.html": HTML,
    "demo.js": JS,
    "diff.js": JS,
    "figure.js": JS,
    "format.js": JS,
    "frame.js": JS,
    "histogram.js": JS,
    "icon.svg": SVG,
    "latency.js": JS,
    "line.js": JS,
    "panels.js": JS,
    "sse.js": JS,
    "status.html": HTML,
    "status.js": JS,
    "svg.js": JS,
    "sync.js": JS,
    "table.js": JS,
    "theme.js": JS,
    "views.js": JS,
};

/// `/`
pub(super) async fn front(State(app): State<App>, headers: HeaderMap) -> Response {
    let name = match &app.front_page {
        FrontPage::Public(folder) => match folder.file_or_index("/", &headers).await {
            Some(response) => return response,
            None => "status.html",
        },
        FrontPage::Status => "status.html",
        FrontPage::Demo => "demo.html",
    };
    serve(name, &headers).unwrap_or_else(|| StatusCode::NOT_FOUND.into_response())
}

/// `/assets/…`: ours, and beside them those of the public folder, which has them there by the custom of bundlers.
pub(super) async fn asset(
    State(app): State<App>,
    Path(path): Path<String>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    if let Some(response) = serve(&path, &headers) {
        return response;
    }
    if let FrontPage::Public(folder) = &app.front_page
        && let Some(response) = folder.file(uri.path(), &headers).await
    {
        return response;
    }
    routes::not_found(uri, headers).await
}

/// What browsers ask for unasked: the public folder's, or ours.
pub(super) async fn icon(State(app): State<App>, headers: HeaderMap) -> Response {
    if let FrontPage::Public(folder) = &app.front_page
        && let Some(response) = folder.file("/favicon.ico", &headers).await
    {
        return response;
    }
    serve("icon.svg", &headers).unwrap_or_else(|| StatusCode::NOT_FOUND.into_response())
}

fn serve(name: &str, headers: &HeaderMap) -> Option<Response> {
    let asset = ASSETS.iter().find(|asset| asset.name == name)?;
    let tag = entity_tag(asset.bytes);
    // Asked for each time, since another version of the binary has other pages.
    let common = [(ETAG, tag.clone()), (CACHE_CONTROL, "no-cache".to_owned())];
    if headers.get(IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == tag.as_bytes()) {
        return Some((StatusCode::NOT_MODIFIED, common).into_response());
    }
    let safety = [
        (CONTENT_TYPE, asset.kind),
        (HeaderName::from_static("content-security-policy"), POLICY),
        (HeaderName::from_static("x-content-type-options"), "nosniff"),
        (HeaderName::from_static("referrer-policy"), "no-referrer"),
    ];
    Some((common, safety, asset.bytes).into_response())
}

/// FNV-1a, 64 bits: says whether a page is the one that the browser has.
fn entity_tag(bytes: &[u8]) -> String {
    let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("\"{hash:016x}\"")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_page_is_in_the_binary() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("assets");
        let files: BTreeSet<String> = std::fs::read_dir(folder)
            .expect("the folder of the pages")
            .map(|entry| entry.expect("an entry").path())
            .filter(|path| path.extension().is_some_and(|kind| kind != "json"))
            .map(|path| path.file_name().expect("a name").to_string_lossy().into_owned())
            .collect();
        assert_eq!(files, ASSETS.iter().map(|asset| asset.name.to_owned()).collect());
    }

    #[test]
    fn pages_ask_nobody_else() {
        for asset in ASSETS.iter().filter(|asset| asset.kind != SVG) {
            let text = String::from_utf8_lossy(asset.bytes);
            for pattern in [
                "src=\"http",
                "href=\"http",
                "url(http",
                "import(\"http",
                "from \"http",
                "src=\"//",
            ] {
                assert!(!text.contains(pattern), "{} has {pattern}", asset.name);
            }
        }
    }

    #[test]
    fn a_page_that_is_known_is_not_sent_again() {
        let first = serve("sync.js", &HeaderMap::new()).expect("a page");
        let tag = first.headers()[ETAG].clone();
        let again =
            serve("sync.js", &[(IF_NONE_MATCH, tag)].into_iter().collect()).expect("a page");
        assert_eq!(again.status(), StatusCode::NOT_MODIFIED);
        assert!(serve("../Cargo.toml", &HeaderMap::new()).is_none());
    }
}
