//! Proving to the server who we are: SCRAM-SHA-256, md5, password, or nothing (trust, peer, a client certificate).

use super::{Connection, channel_binding};
use crate::error::ReplicationError;
use bytes::{Buf, Bytes};
use convoy_types::ChannelBinding as Binding;
use convoy_types::DatabaseUrl;
use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{
    ChannelBinding, SCRAM_SHA_256, SCRAM_SHA_256_PLUS, ScramSha256,
};
use postgres_protocol::message::frontend;

/// Kinds of Authentication messages (PostgreSQL manual, 55.7 "Message Formats").
mod request {
    pub(super) const OK: u32 = 0;
    pub(super) const CLEARTEXT_PASSWORD: u32 = 3;
    pub(super) const MD5_PASSWORD: u32 = 5;
    pub(super) const SASL: u32 = 10;
    pub(super) const SASL_CONTINUE: u32 = 11;
    pub(super) const SASL_FINAL: u32 = 12;
}

/// Answers what the server asks until it is satisfied.
pub(super) async fn authenticate(
    connection: &mut Connection,
    url: &DatabaseUrl,
) -> Result<(), ReplicationError> {
    let (kind, mut body) = next_request(connection).await?;
    if url.channel_binding == Binding::Require && kind != request::SASL {
        return Err(ReplicationError::NotBound);
    }
    match kind {
        request::OK => return Ok(()),
        request::CLEARTEXT_PASSWORD => {
            frontend::password_message(password(url)?, &mut connection.output).map_err(invalid)?;
        }
        request::MD5_PASSWORD => {
            let mut salt = [0; 4];
            body.try_copy_to_slice(&mut salt).map_err(|_| malformed())?;
            let hash = md5_hash(url.user.as_bytes(), password(url)?, salt);
            frontend::password_message(hash.as_bytes(), &mut connection.output).map_err(invalid)?;
        }
        request::SASL => scram(connection, &body, url).await?,
        _ => return Err(ReplicationError::AuthenticationUnsupported { kind }),
    }
    connection.send().await?;
    match next_request(connection).await? {
        (request::OK, _) => Ok(()),
        (kind, _) => Err(ReplicationError::AuthenticationUnsupported { kind }),
    }
}

/// Does the exchange of RFC 5802; the server proves in it that it knows the password too.
async fn scram(
    connection: &mut Connection,
    offered: &Bytes,
    url: &DatabaseUrl,
) -> Result<(), ReplicationError> {
    let offers =
        |name: &str| offered.split(|&byte| byte == 0).any(|offer| offer == name.as_bytes());
    let (mechanism, binding) = mechanism(connection, offers(SCRAM_SHA_256_PLUS), url)?;
    if !offers(mechanism) {
        return Err(ReplicationError::AuthenticationUnsupported { kind: request::SASL });
    }
    let mut exchange = ScramSha256::new(password(url)?, binding);
    let output = &mut connection.output;
    frontend::sasl_initial_response(mechanism, exchange.message(), output).map_err(invalid)?;
    connection.send().await?;
    let challenge = sasl_message(connection, request::SASL_CONTINUE).await?;
    exchange.update(&challenge).map_err(invalid)?;
    frontend::sasl_response(exchange.message(), &mut connection.output).map_err(invalid)?;
    connection.send().await?;
    let proof = sasl_message(connection, request::SASL_FINAL).await?;
    exchange.finish(&proof).map_err(invalid)
}

/// Chooses whether to bind the exchange to the encrypted channel, so that nobody in between can pass it on.
fn mechanism(
    connection: &Connection,
    is_offered: bool,
    url: &DatabaseUrl,
) -> Result<(&'static str, ChannelBinding), ReplicationError> {
    let certificate = connection.socket.peer_certificate();
    let digest = certificate.and_then(channel_binding::tls_server_end_point);
    match (url.channel_binding, digest, is_offered) {
        (Binding::Prefer | Binding::Require, Some(digest), true) => {
            Ok((SCRAM_SHA_256_PLUS, ChannelBinding::tls_server_end_point(digest)))
        }
        (Binding::Require, _, _) => Err(ReplicationError::NotBound),
        // Tells the server that we could have, so that it notices an offer that was taken out on the way.
        (Binding::Prefer, Some(_), false) => Ok((SCRAM_SHA_256, ChannelBinding::unrequested())),
        (Binding::Prefer, None, _) | (Binding::Disable, _, _) => {
            Ok((SCRAM_SHA_256, ChannelBinding::unsupported()))
        }
    }
}

async fn sasl_message(
    connection: &mut Connection,
    expected: u32,
) -> Result<Bytes, ReplicationError> {
    match next_request(connection).await? {
        (kind, body) if kind == expected => Ok(body),
        _ => Err(malformed()),
    }
}

async fn next_request(connection: &mut Connection) -> Result<(u32, Bytes), ReplicationError> {
    let mut frame = connection.read_frame().await?;
    if frame.tag != b'R' {
        return Err(malformed());
    }
    let kind = frame.body.try_get_u32().map_err(|_| malformed())?;
    Ok((kind, frame.body))
}

fn password(url: &DatabaseUrl) -> Result<&[u8], ReplicationError> {
    let password = url.password.as_ref().map(String::as_bytes);
    password.ok_or_else(|| ReplicationError::PasswordMissing { user: url.user.clone() })
}

fn malformed() -> ReplicationError {
    ReplicationError::Protocol { what: "the server's part of the log-in" }
}

fn invalid(source: std::io::Error) -> ReplicationError {
    ReplicationError::LogIn { source }
}
