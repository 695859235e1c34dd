//! Texts within JSON.

/// Returns as much of a client's own words as an error repeats.
pub(crate) fn shortened(text: &str) -> String {
    const CHARS_MAX: usize = 100;
    text.chars().take(CHARS_MAX).collect()
}

/// Appends a JSON string.
pub(crate) fn push_json_str(out: &mut String, text: &str) {
    out.push('"');
    let mut copied = 0;
    for (at, byte) in text.bytes().enumerate() {
        let escape = match byte {
            b'"' => "\\\"",
            b'\\' => "\\\\",
            b'\n' => "\\n",
            b'\r' => "\\r",
            b'\t' => "\\t",
            0..0x20 => "",
            _ => continue,
        };
        out.push_str(&text[copied..at]);
        copied = at + 1;
        if escape.is_empty() {
            out.push_str("\\u00");
            for digit in [byte >> 4, byte & 0xF] {
                out.push(char::from_digit(digit.into(), 16).unwrap_or('0'));
            }
        } else {
            out.push_str(escape);
        }
    }
    out.push_str(&text[copied..]);
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_read_back() {
        for text in ["", "plain", "a\"b\\c", "\n\r\t\u{8}\u{1f}", "ü €\u{10ffff}"] {
            let mut json = String::new();
            push_json_str(&mut json, text);
            assert!(!json.contains('\n'));
            assert_eq!(serde_json::from_str::<String>(&json).expect("JSON"), text);
        }
    }
}
