//! One GET of a small document: over TLS, or in the clear on loopback; bounded in bytes and time; no redirects.

use super::error::OptionsError;
use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::header::{ACCEPT, HOST, USER_AGENT};
use hyper::{Request, Uri};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// Where to ask.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct FetchUrl {
    uri: Uri,
    host: String,
    port: u16,
    is_encrypted: bool,
}

/// How much an answer may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct FetchLimits {
    pub timeout: Duration,
    pub body_bytes_max: usize,
}

impl FetchUrl {
    /// Reads a URL.
    pub fn parse(text: &str) -> Result<FetchUrl, OptionsError> {
        let refused = || OptionsError::Url { url: without_user(text) };
        let uri: Uri = text.parse().map_err(|_| refused())?;
        let authority = uri.authority().ok_or_else(refused)?;
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let is_loopback = host.eq_ignore_ascii_case("localhost")
            || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
        let is_encrypted = match uri.scheme_str() {
            Some("https") => true,
            Some("http") if is_loopback => false,
            _ => return Err(refused()),
        };
        if host.is_empty() || authority.as_str().contains('@') {
            return Err(refused());
        }
        let port = authority.port_u16().unwrap_or(if is_encrypted { 443 } else { 80 });
        Ok(FetchUrl { host, port, is_encrypted, uri })
    }

    /// Returns the URL.
    pub fn as_uri(&self) -> &Uri {
        &self.uri
    }

    /// Asks. `roots` are the authorities that are believed; none: this system's.
    pub async fn get(
        &self,
        limits: FetchLimits,
        roots: Option<&RootCertStore>,
    ) -> Result<Bytes, String> {
        match timeout(limits.timeout, self.ask(limits, roots)).await {
            Ok(answer) => answer,
            Err(_) => Err(format!("there was no answer within {:?}", limits.timeout)),
        }
    }

    async fn ask(
        &self,
        limits: FetchLimits,
        roots: Option<&RootCertStore>,
    ) -> Result<Bytes, String> {
        let stream = TcpStream::connect((self.host.as_str(), self.port))
            .await
            .map_err(|error| format!("no connection: {error}"))?;
        if !self.is_encrypted {
            return self.ask_over(stream, limits).await;
        }
        let roots = match roots {
            Some(roots) => roots.clone(),
            None => convoy_postgres::system_roots().map_err(|error| error.to_string())?,
        };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from(self.host.clone()).map_err(|error| error.to_string())?;
        let encrypted = TlsConnector::from(Arc::new(config))
            .connect(name, stream)
            .await
            .map_err(|error| format!("no encrypted connection: {error}"))?;
        self.ask_over(encrypted, limits).await
    }

    async fn ask_over<S>(&self, stream: S, limits: FetchLimits) -> Result<Bytes, String>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let broken = |error: hyper::Error| format!("the connection broke: {error}");
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
        // Ends with this, however that ends.
        let mut driver = JoinSet::new();
        driver.spawn(connection);
        let path = self.uri.path_and_query().map_or("/", |path| path.as_str());
        let authority = self.uri.authority().map_or("", |authority| authority.as_str());
        let request = Request::get(path)
            .header(HOST, authority)
            .header(ACCEPT, "application/json")
            .header(USER_AGENT, concat!("convoy/", env!("CARGO_PKG_VERSION")))
            .body(Empty::<Bytes>::new())
            .map_err(|error| error.to_string())?;
        let response = sender.send_request(request).await.map_err(broken)?;
        if response.status() != 200 {
            let hint = match response.status().is_redirection() {
                true => " (redirects are not followed: give the URL that it leads to)",
                false => "",
            };
            return Err(format!("the answer was {}{hint}", response.status()));
        }
        let body = Limited::new(response.into_body(), limits.body_bytes_max).collect().await;
        let body = body.map_err(|error| {
            format!("the answer broke off or has over {} bytes: {error}", limits.body_bytes_max)
        })?;
        Ok(body.to_bytes())
    }
}

/// Returns a URL for people to read, without what may be a password.
fn without_user(url: &str) -> String {
    let shown = match (url.find("://"), url.find('@')) {
        (Some(scheme), Some(at)) if scheme < at => {
            format!("{}…{}", &url[..scheme + 3], &url[at..])
        }
        _ => url.to_owned(),
    };
    shown.chars().take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_encrypted_or_stay_here() {
        for good in [
            "https://login.example/.well-known/jwks.json",
            "https://login.example:8443",
            "http://127.0.0.1:4000/keys",
            "http://[::1]:4000/keys",
            "http://localhost/keys?a=b",
        ] {
            assert!(FetchUrl::parse(good).is_ok(), "{good}");
        }
        for wrong in [
            "http://login.example/keys",
            "http://127.0.0.1.example/keys",
            "http://localhost@evil.example/keys",
            "https://user:secret@login.example/keys",
            "ftp://127.0.0.1/keys",
            "/keys",
            "",
        ] {
            let error = FetchUrl::parse(wrong).expect_err(wrong);
            assert!(!error.to_string().contains("secret"), "{error}");
        }
    }
}
