//! A statement as somebody wrote it: its text, the parameters that a header declares, and its directives.

use std::time::Duration;

/// A parameter that a named query's header declares (`-- @param tenant int4`).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ParamDeclaration {
    /// The argument's name.
    pub name: String,
    /// The type, as written.
    pub type_name: String,
    /// The default, an SQL expression (`= now() - interval '1 day'`).
    pub default: Option<String>,
    /// Whether null may be given (`null`).
    pub nullable: bool,
}

/// What the comment lines of a statement ask for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Directives {
    /// `@refresh 5s`: read again on this interval.
    pub refresh: Option<Duration>,
    /// `@depends t1, t2`: tables that it reads beyond what can be seen.
    pub depends: Vec<String>,
    /// `@key a,b`: the output columns that make a row's key.
    pub key: Vec<String>,
    /// `@maxhold 10s`: how long a refresh may hold its session.
    pub max_hold: Option<Duration>,
}

/// A statement as somebody wrote it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Statement {
    /// The name of a named query (`orders.byTenant`); none for ad hoc SQL.
    pub name: Option<String>,
    /// The SQL, comments included.
    pub text: String,
    /// The declared parameters, `$1` first; empty for ad hoc SQL.
    pub params: Vec<ParamDeclaration>,
    /// What its comments ask for.
    pub directives: Directives,
}
