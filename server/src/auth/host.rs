//! Verification as a project's `server.ts` asks for it, `base.jwt.verify(token, options)`: JSON in, JSON out.

use super::bearer::secret_in;
use super::error::{AuthError, OptionsError};
use super::jwt::{KeySource, LEEWAY_MAX, Verifier, VerifyOptions};
use crate::protocol::{ApiError, shortened};
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Sources of keys that are remembered, a key set with its keys; the one that was not used for longest gives way.
const SOURCES_MAX: usize = 16;

/// Verifies tokens for a project, and remembers its keys from one call to the next.
pub struct JwtHost {
    folder: PathBuf,
    verifiers: Mutex<Vec<(KeySource, Arc<Verifier>)>>,
}

impl JwtHost {
    /// Returns one for a project: paths of key sets and secrets begin at this folder, its root.
    pub fn new(folder: &Path) -> JwtHost {
        JwtHost { folder: folder.to_owned(), verifiers: Mutex::default() }
    }

    /// Verifies the token of `{"token": "…", "options": {…}}`, and answers `{"claims": {…}, "expiresAt": ms | null}`:
    /// what the token says, and until when it counts, in milliseconds since 1970 as `Date.now()` has them.
    ///
    /// # Errors
    /// `{"code", "message", "data"}` as JSON.
    pub async fn verify_json(&self, request: &str) -> Result<String, String> {
        self.verify(request).await.map_err(|error| {
            let error = ApiError::from(error);
            json!({ "code": error.code.as_str(), "message": error.message, "data": null })
                .to_string()
        })
    }

    async fn verify(&self, request: &str) -> Result<String, AuthError> {
        let malformed = |reason: &str| OptionsError::Malformed { reason: reason.to_owned() };
        let request: Value =
            serde_json::from_str(request).map_err(|error| malformed(&error.to_string()))?;
        let Value::Object(mut request) = request else {
            return Err(malformed("there is no object").into());
        };
        let options = match request.remove("options") {
            Some(Value::Object(options)) => options,
            _ => return Err(malformed("there is no object of options").into()),
        };
        let (source, options) = read_options(options, &self.folder)?;
        let verifier = self.verifier(source)?;
        // Before the token: what is wrong with the code must not look like what is wrong with a caller.
        verifier.check_options(&options)?;
        let Some(Value::String(token)) = request.remove("token") else {
            return Err(AuthError::Malformed);
        };
        let verified = verifier.verify(&token, &options).await?;
        let answer = json!({
            "claims": verified.claims,
            "expiresAt": verified.expires_at.and_then(milliseconds),
        });
        Ok(answer.to_string())
    }

    fn verifier(&self, source: KeySource) -> Result<Arc<Verifier>, OptionsError> {
        let mut verifiers = self.verifiers.lock().unwrap_or_else(PoisonError::into_inner);
        let known = verifiers.iter().position(|(known, _)| *known == source);
        let entry = match known {
            Some(position) => verifiers.remove(position),
            None => {
                let verifier = Arc::new(Verifier::new(&source, &self.folder)?);
                (source, verifier)
            }
        };
        if verifiers.len() >= SOURCES_MAX {
            verifiers.remove(0);
        }
        let verifier = entry.1.clone();
        verifiers.push(entry);
        Ok(verifier)
    }
}

fn milliseconds(time: SystemTime) -> Option<u64> {
    u64::try_from(time.duration_since(UNIX_EPOCH).ok()?.as_millis()).ok()
}

