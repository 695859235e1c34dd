//! Signatures for `jsonwebtoken` by `ring`, which encrypts our connections already. Nothing here signs.

use jsonwebtoken::crypto::{CryptoProvider, JwtSigner, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::{Error, ErrorKind, Result};
use jsonwebtoken::jwk::ThumbprintHash;
use jsonwebtoken::signature::{Error as SignatureError, Verifier};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, DecodingKeyKind, EncodingKey};
use ring::hmac;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256,
    RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512, RSA_PSS_2048_8192_SHA256,
    RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512, RsaParameters, RsaPublicKeyComponents,
    UnparsedPublicKey, VerificationAlgorithm,
};
use std::sync::Once;

/// How an algorithm is checked.
enum Scheme {
    Hmac(hmac::Algorithm),
    Rsa(&'static RsaParameters),
    Other(&'static dyn VerificationAlgorithm),
}

impl Scheme {
    /// Returns how; none for an algorithm that is not known here.
    fn of(algorithm: Algorithm) -> Option<Scheme> {
        Some(match algorithm {
            Algorithm::HS256 => Scheme::Hmac(hmac::HMAC_SHA256),
            Algorithm::HS384 => Scheme::Hmac(hmac::HMAC_SHA384),
            Algorithm::HS512 => Scheme::Hmac(hmac::HMAC_SHA512),
            Algorithm::RS256 => Scheme::Rsa(&RSA_PKCS1_2048_8192_SHA256),
            Algorithm::RS384 => Scheme::Rsa(&RSA_PKCS1_2048_8192_SHA384),
            Algorithm::RS512 => Scheme::Rsa(&RSA_PKCS1_2048_8192_SHA512),
            Algorithm::PS256 => Scheme::Rsa(&RSA_PSS_2048_8192_SHA256),
            Algorithm::PS384 => Scheme::Rsa(&RSA_PSS_2048_8192_SHA384),
            Algorithm::PS512 => Scheme::Rsa(&RSA_PSS_2048_8192_SHA512),
            Algorithm::ES256 => Scheme::Other(&ECDSA_P256_SHA256_FIXED),
            Algorithm::ES384 => Scheme::Other(&ECDSA_P384_SHA384_FIXED),
            Algorithm::EdDSA => Scheme::Other(&ED25519),
            _ => return None,
        })
    }
}

/// One key, for one algorithm of its family.
struct RingVerifier {
    algorithm: Algorithm,
    scheme: Scheme,
    key: DecodingKey,
}

impl Verifier<Vec<u8>> for RingVerifier {
    fn verify(
        &self,
        message: &[u8],
        signature: &Vec<u8>,
    ) -> std::result::Result<(), SignatureError> {
        let checked = match (&self.scheme, self.key.kind()) {
            (Scheme::Hmac(hash), DecodingKeyKind::SecretOrDer(secret)) => {
                hmac::verify(&hmac::Key::new(*hash, secret), message, signature)
            }
            (Scheme::Rsa(parameters), DecodingKeyKind::RsaModulusExponent { n, e }) => {
                RsaPublicKeyComponents { n, e }.verify(parameters, message, signature)
            }
            (Scheme::Other(scheme), DecodingKeyKind::SecretOrDer(point)) => {
                UnparsedPublicKey::new(*scheme, point).verify(message, signature)
            }
            // A key of another kind than the algorithm's verifies nothing.
            (Scheme::Hmac(_) | Scheme::Other(_), DecodingKeyKind::RsaModulusExponent { .. })
            | (Scheme::Rsa(_), DecodingKeyKind::SecretOrDer(_)) => Err(ring::error::Unspecified),
        };
        checked.map_err(|_| SignatureError::new())
    }
}

impl JwtVerifier for RingVerifier {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}

fn verifier(algorithm: &Algorithm, key: &DecodingKey) -> Result<Box<dyn JwtVerifier>> {
    match Scheme::of(*algorithm) {
        Some(scheme) if key.family() == algorithm.family() => {
            Ok(Box::new(RingVerifier { algorithm: *algorithm, scheme, key: key.clone() }))
        }
        _ => Err(ErrorKind::InvalidAlgorithm.into()),
    }
}

fn signer(_: &Algorithm, _: &EncodingKey) -> Result<Box<dyn JwtSigner>> {
    Err(nothing_of_that())
}

fn nothing_of_that() -> Error {
    ErrorKind::Provider("tokens are verified here, never made".to_owned()).into()
}

static PROVIDER: CryptoProvider = CryptoProvider {
    signer_factory: signer,
    verifier_factory: verifier,
    key_utils: KeyUtils {
        rsa_pub_components_from_private_key: |_| Err(nothing_of_that()),
        rsa_pub_components_from_public_key: |_| Err(nothing_of_that()),
        ec_pub_components_from_private_key: |_, _| Err(nothing_of_that()),
        ed_pub_components_from_private_key: |_, _| Err(nothing_of_that()),
        compute_digest: |_: &[u8], _: ThumbprintHash| Err(nothing_of_that()),
    },
};

/// Lets `jsonwebtoken` use it; to be called before it verifies anything.
pub(super) fn install() {
    static ONCE: Once = Once::new();
    // Who installed another before did so knowingly.
    ONCE.call_once(|| {
        let _ = PROVIDER.install_default();
    });
}

/// Returns the fewest bytes that a secret has for this algorithm; 0 for those without one (RFC 7518, 3.2).
pub(super) fn secret_bytes_min(algorithm: Algorithm) -> usize {
    match (algorithm.family(), Scheme::of(algorithm)) {
        (AlgorithmFamily::Hmac, Some(Scheme::Hmac(hash))) => hash.digest_algorithm().output_len(),
        _ => 0,
    }
}
