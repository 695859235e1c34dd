//! The walk over a statement: which columns of which tables it mentions, which relations stand deeper in it, and what
//! decides how many rows it has.
//!
//! It knows an allow-list of nodes; anything else ends it, and the statement is read as touching whole tables.

use crate::analyse::outline::{Outline, check_query, check_select};
use crate::analyse::scope::{
    NotUnderstood, Relation, Resolved, Scope, folded, name_parts, not_understood, relation,
};
use crate::analyse::window::is_plain_wildcard;
use crate::facts::{StatementFacts, TableFacts};
use convoy_query_index::{FieldId, FieldSet};
use convoy_types::RelationId;
use sqlparser::ast::{
    AccessExpr, Array, BinaryOperator, CastKind, Distinct, Expr, Function, FunctionArg,
    FunctionArgExpr, FunctionArgumentClause, FunctionArguments, GroupByExpr, Interval,
    JoinConstraint, LimitClause, NamedWindowExpr, OrderBy, OrderByExpr, OrderByKind, Query, Select,
    SelectItem, SelectItemQualifiedWildcardKind, SetExpr, Subscript, TableFactor, TableWithJoins,
    Value, WindowFrameBound, WindowSpec, WindowType, With,
};

/// Expressions and subqueries nested deeper are not walked.
const DEPTH_MAX: usize = 100;

/// The columns of a row that every table has and that the stream does not show.
const SYSTEM_COLUMNS: [&str; 6] = ["ctid", "xmin", "xmax", "cmin", "cmax", "tableoid"];

/// Functions of `pg_catalog` that give one value a row. Any other may give several (`unnest`), and rows are then not
/// told apart by the keys of the tables' rows.
const ONE_VALUE: &[&str] = &[
    "abs",
    "age",
    "array_append",
    "array_cat",
    "array_length",
    "array_lower",
    "array_position",
    "array_prepend",
    "array_remove",
    "array_replace",
    "array_to_json",
    "array_to_string",
    "array_upper",
    "ascii",
    "btrim",
    "cardinality",
    "ceil",
    "ceiling",
    "char_length",
    "character_length",
    "chr",
    "coalesce",
    "concat",
    "concat_ws",
    "current_date",
    "current_timestamp",
    "current_user",
    "date_bin",
    "date_part",
    "date_trunc",
    "decode",
    "div",
    "encode",
    "exp",
    "extract",
    "floor",
    "format",
    "gcd",
    "greatest",
    "host",
    "initcap",
    "isfinite",
    "json_build_array",
    "json_build_object",
    "json_typeof",
    "jsonb_array_length",
    "jsonb_build_array",
    "jsonb_build_object",
    "jsonb_extract_path",
    "jsonb_extract_path_text",
    "jsonb_pretty",
    "jsonb_set",
    "jsonb_strip_nulls",
    "jsonb_typeof",
    "justify_days",
    "justify_hours",
    "justify_interval",
    "lcm",
    "least",
    "left",
    "length",
    "ln",
    "localtime",
    "localtimestamp",
    "log",
    "lower",
    "lpad",
    "ltrim",
    "make_date",
    "make_interval",
    "make_time",
    "make_timestamp",
    "make_timestamptz",
    "md5",
    "mod",
    "now",
    "nullif",
    "octet_length",
    "overlay",
    "pg_typeof",
    "position",
    "power",
    "quote_ident",
    "quote_literal",
    "quote_nullable",
    "regexp_count",
    "regexp_like",
    "regexp_match",
    "regexp_replace",
    "regexp_substr",
    "repeat",
    "replace",
    "reverse",
    "right",
    "round",
    "row",
    "row_to_json",
    "rpad",
    "rtrim",
    "session_user",
    "sha256",
    "sign",
    "split_part",
    "sqrt",
    "starts_with",
    "string_to_array",
    "strpos",
    "substr",
    "substring",
    "timezone",
    "to_char",
    "to_date",
    "to_json",
    "to_jsonb",
    "to_number",
    "to_timestamp",
    "to_tsvector",
    "transaction_timestamp",
    "translate",
    "trim",
    "trunc",
    "ts_headline",
    "ts_rank",
    "upper",
    "width_bucket",
];

