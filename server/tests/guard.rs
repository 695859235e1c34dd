//! Who may call.

use crate::client::ask;
use crate::support::Fixture;

#[tokio::test]
async fn other_hosts_and_origins_are_refused() {
    let flags = ["--allow-host", "app.example", "--allow-origin", "https://app.example"];
    let fixture = Fixture::start("guard", &flags).await;
    let at = fixture.address;
    let check = async |method: &str, headers: &[(&str, &str)], status: u16| {
        let answer = ask(at, method, "/api/queries", headers, "").await;
        assert_eq!(answer.status, status, "{headers:?}: {}", answer.body);
        answer
    };
    let refused = check("GET", &[("host", "evil.example")], 403).await;
    assert_eq!(refused.code(), "FORBIDDEN");
    assert!(refused.body.contains("--allow-host"));
    check("GET", &[("host", "app.example:8080")], 200).await;
    check("GET", &[("origin", "https://evil.example")], 403).await;
    check("GET", &[("origin", "null")], 403).await;
    let own = format!("http://{at}");
    check("GET", &[("origin", &own)], 200).await;
    let allowed = check("GET", &[("origin", "https://app.example")], 200).await;
    assert_eq!(allowed.headers["access-control-allow-origin"], "https://app.example");
    let asked = [
        ("origin", "https://app.example"),
        ("access-control-request-method", "POST"),
        ("access-control-request-headers", "content-type,x-convoy-session,x-other"),
    ];
    let preflight = check("OPTIONS", &asked, 204).await;
    let headers =
        preflight.headers["access-control-allow-headers"].to_str().expect("text").to_owned();
    assert!(headers.contains("authorization") && headers.contains("last-event-id"), "{headers}");
    assert!(headers.contains("x-convoy-session") && !headers.contains("x-other"), "{headers}");
    // An origin that is listed is trusted, whatever it sends; any other is refused, whatever it sends.
    for kind in ["text/plain", "application/x-www-form-urlencoded", "application/json"] {
        for (origin, status) in [("https://app.example", 404), ("https://evil.example", 403)] {
            let headers = [("content-type", kind), ("origin", origin), ("cookie", "a=b")];
            let answer = ask(at, "POST", "/api/mutation/none", &headers, "{}").await;
            assert_eq!(answer.status, status, "{kind} {origin}");
        }
    }
    // Within another site's page, which does not say which it is.
    let elsewhere = ("sec-fetch-site", "cross-site");
    for (method, path, more, status) in [
        ("POST", "/api/mutation/none", None, 403),
        ("POST", "/api/mutation/none", Some(("sec-fetch-mode", "navigate")), 403),
        ("GET", "/api/queries", Some(("sec-fetch-mode", "no-cors")), 403),
        ("GET", "/api/queries", Some(("sec-fetch-mode", "navigate")), 200),
        ("GET", "/", Some(("sec-fetch-mode", "no-cors")), 200),
    ] {
        let headers: Vec<_> = more.into_iter().chain([elsewhere]).collect();
        let answer = ask(at, method, path, &headers, "{}").await;
        assert_eq!(answer.status, status, "{method} {path} {more:?}");
    }
    let headers = [("sec-fetch-site", "same-origin")];
    assert_ne!(ask(at, "POST", "/api/mutation/none", &headers, "{}").await.status, 403);
    fixture.server.stop().await;
}

/// Everybody may call, but nobody as whoever happens to look at his page.
#[tokio::test]
async fn where_any_origin_may_call_none_uses_cookies_unasked() {
    let fixture = Fixture::start("guard_any", &["--allow-origin", "*"]).await;
    let at = fixture.address;
    let origin = ("origin", "https://x.example");
    for (headers, status) in [
        (vec![], 404),
        (vec![("content-type", "text/plain")], 404),
        (vec![("cookie", "a=b")], 403),
        (vec![("authorization", "Basic YTpi")], 403),
        (vec![("cookie", "a=b"), ("content-type", "text/plain")], 403),
        (vec![("cookie", "a=b"), ("content-type", "application/json; charset=utf-8")], 404),
        (vec![("authorization", "Bearer x")], 404),
    ] {
        let all: Vec<_> = headers.iter().copied().chain([origin]).collect();
        let answer = ask(at, "POST", "/api/mutation/none", &all, "{}").await;
        assert_eq!(answer.status, status, "{headers:?}: {}", answer.body);
        assert_eq!(answer.headers["access-control-expose-headers"], "retry-after");
    }
    fixture.server.stop().await;
}
