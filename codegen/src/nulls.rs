//! Which columns may be null by what a statement does, whatever their tables say: those of the nullable side of an
//! outer join, and those that a set operation or a grouping set mixes with others.
//!
//! It may always name more than it must. Which table's column a value is, is Postgres' word; this goes by the tables'
//! names alone, in the whole statement, so two uses of one table share the worse lot. Only where the outermost SELECT
//! says which of its own tables it takes a column from is that one looked at (`a.id`, of a table that is joined with
//! itself).

use sqlparser::ast::{
    Expr, Ident, Join, JoinOperator, ObjectNamePart, Query, Select, SelectItem, SetExpr, Statement,
    TableFactor, TableWithJoins,
};
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::parser::Parser;
use sqlparser::tokenizer::{Token, Tokenizer};
use std::collections::{BTreeMap, BTreeSet};

/// The words without which no row is made up.
const WORDS: [&str; 9] =
    ["LEFT", "RIGHT", "FULL", "UNION", "INTERSECT", "EXCEPT", "ROLLUP", "CUBE", "GROUPING"];

/// Statements with more tokens than this are not parsed: operators nest, and nesting takes stack.
const TOKENS_MAX: usize = 6000;

/// Names longer than this are cut by Postgres (`NAMEDATALEN` - 1), and so may be another's.
const NAME_BYTES_MAX: usize = 63;

/// Which columns may be null by what the statement does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum MadeNull {
    /// Those of these tables, by their names without the schemas; but not those at these positions of the result.
    Tables {
        /// The tables.
        tables: BTreeSet<String>,
        /// The positions.
        but: BTreeSet<usize>,
    },
    /// Any.
    Any,
}

impl MadeNull {
    /// Reads a statement that Postgres has taken, and whose result has so many columns.
    pub(crate) fn of(sql: &str, columns: usize) -> MadeNull {
        let dialect = PostgreSqlDialect {};
        let Ok(tokens) = Tokenizer::new(&dialect, sql).tokenize_with_location() else {
            return MadeNull::Any;
        };
        let says = |token: &Token| match token {
            Token::Word(word) => WORDS.iter().any(|known| word.value.eq_ignore_ascii_case(known)),
            _ => false,
        };
        if !tokens.iter().any(|token| says(&token.token)) {
            return MadeNull::Tables { tables: BTreeSet::new(), but: BTreeSet::new() };
        }
        if tokens.len() > TOKENS_MAX {
            return MadeNull::Any;
        }
        let parsed = Parser::new(&dialect).with_tokens_with_locations(tokens).parse_statements();
        let Ok([Statement::Query(query)]) = parsed.as_deref() else { return MadeNull::Any };
        let mut walk = Walk::default();
        match walk.query(query) {
            Ok(_) => {
                let but = walk.surely_there(query, columns);
                MadeNull::Tables { tables: walk.made_null(), but }
            }
            Err(NotUnderstood) => MadeNull::Any,
        }
    }

    /// Returns whether the column at this position, which is one of this table, may be null.
    pub(crate) fn holds(&self, position: usize, table: &str) -> bool {
        match self {
            MadeNull::Tables { tables, but } => tables.contains(table) && !but.contains(&position),
            MadeNull::Any => true,
        }
    }
}

/// Something that Postgres does not have, or that is not looked at here.
struct NotUnderstood;

/// The names of tables and WITH queries that are read somewhere.
type Names = BTreeSet<String>;

#[derive(Default)]
struct Walk {
    made_null: Names,
    /// What the WITH queries read, by their names; of one name, all that they read.
    with: BTreeMap<String, Names>,
}

impl Walk {
    /// Returns the names that were found, and what WITH queries among them stand for.
    fn made_null(self) -> Names {
        let mut all = Names::new();
        let mut rest: Vec<String> = self.made_null.into_iter().collect();
        while let Some(name) = rest.pop() {
            if let Some(read) = self.with.get(&name) {
                rest.extend(read.difference(&all).cloned());
            }
            all.insert(name);
        }
        all
    }

