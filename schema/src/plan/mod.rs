//! What has to be done for the database to have what is declared, and what is not as it should be.
//!
//! A plan only creates: tables, indexes, columns. All else is a [`Warning`] with the SQL that would do it: what Convoy
//! made and is declared no longer (it is kept), what stands there in another shape, documents that hold something else
//! than is declared. Planning again after [`apply`] gives a plan without steps.

mod apply;
mod compare;
mod documents;
mod render;

pub use apply::apply;

use crate::catalogue::{marked, standing, taken};
use crate::declared::Schema;
use crate::error::SchemaError;
use tokio_postgres::Client;

/// What is to be created, and what to know.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// What [`apply`] does, in order.
    pub steps: Vec<Step>,
    /// What it leaves alone.
    pub warnings: Vec<Warning>,
    /// How many tables are declared.
    pub tables: usize,
}

/// One thing to create.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// What kind of thing.
    pub kind: StepKind,
    /// Its name: a table, an index, `table.column`.
    pub name: String,
    /// What it is, in a few words.
    pub what: String,
    /// The statements; each does nothing where it was done already.
    pub statements: Vec<String>,
}

/// Kinds of steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepKind {
    /// A table that is not there.
    CreateTable,
    /// An index that is not there.
    CreateIndex,
    /// A column of a relational table that is not there.
    AddColumn,
}

/// Something that is not as declared, and that Convoy leaves as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// What kind of thing.
    pub kind: WarningKind,
    /// The table, the index, `table.field`.
    pub name: String,
    /// What is the matter.
    pub what: String,
    /// What would mend it, for somebody who means it.
    pub sql: Vec<String>,
}

/// Kinds of warnings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WarningKind {
    /// What stands in the database is something else than what is declared.
    Incompatible,
    /// What Convoy made is declared no longer. It is never dropped.
    Drift,
    /// Documents are without a field that is declared as needed.
    Missing,
    /// A table that is somebody else's is not there.
    Absent,
    /// Nothing is wrong, and it is good to know.
    Note,
}

/// Compares what is declared with what stands in the database.
///
/// # Errors
/// [`SchemaError::Database`] where it can't be asked.
pub async fn plan(client: &Client, schema: &Schema) -> Result<Plan, SchemaError> {
    let marked = marked(client).await?;
    let declared = schema.tables.iter().map(|table| table.name.as_str());
    let undeclared = marked.iter().map(String::as_str).filter(|name| schema.table(name).is_none());
    let names: Vec<&str> = declared.chain(undeclared).collect();
    let standing = standing(client, names).await?;
    let mut plan = Plan { tables: schema.tables.len(), ..Plan::default() };
    for table in &schema.tables {
        let stands = standing.get(&table.name);
        let doubtful = match stands {
            Some(stands) => documents::check(client, table, stands, &mut plan).await?,
            None => Vec::new(),
        };
        compare::table(table, stands, &doubtful, &mut plan);
    }
    for name in &marked {
        if schema.table(name).is_none() {
            compare::undeclared(name, &mut plan);
        }
    }
    leave_taken_names(client, &mut plan).await?;
    Ok(plan)
}

/// Leaves indexes out whose names something else has already.
async fn leave_taken_names(client: &Client, plan: &mut Plan) -> Result<(), SchemaError> {
    let is_index = |step: &&Step| step.kind == StepKind::CreateIndex;
    let names: Vec<String> =
        plan.steps.iter().filter(is_index).map(|step| step.name.clone()).collect();
    let taken = taken(client, &names).await?;
    plan.steps.retain(|step| step.kind != StepKind::CreateIndex || !taken.contains(&step.name));
    for name in taken {
        let what =
            "an index can't be created, because something else is called so: rename one of them";
        plan.warn(WarningKind::Incompatible, name, what);
    }
    Ok(())
}

impl Plan {
    /// Returns whether nothing has to be created.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    fn warn(&mut self, kind: WarningKind, name: impl Into<String>, what: impl Into<String>) {
        self.warn_with(kind, name, what, Vec::new());
    }

    fn warn_with(
        &mut self,
        kind: WarningKind,
        name: impl Into<String>,
        what: impl Into<String>,
        sql: Vec<String>,
    ) {
        self.warnings.push(Warning { kind, name: name.into(), what: what.into(), sql });
    }
}
