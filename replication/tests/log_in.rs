//! Logging in: every way that a server may ask for, hosts in turn, and TLS as libpq's `sslmode` means it.

use crate::support::{connect, refusal, run, within};
use convoy_postgres::launcher::{LaunchOptions, Listen, PrivatePostgres};
use convoy_postgres::testing;
use convoy_replication::{ReplicationConfig, ReplicationError, ReplicationStream};
use convoy_types::{ChannelBinding, DatabaseUrl, Host, SslMode};
use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A server on loopback with roles that log in in each way, and a certificate of its own authority.
struct Server {
    postgres: PrivatePostgres,
    certificates: PathBuf,
}

impl Server {
    async fn start() -> Server {
        let options = LaunchOptions { listen: Listen::Loopback, ..testing::options() };
        let postgres = PrivatePostgres::start(options).await.expect("a server");
        let client = connect(&postgres.url("postgres")).await;
        let certificates = postgres.folder().join("certificates");
        make_certificates(&certificates, &postgres.folder().join("data"));
        run(
            &client,
            "CREATE PUBLICATION convoy_full;\nCREATE PUBLICATION convoy_ins;\n\
             CREATE ROLE by_scram LOGIN REPLICATION PASSWORD 'right';\n\
             CREATE ROLE by_password LOGIN REPLICATION PASSWORD 'right';\n\
             CREATE ROLE by_trust LOGIN REPLICATION;\n\
             CREATE ROLE by_tls LOGIN REPLICATION PASSWORD 'right';\n\
             CREATE ROLE by_plain LOGIN REPLICATION PASSWORD 'right';\n\
             CREATE ROLE by_certificate LOGIN REPLICATION;\n\
             SET password_encryption = 'md5';\n\
             CREATE ROLE by_md5 LOGIN REPLICATION PASSWORD 'right'",
        )
        .await;
        let hba = "local all all trust\n\
                   host all by_scram all scram-sha-256\n\
                   host all by_md5 all md5\n\
                   host all by_password all password\n\
                   host all by_trust all trust\n\
                   hostssl all by_tls all scram-sha-256\n\
                   hostnossl all by_plain all scram-sha-256\n\
                   hostssl all by_certificate all cert\n";
        std::fs::write(postgres.folder().join("data/pg_hba.conf"), hba).expect("a file");
        run(
            &client,
            "ALTER SYSTEM SET ssl = on;\n\
             ALTER SYSTEM SET ssl_cert_file = 'server.crt';\n\
             ALTER SYSTEM SET ssl_key_file = 'server.key';\n\
             ALTER SYSTEM SET ssl_ca_file = 'ca.crt'",
        )
        .await;
        drop(client);
        postgres.restart().await.expect("a restart");
        Server { postgres, certificates }
    }

    fn url(&self, user: &str, ssl_mode: SslMode) -> DatabaseUrl {
        let url = self.postgres.tcp_url("postgres").expect("a URL on loopback");
        let url: DatabaseUrl = url.parse().expect("a URL");
        DatabaseUrl { user: user.to_owned(), password: Some("right".to_owned()), ssl_mode, ..url }
    }

    fn authority(&self, name: &str) -> Option<PathBuf> {
        Some(self.certificates.join(name))
    }

    /// Logs in and returns whether the connection is encrypted.
    async fn encrypted(&self, url: DatabaseUrl) -> bool {
        let stream =
            ReplicationStream::connect(ReplicationConfig::new(url)).await.expect("a stream");
        let client = connect(&self.postgres.url("postgres")).await;
        let query = format!("SELECT ssl FROM pg_stat_ssl WHERE pid = {}", stream.backend_pid());
        let encrypted = crate::support::text(&client, &query).await;
        stream.shutdown().await;
        encrypted.as_deref() == Some("t")
    }
}

