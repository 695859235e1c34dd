//! Random aggregates over the table: what is subscribed to, and the same as it is asked of Postgres.

use super::table::{Column, TABLE, Table, literal};
use convoy_engine::Argument;
use convoy_postgres::testing::Dice;

/// A statement to be kept live.
pub struct Aggregate {
    pub sql: String,
    pub args: Vec<Option<Argument>>,
    /// The same with its arguments in place and, in ORDER BY, what breaks ties (`docs/protocol.md`, 3, "Row sets").
    pub asked: String,
}

/// Writes a statement, and gathers its arguments.
struct Writer<'a> {
    table: &'a Table,
    dice: &'a mut Dice,
    /// Each parameter's argument, none for null.
    args: Vec<Option<String>>,
    /// What stands before a column's name.
    prefix: &'static str,
}

/// Returns a random aggregate.
pub fn aggregate(table: &Table, dice: &mut Dice) -> Aggregate {
    let prefix = dice.pick(&["", "", "t.", "things."]);
    let mut writer = Writer { table, dice, args: Vec::new(), prefix };
    let (sql, ties) = if writer.dice.percent(12) { writer.distinct() } else { writer.statement() };
    let args = writer.args;
    let in_place = |text: String| {
        let with = |text: String, (at, arg): (usize, &Option<String>)| {
            let arg = arg.as_deref().map_or_else(|| "null".to_owned(), literal);
            text.replace(&format!("${}", at + 1), &arg)
        };
        args.iter().enumerate().rev().fold(text, with)
    };
    let asked = in_place(sql.replace(ORDER, &order_by(&ties.asked)) + &ties.limit);
    let sql = sql.replace(ORDER, &order_by(&ties.stated)) + &ties.limit;
    let argument = |text: Option<String>| Some(text.map_or(Argument::Null, Argument::String));
    Aggregate { sql, args: args.into_iter().map(argument).collect(), asked }
}

/// Stands where ORDER BY comes.
const ORDER: &str = " /* order */";

/// The end of a statement.
struct End {
    stated: Vec<String>,
    /// With what Convoy promises where a tie is left.
    asked: Vec<String>,
    limit: String,
}

fn order_by(items: &[String]) -> String {
    if items.is_empty() { String::new() } else { format!(" order by {}", items.join(", ")) }
}

