//! A statement in the making, and values that are sent as text.

use super::StoreError;
use bytes::BytesMut;
use futures_util::StreamExt;
use std::error::Error;
use std::pin::pin;
use tokio_postgres::types::{Format, IsNull, ToSql, Type};
use tokio_postgres::{Client, Row};

/// One statement's rows are not kept beyond this: four times what a result may be, for a function may give less than it
/// reads.
const BYTES_MAX: usize = 64 << 20;

/// A text or null, which the parameter's own input function reads.
#[derive(Debug)]
pub(crate) struct TextParam<'a>(pub(crate) Option<&'a str>);

impl ToSql for TextParam<'_> {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        match self.0 {
            Some(text) => {
                out.extend_from_slice(text.as_bytes());
                Ok(IsNull::No)
            }
            None => Ok(IsNull::Yes),
        }
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    fn encode_format(&self, _: &Type) -> Format {
        Format::Text
    }

    tokio_postgres::types::to_sql_checked!();
}

/// A statement and the values of its parameters; values are in `args`, and never in the text.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sql {
    pub(crate) text: String,
    pub(crate) args: Vec<Option<String>>,
}

impl Sql {
    pub(crate) fn new(text: impl Into<String>) -> Sql {
        Sql { text: text.into(), args: Vec::new() }
    }

    pub(crate) fn push(&mut self, text: &str) -> &mut Sql {
        self.text.push_str(text);
        self
    }

    /// Adds a parameter.
    pub(crate) fn bind(&mut self, value: Option<String>) -> &mut Sql {
        self.args.push(value);
        self.text.push_str(&format!("${}", self.args.len()));
        self
    }

    /// Executes it, in one round trip: Postgres infers the parameters' types.
    ///
    /// # Errors
    /// What Postgres says; [`StoreError::InvalidArgs`] for what no value is, [`StoreError::LimitExceeded`] where the rows are
    /// too big.
    pub(crate) async fn query(&self, client: &Client) -> Result<Vec<Row>, StoreError> {
        // Postgres would refuse it, and with it all that follows in the transaction.
        if self.args.iter().flatten().any(|arg| arg.contains('\0')) {
            return Err(StoreError::invalid(
                "a text holds a zero byte, which Postgres does not take",
            ));
        }
        let params: Vec<TextParam<'_>> =
            self.args.iter().map(|arg| TextParam(arg.as_deref())).collect();
        let typed =
            params.iter().map(|param| -> (&(dyn ToSql + Sync), Type) { (param, Type::UNKNOWN) });
        let mut stream = pin!(client.query_typed_raw(&self.text, typed).await?);
        let (mut rows, mut bytes) = (Vec::new(), 0);
        while let Some(row) = stream.next().await {
            let row = row?;
            bytes += row.raw_size_bytes();
            if bytes > BYTES_MAX {
                return Err(StoreError::LimitExceeded {
                    message: format!(
                        "more than {} MiB of rows were read at once: read less, by take(n), paginate() or conditions",
                        BYTES_MAX >> 20
                    ),
                });
            }
            rows.push(row);
        }
        Ok(rows)
    }
}