/// Makes an authority, a certificate for `localhost` into the data folder, one for a role, and an authority that
/// signed nothing.
fn make_certificates(folder: &Path, data: &Path) {
    std::fs::create_dir(folder).expect("a folder");
    let openssl = |arguments: &str| {
        let output = Command::new("openssl")
            .args(arguments.split(' '))
            .current_dir(folder)
            .output()
            .expect("the tests need the openssl command");
        assert!(
            output.status.success(),
            "{arguments}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    };
    let new = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
    for (name, subject) in [("ca", "authority"), ("other", "other-authority")] {
        openssl(&format!(
            "req -x509 {new} -days 2 -subj /CN={subject} -keyout {name}.key -out {name}.crt"
        ));
    }
    std::fs::write(folder.join("names"), "subjectAltName=DNS:localhost").expect("a file");
    for (name, subject) in [("server", "localhost"), ("client", "by_certificate")] {
        openssl(&format!("req {new} -subj /CN={subject} -keyout {name}.key -out {name}.csr"));
        openssl(&format!(
            "x509 -req -in {name}.csr -days 2 -CA ca.crt -CAkey ca.key -CAcreateserial -extfile names -out {name}.crt"
        ));
    }
    let owner = data.metadata().expect("the data folder");
    for name in ["server.crt", "server.key", "ca.crt"] {
        let target = data.join(name);
        std::fs::copy(folder.join(name), &target).expect("a copy");
        std::fs::set_permissions(&target, PermissionsExt::from_mode(0o600)).expect("a mode");
        chown(&target, Some(owner.uid()), Some(owner.gid())).expect("an owner");
    }
}

fn on_host(url: DatabaseUrl, name: &str) -> DatabaseUrl {
    let rename = |host| match host {
        Host::Tcp { port, .. } => Host::Tcp { name: name.to_owned(), port },
        unix @ Host::Unix { .. } => unix,
    };
    DatabaseUrl { hosts: url.hosts.into_iter().map(rename).collect(), ..url }
}

#[tokio::test]
async fn each_way_to_log_in() {
    within(async {
        let server = Server::start().await;
        for user in ["by_scram", "by_md5", "by_password", "by_trust"] {
            assert!(!server.encrypted(server.url(user, SslMode::Disable)).await, "{user}");
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
        for (user, mode, encrypted) in [
            ("by_scram", SslMode::Allow, false),
            ("by_scram", SslMode::Prefer, true),
            ("by_scram", SslMode::Require, true),
            ("by_tls", SslMode::Allow, true),
            ("by_tls", SslMode::Prefer, true),
            ("by_plain", SslMode::Prefer, false),
        ] {
            assert_eq!(
                server.encrypted(server.url(user, mode)).await,
                encrypted,
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
            let url = on_host(server.url("by_tls", mode), host);
            ReplicationConfig::new(DatabaseUrl {
                ssl_root_cert: server.authority(authority),
                ..url
            })
        };
        for (mode, host) in [
            (SslMode::Require, "127.0.0.1"),
            (SslMode::VerifyCa, "127.0.0.1"),
            (SslMode::VerifyFull, "localhost"),
        ] {
            assert!(server.encrypted(verified(mode, "ca.crt", host).url).await, "{mode:?}");
            let error = refusal(verified(mode, "other.crt", host)).await;
            assert!(matches!(error, ReplicationError::TlsHandshake { .. }), "{mode:?}: {error:?}");
        }
        let error = refusal(verified(SslMode::VerifyFull, "ca.crt", "127.0.0.1")).await;
        assert!(matches!(error, ReplicationError::TlsHandshake { .. }), "{error:?}");
        let error = refusal(verified(SslMode::VerifyFull, "none.crt", "localhost")).await;
        assert!(matches!(error, ReplicationError::TlsSetup(_)), "{error:?}");

        // A certificate of ours instead of a password.
        let url = DatabaseUrl {
            ssl_cert: server.authority("client.crt"),
            ssl_key: server.authority("client.key"),
            ..server.url("by_certificate", SslMode::Require)
        };
        assert!(server.encrypted(url).await);

        // The password bound to the channel.
        let bound = |user, mode| {
            let channel_binding = ChannelBinding::Require;
            DatabaseUrl { channel_binding, ..server.url(user, mode) }
        };
        assert!(server.encrypted(bound("by_scram", SslMode::Require)).await);
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
        let nowhere = Host::Unix { directory: server.certificates.clone(), port: 1 };
        url.hosts.insert(0, nowhere.clone());
        assert!(server.encrypted(url.clone()).await);
        url.hosts = vec![nowhere.clone(), nowhere];
        let error = refusal(ReplicationConfig::new(url)).await;
        assert!(
            matches!(&error, ReplicationError::NoHost { attempts } if attempts.len() == 2),
            "{error:?}"
        );
        assert!(error.is_retryable());
        server.postgres.stop().await.expect("it is gone");
    })
    .await;
}
