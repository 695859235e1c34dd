//! Source maps (ECMA-426, version 3), as far as a declaration file needs them: from places in it to the beginnings of
//! other files. An editor that is led to a declaration goes on to where the map says.

use std::fmt::Write;

/// A place in the generated file that stands for another file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mapping {
    /// The line, from 0.
    pub(crate) line: usize,
    /// The column, from 0, in UTF-16 units.
    pub(crate) column: usize,
    /// The position of the file in the map's sources.
    pub(crate) source: usize,
}

/// Returns a map as JSON. The mappings are in the order of their places.
pub(crate) fn source_map(file: &str, sources: &[String], mappings: &[Mapping]) -> String {
    let sources = sources.iter().map(|source| json_string(source)).collect::<Vec<_>>().join(",");
    format!(
        "{{\"version\":3,\"file\":{},\"sourceRoot\":\"\",\"sources\":[{sources}],\"names\":[],\"mappings\":\"{}\"}}\n",
        json_string(file),
        encode(mappings)
    )
}

/// Writes the mappings: `;` ends a line, `,` a mapping, whose numbers say by how much they differ from the last.
fn encode(mappings: &[Mapping]) -> String {
    let mut text = String::new();
    let mut last = Mapping { line: 0, column: 0, source: 0 };
    let mut begins = true;
    for mapping in mappings {
        while last.line < mapping.line {
            text.push(';');
            (last.line, last.column, begins) = (last.line + 1, 0, true);
        }
        if !begins {
            text.push(',');
        }
        begins = false;
        write_vlq(difference(mapping.column, last.column), &mut text);
        write_vlq(difference(mapping.source, last.source), &mut text);
        // The first line of the source, and its first column, always.
        text.push_str("AA");
        (last.column, last.source) = (mapping.column, mapping.source);
    }
    text
}

fn difference(new: usize, old: usize) -> i64 {
    i64::try_from(new).unwrap_or(i64::MAX) - i64::try_from(old).unwrap_or(i64::MAX)
}

/// Writes a number in base 64: five bits a digit, the least first, a sixth says that more follow, and the sign is the
/// first bit of all.
fn write_vlq(number: i64, text: &mut String) {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut rest = (number.unsigned_abs() << 1) | u64::from(number < 0);
    loop {
        let (digit, more) = (rest & 31, rest >> 5 != 0);
        let digit = usize::try_from(digit | (u64::from(more) << 5)).unwrap_or(0);
        text.push(char::from(DIGITS[digit]));
        rest >>= 5;
        if !more {
            return;
        }
    }
}

fn json_string(text: &str) -> String {
    let mut json = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => json.push_str("\\\""),
            '\\' => json.push_str("\\\\"),
            c if c.is_control() => {
                // Writing to a string can't fail.
                let _ = write!(json, "\\u{:04x}", u32::from(c));
            }
            c => json.push(c),
        }
    }
    json.push('"');
    json
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_the_standard_says() {
        let check = |number, expect: &str| {
            let mut text = String::new();
            write_vlq(number, &mut text);
            assert_eq!(text, expect, "{number}");
        };
        check(0, "A");
        check(1, "C");
        check(-1, "D");
        check(15, "e");
        check(16, "gB");
        check(-16, "hB");
        check(1024, "ggC");
    }

    #[test]
    fn lines_and_places_follow_one_another() {
        let at = |line, column, source| Mapping { line, column, source };
        assert_eq!(encode(&[at(0, 2, 0), at(2, 4, 1), at(2, 9, 0)]), "EAAA;;ICAA,KDAA");
    }
}