/// One of the statement's SELECTs, walked.
#[derive(Debug)]
pub(crate) struct WalkedSelect<'a> {
    pub(crate) select: &'a Select,
    pub(crate) scope: Scope<'a>,
    /// The columns mentioned, for each of the scope's sources.
    pub(crate) fields: Vec<FieldSet>,
    /// Whether aggregates are called outside of subqueries.
    pub(crate) has_aggregate: bool,
    /// Whether its rows may be more than those of its FROM, or its aggregates belong elsewhere than it looks.
    pub(crate) rows_uncertain: bool,
}

/// A statement, walked.
#[derive(Debug)]
pub(crate) struct Walked<'a> {
    pub(crate) outline: &'a Outline<'a>,
    pub(crate) selects: Vec<WalkedSelect<'a>>,
    /// Tables that stand in subqueries, WITH queries or functions' arguments.
    pub(crate) inner: Vec<RelationId>,
}

/// Walks a statement.
pub(crate) fn walk<'a>(
    outline: &'a Outline<'a>,
    facts: &'a StatementFacts,
) -> Result<Walked<'a>, NotUnderstood> {
    let mut with_names = Vec::new();
    let mut inner = Vec::new();
    if let Some(with) = outline.with {
        let nowhere = Scope::default();
        let mut walker = Walker::new(facts, &nowhere, &mut with_names, &mut inner);
        walker.nesting = 1;
        walker.with(with)?;
    }
    let mut selects = Vec::new();
    for &select in &outline.selects {
        let scope = Scope::of(facts, &select.from, select.selection.as_ref(), &with_names)?;
        let mut walker = Walker::new(facts, &scope, &mut with_names, &mut inner);
        walker.select_body(select)?;
        if outline.selects.len() == 1 {
            walker.tail(outline.query)?;
        }
        let Walker { fields, has_aggregate, rows_uncertain, .. } = walker;
        let has_aggregate = has_aggregate || select.having.is_some();
        selects.push(WalkedSelect { select, scope, fields, has_aggregate, rows_uncertain });
    }
    if outline.selects.len() > 1 {
        let nowhere = Scope::default();
        Walker::new(facts, &nowhere, &mut with_names, &mut inner).tail(outline.query)?;
    }
    Ok(Walked { outline, selects, inner })
}

struct Walker<'a, 'w> {
    facts: &'a StatementFacts,
    scope: &'w Scope<'a>,
    fields: Vec<FieldSet>,
    /// The names of all WITH queries so far; a name among them may or may not be a table's.
    with_names: &'w mut Vec<String>,
    inner: &'w mut Vec<RelationId>,
    /// How many subqueries deep.
    nesting: usize,
    depth: usize,
    /// Inside an aggregate of a subquery: one over columns from further out alone belongs further out.
    in_inner_aggregate: bool,
    /// In a subquery that stands where an aggregate may belong to the outermost SELECT.
    aggregates_matter: bool,
    /// The tables in the FROM of the subquery that is walked, by whose columns unqualified names go first.
    inner_tables: Vec<&'a TableFacts>,
    /// In the select list, GROUP BY or ORDER BY, where a function may multiply rows.
    multiplies_here: bool,
    has_aggregate: bool,
    rows_uncertain: bool,
}

impl<'a, 'w> Walker<'a, 'w> {
    fn new(
        facts: &'a StatementFacts,
        scope: &'w Scope<'a>,
        with_names: &'w mut Vec<String>,
        inner: &'w mut Vec<RelationId>,
    ) -> Self {
        Walker {
            facts,
            scope,
            fields: vec![FieldSet::default(); scope.sources.len()],
            with_names,
            inner,
            nesting: 0,
            depth: 0,
            in_inner_aggregate: false,
            aggregates_matter: false,
            inner_tables: Vec::new(),
            multiplies_here: false,
            has_aggregate: false,
            rows_uncertain: false,
        }
    }

    // Columns.

    fn add(&mut self, source: usize, field: FieldId) {
        self.fields[source].insert(field);
        self.rows_uncertain |= self.in_inner_aggregate && self.aggregates_matter;
    }

