//! The name that somebody probably meant.

/// Returns the candidate that is fewest edits away from `name`, where that is few enough to be a slip.
pub(crate) fn nearest<'a>(
    name: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    // A name is short; what is longer was not mistyped.
    const LENGTH_MAX: usize = 100;
    if name.len() > LENGTH_MAX {
        return None;
    }
    let lower = name.to_lowercase();
    let limit = (name.chars().count() / 2).max(1);
    let distances =
        candidates.into_iter().filter(|candidate| candidate.len() <= LENGTH_MAX).map(|candidate| {
            // Case alone is hardly a difference.
            (edits(&lower, &candidate.to_lowercase()), candidate)
        });
    distances
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// Returns Levenshtein's distance.
fn edits(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, in_a) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, in_b) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(in_a != *in_b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_was_meant() {
        assert_eq!(nearest("tennant", ["status", "tenant"]), Some("tenant"));
        assert_eq!(
            nearest("orders.bytenant", ["orders.byTenant", "orders.list"]),
            Some("orders.byTenant")
        );
        assert_eq!(nearest("x", ["tenant"]), None);
        assert_eq!(nearest("x", []), None);
    }
}
