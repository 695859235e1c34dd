//! Ways in for the fuzzer (`fuzz/`), which is outside of the crate: compiled for nobody else.

use crate::assembler::{Assembler, Budget, Extent};
use crate::connection::FuzzedFrames;
use bytes::{Buf, BufMut, Bytes};

/// Small, so that what goes past it is tried.
const BUDGET: Budget = Budget { rows_max: 8, bytes_max: 4096 };

/// Takes bytes as they would come out of the socket.
pub fn receive(bytes: &[u8]) {
    let mut frames = FuzzedFrames::new(1024);
    let mut assembler = Assembler::new(BUDGET);
    for chunk in bytes.chunks(61) {
        frames.room().put_slice(chunk);
        loop {
            match frames.pop() {
                Ok(Some(mut frame)) if frame.tag == b'd' => {
                    // The kind, then the header of what is WAL.
                    if frame.body.first() == Some(&b'w') && frame.body.len() > 25 {
                        frame.body.advance(25);
                        let extent = if frame.is_whole { Extent::Whole } else { Extent::Head };
                        if assembler.push(frame.body, extent).is_err() {
                            return;
                        }
                    }
                }
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(_) => return,
            }
        }
    }
}

/// Takes messages of pgoutput.
pub fn assemble(messages: &[&[u8]]) {
    let mut assembler = Assembler::new(BUDGET);
    for message in messages {
        // A stream ends at its first error; here each message has its chance.
        let _ = assembler.push(Bytes::copy_from_slice(message), Extent::Whole);
    }
}
