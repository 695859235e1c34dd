//! Arguments as a client gives them: JSON, not yet read as any type.

/// A JSON value. The wire's parser makes it; the engine turns it into the text that a parameter's type reads.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Argument {
    /// `null`
    Null,
    /// `true`, `false`
    Bool(bool),
    /// A number, with every digit as it was sent.
    Number(String),
    /// A string, unescaped.
    String(String),
    /// An array.
    Array(Vec<Argument>),
    /// An object, as JSON text.
    Object(String),
}
