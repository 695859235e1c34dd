use super::*;
use crate::auth::testing::{ALGORITHMS, Signer, claims, encode, soon};
use serde_json::json;
use std::time::UNIX_EPOCH;

fn secret() -> Verifier {
    Signer::new("HS256").verifier()
}

fn public(pem: &str) -> Verifier {
    Verifier::new(&KeySource::PublicKey(pem.to_owned()), Path::new("")).expect("a key")
}

async fn refused(verifier: &Verifier, token: &str, options: &VerifyOptions) -> AuthError {
    let error = verifier.verify(token, options).await.expect_err(token);
    assert!(token.len() < 20 || !error.to_string().contains(token), "{error}");
    error
}

#[tokio::test]
async fn each_algorithm_is_verified_by_its_key_alone() {
    let signers = ALGORITHMS.map(Signer::new);
    let options = VerifyOptions::default();
    for signer in &signers {
        let (verifier, token) = (signer.verifier(), signer.sign(&claims(json!({"sub": "ann"}))));
        let verified = verifier.verify(&token, &options).await;
        let verified = verified.unwrap_or_else(|error| panic!("{}: {error}", signer.algorithm));
        assert_eq!(verified.claims["sub"], "ann");
        // Another key of the same kind, a changed claim, a changed signature.
        let other = Signer::stranger(signer.algorithm).sign(&claims(json!({"sub": "ann"})));
        assert_eq!(refused(&verifier, &other, &options).await, AuthError::Signature);
        let parts: Vec<&str> = token.split('.').collect();
        let forged = signer.sign(&claims(json!({"sub": "bob"})));
        let forged: Vec<&str> = forged.split('.').collect();
        let changed = format!("{}.{}.{}", parts[0], forged[1], parts[2]);
        assert_eq!(refused(&verifier, &changed, &options).await, AuthError::Signature);
        for cut in [format!("{}.{}.", parts[0], parts[1]), token[..token.len() - 4].to_owned()] {
            let error = refused(&verifier, &cut, &options).await;
            assert!(matches!(error, AuthError::Signature | AuthError::Malformed), "{error}");
        }
        // A token of every other algorithm.
        for other in signers.iter().filter(|other| other.algorithm != signer.algorithm) {
            let made = other.sign(&claims(json!({})));
            // Of the same family the key would verify it, if it were its own.
            let is_related = |kinds: [&str; 2]| {
                [signer, other].iter().all(|of| kinds.contains(&&of.algorithm[..2]))
            };
            if is_related(["HS", "HS"]) || is_related(["RS", "PS"]) {
                assert!(verifier.verify(&made, &options).await.is_ok());
                continue;
            }
            let error = refused(&verifier, &made, &options).await;
            let expected = matches!(error, AuthError::Algorithm { .. });
            assert!(expected, "{} for {}: {error}", other.algorithm, signer.algorithm);
        }
    }
}

/// The attack: what is signed with the public key as if it were a secret.
#[tokio::test]
async fn a_public_key_is_never_a_secret() {
    let rsa = Signer::new("RS256");
    let pem = rsa.public_pem();
    let verifier = public(&pem);
    for secret in [pem.as_bytes(), pem.trim().as_bytes()] {
        for algorithm in ["HS256", "HS384", "HS512"] {
            let forged = Signer::hmac(algorithm, secret).sign(&claims(json!({"sub": "root"})));
            for algorithms in [vec![], vec![Algorithm::RS256]] {
                let options = VerifyOptions { algorithms, ..VerifyOptions::default() };
                let error = refused(&verifier, &forged, &options).await;
                assert!(matches!(error, AuthError::Algorithm { .. }), "{error}");
            }
            // Not even where the options say so.
            let options =
                VerifyOptions { algorithms: vec![Algorithm::HS256], ..VerifyOptions::default() };
            let error = refused(&verifier, &forged, &options).await;
            assert!(matches!(error, AuthError::Options(OptionsError::NoAlgorithmLeft { .. })));
        }
    }
    let given = Verifier::new(&KeySource::Secret(pem), Path::new(""));
    assert_eq!(given.err(), Some(OptionsError::SecretIsPem));
}

