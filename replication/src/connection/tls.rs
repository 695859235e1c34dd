//! Encryption, as libpq's `sslmode` means it (PostgreSQL manual, 34.19 "SSL Support").
//!
//! Without a root certificate, `allow`, `prefer` and `require` encrypt and check nothing; with one, they check the
//! chain like `verify-ca`. `verify-full` checks the host's name too. Where libpq would look for files in the home
//! directory, there are none: `verify-ca` and `verify-full` need a root certificate, or `sslrootcert=system`.

use convoy_types::{DatabaseUrl, SslMode};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_cert_signed_by_trust_anchor};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use thiserror::Error;

/// Where systems keep the authorities that they trust: Debian and Alpine, Fedora, OpenSUSE, the BSDs and macOS.
const SYSTEM_AUTHORITIES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// What is wrong with the files that encryption needs.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TlsSetupError {
    /// A certificate or key file could not be read.
    #[error("{} holds no readable certificate or key", file.display())]
    File {
        /// The file.
        file: PathBuf,
        /// What was wrong.
        #[source]
        source: rustls::pki_types::pem::Error,
    },
    /// A root certificate file without a certificate in it.
    #[error("{} holds no certificate", file.display())]
    NoCertificate {
        /// The file.
        file: PathBuf,
    },
    /// The server's certificate is to be checked, and nothing says against what.
    #[error(
        "sslmode verifies the server's certificate: sslrootcert must name the file of its authority, or be `system`"
    )]
    NoAuthorities,
    /// Only one of our certificate and its key was given.
    #[error("sslcert and sslkey must be given together")]
    HalfIdentity,
    /// The files were read, but don't make a usable set-up.
    #[error("setting up encryption")]
    Rustls(#[from] rustls::Error),
    /// The authorities' certificates can't be used to check others.
    #[error("setting up the check of the server's certificate")]
    Verifier(#[from] rustls::client::VerifierBuilderError),
}

/// Builds the client's side for a database. Blocking: reads the certificate files.
pub(super) fn client_config(url: &DatabaseUrl) -> Result<Arc<ClientConfig>, TlsSetupError> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()?;
    let verifies = matches!(url.ssl_mode, SslMode::VerifyCa | SslMode::VerifyFull);
    let authorities = match &url.ssl_root_cert {
        Some(file) if file == Path::new("system") => Some(system_authorities()?),
        Some(file) => Some(authorities(file)?),
        None if verifies => return Err(TlsSetupError::NoAuthorities),
        None => None,
    };
    let verifier: Arc<dyn ServerCertVerifier> = match (authorities, url.ssl_mode) {
        (Some(authorities), SslMode::VerifyFull) => {
            WebPkiServerVerifier::builder_with_provider(Arc::new(authorities), provider).build()?
        }
        (authorities, _) => Arc::new(ChainVerifier { authorities, provider }),
    };
    let builder = builder.dangerous().with_custom_certificate_verifier(verifier);
    let config = match (&url.ssl_cert, &url.ssl_key) {
        (None, None) => builder.with_no_client_auth(),
        (Some(certificate), Some(key)) => {
            let key_of = |source| TlsSetupError::File { file: key.clone(), source };
            builder.with_client_auth_cert(
                certificates(certificate)?,
                PrivateKeyDer::from_pem_file(key).map_err(key_of)?,
            )?
        }
        _ => return Err(TlsSetupError::HalfIdentity),
    };
    Ok(Arc::new(config))
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, TlsSetupError> {
    let error = |source| TlsSetupError::File { file: file.to_owned(), source };
    CertificateDer::pem_file_iter(file).map_err(error)?.collect::<Result<_, _>>().map_err(error)
}

fn authorities(file: &Path) -> Result<RootCertStore, TlsSetupError> {
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(certificates(file)?);
    if store.is_empty() {
        Err(TlsSetupError::NoCertificate { file: file.to_owned() })
    } else {
        Ok(store)
    }
}

fn system_authorities() -> Result<RootCertStore, TlsSetupError> {
    let file = SYSTEM_AUTHORITIES.map(Path::new).into_iter().find(|file| file.exists());
    authorities(file.ok_or(TlsSetupError::NoAuthorities)?)
}

/// Checks that an authority vouches for the certificate, or nothing, and never the host's name. That the server holds
/// the certificate's key is always checked.
#[derive(Debug)]
struct ChainVerifier {
    authorities: Option<RootCertStore>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for ChainVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if let Some(authorities) = &self.authorities {
            let certificate = ParsedCertificate::try_from(end_entity)?;
            let algorithms = self.provider.signature_verification_algorithms.all;
            verify_server_cert_signed_by_trust_anchor(
                &certificate,
                authorities,
                intermediates,
                now,
                algorithms,
            )?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(
            message,
            certificate,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
