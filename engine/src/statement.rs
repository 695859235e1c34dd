//! A statement as somebody wrote it: its text, the parameters that a header declares, and its directives.
//!
//! Reads the comments and refuses what no reading could make live (several statements, writes, locks). What the
//! statement means is [`analyse`](crate::analyse())'s business.

use crate::analyse::lexer::{Lexed, Token, TokenKind, lex};
use crate::database::{ErrorCode, QueryError};
use std::time::Duration;

/// Where a parameter's value comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ParamSource {
    /// `@param`: the client's arguments.
    #[default]
    Argument,
    /// `@claim`: who asks, by name. Never the arguments.
    Claim,
    /// The whole of who asks, as a function takes it.
    Identity,
}

/// A parameter that a named query's header declares (`-- @param tenant int4`, `-- @claim tenant int4`).
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
    /// Where its value comes from.
    pub source: ParamSource,
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
    /// `@notnull col`: output columns that are never null, for typed rows.
    pub not_null: Vec<String>,
    /// `@type col TsType from './x'`: output columns' TypeScript types, for typed rows.
    pub types: Vec<(String, String)>,
    /// `@public`: may be read without an identity, also where it has a `@claim`: that is then its default, or null.
    pub public: bool,
}

/// What a statement is there for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum StatementKind {
    /// Its rows are a result.
    #[default]
    Query,
    /// It is never run: it says what a function read, and is analysed for its predicates alone.
    Recorded,
    /// A project's function, which reads by statements of its own: the text is its version.
    Function,
}

/// A statement as somebody wrote it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Statement {
    /// What it is there for.
    pub kind: StatementKind,
    /// The name of a named query (`orders.byTenant`); none for ad hoc SQL.
    pub name: Option<String>,
    /// The SQL, comments included.
    pub text: String,
    /// The declared parameters, `$1` first; empty for ad hoc SQL.
    pub params: Vec<ParamDeclaration>,
    /// What its comments ask for.
    pub directives: Directives,
}

/// Where a statement comes from, which decides what its comments may say.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Origin {
    AdHoc,
    File,
    Recorded,
}

impl Statement {
    /// Reads ad hoc SQL.
    ///
    /// # Errors
    /// [`ErrorCode::InvalidArgs`] where it is not one statement that only reads, or where a comment line starts with an
    /// `@word` that is no directive.
    pub fn ad_hoc(text: &str) -> Result<Statement, QueryError> {
        Self::read(None, text, Origin::AdHoc)
    }

    /// Reads the `.sql` file of a named query.
    ///
    /// # Errors
    /// As [`Statement::ad_hoc`]; also where a header's line is malformed. Whether there is an identity for its `@claim`
    /// lines is the caller's business ([`Statement::check_without_identity`]).
    pub fn named(name: impl Into<String>, text: &str) -> Result<Statement, QueryError> {
        Self::read(Some(name.into()), text, Origin::File)
    }

    /// Reads what a function says that it read.
    ///
    /// # Errors
    /// As [`Statement::ad_hoc`]; also where it asks to be read again on an interval: it is its function that is run.
    pub fn recorded(text: &str) -> Result<Statement, QueryError> {
        let statement = Self::read(None, text, Origin::Recorded)?;
        Ok(Statement { kind: StatementKind::Recorded, ..statement })
    }

    /// Returns the statement that stands for a function of the project, which takes JSON texts: its arguments, and who
    /// asks. Another version is another statement.
    pub fn function(name: impl Into<String>, version: impl Into<String>) -> Statement {
        let param = |name: &str, nullable, source| ParamDeclaration {
            name: name.to_owned(),
            type_name: "text".to_owned(),
            default: None,
            nullable,
            source,
        };
        Statement {
            kind: StatementKind::Function,
            name: Some(name.into()),
            text: version.into(),
            params: vec![
                param("args", false, ParamSource::Argument),
                param("identity", true, ParamSource::Identity),
            ],
            directives: Directives::default(),
        }
    }

    /// Returns the statement that stands for the function of the project that says who calls. It takes texts, both of them
    /// nobody else's business: what a caller showed, and who that was found to be.
    pub fn identity(name: impl Into<String>) -> Statement {
        let mut statement = Statement::function(name, "");
        for param in &mut statement.params {
            param.source = ParamSource::Identity;
        }
        statement
    }

