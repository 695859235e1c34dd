//! A server on loopback whose roles log in in each way that there is, with a certificate of an authority of its own.

use super::{chain, options};
use crate::launcher::{LaunchOptions, Listen, PrivatePostgres};
use convoy_types::{DatabaseUrl, Host, SslMode};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use tokio_postgres::NoTls;

/// Roles by the way in which they log in; where they have a password it is `right`.
const ROLES: &str = "\
CREATE ROLE by_scram LOGIN REPLICATION PASSWORD 'right';
CREATE ROLE by_password LOGIN REPLICATION PASSWORD 'right';
CREATE ROLE by_trust LOGIN REPLICATION;
CREATE ROLE by_tls LOGIN REPLICATION PASSWORD 'right';
CREATE ROLE by_plain LOGIN REPLICATION PASSWORD 'right';
CREATE ROLE by_certificate LOGIN REPLICATION;
SET password_encryption = 'md5';
CREATE ROLE by_md5 LOGIN REPLICATION PASSWORD 'right';
CREATE PUBLICATION convoy_full;
CREATE PUBLICATION convoy_ins WITH (publish = 'insert, truncate')";

const HBA: &str = "\
local all all trust
host all by_scram all scram-sha-256
host all by_md5 all md5
host all by_password all password
host all by_trust all trust
hostssl all by_tls all scram-sha-256
hostnossl all by_plain all scram-sha-256
hostssl all by_certificate all cert
";

const SETTINGS: [&str; 4] = [
    "ALTER SYSTEM SET ssl = on",
    "ALTER SYSTEM SET ssl_cert_file = 'server.crt'",
    "ALTER SYSTEM SET ssl_key_file = 'server.key'",
    "ALTER SYSTEM SET ssl_ca_file = 'ca.crt'",
];

/// What became of an attempt to log in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encrypted {
    /// Logged in, and encrypted.
    Yes,
    /// Logged in, and not encrypted.
    No,
    /// Not logged in.
    Refused,
}

/// The server. Its certificate is for `localhost`.
#[derive(Debug)]
pub struct TlsServer {
    postgres: PrivatePostgres,
    certificates: PathBuf,
}

impl TlsServer {
    /// Starts one, with our two publications in its database `postgres`. Needs the `openssl` command.
    ///
    /// # Panics
    /// If it can't be started, with the reason.
    pub async fn start() -> TlsServer {
        let launched =
            PrivatePostgres::start(LaunchOptions { listen: Listen::Loopback, ..options() }).await;
        let postgres = match launched {
            Ok(postgres) => postgres,
            Err(error) => panic!("no Postgres to test with: {}", chain(&error)),
        };
        let data = postgres.folder().join("data");
        let certificates = postgres.folder().join("certificates");
        make_certificates(&certificates, &data);
        set_up(&postgres).await.expect("a fresh server takes these statements");
        std::fs::write(data.join("pg_hba.conf"), HBA).expect("the data folder is ours");
        if let Err(error) = postgres.restart().await {
            panic!("no Postgres with certificates: {}", chain(&error));
        }
        TlsServer { postgres, certificates }
    }

    /// Returns the server itself.
    pub fn postgres(&self) -> &PrivatePostgres {
        &self.postgres
    }

    /// Returns a way in for one of the roles: `by_scram`, `by_md5`, `by_password`, `by_trust`, `by_tls` (encrypted
    /// only), `by_plain` (not encrypted only) and `by_certificate`.
    pub fn url(&self, role: &str, ssl_mode: SslMode) -> DatabaseUrl {
        let url = self.postgres.tcp_url("postgres").expect("it listens on loopback");
        let url: DatabaseUrl = url.parse().expect("the launcher's URLs can be read");
        DatabaseUrl { user: role.to_owned(), password: Some("right".to_owned()), ssl_mode, ..url }
    }

    /// Returns the same with another name of this machine.
    pub fn url_on(&self, host: &str, role: &str, ssl_mode: SslMode) -> DatabaseUrl {
        let url = self.url(role, ssl_mode);
        let hosts = vec![Host::Tcp { name: host.to_owned(), port: self.postgres.port() }];
        DatabaseUrl { hosts, ..url }
    }

    /// Returns a file: `ca.crt` is the authority, `other.crt` one that signed nothing, `client.crt` and `client.key`
    /// are those of `by_certificate`, and `other.crt` with `other.key` are believed by nobody.
    pub fn file(&self, name: &str) -> PathBuf {
        self.certificates.join(name)
    }

