//! Keys and tokens for tests: keys made by `openssl`, signatures by `ring`.

use super::jwt::{KeySource, Verifier};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair,
    KeyPair, RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RSA_PSS_SHA256, RSA_PSS_SHA384,
    RSA_PSS_SHA512, RsaKeyPair, RsaPublicKeyComponents,
};
use serde_json::{Value, json};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::LazyLock;
use std::time::{SystemTime, UNIX_EPOCH};

pub(crate) const SECRET: &str =
    "a secret that is long enough for HS512, which wants sixty-four bytes";
const STRANGERS_SECRET: &str =
    "another secret, long enough for HS512, that nobody here was ever told of";
pub(crate) const ALGORITHMS: [&str; 12] = [
    "HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256",
    "ES384", "EdDSA",
];

/// Ours, and a stranger's: making one takes a while.
static RSA_KEYS: LazyLock<[Vec<u8>; 2]> = LazyLock::new(|| {
    let rsa = || private_key("RSA -pkeyopt rsa_keygen_bits:2048");
    [rsa(), rsa()]
});

/// Makes a private key, as PKCS #8.
fn private_key(kind: &str) -> Vec<u8> {
    let pem = openssl(&format!("genpkey -quiet -algorithm {kind}"), &[]);
    openssl("pkcs8 -topk8 -nocrypt -outform DER", &pem)
}

/// Runs `openssl`, which the tests need.
pub(crate) fn openssl(arguments: &str, input: &[u8]) -> Vec<u8> {
    let mut child = Command::new("openssl")
        .args(arguments.split(' '))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the tests need the openssl command");
    child.stdin.take().expect("a pipe").write_all(input).expect("it reads");
    let output = child.wait_with_output().expect("it ends");
    assert!(output.status.success(), "openssl {arguments}");
    output.stdout
}

/// Who makes tokens of one algorithm.
pub(crate) struct Signer {
    pub algorithm: &'static str,
    pub id: Option<&'static str>,
    /// The secret, or the private key as PKCS #8.
    key: Vec<u8>,
}

impl Signer {
    /// One with a key of ours.
    pub fn new(algorithm: &'static str) -> Signer {
        Signer::with(algorithm, 0)
    }

    /// One with a key that nobody knows.
    pub fn stranger(algorithm: &'static str) -> Signer {
        Signer::with(algorithm, 1)
    }

    fn with(algorithm: &'static str, whose: usize) -> Signer {
        let key = match (&algorithm[..2], algorithm) {
            ("HS", _) => [SECRET, STRANGERS_SECRET][whose].as_bytes().to_vec(),
            ("RS" | "PS", _) => RSA_KEYS[whose].clone(),
            (_, "ES256") => private_key("EC -pkeyopt ec_paramgen_curve:P-256"),
            (_, "ES384") => private_key("EC -pkeyopt ec_paramgen_curve:P-384"),
            _ => private_key("ED25519"),
        };
        Signer { algorithm, id: None, key }
    }

    /// One with these bytes for a secret.
    pub fn hmac(algorithm: &'static str, secret: &[u8]) -> Signer {
        Signer { algorithm, id: None, key: secret.to_vec() }
    }

    /// The same, under a name in a key set.
    pub fn named(self, id: &'static str) -> Signer {
        Signer { id: Some(id), ..self }
    }

    pub fn public_pem(&self) -> String {
        String::from_utf8(openssl("pkey -inform DER -pubout", &self.key)).expect("PEM")
    }

    /// A verifier that has its key alone.
    pub fn verifier(&self) -> Verifier {
        let source = match &self.algorithm[..2] {
            "HS" => KeySource::Secret(String::from_utf8(self.key.clone()).expect("text")),
            _ => KeySource::PublicKey(self.public_pem()),
        };
        Verifier::new(&source, Path::new("")).expect("a key")
    }

    /// Its public key as a member of a key set.
    pub fn jwk(&self) -> Value {
        let mut jwk = match self.algorithm {
            "ES256" | "ES384" => {
                let pair = self.ec();
                let point = &pair.public_key().as_ref()[1..];
                let (x, y) = point.split_at(point.len() / 2);
                let curve = if self.algorithm == "ES256" { "P-256" } else { "P-384" };
                json!({"kty": "EC", "crv": curve, "x": encode(x), "y": encode(y)})
            }
            "EdDSA" => json!({"kty": "OKP", "crv": "Ed25519", "x": encode(self.ed().public_key())}),
            _ => {
                let public = RsaPublicKeyComponents::<Vec<u8>>::from(self.rsa().public());
                json!({"kty": "RSA", "n": encode(public.n), "e": encode(public.e)})
            }
        };
        jwk["use"] = json!("sig");
        if let Some(id) = self.id {
            jwk["kid"] = json!(id);
        }
        jwk
    }

    pub fn sign(&self, claims: &Value) -> String {
        let mut header = json!({"alg": self.algorithm, "typ": "JWT"});
        if let Some(id) = self.id {
            header["kid"] = json!(id);
        }
        self.sign_with(&header, claims)
    }

    pub fn sign_with(&self, header: &Value, claims: &Value) -> String {
        let message = format!("{}.{}", encode(header.to_string()), encode(claims.to_string()));
        let signature = self.signature(message.as_bytes());
        format!("{message}.{}", encode(signature))
    }

    fn signature(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        let hmac = |algorithm| {
            hmac::sign(&hmac::Key::new(algorithm, &self.key), message).as_ref().to_vec()
        };
        let rsa = |padding: &'static dyn ring::signature::RsaEncoding| {
            let pair = self.rsa();
            let mut signature = vec![0; pair.public().modulus_len()];
            pair.sign(padding, &random, message, &mut signature).expect("signed");
            signature
        };
        match self.algorithm {
            "HS256" => hmac(hmac::HMAC_SHA256),
            "HS384" => hmac(hmac::HMAC_SHA384),
            "HS512" => hmac(hmac::HMAC_SHA512),
            "RS256" => rsa(&RSA_PKCS1_SHA256),
            "RS384" => rsa(&RSA_PKCS1_SHA384),
            "RS512" => rsa(&RSA_PKCS1_SHA512),
            "PS256" => rsa(&RSA_PSS_SHA256),
            "PS384" => rsa(&RSA_PSS_SHA384),
            "PS512" => rsa(&RSA_PSS_SHA512),
            "ES256" | "ES384" => {
                self.ec().sign(&random, message).expect("signed").as_ref().to_vec()
            }
            _ => self.ed().sign(message).as_ref().to_vec(),
        }
    }

    fn rsa(&self) -> RsaKeyPair {
        RsaKeyPair::from_pkcs8(&self.key).expect("an RSA key")
    }

    fn ec(&self) -> EcdsaKeyPair {
        let curve = match self.algorithm {
            "ES256" => &ECDSA_P256_SHA256_FIXED_SIGNING,
            _ => &ECDSA_P384_SHA384_FIXED_SIGNING,
        };
        EcdsaKeyPair::from_pkcs8(curve, &self.key, &SystemRandom::new()).expect("an EC key")
    }

    fn ed(&self) -> Ed25519KeyPair {
        Ed25519KeyPair::from_pkcs8_maybe_unchecked(&self.key).expect("an Ed25519 key")
    }
}

pub(crate) fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Seconds since 1970, in so many seconds.
pub(crate) fn soon(seconds: i64) -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    now.checked_add_signed(seconds).expect("a time")
}

/// Claims that count for five minutes.
pub(crate) fn claims(mut claims: Value) -> Value {
    claims["exp"] = json!(soon(300));
    claims
}
