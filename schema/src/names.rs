//! Names as Postgres takes them.

use xxhash_rust::xxh3::xxh3_64;

/// The index by creation time, which every managed table has.
pub(crate) const BY_CREATION_TIME: &str = "by_creation_time";

/// The longest name that Postgres keeps, in bytes (PostgreSQL manual, 4.1.1: `NAMEDATALEN` less one).
pub(crate) const NAME_BYTES_MAX: usize = 63;

/// Returns a name in quotes.
pub(crate) fn quoted(name: &str) -> String {
    convoy_engine::quote_identifier(name)
}

/// Returns a text as a literal.
pub(crate) fn literal(text: &str) -> String {
    // Backslashes are plain where `standard_conforming_strings` is on, and the form with E is the same wherever it is.
    if text.contains('\\') {
        format!("E'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
    } else {
        format!("'{}'", text.replace('\'', "''"))
    }
}

/// Returns the name in Postgres of a table's index: both names, shortened with a hash where that is too long.
pub(crate) fn index_name(table: &str, index: &str) -> String {
    let name = format!("{table}_{index}");
    if name.len() <= NAME_BYTES_MAX {
        return name;
    }
    let hash = format!("_{:016x}", xxh3_64(name.as_bytes()));
    let mut end = NAME_BYTES_MAX - hash.len();
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{hash}", &name[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_index_names_are_shortened_and_stay_apart() {
        assert_eq!(index_name("projects", "by_userId"), "projects_by_userId");
        let table = "ä".repeat(31);
        let (a, b) = (index_name(&table, "by_one"), index_name(&table, "by_two"));
        assert!(a.len() <= NAME_BYTES_MAX && b.len() <= NAME_BYTES_MAX);
        assert_ne!(a, b);
        assert_eq!(a, index_name(&table, "by_one"));
    }

    #[test]
    fn literals_are_closed() {
        assert_eq!(literal("it's"), "'it''s'");
        assert_eq!(literal("a\\'"), "E'a\\\\'''");
    }
}
