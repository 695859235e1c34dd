//! What somebody gave with a query's name, as what the name means takes it: arguments by name, and who asks.
//!
//! The same for a first subscription and for one that outlives what its name meant. What a client gave is only ever an
//! argument, and a claim only ever what is known of who asks.

use crate::auth::Identity;
use crate::protocol::{argument, arguments_by_name, arguments_text, read_args};
use convoy_engine::{
    Argument, ErrorCode, ParamDeclaration, ParamSource, QueryError, QueryReference, Statement,
    StatementKind, Wish,
};
use std::sync::Arc;

/// What was given with a name.
#[derive(Debug)]
struct NamedWish {
    /// The arguments, one text for equal ones: most subscriptions never have them read again.
    args: Box<str>,
    identity: Identity,
}

/// Returns a reference to what a name means.
///
/// # Errors
/// Why what was given does not fit that.
pub(crate) fn reference(
    statement: Arc<Statement>,
    args: Vec<(String, Argument)>,
    identity: &Identity,
) -> Result<QueryReference, QueryError> {
    let args = arguments_text(args).into();
    QueryReference::named(statement, Arc::new(NamedWish { args, identity: identity.clone() }))
}

impl Wish for NamedWish {
    fn arguments(&self, statement: &Statement) -> Result<Vec<Option<Argument>>, QueryError> {
        let identity = &self.identity;
        if statement.kind == StatementKind::Function {
            // Whether they fit it says itself.
            let args = Argument::String(self.args.to_string());
            return Ok(vec![Some(args), identity.argument()]);
        }
        check_known(statement, identity)?;
        // They were taken once: by whatever limit there is.
        let args = read_args(self.args.as_bytes(), usize::MAX)
            .map_err(|error| QueryError::new(ErrorCode::Internal, error.message))?;
        arguments_by_name(&statement.params, args, |param| claimed(identity, param))
    }
}

/// Returns what an identity has for a parameter that is no argument.
fn claimed(identity: &Identity, param: &ParamDeclaration) -> Option<Argument> {
    match param.source {
        ParamSource::Argument => None,
        ParamSource::Claim => identity.claim(&param.name).cloned().map(argument),
        ParamSource::Identity => identity.argument(),
    }
}

/// Checks that somebody is known where a query goes by who asks.
fn check_known(statement: &Statement, identity: &Identity) -> Result<(), QueryError> {
    let has_claims = statement.params.iter().any(|param| param.source == ParamSource::Claim);
    if !has_claims || statement.directives.public || !identity.is_nobody() {
        return Ok(());
    }
    let name = statement.name.as_deref().unwrap_or("the query");
    let message = format!(
        "{name} goes by who asks, and the request does not say: sign in (send `Authorization: Bearer …`, or what the \
         project's createContext goes by, such as a cookie)"
    );
    Err(QueryError::new(ErrorCode::Unauthorized, message))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn statement(header: &str) -> Arc<Statement> {
        let text = format!("{header}\nselect id from t where a = $1");
        Arc::new(Statement::named("q", &text).expect("good"))
    }

    fn seven() -> Argument {
        Argument::Number("7".to_owned())
    }

    /// A client's argument would otherwise be what it says it is, and a claim what a client could have chosen.
    #[test]
    fn arguments_never_become_claims_nor_claims_arguments() {
        let (argument, claim) =
            (statement("-- @param tenant int4"), statement("-- @claim tenant int4"));
        let caller = Identity::new(json!({ "tenant": 7 }), None).expect("small");
        let other = Identity::new(json!({ "role": "x" }), None).expect("small");
        let given = || vec![("tenant".to_owned(), seven())];

        let wish = reference(argument.clone(), given(), &caller).expect("it fits").wish;
        let wish = wish.expect("a name's");
        assert_eq!(wish.arguments(&argument), Ok(vec![Some(seven())]));
        let error = wish.arguments(&claim).expect_err("given");
        assert_eq!(error.code, ErrorCode::InvalidArgs, "{error}");

        let wish = reference(claim.clone(), Vec::new(), &caller).expect("it fits").wish;
        let wish = wish.expect("a name's");
        assert_eq!(wish.arguments(&claim), Ok(vec![Some(seven())]));
        let error = wish.arguments(&argument).expect_err("not given");
        assert_eq!(error.code, ErrorCode::InvalidArgs, "{error}");

        let code = |identity: &Identity| {
            reference(claim.clone(), Vec::new(), identity).expect_err("unknown").code
        };
        assert_eq!(code(&other), ErrorCode::Forbidden);
        assert_eq!(code(&Identity::nobody()), ErrorCode::Unauthorized);
        // Whichever way there is to be known.
        let error = reference(claim.clone(), Vec::new(), &Identity::nobody()).expect_err("nobody");
        assert!(error.message.contains("Bearer") && error.message.contains("cookie"), "{error}");
    }

    /// A query that was a file may be a function later, and the other way round.
    #[test]
    fn a_wish_fits_files_and_functions() {
        let file = statement("-- @param a int4");
        let function = Arc::new(Statement::function("q", "1"));
        let caller = Identity::new(json!({ "sub": "ann" }), None).expect("small");
        let given = vec![("a".to_owned(), seven())];
        let text = |text: &str| Some(Argument::String(text.to_owned()));
        let of_function = vec![text(r#"{"a":7}"#), text(r#"{"sub":"ann"}"#)];
        for first in [&file, &function] {
            let first = reference(first.clone(), given.clone(), &caller).expect("it fits");
            let wish = first.wish.expect("a name's");
            assert_eq!(wish.arguments(&file), Ok(vec![Some(seven())]));
            assert_eq!(wish.arguments(&function), Ok(of_function.clone()));
        }
    }
}