/// Reads `{ secret | secretFile | publicKey | jwks, issuer, audience, algorithms, leeway, requireExp }`. The file of a secret is
/// read each time, so that a new secret counts at once.
fn read_options(
    mut given: Map<String, Value>,
    folder: &Path,
) -> Result<(KeySource, VerifyOptions), OptionsError> {
    let malformed = |reason: String| OptionsError::Malformed { reason };
    let mut sources = Vec::new();
    for name in ["secret", "secretFile", "publicKey", "jwks"] {
        match (given.remove(name), name) {
            (None | Some(Value::Null), _) => {}
            (Some(Value::String(text)), "secret") => sources.push(KeySource::Secret(text)),
            (Some(Value::String(path)), "secretFile") => {
                sources.push(KeySource::Secret(secret_in(&folder.join(path))?));
            }
            (Some(Value::String(text)), "publicKey") => sources.push(KeySource::PublicKey(text)),
            (Some(Value::String(text)), _) => sources.push(KeySource::Jwks(text)),
            (Some(_), _) => return Err(malformed(format!("{name} must be a string"))),
        }
    }
    if sources.len() != 1 {
        return Err(OptionsError::Keys { given: sources.len() });
    }
    let mut texts = |name: &str| match given.remove(name) {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::String(text)) => Ok(vec![text]),
        Some(Value::Array(texts)) if !texts.is_empty() => {
            let text = |value: Value| match value {
                Value::String(text) => Ok(text),
                _ => Err(malformed(format!("{name} must be a string or an array of them"))),
            };
            texts.into_iter().map(text).collect()
        }
        // An empty array must not mean that anything will do.
        Some(_) => Err(malformed(format!("{name} must be a string or an array of them"))),
    };
    let mut options = VerifyOptions {
        issuers: texts("issuer")?,
        audiences: texts("audience")?,
        algorithms: read_algorithms(&texts("algorithms")?)?,
        ..VerifyOptions::default()
    };
    match given.remove("leeway") {
        None | Some(Value::Null) => {}
        Some(Value::Number(seconds)) => {
            let seconds = seconds.as_u64().filter(|seconds| *seconds <= LEEWAY_MAX.as_secs());
            let wrong = || malformed("leeway must be whole seconds, at most 300".to_owned());
            options.leeway = Duration::from_secs(seconds.ok_or_else(wrong)?);
        }
        Some(_) => return Err(malformed("leeway must be a number of seconds".to_owned())),
    }
    match given.remove("requireExp") {
        None | Some(Value::Null) => {}
        Some(Value::Bool(required)) => options.require_exp = required,
        Some(_) => return Err(malformed("requireExp must be true or false".to_owned())),
    }
    // One that is misspelt would be one that is not checked.
    if let Some(unknown) = given.keys().next() {
        return Err(malformed(format!("there is no option {:?}", shortened(unknown))));
    }
    let source = sources.swap_remove(0);
    Ok((source, options))
}

