//! Conditions on one row: true where Postgres finds them true, and never where they are said to be false or null.

use super::{Dice, data, rows, table, template};
use crate::database::harness::Harness;
use convoy_engine::Plan;
use convoy_query_index::Truth;
use std::fmt::Write;
use std::sync::Arc;

const CONDITIONS: usize = 200;

const SCHEMA: &str = "\
create table things (id int4 primary key, label text, code varchar(9), tags text[], nums int4[], floats float8[]);
create function fill(texts text[], arrays text[], numbers text[], floats text[]) returns void language sql as $$
  insert into things select n, texts[1 + n % cardinality(texts)],
    left(texts[1 + (n * 7 + 3) % cardinality(texts)], 9), arrays[1 + (n * 5) % cardinality(arrays)]::text[],
    numbers[1 + (n * 11) % cardinality(numbers)]::int4[], floats[1 + (n * 13) % cardinality(floats)]::float8[]
  from generate_series(1, 120) as n
$$;";

const TEXTS: &[&str] =
    &["", "a", "ab", "abc", "a%c", "a_c", r"a\c", "ä", "äb", "b", "A", "ab%", "%", " a", "a "];
const TEXT_ARRAYS: &[&str] = &[
    "{}",
    "{a}",
    "{a,b}",
    "{NULL}",
    "{a,NULL}",
    r#"{"NULL","","a b"}"#,
    "{{a,b},{c,NULL}}",
    "[2:3]={b,a}",
    r#"{"a,b","{}","\\","\""}"#,
    "{a,a,a}",
];
const NUMBER_ARRAYS: &[&str] =
    &["{}", "{1}", "{1,2,NULL}", "{{1},{2}}", "[0:1]={2147483647,-1}", "{NULL}"];
const FLOAT_ARRAYS: &[&str] = &["{}", "{NaN}", "{-0,1.5}", "{0}", "{Infinity,NULL}", "{0.1,1e20}"];

fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// An argument: its parameter's type, and its text.
type Argument = (&'static str, Option<String>);

impl Dice {
    fn text(&mut self) -> Option<String> {
        if self.percent(6) { None } else { Some(self.pick(TEXTS).to_owned()) }
    }

    fn pattern(&mut self) -> Option<String> {
        if self.percent(6) {
            return None;
        }
        let mut pattern = self.pick(TEXTS).to_owned();
        for _ in 0..self.below(3) {
            pattern.push_str(self.pick(&["%", "_", "b", r"\%", r"\\", "c", "%%"]));
        }
        Some(pattern)
    }

    /// Writes a value as a literal or, as often, as a parameter with an argument.
    fn literal_or_parameter(
        &mut self,
        ty: &'static str,
        text: Option<String>,
        args: &mut Vec<Argument>,
    ) -> String {
        if self.percent(50) {
            args.push((ty, text));
            return format!("${}::{ty}", args.len());
        }
        text.map_or_else(|| "null".to_owned(), |text| literal(&text))
    }

    fn array(&mut self, column: &str) -> (&'static str, &'static str, Option<String>) {
        let (array, element, from) = match column {
            "tags" => ("text[]", "text", TEXT_ARRAYS),
            "nums" => ("int4[]", "int4", NUMBER_ARRAYS),
            _ => ("float8[]", "float8", FLOAT_ARRAYS),
        };
        let text = if self.percent(6) { None } else { Some(self.pick(from).to_owned()) };
        (array, element, text)
    }

    fn element(&mut self, column: &str) -> Option<String> {
        let from: &[&str] = match column {
            "tags" => &["a", "b", "", "NULL", "a,b", "c", "\\"],
            "nums" => &["1", "2", "-1", "7"],
            _ => &["NaN", "0", "-0", "1.5", "0.1", "Infinity"],
        };
        if self.percent(6) { None } else { Some(self.pick(from).to_owned()) }
    }

    fn atom(&mut self, args: &mut Vec<Argument>) -> String {
        let column = self.pick(&["label", "label", "code"]);
        let array = self.pick(&["tags", "tags", "nums", "floats"]);
        match self.below(8) {
            0 | 1 => {
                let pattern = self.pattern();
                let not = self.pick(&["", "", "not "]);
                format!("{column} {not}like {}", self.literal_or_parameter("text", pattern, args))
            }
            2 => {
                let start = self.text();
                format!("{column} ^@ {}", self.literal_or_parameter("text", start, args))
            }
            3 => {
                let start = self.text();
                format!("starts_with({column}, {})", self.literal_or_parameter("text", start, args))
            }
            4 => {
                let (ty, _, text) = self.array(array);
                let op = self.pick(&["@>", "&&"]);
                format!("{array} {op} {}", self.literal_or_parameter(ty, text, args))
            }
            5 => {
                let elements: Vec<_> = (0..self.below(3))
                    .map(|_| self.element(array).map_or("null".to_owned(), |text| literal(&text)))
                    .collect();
                let (ty, ..) = self.array(array);
                let other = format!("array[{}]::{ty}", elements.join(", "));
                match self.below(3) {
                    0 => format!("{other} <@ {array}"),
                    1 => format!("{array} && {other}"),
                    _ => format!("{array} @> {other}"),
                }
            }
            6 => {
                let (_, element, _) = self.array(array);
                let text = self.element(array);
                format!("{} = any({array})", self.literal_or_parameter(element, text, args))
            }
            _ => format!("{} is {}", self.pick(&[column, array]), self.pick(&["null", "not null"])),
        }
    }

    fn row_condition(&mut self, args: &mut Vec<Argument>) -> String {
        match self.below(6) {
            0 => format!("not ({})", self.atom(args)),
            1 => format!("({}) or ({})", self.atom(args), self.atom(args)),
            2 => format!("({}) and not ({})", self.atom(args), self.atom(args)),
            _ => self.atom(args),
        }
    }
}

fn text_array(texts: &[&str]) -> String {
    let texts: Vec<_> = texts.iter().map(|text| literal(text)).collect();
    format!("array[null, {}]", texts.join(", "))
}

#[tokio::test]
async fn conditions_say_of_a_row_what_postgres_says() {
    let mut dice = Dice::new();
    let mut script = SCHEMA.to_owned();
    let _ = write!(
        script,
        "select fill({}, {}, {}, {});",
        text_array(TEXTS),
        text_array(TEXT_ARRAYS),
        text_array(NUMBER_ARRAYS),
        text_array(FLOAT_ARRAYS)
    );
    let mut harness = Harness::new("condition_laws", &script).await;
    let (mut exact, mut tested, mut met, mut matched) = (0, 0, 0, 0);
    for _ in 0..CONDITIONS {
        let mut args = Vec::new();
        let condition = dice.row_condition(&mut args);
        let sql = format!("select id from things where {condition}");
        let template = template(&mut harness, &sql).await.unwrap_or_else(|| panic!("{sql}"));
        // Arguments as the types print them.
        let mut asked = condition.clone();
        let mut texts: Vec<Option<Arc<str>>> = Vec::new();
        for (position, (ty, text)) in args.iter().enumerate().rev() {
            let value = text.as_deref().map_or_else(|| "null".to_owned(), literal);
            asked = asked.replace(&format!("${}::", position + 1), &format!("{value}::"));
            let shown =
                rows(&harness.admin, &format!("select {value}::{ty}")).await.expect("a value");
            texts.insert(0, shown[0][0].as_deref().map(Arc::from));
        }
        let slots = template.slot_values(&texts).expect("values");
        let facts = table(&template, "things").expect("the table").clone();
        let Some(found) = rows(&harness.admin, &format!("select *, ({asked}) from things")).await
        else {
            // A pattern that ends in a backslash.
            continue;
        };
        let is_window = matches!(template.plan, Plan::Window(_));
        exact += usize::from(is_window);
        for row in &found {
            let (holds, columns) = row.split_last().expect("a row has columns");
            let holds = holds.as_deref() == Some("t");
            let values = template.field_values(&facts, &data(columns));
            let truth = template.predicates[0].condition.eval(&values, &slots);
            let context =
                || format!("{condition}\nwith {args:?}\n{row:?}\n{:?}", template.predicates);
            match truth {
                // A refreshed statement's predicate leaves out what is not known.
                Truth::True => assert!(holds || !is_window, "{}", context()),
                Truth::False | Truth::Null => assert!(!holds, "{}", context()),
                Truth::Unknown => assert!(!is_window, "{}", context()),
            }
            tested += 1;
            met += usize::from(holds);
            matched += usize::from(truth.can_be_true());
        }
    }
    println!(
        "{exact} of {CONDITIONS} exact; of {tested} rows {met} meet theirs, {matched} are matched"
    );
    assert!(
        exact * 3 > CONDITIONS && matched < met * 3,
        "{exact} exact, {matched} matched for {met}"
    );
}
