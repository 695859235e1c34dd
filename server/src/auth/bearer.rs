//! Callers who show a token: `Authorization: Bearer …`, as the `--jwt-…` flags say that it is to be verified.

use super::error::OptionsError;
use super::host::read_algorithms;
use super::identity::{Caller, Identify, Identity, RequestHead};
use super::jwt::{KeySource, Verifier, VerifyOptions};
use crate::config::switch;
use crate::error::ServerError;
use crate::protocol::{ApiError, Code};
use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use clap::Args;
use futures_util::future::BoxFuture;
use serde_json::Value;
use std::convert::Infallible;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use tracing::{info, warn};

/// The largest file with a key in it, in bytes.
const KEY_FILE_BYTES_MAX: u64 = 64 << 10;
/// What a token says of itself and not of whom it is for (RFC 7519, 4.1.4 to 4.1.7). A new token for the same caller is
/// the same identity, so that its session can be resumed and its live queries are shared.
const OF_THE_TOKEN: [&str; 4] = ["exp", "nbf", "iat", "jti"];

/// How callers are identified, as flags.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Callers")]
pub struct JwtArgs {
    /// The secret that tokens are signed with (HS256); whoever may list processes sees a flag, so better set the variable
    #[arg(long, value_name = "SECRET", env = "CONVOY_JWT_SECRET", hide_env_values = true)]
    pub jwt_secret: Option<Secret>,
    /// A file with that secret; a line's end at its end is none of it
    #[arg(long, value_name = "FILE", env = "CONVOY_JWT_SECRET_FILE")]
    pub jwt_secret_file: Option<PathBuf>,
    /// A file with the public key that tokens are verified with, in PEM (RS256, ES256, EdDSA and their like)
    #[arg(long, value_name = "FILE", env = "CONVOY_JWT_PUBLIC_KEY")]
    pub jwt_public_key: Option<PathBuf>,
    /// The key set that tokens are verified with: https://…, or a file
    #[arg(long, value_name = "URL", env = "CONVOY_JWT_JWKS")]
    pub jwt_jwks: Option<String>,
    /// Who must have made the tokens (iss); again for more, or with commas
    #[arg(long, value_name = "ISS", value_delimiter = ',', env = "CONVOY_JWT_ISSUER")]
    pub jwt_issuer: Vec<String>,
    /// Whom the tokens must be for (aud), one of these; again for more, or with commas
    #[arg(long, value_name = "AUD", value_delimiter = ',', env = "CONVOY_JWT_AUDIENCE")]
    pub jwt_audience: Vec<String>,
    /// Which of the key's algorithms are taken [default: all]
    #[arg(long, value_name = "ALG", value_delimiter = ',', env = "CONVOY_JWT_ALGORITHMS")]
    pub jwt_algorithms: Vec<String>,
    /// Takes tokens that never expire too
    #[arg(long, value_parser = switch, env = "CONVOY_JWT_ALLOW_ETERNAL")]
    pub jwt_allow_eternal: bool,
}

/// A secret that no log shows.
#[derive(Clone)]
pub struct Secret(String);

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Secret(…)")
    }
}

impl FromStr for Secret {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Secret(text.to_owned()))
    }
}

impl JwtArgs {
    /// Returns who identifies callers, where these flags say how. A key set is read once, so that what is wrong with it
    /// shows; one behind a URL may be away.
    ///
    /// # Errors
    /// [`ServerError::Auth`] where they contradict each other, or a key is none.
    pub async fn identify(&self) -> Result<Option<Bearer>, ServerError> {
        let mut sources = Vec::new();
        if let Some(Secret(secret)) = self.jwt_secret.as_ref().filter(|secret| !secret.0.is_empty())
        {
            sources.push(KeySource::Secret(secret.clone()));
        }
        if let Some(path) = &self.jwt_secret_file {
            sources.push(KeySource::Secret(secret_in(path)?));
        }
        if let Some(path) = &self.jwt_public_key {
            sources.push(KeySource::PublicKey(read(path)?));
        }
        if let Some(place) = self.jwt_jwks.as_ref().filter(|place| !place.is_empty()) {
            sources.push(KeySource::Jwks(place.clone()));
        }
        let given = sources.len();
        let is_meant = given > 0
            || self.jwt_allow_eternal
            || [&self.jwt_issuer, &self.jwt_audience, &self.jwt_algorithms]
                .iter()
                .any(|values| !values.is_empty());
        let source = match sources.pop() {
            None if !is_meant => return Ok(None),
            Some(source) if given == 1 => source,
            _ => return Err(OptionsError::Keys { given }.into()),
        };
        let options = VerifyOptions {
            issuers: self.jwt_issuer.clone(),
            audiences: self.jwt_audience.clone(),
            algorithms: read_algorithms(&self.jwt_algorithms)?,
            require_exp: !self.jwt_allow_eternal,
            ..VerifyOptions::default()
        };
        let verifier = Verifier::new(&source, Path::new(""))?;
        verifier.check_options(&options)?;
        if let Some(set) = verifier.key_set() {
            match (set.read_now().await, set.file()) {
                (Ok(keys), _) => info!(keys, place = %set.place(), "the key set was read"),
                (Err(reason), Some(path)) => {
                    return Err(OptionsError::File { path: path.to_owned(), reason }.into());
                }
                (Err(reason), None) => {
                    warn!(reason, place = %set.place(), "the key set can't be read: no token counts yet");
                }
            }
        }
        Ok(Some(Bearer { verifier, options }))
    }
}

/// Returns the secret in a file. A line's end at its end is none of it.
pub(super) fn secret_in(path: &Path) -> Result<String, OptionsError> {
    Ok(read(path)?.trim_end_matches(['\r', '\n']).to_owned())
}

