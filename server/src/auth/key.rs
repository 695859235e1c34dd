//! Keys that tokens are verified with. What a key is decides which algorithms it serves: a public key is never a secret,
//! whatever a token's header says.

use super::crypto::secret_bytes_min;
use super::error::OptionsError;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyOperations, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use rustls::pki_types::SubjectPublicKeyInfoDer;
use rustls::pki_types::pem::PemObject;
use spki::der::asn1::UintRef;
use spki::der::{Decode, Reader, SliceReader};
use spki::{ObjectIdentifier, SubjectPublicKeyInfoRef};
use std::fmt;

/// Shorter RSA keys are refused, in bits (RFC 7518, 3.3).
const RSA_BITS_MIN: usize = 2048;
/// Longer ones would make each verification slow, in bits.
const RSA_BITS_MAX: usize = 8192;
/// More keys than this in one set are not looked at.
const SET_KEYS_MAX: usize = 64;

const HMAC: [Algorithm; 3] = [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512];
const RSA: [Algorithm; 6] = [
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
];

// RFC 8017 A, RFC 5480 2.1, RFC 8410 3.
const RSA_OID: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const EC_OID: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const P256_OID: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
const P384_OID: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.34");
const ED25519_OID: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");

/// A key.
#[derive(Clone)]
pub struct Key {
    /// Its name in a set.
    pub(super) id: Option<String>,
    /// What it verifies, of one family.
    pub(super) algorithms: Vec<Algorithm>,
    pub(super) decoding: DecodingKey,
}

impl fmt::Debug for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Key {{ id: {:?}, algorithms: {:?}, … }}", self.id, self.algorithms)
    }
}

impl Key {
    /// Reads a shared secret: the bytes of this text.
    ///
    /// # Errors
    /// Where it is too short to be one, or is a key of another kind.
    pub fn secret(secret: &str) -> Result<Key, OptionsError> {
        if secret.trim_start().starts_with("-----BEGIN") {
            return Err(OptionsError::SecretIsPem);
        }
        let fits = |algorithm: &Algorithm| secret.len() >= secret_bytes_min(*algorithm);
        let algorithms: Vec<_> = HMAC.into_iter().filter(fits).collect();
        if algorithms.is_empty() {
            return Err(OptionsError::SecretTooShort {
                bytes: secret.len(),
                bytes_min: secret_bytes_min(Algorithm::HS256),
            });
        }
        Ok(Key { id: None, algorithms, decoding: DecodingKey::from_secret(secret.as_bytes()) })
    }

    /// Reads a public key in PEM: `BEGIN PUBLIC KEY`, as `openssl pkey -pubout` writes it.
    ///
    /// # Errors
    /// Where it is none, or one of a kind that is not known here.
    pub fn public_pem(pem: &str) -> Result<Key, OptionsError> {
        if pem.contains("PRIVATE KEY-----") {
            return Err(OptionsError::PrivateKey);
        }
        let malformed = || OptionsError::NoPublicKey;
        let der =
            SubjectPublicKeyInfoDer::from_pem_slice(pem.as_bytes()).map_err(|_| malformed())?;
        let info = SubjectPublicKeyInfoRef::try_from(der.as_ref()).map_err(|_| malformed())?;
        let bytes = info.subject_public_key.as_bytes().ok_or_else(malformed)?;
        let (kind, curve) = info.algorithm.oids().map_err(|_| malformed())?;
        let (algorithms, decoding) = match (kind, curve) {
            (RSA_OID, _) => {
                let (modulus, exponent) = rsa_components(bytes).map_err(|_| malformed())?;
                check_rsa_size(&modulus)?;
                (RSA.to_vec(), DecodingKey::from_rsa_raw_components(&modulus, &exponent))
            }
            (EC_OID, Some(P256_OID)) => (vec![Algorithm::ES256], DecodingKey::from_ec_der(bytes)),
            (EC_OID, Some(P384_OID)) => (vec![Algorithm::ES384], DecodingKey::from_ec_der(bytes)),
            (ED25519_OID, _) => (vec![Algorithm::EdDSA], DecodingKey::from_ed_der(bytes)),
            _ => return Err(OptionsError::UnknownKind),
        };
        Ok(Key { id: None, algorithms, decoding })
    }

