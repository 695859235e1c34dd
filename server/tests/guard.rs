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
    // What a browser sends without asking first, with whatever cookies it has.
    let other = ("origin", "https://app.example");
    for (kind, status) in [
        (None, 403),
        (Some("text/plain"), 403),
        (Some("application/x-www-form-urlencoded"), 403),
        (Some("application/json; charset=utf-8"), 404),
    ] {
        let kind = kind.map(|kind| ("content-type", kind));
        let mut headers: Vec<_> = kind.into_iter().collect();
        let path = "/api/mutation/none";
        assert_ne!(ask(at, "POST", path, &headers, "{}").await.status, 403, "{kind:?}");
        headers.push(other);
        assert_eq!(ask(at, "POST", path, &headers, "{}").await.status, status, "{kind:?}");
    }
    fixture.server.stop().await;
}
