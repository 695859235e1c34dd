//! Why a token does not count, or can't be looked at.

use crate::protocol::{ApiError, Code};
use std::path::PathBuf;
use thiserror::Error;

/// What is wrong with how tokens are to be verified. Never holds a key.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum OptionsError {
    /// No JSON object of known options.
    #[error(
        "the options of a token's verification can't be read: {reason}; they are {{secret | secretFile | publicKey | \
         jwks, issuer, audience, algorithms, leeway, requireExp}}"
    )]
    Malformed {
        /// The reason.
        reason: String,
    },
    /// None, or more than one.
    #[error(
        "tokens are verified with one of secret, secretFile, publicKey and jwks (--jwt-secret-file, --jwt-public-key, --jwt-jwks), \
         and {given} of them are given"
    )]
    Keys {
        /// How many.
        given: usize,
    },
    /// Two ways that may not agree.
    #[error(
        "callers are identified both by --jwt-… and by createContext of server.ts: leave the flags out, and verify tokens \
         there with base.jwt.verify"
    )]
    Twice,
    /// Shorter than the hash is.
    #[error(
        "the secret has {bytes} bytes, and HS256 needs at least {bytes_min} (RFC 7518, 3.2): `openssl rand -base64 32` \
         makes a good one"
    )]
    SecretTooShort {
        /// What it has.
        bytes: usize,
        /// What it needs.
        bytes_min: usize,
    },
    /// A key of another kind, which everybody may know.
    #[error(
        "the secret is a key in PEM: a public key belongs in publicKey (--jwt-public-key), and is no secret"
    )]
    SecretIsPem,
    /// It belongs to who makes tokens.
    #[error(
        "this is a private key, which belongs to who makes the tokens: `openssl pkey -in key.pem -pubout` gives the \
         public one"
    )]
    PrivateKey,
    /// No PEM of a public key.
    #[error(
        "this is no public key in PEM (-----BEGIN PUBLIC KEY-----): `openssl pkey -in key.pem -pubout` writes it, from \
         a certificate `openssl x509 -in cert.pem -noout -pubkey`"
    )]
    NoPublicKey,
    /// None of RSA, P-256, P-384, Ed25519.
    #[error(
        "the public key is of a kind that is not known here: RSA, P-256, P-384 and Ed25519 are"
    )]
    UnknownKind,
    /// Too short to be safe, or too long to be fast.
    #[error("the RSA key has {bits} bits: 2048 to 8192 are taken")]
    RsaSize {
        /// What it has.
        bits: usize,
    },
    /// No algorithm's name.
    #[error(
        "{name:?} is no algorithm that is known here: there are HS256, HS384, HS512, RS256, RS384, RS512, PS256, PS384, \
         PS512, ES256, ES384 and EdDSA"
    )]
    UnknownAlgorithm {
        /// What was given.
        name: String,
    },
    /// None of the algorithms is one of the key's.
    #[error("the key verifies {of_key}, and algorithms allows only {allowed}")]
    NoAlgorithmLeft {
        /// The key's.
        of_key: String,
        /// The options'.
        allowed: String,
    },
    /// Not one that we would ask.
    #[error("{url} can't be the URL of a key set: https://… or, on loopback, http://…")]
    Url {
        /// The URL, without a password.
        url: String,
    },
    /// A file of keys.
    #[error("{} can't be read: {reason}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}

/// Why a token does not count. Never holds the token, or more of it than the name of an algorithm.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum AuthError {
    /// No token at all.
    #[error("the token is none: it must be three parts in base64url, header.payload.signature")]
    Malformed,
    /// Larger than any that makes sense.
    #[error("the token has {bytes} bytes, and at most {bytes_max} are taken")]
    TooLarge {
        /// What it has.
        bytes: usize,
        /// What is taken.
        bytes_max: usize,
    },
    /// No JSON, or no algorithm: `none` is not one.
    #[error(
        "the token's header can't be read, or names an algorithm that is not known here (none never is)"
    )]
    Header,
    /// Another than the key is for.
    #[error("the token's algorithm is not one that its key is taken for: {allowed}")]
    Algorithm {
        /// What is.
        allowed: String,
    },
    /// It asks for something that only who knows it may ignore (RFC 7515, 4.1.11).
    #[error("the token's header has critical extensions (crit), and none is known here")]
    Critical,
    /// Of none of the keys.
    #[error("the token was signed with a key that is not known here")]
    UnknownKey,
    /// Somebody else made it, or changed it.
    #[error("the token's signature is wrong")]
    Signature,
    /// Its time is over.
    #[error("the token has expired: get a new one")]
    Expired,
    /// Its time has not come.
    #[error("the token is not valid yet (nbf)")]
    NotYet,
    /// What must be in it is not.
    #[error("the token has no claim {0:?}, or not of the right type")]
    Claim(String),
    /// Somebody else's.
    #[error("the token is from another issuer (iss)")]
    Issuer,
    /// For somebody else.
    #[error("the token is for another audience (aud)")]
    Audience,
    /// Nobody can say now.
    #[error("tokens can't be verified now: the key set could not be had")]
    NoKeys,
    /// It was never asked in a way that makes sense.
    #[error(transparent)]
    Options(#[from] OptionsError),
}

impl AuthError {
    /// Returns the code that a client is told.
    pub fn code(&self) -> Code {
        match self {
            AuthError::NoKeys => Code::Unavailable,
            AuthError::Options(_) => Code::Internal,
            AuthError::Malformed
            | AuthError::TooLarge { .. }
            | AuthError::Header
            | AuthError::Algorithm { .. }
            | AuthError::Critical
            | AuthError::UnknownKey
            | AuthError::Signature
            | AuthError::Expired
            | AuthError::NotYet
            | AuthError::Claim(_)
            | AuthError::Issuer
            | AuthError::Audience => Code::Unauthorized,
        }
    }
}

impl From<AuthError> for ApiError {
    fn from(error: AuthError) -> Self {
        ApiError::new(error.code(), error.to_string())
    }
}
