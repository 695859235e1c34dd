//! An error that the server reported.

use bytes::Bytes;
use std::fmt;

/// An error that the server reported, in its own words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerError(Box<Fields>);

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Fields {
    code: String,
    message: String,
    detail: Option<String>,
    hint: Option<String>,
    routine: String,
}

impl ServerError {
    /// Returns the five-character code (PostgreSQL manual, appendix A "PostgreSQL Error Codes").
    pub fn code(&self) -> &str {
        &self.0.code
    }

    /// Returns what was wrong, in the server's language.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// Returns more about it.
    pub fn detail(&self) -> Option<&str> {
        self.0.detail.as_deref()
    }

    /// Returns what may mend it.
    pub fn hint(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }

    /// Returns the server's function that found it: the same in every language, and finer than
    /// the code.
    pub(crate) fn routine(&self) -> &str {
        &self.0.routine
    }

    /// Reads an ErrorResponse or NoticeResponse: fields of a kind's byte and a text that ends
    /// with a zero byte. What does not read so is left out: half an error is more use than none.
    pub(crate) fn parse(body: &Bytes) -> Self {
        let mut fields = Fields::default();
        for field in body.split(|&byte| byte == 0) {
            let Some((kind, text)) = field.split_first() else { continue };
            let text = String::from_utf8_lossy(text).into_owned();
            match kind {
                b'C' => fields.code = text,
                b'M' => fields.message = text,
                b'D' => fields.detail = Some(text),
                b'H' => fields.hint = Some(text),
                b'R' => fields.routine = text,
                _ => {}
            }
        }
        ServerError(Box::new(fields))
    }
}

impl fmt::Display for ServerError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} (SQLSTATE {})", self.message(), self.code())?;
        for more in [self.detail(), self.hint()].into_iter().flatten() {
            write!(formatter, "; {more}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ServerError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_fields_that_are_there() {
        let body = Bytes::from_static(
            b"SERROR\0VERROR\0C55006\0Mslot is active\0HWait.\0RReplicationSlotAcquire\0\0",
        );
        let error = ServerError::parse(&body);
        assert_eq!(error.to_string(), "slot is active (SQLSTATE 55006); Wait.");
        assert_eq!(error.routine(), "ReplicationSlotAcquire");
        assert_eq!(ServerError::parse(&Bytes::from_static(b"C5")).code(), "5");
        assert_eq!(ServerError::parse(&Bytes::new()), ServerError::default());
    }
}
