//! The window's law: applying changes gives what reading again would.

use crate::diff::apply;
use crate::facts::{ColumnFacts, Publication, TableFacts, TableKind};
use crate::read_rows::ReadRows;
use crate::tables::{Fields, Identity, TableChange, field_values};
use crate::template::{Count, Direction, Nulls, OrderBy, WindowPlan};
use crate::window::spare::Spare;
use crate::window::{Applied, Bounds, Membership, Window};
use bytes::Bytes;
use convoy_query_index::{CompareOp, Condition, FieldId, Operand, Truth};
use convoy_types::{Collation, Datum, Key, PgType, RelationId, ReplicaIdentity};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A row of the test's table: `id int8 primary key, rank int4, note text`.
#[derive(Clone, Debug, PartialEq)]
struct Line {
    id: i64,
    rank: Option<i32>,
    note: String,
}

fn table() -> Arc<TableFacts> {
    let column = |name: &str, ty: PgType, collation| ColumnFacts {
        name: name.to_owned(),
        ty,
        type_oid: 0,
        type_name: String::new(),
        scale: None,
        collation,
        generated: false,
        not_null: false,
    };
    Arc::new(TableFacts {
        id: RelationId(1),
        kind: TableKind::Plain,
        namespace: "public".to_owned(),
        name: "lines".to_owned(),
        columns: vec![
            column("id", PgType::Int8, Collation::None),
            column("rank", PgType::Int4, Collation::None),
            column("note", PgType::Text, Collation::ByteOrder),
        ],
        primary_key: vec![FieldId(0)],
        identity: ReplicaIdentity::Default,
        publication: Publication::Full,
        row_security: false,
        leaves: Vec::new(),
    })
}

/// `SELECT id, rank, note FROM lines WHERE rank IS NULL OR rank < 8 ORDER BY rank DESC NULLS LAST, note`, or without an
/// order.
fn plan(table: &Arc<TableFacts>, is_ordered: bool, bounds: Bounds) -> WindowPlan {
    let order = vec![
        OrderBy { source: 1, direction: Direction::Descending, nulls: Nulls::Last },
        OrderBy { source: 2, direction: Direction::Ascending, nulls: Nulls::Last },
    ];
    let eight = Key::of(&PgType::Int4, b"8").expect("a number");
    WindowPlan {
        table: table.clone(),
        sql: "".into(),
        source: vec![FieldId(0), FieldId(1), FieldId(2)],
        output: vec![0, 1, 2],
        key: vec![0],
        order: if is_ordered { order } else { Vec::new() },
        condition: Condition::Or(vec![
            Condition::IsNull(FieldId(1)),
            Condition::Compare {
                field: FieldId(1),
                op: CompareOp::Lt,
                operand: Operand::Constant(Some(eight)),
            },
        ]),
        limit: bounds.limit.map(Count::Constant),
        offset: Some(Count::Constant(bounds.offset)),
        boundary: None,
        derived: Vec::new(),
    }
}

fn matches(line: &Line) -> bool {
    line.rank.is_none_or(|rank| rank < 8)
}

fn order(left: &Line, right: &Line, is_ordered: bool) -> Ordering {
    let by_rank = match (left.rank, right.rank) {
        (Some(left), Some(right)) => right.cmp(&left),
        (left, right) => left.is_none().cmp(&right.is_none()),
    };
    let by_order =
        if is_ordered { by_rank.then(left.note.cmp(&right.note)) } else { Ordering::Equal };
    by_order.then(left.id.cmp(&right.id))
}

/// What the statement would read, with at most this many rows.
fn read(rows: &BTreeMap<i64, Line>, is_ordered: bool, rows_max: usize) -> ReadRows {
    let mut lines: Vec<_> = rows.values().filter(|line| matches(line)).collect();
    lines.sort_by(|left, right| order(left, right, is_ordered));
    let text = |line: &&Line| {
        let rank = line.rank.map(|rank| rank.to_string());
        [Some(line.id.to_string()), rank, Some(line.note.clone())]
    };
    lines.iter().take(rows_max).map(text).collect()
}

fn fields(line: &Line, note_is_unchanged: bool) -> Fields {
    let text = |text: String| Datum::Text(Bytes::from(text));
    let note = if note_is_unchanged { Datum::UnchangedToast } else { text(line.note.clone()) };
    [text(line.id.to_string()), line.rank.map_or(Datum::Null, |rank| text(rank.to_string())), note]
        .into()
}

fn key_only(id: i64) -> Fields {
    [Datum::Text(Bytes::from(id.to_string())), Datum::Missing, Datum::Missing].into()
}