    /// Returns whether it stands for the function that says who calls.
    pub fn is_identity(&self) -> bool {
        let is_identity = |param: &ParamDeclaration| param.source == ParamSource::Identity;
        self.kind == StatementKind::Function && self.params.iter().all(is_identity)
    }

    /// Checks that it asks for nothing that only an identity has.
    ///
    /// # Errors
    /// [`ErrorCode::InvalidArgs`] with the place of its first `@claim` line.
    pub fn check_without_identity(&self) -> Result<(), QueryError> {
        if !self.params.iter().any(|param| param.source == ParamSource::Claim) {
            return Ok(());
        }
        let is_claim = |words: &str| words.trim().starts_with("@claim");
        let lines = lex(&self.text).line_comments;
        let first = lines.iter().find(|&&(start, end)| {
            starts_its_line(&self.text, start) && is_claim(&self.text[start..end])
        });
        let &(start, end) = first.unwrap_or(&(0, 0));
        Err(invalid(format!("{}: {}", place(&self.text, start, end), no_identity("claim"))))
    }

    /// Returns whether a client wrote it.
    pub fn is_ad_hoc(&self) -> bool {
        self.kind == StatementKind::Query && self.name.is_none()
    }

    fn read(name: Option<String>, text: &str, origin: Origin) -> Result<Statement, QueryError> {
        if text.contains('\0') {
            return Err(invalid(
                "the statement holds a zero byte, which no SQL does: leave it out",
            ));
        }
        let lexed = lex(text);
        let mut statement = Statement {
            kind: StatementKind::Query,
            name,
            text: text.to_owned(),
            params: Vec::new(),
            directives: Directives::default(),
        };
        for &(start, end) in &lexed.line_comments {
            if !starts_its_line(text, start) {
                continue;
            }
            let Some(directive) = text[start..end].trim().strip_prefix('@') else { continue };
            statement
                .read_directive(directive, origin)
                .map_err(|message| invalid(format!("{}: {message}", place(text, start, end))))?;
        }
        check_reads_only(text, &lexed)?;
        Ok(statement)
    }

    fn read_directive(&mut self, directive: &str, origin: Origin) -> Result<(), String> {
        let word_end =
            directive.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(directive.len());
        let (word, rest) = (&directive[..word_end], directive[word_end..].trim());
        let directives = &mut self.directives;
        let needs = |what: &str| {
            if rest.is_empty() { Err(format!("@{word} needs {what}")) } else { Ok(()) }
        };
        match (word, origin) {
            ("refresh", Origin::Recorded) => {
                return Err("@refresh is not for what a function reads, which is run again when what it reads \
                            changes: name tables that it reads unseen by `-- @depends t1, t2`, or put the statement \
                            in a .sql file of its own"
                    .to_owned());
            }
            ("refresh", _) => directives.refresh = Some(duration(word, rest)?),
            ("maxhold", _) => directives.max_hold = Some(duration(word, rest)?),
            ("depends", _) => {
                needs("a table: -- @depends orders, shop.customers")?;
                directives.depends.extend(names(rest));
            }
            ("key", _) => {
                needs("output columns: -- @key a, b")?;
                directives.key.extend(names(rest).iter().map(|name| unquoted(name)));
            }
            ("param" | "claim", Origin::File) => {
                let source = match word {
                    "claim" => ParamSource::Claim,
                    _ => ParamSource::Argument,
                };
                let param = param(word, source, rest)?;
                if self.params.iter().any(|other| other.name == param.name) {
                    return Err(format!("the parameter {} is declared twice", param.name));
                }
                self.params.push(param);
            }
            ("notnull", Origin::File) => {
                needs("output columns: -- @notnull total")?;
                directives.not_null.extend(names(rest).iter().map(|name| unquoted(name)));
            }
            ("type", Origin::File) => match rest.split_once(char::is_whitespace) {
                Some((column, ty)) => {
                    directives.types.push((unquoted(column), ty.trim().to_owned()));
                }
                None => {
                    return Err("@type needs a column and a type: -- @type col TsType from './x'"
                        .to_owned());
                }
            },
            ("public", Origin::File) => directives.public = true,
            ("role", Origin::File) => {
                return Err(
                    "@role is not there yet: select what a caller may see by a @claim".to_owned()
                );
            }
            ("param" | "claim" | "role" | "notnull" | "type" | "public", _) => {
                let here = if origin == Origin::AdHoc { "ad hoc SQL" } else { "ctx.db.raw" };
                return Err(format!(
                    "@{word} belongs in the .sql file of a named query, not in {here}"
                ));
            }
            _ => {
                let known = match origin {
                    Origin::AdHoc => "@refresh, @depends, @key, @maxhold",
                    Origin::Recorded => "@depends, @key, @maxhold",
                    Origin::File => {
                        "@param, @refresh, @depends, @key, @maxhold, @notnull, @type, @public, @claim, @role"
                    }
                };
                return Err(format!("unknown directive @{word}; there are {known}"));
            }
        }
        Ok(())
    }
}

