//! The files of a folder at `/`.

use crate::cli::check;
use crate::client::ask;
use crate::support::Fixture;
use axum::http::HeaderMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

fn header<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// A folder with files to show, in one with files that are not.
fn folder() -> tempfile::TempDir {
    let temp = tempfile::tempdir().expect("a folder");
    let files = [
        ("secret.txt", "secret"),
        ("public/index.html", "<h1>index</h1>"),
        ("public/app.js", "let a = 'ü';"),
        ("public/STYLE.CSS", "a {}"),
        ("public/no-extension", "plain"),
        ("public/docs/a page.html", "<h1>docs</h1>"),
        ("public/.env", "secret"),
        ("public/.git/config", "secret"),
        ("public/assets/bundle.js", "bundled"),
        ("public/assets/convoy.css", "theirs"),
        ("public/api/status", "theirs"),
        ("public/healthz", "theirs"),
        ("public/metrics", "theirs"),
    ];
    for (path, text) in files {
        let path = temp.path().join(path);
        fs::create_dir_all(path.parent().expect("a parent")).expect("folders");
        fs::write(path, text).expect("a file");
    }
    let public = temp.path().join("public");
    symlink("../secret.txt", public.join("out.txt")).expect("a link");
    symlink("..", public.join("up")).expect("a link");
    symlink(".env", public.join("env.txt")).expect("a link");
    symlink("app.js", public.join("same.js")).expect("a link");
    temp
}

async fn start(temp: &Path, name: &str) -> Fixture {
    let public = temp.join("public");
    Fixture::start(name, &["--public", public.to_str().expect("UTF-8")]).await
}

#[tokio::test]
async fn files_are_served_with_their_types() {
    let temp = folder();
    let fixture = start(temp.path(), "public_types").await;
    let check = async |path: &str, kind: &str, body: &str| {
        let answer = ask(fixture.address, "GET", path, &[], "").await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
        assert_eq!(header(&answer.headers, "content-type"), kind, "{path}");
        assert_eq!(answer.body, body, "{path}");
        assert_eq!(header(&answer.headers, "content-length"), body.len().to_string(), "{path}");
        assert_eq!(header(&answer.headers, "cache-control"), "no-cache", "{path}");
        assert_eq!(header(&answer.headers, "x-content-type-options"), "nosniff", "{path}");
    };
    let html = "text/html; charset=utf-8";
    check("/", html, "<h1>index</h1>").await;
    check("/?a=b", html, "<h1>index</h1>").await;
    check("/index.html", html, "<h1>index</h1>").await;
    check("/app.js", "text/javascript; charset=utf-8", "let a = 'ü';").await;
    check("/same.js?v=1", "text/javascript; charset=utf-8", "let a = 'ü';").await;
    check("/STYLE.CSS", "text/css; charset=utf-8", "a {}").await;
    check("/no-extension", "application/octet-stream", "plain").await;
    check("/docs/a%20page.html", html, "<h1>docs</h1>").await;
    // Paths that the page makes up.
    for path in ["/rooms", "/rooms/7", "/rooms/", "/docs", "/docs/", "/apiary"] {
        check(path, html, "<h1>index</h1>").await;
    }
    let head = ask(fixture.address, "HEAD", "/app.js", &[], "").await;
    assert_eq!((head.status.as_u16(), head.body.as_str()), (200, ""));
    assert_eq!(header(&head.headers, "content-length"), "13");
    fixture.server.stop().await;
}