    fn add_all(&mut self, source: usize) {
        let count =
            u16::try_from(self.scope.sources[source].table.columns.len()).unwrap_or(u16::MAX);
        self.fields[source].union_with(&FieldSet::all(count));
        self.rows_uncertain |= self.in_inner_aggregate && self.aggregates_matter;
    }

    fn add_everything(&mut self) {
        (0..self.scope.sources.len()).for_each(|source| self.add_all(source));
    }

    /// Adds the column in every table that has one of that name.
    fn add_wherever(&mut self, name: &str) {
        for source in 0..self.scope.sources.len() {
            if let Some(field) = self.scope.sources[source].table.field(name) {
                self.add(source, field);
            }
        }
    }

    fn name(&mut self, name: &str) -> Result<(), NotUnderstood> {
        if self.inner_tables.iter().any(|table| table.field(name).is_some()) {
            return Ok(());
        }
        if let Some(source) = self.scope.source(name) {
            // Perhaps the whole row.
            if self.scope.sources.iter().all(|source| source.table.field(name).is_none()) {
                self.add_all(source);
            }
        }
        match self.scope.resolve_name(name) {
            Resolved::Column(source, field) if self.nesting == 0 => self.add(source, field),
            Resolved::Elsewhere if SYSTEM_COLUMNS.contains(&name) => {
                return not_understood(format!("{name} is a system column"));
            }
            _ => self.add_wherever(name),
        }
        Ok(())
    }

    fn qualified(&mut self, parts: &[String]) {
        match self.scope.resolve_qualified(parts) {
            Resolved::Column(source, field) => self.add(source, field),
            // A function of the row, written like a column; a system column.
            Resolved::Row(source) | Resolved::Odd(source) => self.add_all(source),
            Resolved::Several => self.add_everything(),
            Resolved::Elsewhere => {
                // `schema.table.column` of an aliased table, say; Postgres knows.
                for part in parts {
                    if let Some(source) = self.scope.source(part) {
                        self.add_all(source);
                    }
                }
            }
        }
    }

    // Queries.

