//! Rows as JSON objects: their columns in order, each cell as the engine has it, int8 and numeric as they were asked
//! for.

use super::push_json_str;
use convoy_engine::{Cells, OutputColumn, ResultRow, ResultSnapshot};
use convoy_types::{PgType, quote_numbers};

/// How int8 and numeric are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Numbers {
    /// As JSON numbers with every digit.
    #[default]
    Number,
    /// As strings: `?numbers=string`.
    String,
}

impl Numbers {
    /// Returns which of the forms of a [`Shared`](convoy_engine::Shared) part it is.
    pub(super) fn form(self) -> usize {
        match self {
            Numbers::Number => 0,
            Numbers::String => 1,
        }
    }

    fn quotes(self, ty: &PgType) -> bool {
        let ty = match ty {
            PgType::Array(element) => element,
            ty => ty,
        };
        self == Numbers::String && matches!(ty, PgType::Int8 | PgType::Numeric)
    }
}

/// Column names as JSON, and how the values are written.
pub(super) struct Columns<'a> {
    columns: &'a [OutputColumn],
    /// `"name":`
    names: Vec<String>,
    numbers: Numbers,
}

impl<'a> Columns<'a> {
    pub(super) fn new(columns: &'a [OutputColumn], numbers: Numbers) -> Self {
        let name = |column: &OutputColumn| {
            let mut name = String::new();
            push_json_str(&mut name, &column.name);
            name.push(':');
            name
        };
        Columns { columns, names: columns.iter().map(name).collect(), numbers }
    }

    pub(super) fn push_field(&self, out: &mut String, column: usize, cell: &str) {
        out.push_str(&self.names[column]);
        if self.numbers.quotes(&self.columns[column].ty) {
            out.push_str(&quote_numbers(cell));
        } else {
            out.push_str(cell);
        }
    }

    pub(super) fn push_row(&self, out: &mut String, row: &ResultRow) {
        self.push_cells(out, row.cells());
    }

    fn push_cells(&self, out: &mut String, cells: Cells<'_>) {
        out.push('{');
        // A function's rows have not all the same fields: an empty cell is one that this row has not.
        let there = cells.enumerate().filter(|(_, cell)| !cell.is_empty());
        for (position, (column, cell)) in there.enumerate() {
            if position > 0 {
                out.push(',');
            }
            self.push_field(out, column, cell);
        }
        out.push('}');
    }

    pub(super) fn push_rows(&self, out: &mut String, rows: &[ResultRow]) {
        out.push('[');
        for (position, row) in rows.iter().enumerate() {
            if position > 0 {
                out.push(',');
            }
            self.push_row(out, row);
        }
        out.push(']');
    }
}

/// Returns the text of a result that is one value and no set of rows.
pub(super) fn whole_value(snapshot: &ResultSnapshot) -> Option<&str> {
    let row = snapshot.rows.first().filter(|_| OutputColumn::are_of_value(&snapshot.columns))?;
    row.cell(0)
}

/// Appends the value of a result, for a one-shot answer.
pub fn encode_snapshot_value(out: &mut String, snapshot: &ResultSnapshot, numbers: Numbers) {
    if let Some(value) = whole_value(snapshot) {
        return out.push_str(value);
    }
    Columns::new(&snapshot.columns, numbers).push_rows(out, &snapshot.rows);
}

/// Appends one row as a JSON object, its columns in their order.
pub fn encode_row(out: &mut String, columns: &[OutputColumn], row: &ResultRow) {
    Columns::new(columns, Numbers::Number).push_row(out, row);
}