/// One change, as the stream would tell it under REPLICA IDENTITY DEFAULT.
fn random_change(
    random: &mut SmallRng,
    table: &Arc<TableFacts>,
    rows: &mut BTreeMap<i64, Line>,
) -> TableChange {
    let id = random.random_range(0..40);
    let rank = random.random_bool(0.8).then(|| random.random_range(0..10));
    let note = ["a", "b", "ä", ""][random.random_range(0..4)].to_owned();
    let change = |old, new, is_update| TableChange {
        table: table.clone(),
        identity: match (&old, is_update) {
            (None, true) => Some(Identity::new(table, table.key_fields())),
            _ => None,
        },
        old,
        new,
        is_update,
    };
    let Some(before) = rows.get(&id).cloned() else {
        let line = Line { id, rank, note };
        rows.insert(id, line.clone());
        return change(None, Some(fields(&line, false)), false);
    };
    match random.random_range(0..4) {
        0 => {
            rows.remove(&id);
            change(Some(key_only(id)), None, false)
        }
        1 => {
            let new_id = (0..40).find(|id| !rows.contains_key(id)).unwrap_or(id);
            let keeps_note = random.random_bool(0.5);
            let line = Line { id: new_id, rank, note: if keeps_note { before.note } else { note } };
            rows.remove(&id);
            rows.insert(new_id, line.clone());
            let old = (new_id != id).then(|| key_only(id));
            change(old, Some(fields(&line, keeps_note)), true)
        }
        _ => {
            let keeps_note = random.random_bool(0.5);
            let line = Line { id, rank, note: if keeps_note { before.note } else { note } };
            rows.insert(id, line.clone());
            change(None, Some(fields(&line, keeps_note)), true)
        }
    }
}

/// The changes that the index tells a window of: rows that meet its condition and are at its boundary or above it, and
/// rows that it holds, also by an earlier change of the batch.
fn told_of(plan: &WindowPlan, window: &Window, batch: Vec<TableChange>) -> Vec<TableChange> {
    let boundary = window.boundary(plan);
    let is_at = |fields: &Fields| {
        let (Some(leading), Some(boundary)) = (plan.leading(), &boundary) else { return true };
        let ty = &plan.table.column(plan.source[leading.source]).ty;
        match fields[leading.source].known() {
            Some(Some(text)) => {
                let value = Key::of(ty, text).expect("a value");
                if leading.direction == Direction::Descending {
                    value >= *boundary
                } else {
                    value <= *boundary
                }
            }
            _ => true,
        }
    };
    let is_met = |fields: &Fields| {
        let values = field_values(&plan.table, &[], fields, &plan.condition.fields());
        plan.condition.eval(&values, &[]) != Truth::False
    };
    let mut provisional = Vec::new();
    let mut told = Vec::new();
    for change in batch {
        let is_held = change
            .old_key()
            .is_some_and(|key| window.holds(&key) || provisional.contains(&Some(key)));
        if is_held || change.new.as_ref().is_some_and(|new| is_at(new) && is_met(new)) {
            provisional.push(change.new_key());
            told.push(change);
        }
    }
    told
}

fn check(seed: u64, is_ordered: bool, bounds: Bounds) -> (u32, u32, u32) {
    let mut random = SmallRng::seed_from_u64(seed);
    let table = table();
    let plan = plan(&table, is_ordered, bounds);
    let mut rows = BTreeMap::new();
    let rows_max = bounds.read().unwrap_or(usize::MAX);
    let open = |rows: &BTreeMap<i64, Line>| {
        Window::read(&plan, bounds, read(rows, is_ordered, rows_max)).expect("texts that read")
    };
    // Sometimes one that has given most of its spare rows back.
    let spare = [None, Some(0), Some(2)][random.random_range(0..3)];
    let fewer = |mut window: Window| {
        window.spare = spare.map_or(window.spare, Spare::new);
        window
    };
    let mut window = fewer(open(&rows));
    let mut shown = window.visible().rows().to_vec();
    let keys = |window: &Window| window.held_keys().collect::<BTreeSet<_>>();
    let mut held = keys(&window);
    let (mut applied, mut refilled, mut left_out) = (0, 0, 0);
    for _ in 0..150 {
        // Long ones too, in which a row goes, comes back and is changed.
        let len_max = if random.random_bool(0.1) { 100 } else { 4 };
        let batch_len = random.random_range(1..len_max);
        let batch: Vec<_> =
            (0..batch_len).map(|_| random_change(&mut random, &table, &mut rows)).collect();
        let told = told_of(&plan, &window, batch);
        left_out += batch_len - u32::try_from(told.len()).expect("few");
        match window.apply(&plan, &[], told.iter()) {
            Ok(Applied { ops, membership }) => {
                applied += 1;
                for change in membership {
                    let is_news = match change {
                        Membership::Held(key) => held.insert(key),
                        Membership::Released(key) => held.remove(&key),
                    };
                    assert!(is_news, "seed {seed}: a row comes or goes once");
                }
                apply(&mut shown, &ops).expect("steps that fit");
            }
            Err(_) => {
                refilled += 1;
                assert_eq!(window.visible().rows(), shown, "seed {seed}: a refill changes nothing");
                assert_eq!(keys(&window), held, "seed {seed}: a refill changes nothing");
                window = fewer(open(&rows));
                held = keys(&window);
                shown = window.visible().rows().to_vec();
            }
        }
        assert_eq!(keys(&window), held, "seed {seed}: what is told of the rows is what is held");
        let anew = open(&rows);
        assert_eq!(shown, anew.visible().rows(), "seed {seed}");
        assert_eq!(window.visible().rows(), anew.visible().rows(), "seed {seed}");
        assert_eq!(window.visible().digest(&[]), anew.visible().digest(&[]), "seed {seed}");
    }
    (applied, refilled, left_out)
}

