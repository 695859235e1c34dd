//! `db.scan`: rows in an order, from a place to a place, as many as are asked for.
//!
//! The order is an index' fields, then creation time, then id, all in one direction, with nulls where a B-tree has
//! them: last, and first when it is read backwards. A limited scan reads exactly as many rows as it gives, so that what
//! is recorded ends at the last of them; that it is done it says when there were fewer.

use super::args::Args;
use super::condition::{Compare, Form, Op, Test, write_where};
use super::cursor::{Cursor, scan_hash};
use super::record::{record, record_missing};
use super::rows::{Rows, Selected};
use super::segments::segments;
use super::sql::Sql;
use super::value::{described, param};
use super::{RecordedRead, Store, StoreError};
use crate::declared_json::meant;
use crate::layout::{KeyColumn, Kind, TableLayout};
use crate::names::{BY_CREATION_TIME, quoted};
use serde_json::Value;
use tokio_postgres::Client;

/// A scan without a limit gives no more rows than this, the protocol's limit of a result.
const ROWS_MAX: usize = 100_000;

/// The field that ends every index, in a range.
const CREATION_TIME_FIELD: &str = "_creationTime";

/// In which direction an order is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    Ascending,
    Descending,
}

impl Direction {
    /// Returns the comparison that is true of what comes after.
    pub(crate) fn after(self) -> Compare {
        match self {
            Direction::Ascending => Compare::Gt,
            Direction::Descending => Compare::Lt,
        }
    }

    /// Returns the comparison that is true of what comes before.
    pub(crate) fn before(self) -> Compare {
        match self {
            Direction::Ascending => Compare::Lt,
            Direction::Descending => Compare::Gt,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Direction::Ascending => "asc",
            Direction::Descending => "desc",
        }
    }
}

/// What a scan reads, and in which order.
#[derive(Debug)]
pub(crate) struct Scan<'a> {
    pub(crate) layout: &'a TableLayout,
    pub(crate) direction: Direction,
    /// What conditions and order are on.
    pub(crate) columns: Vec<KeyColumn>,
    /// What ends the order: creation time, where the table has one, and id.
    pub(crate) tail: Vec<KeyColumn>,
    /// What is true of all rows.
    pub(crate) base: Vec<Test>,
    /// The columns of the order, first to last.
    pub(crate) order: Vec<usize>,
    /// Those of them that are not the same in all rows.
    pub(crate) varying: Vec<usize>,
}

impl Store {
    /// Reads rows in an order, and adds what was read to `reads`.
    ///
    /// # Errors
    /// [`StoreError::InvalidArgs`] for what the table does not have; what Postgres says.
    pub async fn scan(
        &self,
        client: &Client,
        args: &str,
        reads: &mut Vec<RecordedRead>,
    ) -> Result<String, StoreError> {
        let asked = self.read_scan(args).inspect_err(|error| record_missing(error, reads))?;
        asked.scan.run(client, &asked.segments, asked.limit, &asked.hash, reads).await
    }

    /// Returns how Postgres would read a scan: its plans in lines, one for each stretch.
    ///
    /// # Errors
    /// Those of [`Store::scan`].
    pub async fn explain_scan(&self, client: &Client, args: &str) -> Result<String, StoreError> {
        let Asked { scan, segments, limit, .. } = self.read_scan(args)?;
        let varying = scan.varying.iter().map(|&at| &scan.columns[at]);
        let selected = Selected::new(scan.layout, varying);
        let mut lines = String::new();
        for tests in &segments {
            let mut sql = scan.statement(&selected, tests, limit.unwrap_or(ROWS_MAX + 1));
            sql.text.insert_str(0, "explain (costs off) ");
            for row in sql.query(client).await? {
                lines.push_str(row.try_get(0)?);
                lines.push('\n');
            }
        }
        Ok(lines)
    }

    fn read_scan(&self, args: &str) -> Result<Asked<'_>, StoreError> {
        let mut args = Args::read("db.scan", args)?;
        let layout = self.table(args.needed_string("table")?)?;
        let limit = args.limit()?;
        let scan = Scan::read(layout, &mut args)?;
        let hash = scan_hash(&scan.describe());
        let varying: Vec<&KeyColumn> = scan.varying.iter().map(|&at| &scan.columns[at]).collect();
        let place = |key| match args.string(key)? {
            None => Ok(None),
            Some(text) => Cursor::decode(text, &hash, &varying, &scan.tail).map(Some),
        };
        let (after, until) = (place("after")?, place("until")?);
        let segments = segments(&scan, after.as_ref(), until.as_ref());
        Ok(Asked { scan, segments, limit, hash })
    }
}

