use super::*;
use crate::auth::jwt::{Verified, Verifier, VerifyOptions};
use crate::auth::testing::{Signer, claims, openssl};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// Somebody who publishes keys, and counts how often they are asked for.
#[derive(Default)]
struct Publisher {
    answer: Mutex<String>,
    asked: AtomicUsize,
    /// Before each answer.
    delay: Mutex<Duration>,
}

impl Publisher {
    async fn start() -> (Arc<Publisher>, SocketAddr) {
        Publisher::start_with(None).await
    }

    async fn start_with(tls: Option<TlsAcceptor>) -> (Arc<Publisher>, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let publisher = Arc::new(Publisher::default());
        let (serving, tls) = (publisher.clone(), tls.map(Arc::new));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (publisher, tls) = (serving.clone(), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        None => publisher.answer(stream).await,
                        // Who does not believe the certificate hangs up.
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                publisher.answer(stream).await;
                            }
                        }
                    }
                });
            }
        });
        (publisher, address)
    }

    async fn answer(&self, mut stream: impl AsyncRead + AsyncWrite + Unpin) {
        let mut request = [0; 4096];
        let _ = stream.read(&mut request).await;
        self.asked.fetch_add(1, Ordering::SeqCst);
        let delay = *self.delay.lock().expect("no panic");
        tokio::time::sleep(delay).await;
        let answer = self.answer.lock().expect("no panic").clone();
        let _ = stream.write_all(answer.as_bytes()).await;
        let _ = stream.shutdown().await;
    }

    fn says(&self, status: &str, body: &str) {
        let length = body.len();
        let answer = format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\n\r\n{body}");
        *self.answer.lock().expect("no panic") = answer;
    }

    fn publish(&self, keys: &[Value]) {
        self.says("200 OK", &json!({"keys": keys}).to_string());
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

fn limits() -> SetLimits {
    SetLimits {
        refresh_after: Duration::from_secs(600),
        keep_max: Duration::from_secs(3600),
        unknown_pause: Duration::ZERO,
        failure_pause: Duration::ZERO,
        fetch: FetchLimits { timeout: Duration::from_secs(5), body_bytes_max: 64 << 10 },
    }
}

fn place(address: SocketAddr) -> Place {
    Place::parse(&format!("http://{address}/keys"), Path::new("")).expect("loopback")
}

fn set(address: SocketAddr, limits: SetLimits) -> Verifier {
    Verifier::of_set(KeySet::with(place(address), limits, None))
}

async fn verify(verifier: &Verifier, token: &str) -> Result<Verified, AuthError> {
    verifier.verify(token, &VerifyOptions::default()).await
}

fn token(signer: &Signer) -> String {
    signer.sign(&claims(json!({"sub": "ann"})))
}

#[tokio::test]
async fn keys_of_every_kind_are_taken_and_kept() {
    let (publisher, address) = Publisher::start().await;
    let signers = [
        Signer::new("RS256").named("r"),
        Signer::new("ES256").named("e"),
        Signer::new("ES384").named("f"),
        Signer::new("EdDSA").named("d"),
    ];
    let mut keys: Vec<Value> = signers.iter().map(Signer::jwk).collect();
    // What is of no use hides nothing.
    keys.push(json!({"kty": "new", "kid": "x"}));
    keys.push(json!("no key"));
    publisher.publish(&keys);
    let verifier = set(address, SetLimits { unknown_pause: Duration::from_secs(60), ..limits() });
    for signer in &signers {
        assert!(verify(&verifier, &token(signer)).await.is_ok(), "{}", signer.algorithm);
        // A token without a name is tried with all keys of its kind.
        let nameless = signer.sign_with(&json!({"alg": signer.algorithm}), &claims(json!({})));
        assert!(verify(&verifier, &nameless).await.is_ok(), "{}", signer.algorithm);
    }
    let forged = Signer::stranger("ES256").named("e");
    assert_eq!(verify(&verifier, &token(&forged)).await, Err(AuthError::Signature));
    // A name of another kind of key.
    let confused = Signer::stranger("ES256").named("r");
    assert!(matches!(verify(&verifier, &token(&confused)).await, Err(AuthError::Algorithm { .. })));
    assert_eq!(publisher.asked(), 1);
}

#[tokio::test]
async fn keys_that_are_not_for_signatures_verify_none() {
    let (publisher, address) = Publisher::start().await;
    let signer = Signer::new("RS256").named("a");
    let verifier = set(address, limits());
    let with = |name: &str, value: Value| {
        let mut key = signer.jwk();
        key[name] = value;
        key
    };
    let secret = json!({"kty": "oct", "kid": "a", "k": "c2VjcmV0", "alg": "HS256"});
    for key in [
        with("use", json!("enc")),
        with("key_ops", json!(["sign"])),
        with("alg", json!("RSA-OAEP")),
        secret,
    ] {
        publisher.publish(&[key]);
        assert_eq!(verify(&verifier, &token(&signer)).await, Err(AuthError::UnknownKey));
        let forged = Signer::hmac("HS256", b"secret").named("a");
        assert_eq!(verify(&verifier, &token(&forged)).await, Err(AuthError::UnknownKey));
    }
    publisher.publish(&[with("alg", json!("RS512"))]);
    let allowed = "RS512".to_owned();
    assert_eq!(verify(&verifier, &token(&signer)).await, Err(AuthError::Algorithm { allowed }));
}

#[tokio::test]
async fn an_unknown_key_has_the_set_read_again_but_not_at_will() {
    let (publisher, address) = Publisher::start().await;
    let (old, new) = (Signer::new("ES256").named("old"), Signer::new("ES256").named("new"));
    publisher.publish(&[old.jwk()]);
    let pause = Duration::from_millis(300);
    let verifier = set(address, SetLimits { unknown_pause: pause, ..limits() });
    assert!(verify(&verifier, &token(&old)).await.is_ok());
    publisher.publish(&[old.jwk(), new.jwk()]);
    for _ in 0..20 {
        assert_eq!(verify(&verifier, &token(&new)).await, Err(AuthError::UnknownKey));
    }
    assert_eq!(publisher.asked(), 1, "the pause is not over");
    tokio::time::sleep(pause).await;
    // Many at once are one question.
    let fresh = token(&new);
    let asked = futures_util::future::join_all((0..20).map(|_| verify(&verifier, &fresh))).await;
    assert!(asked.iter().all(Result::is_ok));
    assert_eq!(publisher.asked(), 2);
}

#[tokio::test]
async fn where_reading_fails_the_old_keys_stay_for_a_while() {
    let (publisher, address) = Publisher::start().await;
    let signer = Signer::new("ES256").named("a");
    publisher.says("503 Service Unavailable", "");
    let short = Duration::from_millis(200);
    let keep_max = Duration::from_millis(600);
    let verifier = set(address, SetLimits { refresh_after: short, keep_max, ..limits() });
    assert_eq!(verify(&verifier, &token(&signer)).await, Err(AuthError::NoKeys));
    publisher.publish(&[signer.jwk()]);
    assert!(verify(&verifier, &token(&signer)).await.is_ok());
    for (status, body) in [("302 Found", ""), ("200 OK", "no JSON"), ("200 OK", "{}")] {
        publisher.says(status, body);
        let unknown = Signer::new("ES256").named("b");
        assert_eq!(verify(&verifier, &token(&unknown)).await, Err(AuthError::UnknownKey));
        assert!(verify(&verifier, &token(&signer)).await.is_ok(), "after {status} {body:?}");
    }
    tokio::time::sleep(keep_max).await;
    assert_eq!(verify(&verifier, &token(&signer)).await, Err(AuthError::NoKeys));
}

/// Who verifies goes on with what is there; the set is read beside.
#[tokio::test]
async fn an_old_set_is_read_again_while_nobody_waits() {
    let (publisher, address) = Publisher::start().await;
    let (signer, next) = (Signer::new("ES256").named("a"), Signer::new("ES256").named("b"));
    publisher.publish(&[signer.jwk()]);
    let limits = SetLimits { refresh_after: Duration::ZERO, ..limits() };
    let set = KeySet::with(place(address), limits, None);
    let verifier = Verifier::of_set(set.clone());
    assert!(verify(&verifier, &token(&signer)).await.is_ok());
    publisher.publish(&[next.jwk()]);
    *publisher.delay.lock().expect("no panic") = Duration::from_millis(300);
    let before = Instant::now();
    assert!(verify(&verifier, &token(&signer)).await.is_ok());
    assert!(before.elapsed() < Duration::from_millis(250), "it waited");
    let has_next = || set.present().is_some_and(|read| read.keys[0].id.as_deref() == Some("b"));
    tokio::time::timeout(Duration::from_secs(10), async {
        while !has_next() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .expect("the set is read beside");
}

#[tokio::test]
async fn nobody_waits_for_ever_or_reads_without_end() {
    let (publisher, address) = Publisher::start().await;
    let token = token(&Signer::new("ES256").named("a"));
    let fetch = FetchLimits { timeout: Duration::from_millis(100), body_bytes_max: 1000 };
    let verifier = set(address, SetLimits { fetch, ..limits() });
    publisher.says("200 OK", &format!("{{\"keys\":[],\"x\":\"{}\"}}", "y".repeat(2000)));
    assert_eq!(verify(&verifier, &token).await, Err(AuthError::NoKeys));
    publisher.publish(&[]);
    *publisher.delay.lock().expect("no panic") = Duration::from_secs(60);
    let asked = tokio::time::timeout(Duration::from_secs(10), verify(&verifier, &token)).await;
    assert_eq!(asked.expect("it gives up"), Err(AuthError::NoKeys));
}

#[tokio::test]
async fn a_file_is_read_again_too() {
    let folder = tempfile::tempdir().expect("a folder");
    let (old, new) = (Signer::new("ES256").named("old"), Signer::new("EdDSA").named("new"));
    let write = |keys: &[Value]| {
        let text = json!({"keys": keys}).to_string();
        std::fs::write(folder.path().join("keys.json"), text).expect("a file");
    };
    let place = Place::parse("keys.json", folder.path()).expect("a path");
    let verifier = Verifier::of_set(KeySet::with(place, limits(), None));
    assert_eq!(verify(&verifier, &token(&old)).await, Err(AuthError::NoKeys));
    write(&[old.jwk()]);
    assert!(verify(&verifier, &token(&old)).await.is_ok());
    write(&[new.jwk()]);
    assert!(verify(&verifier, &token(&new)).await.is_ok());
    assert_eq!(verify(&verifier, &token(&old)).await, Err(AuthError::UnknownKey));
}

#[tokio::test]
async fn over_tls_only_known_authorities_are_believed() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    let path = |name: &str| at(name).display().to_string();
    let new = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
    for name in ["ca", "other"] {
        let (key, cert) = (path(&format!("{name}.key")), path(&format!("{name}.crt")));
        openssl(
            &format!("req -x509 {new} -days 2 -subj /CN={name} -keyout {key} -out {cert}"),
            &[],
        );
    }
    std::fs::write(at("names"), "subjectAltName=DNS:localhost").expect("a file");
    let (key, csr, cert) = (path("leaf.key"), path("leaf.csr"), path("leaf.crt"));
    openssl(&format!("req {new} -subj /CN=localhost -keyout {key} -out {csr}"), &[]);
    openssl(
        &format!(
            "x509 -req -in {csr} -days 2 -CA {} -CAkey {} -CAcreateserial -extfile {} -out {cert}",
            path("ca.crt"),
            path("ca.key"),
            path("names")
        ),
        &[],
    );
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let chain = vec![CertificateDer::from_pem_file(at("leaf.crt")).expect("a certificate")];
    let private = PrivateKeyDer::from_pem_file(at("leaf.key")).expect("a key");
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(chain, private)
        .expect("a certificate and its key");
    let (publisher, address) =
        Publisher::start_with(Some(TlsAcceptor::from(Arc::new(config)))).await;
    let signer = Signer::new("ES256").named("a");
    publisher.publish(&[signer.jwk()]);
    let with = |host: &str, authority: &str| {
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_file(at(authority)).expect("a certificate"))
            .expect("an authority");
        let url = format!("https://{host}:{}/keys", address.port());
        let place = Place::parse(&url, Path::new("")).expect("a URL");
        Verifier::of_set(KeySet::with(place, limits(), Some(roots)))
    };
    let token = token(&signer);
    assert!(verify(&with("localhost", "ca.crt"), &token).await.is_ok());
    assert_eq!(verify(&with("localhost", "other.crt"), &token).await, Err(AuthError::NoKeys));
    // The right authority's certificate, for another name.
    assert_eq!(verify(&with("127.0.0.1", "ca.crt"), &token).await, Err(AuthError::NoKeys));
    assert_eq!(publisher.asked(), 1);
}
