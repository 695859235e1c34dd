//! What is generated from: the functions and `.sql` queries of a project, as somebody else found them.

use crate::value_type::ValueType;

/// What a function does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FunctionKind {
    /// It reads.
    Query,
    /// It writes, in one transaction.
    Mutation,
}

/// Who may call a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Visibility {
    /// Any client.
    Public,
    /// Other functions alone.
    Internal,
}

/// A function of a module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FunctionEntry {
    /// The name: `orders.list`.
    pub name: String,
    /// What it does.
    pub kind: FunctionKind,
    /// Who may call it.
    pub visibility: Visibility,
    /// Its module, from the project's root, without the extension: `functions/orders`.
    pub module: String,
    /// The export's name: `list`.
    pub export: String,
}

/// A `.sql` file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SqlQuery {
    /// The name: `orders.byTenant`.
    pub name: String,
    /// The file, from the project's root: `queries/orders/byTenant.sql`.
    pub file: String,
    /// What it takes, `$1` first.
    pub params: Vec<QueryParam>,
    /// What its rows have, in the order of the SELECT.
    pub columns: Vec<QueryColumn>,
}

/// A parameter of a `.sql` file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueryParam {
    /// The argument's name.
    pub name: String,
    /// Its type.
    pub ty: ValueType,
    /// Whether null may be given.
    pub nullable: bool,
    /// Whether it has a default, and so may be left out.
    pub optional: bool,
}

/// A column of a `.sql` file's rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueryColumn {
    /// The column's name.
    pub name: String,
    /// Its type.
    pub ty: ValueType,
    /// Whether it may be null.
    pub nullable: bool,
    /// The TypeScript type that the file states for it (`@type`).
    pub stated: Option<StatedType>,
}

/// A TypeScript type as `@type` states it: `Meta from './meta'`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatedType {
    /// The type: `Meta`, `Meta[]`.
    pub ty: String,
    /// The module that it is in, as seen from the `.sql` file; none for a type that needs no import.
    pub from: Option<String>,
}

/// What a project has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Project {
    /// The functions, in any order.
    pub functions: Vec<FunctionEntry>,
    /// The `.sql` queries, in any order.
    pub queries: Vec<SqlQuery>,
    /// Whether there is a `schema.ts`.
    pub has_schema: bool,
    /// Whether there is a `server.ts`, whose `createContext` makes the functions' context.
    pub has_server: bool,
}
