//! Encrypted connections: which certificates are believed, as libpq means its `sslmode`.

use crate::error::PostgresError;
use convoy_types::SslMode;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
};
use std::path::Path;
use std::sync::Arc;
use tokio_postgres_rustls::MakeRustlsConnect;

/// Where systems keep the certificates that all believe (`sslrootcert=system`).
const SYSTEM_ROOTS: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// The files that a URL names.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct TlsFiles<'a> {
    pub(crate) root: Option<&'a Path>,
    pub(crate) cert: Option<&'a Path>,
    pub(crate) key: Option<&'a Path>,
}

/// How connections are encrypted; cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Tls(Arc<ClientConfig>);

impl Tls {
    /// Reads the files and decides what is checked.
    pub(crate) fn new(mode: SslMode, files: TlsFiles<'_>) -> Result<Tls, PostgresError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let believed = match mode {
            SslMode::VerifyFull => Believed::ThisHost,
            SslMode::VerifyCa => Believed::Authority,
            // libpq: a root certificate that is there is used, whatever the mode.
            _ if files.root.is_some() => Believed::Authority,
            _ => Believed::Anything,
        };
        let verifier: Arc<dyn ServerCertVerifier> = match believed {
            Believed::Anything => Arc::new(Unchecked { provider: provider.clone() }),
            Believed::Authority | Believed::ThisHost => {
                let path = files.root.ok_or(PostgresError::NoRootCertificate)?;
                let inner = WebPkiServerVerifier::builder_with_provider(
                    Arc::new(roots(path)?),
                    provider.clone(),
                )
                .build()
                .map_err(|error| certificate(path, ROOT, &error))?;
                match believed {
                    Believed::ThisHost => inner,
                    _ => Arc::new(AnyName { inner }),
                }
            }
        };
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let config = match (files.cert, files.key) {
            (Some(cert), Some(key)) => {
                let chain = certificates(cert, "a certificate in PEM")?;
                let private = PrivateKeyDer::from_pem_file(key)
                    .map_err(|error| certificate(key, "a private key in PEM", &error))?;
                builder.with_client_auth_cert(chain, private)?
            }
            (None, None) => builder.with_no_client_auth(),
            _ => return Err(PostgresError::HalfIdentity),
        };
        Ok(Tls(Arc::new(config)))
    }

    /// Returns what tokio-postgres takes.
    pub(crate) fn connector(&self) -> MakeRustlsConnect {
        MakeRustlsConnect::new(ClientConfig::clone(&self.0))
    }
}

/// Which certificates are believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Believed {
    Anything,
    Authority,
    ThisHost,
}

const ROOT: &str = "certificates of authorities in PEM";

fn roots(path: &Path) -> Result<RootCertStore, PostgresError> {
    let system = SYSTEM_ROOTS.map(Path::new);
    let path = match path.to_str() {
        Some("system") => system.into_iter().find(|path| path.exists()).unwrap_or(system[0]),
        _ => path,
    };
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(certificates(path, ROOT)?);
    match store.is_empty() {
        true => Err(certificate(path, ROOT, &"there is none in it")),
        false => Ok(store),
    }
}

/// Returns the authorities that this system believes, for connections other than those to Postgres.
///
/// # Errors
/// [`PostgresError::Certificate`] where they can't be read.
pub fn system_roots() -> Result<RootCertStore, PostgresError> {
    roots(Path::new("system"))
}

fn certificates(
    path: &Path,
    what: &'static str,
) -> Result<Vec<CertificateDer<'static>>, PostgresError> {
    CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|error| certificate(path, what, &error))
}

fn certificate(path: &Path, what: &'static str, reason: &dyn std::fmt::Display) -> PostgresError {
    PostgresError::Certificate { path: path.to_owned(), what, reason: reason.to_string() }
}

/// `verify-ca`: a known authority's certificate, for whatever name.
#[derive(Debug)]
struct AnyName {
    inner: Arc<WebPkiServerVerifier>,
}

impl ServerCertVerifier for AnyName {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        // The name is checked last, so this error says that all the rest was right.
        match self.inner.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        ) {
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

/// `require` without a root certificate: encrypted, to whoever answers.
#[derive(Debug)]
struct Unchecked {
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Unchecked {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
