//! Indifference: row changes that meet a result's condition and yet leave it what it is, seen before it is woken.
//!
//! The index knows which columns a query has anything to do with. Of an update that changes such columns as are only
//! filtered by, of a row that was in and still is, nothing comes. What is kept from row changes can tell, since its
//! condition is exact; what is read again can't, and neither can anybody where the old row is not sent.

use crate::derived::columns_of;
use crate::groups::plan::GroupsPlan;
use crate::template::{Plan, QueryTemplate, WindowPlan};
use convoy_query_index::{Condition, FieldSet, FieldValue, RowImages, SlotValue, Truth};

impl QueryTemplate {
    /// Returns whether a change leaves results with these slots what they are, rows that are held and not shown included.
    /// Where it can't be told, it may not.
    pub(crate) fn is_indifferent_to(&self, slots: &[SlotValue], images: &RowImages<'_>) -> bool {
        let (Some(old), Some(new), Some(changed)) = (images.old, images.new, images.changed) else {
            return false;
        };
        let (shows_any, condition, filters) = match &self.plan {
            Plan::Window(plan) => (plan.shows_any(changed), &plan.condition, &[] as &[_]),
            Plan::Groups(plan) => (plan.shows_any(changed), &plan.condition, &*plan.filters),
            Plan::Refresh(_) => return false,
        };
        let is_met = |condition: &Condition, row: &[FieldValue]| match condition.eval(row, slots) {
            Truth::True => Some(true),
            Truth::False | Truth::Null => Some(false),
            Truth::Unknown => None,
        };
        let is_same = |filter: &Condition| {
            let met = is_met(filter, old);
            let fields = columns_of(&filter.fields(), &self.derived);
            !fields.intersects(changed) || (met.is_some() && met == is_met(filter, new))
        };
        !shows_any
            && is_met(condition, old) == Some(true)
            && is_met(condition, new) == Some(true)
            && filters.iter().all(is_same)
    }
}

impl WindowPlan {
    /// Returns whether rows are shown, ordered or told apart by any of these fields.
    fn shows_any(&self, fields: &FieldSet) -> bool {
        self.source.iter().any(|field| fields.contains(*field))
    }
}

impl GroupsPlan {
    /// Returns whether rows are grouped by any of these fields, or anything is kept of one.
    fn shows_any(&self, fields: &FieldSet) -> bool {
        let mut columns = self.group_by.iter().map(|column| column.field);
        columns.any(|field| fields.contains(field))
            || self
                .states
                .iter()
                .filter_map(|state| state.column)
                .any(|field| fields.contains(field))
    }
}

#[cfg(test)]
mod tests {
    use crate::analyse::fixture::Case;
    use convoy_query_index::{FieldId, FieldSet, FieldValue, RowImages};
    use convoy_types::{Key, PgType, ReplicaIdentity};

    const TENANT: usize = 1;
    const CUSTOMER: usize = 2;

    /// Asks whether a statement over `orders` is indifferent to an update of tenant and customer.
    fn check(sql: &str, columns: &str, old: [i32; 2], new: [i32; 2], expect: bool) {
        let case =
            Case::new(sql, columns).table("orders", |table| table.identity = ReplicaIdentity::Full);
        let template = case.analyse().unwrap_or_else(|error| panic!("{sql}: {error}"));
        let table = &template.tables[0];
        let row = |values: [i32; 2]| {
            let mut row = vec![FieldValue::Unknown; table.columns.len()];
            for (field, value) in [TENANT, CUSTOMER].into_iter().zip(values) {
                let key = Key::of(&PgType::Int4, value.to_string().as_bytes());
                row[field] = FieldValue::Key(key.expect("a number"));
            }
            row
        };
        let mut changed = FieldSet::default();
        for (field, differs) in
            [(TENANT, old[0] != new[0]), (CUSTOMER, old[1] != new[1])].into_iter()
        {
            if differs {
                changed.insert(FieldId(u16::try_from(field).expect("small")));
            }
        }
        let (old, new) = (row(old), row(new));
        let images = RowImages {
            relation: table.id,
            old: Some(&old),
            new: Some(&new),
            old_key: None,
            new_key: None,
            changed: Some(&changed),
        };
        assert_eq!(template.is_indifferent_to(&[], &images), expect, "{sql}");
        let unsent = RowImages { old: Some(&[]), changed: None, ..images };
        assert!(!template.is_indifferent_to(&[], &unsent), "nobody knows what the row was");
    }

    #[test]
    fn a_row_that_was_in_and_is_in_changes_nothing_but_what_is_made_of_it() {
        let window = |condition: &str| format!("select id from orders where {condition}");
        check(&window("tenant > 1"), "id", [2, 0], [3, 0], true);
        check(&window("tenant > 1"), "id", [1, 0], [3, 0], false);
        check(&window("tenant > 1"), "id", [3, 0], [1, 0], false);
        check(&window("tenant > 1 order by tenant"), "id", [2, 0], [3, 0], false);
        check(&window("tenant > 1 or customer_id = 5"), "id", [2, 1], [0, 5], true);
        check("select id, tenant from orders where tenant > 1", "id tenant", [2, 0], [3, 0], false);

        let counted = |call: &str| format!("select {call} as n from orders where tenant > 1");
        check(&counted("count(*)"), "n:int8", [2, 0], [3, 0], true);
        check(&counted("count(*)"), "n:int8", [1, 0], [3, 0], false);
        check(&counted("sum(tenant)"), "n:int8", [2, 0], [3, 0], false);
        let filtered = counted("count(*) filter (where customer_id = 5)");
        check(&filtered, "n:int8", [2, 1], [3, 1], true);
        check(&filtered, "n:int8", [2, 1], [3, 2], true);
        check(&filtered, "n:int8", [2, 1], [3, 5], false);
        let grouped = "select tenant, count(*) as n from orders where tenant > 1 group by tenant";
        check(grouped, "tenant n:int8", [2, 0], [3, 0], false);

        // What is read again may depend on more than its condition says.
        check("select lower(label) as l from orders where tenant > 1", "l", [2, 0], [3, 0], false);
    }
}
