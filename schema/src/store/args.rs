//! What an operation is asked, read from JSON. The module `convoy` builds it, but a function may call with anything.

use super::StoreError;
use serde_json::{Map, Value};

/// An operation's arguments.
pub(crate) struct Args {
    op: &'static str,
    object: Map<String, Value>,
}

impl Args {
    pub(crate) fn read(op: &'static str, text: &str) -> Result<Args, StoreError> {
        match serde_json::from_str(text) {
            Ok(Value::Object(object)) => Ok(Args { op, object }),
            Ok(_) => Err(StoreError::invalid(format!("{op} takes an object"))),
            Err(error) => Err(StoreError::invalid(format!(
                "what {op} is given can't be read as JSON: {error}"
            ))),
        }
    }

    fn wrong(&self, key: &str, what: &str) -> StoreError {
        StoreError::invalid(format!("{} takes {key} as {what}", self.op))
    }

    /// Returns a value; null where there is none.
    pub(crate) fn take(&mut self, key: &str) -> Value {
        self.object.get_mut(key).map(Value::take).unwrap_or_default()
    }

    pub(crate) fn string(&self, key: &str) -> Result<Option<&str>, StoreError> {
        match self.object.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(self.wrong(key, "a string")),
        }
    }

    pub(crate) fn needed_string(&self, key: &str) -> Result<&str, StoreError> {
        self.string(key)?.ok_or_else(|| self.wrong(key, "a string"))
    }

    /// Returns the id, which is a string; keys of somebody else's tables may be numbers.
    pub(crate) fn id(&self) -> Result<String, StoreError> {
        match self.object.get("id") {
            Some(Value::String(id)) if !id.contains('\0') => Ok(id.clone()),
            Some(Value::Number(id)) => Ok(id.to_string()),
            _ => Err(self.wrong("id", "a string")),
        }
    }

    pub(crate) fn limit(&self) -> Result<Option<usize>, StoreError> {
        match self.object.get("limit") {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Number(number)) => {
                let whole = number.as_f64().filter(|n| n.fract() == 0.0 && (0.0..1e9).contains(n));
                // In range, so that nothing is cut off.
                let limit = whole.map(|n| n as usize);
                limit.map(Some).ok_or_else(|| self.wrong("limit", "a whole number, zero or more"))
            }
            Some(_) => Err(self.wrong("limit", "a whole number, zero or more")),
        }
    }

    pub(crate) fn object(&mut self, key: &str) -> Result<Map<String, Value>, StoreError> {
        match self.take(key) {
            Value::Object(object) => Ok(object),
            _ => Err(self.wrong(key, "an object")),
        }
    }

    /// Returns an array; an empty one where there is none.
    pub(crate) fn array(&mut self, key: &str) -> Result<Vec<Value>, StoreError> {
        match self.take(key) {
            Value::Null => Ok(Vec::new()),
            Value::Array(array) => Ok(array),
            _ => Err(self.wrong(key, "an array")),
        }
    }
}