#[test]
fn applying_changes_gives_what_reading_again_would() {
    let (mut applied, mut refilled, mut left_out) = (0, 0, 0);
    for seed in 0..10 {
        for is_ordered in [false, true] {
            for (offset, limit) in [(0, None), (0, Some(5)), (3, Some(4)), (2, None), (0, Some(0))]
            {
                let counts = check(seed, is_ordered, Bounds { offset, limit });
                applied += counts.0;
                refilled += counts.1;
                left_out += counts.2;
            }
        }
    }
    assert!(applied > refilled, "{applied} batches were applied and {refilled} cost a read");
    assert!(left_out > applied / 10, "of {applied} batches {left_out} changes were left out");
}

/// `SELECT id, note FROM prices` where `id` is numeric: `1.0` and `1.00` are one key with two texts.
#[test]
fn a_key_that_is_written_otherwise_is_another_row_to_clients() {
    let mut facts = (*table()).clone();
    facts.columns[0].ty = PgType::Numeric;
    let table = Arc::new(facts);
    for limit in [None, Some(5)] {
        let bounds = Bounds { offset: 0, limit };
        let mut plan = plan(&table, false, bounds);
        plan.condition = Condition::always();
        let open = |id: &str| {
            let rows = ["0", id].map(|id| [Some(id), None, Some("a")]);
            Window::read(&plan, bounds, rows.into_iter().collect()).expect("texts")
        };
        let mut window = open("1.0");
        let mut shown = window.visible().rows().to_vec();
        let new = ["1.00", "a"].map(|text| Datum::Text(Bytes::copy_from_slice(text.as_bytes())));
        let [id, note] = new;
        let change = TableChange {
            table: table.clone(),
            identity: None,
            old: Some([Datum::Text(Bytes::from("1.0")), Datum::Missing, Datum::Missing].into()),
            new: Some([id, Datum::Null, note].into()),
            is_update: true,
        };
        let applied = window.apply(&plan, &[], std::iter::once(&change)).expect("all is known");
        apply(&mut shown, &applied.ops).expect("steps that fit");
        assert_eq!(shown, open("1.00").visible().rows());
        assert_eq!(window.visible().digest(&[]), open("1.00").visible().digest(&[]));
    }
}

#[test]
fn whether_a_json_is_null_is_known_though_its_value_is_not_compared() {
    let mut facts = (*table()).clone();
    facts.columns[2].ty = PgType::Jsonb;
    let table = Arc::new(facts);
    let bounds = Bounds { offset: 0, limit: None };
    let mut plan = plan(&table, false, bounds);
    plan.condition = Condition::IsNotNull(FieldId(2));
    let mut window = Window::read(&plan, bounds, ReadRows::default()).expect("no rows");
    let insert = |id: &'static str, note: Datum| TableChange {
        table: table.clone(),
        identity: None,
        old: None,
        new: Some([Datum::Text(Bytes::from(id)), Datum::Null, note].into()),
        is_update: false,
    };
    let changes = [insert("1", Datum::Null), insert("2", Datum::Text(Bytes::from("{}")))];
    let applied = window.apply(&plan, &[], changes.iter()).expect("no need of a read");
    assert_eq!(applied.ops.len(), 1);
    assert_eq!(window.visible().rows()[0].key(), "2");
}

/// `REPLICA IDENTITY FULL`: what a window was told last of a row may be overtaken, and the old row says so.
#[test]
fn a_value_that_is_unchanged_is_the_old_rows_where_that_is_told() {
    let table = table();
    let bounds = Bounds { offset: 0, limit: None };
    let plan = plan(&table, false, bounds);
    let row = |rank: i32, note: &str| Line { id: 7, rank: Some(rank), note: note.to_owned() };
    let held = BTreeMap::from([(7, row(3, "a"))]);
    let mut window = Window::read(&plan, bounds, read(&held, false, 10)).expect("texts");
    let update = |old: &Line, new: &Line, is_unchanged| TableChange {
        table: table.clone(),
        identity: None,
        old: Some(fields(old, false)),
        new: Some(fields(new, is_unchanged)),
        is_update: true,
    };
    // Between the two it was another row outside of the result, which is nothing to this window.
    let changes =
        [update(&row(3, "a"), &row(9, "b"), false), update(&row(9, "c"), &row(5, ""), true)];
    window.apply(&plan, &[], changes.iter()).expect("all is known");
    let there = BTreeMap::from([(7, row(5, "c"))]);
    let anew = Window::read(&plan, bounds, read(&there, false, 10)).expect("texts");
    assert_eq!(window.visible().rows(), anew.visible().rows());
}