    /// Returns every role that may or may not be encrypted, with every `sslmode` and authority, and with both
    /// names of this machine where the name is looked at or could be.
    pub fn ways(&self) -> Vec<DatabaseUrl> {
        let modes = [
            SslMode::Disable,
            SslMode::Allow,
            SslMode::Prefer,
            SslMode::Require,
            SslMode::VerifyCa,
            SslMode::VerifyFull,
        ];
        let mut ways = Vec::new();
        for role in ["by_scram", "by_tls", "by_plain"] {
            for mode in modes {
                for authority in [None, Some("ca.crt"), Some("other.crt")] {
                    let is_verified = matches!(mode, SslMode::VerifyCa | SslMode::VerifyFull);
                    let hosts =
                        if is_verified { &["localhost", "127.0.0.1"][..] } else { &["localhost"] };
                    for host in hosts {
                        let ssl_root_cert = authority.map(|name| self.file(name));
                        ways.push(DatabaseUrl { ssl_root_cert, ..self.url_on(host, role, mode) });
                    }
                }
            }
        }
        ways
    }

    /// Returns what libpq makes of a way in: whether the connection is encrypted, or that there is none. Asks the
    /// `psql` beside the server's programs; where there is none nobody can say.
    pub fn libpq(&self, url: &DatabaseUrl) -> Option<Encrypted> {
        // Its folder may be one of links to the programs.
        let postgres = self.postgres.bin_dir().join("postgres").canonicalize().ok()?;
        let psql = Some(postgres.with_file_name("psql")).filter(|psql| psql.exists())?;
        let Host::Tcp { name, port } = url.hosts.first()? else { return None };
        let mut parameters = format!(
            "host={name} port={port} user={} dbname={} sslmode={}",
            url.user,
            url.database,
            url.ssl_mode.as_str()
        );
        if let Some(file) = &url.ssl_root_cert {
            parameters.push_str(&format!(" sslrootcert={}", file.display()));
        }
        let asked = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
        let output = Command::new(psql)
            .args(["-XAtc", asked, &parameters])
            .env("PGPASSWORD", url.password.as_deref().unwrap_or_default())
            // No certificates of the user's own.
            .env("HOME", &self.certificates)
            .output()
            .expect("psql is there");
        Some(match output.stdout.first() {
            Some(b't') => Encrypted::Yes,
            Some(b'f') => Encrypted::No,
            _ => Encrypted::Refused,
        })
    }

    /// Returns a host at which nobody listens.
    pub fn nowhere(&self) -> Host {
        Host::Unix { directory: self.certificates.clone(), port: 1 }
    }
}

async fn set_up(postgres: &PrivatePostgres) -> Result<(), tokio_postgres::Error> {
    let (client, connection) = tokio_postgres::connect(&postgres.url("postgres"), NoTls).await?;
    let driver = tokio::spawn(connection);
    client.batch_execute(ROLES).await?;
    for setting in SETTINGS {
        client.batch_execute(setting).await?;
    }
    drop(client);
    // However the connection ended, all is done.
    let _ = driver.await;
    Ok(())
}

/// Makes the files, and copies the server's own into its data folder.
fn make_certificates(folder: &Path, data: &Path) {
    std::fs::create_dir(folder).expect("the server's folder is ours");
    let openssl = |arguments: &str| {
        let output = Command::new("openssl")
            .args(arguments.split(' '))
            .current_dir(folder)
            .output()
            .expect("the tests need the openssl command");
        let words = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments}: {words}");
    };
    let new = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
    for (name, subject) in [("ca", "authority"), ("other", "by_certificate")] {
        openssl(&format!(
            "req -x509 {new} -days 2 -subj /CN={subject} -keyout {name}.key -out {name}.crt"
        ));
    }
    std::fs::write(folder.join("names"), "subjectAltName=DNS:localhost")
        .expect("the folder was just made");
    for (name, subject) in [("server", "localhost"), ("client", "by_certificate")] {
        openssl(&format!("req {new} -subj /CN={subject} -keyout {name}.key -out {name}.csr"));
        openssl(&format!(
            "x509 -req -in {name}.csr -days 2 -CA ca.crt -CAkey ca.key -CAcreateserial -extfile names -out {name}.crt"
        ));
    }
    let owner = data.metadata().expect("the data folder is there");
    for name in ["server.crt", "server.key", "ca.crt"] {
        let target = data.join(name);
        std::fs::copy(folder.join(name), &target).expect("both folders are ours");
        std::fs::set_permissions(&target, PermissionsExt::from_mode(0o600))
            .expect("the copy is ours");
        chown(&target, Some(owner.uid()), Some(owner.gid()))
            .expect("who starts the server may give it files");
    }
}
