//! Who may call: the `Host` and `Origin` checks, which keep other sites' pages and DNS rebinding out, and CORS for the
//! origins that are allowed.

use crate::app::App;
use crate::protocol::{ApiError, Code};
use crate::reply::Refusal;
use axum::extract::{Request, State};
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS,
    ACCESS_CONTROL_REQUEST_METHOD, AUTHORIZATION, CONTENT_TYPE, COOKIE, HOST, HeaderMap,
    HeaderValue, ORIGIN, VARY,
};
use axum::http::{Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::net::IpAddr;

/// Who may call.
#[derive(Clone, Debug, Default)]
pub struct Guard {
    /// Hosts beside loopback, without ports.
    pub hosts: Vec<String>,
    /// Origins beside the same one.
    pub origins: Vec<String>,
    /// Whether pages from any loopback origin may call: in development.
    pub loopback_origins: bool,
}

impl Guard {
    /// Looks at a `Host`.
    fn check_host(&self, host: Option<&str>) -> Result<(), ApiError> {
        let Some(host) = host else {
            return Err(ApiError::new(Code::Forbidden, "the request has no Host header"));
        };
        let name = host_name(host);
        if is_loopback(name)
            || self.hosts.iter().any(|allowed| host_name(allowed).eq_ignore_ascii_case(name))
        {
            return Ok(());
        }
        let shown: String = name.chars().take(100).collect();
        Err(ApiError::new(
            Code::Forbidden,
            format!(
                "host {shown:?} is not served here: start the server with --allow-host {shown} to allow it"
            ),
        ))
    }

    /// Looks at an `Origin`; says whether it is another one than the host's own, and how far it is trusted.
    fn check_origin(&self, origin: &str, host: Option<&str>) -> Result<OriginKind, ApiError> {
        let origin = origin.trim_end_matches('/');
        let (scheme, authority) = origin.split_once("://").unwrap_or(("", origin));
        let port = match scheme {
            "http" => ":80",
            "https" => ":443",
            _ => "",
        };
        let plain = |authority: &str| {
            authority.strip_suffix(port).unwrap_or(authority).to_ascii_lowercase()
        };
        if !port.is_empty() && host.is_some_and(|host| plain(host) == plain(authority)) {
            return Ok(OriginKind::Same);
        }
        let is_listed = self
            .origins
            .iter()
            .any(|allowed| allowed.trim_end_matches('/').eq_ignore_ascii_case(origin));
        if is_listed
            || (self.loopback_origins && !port.is_empty() && is_loopback(host_name(authority)))
        {
            return Ok(OriginKind::Listed);
        }
        if self.origins.iter().any(|allowed| allowed == "*") {
            return Ok(OriginKind::Any);
        }
        let shown: String = origin.chars().take(200).collect();
        Err(ApiError::new(
            Code::Forbidden,
            format!(
                "pages of {shown:?} may not call: start the server with --allow-origin {shown} to allow it"
            ),
        ))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OriginKind {
    Same,
    /// Another one, whose pages the operator trusts.
    Listed,
    /// Another one, which `*` lets in: anybody's.
    Any,
}

/// Returns a host without its port.
fn host_name(host: &str) -> &str {
    if let Some(rest) = host.strip_prefix('[') {
        return rest.split(']').next().unwrap_or(rest);
    }
    match host.rsplit_once(':') {
        // Two colons without brackets: an IPv6 address as it is.
        Some((name, _)) if !name.contains(':') => name,
        _ => host,
    }
}

fn is_loopback(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    name == "localhost"
        || name.ends_with(".localhost")
        || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Lets a request through, or answers it.
pub(crate) async fn check(State(app): State<App>, request: Request, next: Next) -> Response {
    let headers = request.headers();
    let host = request.uri().authority().map(|authority| authority.as_str().to_owned());
    let host = host.or_else(|| text(headers, HOST));
    if let Err(error) = app.guard.check_host(host.as_deref()) {
        return Refusal::new(error, headers).into_response();
    }
    let Some(origin) = headers.get(ORIGIN).cloned() else {
        return match is_embedded_elsewhere(&request) {
            false => next.run(request).await,
            true => {
                let message =
                    "another site's page may not ask this without saying which it is (Origin)";
                Refusal::new(ApiError::new(Code::Forbidden, message), headers).into_response()
            }
        };
    };
    let checked = match origin.to_str() {
        Ok(origin) => app.guard.check_origin(origin, host.as_deref()),
        Err(_) => Err(ApiError::new(Code::Forbidden, "the Origin header is no text")),
    };
    match checked {
        Err(error) => Refusal::new(error, headers).into_response(),
        Ok(OriginKind::Same) => next.run(request).await,
        Ok(kind) => {
            let is_preflight = request.method() == Method::OPTIONS
                && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD);
            let mut response = if is_preflight {
                preflight(headers)
            } else if kind == OriginKind::Any && acts_for_its_visitor(&request) {
                let message = "a page of an origin that only --allow-origin '*' lets in may not use cookies: list it, or \
                               send content-type: application/json and a token";
                Refusal::new(ApiError::new(Code::Forbidden, message), headers).into_response()
            } else {
                next.run(request).await
            };
            response.headers_mut().insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            // A page sees no header that is not named, and has to know what it may ask again.
            let exposed = HeaderValue::from_static("retry-after");
            response.headers_mut().insert(ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
            response.headers_mut().append(VARY, HeaderValue::from_static("origin"));
            response
        }
    }
}

/// Returns whether a page makes a change as whoever looks at it, who need not know: what a form can send a browser sends
/// without asking first, with the cookies or the password that it has for this host. JSON it asks for.
fn acts_for_its_visitor(request: &Request) -> bool {
    let headers = request.headers();
    let is_json = text(headers, CONTENT_TYPE).is_some_and(|kind| {
        let kind = kind.split(';').next().unwrap_or_default().trim();
        kind.eq_ignore_ascii_case("application/json")
    });
    let has_password = text(headers, AUTHORIZATION)
        .is_some_and(|value| value.to_ascii_lowercase().starts_with("basic "));
    request.method() == Method::POST && !is_json && (headers.contains_key(COOKIE) || has_password)
}

/// Returns whether a request comes from within another site's page, as a script or an image would, and names no origin: then
/// nobody can say whether that page may ask. Who follows a link is not within it. (Fetch Metadata, section 2; browsers name
/// the origin of whatever is no GET or HEAD.)
fn is_embedded_elsewhere(request: &Request) -> bool {
    let is = |name: &str, value: &str| {
        request.headers().get(name).is_some_and(|given| given.as_bytes() == value.as_bytes())
    };
    let only_gets = matches!(*request.method(), Method::GET | Method::HEAD);
    let is_page = only_gets && (is("sec-fetch-mode", "navigate") || !is_api(request.uri().path()));
    is("sec-fetch-site", "cross-site") && !is_page
}

fn is_api(path: &str) -> bool {
    path == "/api" || path.starts_with("/api/")
}

/// Answers what a browser asks before it lets a page of another origin call.
fn preflight(headers: &HeaderMap) -> Response {
    const KNOWN: [&str; 3] = ["authorization", "content-type", "last-event-id"];
    let asked =
        text(headers, ACCESS_CONTROL_REQUEST_HEADERS).unwrap_or_default().to_ascii_lowercase();
    let is_allowed = |name: &&str| KNOWN.contains(name) || name.starts_with("x-convoy-");
    let mut allowed: Vec<&str> = KNOWN.to_vec();
    for name in asked.split(',').map(str::trim).filter(is_allowed) {
        if !allowed.contains(&name) {
            allowed.push(name);
        }
    }
    let mut response = StatusCode::NO_CONTENT.into_response();
    let answer = response.headers_mut();
    answer.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, POST"));
    if let Ok(allowed) = HeaderValue::from_str(&allowed.join(", ")) {
        answer.insert(ACCESS_CONTROL_ALLOW_HEADERS, allowed);
    }
    answer.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
    response
}

fn text(headers: &HeaderMap, name: axum::http::HeaderName) -> Option<String> {
    headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_loopback_or_listed() {
        let guard = Guard { hosts: vec!["App.example:443".into()], ..Guard::default() };
        for host in [
            "localhost",
            "localhost:4500",
            "LOCALHOST.",
            "a.localhost",
            "127.0.0.1:1",
            "127.9.9.9",
            "[::1]:4500",
            "app.example",
            "APP.example:8443",
        ] {
            assert!(guard.check_host(Some(host)).is_ok(), "{host}");
        }
        for host in [
            "example.com",
            "127.0.0.1.example.com",
            "localhost.evil",
            "0.0.0.0",
            "[::2]",
            "",
            "xapp.example",
        ] {
            let error = guard.check_host(Some(host)).expect_err(host);
            assert_eq!(error.code, Code::Forbidden);
            assert!(error.message.contains("--allow-host"));
        }
        assert!(guard.check_host(None).is_err());
    }

    #[test]
    fn origins_are_the_same_or_listed() {
        let guard = Guard { origins: vec!["https://app.example".into()], ..Guard::default() };
        let check = |origin, host| guard.check_origin(origin, Some(host)).ok();
        assert_eq!(check("http://localhost:4500", "localhost:4500"), Some(OriginKind::Same));
        assert_eq!(check("https://x.example", "x.example"), Some(OriginKind::Same));
        assert_eq!(check("https://x.example", "x.example:443"), Some(OriginKind::Same));
        assert_eq!(check("https://app.example", "localhost"), Some(OriginKind::Listed));
        for origin in [
            "null",
            "http://app.example",
            "https://app.example.evil",
            "http://localhost:3000",
            "localhost:4500",
            "",
        ] {
            assert_eq!(check(origin, "localhost:4500"), None, "{origin}");
        }
        let dev = Guard { loopback_origins: true, ..Guard::default() };
        assert_eq!(
            dev.check_origin("http://127.0.0.1:3000", Some("localhost")).ok(),
            Some(OriginKind::Listed)
        );
        let any =
            Guard { origins: vec!["*".into(), "https://app.example".into()], ..Guard::default() };
        let kind = |origin| any.check_origin(origin, Some("localhost")).ok();
        assert_eq!(kind("https://app.example"), Some(OriginKind::Listed));
        assert_eq!(kind("https://x.example"), Some(OriginKind::Any));
        assert!(dev.check_origin("null", Some("localhost")).is_err());
    }
}
