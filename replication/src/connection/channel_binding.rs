//! The digest of the server's certificate that ties SCRAM to the TLS channel (RFC 5929, section 4:
//! `tls-server-end-point`).
//!
//! Reads as much DER as it takes to find the certificate's signature algorithm.

use rustls::SupportedCipherSuite;
use rustls::crypto::hash::Hash;
use rustls::crypto::ring::cipher_suite::{TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384};

const SEQUENCE: u8 = 0x30;
const OBJECT_IDENTIFIER: u8 = 0x06;

/// Returns the digest of a certificate in DER, by its own signature's hash function; MD5 and SHA-1 give way to
/// SHA-256. `None` for other functions, and for what is no certificate.
pub(super) fn tls_server_end_point(certificate: &[u8]) -> Option<Vec<u8>> {
    let (fields, _) = element(certificate, SEQUENCE)?;
    let (_, after_body) = element(fields, SEQUENCE)?;
    let (algorithm, _) = element(after_body, SEQUENCE)?;
    let (identifier, _) = element(algorithm, OBJECT_IDENTIFIER)?;
    let suite = match identifier {
        // PKCS #1 (1.2.840.113549.1.1): md5, sha1 and sha256 with RSA.
        [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 4 | 5 | 11] => TLS13_AES_128_GCM_SHA256,
        [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 12] => TLS13_AES_256_GCM_SHA384,
        // ANSI X9.62 (1.2.840.10045.4): ECDSA with SHA-1, and with SHA-2 by size.
        [0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 1] | [0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2] => {
            TLS13_AES_128_GCM_SHA256
        }
        [0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 3] => TLS13_AES_256_GCM_SHA384,
        _ => return None,
    };
    Some(hash_of(suite)?.hash(certificate).as_ref().to_vec())
}

/// Returns the hash function of a cipher suite, which is how the cryptography that we have hands it out.
fn hash_of(suite: SupportedCipherSuite) -> Option<&'static dyn Hash> {
    suite.tls13().map(|suite| suite.common.hash_provider)
}

/// Takes one element of this kind off the front: its content, and what follows it.
fn element(bytes: &[u8], kind: u8) -> Option<(&[u8], &[u8])> {
    let (&tag, rest) = bytes.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (len, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        // The length's own length, then the length.
        0x81..=0x84 => {
            let (len, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (len.iter().fold(0, |len, &byte| len << 8 | usize::from(byte)), rest)
        }
        _ => return None,
    };
    if tag == kind { rest.split_at_checked(len) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrap(tag: u8, content: &[u8]) -> Vec<u8> {
        let len = u16::try_from(content.len()).expect("a short content").to_be_bytes();
        [&[tag, 0x82], &len[..], content].concat()
    }

    fn certificate(algorithm: &[u8]) -> Vec<u8> {
        let body = wrap(SEQUENCE, &[7; 300]);
        wrap(SEQUENCE, &[body, wrap(SEQUENCE, &wrap(OBJECT_IDENTIFIER, algorithm))].concat())
    }

    #[test]
    fn the_digest_is_that_of_the_signature() {
        let digest_len =
            |algorithm: &[u8]| tls_server_end_point(&certificate(algorithm)).map(|d| d.len());
        let rsa = |last| [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, last];
        assert_eq!(digest_len(&rsa(11)), Some(32));
        assert_eq!(digest_len(&rsa(5)), Some(32));
        assert_eq!(digest_len(&rsa(12)), Some(48));
        assert_eq!(digest_len(&rsa(13)), None);
        assert_eq!(digest_len(&[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 3]), Some(48));
    }

    #[test]
    fn what_is_no_certificate_has_no_digest() {
        let whole = certificate(&[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2]);
        for end in 0..whole.len() {
            assert_eq!(tls_server_end_point(&whole[..end]), None, "{end}");
        }
        assert_eq!(tls_server_end_point(&[0x30, 0x84, 0xff, 0xff, 0xff, 0xff]), None);
    }
}