#[tokio::test]
async fn what_is_not_in_the_folder_is_not_shown() {
    let temp = folder();
    let fixture = start(temp.path(), "public_not").await;
    for path in [
        "/missing.js",
        "/docs/missing.html",
        "/../secret.txt",
        "/docs/../../secret.txt",
        "/%2e%2e/secret.txt",
        "/..%2fsecret.txt",
        "/docs/%2e%2e/%2e%2e/secret.txt",
        "//secret.txt",
        "/.env",
        "/%2Eenv",
        "/.git/config",
        "/out.txt",
        "/up/secret.txt",
        "/env.txt",
        "/app.js/x.js",
        "/app.js%00.html",
        "/%zz.js",
        "/assets/missing.js",
        "/assets/../.env",
    ] {
        let answer = ask(fixture.address, "GET", path, &[], "").await;
        assert_eq!(answer.status, 404, "{path}: {}", answer.body);
        assert_eq!(answer.code(), "NOT_FOUND", "{path}");
    }
    let long = format!("/{}.js", "a".repeat(5000));
    assert_eq!(ask(fixture.address, "GET", &long, &[], "").await.status, 404);
    assert_eq!(ask(fixture.address, "POST", "/app.js", &[], "").await.status, 404);
    fixture.server.stop().await;
}

#[tokio::test]
async fn the_servers_own_paths_and_its_guard_come_first() {
    let temp = folder();
    let fixture = start(temp.path(), "public_own").await;
    let get = async |path: &str| ask(fixture.address, "GET", path, &[], "").await;
    assert!(get("/api/status").await.json().is_object());
    for path in ["/api", "/api/", "/api/nothing", "/api/query", "/api/status/x"] {
        assert_eq!(get(path).await.status, 404, "{path}");
    }
    for path in ["/healthz", "/metrics", "/assets/convoy.css"] {
        let answer = get(path).await;
        assert_eq!(answer.status, 200, "{path}");
        assert_ne!(answer.body, "theirs", "{path}");
    }
    assert_eq!(get("/assets/bundle.js").await.body, "bundled");
    assert_eq!(header(&get("/favicon.ico").await.headers, "content-type"), "image/svg+xml");
    fs::write(temp.path().join("public/favicon.ico"), "theirs").expect("written");
    assert_eq!(get("/favicon.ico").await.body, "theirs");

    for headers in [("host", "evil.example"), ("origin", "https://evil.example")] {
        let answer = ask(fixture.address, "GET", "/app.js", &[headers], "").await;
        assert_eq!(answer.status, 403, "{headers:?}");
    }
    // Without an index the status page is there again, and made-up paths are nothing.
    fs::remove_file(temp.path().join("public/index.html")).expect("removed");
    assert!(get("/").await.body.contains("status.js"));
    assert_eq!(get("/rooms").await.status, 404);
    fixture.server.stop().await;
}

#[tokio::test]
async fn a_file_that_is_known_is_not_sent_again_and_a_large_one_comes_whole() {
    let temp = folder();
    let fixture = start(temp.path(), "public_tags").await;
    let get = async |tag: &str| {
        ask(fixture.address, "GET", "/app.js", &[("if-none-match", tag)], "").await
    };
    let first = get("\"none\"").await;
    let tag = header(&first.headers, "etag").to_owned();
    let again = get(&tag).await;
    assert_eq!((again.status.as_u16(), again.body.as_str()), (304, ""));
    assert_eq!(header(&again.headers, "etag"), tag);
    assert_eq!(header(&again.headers, "cache-control"), "no-cache");
    fs::write(temp.path().join("public/app.js"), "let b = 12345;").expect("written");
    let changed = get(&tag).await;
    assert_eq!((changed.status.as_u16(), changed.body.as_str()), (200, "let b = 12345;"));

    let large: String = (0..400_000).map(|n| format!("{n:06}\n")).collect();
    fs::write(temp.path().join("public/large.txt"), &large).expect("written");
    let answer = ask(fixture.address, "GET", "/large.txt", &[], "").await;
    assert!(answer.body == large, "{} bytes", answer.body.len());
    fs::write(temp.path().join("public/empty.txt"), "").expect("written");
    let empty = ask(fixture.address, "GET", "/empty.txt", &[], "").await;
    assert_eq!((empty.status.as_u16(), empty.body.as_str()), (200, ""));
    fixture.server.stop().await;
}

#[test]
fn a_public_folder_that_is_not_there_is_misuse() {
    let url = "postgres://nobody@127.0.0.1:1/none";
    check(&["serve", "--database-url", url, "--public", "/nowhere"], &[], 2, "--public");
}
