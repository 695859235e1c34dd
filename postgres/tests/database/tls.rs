//! Connections for questions: encryption as libpq means its `sslmode`, certificates, several hosts.

use convoy_postgres::testing::{Encrypted, TlsServer};
use convoy_postgres::{Pool, PostgresError, SessionOptions, connect};
use convoy_types::{DatabaseUrl, SslMode};
use std::time::Duration;

/// Returns what becomes of an attempt to log in.
async fn encrypted(url: &DatabaseUrl) -> Result<Encrypted, PostgresError> {
    let connection = connect(url, &SessionOptions::default()).await?;
    let sql = "select ssl from pg_stat_ssl where pid = pg_backend_pid()";
    let row = connection.client().query_one(sql, &[]).await?;
    Ok(if row.get(0) { Encrypted::Yes } else { Encrypted::No })
}

#[tokio::test]
async fn encryption_is_as_libpq_means_it() {
    let server = TlsServer::start().await;
    for url in server.ways() {
        let ours = encrypted(&url).await;
        let shown = format!("{url}: {ours:?}");
        let Some(libpqs) = server.libpq(&url) else { break };
        assert_eq!(ours.unwrap_or(Encrypted::Refused), libpqs, "{shown}");
    }
    // Where there is no psql to compare with: the ones that matter most.
    for (role, mode, authority, expected) in [
        ("by_tls", SslMode::Prefer, None, Encrypted::Yes),
        ("by_plain", SslMode::Prefer, None, Encrypted::No),
        ("by_plain", SslMode::Require, None, Encrypted::Refused),
        ("by_tls", SslMode::Disable, None, Encrypted::Refused),
        ("by_tls", SslMode::VerifyFull, Some("ca.crt"), Encrypted::Yes),
        ("by_tls", SslMode::VerifyFull, Some("other.crt"), Encrypted::Refused),
        ("by_tls", SslMode::Require, Some("other.crt"), Encrypted::Refused),
        ("by_tls", SslMode::VerifyCa, None, Encrypted::Refused),
    ] {
        let ssl_root_cert = authority.map(|name| server.file(name));
        let url = DatabaseUrl { ssl_root_cert, ..server.url_on("localhost", role, mode) };
        let ours = encrypted(&url).await.unwrap_or(Encrypted::Refused);
        assert_eq!(ours, expected, "{role} {mode:?} {authority:?}");
    }

    // What is wrong is said.
    let with = |mode, file: &str, host| DatabaseUrl {
        ssl_root_cert: Some(server.file(file)),
        ..server.url_on(host, "by_tls", mode)
    };
    let error = encrypted(&with(SslMode::VerifyFull, "ca.crt", "127.0.0.1")).await;
    let words = error.expect_err("the certificate is for localhost").chain();
    assert!(words.contains("not valid for name"), "{words}");
    let error = encrypted(&with(SslMode::VerifyCa, "other.crt", "localhost")).await;
    let words = error.expect_err("signed by somebody else").chain();
    assert!(words.contains("UnknownIssuer"), "{words}");
    let error = encrypted(&with(SslMode::VerifyCa, "none.crt", "localhost")).await;
    let words = error.expect_err("no such file").chain();
    assert!(words.contains("none.crt"), "{words}");

    // A certificate of ours instead of a password.
    let own = DatabaseUrl {
        ssl_cert: Some(server.file("client.crt")),
        ssl_key: Some(server.file("client.key")),
        ..server.url("by_certificate", SslMode::Require)
    };
    assert_eq!(encrypted(&own).await.expect("let in"), Encrypted::Yes);
    let unknown = DatabaseUrl {
        ssl_cert: Some(server.file("other.crt")),
        ssl_key: Some(server.file("other.key")),
        ..own.clone()
    };
    encrypted(&unknown).await.expect_err("its authority is not the server's");
    encrypted(&server.url("by_certificate", SslMode::Require)).await.expect_err("none at all");
    let half = DatabaseUrl { ssl_key: None, ..own.clone() };
    let error = encrypted(&half).await.expect_err("a certificate without its key");
    assert!(matches!(error, PostgresError::HalfIdentity), "{error:?}");

    // Hosts in turn: nobody listens at the first. The pool goes the same way.
    let mut several = own;
    several.hosts.insert(0, server.nowhere());
    let pool = Pool::new(several.clone(), SessionOptions::default(), 1, Duration::from_secs(5));
    let lease = pool.get().await.expect("a connection to the second host");
    let one: i32 = lease.client().query_one("select 1", &[]).await.expect("a row").get(0);
    assert_eq!(one, 1);
    several.hosts = vec![server.nowhere(), server.nowhere()];
    let error = encrypted(&several).await.expect_err("nobody listens");
    assert!(matches!(error, PostgresError::Connect { .. }) && error.is_retryable(), "{error:?}");
}
