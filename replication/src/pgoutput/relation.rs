//! Relation: a table's description, sent before its first change and again after it changed.

use super::DecodeError;
use super::reader::Reader;
use convoy_types::{Column, Relation, RelationId, ReplicaIdentity};

/// A column takes at least its flags, its name's zero byte, its type and its modifier.
const COLUMN_BYTES_MIN: usize = 10;

pub(super) fn decode(reader: &mut Reader) -> Result<Relation, DecodeError> {
    let id = RelationId(reader.u32("relation id")?);
    let namespace = match reader.string("namespace")? {
        // "Empty string for pg_catalog" (PostgreSQL manual, 55.9 "Logical Replication Message Formats").
        empty if empty.is_empty() => "pg_catalog".to_owned(),
        namespace => namespace,
    };
    let name = reader.string("relation name")?;
    let replica_identity = match reader.u8("replica identity")? {
        b'd' => ReplicaIdentity::Default,
        b'n' => ReplicaIdentity::Nothing,
        b'f' => ReplicaIdentity::Full,
        b'i' => ReplicaIdentity::Index,
        tag => return Err(DecodeError::UnknownIdentity { tag }),
    };
    let count = usize::from(reader.u16("column count")?);
    if count * COLUMN_BYTES_MIN > reader.remaining() {
        return Err(DecodeError::TooMany {
            what: "columns",
            count,
            bytes_left: reader.remaining(),
        });
    }
    let columns = (0..count).map(|_| column(reader)).collect::<Result<_, _>>()?;
    Ok(Relation { id, namespace, name, replica_identity, columns })
}

fn column(reader: &mut Reader) -> Result<Column, DecodeError> {
    Ok(Column {
        is_identity: reader.u8("column flags")? & 1 == 1,
        name: reader.string("column name")?,
        type_oid: reader.u32("column type")?,
        type_modifier: reader.i32("type modifier")?,
    })
}
