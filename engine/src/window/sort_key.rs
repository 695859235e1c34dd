//! Where a row of a window sorts: bytes that compare as Postgres orders the rows, the primary key's being the last of
//! them. Nearly all are short, and there is one for each row that is held, so short ones stand where the pointer to
//! longer ones would.

use std::cmp::Ordering;
use std::ops::Deref;

/// As many bytes as fit beside two lengths where an enum of 24 bytes has room.
const SHORT_MAX: usize = 21;

/// Sorts as Postgres does: the order's columns, each as its direction has it, then the primary key.
#[derive(Clone, Debug)]
pub(super) enum SortKey {
    Short { len: u8, key_at: u8, bytes: [u8; SHORT_MAX] },
    Long { key_at: u32, bytes: Box<[u8]> },
}

impl SortKey {
    /// Returns what sorts by these columns and then by the primary key.
    pub fn new(mut columns: Vec<u8>, key: &[u8]) -> Self {
        let key_at = columns.len();
        columns.extend_from_slice(key);
        let len = columns.len();
        if len > SHORT_MAX {
            // A value of Postgres' has at most a GiB.
            return SortKey::Long { key_at: key_at as u32, bytes: columns.into() };
        }
        let mut bytes = [0; SHORT_MAX];
        bytes[..len].copy_from_slice(&columns);
        SortKey::Short { len: len as u8, key_at: key_at as u8, bytes }
    }

    /// Returns the primary key's bytes.
    pub fn key(&self) -> &[u8] {
        match self {
            SortKey::Short { len, key_at, bytes } => {
                &bytes[usize::from(*key_at)..usize::from(*len)]
            }
            SortKey::Long { key_at, bytes } => &bytes[*key_at as usize..],
        }
    }

    /// Returns whether the primary key is all of it.
    pub fn is_key_alone(&self) -> bool {
        match self {
            SortKey::Short { key_at, .. } => *key_at == 0,
            SortKey::Long { key_at, .. } => *key_at == 0,
        }
    }
}

impl Deref for SortKey {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            SortKey::Short { len, bytes, .. } => &bytes[..usize::from(*len)],
            SortKey::Long { bytes, .. } => bytes,
        }
    }
}

impl PartialEq for SortKey {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for SortKey {}

impl PartialOrd for SortKey {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for SortKey {
    fn cmp(&self, other: &Self) -> Ordering {
        (**self).cmp(other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn it_is_its_bytes_however_long(
            columns in prop::collection::vec(any::<u8>(), 0..30),
            key in prop::collection::vec(any::<u8>(), 0..30),
            other in prop::collection::vec(any::<u8>(), 0..30),
        ) {
            let sort = SortKey::new(columns.clone(), &key);
            let bytes = [&columns[..], &key].concat();
            prop_assert_eq!(&*sort, &*bytes);
            prop_assert_eq!(sort.key(), &*key);
            prop_assert_eq!(sort.is_key_alone(), columns.is_empty());
            prop_assert_eq!(sort.cmp(&SortKey::new(Vec::new(), &other)), bytes.cmp(&other));
        }
    }

    #[test]
    fn a_short_one_takes_no_more_than_a_pointer_and_two_lengths() {
        assert_eq!(size_of::<SortKey>(), 24);
    }
}
