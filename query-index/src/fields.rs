//! Fields of a row: the columns of a table by position, and their values as keys.

use convoy_types::Key;

/// A column, by its position among its table's columns as the engine knows them (the root's, for partitions).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FieldId(pub u16);

/// What a row holds in one field.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum FieldValue {
    /// SQL's null.
    Null,
    /// A value, encoded by its column's type.
    Key(Key),
    /// The distinct elements of an array that are not null, for [`Condition::HasElement`](crate::Condition::HasElement)
    /// and tests for null alone; any other condition on them may be anything.
    Elements(Box<[Key]>),
    /// The stream does not say: an old row that was not sent, an unchanged TOASTed value, a type we don't encode.
    /// A condition on it may be anything, and the query counts as touched.
    Unknown,
}

/// A set of fields of one table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct FieldSet {
    words: Vec<u64>,
}

impl FieldSet {
    /// Returns the set of all fields below `count`.
    pub fn all(count: u16) -> Self {
        (0..count).map(FieldId).collect()
    }

    /// Adds a field.
    pub fn insert(&mut self, field: FieldId) {
        let word = usize::from(field.0 / 64);
        if word >= self.words.len() {
            self.words.resize(word + 1, 0);
        }
        self.words[word] |= 1 << (field.0 % 64);
    }

    /// Returns whether the field is in the set.
    pub fn contains(&self, field: FieldId) -> bool {
        self.words
            .get(usize::from(field.0 / 64))
            .is_some_and(|word| word & (1 << (field.0 % 64)) != 0)
    }

    /// Returns whether the sets share a field.
    pub fn intersects(&self, other: &FieldSet) -> bool {
        self.words.iter().zip(&other.words).any(|(left, right)| left & right != 0)
    }

    /// Adds all fields of another set.
    pub fn union_with(&mut self, other: &FieldSet) {
        for field in other.iter() {
            self.insert(field);
        }
    }

    /// Returns the fields in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = FieldId> + '_ {
        self.words.iter().enumerate().flat_map(|(index, &word)| {
            (0..64).filter(move |bit| word & (1 << bit) != 0).map(move |bit| {
                FieldId(u16::try_from(index * 64 + bit).expect("a field was inserted by a u16"))
            })
        })
    }
}

impl FromIterator<FieldId> for FieldSet {
    fn from_iter<I: IntoIterator<Item = FieldId>>(fields: I) -> Self {
        let mut set = FieldSet::default();
        for field in fields {
            set.insert(field);
        }
        set
    }
}