    /// Returns the positions of the outermost SELECT's columns that are written `name.column`, where `name` is a table in
    /// its own FROM that no join makes null. (A view's column comes from no table; so whatever else a name could mean,
    /// Postgres would say of no table that the column is its.)
    fn surely_there(&self, query: &Query, columns: usize) -> BTreeSet<usize> {
        let SetExpr::Select(select) = &*query.body else { return BTreeSet::new() };
        // Else something stands for several columns, and nobody here knows the positions.
        if has_grouping_sets(select) || select.projection.len() != columns {
            return BTreeSet::new();
        }
        let mut there = Names::new();
        for item in &select.from {
            self.add_there(item, &mut there);
        }
        let named = |item: &SelectItem| match item {
            SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } => match expr {
                Expr::CompoundIdentifier(parts) => match parts.as_slice() {
                    [table, _] => folded(table).is_ok_and(|table| there.contains(&table)),
                    _ => false,
                },
                _ => false,
            },
            _ => false,
        };
        let items = select.projection.iter().enumerate();
        items.filter(|(_, item)| named(item)).map(|(position, _)| position).collect()
    }

    /// Adds the names by which tables of a FROM's item are called that no join makes null.
    fn add_there(&self, item: &TableWithJoins, there: &mut Names) {
        let add = |factor: &TableFactor, there: &mut Names| match factor {
            TableFactor::Table { name, alias, args: None, .. } => {
                let Some(ObjectNamePart::Identifier(table)) = name.0.last() else { return };
                let name = alias.as_ref().map_or(table, |alias| &alias.name);
                if let (Ok(table), Ok(name)) = (folded(table), folded(name))
                    && !self.with.contains_key(&table)
                {
                    there.insert(name);
                }
            }
            TableFactor::NestedJoin { table_with_joins, alias: None } => {
                self.add_there(table_with_joins, there);
            }
            _ => {}
        };
        let mut of_item = Names::new();
        add(&item.relation, &mut of_item);
        for Join { relation, join_operator, .. } in &item.joins {
            match join_operator {
                JoinOperator::Left(_) | JoinOperator::LeftOuter(_) => {}
                JoinOperator::Right(_) | JoinOperator::RightOuter(_) => {
                    of_item.clear();
                    add(relation, &mut of_item);
                }
                JoinOperator::FullOuter(_) => of_item.clear(),
                _ => add(relation, &mut of_item),
            }
        }
        there.append(&mut of_item);
    }

    /// Each of these returns what is read there. Subqueries in expressions are not looked into: what they give is
    /// computed, and no column of a table to Postgres.
    fn query(&mut self, query: &Query) -> Result<Names, NotUnderstood> {
        for cte in query.with.iter().flat_map(|with| &with.cte_tables) {
            let read = self.query(&cte.query)?;
            let name = folded(&cte.alias.name)?;
            self.with.entry(name).or_default().extend(read);
        }
        self.body(&query.body)
    }

    fn body(&mut self, body: &SetExpr) -> Result<Names, NotUnderstood> {
        match body {
            SetExpr::Select(select) => self.select(select),
            SetExpr::Query(query) => self.query(query),
            SetExpr::SetOperation { left, right, .. } => {
                let mut read = self.body(left)?;
                read.append(&mut self.body(right)?);
                self.made_null.extend(read.iter().cloned());
                Ok(read)
            }
            SetExpr::Values(_) => Ok(Names::new()),
            _ => Err(NotUnderstood),
        }
    }

    fn select(&mut self, select: &Select) -> Result<Names, NotUnderstood> {
        let mut read = Names::new();
        for item in &select.from {
            read.append(&mut self.item(item)?);
        }
        if has_grouping_sets(select) {
            self.made_null.extend(read.iter().cloned());
        }
        Ok(read)
    }

    fn item(&mut self, item: &TableWithJoins) -> Result<Names, NotUnderstood> {
        let mut left = self.factor(&item.relation)?;
        for Join { relation, join_operator, .. } in &item.joins {
            let mut right = self.factor(relation)?;
            match join_operator {
                JoinOperator::Join(_) | JoinOperator::Inner(_) | JoinOperator::CrossJoin(_) => {}
                JoinOperator::Left(_) | JoinOperator::LeftOuter(_) => {
                    self.made_null.extend(right.iter().cloned());
                }
                JoinOperator::Right(_) | JoinOperator::RightOuter(_) => {
                    self.made_null.extend(left.iter().cloned());
                }
                JoinOperator::FullOuter(_) => {
                    self.made_null.extend(left.iter().chain(&right).cloned());
                }
                _ => return Err(NotUnderstood),
            }
            left.append(&mut right);
        }
        Ok(left)
    }

    fn factor(&mut self, factor: &TableFactor) -> Result<Names, NotUnderstood> {
        match factor {
            TableFactor::Table { name, args, .. } => match name.0.last() {
                Some(ObjectNamePart::Identifier(ident)) => {
                    let name = folded(ident)?;
                    // A function gives no column of a table.
                    Ok(if args.is_none() { Names::from([name]) } else { Names::new() })
                }
                _ => Err(NotUnderstood),
            },
            TableFactor::Function { .. } | TableFactor::UNNEST { .. } => Ok(Names::new()),
            TableFactor::Derived { subquery, .. } => self.query(subquery),
            TableFactor::NestedJoin { table_with_joins, .. } => self.item(table_with_joins),
            _ => Err(NotUnderstood),
        }
    }
}

/// Returns whether the GROUP BY may have grouping sets.
fn has_grouping_sets(select: &Select) -> bool {
    let groups = select.group_by.to_string().to_ascii_uppercase();
    ["ROLLUP", "CUBE", "GROUPING"].iter().any(|word| groups.contains(word))
}

