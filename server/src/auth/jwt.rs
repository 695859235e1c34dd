//! JSON Web Tokens (RFC 7519): whether one counts, and what it says. The one place where that is decided, for the flags of
//! `convoy serve` and for a project's `base.jwt.verify`.

use super::claims;
use super::crypto;
use super::error::{AuthError, OptionsError};
use super::jwks::{KeySet, Place};
use super::key::Key;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, Validation, decode, decode_header};
use serde_json::{Map, Value};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// The largest token that is looked at, in bytes: it comes with every request.
const TOKEN_BYTES_MAX: usize = 16 << 10;
/// How far clocks may differ, unless told otherwise.
const LEEWAY_DEFAULT: Duration = Duration::from_secs(30);
/// How far they may at most: a token counts for so much longer.
pub(super) const LEEWAY_MAX: Duration = Duration::from_secs(300);

/// Where the keys are.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum KeySource {
    /// A secret that we share with who makes the tokens.
    Secret(String),
    /// A public key in PEM.
    PublicKey(String),
    /// A key set: a URL, or a file.
    Jwks(String),
}

/// What a token must be beyond its signature.
#[derive(Clone, Debug)]
pub struct VerifyOptions {
    /// Who may have made it (`iss`); empty: anybody who has the key.
    pub issuers: Vec<String>,
    /// Whom it is for (`aud`), one of these; empty: whomever.
    pub audiences: Vec<String>,
    /// Which of the key's algorithms; empty: all.
    pub algorithms: Vec<Algorithm>,
    /// How far clocks may differ; at most five minutes count.
    pub leeway: Duration,
    /// Whether it must say when it expires.
    pub require_exp: bool,
}

impl Default for VerifyOptions {
    fn default() -> Self {
        VerifyOptions {
            issuers: Vec::new(),
            audiences: Vec::new(),
            algorithms: Vec::new(),
            leeway: LEEWAY_DEFAULT,
            require_exp: true,
        }
    }
}

/// A token that counts.
#[derive(Clone, Debug, PartialEq)]
pub struct Verified {
    /// What it says.
    pub claims: Map<String, Value>,
    /// Until when it counts, the leeway included; none: for ever.
    pub expires_at: Option<SystemTime>,
}

enum Keys {
    One(Box<Key>),
    Set(Arc<KeySet>),
}

/// Verifies tokens with keys of one source.
pub struct Verifier {
    keys: Keys,
}

impl Verifier {
    /// Reads the key; a set is read with the first token. Paths begin at this folder.
    ///
    /// # Errors
    /// Where it is no key, or not a safe one.
    pub fn new(source: &KeySource, folder: &Path) -> Result<Verifier, OptionsError> {
        let keys = match source {
            KeySource::Secret(secret) => Keys::One(Box::new(Key::secret(secret)?)),
            KeySource::PublicKey(pem) => Keys::One(Box::new(Key::public_pem(pem)?)),
            KeySource::Jwks(place) => Keys::Set(KeySet::new(Place::parse(place, folder)?)),
        };
        Ok(Verifier::with(keys))
    }

    fn with(keys: Keys) -> Verifier {
        crypto::install();
        Verifier { keys }
    }

    /// Returns one of this set.
    #[cfg(test)]
    pub(super) fn of_set(set: Arc<KeySet>) -> Verifier {
        Verifier::with(Keys::Set(set))
    }

    /// Returns the key set, where that is the source.
    pub(super) fn key_set(&self) -> Option<&Arc<KeySet>> {
        match &self.keys {
            Keys::One(_) => None,
            Keys::Set(set) => Some(set),
        }
    }

    /// Checks that these options leave an algorithm, as far as the keys are known.
    ///
    /// # Errors
    /// Where none of the key's is among those allowed.
    pub fn check_options(&self, options: &VerifyOptions) -> Result<(), OptionsError> {
        let Keys::One(key) = &self.keys else { return Ok(()) };
        match allowed(&key.algorithms, options).is_empty() {
            false => Ok(()),
            true => Err(OptionsError::NoAlgorithmLeft {
                of_key: names(&key.algorithms),
                allowed: names(&options.algorithms),
            }),
        }
    }

    /// Verifies a token. Waits for a key set for a few seconds at most, and only where its key is not known yet.
    ///
    /// # Errors
    /// Why it does not count, fit for the client.
    pub async fn verify(
        &self,
        token: &str,
        options: &VerifyOptions,
    ) -> Result<Verified, AuthError> {
        if token.len() > TOKEN_BYTES_MAX {
            let (bytes, bytes_max) = (token.len(), TOKEN_BYTES_MAX);
            return Err(AuthError::TooLarge { bytes, bytes_max });
        }
        self.check_options(options)?;
        let header = decode_header(token).map_err(|error| match error.kind() {
            // `none`, among others, is no algorithm that it knows.
            ErrorKind::Json(_) => AuthError::Header,
            _ => AuthError::Malformed,
        })?;
        if header.crit.is_some() {
            return Err(AuthError::Critical);
        }
        let set_keys;
        let keys = match &self.keys {
            Keys::One(key) => std::slice::from_ref(&**key),
            Keys::Set(set) => {
                set_keys = set.find(header.kid.as_deref()).await?;
                &set_keys[..]
            }
        };
        let mut refused = None;
        for key in keys {
            let algorithms = allowed(&key.algorithms, options);
            if !algorithms.contains(&header.alg) {
                continue;
            }
            match verify_with(token, key, header.alg, options) {
                Ok(verified) => return Ok(verified),
                // A set may have several keys that a token without a name could be of.
                Err(error @ AuthError::Signature) => refused = Some(error),
                Err(error) => return Err(error),
            }
        }
        Err(refused.unwrap_or_else(|| {
            let mut of_keys: Vec<Algorithm> = Vec::new();
            for algorithm in keys.iter().flat_map(|key| allowed(&key.algorithms, options)) {
                if !of_keys.contains(&algorithm) {
                    of_keys.push(algorithm);
                }
            }
            AuthError::Algorithm { allowed: names(&of_keys) }
        }))
    }
}

fn allowed(of_key: &[Algorithm], options: &VerifyOptions) -> Vec<Algorithm> {
    let is_allowed = |algorithm: &Algorithm| {
        options.algorithms.is_empty() || options.algorithms.contains(algorithm)
    };
    of_key.iter().copied().filter(is_allowed).collect()
}

fn names(algorithms: &[Algorithm]) -> String {
    let names: Vec<_> = algorithms.iter().map(|algorithm| format!("{algorithm:?}")).collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

fn verify_with(
    token: &str,
    key: &Key,
    algorithm: Algorithm,
    options: &VerifyOptions,
) -> Result<Verified, AuthError> {
    let mut validation = Validation::new(algorithm);
    // The signature alone: what is in it is looked at below.
    validation.required_spec_claims.clear();
    (validation.validate_exp, validation.validate_aud) = (false, false);
    let data = decode::<Map<String, Value>>(token, &key.decoding, &validation);
    let claims = match data {
        Ok(data) => data.claims,
        Err(error) if *error.kind() == ErrorKind::InvalidSignature => {
            return Err(AuthError::Signature);
        }
        Err(_) => return Err(AuthError::Malformed),
    };
    let expires_at = claims::check(&claims, options, SystemTime::now())?;
    Ok(Verified { claims, expires_at })
}

#[cfg(test)]
mod tests;
