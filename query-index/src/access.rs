//! Chooses how the live queries of a conjunction are found.
//!
//! All look-ups have one form: the values of some fields together are a key (fields of equalities, and of one `IN`,
//! whose elements are a key each), and under the key there may be intervals of one more field. A literal is taken in
//! where it tells live queries apart, or where nothing else does; what is left out is residual. A second distinction
//! below one that a slot makes would cost memory for each query and save little: it is left out unless it is a range of
//! slots (`symbol = $1 AND price < $2`: very many may share the symbol).

use crate::eval::Comparand;
use crate::fields::{FieldId, FieldValue};
use crate::interval::Interval;
use crate::normal_form::{Conjunction, Literal};
use crate::predicate::{CompareOp, Operand, SlotValue};
use convoy_types::Key;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher, Hash, RandomState};

/// How the index finds the live queries of a predicate, for `explain`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccessPath {
    /// One look-up by these fields' values together.
    Equality(Vec<FieldId>),
    /// One look-up by the field's value, among the elements of each query's list.
    In(FieldId),
    /// The intervals that hold the field's value.
    Range(FieldId),
    /// Several of the above at once.
    All(Vec<AccessPath>),
    /// Each of these in turn, for a condition with `OR`.
    Any(Vec<AccessPath>),
    /// None: every change of the table concerns every query, or is tested for every query.
    Table,
    /// Not at all: no row can meet the condition.
    Never,
}

impl AccessPath {
    /// Returns the path in words.
    pub fn describe(&self, field_name: &dyn Fn(FieldId) -> String) -> String {
        let list = |paths: &[AccessPath], separator: &str| {
            let paths: Vec<String> = paths.iter().map(|path| path.describe(field_name)).collect();
            paths.join(separator)
        };
        match self {
            AccessPath::Equality(fields) => {
                let names: Vec<String> = fields.iter().map(|&field| field_name(field)).collect();
                format!("equality ({})", names.join(", "))
            }
            AccessPath::In(field) => format!("in ({})", field_name(*field)),
            AccessPath::Range(field) => format!("range ({})", field_name(*field)),
            AccessPath::All(paths) => list(paths, " with "),
            AccessPath::Any(paths) => list(paths, " or "),
            AccessPath::Table => "table".to_owned(),
            AccessPath::Never => "never".to_owned(),
        }
    }
}

/// Where the values of a key's field come from.
#[derive(Clone, Debug, PartialEq, Eq)]
enum KeySource {
    One(Operand),
    AnyOf(Vec<Operand>),
}

impl KeySource {
    fn has_slot(&self) -> bool {
        match self {
            KeySource::One(operand) => operand.is_slot(),
            KeySource::AnyOf(operands) => operands.iter().any(Operand::is_slot),
        }
    }
}

/// How the live queries of one conjunction are found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Access {
    // Invariant: at most one is `AnyOf`.
    keys: BTreeMap<FieldId, KeySource>,
    range: Option<(FieldId, Vec<(CompareOp, Operand)>)>,
    /// Whether whatever is found can meet the condition, without a test.
    pub(crate) is_exact: bool,
}

/// Values as a hash: two that differ share one once in 2^64, and then a query is named that need not be.
// Two halves, so that an entry of a map needs no padding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Fingerprint(pub(crate) [u32; 2]);

impl Fingerprint {
    /// Returns the fingerprint of values; each is hashed with its length, so that they can't run together.
    pub(crate) fn of<'a>(hasher: &RandomState, values: impl Iterator<Item = &'a Key>) -> Self {
        let mut state = hasher.build_hasher();
        for value in values {
            value.as_bytes().hash(&mut state);
        }
        let hash = std::hash::Hasher::finish(&state);
        Fingerprint([hash as u32, (hash >> 32) as u32])
    }
}

/// Where a live query stands.
pub(crate) enum Standing {
    /// Nowhere: no row can meet its conjunction.
    Nowhere,
    /// Under no key: it is a candidate whatever the row holds, because a value of its key is open.
    Unkeyed,
    /// Under keys.
    Under(Entries),
}

/// The keys under which a live query stands.
pub(crate) struct Entries {
    // Invariant: not empty.
    pub(crate) fingerprints: BTreeSet<Fingerprint>,
    /// The interval, where the access has a range.
    pub(crate) interval: Option<Interval>,
}

impl Access {
    /// Chooses what of a conjunction is looked up.
    pub(crate) fn choose(conjunction: &Conjunction) -> Access {
        let mut keys: BTreeMap<FieldId, KeySource> = BTreeMap::new();
        let mut used = 0;
        for literal in &conjunction.literals {
            if let Literal::Equal(field, operand) = literal {
                keys.entry(*field).or_insert_with(|| {
                    used += 1;
                    KeySource::One(operand.clone())
                });
            }
        }
        if !keys.values().any(KeySource::has_slot) {
            let lists = conjunction.literals.iter().filter_map(|literal| match literal {
                Literal::In(field, operands) if !keys.contains_key(field) => {
                    Some((*field, KeySource::AnyOf(operands.clone())))
                }
                _ => None,
            });
            if let Some((field, source)) = lists.max_by_key(|(_, source)| source.has_slot()) {
                keys.insert(field, source);
                used += 1;
            }
        }
        let range = choose_range(conjunction, &keys);
        used += range.as_ref().map_or(0, |(_, bounds)| bounds.len());
        let is_exact = used == conjunction.literals.len() && !conjunction.has_residual;
        Access { keys, range, is_exact }
    }