/// Returns an identifier as Postgres takes it: folded to lower case unless quoted.
fn folded(ident: &Ident) -> Result<String, NotUnderstood> {
    // `FROM ONLY t` and `FROM ONLY (t)` look like a table and a function of that name to the parser.
    let is_only = ident.quote_style.is_none() && ident.value.eq_ignore_ascii_case("only");
    match ident.quote_style {
        _ if ident.value.len() > NAME_BYTES_MAX || is_only => Err(NotUnderstood),
        None => Ok(ident.value.to_lowercase()),
        Some('"') => Ok(ident.value.clone()),
        Some(_) => Err(NotUnderstood),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(sql: &str, expect: &[&str]) {
        let expect: BTreeSet<String> = expect.iter().map(|&name| name.to_owned()).collect();
        let MadeNull::Tables { tables, .. } = MadeNull::of(sql, 1) else { panic!("{sql}") };
        assert_eq!(tables, expect, "{sql}");
    }

    fn check_but(sql: &str, expect: &[usize]) {
        let columns = sql.split(" from ").next().map_or(0, |list| list.matches(',').count() + 1);
        let MadeNull::Tables { but, .. } = MadeNull::of(sql, columns) else { panic!("{sql}") };
        assert_eq!(but.into_iter().collect::<Vec<_>>(), expect, "{sql}");
    }

    #[test]
    fn a_table_joined_with_itself_is_there_where_it_is_named() {
        check_but("select p.id, c.id as child, p.x from t p left join t c on true", &[0, 2]);
        check_but("select p.id, c.id as child from t p right join t c on true", &[1]);
        check_but("select p.id, c.id as child from t p full join t c on true", &[]);
        check_but(
            "select a.x, b.x, c.x, d.x from t a join t b on true left join t c on true, t d",
            &[0, 1, 3],
        );
        check_but(
            "select a.x, b.x, c.x from (t a left join t b on true) right join t c on true",
            &[2],
        );
        check_but("select a.x, b.x from t a left join (t b join t c on true) on true", &[0]);
        // Its own name is hidden behind an alias, and an unqualified one may be either's.
        check_but("select t.id, id from t a left join t b on true", &[]);
        check_but("select a.id, (b.pair).x from t a left join t b on true", &[0]);
        // What stands for several columns moves those behind it.
        for list in ["*, a.id", "a.id, a.*", "(b.pair).*, a.id"] {
            let made_null =
                MadeNull::of(&format!("select {list} from t a left join t b on true"), 4);
            assert!((0..4).all(|position| made_null.holds(position, "t")), "{list}");
        }
        check_but("select s.t.id, a.id from s.t left join t a on true", &[]);
        check_but("select a.x from t a left join t b on true group by rollup (a.x)", &[]);
        check_but("select a.x from t a left join t b on true union select b.x from t b", &[]);
        check_but("with t as (select 1 as x) select a.x from t a left join t b on true", &[]);
        check_but("select a.x from (select * from t) a left join t b on true", &[]);
    }

    #[test]
    fn inner_joins_make_nothing_null() {
        check("select a.x from a join b using (id) cross join c, d", &[]);
        check("select a.x, left(a.y, 2) as l from a", &[]);
        check("select a.x, (select b.y from b left join c on true limit 1) as y from a", &[]);
    }

    #[test]
    fn outer_joins_make_their_other_side_null() {
        check("select * from a left join b on true join c on true", &["b"]);
        check("select * from a join b on true right join c on true", &["a", "b"]);
        check("select * from a full outer join s.B on true", &["a", "b"]);
        check("select * from a left join (b join \"C\" on true) on true", &["C", "b"]);
        check("select * from a natural left join b", &["b"]);
        check("select * from z, (select * from a left join b on true) s", &["b"]);
        check("select * from z left join lateral (select * from a, b) s on true", &["a", "b"]);
        check("select * from z left join unnest(z.list) u on true", &[]);
    }

    #[test]
    fn with_queries_stand_for_what_they_read() {
        let sql = "with w as (select * from a), v as (select * from w, b) select * from c left join v on true";
        check(sql, &["a", "b", "v", "w"]);
        check("with w as (select * from a left join b on true) select * from w", &["b"]);
    }

    #[test]
    fn sets_and_grouping_sets_mix() {
        check("select x from a union all select x from b", &["a", "b"]);
        check("select c.x from c, (select x from a except select x from b) s", &["a", "b"]);
        check("select x, y from a group by rollup (x, y)", &["a"]);
        check("select x, y from a group by grouping sets ((x), (y))", &["a"]);
        check("select x, y from a group by x, cube (y)", &["a"]);
    }

    #[test]
    fn what_is_not_understood_may_be_null() {
        let long = format!("select * from a left join {} on true", "b".repeat(64));
        let many =
            format!("select * from a left join b on true where x in ({})", "1,".repeat(9000));
        let only = "select * from a left join only (b) on true";
        let only_b = "select * from a left join only b on true";
        for sql in [&*long, &many, only, only_b, "select 'left"] {
            assert_eq!(MadeNull::of(sql, 1), MadeNull::Any, "{sql}");
        }
    }
}
