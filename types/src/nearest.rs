//! The name that somebody probably meant, for errors that name one.

/// A name is short; what is longer was not mistyped.
const LENGTH_MAX: usize = 100;

/// Returns the candidate that is fewest edits away from `name`, where that is few enough to be a slip.
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if name.len() > LENGTH_MAX {
        return None;
    }
    // Case alone is hardly a difference.
    let lower = name.to_lowercase();
    let edits = |candidate: &str| strsim::levenshtein(&lower, &candidate.to_lowercase());
    let limit = (name.chars().count() / 2).max(1);
    let candidates = candidates.into_iter().filter(|candidate| candidate.len() <= LENGTH_MAX);
    candidates
        .map(|candidate| (edits(candidate), candidate))
        .filter(|(edits, _)| *edits <= limit)
        .min_by_key(|(edits, _)| *edits)
        .map(|(_, candidate)| candidate)
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
        let known = ["orders.list", "orders.create", "users.get"];
        assert_eq!(nearest("orders.lits", known), Some("orders.list"));
        assert_eq!(nearest("Orders.List", known), Some("orders.list"));
        assert_eq!(nearest("invoices", known), None);
        assert_eq!(nearest(&"o".repeat(101), ["o"]), None);
    }
}
