//! Errors as a client sees them: a code, a status, a message that says what would be right.

use super::push_json_str;
use axum::http::StatusCode;
use convoy_engine::{ErrorCode, Outlook, OwnError, QueryError};
use std::fmt;

/// The kind of an error; each has its status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// The request is wrong.
    InvalidArgs,
    /// Nobody, as far as we know, or a session's token has expired.
    Unauthorized,
    /// Known, and not allowed.
    Forbidden,
    /// There is no such thing.
    NotFound,
    /// The path knows other methods.
    MethodNotAllowed,
    /// It met others' changes, too often.
    Conflict,
    /// It is more than a request may carry.
    PayloadTooLarge,
    /// A limit was reached.
    LimitExceeded,
    /// Our own fault.
    Internal,
    /// Not now.
    Unavailable,
    /// It took too long.
    Timeout,
}

impl Code {
    /// Returns the code as the wire has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Code::InvalidArgs => ErrorCode::InvalidArgs.as_str(),
            Code::Unauthorized => ErrorCode::Unauthorized.as_str(),
            Code::Forbidden => ErrorCode::Forbidden.as_str(),
            Code::NotFound => ErrorCode::NotFound.as_str(),
            Code::MethodNotAllowed => "METHOD_NOT_ALLOWED",
            Code::Conflict => ErrorCode::Conflict.as_str(),
            Code::PayloadTooLarge => "PAYLOAD_TOO_LARGE",
            Code::LimitExceeded => ErrorCode::LimitExceeded.as_str(),
            Code::Internal => ErrorCode::Internal.as_str(),
            Code::Unavailable => ErrorCode::Unavailable.as_str(),
            Code::Timeout => ErrorCode::Timeout.as_str(),
        }
    }

    /// Returns the status that goes with it.
    pub fn status(self) -> StatusCode {
        match self {
            Code::InvalidArgs => StatusCode::BAD_REQUEST,
            Code::Unauthorized => StatusCode::UNAUTHORIZED,
            Code::Forbidden => StatusCode::FORBIDDEN,
            Code::NotFound => StatusCode::NOT_FOUND,
            Code::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Code::Conflict => StatusCode::CONFLICT,
            Code::PayloadTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Code::LimitExceeded => StatusCode::TOO_MANY_REQUESTS,
            Code::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Code::Timeout => StatusCode::GATEWAY_TIMEOUT,
        }
    }
}

/// An error that a client is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiError {
    /// The kind.
    pub code: Code,
    /// What was wrong and what would be right. Never holds a password, a token or somebody else's data.
    pub message: String,
    /// What a function of the project said beyond that: a code of its own, data.
    pub own: Option<Box<OwnError>>,
    /// Whether the same request may succeed a little later: then the answer says so (`Retry-After`), and an event source is
    /// told to come back.
    pub is_temporary: bool,
}

impl ApiError {
    /// Returns an error of this kind; temporary where something is away.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        let is_temporary = code == Code::Unavailable;
        ApiError { code, message: message.into(), own: None, is_temporary }
    }

    /// Returns a `LIMIT_EXCEEDED` of something that others take too, and give back.
    pub fn no_room(message: impl Into<String>) -> Self {
        ApiError { is_temporary: true, ..Self::new(Code::LimitExceeded, message) }
    }

    /// Returns an `INVALID_ARGS`.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(Code::InvalidArgs, message)
    }

    /// Returns the body of an answer.
    pub fn body(&self) -> String {
        let mut json = String::from("{\"error\":{\"code\":");
        self.push_fields(&mut json);
        if self.data().is_none() {
            json.push_str(",\"data\":null");
        }
        json.push_str("}}");
        json
    }

    /// Appends the object that an update carries.
    pub(super) fn push_object(&self, out: &mut String) {
        out.push_str("{\"code\":");
        self.push_fields(out);
        out.push('}');
    }

    fn push_fields(&self, out: &mut String) {
        push_json_str(out, self.code_name());
        out.push_str(",\"message\":");
        push_json_str(out, &self.message);
        if let Some(data) = self.data() {
            out.push_str(",\"data\":");
            out.push_str(data);
        }
    }

    fn code_name(&self) -> &str {
        self.own.as_ref().map_or(self.code.as_str(), |own| &own.code)
    }

    fn data(&self) -> Option<&str> {
        self.own.as_ref()?.data.as_deref()
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.code_name(), self.message)
    }
}

impl From<QueryError> for ApiError {
    fn from(error: QueryError) -> Self {
        let code = match error.code {
            ErrorCode::InvalidArgs => Code::InvalidArgs,
            ErrorCode::NotFound => Code::NotFound,
            ErrorCode::Unauthorized => Code::Unauthorized,
            ErrorCode::Forbidden => Code::Forbidden,
            ErrorCode::Conflict => Code::Conflict,
            ErrorCode::LimitExceeded => Code::LimitExceeded,
            ErrorCode::Timeout => Code::Timeout,
            ErrorCode::Unavailable => Code::Unavailable,
            ErrorCode::Internal => Code::Internal,
        };
        // What else passes has a status that says nothing of coming back.
        let is_temporary = error.outlook == Outlook::Passes
            && matches!(code, Code::LimitExceeded | Code::Unavailable);
        ApiError { code, message: error.message, own: error.own, is_temporary }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_have_code_message_and_data() {
        let error = ApiError::invalid("no \"x\"");
        assert_eq!(
            error.body(),
            r#"{"error":{"code":"INVALID_ARGS","message":"no \"x\"","data":null}}"#
        );
    }

    #[test]
    fn statuses_are_the_contracts() {
        let of = |code: Code| code.status().as_u16();
        let all = [
            (Code::InvalidArgs, 400),
            (Code::Unauthorized, 401),
            (Code::Forbidden, 403),
            (Code::NotFound, 404),
            (Code::MethodNotAllowed, 405),
            (Code::Conflict, 409),
            (Code::PayloadTooLarge, 413),
            (Code::LimitExceeded, 429),
            (Code::Internal, 500),
            (Code::Unavailable, 503),
            (Code::Timeout, 504),
        ];
        for (code, status) in all {
            assert_eq!(of(code), status, "{}", code.as_str());
            assert_eq!(ApiError::new(code, "m").is_temporary, status == 503);
        }
    }
}