/// A scan, and which part of it.
struct Asked<'a> {
    scan: Scan<'a>,
    segments: Vec<Vec<Test>>,
    limit: Option<usize>,
    hash: String,
}

impl<'a> Scan<'a> {
    fn read(layout: &'a TableLayout, args: &mut Args) -> Result<Scan<'a>, StoreError> {
        let table = &layout.table;
        let range = args.array("range")?;
        let direction = match args.string("order")? {
            None | Some("asc") => Direction::Ascending,
            Some("desc") => Direction::Descending,
            Some(other) => {
                return Err(StoreError::invalid(format!(
                    "the order {other:?} is none: it is \"asc\" or \"desc\""
                )));
            }
        };
        let index = args.string("index")?;
        let fields: &[String] = match index {
            None | Some(BY_CREATION_TIME) => &[],
            Some(name) => match table.index(name) {
                Some(index) => &index.fields,
                None => {
                    let known = table.indexes.iter().map(|index| index.name.as_str());
                    let meant = meant(name, known.chain([BY_CREATION_TIME]));
                    return Err(StoreError::invalid(format!(
                        "table {:?} has no index {name:?}{meant}",
                        table.name
                    )));
                }
            },
        };
        let mut scan = Scan {
            layout,
            direction,
            columns: Vec::new(),
            tail: layout.tail(),
            base: Vec::new(),
            order: Vec::new(),
            varying: Vec::new(),
        };
        for field in fields {
            let at = scan.column(field)?;
            scan.order.push(at);
        }
        let index_name = index.unwrap_or(BY_CREATION_TIME);
        let (fixed, equal) = scan.read_range(index_name, fields, &range)?;
        let order_by = args.string("orderBy")?;
        match order_by {
            Some(CREATION_TIME_FIELD) => scan.order.clear(),
            // The index' own order, for what comes before the field is the same in all rows.
            Some(field) if !fields.iter().take(equal + 1).any(|of| of == field) => {
                let at = scan.column(field)?;
                scan.order = vec![at];
            }
            Some(_) | None => {}
        }
        scan.varying = scan.order.iter().copied().filter(|at| !fixed.contains(at)).collect();
        Ok(scan)
    }

    /// Returns a field's place among the columns.
    fn column(&mut self, field: &str) -> Result<usize, StoreError> {
        if let Some(at) = self.columns.iter().position(|column| column.name == field) {
            return Ok(at);
        }
        let column = match field {
            CREATION_TIME_FIELD => self.layout.creation_time.clone(),
            field => self.layout.key_column(field),
        };
        let Some(column) = column else {
            let known = self.layout.table.fields.iter().map(|field| field.name.as_str());
            let meant = meant(field, known.chain([CREATION_TIME_FIELD]));
            return Err(StoreError::invalid(format!(
                "table {:?} has no field {field:?}{meant}",
                self.layout.table.name
            )));
        };
        self.columns.push(column);
        Ok(self.columns.len() - 1)
    }

    /// Reads the range: equalities on the index' first fields, then bounds of the next. Returns the columns that are
    /// the same in all rows, and how many fields have an equality.
    fn read_range(
        &mut self,
        index: &str,
        fields: &[String],
        range: &[Value],
    ) -> Result<(Vec<usize>, usize), StoreError> {
        let mut fixed = Vec::new();
        // How many fields have an equality, and whether the next one has a lower and an upper bound.
        let (mut equal, mut bounds) = (0, [false; 2]);
        for test in range {
            let (op, field) = (test["op"].as_str(), test["field"].as_str());
            let compare = match op {
                Some("eq") => Compare::Eq,
                Some("gt") => Compare::Gt,
                Some("gte") => Compare::Ge,
                Some("lt") => Compare::Lt,
                Some("lte") => Compare::Le,
                _ => {
                    return Err(StoreError::invalid("a range is made of eq, gt, gte, lt and lte"));
                }
            };
            let expected = fields.get(equal).map_or(CREATION_TIME_FIELD, String::as_str);
            let is_after_bounds = compare == Compare::Eq && bounds != [false; 2];
            if field != Some(expected) || equal > fields.len() || is_after_bounds {
                return Err(self.out_of_order(index, fields, field.unwrap_or_default()));
            }
            let at = self.column(expected)?;
            let column = &self.columns[at];
            let value = &test["value"];
            let misfit = || {
                StoreError::invalid(format!(
                    "{expected:?} of table {:?} is {}, and can't be compared with {value}",
                    self.layout.table.name,
                    described(column.kind)
                ))
            };
            if compare == Compare::Eq {
                if column.kind == Kind::Jsonb && value.is_null() {
                    // Two values, so that the column still varies.
                    self.base.push(Test::column(at, Op::IsNullish));
                } else {
                    let value = param(column.kind, value).ok_or_else(misfit)?;
                    self.base.push(Test::equals(at, value.as_deref()));
                    fixed.push(at);
                }
                equal += 1;
            } else {
                let bound = usize::from(compare.is_upper_bound());
                if std::mem::replace(&mut bounds[bound], true) {
                    return Err(StoreError::invalid(format!(
                        "{expected:?} has two bounds on one side: one is right"
                    )));
                }
                let value = param(column.kind, value).ok_or_else(misfit)?;
                let Some(value) = value else {
                    return Err(StoreError::invalid(format!(
                        "nothing is more or less than null: {expected:?} can be compared with it by eq alone"
                    )));
                };
                self.base.push(Test::compare(at, compare, &value));
                self.columns[at].nullable = false;
            }
        }
        Ok((fixed, equal))
    }

    fn out_of_order(&self, index: &str, fields: &[String], field: &str) -> StoreError {
        let fields: Vec<&str> =
            fields.iter().map(String::as_str).chain([CREATION_TIME_FIELD]).collect();
        StoreError::invalid(format!(
            "the range of index {index:?} of table {:?} can't go on with {field:?}: eq on its fields in their order ({}), then gt, \
             gte, lt or lte on the next one",
            self.layout.table.name,
            fields.join(", ")
        ))
    }

    /// Says what has to be the same for a cursor to make sense.
    fn describe(&self) -> String {
        let names = |columns: &[usize]| {
            columns.iter().map(|&at| self.columns[at].name.as_str()).collect::<Vec<_>>()
        };
        let is_fixed = |test: &&Test| match test {
            Test::Column { op: Op::Compare(compare, _), .. } => *compare == Compare::Eq,
            Test::Column { op, .. } => *op == Op::IsNull,
            Test::Tail { .. } => false,
        };
        let fixed: Vec<&Test> = self.base.iter().filter(is_fixed).collect();
        format!(
            "{:?} {:?} {:?} {:?} {fixed:?}",
            self.layout.table.name,
            self.direction,
            names(&self.order),
            names(&self.varying)
        )
    }

    async fn run(
        &self,
        client: &Client,
        segments: &[Vec<Test>],
        limit: Option<usize>,
        hash: &str,
        reads: &mut Vec<RecordedRead>,
    ) -> Result<String, StoreError> {
        let selected = Selected::new(self.layout, self.varying.iter().map(|&at| &self.columns[at]));
        let mut rows = Rows::new();
        let mut done = true;
        for tests in segments {
            let rest = limit.unwrap_or(ROWS_MAX + 1) - rows.len();
            if rest == 0 {
                done = false;
                break;
            }
            let sql = self.statement(&selected, tests, rest);
            let found = match sql.query(client).await {
                Ok(found) => found,
                Err(error) => {
                    // What a row of it says may be the reason.
                    record(self, tests, None, reads);
                    return Err(self.explained(error));
                }
            };
            let is_full = found.len() == rest;
            rows.push_all(&selected, &found)?;
            let last = rows.last().filter(|_| is_full && limit.is_some());
            record(self, tests, last, reads);
            if is_full {
                done = false;
                break;
            }
        }
        if limit.is_none() && rows.len() > ROWS_MAX {
            return Err(StoreError::LimitExceeded {
                message: format!(
                    "table {:?} has more than {ROWS_MAX} rows in this range: take(n) or paginate() reads a part of them",
                    self.layout.table.name
                ),
            });
        }
        Ok(rows.answer(hash, done))
    }

    fn statement(&self, selected: &Selected<'_>, tests: &[Test], limit: usize) -> Sql {
        let mut sql = Sql::new(selected.select());
        sql.push(&format!(" from {}", quoted(&self.layout.table.name)));
        write_where(tests, &self.columns, &self.tail, Form::Executed, &mut sql);
        let direction = self.direction.as_str();
        let order = self.order.iter().map(|&at| &self.columns[at]).chain(&self.tail);
        let order: Vec<String> =
            order.map(|column| format!("{} {direction}", column.ordered)).collect();
        sql.push(&format!(" order by {} limit ", order.join(", ")));
        sql.bind(Some(limit.to_string()));
        sql
    }

    /// Says of a value that is no such value which table has it.
    fn explained(&self, error: StoreError) -> StoreError {
        let StoreError::Database { error: told, source } = &error else { return error };
        let is_value = source.code().is_some_and(|code| code.code().starts_with("22"));
        match is_value {
            true => StoreError::refused(format!(
                "a value in table {:?}, or one that it is compared with, is not what the schema declares: {}; convoy migrate counts \
                 them",
                self.layout.table.name, told.message
            )),
            false => error,
        }
    }
}
