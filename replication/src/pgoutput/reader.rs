//! Takes fields off the front of a message without ever reading past its end.

use super::DecodeError;
use bytes::{Buf, Bytes};

/// The part of a message that is not read yet.
pub(super) struct Reader(Bytes);

impl Reader {
    pub(super) fn new(bytes: Bytes) -> Self {
        Reader(bytes)
    }

    pub(super) fn remaining(&self) -> usize {
        self.0.len()
    }

    pub(super) fn u8(&mut self, field: &'static str) -> Result<u8, DecodeError> {
        self.0.try_get_u8().map_err(|_| DecodeError::Truncated { field })
    }

    pub(super) fn u16(&mut self, field: &'static str) -> Result<u16, DecodeError> {
        self.0.try_get_u16().map_err(|_| DecodeError::Truncated { field })
    }

    pub(super) fn u32(&mut self, field: &'static str) -> Result<u32, DecodeError> {
        self.0.try_get_u32().map_err(|_| DecodeError::Truncated { field })
    }

    pub(super) fn i32(&mut self, field: &'static str) -> Result<i32, DecodeError> {
        self.0.try_get_i32().map_err(|_| DecodeError::Truncated { field })
    }

    pub(super) fn u64(&mut self, field: &'static str) -> Result<u64, DecodeError> {
        self.0.try_get_u64().map_err(|_| DecodeError::Truncated { field })
    }

    pub(super) fn i64(&mut self, field: &'static str) -> Result<i64, DecodeError> {
        self.0.try_get_i64().map_err(|_| DecodeError::Truncated { field })
    }

    /// Takes the next `len` bytes, shared with the buffer that they came in.
    pub(super) fn bytes(&mut self, len: usize, field: &'static str) -> Result<Bytes, DecodeError> {
        if len > self.0.len() {
            return Err(DecodeError::Truncated { field });
        }
        Ok(self.0.split_to(len))
    }

    /// Takes a text that ends with a zero byte.
    pub(super) fn string(&mut self, field: &'static str) -> Result<String, DecodeError> {
        let end =
            self.0.iter().position(|&byte| byte == 0).ok_or(DecodeError::Truncated { field })?;
        let text = self.0.split_to(end);
        self.0.advance(1);
        std::str::from_utf8(&text).map(str::to_owned).map_err(|_| DecodeError::NotUtf8 { field })
    }

    /// Ends the reading: the protocol has no optional fields, so a byte left over means that we misread.
    pub(super) fn finish(&self) -> Result<(), DecodeError> {
        match self.0.len() {
            0 => Ok(()),
            len => Err(DecodeError::LeftOver { len }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stops_at_the_end() {
        let mut reader = Reader::new(Bytes::from_static(b"\x00\x01ab\0c"));
        assert_eq!(reader.u16("a number"), Ok(1));
        assert_eq!(reader.string("a text").as_deref(), Ok("ab"));
        assert_eq!(reader.string("a text"), Err(DecodeError::Truncated { field: "a text" }));
        assert_eq!(reader.u16("a number"), Err(DecodeError::Truncated { field: "a number" }));
        assert_eq!(reader.bytes(2, "bytes"), Err(DecodeError::Truncated { field: "bytes" }));
        assert_eq!(reader.finish(), Err(DecodeError::LeftOver { len: 1 }));
        assert_eq!(reader.u8("a byte"), Ok(b'c'));
        assert_eq!(reader.finish(), Ok(()));
    }
}
