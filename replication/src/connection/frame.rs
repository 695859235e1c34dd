//! Cuts the bytes that the server sends into messages.
//!
//! Reads large and wakes seldom: one buffer takes whatever the socket has, and messages are slices of it. A stream
//! message past a limit is not received whole: its beginning is kept, the rest is skipped as it comes.

use bytes::{Buf, Bytes, BytesMut};
use thiserror::Error;

/// How much one read can take. The walsender wakes up for each of our reads when its socket was full.
const READ_BYTES: usize = 256 * 1024;
/// Below this much room a new buffer is taken.
const ROOM_BYTES_MIN: usize = 64 * 1024;
/// What is kept of a stream message past the limit: XLogData's header (25 bytes), the message's kind and its table.
const HEAD_BYTES: usize = 25 + 1 + 4;
/// The largest message other than stream data: errors, settings and our own queries' rows are far smaller.
const CONTROL_BYTES_MAX: usize = 1024 * 1024;
/// CopyData: the only message of any size.
const COPY_DATA: u8 = b'd';

/// Bytes that are no message.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum FrameError {
    #[error("a message states a length of {len} bytes")]
    Length { len: u32 },
    #[error("a message of kind {:?} and {len} bytes", char::from(*.tag))]
    TooLarge { tag: u8, len: usize },
}

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) tag: u8,
    /// Its content, or the beginning of it.
    pub(crate) body: Bytes,
    pub(crate) is_whole: bool,
}

/// The bytes received and not yet taken.
#[derive(Debug)]
pub(crate) struct FrameBuffer {
    bytes: BytesMut,
    /// How many bytes still to come belong to a message that was let go.
    skip: usize,
    data_bytes_max: usize,
}

impl FrameBuffer {
    pub(crate) fn new(data_bytes_max: usize) -> Self {
        FrameBuffer {
            bytes: BytesMut::new(),
            skip: 0,
            data_bytes_max: data_bytes_max.max(HEAD_BYTES),
        }
    }

    /// Takes the next message, if it is there.
    pub(crate) fn pop(&mut self) -> Result<Option<Frame>, FrameError> {
        let skipped = self.skip.min(self.bytes.len());
        self.bytes.advance(skipped);
        self.skip -= skipped;
        let Some((tag, len)) = self.header()? else { return Ok(None) };
        let (kept, is_whole) = match tag {
            COPY_DATA if len > self.data_bytes_max => (HEAD_BYTES, false),
            COPY_DATA => (len, true),
            _ if len > CONTROL_BYTES_MAX => return Err(FrameError::TooLarge { tag, len }),
            _ => (len, true),
        };
        if self.bytes.len() < 5 + kept {
            return Ok(None);
        }
        self.bytes.advance(5);
        let body = self.bytes.split_to(kept).freeze();
        self.skip = len - kept;
        Ok(Some(Frame { tag, body, is_whole }))
    }

    /// Returns the kind and content length of the message at the front, if its header is there.
    fn header(&self) -> Result<Option<(u8, usize)>, FrameError> {
        let [tag, a, b, c, d, ..] = self.bytes[..] else { return Ok(None) };
        let len = u32::from_be_bytes([a, b, c, d]);
        // The length counts itself, and is signed.
        match len.checked_sub(4).and_then(|len| usize::try_from(len).ok()) {
            Some(content) if len <= i32::MAX.unsigned_abs() => Ok(Some((tag, content))),
            _ => Err(FrameError::Length { len }),
        }
    }

    /// Returns the buffer to read into, with room for the rest of a message that has begun.
    pub(crate) fn room(&mut self) -> &mut BytesMut {
        if self.bytes.is_empty() && self.bytes.capacity() > 4 * READ_BYTES {
            // Taken for one large message.
            self.bytes = BytesMut::new();
        }
        let missing = match self.header() {
            Ok(Some((_, len))) if len <= self.data_bytes_max => {
                (5 + len).saturating_sub(self.bytes.len())
            }
            _ => 0,
        };
        let room = self.bytes.capacity() - self.bytes.len();
        if room < ROOM_BYTES_MIN.max(missing) {
            self.bytes.reserve(READ_BYTES.max(missing));
        }
        &mut self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn message(tag: u8, content: &[u8]) -> Vec<u8> {
        let len = u32::try_from(content.len() + 4).expect("a short message");
        [&[tag][..], &len.to_be_bytes(), content].concat()
    }

    fn pop_all(buffer: &mut FrameBuffer) -> Vec<Frame> {
        std::iter::from_fn(|| buffer.pop().expect("messages")).collect()
    }

    proptest! {
        #[test]
        fn messages_are_the_same_however_they_are_cut(
            contents in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..20),
            cuts in prop::collection::vec(1_usize..50, 1..40),
        ) {
            let limit = 100;
            let sent = contents.iter().flat_map(|content| message(b'd', content)).collect::<Vec<_>>();
            let mut buffer = FrameBuffer::new(limit);
            let mut received = Vec::new();
            let (mut rest, mut cuts) = (&sent[..], cuts.iter().cycle());
            while !rest.is_empty() {
                let cut = rest.len().min(*cuts.next().expect("an endless one"));
                buffer.room().extend_from_slice(&rest[..cut]);
                rest = &rest[cut..];
                received.extend(pop_all(&mut buffer));
            }
            let expected = contents.iter().map(|content| {
                let is_whole = content.len() <= limit;
                let kept = if is_whole { content.len() } else { HEAD_BYTES };
                Frame { tag: b'd', body: Bytes::copy_from_slice(&content[..kept]), is_whole }
            });
            prop_assert_eq!(received, expected.collect::<Vec<_>>());
        }

        #[test]
        fn any_bytes_are_messages_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let mut buffer = FrameBuffer::new(100);
            buffer.room().extend_from_slice(&bytes);
            while let Ok(Some(frame)) = buffer.pop() {
                prop_assert!(frame.body.len() <= bytes.len());
            }
            prop_assert!(buffer.room().capacity() <= 2 * READ_BYTES + CONTROL_BYTES_MAX);
        }
    }

    #[test]
    fn refuses_lengths_that_are_none() {
        for len in [0_u32, 3, 0x8000_0000, u32::MAX] {
            let mut buffer = FrameBuffer::new(100);
            buffer.room().extend_from_slice(&[&[b'd'][..], &len.to_be_bytes()].concat());
            assert_eq!(buffer.pop(), Err(FrameError::Length { len }));
        }
        let mut buffer = FrameBuffer::new(100);
        buffer.room().extend_from_slice(b"E\x7f\xff\xff\xff");
        assert!(matches!(buffer.pop(), Err(FrameError::TooLarge { tag: b'E', .. })));
    }
}
