//! Calls of functions: aggregates, window functions, and those that may multiply rows.

use super::Walker;
use crate::analyse::scope::{NotUnderstood, name_parts, not_understood};
use sqlparser::ast::{
    Function, FunctionArg, FunctionArgExpr, FunctionArgumentClause, FunctionArguments,
    WindowFrameBound, WindowSpec, WindowType,
};

impl<'a> Walker<'a, '_> {
    pub(super) fn function(&mut self, function: &'a Function) -> Result<(), NotUnderstood> {
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
        self.has_window |= self.nesting == 0 && over.is_some();
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

    pub(super) fn argument(&mut self, arg: &'a FunctionArg) -> Result<(), NotUnderstood> {
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

    pub(super) fn window(&mut self, spec: &'a WindowSpec) -> Result<(), NotUnderstood> {
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