impl Writer<'_> {
    fn column(&mut self, fits: impl Fn(&Column) -> bool) -> Option<usize> {
        let fitting: Vec<usize> =
            (0..self.table.columns.len()).filter(|&at| fits(&self.table.columns[at])).collect();
        (!fitting.is_empty()).then(|| fitting[self.dice.below(fitting.len())])
    }

    fn name(&self, column: usize) -> String {
        format!("{}{}", self.prefix, self.table.columns[column].sql())
    }

    /// Writes a value of a column, as a literal or as a parameter.
    fn value(&mut self, column: usize) -> String {
        let text = self.table.columns[column].present(self.dice);
        self.constant(text)
    }

    fn constant(&mut self, text: String) -> String {
        if self.args.len() < 5 && self.dice.percent(35) {
            let null = self.dice.percent(4);
            self.args.push((!null).then_some(text));
            return format!("${}", self.args.len());
        }
        literal(&text)
    }

    /// Writes a condition on a row.
    fn row_condition(&mut self) -> String {
        let atom = self.row_atom();
        match self.dice.below(8) {
            0 => format!("{atom} and {}", self.row_atom()),
            1 => format!("({atom} or {})", self.row_atom()),
            2 => format!("not ({atom})"),
            _ => atom,
        }
    }

    fn row_atom(&mut self) -> String {
        let at = self.column(|column| column.kind.equality).expect("the first is a number");
        let name = self.name(at);
        let has_order = self.table.columns[at].kind.order;
        match self.dice.below(40) {
            0..=3 => format!("{name} is null"),
            4..=7 => format!("{name} is not null"),
            8..=11 => format!("{name} in ({}, {})", self.value(at), self.value(at)),
            12..=15 if has_order => {
                format!("{name} between {} and {}", self.value(at), self.value(at))
            }
            16..=18 => format!("{name} is distinct from {}", self.value(at)),
            // Only Postgres can tell.
            20..=23 => match self.column(|column| column.kind.documents) {
                Some(document) => self.document_atom(document),
                None => format!("{name} is null"),
            },
            19 => format!("{}id % 3 <> 1", self.prefix),
            _ => {
                let ops: &[&str] = match has_order {
                    true => &["=", "<>", "<", "<=", ">", ">="],
                    false => &["=", "<>"],
                };
                format!("{name} {} {}", self.dice.pick(ops), self.value(at))
            }
        }
    }

    fn document_atom(&mut self, column: usize) -> String {
        let document = self.name(column);
        match self.dice.below(5) {
            0 => format!("{document}->>'k' = {}", self.constant("a".to_owned())),
            1 => format!("{document}->>'k' in ('a', 'b')"),
            2 => format!("{document}->>'n' is not null"),
            3 => format!("({document}->>'n')::int4 > {}", self.constant("0".to_owned())),
            _ => format!("{document} @> '{{\"k\": \"b\"}}'"),
        }
    }

    /// Writes an aggregate, and says whether it is a number.
    fn call(&mut self) -> (String, bool) {
        let any = self.column(|_| true).expect("there are columns");
        let number = self.column(|column| column.kind.sums).expect("the first is a number");
        let extreme = self.column(|column| column.kind.extremes).expect("the first is a number");
        let equal = self.column(|column| column.kind.equality).expect("the first is a number");
        let (any, extreme, equal) = (self.name(any), self.name(extreme), self.name(equal));
        let name = self.name(number);
        let (call, is_number) = match self.dice.below(24) {
            0..=2 => ("count(*)".to_owned(), true),
            3 => (self.dice.pick(&["count(1)", "count('x')"]).to_owned(), true),
            4 | 5 => (format!("count({any})"), true),
            6..=8 => (format!("count(distinct {equal})"), true),
            9..=12 => (format!("sum({name})"), true),
            13..=15 => (format!("avg({name})"), true),
            16..=18 => (format!("min({extreme})"), false),
            19..=21 => (format!("max({extreme})"), false),
            22 => (format!("min(distinct {extreme})"), false),
            // What is read again, whatever is known of it.
            _ => {
                let calls = ["sum(distinct ?)", "sum(? + 1)", "sum(?) + 1", "count(*) * 2"];
                return (self.dice.pick(&calls).replace('?', &name), true);
            }
        };
        let call = match self.dice.percent(25) {
            true => format!("{call} filter (where {})", self.row_condition()),
            false => call,
        };
        (call, is_number)
    }

    /// Writes a value of the select list: an aggregate, with something in place of null, or as another type.
    fn item(&mut self) -> String {
        let (call, is_number) = self.call();
        if !is_number {
            return call;
        }
        match self.dice.below(12) {
            0 => format!("coalesce({call}, 0)"),
            1 => format!("coalesce({call}, {})", self.dice.pick(&["1.50", "3", "7"])),
            2 => format!("({call})::{}", self.dice.pick(&["int8", "numeric", "int4"])),
            _ => call,
        }
    }

    fn having(&mut self) -> String {
        let atom = self.having_atom();
        match self.dice.below(6) {
            0 => format!("{atom} and {}", self.having_atom()),
            1 => format!("{atom} or {}", self.having_atom()),
            2 => format!("not ({atom})"),
            _ => atom,
        }
    }

    fn having_atom(&mut self) -> String {
        let number = self.column(|column| column.kind.sums).expect("the first is a number");
        let extreme = self.column(|column| column.kind.extremes).expect("the first is a number");
        let (sum, of) = (self.name(number), self.name(extreme));
        match self.dice.below(7) {
            0 | 1 => {
                let op = self.dice.pick(&[">", "<", "<>", "="]);
                format!("count(*) {op} {}", 1 + self.dice.below(3))
            }
            2 => format!("sum({sum}) >= {}", self.dice.pick(&["0", "2", "1.5"])),
            3 => format!("avg({sum}) < {}", self.dice.pick(&["1", "0.5", "2.25"])),
            4 => format!("min({of}) is not null"),
            5 => format!("max({of}) > {}", self.value(extreme)),
            _ => format!("count(distinct {of}) in (1, {})", self.dice.pick(&["2", "3"])),
        }
    }

    /// Writes a statement but for its end.
    fn statement(&mut self) -> (String, End) {
        let groups = self.groups();
        // Each item with what it is called; the groups' own first.
        let mut shown: Vec<String> = Vec::new();
        let mut by: Vec<String> = Vec::new();
        for (number, group) in groups.iter().enumerate() {
            if !self.dice.percent(85) {
                by.push(group.clone());
                continue;
            }
            shown.push(format!("{group} as g{number}"));
            by.push(match self.dice.below(5) {
                0 => shown.len().to_string(),
                1 => format!("g{number}"),
                2 => format!("({group})"),
                _ => group.clone(),
            });
        }
        let calls = if shown.is_empty() { 1 } else { 0 } + self.dice.below(4);
        let items: Vec<String> = (0..calls).map(|_| self.item()).collect();
        shown.extend(items.iter().enumerate().map(|(number, item)| format!("{item} as a{number}")));

        let mut sql = format!("select {} from {}", shown.join(", "), self.from());
        if self.dice.percent(50) {
            sql.push_str(&format!(" where {}", self.row_condition()));
        }
        if !by.is_empty() {
            sql.push_str(&format!(" group by {}", by.join(", ")));
        }
        let is_aggregate = !by.is_empty() || !items.is_empty();
        if is_aggregate && self.dice.percent(30) {
            sql.push_str(&format!(" having {}", self.having()));
        }
        let mut stated = Vec::new();
        while self.dice.percent(35) {
            let item = match self.dice.below(3) {
                0 if !groups.is_empty() => groups[self.dice.below(groups.len())].clone(),
                1 if !items.is_empty() => format!("a{}", self.dice.below(items.len())),
                2 => (1 + self.dice.below(shown.len())).to_string(),
                _ => "count(*)".to_owned(),
            };
            let direction = ["", " desc", " nulls first", " desc nulls last", " asc"];
            stated.push(format!("{item}{}", self.dice.pick(&direction)));
        }
        let asked = stated.iter().chain(&groups).cloned().collect();
        let limit = self.limit();
        (sql + ORDER, End { stated, asked, limit })
    }

    /// Writes a DISTINCT of columns, each row of which is a group.
    fn distinct(&mut self) -> (String, End) {
        let mut shown: Vec<String> = Vec::new();
        for _ in 0..1 + self.dice.below(3) {
            let at = self.column(|column| column.kind.groups).expect("the first is a number");
            let name = self.name(at);
            if !shown.contains(&name) {
                shown.push(name);
            }
        }
        let mut sql = format!("select distinct {} from {}", shown.join(", "), self.from());
        if self.dice.percent(60) {
            sql.push_str(&format!(" where {}", self.row_condition()));
        }
        let mut stated = Vec::new();
        while self.dice.percent(35) {
            let item = 1 + self.dice.below(shown.len());
            stated.push(format!("{item}{}", self.dice.pick(&["", " desc", " nulls first"])));
        }
        let all = (1..=shown.len()).map(|position| position.to_string());
        let asked = stated.iter().cloned().chain(all).collect();
        let limit = self.limit();
        (sql + ORDER, End { stated, asked, limit })
    }

    fn from(&mut self) -> String {
        match self.prefix {
            "t." => format!("{TABLE} as t"),
            _ => self.dice.pick(&[TABLE, "public.things"]).to_owned(),
        }
    }

    fn limit(&mut self) -> String {
        let mut limit = String::new();
        if self.dice.percent(25) {
            let rows = self.dice.below(4).to_string();
            limit.push_str(&format!(" limit {}", self.count(rows)));
        }
        if self.dice.percent(15) {
            let rows = self.dice.below(3).to_string();
            limit.push_str(&format!(" offset {}", self.count(rows)));
        }
        limit
    }

    fn count(&mut self, rows: String) -> String {
        match self.constant(rows) {
            parameter if parameter.starts_with('$') => parameter,
            literal => literal.trim_matches('\'').to_owned(),
        }
    }

    /// Returns what is grouped by: columns mostly.
    fn groups(&mut self) -> Vec<String> {
        let mut groups: Vec<String> = Vec::new();
        for _ in 0..[0, 0, 1, 1, 1, 1, 2, 2, 3][self.dice.below(9)] {
            let at = self.column(|column| column.kind.groups).expect("the first is a number");
            let name = self.name(at);
            let group = match self.dice.below(50) {
                0 => format!("{} % 2", self.name(0)),
                1 => format!("{name} is null"),
                _ => name,
            };
            if !groups.contains(&group) {
                groups.push(group);
            }
        }
        groups
    }
}