    /// Returns the key's fields, ascending.
    pub(crate) fn key_fields(&self) -> Vec<FieldId> {
        self.keys.keys().copied().collect()
    }

    /// Returns the field whose intervals stand under the key.
    pub(crate) fn range_field(&self) -> Option<FieldId> {
        self.range.as_ref().map(|(field, _)| *field)
    }

    /// Returns where a live query with these slots stands.
    pub(crate) fn standing(&self, hasher: &RandomState, slots: &[SlotValue]) -> Standing {
        let Some(interval) = self.interval(slots) else { return Standing::Nowhere };
        let mut lists: Vec<Vec<&Key>> = Vec::with_capacity(self.keys.len());
        let mut is_keyed = true;
        for source in self.keys.values() {
            let operands = match source {
                KeySource::One(operand) => std::slice::from_ref(operand),
                KeySource::AnyOf(operands) => operands,
            };
            let mut list = Vec::new();
            for element in operands.iter().flat_map(|operand| operand.elements(slots)) {
                match element {
                    Comparand::Key(key) => list.push(key),
                    // A comparison with null is never true.
                    Comparand::Null => {}
                    Comparand::Open | Comparand::Missing => is_keyed = false,
                }
            }
            if list.is_empty() && is_keyed {
                return Standing::Nowhere;
            }
            lists.push(list);
        }
        if !is_keyed {
            return Standing::Unkeyed;
        }
        let alternatives = lists.iter().map(Vec::len).max().unwrap_or(1);
        let fingerprints = (0..alternatives)
            .map(|number| {
                // A list of one value stands for itself in each alternative.
                let values = lists.iter().map(|list| list[if list.len() > 1 { number } else { 0 }]);
                Fingerprint::of(hasher, values)
            })
            .collect();
        Standing::Under(Entries { fingerprints, interval })
    }

    /// Returns what the bounds leave of the range's field, if there is a range; `None` where one is null.
    fn interval(&self, slots: &[SlotValue]) -> Option<Option<Interval>> {
        let Some((_, bounds)) = &self.range else { return Some(None) };
        let mut interval = Interval::all();
        for (op, operand) in bounds {
            let key = match operand.value(slots) {
                Comparand::Key(key) => key,
                Comparand::Null => return None,
                Comparand::Open | Comparand::Missing => continue,
            };
            match op {
                CompareOp::Gt => interval.bound_below(key, false),
                CompareOp::Ge => interval.bound_below(key, true),
                CompareOp::Lt => interval.bound_above(key, false),
                CompareOp::Le => interval.bound_above(key, true),
                CompareOp::Eq | CompareOp::Ne => {}
            }
        }
        Some(Some(interval))
    }

    /// Returns the path as `explain` shows it.
    pub(crate) fn path(&self) -> AccessPath {
        let is_one = |source: &KeySource| matches!(source, KeySource::One(_));
        let equal: Vec<FieldId> = self
            .keys
            .iter()
            .filter(|(_, source)| is_one(source))
            .map(|(&field, _)| field)
            .collect();
        let list = self.keys.iter().find(|(_, source)| !is_one(source));
        let mut paths = Vec::new();
        if !equal.is_empty() {
            paths.push(AccessPath::Equality(equal));
        }
        paths.extend(list.map(|(&field, _)| AccessPath::In(field)));
        paths.extend(self.range_field().map(AccessPath::Range));
        match paths.len() {
            0 => AccessPath::Table,
            1 => paths.remove(0),
            _ => AccessPath::All(paths),
        }
    }
}

/// Chooses the field whose bounds become an interval: one of slots before one of constants, a closed before an open.
fn choose_range(
    conjunction: &Conjunction,
    keys: &BTreeMap<FieldId, KeySource>,
) -> Option<(FieldId, Vec<(CompareOp, Operand)>)> {
    let mut ranges: BTreeMap<FieldId, Vec<(CompareOp, Operand)>> = BTreeMap::new();
    for literal in &conjunction.literals {
        match literal {
            Literal::Bound(field, op, operand) if !keys.contains_key(field) => {
                ranges.entry(*field).or_default().push((*op, operand.clone()));
            }
            _ => {}
        }
    }
    let has_slot =
        |bounds: &[(CompareOp, Operand)]| bounds.iter().any(|(_, operand)| operand.is_slot());
    let is_closed = |bounds: &[(CompareOp, Operand)]| {
        let lower = |op: &CompareOp| matches!(op, CompareOp::Gt | CompareOp::Ge);
        bounds.iter().any(|(op, _)| lower(op)) && bounds.iter().any(|(op, _)| !lower(op))
    };
    let keys_have_slot = keys.values().any(KeySource::has_slot);
    ranges
        .into_iter()
        .filter(|(_, bounds)| has_slot(bounds) || !keys_have_slot)
        .max_by_key(|(_, bounds)| (has_slot(bounds), is_closed(bounds)))
}

