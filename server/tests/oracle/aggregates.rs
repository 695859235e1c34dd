//! Random aggregates over one table: in groups and of all, filtered, with HAVING, ordered and limited.

use super::dice::Dice;
use super::queries::{Order, Query};
use super::schema::{Column, Kind, Table};
use super::values::present;

/// Aggregates of each table.
const EACH: usize = 5;

/// Returns aggregates over a table. `condition` makes a random one on a row.
pub fn aggregates(
    table: &Table,
    dice: &mut Dice,
    condition: impl Fn(&mut Dice) -> String,
) -> Vec<Query> {
    (0..EACH).map(|_| aggregate(table, dice, &condition)).collect()
}

fn columns(table: &Table, fits: impl Fn(Kind) -> bool) -> Vec<&Column> {
    table.columns.iter().filter(|column| fits(column.kind)).collect()
}

/// Returns one aggregate's call.
fn call(table: &Table, dice: &mut Dice, condition: impl Fn(&mut Dice) -> String) -> String {
    let is_number = |kind| matches!(kind, Kind::Int4 | Kind::Int8 | Kind::Numeric | Kind::Small);
    // Equal ones look alike, and Postgres has a least one.
    let has_extremes = |kind| {
        matches!(
            kind,
            Kind::Int4
                | Kind::Int8
                | Kind::Text
                | Kind::Varchar
                | Kind::Timestamptz
                | Kind::Date
                | Kind::Small
                | Kind::Mood
        )
    };
    let of = |fits: &dyn Fn(Kind) -> bool, dice: &mut Dice| dice.pick(&columns(table, fits)).sql();
    let call = match dice.below(10) {
        0 => "count(*)".to_owned(),
        1 => format!("count({})", of(&|_| true, dice)),
        2 => format!("count(DISTINCT {})", of(&|kind| kind != Kind::Json, dice)),
        3..=4 => format!("sum({})", of(&is_number, dice)),
        5..=6 => format!("avg({})", of(&is_number, dice)),
        7 => format!("min({})", of(&has_extremes, dice)),
        8 => format!("max({})", of(&has_extremes, dice)),
        _ => return format!("coalesce(sum({}), 0)", of(&is_number, dice)),
    };
    match dice.percent(25) {
        true => format!("{call} FILTER (WHERE {})", condition(dice)),
        false => call,
    }
}

fn aggregate(table: &Table, dice: &mut Dice, condition: &impl Fn(&mut Dice) -> String) -> Query {
    let groupable = columns(table, |kind| {
        kind.equals_look_alike() && !matches!(kind, Kind::Generated | Kind::Ints | Kind::Texts)
    });
    let groups: Vec<String> = match dice.below(10) {
        0..=2 => Vec::new(),
        3..=7 => vec![dice.pick(&groupable).sql()],
        _ => {
            let (first, second) = (dice.pick(&groupable).sql(), dice.pick(&groupable).sql());
            if first == second { vec![first] } else { vec![first, second] }
        }
    };
    let mut items: Vec<String> = groups.clone();
    let calls = dice.between(1, 3);
    for number in 0..calls {
        items.push(format!("{} AS a{number}", call(table, dice, condition)));
    }
    if dice.percent(30) {
        items.reverse();
    }
    let mut sql = format!("SELECT {} FROM {}", items.join(", "), table.sql());
    if dice.percent(50) {
        sql.push_str(&format!(" WHERE {}", condition(dice)));
    }
    if !groups.is_empty() {
        sql.push_str(&format!(" GROUP BY {}", groups.join(", ")));
    }
    if dice.percent(35) {
        let having = match dice.below(5) {
            0 => "count(*) > 1".to_owned(),
            1 => format!("sum(n) >= {}", dice.between(-2, 6)),
            2 => "max(n) IS NOT NULL AND NOT count(n) = 3".to_owned(),
            3 => "avg(n) < 4.5 OR min(n) IN (1, 2)".to_owned(),
            _ => match dice.pick(&groupable) {
                column if groups.contains(&column.sql()) => {
                    format!("{} <> {}", column.sql(), present(column.kind, dice))
                }
                _ => "count(*) BETWEEN 1 AND 4".to_owned(),
            },
        };
        sql.push_str(&format!(" HAVING {having}"));
    }
    let mut order: Vec<String> = Vec::new();
    if dice.percent(40) {
        let direction = dice.pick(&["", " DESC", " DESC NULLS LAST", " NULLS FIRST"]);
        order.push(format!("a{}{direction}", dice.below(usize::try_from(calls).unwrap_or(1))));
        if let (true, Some(group)) = (dice.percent(40), groups.first()) {
            order.push(format!("{group}{}", dice.pick(&["", " DESC"])));
        }
    }
    let mut limit = String::new();
    if dice.percent(25) {
        limit = format!(" LIMIT {}", dice.between(1, 4));
        if dice.percent(40) {
            limit.push_str(&format!(" OFFSET {}", dice.between(0, 2)));
        }
    }
    let by = |items: &[String]| match items.is_empty() {
        true => String::new(),
        false => format!(" ORDER BY {}", items.join(", ")),
    };
    let promised: Vec<String> = order.iter().chain(&groups).cloned().collect();
    Query::new(
        "aggregates",
        format!("{sql}{}{limit}", by(&order)),
        format!("{sql}{}{limit}", by(&promised)),
        Order::Stated,
    )
}