fn no_identity(word: &str) -> String {
    format!(
        "@{word} needs an identity, and no way to identify callers is configured: --jwt-jwks, --jwt-public-key or \
         --jwt-secret-file names the key of their tokens"
    )
}

/// Returns where in a text the directive in this comment begins.
fn place(text: &str, start: usize, end: usize) -> String {
    let before = &text[..start + text[start..end].find('@').unwrap_or(0)];
    let line = before.matches('\n').count() + 1;
    let column = before.chars().rev().take_while(|&c| c != '\n').count() + 1;
    format!("line {line}, column {column}")
}

fn invalid(message: impl Into<String>) -> QueryError {
    QueryError::new(ErrorCode::InvalidArgs, message)
}

/// Returns whether the comment whose words start here has its line for itself.
fn starts_its_line(text: &str, words_start: usize) -> bool {
    let before = text[..words_start].trim_end_matches('-');
    before.rsplit(['\n', '\r']).next().is_none_or(|line| line.trim().is_empty())
}

fn names(list: &str) -> Vec<String> {
    list.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

fn unquoted(name: &str) -> String {
    match name.strip_prefix('"').and_then(|name| name.strip_suffix('"')) {
        Some(inner) => inner.replace("\"\"", "\""),
        None => name.to_owned(),
    }
}

/// Reads `500ms`, `5s`, `2m`, `1h`.
fn duration(word: &str, text: &str) -> Result<Duration, String> {
    let malformed = || format!("@{word} needs a duration like 500ms, 5s or 2m, not {text:?}");
    let unit_start = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(malformed)?;
    let count: u64 = text[..unit_start].parse().map_err(|_| malformed())?;
    let unit_ms = match text[unit_start..].trim() {
        "ms" => 1,
        "s" => 1_000,
        "m" | "min" => 60_000,
        "h" => 3_600_000,
        _ => return Err(malformed()),
    };
    match count.checked_mul(unit_ms) {
        Some(1..) if unit_start <= 9 => Ok(Duration::from_millis(count * unit_ms)),
        _ => Err(malformed()),
    }
}

/// Reads `tenant int4`, `status text null`, `since timestamptz = now() - interval '1 day'`.
fn param(word: &str, source: ParamSource, text: &str) -> Result<ParamDeclaration, String> {
    let malformed = || format!("@{word} needs a name and a type, like `tenant int4`, not {text:?}");
    let (name, rest) = text.split_once(char::is_whitespace).ok_or_else(malformed)?;
    let starts_well = name.starts_with(|c: char| c.is_alphabetic() || c == '_');
    if !starts_well || !name.chars().all(|c| c.is_alphanumeric() || c == '_') {
        return Err(malformed());
    }
    let (ty, default) = match rest.split_once('=') {
        Some((_, default)) if default.trim().is_empty() => return Err(malformed()),
        Some((ty, default)) => (ty.trim(), Some(default.trim().to_owned())),
        None => (rest.trim(), None),
    };
    let (ty, null) = match ty.rsplit_once(char::is_whitespace) {
        Some((ty, word)) if word.eq_ignore_ascii_case("null") => (ty.trim(), true),
        _ => (ty, false),
    };
    if ty.is_empty() || ty.eq_ignore_ascii_case("null") {
        return Err(malformed());
    }
    let nullable =
        null || default.as_deref().is_some_and(|default| default.eq_ignore_ascii_case("null"));
    let (name, type_name) = (name.to_owned(), ty.to_owned());
    Ok(ParamDeclaration { name, type_name, default, nullable, source })
}

/// The words that a statement of another kind begins with (PostgreSQL manual, VI.I "SQL Commands").
#[rustfmt::skip]
const OTHER_COMMANDS: &[&str] = &[
    "ABORT", "ALTER", "ANALYZE", "BEGIN", "CALL", "CHECKPOINT", "CLOSE", "CLUSTER", "COMMENT", "COMMIT", "COPY",
    "CREATE", "DEALLOCATE", "DECLARE", "DELETE", "DISCARD", "DO", "DROP", "END", "EXECUTE", "EXPLAIN", "FETCH",
    "GRANT", "IMPORT", "INSERT", "LISTEN", "LOAD", "LOCK", "MERGE", "MOVE", "NOTIFY", "PREPARE", "REASSIGN",
    "REFRESH", "REINDEX", "RELEASE", "RESET", "REVOKE", "ROLLBACK", "SAVEPOINT", "SECURITY", "SET", "SHOW", "START",
    "TRUNCATE", "UNLISTEN", "UPDATE", "VACUUM",
];

/// Refuses several statements, statements that write, and those that lock rows.
fn check_reads_only(text: &str, lexed: &Lexed) -> Result<(), QueryError> {
    let tokens = significant(&lexed.tokens);
    let is =
        |at: usize, keyword: &str| tokens.get(at).is_some_and(|token| token.is_word(text, keyword));
    let is_any = |at: usize, keywords: &[&str]| keywords.iter().any(|keyword| is(at, keyword));
    let Some(first) = tokens.iter().position(|token| !token.is_symbol(b'(')) else {
        return Err(invalid("there is no statement: give one SELECT"));
    };
    // A word that is no command is a mistake that Postgres has better words for, with the position.
    if is_any(first, OTHER_COMMANDS) {
        let word =
            text[tokens[first].start..tokens[first].end].chars().take(40).collect::<String>();
        return Err(invalid(format!(
            "only a SELECT can be live, and this statement starts with {word:?}"
        )));
    }
    let mut depth = 0_usize;
    for (at, token) in tokens.iter().enumerate() {
        match token.kind {
            TokenKind::Symbol(b'(') => depth += 1,
            TokenKind::Symbol(b')') => depth = depth.saturating_sub(1),
            TokenKind::Symbol(b';') if depth == 0 => {
                return Err(invalid("several statements: give one SELECT, without `;` inside"));
            }
            TokenKind::Word => {
                // Behind AS or a dot any keyword is a name.
                let named = at > 0 && (is(at - 1, "AS") || tokens[at - 1].is_symbol(b'.'));
                if is(at, "FOR") && !named && is_any(at + 1, &["UPDATE", "SHARE", "NO", "KEY"]) {
                    return Err(invalid(
                        "a locking clause (FOR UPDATE, FOR SHARE) can't be live: leave it out",
                    ));
                }
                if is(at, "INTO") && !named {
                    return Err(invalid("SELECT INTO makes a table: leave INTO out"));
                }
                let begins_cte = at > 1
                    && tokens[at - 1].is_symbol(b'(')
                    && (is(at - 2, "AS") || is(at - 2, "MATERIALIZED"));
                if begins_cte && is_any(at, &["INSERT", "UPDATE", "DELETE", "MERGE"]) {
                    return Err(invalid(
                        "a WITH clause that writes (INSERT, UPDATE, DELETE, MERGE) can't be live: only SELECT may stand there",
                    ));
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// Returns the tokens without the semicolons at the end.
pub(crate) fn significant(tokens: &[Token]) -> &[Token] {
    let end = tokens.iter().rposition(|token| !token.is_symbol(b';')).map_or(0, |last| last + 1);
    &tokens[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(result: Result<Statement, QueryError>) -> String {
        let error = result.expect_err("refused");
        assert_eq!(error.code, ErrorCode::InvalidArgs);
        error.message
    }

    #[test]
    fn reads_directives() {
        let text = "-- @refresh 5s\n-- about @nobody\nselect 1 as a -- @nothing\n  --  @depends a, shop.b\n\
                    , '\n-- @oops\n' as b\n-- @key a,\"B c\"\n-- @maxhold 500ms";
        let statement = Statement::ad_hoc(text).expect("good");
        assert_eq!(statement.text, text);
        assert_eq!(
            statement.directives,
            Directives {
                refresh: Some(Duration::from_secs(5)),
                depends: vec!["a".into(), "shop.b".into()],
                key: vec!["a".into(), "B c".into()],
                max_hold: Some(Duration::from_millis(500)),
                ..Directives::default()
            }
        );
    }

    #[test]
    fn what_a_function_reads_has_no_interval() {
        let refused = error(Statement::recorded("select 1 as a\n-- @refresh 5s"));
        assert!(
            refused.starts_with("line 2, column 4: @refresh is not for what a function reads"),
            "{refused}"
        );
        let refused = error(Statement::recorded("-- @param a int4\nselect 1 as a"));
        assert!(refused.ends_with("not in ctx.db.raw"), "{refused}");
        let statement = Statement::recorded("-- @depends a\nselect f() as a").expect("good");
        assert_eq!(
            (statement.kind, &statement.directives.depends[..]),
            (StatementKind::Recorded, &["a".to_owned()][..])
        );
    }

    #[test]
    fn reads_a_header() {
        let text = "-- @param tenant int4\n-- @param since timestamptz = now() - interval '1 day'\n\
                    -- @param status text null\n-- @param top double precision = null\n-- @notnull total\n\
                    -- @type meta Meta from './meta'\n-- @public\nselect 1 as total;";
        let statement = Statement::named("orders.list", text).expect("good");
        let param = |name: &str, ty: &str, default: Option<&str>, nullable| ParamDeclaration {
            name: name.into(),
            type_name: ty.into(),
            default: default.map(Into::into),
            nullable,
            source: ParamSource::Argument,
        };
        assert_eq!(
            statement.params,
            [
                param("tenant", "int4", None, false),
                param("since", "timestamptz", Some("now() - interval '1 day'"), false),
                param("status", "text", None, true),
                param("top", "double precision", Some("null"), true),
            ]
        );
        assert_eq!(statement.directives.not_null, ["total"]);
        assert_eq!(
            statement.directives.types,
            [("meta".to_owned(), "Meta from './meta'".to_owned())]
        );
        assert!(statement.directives.public);
    }

    #[test]
    fn names_the_line_of_a_wrong_directive() {
        let check = |text: &str, expect: &str| {
            let message = error(Statement::named("a", &format!("{text}\nselect 1 as a")));
            assert!(message.contains(expect), "{text:?}: {message}");
        };
        check("\n-- @refrsh 5s", "line 2, column 4: unknown directive @refrsh");
        check("-- @refresh 5", "line 1, column 4: @refresh needs a duration");
        check("-- @refresh 0s", "needs a duration");
        check("-- @refresh 99999999999999999999s", "needs a duration");
        check("-- @claim tenant", "@claim needs a name and a type");
        check(
            "-- @param a int4\n-- @claim a int4",
            "line 2, column 4: the parameter a is declared",
        );
        check("-- @role r", "@role is not there yet");
        check("-- @param tenant", "a name and a type");
        check(
            "-- @param a int4\n-- @param a int4",
            "line 2, column 4: the parameter a is declared twice",
        );
        check("-- @depends", "needs a table");
        let message = error(Statement::ad_hoc("-- @param a int4\nselect 1 as a"));
        assert!(message.contains("belongs in the .sql file"), "{message}");
    }

    #[test]
    fn takes_one_statement_that_reads() {
        for text in [
            "select 1 as a;",
            "(select 1 as a) ; -- done",
            "with a as (select 1) select * from a",
            "values (1)",
            "table t",
            "select a as into, t.for from t",
            "select ';' as a",
            "select (update) from t",
            "selec 1",
        ] {
            assert!(Statement::ad_hoc(text).is_ok(), "{text}");
        }
        let check = |text: &str, expect: &str| {
            let message = error(Statement::ad_hoc(text));
            assert!(message.contains(expect), "{text:?}: {message}");
        };
        check("", "no statement");
        check(";; -- nothing", "no statement");
        check("select 'a\0' as a", "zero byte");
        check("delete from t", "starts with \"delete\"");
        check("explain select 1", "only a SELECT");
        check("select 1; select 2", "several statements");
        check("select * from t for no key update", "locking clause");
        check("select * into x from t", "SELECT INTO");
        check(
            "with a as materialized (delete from t returning *) select * from a",
            "only SELECT may stand there",
        );
    }
}
