//! What changed between two lists of rows.

use crate::result_row::ResultRow;
use crate::update::DiffOp;
use std::collections::HashMap;

/// Returns the steps that lead from one list to the other: removals, then from the front what comes, changes or
/// moves. As few rows move as can be: those off a longest run that keeps its order.
pub(crate) fn diff(old: &[ResultRow], new: &[ResultRow]) -> Vec<DiffOp> {
    let front = old.iter().zip(new).take_while(|(left, right)| left.is_same(right)).count();
    let back = old[front..]
        .iter()
        .rev()
        .zip(new[front..].iter().rev())
        .take_while(|(left, right)| left.is_same(right));
    let back = back.count();
    diff_between(&old[front..old.len() - back], &new[front..new.len() - back], front)
}

/// The same, for lists that stand `base` rows behind the front.
fn diff_between(old: &[ResultRow], new: &[ResultRow], base: usize) -> Vec<DiffOp> {
    let old_index: HashMap<&str, usize> =
        old.iter().enumerate().map(|(index, row)| (row.key(), index)).collect();
    let came_from: Vec<Option<usize>> =
        new.iter().map(|row| old_index.get(row.key()).copied()).collect();
    let mut kept = vec![false; old.len()];
    for &index in came_from.iter().flatten() {
        kept[index] = true;
    }
    let mut ops: Vec<DiffOp> = old
        .iter()
        .zip(&kept)
        .filter(|(_, kept)| !**kept)
        .map(|(row, _)| DiffOp::Remove { key: row.key().into() })
        .collect();

    let stays = longest_increasing(&came_from);
    // Rows that will move and have not yet: they stand in the way between those that stay.
    let mut movers = Movers::new(old.len());
    for (index, from) in came_from.iter().enumerate() {
        if let Some(from) = *from
            && !stays[index]
        {
            movers.add(from);
        }
    }
    let mut last_stayed = None;
    for (index, row) in new.iter().enumerate() {
        match came_from[index] {
            None => {
                let at = base + index + movers.count_before(last_stayed);
                ops.push(DiffOp::Insert { row: row.clone(), at });
            }
            Some(from) => {
                if stays[index] {
                    last_stayed = Some(from);
                } else {
                    movers.take(from);
                    let at = base + index + movers.count_before(last_stayed);
                    ops.push(DiffOp::Move { key: row.key().into(), at });
                }
                ops.extend(update(&old[from], row));
            }
        }
    }
    ops
}

/// Returns the step that turns a row into another of the same key, if they differ.
pub(crate) fn update(old: &ResultRow, new: &ResultRow) -> Option<DiffOp> {
    let changed = old.cells().zip(new.cells()).enumerate().filter(|(_, (old, new))| old != new);
    let set: Vec<_> = changed.map(|(column, (_, new))| (column, new.into())).collect();
    (!set.is_empty()).then(|| DiffOp::Update { key: new.key().into(), set })
}

/// Marks, of the numbers that are there, those of a longest increasing subsequence.
fn longest_increasing(numbers: &[Option<usize>]) -> Vec<bool> {
    // Patience sorting: `tails[n]` is the index of the smallest number that ends a run of n + 1.
    let mut tails: Vec<usize> = Vec::new();
    let mut previous: Vec<Option<usize>> = vec![None; numbers.len()];
    for (index, number) in numbers.iter().enumerate() {
        let Some(number) = *number else { continue };
        let run = tails.partition_point(|&tail| numbers[tail] < Some(number));
        previous[index] = run.checked_sub(1).map(|run| tails[run]);
        if run == tails.len() {
            tails.push(index);
        } else {
            tails[run] = index;
        }
    }
    let mut marked = vec![false; numbers.len()];
    let mut next = tails.last().copied();
    while let Some(index) = next {
        marked[index] = true;
        next = previous[index];
    }
    marked
}

/// The rows still to be moved, by their old places: a Fenwick tree that counts those before a place.
struct Movers {
    tree: Vec<usize>,
}