/// What a row holds in the fields of a look-up.
pub(crate) enum Held {
    /// A null: nothing is found.
    Null,
    /// All of them are keys.
    Known,
    /// Some are unknown, or something is told of which the look-up knows nothing: elements where a value is compared.
    PartlyUnknown,
    /// All are unknown.
    Unknown,
}

impl Held {
    pub(crate) fn of<'a>(values: impl Iterator<Item = &'a FieldValue>) -> Held {
        let (mut known, mut unknown) = (false, false);
        for value in values {
            match value {
                FieldValue::Null => return Held::Null,
                FieldValue::Key(_) => known = true,
                FieldValue::Unknown => unknown = true,
                FieldValue::Elements(_) => (known, unknown) = (true, true),
            }
        }
        match (known, unknown) {
            (_, false) => Held::Known,
            (true, true) => Held::PartlyUnknown,
            (false, true) => Held::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::normal_form::conjunctions;
    use crate::predicate::Condition;
    use crate::testing::{compare, constant, slot};

    fn check(parts: Vec<Condition>, expected: &str, is_exact: bool) {
        let conjunctions = conjunctions(&Condition::And(parts));
        let [conjunction] = &conjunctions[..] else { panic!("one alternative: {conjunctions:?}") };
        let access = Access::choose(conjunction);
        assert_eq!(access.path().describe(&|field| format!("c{}", field.0)), expected);
        assert_eq!(access.is_exact, is_exact, "{expected}");
    }

    fn list(field: u16, operands: Vec<Operand>) -> Condition {
        Condition::In { field: FieldId(field), operands }
    }

    #[test]
    fn the_most_selective_path_is_chosen() {
        let equal = |field, operand| compare(field, CompareOp::Eq, operand);
        let above = |field, operand| compare(field, CompareOp::Gt, operand);
        let below = |field, operand| compare(field, CompareOp::Le, operand);
        check(vec![], "table", true);
        check(vec![Condition::Unknown], "table", false);
        check(vec![equal(0, slot(0))], "equality (c0)", true);
        check(vec![equal(1, constant(1)), equal(0, slot(0))], "equality (c0, c1)", true);
        check(vec![equal(0, slot(0)), equal(0, slot(1))], "equality (c0)", false);
        check(vec![equal(0, slot(0)), list(1, vec![slot(1)])], "equality (c0)", false);
        check(
            vec![equal(0, constant(0)), list(1, vec![slot(1)])],
            "equality (c0) with in (c1)",
            true,
        );
        check(vec![list(0, vec![constant(0)]), list(1, vec![slot(1)])], "in (c1)", false);
        check(vec![equal(0, slot(0)), above(1, constant(1))], "equality (c0)", false);
        check(vec![equal(0, slot(0)), above(1, slot(1))], "equality (c0) with range (c1)", true);
        check(
            vec![equal(0, constant(0)), above(1, slot(1))],
            "equality (c0) with range (c1)",
            true,
        );
        check(vec![above(0, slot(0)), above(1, slot(0)), below(1, slot(1))], "range (c1)", false);
        check(vec![above(0, constant(1)), below(1, slot(1))], "range (c1)", false);
        check(vec![above(1, slot(0)), Condition::IsNull(FieldId(0))], "range (c1)", false);
    }

    #[test]
    fn queries_that_compare_with_null_stand_nowhere() {
        let hasher = RandomState::new();
        let access = |condition| Access::choose(&conjunctions(&condition)[0]);
        let equal = access(compare(0, CompareOp::Eq, slot(0)));
        let stands = |access: &Access, slot| match access.standing(&hasher, &[slot]) {
            Standing::Nowhere => "nowhere",
            Standing::Unkeyed => "unkeyed",
            Standing::Under(_) => "under keys",
        };
        assert_eq!(stands(&equal, SlotValue::One(None)), "nowhere");
        let above = access(compare(0, CompareOp::Gt, slot(0)));
        assert_eq!(stands(&above, SlotValue::One(None)), "nowhere");
        let list = access(list(0, vec![slot(0)]));
        assert_eq!(stands(&list, SlotValue::Many(Box::new([None]))), "nowhere");
        // What is open is met by more than a key can say.
        assert_eq!(stands(&equal, SlotValue::Open), "unkeyed");
        assert_eq!(stands(&list, SlotValue::Open), "unkeyed");
        assert_eq!(stands(&above, SlotValue::Open), "under keys");
        let key = crate::testing::key;
        let values = SlotValue::Many(Box::new([Some(key(1)), None, Some(key(2)), Some(key(1))]));
        let Standing::Under(entries) = list.standing(&hasher, &[values]) else {
            panic!("it can be true")
        };
        assert_eq!(entries.fingerprints.len(), 2);
    }
}