    fn nested<T>(
        &mut self,
        walk: impl FnOnce(&mut Self) -> Result<T, NotUnderstood>,
    ) -> Result<T, NotUnderstood> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return not_understood("it nests too deep");
        }
        let result = walk(self);
        self.depth -= 1;
        result
    }

    fn with(&mut self, with: &'a With) -> Result<(), NotUnderstood> {
        for cte in &with.cte_tables {
            if cte.from.is_some() {
                return not_understood("a WITH clause is not analysed");
            }
            let Some(name) = folded(&cte.alias.name) else {
                return not_understood("a name is too long");
            };
            self.with_names.push(name);
        }
        with.cte_tables.iter().try_for_each(|cte| self.subquery(&cte.query))
    }

    fn subquery(&mut self, query: &'a Query) -> Result<(), NotUnderstood> {
        let (multiplies_here, in_aggregate) = (self.multiplies_here, self.in_inner_aggregate);
        if self.nesting == 0 {
            self.aggregates_matter = multiplies_here;
        }
        self.nesting += 1;
        self.multiplies_here = false;
        self.in_inner_aggregate = false;
        let result = self.nested(|walker| {
            check_query(query)?;
            if let Some(with) = &query.with {
                walker.with(with)?;
            }
            walker.body(&query.body)?;
            walker.tail(query)
        });
        self.nesting -= 1;
        self.multiplies_here = multiplies_here;
        self.in_inner_aggregate = in_aggregate;
        result
    }

    fn body(&mut self, body: &'a SetExpr) -> Result<(), NotUnderstood> {
        self.nested(|walker| match body {
            SetExpr::Select(select) => {
                check_select(select)?;
                let tables_around = std::mem::take(&mut walker.inner_tables);
                select.from.iter().try_for_each(|item| walker.inner_from(item))?;
                if let Some(selection) = &select.selection {
                    walker.expr(selection)?;
                }
                walker.select_list(select)?;
                walker.inner_tables = tables_around;
                Ok(())
            }
            SetExpr::Query(query) => walker.subquery(query),
            SetExpr::SetOperation { left, right, .. } => {
                walker.body(left)?;
                walker.body(right)
            }
            SetExpr::Values(values) => values
                .rows
                .iter()
                .flat_map(|row| row.content.iter())
                .try_for_each(|value| walker.expr(value)),
            _ => not_understood("a subquery is not made of SELECTs"),
        })
    }

    /// Walks ORDER BY, LIMIT, OFFSET, FETCH.
    fn tail(&mut self, query: &'a Query) -> Result<(), NotUnderstood> {
        match &query.order_by {
            None => {}
            Some(OrderBy { kind: OrderByKind::Expressions(items), interpolate: None }) => {
                self.multiplies_here = self.nesting == 0;
                self.order_by(items)?;
                self.multiplies_here = false;
            }
            Some(_) => return not_understood("an ORDER BY is no list"),
        }
        match &query.limit_clause {
            None => {}
            Some(LimitClause::LimitOffset { limit, offset, limit_by }) if limit_by.is_empty() => {
                limit.iter().try_for_each(|limit| self.expr(limit))?;
                offset.iter().try_for_each(|offset| self.expr(&offset.value))?;
            }
            Some(_) => return not_understood("a LIMIT is not analysed"),
        }
        query
            .fetch
            .iter()
            .filter_map(|fetch| fetch.quantity.as_ref())
            .try_for_each(|quantity| self.expr(quantity))
    }

    /// Walks an outermost SELECT, whose FROM the scope has read.
    fn select_body(&mut self, select: &'a Select) -> Result<(), NotUnderstood> {
        let scope = self.scope;
        for factor in &scope.factors {
            self.factor(factor)?;
        }
        for constraint in &scope.joins {
            self.join_constraint(constraint)?;
        }
        if let Some(selection) = &select.selection {
            self.expr(selection)?;
        }
        self.multiplies_here = true;
        let result = self.select_list(select);
        self.multiplies_here = false;
        result
    }

    /// Walks what a SELECT has besides FROM and WHERE.
    fn select_list(&mut self, select: &'a Select) -> Result<(), NotUnderstood> {
        match &select.distinct {
            None | Some(Distinct::All | Distinct::Distinct) => {}
            Some(Distinct::On(exprs)) => self.exprs(exprs)?,
        }
        for item in &select.projection {
            match item {
                SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } => {
                    self.expr(expr)?;
                }
                SelectItem::Wildcard(options) if is_plain_wildcard(options) => {
                    if self.nesting == 0 {
                        self.add_everything();
                    }
                }
                SelectItem::QualifiedWildcard(kind, options) if is_plain_wildcard(options) => {
                    match kind {
                        SelectItemQualifiedWildcardKind::ObjectName(name) => self.row(name)?,
                        SelectItemQualifiedWildcardKind::Expr(expr) => self.expr(expr)?,
                    }
                }
                _ => return not_understood("a select list is not analysed"),
            }
        }
        match &select.group_by {
            GroupByExpr::Expressions(groups, modifiers) if modifiers.is_empty() => {
                self.exprs(groups)?;
            }
            _ => return not_understood("a GROUP BY is not analysed"),
        }
        if let Some(having) = &select.having {
            self.expr(having)?;
        }
        for window in &select.named_window {
            match &window.1 {
                NamedWindowExpr::NamedWindow(_) => {}
                NamedWindowExpr::WindowSpec(spec) => self.window(spec)?,
            }
        }
        Ok(())
    }

    /// `t.*`
    fn row(&mut self, name: &sqlparser::ast::ObjectName) -> Result<(), NotUnderstood> {
        let Some(parts) = name_parts(name) else { return not_understood("a name is oddly quoted") };
        for part in &parts {
            if let Some(source) = self.scope.source(part) {
                self.add_all(source);
            }
        }
        Ok(())
    }

    fn join_constraint(&mut self, constraint: &'a JoinConstraint) -> Result<(), NotUnderstood> {
        match constraint {
            JoinConstraint::On(condition) => self.expr(condition)?,
            JoinConstraint::Using(columns) => {
                for column in columns {
                    let Some(parts) = name_parts(column) else {
                        return not_understood("a name is oddly quoted");
                    };
                    parts.iter().for_each(|name| self.add_wherever(name));
                }
            }
            JoinConstraint::Natural => self.add_everything(),
            JoinConstraint::None => {}
        }
        Ok(())
    }

    /// Walks a FROM of a subquery: its tables count as a whole.
    fn inner_from(&mut self, item: &'a TableWithJoins) -> Result<(), NotUnderstood> {
        self.nested(|walker| {
            walker.factor(&item.relation)?;
            for join in &item.joins {
                walker.factor(&join.relation)?;
                use sqlparser::ast::JoinOperator::{
                    CrossJoin, FullOuter, Inner, Join, Left, LeftOuter, Right, RightOuter,
                };
                match &join.join_operator {
                    Join(constraint)
                    | Inner(constraint)
                    | Left(constraint)
                    | LeftOuter(constraint)
                    | Right(constraint)
                    | RightOuter(constraint)
                    | FullOuter(constraint)
                    | CrossJoin(constraint) => {
                        walker.join_constraint(constraint)?;
                    }
                    _ => return not_understood("a kind of join that Postgres does not have"),
                }
            }
            Ok(())
        })
    }

    fn factor(&mut self, factor: &'a TableFactor) -> Result<(), NotUnderstood> {
        match factor {
            TableFactor::Table {
                args: None,
                sample: None,
                version: None,
                json_path: None,
                name,
                alias,
                ..
            } => {
                if let [name] = name_parts(name).unwrap_or_default().as_slice()
                    && self.with_names.contains(name)
                {
                    // It may be the table all the same, where the WITH query is not visible.
                    self.inner.extend(
                        self.facts
                            .tables
                            .iter()
                            .filter(|table| table.name == *name)
                            .map(|table| table.id),
                    );
                    return Ok(());
                }
                match relation(self.facts, name, &[])? {
                    Relation::Table(table) => {
                        self.inner.push(table.id);
                        if alias.as_ref().is_none_or(|alias| alias.columns.is_empty()) {
                            self.inner_tables.push(table);
                        }
                    }
                    Relation::Derived => {}
                }
                Ok(())
            }
            TableFactor::Table {
                args: Some(args),
                sample: None,
                version: None,
                json_path: None,
                ..
            } => args.args.iter().try_for_each(|arg| self.argument(arg)),
            TableFactor::Function { args, .. } => {
                args.iter().try_for_each(|arg| self.argument(arg))
            }
            TableFactor::UNNEST { array_exprs, .. } => self.exprs(array_exprs),
            TableFactor::Derived { subquery, sample: None, .. } => self.subquery(subquery),
            TableFactor::NestedJoin { table_with_joins, alias } => {
                let known = self.inner_tables.len();
                self.inner_from(table_with_joins)?;
                if alias.is_some() {
                    self.inner_tables.truncate(known);
                }
                Ok(())
            }
            _ => not_understood("something in FROM is not analysed"),
        }
    }

    // Expressions.

    fn exprs(&mut self, exprs: &'a [Expr]) -> Result<(), NotUnderstood> {
        exprs.iter().try_for_each(|expr| self.expr(expr))
    }

    fn order_by(&mut self, items: &'a [OrderByExpr]) -> Result<(), NotUnderstood> {
        items.iter().try_for_each(|item| {
            if item.with_fill.is_some() {
                return not_understood("an ORDER BY is not analysed");
            }
            self.expr(&item.expr)
        })
    }

    fn expr(&mut self, expr: &'a Expr) -> Result<(), NotUnderstood> {
        self.nested(|walker| walker.expr_inside(expr))
    }

    fn expr_inside(&mut self, expr: &'a Expr) -> Result<(), NotUnderstood> {
        match expr {
            Expr::Identifier(ident) => match folded(ident) {
                Some(name) => self.name(&name),
                None => not_understood("a name is too long or oddly quoted"),
            },
            Expr::CompoundIdentifier(idents) => match idents
                .iter()
                .map(folded)
                .collect::<Option<Vec<_>>>()
            {
                Some(parts) if parts.len() <= 3 => {
                    let system =
                        parts.last().is_some_and(|name| SYSTEM_COLUMNS.contains(&name.as_str()));
                    if system && matches!(self.scope.resolve_qualified(&parts), Resolved::Odd(_)) {
                        return not_understood("it reads a system column");
                    }
                    self.qualified(&parts);
                    Ok(())
                }
                _ => not_understood("a name is too long or oddly quoted"),
            },
            // These nest to the left, as long as the statement is.
            Expr::BinaryOp { .. } => {
                let mut rest = expr;
                while let Expr::BinaryOp { left, op, right } = rest {
                    if matches!(op, BinaryOperator::Custom(_)) {
                        return not_understood("an operator is not known");
                    }
                    self.expr(right)?;
                    rest = left;
                }
                self.expr(rest)
            }
            Expr::Value(literal) => match literal.value {
                Value::DoubleQuotedString(_) => not_understood("a name is oddly quoted"),
                _ => Ok(()),
            },
            Expr::TypedString(_) => Ok(()),
            Expr::Nested(inner)
            | Expr::IsFalse(inner)
            | Expr::IsNotFalse(inner)
            | Expr::IsTrue(inner)
            | Expr::IsNotTrue(inner)
            | Expr::IsNull(inner)
            | Expr::IsNotNull(inner)
            | Expr::IsUnknown(inner)
            | Expr::IsNotUnknown(inner)
            | Expr::UnaryOp { expr: inner, .. }
            | Expr::Extract { expr: inner, .. }
            | Expr::Ceil { expr: inner, .. }
            | Expr::Floor { expr: inner, .. }
            | Expr::Collate { expr: inner, .. }
            | Expr::IsNormalized { expr: inner, .. }
            | Expr::Cast {
                kind: CastKind::Cast | CastKind::DoubleColon,
                expr: inner,
                format: None,
                ..
            }
            | Expr::Interval(Interval { value: inner, .. }) => self.expr(inner),
            Expr::IsDistinctFrom(left, right)
            | Expr::IsNotDistinctFrom(left, right)
            | Expr::Position { expr: left, r#in: right }
            | Expr::AtTimeZone { timestamp: left, time_zone: right }
            | Expr::AnyOp { left, right, .. }
            | Expr::AllOp { left, right, .. }
            | Expr::InUnnest { expr: left, array_expr: right, .. } => {
                self.expr(left)?;
                self.expr(right)
            }
            Expr::Like { expr, pattern, escape_char, any: false, .. }
            | Expr::ILike { expr, pattern, escape_char, any: false, .. }
            | Expr::SimilarTo { expr, pattern, escape_char, .. } => {
                self.expr(expr)?;
                self.expr(pattern)?;
                escape_char.iter().try_for_each(|escape| self.expr(escape))
            }
            Expr::InList { expr, list, .. } => {
                self.expr(expr)?;
                self.exprs(list)
            }
            Expr::Between { expr, low, high, .. } => {
                self.expr(expr)?;
                self.expr(low)?;
                self.expr(high)
            }
            Expr::Substring { expr, substring_from, substring_for, .. } => {
                self.expr(expr)?;
                substring_from.iter().chain(substring_for).try_for_each(|part| self.expr(part))
            }
            Expr::Trim { expr, trim_what, trim_characters, .. } => {
                self.expr(expr)?;
                trim_what.iter().try_for_each(|what| self.expr(what))?;
                trim_characters.iter().try_for_each(|characters| self.exprs(characters))
            }
            Expr::Overlay { expr, overlay_what, overlay_from, overlay_for } => {
                self.expr(expr)?;
                self.expr(overlay_what)?;
                self.expr(overlay_from)?;
                overlay_for.iter().try_for_each(|part| self.expr(part))
            }
            Expr::Case { operand, conditions, else_result, .. } => {
                operand.iter().try_for_each(|operand| self.expr(operand))?;
                for when in conditions {
                    self.expr(&when.condition)?;
                    self.expr(&when.result)?;
                }
                else_result.iter().try_for_each(|result| self.expr(result))
            }
            Expr::Tuple(exprs) | Expr::Array(Array { elem: exprs, .. }) => self.exprs(exprs),
            Expr::GroupingSets(sets) | Expr::Cube(sets) | Expr::Rollup(sets) => {
                // Rows of several groupings: no group's expressions tell them apart.
                self.rows_uncertain |= self.nesting == 0;
                sets.iter().try_for_each(|set| self.exprs(set))
            }
            Expr::CompoundFieldAccess { root, access_chain } => {
                self.expr(root)?;
                access_chain.iter().try_for_each(|access| match access {
                    AccessExpr::Subscript(Subscript::Index { index }) => self.expr(index),
                    AccessExpr::Subscript(Subscript::Slice {
                        lower_bound,
                        upper_bound,
                        stride: None,
                    }) => {
                        lower_bound.iter().chain(upper_bound).try_for_each(|bound| self.expr(bound))
                    }
                    _ => not_understood("a field of a composite value is read"),
                })
            }
            Expr::InSubquery { expr, subquery, .. } => {
                self.expr(expr)?;
                self.subquery(subquery)
            }
            Expr::Exists { subquery, .. } | Expr::Subquery(subquery) => self.subquery(subquery),
            Expr::Function(function) => self.function(function),
            _ => not_understood("an expression is not analysed"),
        }
    }

    fn function(&mut self, function: &'a Function) -> Result<(), NotUnderstood> {
        let Function {
            name,
            uses_odbc_syntax: false,
            parameters: FunctionArguments::None,
            args,
            within_group,
            filter,
            null_treatment: _,
            over,
        } = function
        else {
            return not_understood("a function's call is not analysed");
        };
        let Some(name) = name_parts(name).and_then(|mut parts| parts.pop()) else {
            return not_understood("a function's name is oddly quoted");
        };
        let mut known = self.facts.functions.iter().filter(|facts| facts.name == name).peekable();
        let is_aggregate = known.peek().is_some() && known.clone().all(|facts| facts.aggregate);
        let is_foreign = known.any(|facts| facts.namespace != "pg_catalog");
        if self.nesting == 0 && over.is_none() {
            self.has_aggregate |= is_aggregate;
            let one_value = is_aggregate || ONE_VALUE.contains(&name.as_str());
            self.rows_uncertain |= self.multiplies_here && (is_foreign || !one_value);
        }
        let was_in_aggregate = self.in_inner_aggregate;
        self.in_inner_aggregate |= self.nesting > 0 && is_aggregate && over.is_none();
        match args {
            FunctionArguments::None => {}
            FunctionArguments::Subquery(subquery) => self.subquery(subquery)?,
            FunctionArguments::List(list) => {
                list.args.iter().try_for_each(|arg| self.argument(arg))?;
                for clause in &list.clauses {
                    match clause {
                        FunctionArgumentClause::OrderBy(items) => self.order_by(items)?,
                        _ => return not_understood("a function's arguments are not analysed"),
                    }
                }
            }
        }
        self.order_by(within_group)?;
        filter.iter().try_for_each(|filter| self.expr(filter))?;
        self.in_inner_aggregate = was_in_aggregate;
        match over {
            Some(WindowType::WindowSpec(spec)) => self.window(spec),
            Some(WindowType::NamedWindow(_)) | None => Ok(()),
        }
    }

    fn argument(&mut self, arg: &'a FunctionArg) -> Result<(), NotUnderstood> {
        let (FunctionArg::Unnamed(arg) | FunctionArg::Named { arg, .. }) = arg else {
            return not_understood("a function's arguments are not analysed");
        };
        match arg {
            FunctionArgExpr::Expr(expr) => self.expr(expr),
            FunctionArgExpr::QualifiedWildcard(name) => self.row(name),
            // `count(*)` counts rows.
            FunctionArgExpr::Wildcard => Ok(()),
            FunctionArgExpr::WildcardWithOptions(_) => {
                not_understood("a function's arguments are not analysed")
            }
        }
    }

    fn window(&mut self, spec: &'a WindowSpec) -> Result<(), NotUnderstood> {
        self.exprs(&spec.partition_by)?;
        self.order_by(&spec.order_by)?;
        let Some(frame) = &spec.window_frame else { return Ok(()) };
        [Some(&frame.start_bound), frame.end_bound.as_ref()].into_iter().flatten().try_for_each(
            |bound| match bound {
                WindowFrameBound::Preceding(Some(rows))
                | WindowFrameBound::Following(Some(rows)) => self.expr(rows),
                _ => Ok(()),
            },
        )
    }
}