#[tokio::test]
async fn none_is_no_algorithm() {
    for verifier in [secret(), public(&Signer::new("ES256").public_pem())] {
        for algorithm in ["none", "None", "NONE", "", "HS1"] {
            let header = json!({"alg": algorithm, "typ": "JWT"});
            for signature in ["", "AAAA"] {
                let claims = claims(json!({"sub": "root"}));
                let parts = [header.to_string(), claims.to_string()].map(encode);
                let token = format!("{}.{}.{signature}", parts[0], parts[1]);
                assert_eq!(
                    refused(&verifier, &token, &VerifyOptions::default()).await,
                    AuthError::Header
                );
            }
        }
    }
}

#[tokio::test]
async fn options_narrow_what_the_key_allows() {
    let options = VerifyOptions { algorithms: vec![Algorithm::HS512], ..VerifyOptions::default() };
    let of = |algorithm| Signer::new(algorithm).sign(&claims(json!({})));
    assert!(secret().verify(&of("HS512"), &options).await.is_ok());
    let error = refused(&secret(), &of("HS256"), &options).await;
    assert_eq!(error, AuthError::Algorithm { allowed: "HS512".to_owned() });
}

#[tokio::test]
async fn claims_are_checked() {
    let verifier = secret();
    let signer = Signer::new("HS256");
    let plain = VerifyOptions::default();
    let check = async |claims: Value, options: &VerifyOptions, expected: Option<AuthError>| {
        let outcome = verifier.verify(&signer.sign(&claims), options).await;
        assert_eq!(outcome.err(), expected, "{claims}");
    };
    // Time, with a leeway of half a minute.
    check(json!({"exp": soon(-20)}), &plain, None).await;
    check(json!({"exp": soon(-20) as f64 + 0.5}), &plain, None).await;
    check(json!({"exp": soon(-40)}), &plain, Some(AuthError::Expired)).await;
    check(
        json!({"exp": soon(-400)}),
        &VerifyOptions { leeway: Duration::from_secs(9_999), ..plain.clone() },
        Some(AuthError::Expired),
    )
    .await;
    check(json!({"exp": soon(60), "nbf": soon(20)}), &plain, None).await;
    check(json!({"exp": soon(600), "nbf": soon(60)}), &plain, Some(AuthError::NotYet)).await;
    let no_exp = || Some(AuthError::Claim("exp".to_owned()));
    check(json!({}), &plain, no_exp()).await;
    check(json!({"exp": null}), &plain, no_exp()).await;
    check(json!({"exp": soon(60).to_string()}), &plain, no_exp()).await;
    check(json!({"exp": -1}), &plain, no_exp()).await;
    let eternal = VerifyOptions { require_exp: false, ..plain.clone() };
    check(json!({}), &eternal, None).await;
    check(json!({"exp": soon(-40)}), &eternal, Some(AuthError::Expired)).await;
    check(json!({"exp": "never"}), &eternal, no_exp()).await;
    // Who made it, and for whom.
    let issuer = VerifyOptions { issuers: vec!["a".into(), "b".into()], ..plain.clone() };
    check(json!({"exp": soon(60), "iss": "b"}), &issuer, None).await;
    check(json!({"exp": soon(60), "iss": "c"}), &issuer, Some(AuthError::Issuer)).await;
    check(json!({"exp": soon(60)}), &issuer, Some(AuthError::Claim("iss".into()))).await;
    let audience = VerifyOptions { audiences: vec!["app".into()], ..plain.clone() };
    check(json!({"exp": soon(60), "aud": ["x", "app"]}), &audience, None).await;
    check(json!({"exp": soon(60), "aud": "app"}), &audience, None).await;
    for other in [json!("x"), json!(["x"]), json!([])] {
        let claims = json!({"exp": soon(60), "aud": other});
        check(claims, &audience, Some(AuthError::Audience)).await;
    }
    check(json!({"exp": soon(60)}), &audience, Some(AuthError::Claim("aud".into()))).await;
    check(json!({"exp": soon(60), "aud": "x"}), &plain, None).await;
}