/// Reads names of algorithms.
pub(super) fn read_algorithms(
    names: &[String],
) -> Result<Vec<jsonwebtoken::Algorithm>, OptionsError> {
    let read = |name: &String| {
        jsonwebtoken::Algorithm::from_str(name)
            .map_err(|_| OptionsError::UnknownAlgorithm { name: shortened(name) })
    };
    names.iter().map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::testing::{SECRET, Signer, claims, soon};

    async fn ask(host: &JwtHost, token: &Value, options: &Value) -> Result<Value, Value> {
        let request = json!({ "token": token, "options": options }).to_string();
        let read = |text: &String| serde_json::from_str(text).expect("JSON");
        let answer = host.verify_json(&request).await;
        assert!(!format!("{answer:?}").contains(SECRET), "{answer:?}");
        answer.as_ref().map(read).map_err(read)
    }

    #[tokio::test]
    async fn a_project_verifies_tokens() {
        let folder = tempfile::tempdir().expect("a folder");
        let host = JwtHost::new(folder.path());
        let signer = Signer::new("ES256").named("a");
        let set = json!({ "keys": [signer.jwk()] }).to_string();
        std::fs::write(folder.path().join("keys.json"), set).expect("a file");
        let at = soon(300);
        let token = json!(signer.sign(&json!({ "sub": "ann", "exp": at, "aud": "app" })));
        for options in [
            json!({ "publicKey": signer.public_pem() }),
            json!({ "jwks": "keys.json", "audience": "app", "algorithms": ["ES256"] }),
            json!({ "jwks": "keys.json", "audience": ["x", "app"], "issuer": null, "leeway": 30 }),
        ] {
            let answer = ask(&host, &token, &options).await.expect("good");
            assert_eq!(answer["claims"]["sub"], "ann", "{options}");
            assert_eq!(answer["expiresAt"], json!((at + 30) * 1000), "{options}");
        }
        let refused = ask(&host, &token, &json!({ "jwks": "keys.json", "issuer": "x" })).await;
        assert_eq!(refused.expect_err("refused")["code"], "UNAUTHORIZED");
        for none in [json!(null), json!(7), json!("")] {
            let options = json!({ "jwks": "keys.json" });
            assert_eq!(
                ask(&host, &none, &options).await.expect_err("none")["code"],
                "UNAUTHORIZED"
            );
        }
        let shared = json!(Signer::new("HS256").sign(&claims(json!({}))));
        assert!(ask(&host, &shared, &json!({ "secret": SECRET })).await.is_ok());
        let file = folder.path().join("secret");
        std::fs::write(&file, format!("{SECRET}\n")).expect("a file");
        assert!(ask(&host, &shared, &json!({ "secretFile": "secret" })).await.is_ok());
        std::fs::write(&file, format!("{SECRET} another")).expect("a file");
        assert!(ask(&host, &shared, &json!({ "secretFile": "secret" })).await.is_err());
    }

    /// What is wrong with the code is the code's fault, whatever the token is.
    #[tokio::test]
    async fn options_that_make_no_sense_are_named() {
        let host = JwtHost::new(Path::new("/nowhere"));
        let check = async |options: Value, expected: &str| {
            let error = ask(&host, &json!("x"), &options).await.expect_err("refused");
            assert_eq!(error["code"], "INTERNAL", "{options}: {error}");
            assert!(
                error["message"].as_str().is_some_and(|text| text.contains(expected)),
                "{error}"
            );
        };
        check(json!({}), "0 of them").await;
        check(json!({ "secret": SECRET, "jwks": "keys.json" }), "2 of them").await;
        check(json!({ "secret": "short" }), "at least 32").await;
        check(json!({ "secretFile": "not-there" }), "/nowhere/not-there").await;
        check(json!({ "publicKey": "no PEM" }), "no public key in PEM").await;
        check(json!({ "publicKey": 7 }), "must be a string").await;
        check(json!({ "jwks": "http://login.example/keys" }), "https://").await;
        check(json!({ "secret": SECRET, "audiance": "app" }), "\"audiance\"").await;
        check(json!({ "secret": SECRET, "audience": [] }), "audience must be").await;
        check(json!({ "secret": SECRET, "algorithms": ["none"] }), "\"none\" is no algorithm")
            .await;
        check(json!({ "secret": SECRET, "algorithms": ["RS256"] }), "allows only RS256").await;
        check(json!({ "secret": SECRET, "leeway": 3600 }), "at most 300").await;
        let away = ask(&host, &json!("e30.e30.x"), &json!({ "jwks": "keys.json" })).await;
        assert_eq!(away.expect_err("refused")["code"], "UNAUTHORIZED", "it is no token anyway");
        let token = json!(Signer::new("ES256").sign(&claims(json!({}))));
        let away = ask(&host, &token, &json!({ "jwks": "keys.json" })).await;
        assert_eq!(away.expect_err("refused")["code"], "UNAVAILABLE");
    }

    #[tokio::test]
    async fn sources_that_are_remembered_have_a_bound() {
        let host = JwtHost::new(Path::new(""));
        for number in 0..100 {
            let options = json!({ "secret": format!("{SECRET}{number}") });
            assert!(ask(&host, &json!(""), &options).await.is_err());
        }
        assert_eq!(host.verifiers.lock().expect("no panic").len(), SOURCES_MAX);
    }
}
