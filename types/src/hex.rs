//! Reads what Postgres shows in hexadecimal digits: bytea and uuid.

/// Returns the bytes of a bytea in `bytea_output = hex`, or `None` where the text is none.
pub(crate) fn read_bytea(text: &[u8]) -> Option<impl Iterator<Item = u8>> {
    let (pairs, odd) = text.strip_prefix(b"\\x")?.as_chunks::<2>();
    let valid = odd.is_empty() && pairs.as_flattened().iter().all(u8::is_ascii_hexdigit);
    valid.then(|| pairs.iter().map(|&[high, low]| digit(high) << 4 | digit(low)))
}

/// Returns the bytes of a uuid in `8-4-4-4-12` digits, or `None` where the text is none.
pub(crate) fn read_uuid(text: &[u8]) -> Option<[u8; 16]> {
    const HYPHENS: [usize; 4] = [8, 13, 18, 23];
    if text.len() != 36 {
        return None;
    }
    let mut bytes = [0; 16];
    let mut digits = 0;
    for (position, &byte) in text.iter().enumerate() {
        if HYPHENS.contains(&position) {
            if byte != b'-' {
                return None;
            }
        } else if byte.is_ascii_hexdigit() {
            bytes[digits / 2] = bytes[digits / 2] << 4 | digit(byte);
            digits += 1;
        } else {
            return None;
        }
    }
    Some(bytes)
}

/// Returns the value of a hexadecimal digit.
fn digit(byte: u8) -> u8 {
    match byte {
        b'0'..=b'9' => byte - b'0',
        _ => (byte | 0x20).wrapping_sub(b'a').wrapping_add(10),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn refuses_what_is_none() {
        for text in ["", "x00", "\\x0", "\\x0g", "\\000", "\\X00"] {
            assert!(read_bytea(text.as_bytes()).is_none(), "{text:?}");
        }
        let uuid = "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11";
        assert!(read_uuid(uuid.as_bytes()).is_some());
        for text in
            [&uuid[1..], &uuid.replace('-', "a"), &uuid.replace('9', "g"), &format!("{uuid}a")]
        {
            assert!(read_uuid(text.as_bytes()).is_none(), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn bytea_reads_back(bytes: Vec<u8>) {
            let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            for text in [format!("\\x{digits}"), format!("\\x{}", digits.to_uppercase())] {
                prop_assert_eq!(read_bytea(text.as_bytes()).map(Vec::from_iter), Some(bytes.clone()));
            }
        }

        #[test]
        fn uuid_reads_back(bytes: [u8; 16]) {
            let mut text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            for position in [8, 13, 18, 23] {
                text.insert(position, '-');
            }
            prop_assert_eq!(read_uuid(text.as_bytes()), Some(bytes));
            prop_assert_eq!(read_uuid(text.to_uppercase().as_bytes()), Some(bytes));
        }
    }
}
