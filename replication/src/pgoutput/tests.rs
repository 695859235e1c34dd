//! Messages written by hand, cut off anywhere, and bytes that no server would send.

use super::*;
use convoy_types::{Column, Datum, Lsn, PgTimestamp, ReplicaIdentity, Xid};
use proptest::prelude::*;

/// One of each kind, as a server writes them.
fn samples() -> Vec<Vec<u8>> {
    let begin = [&b"B"[..], &7_u64.to_be_bytes(), &8_i64.to_be_bytes(), &9_u32.to_be_bytes()];
    let commit = [&b"C\0"[..], &7_u64.to_be_bytes(), &8_u64.to_be_bytes(), &9_i64.to_be_bytes()];
    vec![
        begin.concat(),
        commit.concat(),
        b"R\0\0\0\x05public\0t\0d\0\x02\x01id\0\0\0\0\x17\xff\xff\xff\xff\0v\0\0\0\0\x19\xff\xff\xff\xff".to_vec(),
        b"I\0\0\0\x05N\0\x02t\0\0\0\x011n".to_vec(),
        b"U\0\0\0\x05K\0\x02t\0\0\0\x011nN\0\x02t\0\0\0\x012u".to_vec(),
        b"U\0\0\0\x05N\0\x02t\0\0\0\x012u".to_vec(),
        b"D\0\0\0\x05O\0\x02t\0\0\0\x011t\0\0\0\0".to_vec(),
        b"T\0\0\0\x02\x03\0\0\0\x05\0\0\0\x06".to_vec(),
        b"M\x01\0\0\0\0\0\0\0\x01convoy\0\0\0\0\x02hi".to_vec(),
        b"Y\0\0\0\x05public\0mood\0".to_vec(),
        b"O\0\0\0\0\0\0\0\x01elsewhere\0".to_vec(),
    ]
}

fn decode(bytes: &[u8]) -> Result<Message, DecodeError> {
    Message::decode(Bytes::copy_from_slice(bytes))
}

#[test]
fn reads_each_message() {
    let messages =
        samples().iter().map(|bytes| decode(bytes).expect("a message")).collect::<Vec<_>>();
    let relation = RelationId(5);
    let begin = Begin { final_lsn: Lsn(7), commit_time: PgTimestamp(8), xid: Xid(9) };
    assert_eq!(messages[0], Message::Begin(begin));
    let commit = Commit { commit_lsn: Lsn(7), end_lsn: Lsn(8), commit_time: PgTimestamp(9) };
    assert_eq!(messages[1], Message::Commit(commit));
    let column = |name: &str, type_oid, is_identity| Column {
        name: name.to_owned(),
        type_oid,
        type_modifier: -1,
        is_identity,
    };
    let table = Relation {
        id: relation,
        namespace: "public".to_owned(),
        name: "t".to_owned(),
        replica_identity: ReplicaIdentity::Default,
        columns: vec![column("id", 23, true), column("v", 25, false)],
    };
    assert_eq!(messages[2], Message::Relation(table.clone()));
    let Message::Insert(insert) = &messages[3] else { panic!("{:?}", messages[3]) };
    let text = |text: &'static str| Datum::Text(Bytes::from_static(text.as_bytes()));
    let row = insert.new.clone().into_row(&table).expect("two columns");
    assert_eq!(*row.0, [text("1"), Datum::Null]);
    let Message::Update(Update { old: Some(OldTuple::Key(key)), new, .. }) = &messages[4] else {
        panic!("{:?}", messages[4])
    };
    assert_eq!(*key.clone().into_key_row(&table).expect("two").0, [text("1"), Datum::Missing]);
    assert_eq!(*new.clone().into_row(&table).expect("two").0, [text("2"), Datum::UnchangedToast]);
    assert!(matches!(messages[5], Message::Update(Update { old: None, .. })));
    let Message::Delete(Delete { old: OldTuple::Full(old), .. }) = &messages[6] else {
        panic!("{:?}", messages[6])
    };
    assert_eq!(*old.clone().into_row(&table).expect("two").0, [text("1"), text("")]);
    assert_eq!(
        messages[7],
        Message::Truncate(Truncate { relations: vec![relation, RelationId(6)] })
    );
    let content = Bytes::from_static(b"hi");
    let logical =
        LogicalDecodingMessage { is_transactional: true, prefix: "convoy".to_owned(), content };
    assert_eq!(messages[8], Message::Logical(logical));
    assert_eq!(messages[9..], [Message::Type, Message::Origin]);
}

#[test]
fn a_message_cut_off_anywhere_is_an_error() {
    for sample in samples() {
        for end in 0..sample.len() {
            assert!(decode(&sample[..end]).is_err(), "{sample:?} up to {end}");
        }
        let longer = [&sample[..], b"\0"].concat();
        assert_eq!(decode(&longer), Err(DecodeError::LeftOver { len: 1 }));
    }
}

#[test]
fn counts_that_the_bytes_rule_out_allocate_nothing() {
    for (bytes, count) in [
        (&b"I\0\0\0\x05N\xff\xffn"[..], 65_535),
        (b"T\xff\xff\xff\xff\0\0\0\0\x05", 4_294_967_295),
        (b"R\0\0\0\x05\0t\0d\xff\xff\0v\0\0\0\0\x19\xff\xff\xff\xff", 65_535),
    ] {
        let error = decode(bytes);
        assert!(
            matches!(error, Err(DecodeError::TooMany { count: found, .. }) if found == count),
            "{error:?}"
        );
    }
}

#[test]
fn unknown_kinds_are_errors() {
    for tag in [b'X', b'E', b'b', b'P'] {
        assert_eq!(decode(&[tag]), Err(DecodeError::UnknownMessage { tag }));
    }
    assert_eq!(decode(b"I\0\0\0\x05K"), Err(DecodeError::UnknownTuple { tag: b'K' }));
    assert_eq!(decode(b"D\0\0\0\x05N"), Err(DecodeError::UnknownTuple { tag: b'N' }));
    assert_eq!(decode(b"I\0\0\0\x05N\0\x01x"), Err(DecodeError::UnknownColumn { tag: b'x' }));
    assert_eq!(decode(b"R\0\0\0\x05\0t\0x\0\0"), Err(DecodeError::UnknownIdentity { tag: b'x' }));
    assert_eq!(decode(b"Y\0\0\0\x05\xff\0t\0"), Err(DecodeError::NotUtf8 { field: "namespace" }));
}

#[test]
fn p9_values_in_binary_are_refused() {
    let error = decode(b"I\0\0\0\x05N\0\x01b\0\0\0\x011").expect_err("a value in binary");
    assert_eq!(error, DecodeError::BinaryColumn);
    assert_eq!(error.to_string(), "column in binary form, which was not asked for");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_bytes_decode_or_are_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = decode(&bytes);
    }

    #[test]
    fn spoilt_messages_decode_or_are_an_error(
        which in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<prop::sample::Index>(),
    ) {
        let samples = samples();
        let mut bytes = which.get(&samples).clone();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let _ = decode(&bytes);
        let _ = decode(&bytes[..cut.index(bytes.len())]);
    }
}
