//! What a client is told of an error of Postgres'.
//!
//! Its words are for whoever may see the database: DETAIL shows rows and keys (`Failing row contains …`), and of a value
//! that is none (SQLSTATE class 22) the message itself shows it. A client may not see them: what is stored may be somebody
//! else's. What can't hold data stays: the message of any other error, which names what the schema and the statement name,
//! the constraint, and all that is said of a place in the statement's text, before anything was read. The rest is for the
//! log.

use std::borrow::Cow;

/// What Postgres says of an error (PostgreSQL manual, 54.8).
#[derive(Clone, Copy, Debug, Default)]
pub struct Refusal<'a> {
    /// The SQLSTATE.
    pub state: &'a str,
    /// What it says first.
    pub message: &'a str,
    /// Its DETAIL.
    pub detail: Option<&'a str>,
    /// Its HINT.
    pub hint: Option<&'a str>,
    /// Whether it names a place in the statement: then the statement is at fault, and nothing was read.
    pub is_of_text: bool,
}

impl<'a> Refusal<'a> {
    /// Returns what a client may hear.
    pub fn for_clients(&self) -> Cow<'a, str> {
        if self.is_of_text {
            return self.in_full().into();
        }
        match self.state {
            // unique_violation
            "23505" => match self.unique_fields() {
                Some(fields) => format!("{} ({fields})", self.message).into(),
                None => self.message.into(),
            },
            // undefined_table, undefined_column, undefined_object, undefined_function: without a place in the statement
            // it was a value that named it (`regclass`).
            "42P01" | "42703" | "42704" | "42883" => {
                "a value names something that is not in the database; the server's log says what"
                    .into()
            }
            state if state.starts_with("22") => of_value(state, self.message),
            _ => self.message.into(),
        }
    }

    /// Returns all of it, in one line.
    pub fn in_full(&self) -> String {
        let mut text = self.message.to_owned();
        for (label, more) in [("", self.detail), ("hint: ", self.hint)] {
            if let Some(more) = more {
                text.push_str("; ");
                text.push_str(label);
                text.push_str(more.trim_end_matches('.'));
            }
        }
        text
    }

    /// Returns what a client does not hear and the log should, where there is such a thing.
    pub fn for_the_log(&self) -> Option<String> {
        let full = self.in_full();
        (full != *self.for_clients()).then_some(full)
    }

    /// Returns the columns or expressions that have to be unique, which begin the DETAIL: `Key (email)=(a@x) already …`.
    fn unique_fields(&self) -> Option<&'a str> {
        let (_, fields) = self.detail?.split_once('(')?;
        Some(fields.split_once(")=(")?.0)
    }
}

/// Returns the error of a value without the value, in words of ours: Postgres puts it into its own in many ways, and in the
/// language that the server has.
fn of_value<'a>(state: &str, message: &str) -> Cow<'a, str> {
    const SYNTAX: &str = "invalid input syntax for type ";
    const RANGE: &str = " is out of range for type ";
    let a_type = |name: &str| -> String { name.chars().take(100).collect() };
    // The type comes before the value here, and after it there.
    if let Some((name, _)) = message.strip_prefix(SYNTAX).and_then(|rest| rest.split_once(':')) {
        return format!("a value is no {}; the server's log says which", a_type(name)).into();
    }
    if let Some((_, name)) = message.rsplit_once(RANGE) {
        let name = a_type(name);
        return format!("a value is out of range for type {name}; the server's log says which")
            .into();
    }
    match state {
        "22012" => "division by zero".into(),
        "22001" => "a text is longer than its column's type takes".into(),
        "22003" => "a number is out of its type's range; the server's log says more".into(),
        "22007" | "22008" => {
            "a value is no date or time, or out of range; the server's log says which".into()
        }
        _ => format!(
            "Postgres does not take a value (SQLSTATE {state}); the server's log says which"
        )
        .into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal<'a>(state: &'a str, message: &'a str, detail: &'a str) -> Refusal<'a> {
        Refusal { state, message, detail: Some(detail), hint: None, is_of_text: false }
    }

    #[test]
    fn rows_keys_and_values_are_for_the_log() {
        for (state, message, detail, told) in [
            (
                "23514",
                "new row for relation \"users\" violates check constraint \"age\"",
                "Failing row contains (users:v, 1, {\"ssn\": \"SECRET\"}).",
                "new row for relation \"users\" violates check constraint \"age\"",
            ),
            (
                "23505",
                "duplicate key value violates unique constraint \"once\"",
                "Key (lower(email), tenant)=(SECRET)=(, 1) already exists.",
                "duplicate key value violates unique constraint \"once\" (lower(email), tenant)",
            ),
            ("23505", "doppelt", "SECRET", "doppelt"),
            (
                "23P01",
                "conflicting key value violates exclusion constraint \"rooms\"",
                "Key (room)=(1) conflicts with existing key (room)=(SECRET).",
                "conflicting key value violates exclusion constraint \"rooms\"",
            ),
            (
                "22P02",
                "invalid input syntax for type integer: \"SECRET: for type x\"",
                "",
                "a value is no integer; the server's log says which",
            ),
            (
                "22003",
                "value \"SECRET is out of range for type \" is out of range for type integer",
                "",
                "a value is out of range for type integer; the server's log says which",
            ),
            (
                "22P02",
                "invalid input value for enum mood: \"SECRET\"",
                "",
                "Postgres does not take a value (SQLSTATE 22P02); the server's log says which",
            ),
            (
                "22P02",
                "ungültige Eingabesyntax für Typ integer: »SECRET«",
                "",
                "Postgres does not take a value (SQLSTATE 22P02); the server's log says which",
            ),
            ("22012", "division by zero", "", "division by zero"),
            (
                "42P01",
                "relation \"SECRET\" does not exist",
                "",
                "a value names something that is not in the database; the server's log says what",
            ),
        ] {
            let refusal = refusal(state, message, detail);
            assert_eq!(refusal.for_clients(), told);
            let in_log = refusal.for_the_log().unwrap_or_default();
            let is_secret = format!("{message}{detail}").contains("SECRET");
            assert_eq!(in_log.contains("SECRET"), is_secret, "{in_log}");
        }
    }

    #[test]
    fn what_is_said_of_the_statement_is_said() {
        let refusal = Refusal {
            state: "42883",
            message: "operator does not exist: integer = text",
            detail: None,
            hint: Some("You might need to add explicit type casts."),
            is_of_text: true,
        };
        let told = "operator does not exist: integer = text; hint: You might need to add explicit type casts";
        assert_eq!(refusal.for_clients(), told);
        assert_eq!(refusal.for_the_log(), None);
    }
}