#[tokio::test]
async fn says_until_when_a_token_counts() {
    let signer = Signer::new("HS256");
    let at = soon(100);
    let token = signer.sign(&json!({"exp": at}));
    let verified = secret().verify(&token, &VerifyOptions::default()).await;
    let expires_at = verified.expect("good").expires_at;
    assert_eq!(expires_at, Some(UNIX_EPOCH + Duration::from_secs(at) + LEEWAY_DEFAULT));
    let options = VerifyOptions { require_exp: false, ..VerifyOptions::default() };
    let verified = secret().verify(&signer.sign(&json!({})), &options).await.expect("good");
    assert_eq!(verified.expires_at, None);
    // Later than any clock shows is for ever.
    for at in [1e300, 1e19] {
        let verified = secret().verify(&signer.sign(&json!({"exp": at})), &options).await;
        assert_eq!(verified.map(|verified| verified.expires_at), Ok(None));
    }
}

#[tokio::test]
async fn what_is_no_token_is_refused() {
    let (verifier, options) = (secret(), VerifyOptions::default());
    let good = Signer::new("HS256").sign(&claims(json!({})));
    let with_dots = format!("{good}.x");
    for garbage in
        ["", ".", "..", "...", "a.b.c", "null", "Bearer x", &with_dots, "é.é.é", "e30.e30.", " "]
    {
        let error = refused(&verifier, garbage, &options).await;
        assert!(matches!(error, AuthError::Malformed | AuthError::Header), "{garbage:?}: {error}");
    }
    // Padding and the other alphabet are none of base64url.
    for changed in [format!("{good}="), good.replace(['-', '_'], "+") + "+/"] {
        assert!(verifier.verify(&changed, &options).await.is_err());
    }
    let large = Signer::new("HS256").sign(&claims(json!({"x": "y".repeat(20_000)})));
    assert!(matches!(refused(&verifier, &large, &options).await, AuthError::TooLarge { .. }));
    let critical = Signer::new("HS256")
        .sign_with(&json!({"alg": "HS256", "crit": ["b64"], "b64": true}), &claims(json!({})));
    assert_eq!(refused(&verifier, &critical, &options).await, AuthError::Critical);
}

/// Made by others: RFC 7515, A.1.
#[tokio::test]
async fn the_rfcs_example_is_verified() {
    use base64::Engine;
    let key = base64::engine::general_purpose::URL_SAFE_NO_PAD
        .decode("AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow")
        .expect("base64");
    let key = Key {
        id: None,
        algorithms: vec![Algorithm::HS256],
        decoding: jsonwebtoken::DecodingKey::from_secret(&key),
    };
    let verifier = Verifier::with(Keys::One(Box::new(key)));
    let token = "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
    // The signature is right, so that what is wrong is the year.
    assert_eq!(refused(&verifier, token, &VerifyOptions::default()).await, AuthError::Expired);
}

#[tokio::test]
async fn no_other_text_is_the_same_token() {
    let alphabet = b"Az09-_.=+/ ";
    let options = VerifyOptions::default();
    for algorithm in ["HS256", "ES256"] {
        let signer = Signer::new(algorithm);
        let (verifier, token) = (signer.verifier(), signer.sign(&claims(json!({"sub": "ann"}))));
        assert!(verifier.verify(&token, &options).await.is_ok());
        for position in 0..token.len() {
            let mut others: Vec<Vec<u8>> = Vec::new();
            for other in alphabet.iter().filter(|other| **other != token.as_bytes()[position]) {
                let mut changed = token.clone().into_bytes();
                changed[position] = *other;
                others.push(changed);
                let mut longer = token.clone().into_bytes();
                longer.insert(position, *other);
                others.push(longer);
            }
            let mut shorter = token.clone().into_bytes();
            shorter.remove(position);
            others.push(shorter);
            for other in others.into_iter().filter(|other| other != token.as_bytes()) {
                let other = String::from_utf8(other).expect("ASCII");
                assert!(verifier.verify(&other, &options).await.is_err(), "{other:?}");
            }
        }
    }
}