fn read(path: &Path) -> Result<String, OptionsError> {
    let failed = |reason: String| OptionsError::File { path: path.to_owned(), reason };
    let bytes = std::fs::metadata(path).map_err(|error| failed(error.to_string()))?.len();
    if bytes > KEY_FILE_BYTES_MAX {
        return Err(failed(format!("it has {bytes} bytes, and a key has fewer")));
    }
    std::fs::read_to_string(path).map_err(|error| failed(error.to_string()))
}

/// Takes callers for whom their tokens say; one without a token is nobody.
pub struct Bearer {
    verifier: Verifier,
    options: VerifyOptions,
}

impl Bearer {
    async fn who(&self, headers: &HeaderMap) -> Result<Identity, ApiError> {
        let Some(token) = token(headers)? else { return Ok(Identity::nobody()) };
        let verified = self.verifier.verify(token, &self.options).await?;
        let mut claims = verified.claims;
        for name in OF_THE_TOKEN {
            claims.shift_remove(name);
        }
        Identity::new(Value::Object(claims), verified.expires_at)
    }
}

impl Identify for Bearer {
    fn identify<'a>(&'a self, request: &'a RequestHead) -> BoxFuture<'a, Result<Caller, ApiError>> {
        Box::pin(async { self.who(&request.headers).await.map(Caller::from) })
    }
}

/// Returns the token that a request carries (RFC 6750, 2.1).
fn token(headers: &HeaderMap) -> Result<Option<&str>, ApiError> {
    let refused = |message| Err(ApiError::new(Code::Unauthorized, message));
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let (first, second) = (values.next(), values.next());
    match (first.map(|value| value.to_str()), second) {
        (None, _) => Ok(None),
        (Some(Ok(value)), None) => match value.split_once(' ') {
            Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => {
                Ok(Some(token.trim()))
            }
            _ => refused("the Authorization header must be `Bearer` and a token"),
        },
        _ => refused("there must be one Authorization header, `Bearer` and a token"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::testing::{SECRET, Signer, claims, soon};
    use axum::http::HeaderValue;
    use serde_json::json;

    fn headers(values: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(AUTHORIZATION, HeaderValue::from_str(value).expect("a header"));
        }
        headers
    }

    fn with_secret(secret: &str) -> JwtArgs {
        JwtArgs { jwt_secret: Some(Secret(secret.to_owned())), ..JwtArgs::default() }
    }

    #[tokio::test]
    async fn a_caller_is_whom_the_token_says() {
        let bearer = with_secret(SECRET).identify().await.expect("good").expect("identified");
        let signer = Signer::new("HS256");
        let who = async |values: &[&str]| bearer.who(&headers(values)).await;
        assert!(who(&[]).await.expect("nobody").is_nobody());
        let made = |iat: u64| {
            let said = json!({"sub": "ann", "iat": iat, "jti": iat.to_string(), "nbf": iat});
            format!("bearer {}", signer.sign(&claims(said)))
        };
        let (one, other) = (made(soon(-9)), made(soon(-2)));
        let (one, other) = (who(&[&one]).await.expect("ann"), who(&[&other]).await.expect("ann"));
        assert_eq!(one.auth.as_deref(), Some(r#"{"sub":"ann"}"#));
        assert_eq!(one.key, other.key, "another token of the same caller's is the same identity");
        let good = made(soon(0));
        for wrong in
            [&[good.as_str(), &good][..], &["Basic YTpi"], &["Bearer"], &["Bearer x"], &[""]]
        {
            let error = who(wrong).await.expect_err("refused");
            assert_eq!(error.code, Code::Unauthorized, "{wrong:?}");
        }
    }

    #[tokio::test]
    async fn flags_that_make_no_sense_are_refused() {
        assert!(JwtArgs::default().identify().await.expect("nothing asked for").is_none());
        let folder = tempfile::tempdir().expect("a folder");
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).expect("a file");
            path
        };
        let of_file = |secret: &str| JwtArgs {
            jwt_secret_file: Some(file("secret", secret)),
            ..JwtArgs::default()
        };
        assert!(of_file(&format!("{SECRET}\n")).identify().await.is_ok_and(|who| who.is_some()));
        let check = async |args: JwtArgs, expected: &str| {
            let error = args.identify().await.err().expect("refused");
            assert_eq!(error.exit_status(), 2);
            assert!(error.to_string().contains(expected), "{error}");
            assert!(!format!("{args:?}{error}").contains("tell-nobody"));
        };
        check(with_secret("tell-nobody"), "at least 32").await;
        check(of_file("tell-nobody\n"), "11 bytes").await;
        let issuer = JwtArgs { jwt_issuer: vec!["x".into()], ..JwtArgs::default() };
        check(issuer, "0 of them").await;
        let both = JwtArgs { jwt_jwks: Some("keys.json".into()), ..with_secret(SECRET) };
        check(both, "2 of them").await;
        let key = Some(file("key.pem", "-----BEGIN PRIVATE KEY-----\n"));
        check(JwtArgs { jwt_public_key: key, ..JwtArgs::default() }, "private key").await;
        let set = Some(file("keys.json", "[]").display().to_string());
        check(JwtArgs { jwt_jwks: set, ..JwtArgs::default() }, "no JWKS").await;
        let plain = Some("http://login.example/keys".to_owned());
        check(JwtArgs { jwt_jwks: plain, ..JwtArgs::default() }, "https://").await;
        // One that is away now may be back when somebody calls.
        let away = Some("http://127.0.0.1:1/keys".to_owned());
        let away = JwtArgs { jwt_jwks: away, ..JwtArgs::default() }.identify().await;
        assert!(away.is_ok_and(|who| who.is_some()));
    }
}
