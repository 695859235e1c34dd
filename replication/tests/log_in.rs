//! Logging in: every way that a server may ask for, hosts in turn, and TLS as libpq's `sslmode` means it.

use crate::support::{connect, refusal, text, within};
use convoy_postgres::testing::{Encrypted, TlsServer};
use convoy_replication::{
    ReplicationConfig, ReplicationError, ReplicationSession, ReplicationStream, TlsSetupError,
};
use convoy_types::{ChannelBinding, DatabaseUrl, SslMode};

/// Logs in and returns whether the connection is encrypted.
async fn encrypted(server: &TlsServer, url: DatabaseUrl) -> bool {
    let stream = ReplicationStream::connect(ReplicationConfig::new(url)).await.expect("a stream");
    let client = connect(&server.postgres().url("postgres")).await;
    let query = format!("SELECT ssl FROM pg_stat_ssl WHERE pid = {}", stream.backend_pid());
    let encrypted = text(&client, &query).await;
    stream.shutdown().await;
    encrypted.as_deref() == Some("t")
}

#[tokio::test]
async fn each_way_to_log_in() {
    within(async {
        let server = TlsServer::start().await;
        for user in ["by_scram", "by_md5", "by_password", "by_trust"] {
            assert!(!encrypted(&server, server.url(user, SslMode::Disable)).await, "{user}");
        }
        for user in ["by_scram", "by_md5", "by_password"] {
            let url = server.url(user, SslMode::Disable);
            let wrong = DatabaseUrl { password: Some("wrong".to_owned()), ..url.clone() };
            let error = refusal(ReplicationConfig::new(wrong)).await;
            assert!(matches!(error, ReplicationError::LogInRefused { .. }), "{user}: {error:?}");
            let none = DatabaseUrl { password: None, ..url };
            let error = refusal(ReplicationConfig::new(none)).await;
            assert!(matches!(error, ReplicationError::PasswordMissing { .. }), "{user}: {error:?}");
        }
        let error = refusal(ReplicationConfig::new(server.url("nobody", SslMode::Prefer))).await;
        assert!(matches!(error, ReplicationError::HostRefused { .. }), "{error:?}");
        assert!(error.to_string().contains("pg_hba.conf") && !error.is_retryable());

        // Encryption as each mode asks for it, and the other way where pg_hba.conf refuses the first.
        for (user, mode, expected) in [
            ("by_scram", SslMode::Allow, false),
            ("by_scram", SslMode::Prefer, true),
            ("by_scram", SslMode::Require, true),
            ("by_tls", SslMode::Allow, true),
            ("by_tls", SslMode::Prefer, true),
            ("by_plain", SslMode::Prefer, false),
        ] {
            assert_eq!(
                encrypted(&server, server.url(user, mode)).await,
                expected,
                "{user} {mode:?}"
            );
        }
        for (user, mode) in [("by_tls", SslMode::Disable), ("by_plain", SslMode::Require)] {
            let error = refusal(ReplicationConfig::new(server.url(user, mode))).await;
            assert!(
                matches!(error, ReplicationError::HostRefused { .. }),
                "{user} {mode:?}: {error:?}"
            );
        }

        // Who signed the certificate, and for whom.
        let verified = |mode, authority: &str, host: &str| {
            let url = server.url_on(host, "by_tls", mode);
            ReplicationConfig::new(DatabaseUrl {
                ssl_root_cert: Some(server.file(authority)),
                ..url
            })
        };
        for (mode, host) in [
            (SslMode::Require, "127.0.0.1"),
            (SslMode::VerifyCa, "127.0.0.1"),
            (SslMode::VerifyFull, "localhost"),
        ] {
            assert!(encrypted(&server, verified(mode, "ca.crt", host).url).await, "{mode:?}");
            let error = refusal(verified(mode, "other.crt", host)).await;
            assert!(matches!(error, ReplicationError::TlsHandshake { .. }), "{mode:?}: {error:?}");
        }
        let error = refusal(verified(SslMode::VerifyFull, "ca.crt", "127.0.0.1")).await;
        assert!(matches!(error, ReplicationError::TlsHandshake { .. }), "{error:?}");
        let error = refusal(verified(SslMode::VerifyFull, "none.crt", "localhost")).await;
        assert!(matches!(error, ReplicationError::TlsSetup(_)), "{error:?}");

        let url = server.url("by_tls", SslMode::VerifyCa);
        let error = refusal(ReplicationConfig::new(url)).await;
        assert!(
            matches!(error, ReplicationError::TlsSetup(TlsSetupError::NoAuthorities)),
            "{error:?}"
        );

        // A certificate of ours instead of a password.
        let url = DatabaseUrl {
            ssl_cert: Some(server.file("client.crt")),
            ssl_key: Some(server.file("client.key")),
            ..server.url("by_certificate", SslMode::Require)
        };
        assert!(encrypted(&server, url.clone()).await);
        let unknown = DatabaseUrl {
            ssl_cert: Some(server.file("other.crt")),
            ssl_key: Some(server.file("other.key")),
            ..url.clone()
        };
        refusal(ReplicationConfig::new(unknown)).await;
        let half = DatabaseUrl { ssl_key: None, ..url };
        let error = refusal(ReplicationConfig::new(half)).await;
        assert!(
            matches!(error, ReplicationError::TlsSetup(TlsSetupError::HalfIdentity)),
            "{error:?}"
        );

        // The password bound to the channel.
        let bound = |user, mode| {
            let channel_binding = ChannelBinding::Require;
            DatabaseUrl { channel_binding, ..server.url(user, mode) }
        };
        assert!(encrypted(&server, bound("by_scram", SslMode::Require)).await);
        for (user, mode) in [
            ("by_scram", SslMode::Disable),
            ("by_md5", SslMode::Require),
            ("by_trust", SslMode::Require),
        ] {
            let error = refusal(ReplicationConfig::new(bound(user, mode))).await;
            assert!(matches!(error, ReplicationError::NotBound), "{user} {mode:?}: {error:?}");
        }

        // Hosts in turn: nobody listens at the first.
        let mut url = server.url("by_scram", SslMode::Prefer);
        let nowhere = server.nowhere();
        url.hosts.insert(0, nowhere.clone());
        assert!(encrypted(&server, url.clone()).await);
        url.hosts = vec![nowhere.clone(), nowhere];
        let error = refusal(ReplicationConfig::new(url)).await;
        assert!(
            matches!(&error, ReplicationError::NoHost { attempts } if attempts.len() == 2),
            "{error:?}"
        );
        assert!(error.is_retryable());
        drop(server);
    })
    .await;
}

#[tokio::test]
async fn encryption_is_as_libpq_means_it() {
    within(async {
        let server = TlsServer::start().await;
        for url in server.ways() {
            let Some(libpqs) = server.libpq(&url) else { break };
            let ours = match ReplicationSession::open(ReplicationConfig::new(url.clone())).await {
                Err(_) => Encrypted::Refused,
                Ok(session) => {
                    let client = connect(&server.postgres().url("postgres")).await;
                    let pid = session.backend_pid();
                    let query = format!("SELECT ssl FROM pg_stat_ssl WHERE pid = {pid}");
                    match text(&client, &query).await.as_deref() {
                        Some("t") => Encrypted::Yes,
                        _ => Encrypted::No,
                    }
                }
            };
            assert_eq!(ours, libpqs, "{url}");
        }
    })
    .await;
}