impl Movers {
    fn new(len: usize) -> Self {
        Movers { tree: vec![0; len + 1] }
    }

    fn add(&mut self, place: usize) {
        self.change(place, |count| count + 1);
    }

    fn take(&mut self, place: usize) {
        self.change(place, |count| count - 1);
    }

    fn change(&mut self, place: usize, change: impl Fn(usize) -> usize) {
        let mut node = place + 1;
        while node < self.tree.len() {
            self.tree[node] = change(self.tree[node]);
            node += node & node.wrapping_neg();
        }
    }

    /// Counts the movers that stand before the row that stayed from `place`; none stands before the front.
    fn count_before(&self, place: Option<usize>) -> usize {
        let mut node = place.map_or(0, |place| place + 1);
        let mut count = 0;
        while node > 0 {
            count += self.tree[node];
            node -= node & node.wrapping_neg();
        }
        count
    }
}

/// Applies steps to a list, as a client would.
///
/// # Errors
/// Says which step does not fit.
pub fn apply(rows: &mut Vec<ResultRow>, ops: &[DiffOp]) -> Result<(), String> {
    let find = |rows: &[ResultRow], key: &str| {
        rows.iter()
            .position(|row| row.key() == key)
            .ok_or_else(|| format!("no row has the key {key:?}"))
    };
    for op in ops {
        match op {
            DiffOp::Remove { key } => {
                let at = find(rows, key)?;
                rows.remove(at);
            }
            DiffOp::Insert { row, at } => {
                if *at > rows.len() || rows.iter().any(|there| there.key() == row.key()) {
                    return Err(format!("{:?} can't be inserted at {at}", row.key()));
                }
                rows.insert(*at, row.clone());
            }
            DiffOp::Update { key, set } => {
                let at = find(rows, key)?;
                let before = rows[at].clone();
                let mut cells: Vec<&str> = before.cells().collect();
                for (column, value) in set {
                    *cells
                        .get_mut(*column)
                        .ok_or_else(|| format!("there is no column {column}"))? = value;
                }
                rows[at] = ResultRow::new(before.key(), cells);
            }
            DiffOp::Patch { value, .. } => *rows = vec![ResultRow::new("", [&**value])],
            DiffOp::Move { key, at } => {
                let from = find(rows, key)?;
                let row = rows.remove(from);
                if *at > rows.len() {
                    return Err(format!("{key:?} can't be moved to {at}"));
                }
                rows.insert(*at, row);
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use proptest::sample::subsequence;

    fn rows(entries: &[(u8, u8)]) -> Vec<ResultRow> {
        let row = |&(key, value): &(u8, u8)| {
            ResultRow::new(&key.to_string(), [value.to_string(), key.to_string()])
        };
        entries.iter().map(row).collect()
    }

    fn list() -> impl Strategy<Value = Vec<(u8, u8)>> {
        subsequence((0..24_u8).collect::<Vec<_>>(), 0..24).prop_shuffle().prop_flat_map(|keys| {
            keys.into_iter().map(|key| (Just(key), 0..3_u8)).collect::<Vec<_>>()
        })
    }

    proptest! {
        #[test]
        fn applying_the_diff_gives_the_new_list(old in list(), new in list()) {
            let (old, new) = (rows(&old), rows(&new));
            let ops = diff(&old, &new);
            let mut applied = old.clone();
            apply(&mut applied, &ops).expect("steps that fit");
            prop_assert_eq!(&applied, &new);
            if old == new {
                prop_assert!(ops.is_empty());
            }
        }
    }

    #[test]
    fn one_row_that_moves_is_one_step() {
        let old = rows(&[(1, 0), (2, 0), (3, 0), (4, 0)]);
        let new = rows(&[(2, 0), (3, 0), (1, 0), (4, 0)]);
        assert_eq!(diff(&old, &new), [DiffOp::Move { key: "1".into(), at: 2 }]);
    }
}