    /// Reads a key of a set; none where it is there for something else, or of a kind that is not known here. Secrets are
    /// none either: a set is published.
    fn of_set(jwk: &Jwk) -> Option<Key> {
        let common = &jwk.common;
        let is_for_signatures = !matches!(
            common.public_key_use,
            Some(PublicKeyUse::Encryption | PublicKeyUse::Other(_))
        );
        let verifies = common
            .key_operations
            .as_ref()
            .is_none_or(|operations| operations.contains(&KeyOperations::Verify));
        if !is_for_signatures || !verifies {
            return None;
        }
        let decoding = DecodingKey::from_jwk(jwk).ok()?;
        let mut algorithms = match &jwk.algorithm {
            AlgorithmParameters::RSA(_) => {
                let jsonwebtoken::DecodingKeyKind::RsaModulusExponent { n, .. } = decoding.kind()
                else {
                    return None;
                };
                check_rsa_size(n).ok()?;
                RSA.to_vec()
            }
            AlgorithmParameters::EllipticCurve(parameters) => match parameters.curve {
                EllipticCurve::P256 => vec![Algorithm::ES256],
                EllipticCurve::P384 => vec![Algorithm::ES384],
                _ => return None,
            },
            AlgorithmParameters::OctetKeyPair(parameters) => match parameters.curve {
                EllipticCurve::Ed25519 => vec![Algorithm::EdDSA],
                _ => return None,
            },
            _ => return None,
        };
        if let Some(only) = common.key_algorithm {
            let only = Algorithm::try_from(only).ok()?;
            algorithms.retain(|algorithm| *algorithm == only);
        }
        let id = common.key_id.clone();
        (!algorithms.is_empty()).then_some(Key { id, algorithms, decoding })
    }
}

/// Reads a JSON Web Key Set (RFC 7517). Keys that are of no use here are left out; there may be none.
///
/// # Errors
/// Where it is no such set.
pub(super) fn read_set(text: &[u8]) -> Result<Vec<Key>, String> {
    let no_set = || "it is no JWKS, which is {\"keys\": […]}".to_owned();
    let set: serde_json::Value = serde_json::from_slice(text).map_err(|_| no_set())?;
    let keys = set.get("keys").and_then(serde_json::Value::as_array).ok_or_else(no_set)?;
    if keys.len() > SET_KEYS_MAX {
        return Err(format!("it has {} keys, and at most {SET_KEYS_MAX} are taken", keys.len()));
    }
    // One by one: a key of a new kind must not hide the others.
    let read = |key: &serde_json::Value| Key::of_set(&serde_json::from_value(key.clone()).ok()?);
    Ok(keys.iter().filter_map(read).collect())
}

/// Reads an RSAPublicKey (RFC 8017, A.1.1).
fn rsa_components(der: &[u8]) -> spki::der::Result<(Vec<u8>, Vec<u8>)> {
    let mut reader = SliceReader::new(der)?;
    let components = reader.sequence(|reader| {
        let modulus = UintRef::decode(reader)?.as_bytes().to_vec();
        Ok((modulus, UintRef::decode(reader)?.as_bytes().to_vec()))
    })?;
    reader.finish(components)
}

fn check_rsa_size(modulus: &[u8]) -> Result<(), OptionsError> {
    let leading = modulus.first().map_or(0, |byte| byte.leading_zeros() as usize);
    let bits = (modulus.len() * 8).saturating_sub(leading);
    match (RSA_BITS_MIN..=RSA_BITS_MAX).contains(&bits) {
        true => Ok(()),
        false => Err(OptionsError::RsaSize { bits }),
    }
}
