//! The known name that somebody probably meant.

/// Returns the name that is the fewest edits away, if it is near.
pub(crate) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let reach = (name.len() / 3).max(2);
    known
        .map(|other| (distance(&name.to_lowercase(), &other.to_lowercase()), other))
        .filter(|(edits, _)| *edits <= reach)
        .min()
        .map(|(_, other)| other)
}

/// Levenshtein's distance.
fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, from) in from.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in to.iter().enumerate() {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn near_names_are_found_and_far_ones_are_not() {
        let known = ["orders.list", "orders.create", "users.get"];
        assert_eq!(nearest("orders.lits", known.into_iter()), Some("orders.list"));
        assert_eq!(nearest("Orders.List", known.into_iter()), Some("orders.list"));
        assert_eq!(nearest("invoices", known.into_iter()), None);
        assert_eq!(nearest("x", std::iter::empty()), None);
    }
}
