//! Transactions put together from messages written by hand.

use super::*;
use bytes::{BufMut, BytesMut};
use convoy_types::{Lsn, Xid};
use proptest::prelude::*;

/// Messages of a table with oid 5 and the columns `id` (its key), `name` (its key too) and `note`.
fn relation(id: u32) -> Bytes {
    let mut message = BytesMut::from(&b"R"[..]);
    message.put_u32(id);
    message.put_slice(b"public\0t\0d");
    message.put_u16(3);
    for (name, flags) in [("id", 1), ("name", 1), ("note", 0)] {
        message.put_u8(flags);
        message.put_slice(name.as_bytes());
        message.put_u8(0);
        message.put_u32(25);
        message.put_i32(-1);
    }
    message.freeze()
}

fn begin(lsn: u64) -> Bytes {
    let mut message = BytesMut::from(&b"B"[..]);
    message.put_u64(lsn);
    message.put_i64(1);
    message.put_u32(77);
    message.freeze()
}

fn commit(lsn: u64) -> Bytes {
    let mut message = BytesMut::from(&b"C\0"[..]);
    message.put_u64(lsn);
    message.put_u64(lsn + 8);
    message.put_i64(1);
    message.freeze()
}

/// `~` stands for null, `^` for unchanged TOAST.
fn tuple(kind: u8, columns: [&str; 3]) -> Vec<u8> {
    let mut bytes = BytesMut::new();
    bytes.put_u8(kind);
    bytes.put_u16(3);
    for column in columns {
        match column {
            "~" => bytes.put_u8(b'n'),
            "^" => bytes.put_u8(b'u'),
            text => {
                bytes.put_u8(b't');
                bytes.put_u32(u32::try_from(text.len()).expect("a short text"));
                bytes.put_slice(text.as_bytes());
            }
        }
    }
    bytes.to_vec()
}

fn row_message(kind: u8, relation: u32, tuples: &[Vec<u8>]) -> Bytes {
    let mut message = BytesMut::new();
    message.put_u8(kind);
    message.put_u32(relation);
    tuples.iter().for_each(|tuple| message.put_slice(tuple));
    message.freeze()
}

fn insert(relation: u32, columns: [&str; 3]) -> Bytes {
    row_message(b'I', relation, &[tuple(b'N', columns)])
}

fn logical(prefix: &str, content: &[u8], flags: u8) -> Bytes {
    let mut message = BytesMut::from(&b"M"[..]);
    message.put_u8(flags);
    message.put_u64(3);
    message.put_slice(prefix.as_bytes());
    message.put_u8(0);
    message.put_u32(u32::try_from(content.len()).expect("a short content"));
    message.put_slice(content);
    message.freeze()
}

fn row(columns: [&str; 3]) -> Row {
    Row(columns
        .map(|column| match column {
            "~" => Datum::Null,
            "^" => Datum::UnchangedToast,
            "?" => Datum::Missing,
            text => Datum::Text(Bytes::copy_from_slice(text.as_bytes())),
        })
        .into())
}

fn push(assembler: &mut Assembler, message: Bytes) -> Option<Transaction> {
    assembler.push(message, Extent::Whole).expect("a message that fits")
}

fn run_with(budget: Budget, messages: &[Bytes]) -> Transaction {
    let mut assembler = Assembler::new(budget);
    push(&mut assembler, relation(5));
    push(&mut assembler, relation(6));
    push(&mut assembler, begin(100));
    for message in messages {
        assert!(push(&mut assembler, message.clone()).is_none());
    }
    push(&mut assembler, commit(100)).expect("a transaction")
}

const LARGE: Budget = Budget { rows_max: 1000, bytes_max: 1_000_000 };

fn changes(messages: &[Bytes]) -> Vec<ChangeKind> {
    match run_with(LARGE, messages).changes {
        Changes::Rows(rows) => rows.into_iter().map(|change| change.kind).collect(),
        Changes::Touched(relations) => panic!("only {relations:?}"),
    }
}

fn touched(transaction: &Transaction) -> Vec<u32> {
    match &transaction.changes {
        Changes::Rows(rows) => panic!("{} rows", rows.len()),
        Changes::Touched(relations) => relations.iter().map(|relation| relation.id.0).collect(),
    }
}

#[test]
fn a_transaction_has_the_positions_of_its_commit() {
    let transaction = run_with(LARGE, &[insert(5, ["1", "a", "~"])]);
    assert_eq!(transaction.xid, Xid(77));
    assert_eq!((transaction.commit_lsn, transaction.end_lsn), (Lsn(100), Lsn(108)));
}

#[test]
fn p9_key_tuples_are_keys_never_rows() {
    let update =
        row_message(b'U', 5, &[tuple(b'K', ["1", "a", "~"]), tuple(b'N', ["2", "a", "x"])]);
    let delete = row_message(b'D', 5, &[tuple(b'K', ["2", "a", "~"])]);
    assert_eq!(
        changes(&[update, delete]),
        [
            ChangeKind::Update {
                old: OldRow::Key(row(["1", "a", "?"])),
                new: row(["2", "a", "x"])
            },
            ChangeKind::Delete { old: OldRow::Key(row(["2", "a", "?"])) },
        ]
    );
}

#[test]
fn p9_unchanged_toast_comes_from_the_old_row_where_it_is_known() {
    let new = tuple(b'N', ["1", "^", "^"]);
    let full = row_message(b'U', 5, &[tuple(b'O', ["1", "long", "~"]), new.clone()]);
    let key = row_message(b'U', 5, &[tuple(b'K', ["1", "long", "~"]), new.clone()]);
    let none = row_message(b'U', 5, &[new]);
    let news = changes(&[full, key, none]).into_iter().map(|change| match change {
        ChangeKind::Update { new, .. } => new,
        other => panic!("{other:?}"),
    });
    let expected = [["1", "long", "^"], ["1", "long", "^"], ["1", "^", "^"]];
    assert_eq!(news.collect::<Vec<_>>(), expected.map(row));
}

#[test]
fn a_truncate_is_one_change_a_table() {
    let message = Bytes::from_static(b"T\0\0\0\x02\0\0\0\0\x06\0\0\0\x05");
    assert_eq!(changes(&[message]), [ChangeKind::Truncate, ChangeKind::Truncate]);
}

#[test]
fn past_its_budget_only_the_tables_are_kept() {
    let rows = Budget { rows_max: 2, ..LARGE };
    let two = [insert(6, ["1", "a", "b"]), insert(6, ["2", "a", "b"])];
    assert!(matches!(run_with(rows, &two).changes, Changes::Rows(rows) if rows.len() == 2));
    let three = [&two[..], &[insert(5, ["3", "a", "b"])]].concat();
    assert_eq!(touched(&run_with(rows, &three)), [5, 6]);

    let row_bytes = size_of::<RowChange>() + 3 * size_of::<Datum>() + 3;
    let bytes = Budget { bytes_max: 2 * row_bytes, ..LARGE };
    assert!(matches!(run_with(bytes, &two).changes, Changes::Rows(rows) if rows.len() == 2));
    assert_eq!(touched(&run_with(bytes, &three)), [5, 6]);
    let truncate = Bytes::from_static(b"T\0\0\0\x01\0\0\0\0\x05");
    assert_eq!(touched(&run_with(Budget { rows_max: 0, ..LARGE }, &[truncate])), [5]);
}

#[test]
fn a_row_of_which_only_the_head_came_is_touched() {
    let mut assembler = Assembler::new(LARGE);
    push(&mut assembler, relation(5));
    push(&mut assembler, begin(100));
    let head = insert(5, ["1", "a", "b"]).slice(..5);
    assert!(assembler.push(head, Extent::Head).expect("let go").is_none());
    let message = logical("convoy", b"x", 1).slice(..5);
    assert!(assembler.push(message, Extent::Head).expect("let go").is_none());
    assert_eq!(touched(&push(&mut assembler, commit(100)).expect("a transaction")), [5]);
    let head = relation(5).slice(..5);
    assert!(matches!(assembler.push(head, Extent::Head), Err(DecodeError::TooLarge { .. })));
}

#[test]
fn only_our_transactional_messages_are_kept() {
    let large = vec![0; MESSAGES_BYTES_MAX];
    let transaction = run_with(
        LARGE,
        &[
            logical("convoy", b"one", 1),
            logical("convoy.mutation", b"two", 1),
            logical("convoy", b"of no transaction", 0),
            logical("other", b"three", 1),
            logical("convoy", &large, 1),
            logical("convoy", b"", 1),
        ],
    );
    let kept = transaction.messages.iter().map(|m| (m.prefix.as_str(), &m.content[..]));
    let expected = [("convoy", &b"one"[..]), ("convoy.mutation", b"two"), ("convoy", b"")];
    assert_eq!(kept.collect::<Vec<_>>(), expected);
}

#[test]
fn a_description_holds_for_the_changes_after_it() {
    let mut assembler = Assembler::new(LARGE);
    push(&mut assembler, relation(5));
    push(&mut assembler, begin(100));
    push(&mut assembler, insert(5, ["1", "a", "b"]));
    let narrower = b"R\0\0\0\x05public\0t\0f\0\x01\x01id\0\0\0\0\x17\xff\xff\xff\xff";
    push(&mut assembler, Bytes::from_static(narrower));
    push(&mut assembler, Bytes::from_static(b"I\0\0\0\x05N\0\x01n"));
    let wide = assembler.push(insert(5, ["1", "a", "b"]), Extent::Whole);
    let error = DecodeError::ColumnCount { relation: RelationId(5), described: 1, sent: 3 };
    assert_eq!(wide.map(drop), Err(error));
    let transaction = push(&mut assembler, commit(100)).expect("a transaction");
    let Changes::Rows(rows) = transaction.changes else { panic!("no rows") };
    let widths = rows.iter().map(|change| change.relation.columns.len()).collect::<Vec<_>>();
    assert_eq!(widths, [3, 1]);
}

#[test]
fn messages_out_of_order_are_errors() {
    let out_of_order = |messages: &[Bytes]| {
        let mut assembler = Assembler::new(LARGE);
        let mut results =
            messages.iter().map(|m| assembler.push(m.clone(), Extent::Whole).map(drop));
        results.find_map(Result::err)
    };
    let insert = insert(5, ["1", "a", "b"]);
    let relation_5 = relation(5);
    for messages in [
        &[relation_5, insert.clone()][..],
        &[commit(1)],
        &[begin(1), begin(1)],
        &[begin(1), commit(2)],
        &[logical("convoy", b"", 1)],
    ] {
        let error = out_of_order(messages);
        assert!(matches!(error, Some(DecodeError::OutOfOrder { .. })), "{error:?}");
    }
    let unknown = DecodeError::UnknownRelation { relation: RelationId(5) };
    assert_eq!(out_of_order(&[begin(1), insert]), Some(unknown));
}

/// A message as it stands in a block: with the id of its (sub)transaction behind its kind.
fn of(xid: u32, message: &Bytes) -> Bytes {
    let mut streamed = BytesMut::from(&message[..1]);
    streamed.put_u32(xid);
    streamed.put_slice(&message[1..]);
    streamed.freeze()
}

fn block(assembler: &mut Assembler, xid: u32, messages: &[Bytes]) {
    let start = [&b"S"[..], &xid.to_be_bytes(), b"\x01"].concat();
    assert!(push(assembler, start.into()).is_none());
    for message in messages {
        assert!(push(assembler, message.clone()).is_none());
    }
    assert!(push(assembler, Bytes::from_static(b"E")).is_none());
}

fn stream_commit(xid: u32, lsn: u64) -> Bytes {
    let mut message = BytesMut::from(&b"c"[..]);
    message.put_u32(xid);
    message.put_slice(&commit(lsn)[1..]);
    message.freeze()
}

fn stream_abort(xid: u32, sub: u32) -> Bytes {
    [&b"A"[..], &xid.to_be_bytes(), &sub.to_be_bytes()].concat().into()
}

#[test]
fn blocks_of_open_transactions_come_between_others() {
    let mut assembler = Assembler::new(LARGE);
    let (row5, row6) = (insert(5, ["1", "a", "~"]), insert(6, ["1", "a", "~"]));
    block(&mut assembler, 200, &[of(200, &relation(5)), of(200, &row5)]);
    // A whole one, of a table that it describes for itself.
    push(&mut assembler, relation(5));
    push(&mut assembler, begin(100));
    push(&mut assembler, row5.clone());
    let whole = push(&mut assembler, commit(100)).expect("a transaction");
    assert!(matches!(whole.changes, Changes::Rows(rows) if rows.len() == 1));
    // Another open one; and the first goes on, in a savepoint too.
    block(&mut assembler, 300, &[of(300, &relation(6)), of(300, &row6)]);
    let mine = logical("convoy.mutation", b"mine", 1);
    let lost = logical("convoy.mutation", b"lost", 1);
    let messages = [of(200, &mine), of(201, &relation(6)), of(201, &row6), of(201, &lost)];
    block(&mut assembler, 200, &messages);
    assert!(push(&mut assembler, stream_abort(200, 201)).is_none());
    assert!(push(&mut assembler, stream_abort(300, 300)).is_none());
    let streamed = push(&mut assembler, stream_commit(200, 500)).expect("a transaction");
    assert_eq!(
        (streamed.xid, streamed.commit_lsn, streamed.end_lsn),
        (Xid(200), Lsn(500), Lsn(508))
    );
    // What was rolled back counts, which costs a refresh at most; what it said does not.
    assert_eq!(touched(&streamed), [5, 6]);
    assert_eq!(streamed.messages.len(), 1);
    assert_eq!(&streamed.messages[0].content[..], b"mine");
    assert!(assembler.push(stream_commit(300, 600), Extent::Whole).is_err(), "it was rolled back");
}

#[test]
fn what_a_streamed_transaction_describes_is_its_own_until_it_commits() {
    let mut assembler = Assembler::new(LARGE);
    push(&mut assembler, relation(5));
    let mut altered = BytesMut::from(&relation(5)[..]);
    let name = altered.windows(2).position(|bytes| bytes == b"t\0").expect("its name");
    altered[name] = b'u';
    let altered = of(200, &altered.freeze());
    block(&mut assembler, 200, &[altered, of(200, &insert(5, ["1", "a", "~"]))]);
    let name_of = |transaction: &Transaction| match &transaction.changes {
        Changes::Rows(rows) => rows[0].relation.name.clone(),
        Changes::Touched(relations) => relations[0].name.clone(),
    };
    let whole = |assembler: &mut Assembler, lsn| {
        push(assembler, begin(lsn));
        push(assembler, insert(5, ["1", "a", "~"]));
        name_of(&push(assembler, commit(lsn)).expect("a transaction"))
    };
    assert_eq!(whole(&mut assembler, 100), "t");
    let streamed = push(&mut assembler, stream_commit(200, 500)).expect("a transaction");
    assert_eq!(name_of(&streamed), "u");
    // The server takes it for told from then on.
    assert_eq!(whole(&mut assembler, 600), "u");
}

#[test]
fn a_row_in_a_block_may_be_of_any_size() {
    let mut assembler = Assembler::new(LARGE);
    push(&mut assembler, relation(5));
    let start = [&b"S"[..], &200_u32.to_be_bytes(), b"\x01"].concat();
    push(&mut assembler, start.into());
    let head = of(200, &insert(5, ["1", "a", "~"])).slice(..10);
    assert!(matches!(assembler.push(head, Extent::Head), Ok(None)));
    let message = of(200, &logical("convoy", b"x", 1)).slice(..10);
    assert!(matches!(assembler.push(message, Extent::Head), Ok(None)), "it is let go");
    let truncate = Bytes::from_static(b"T\0\0\0\xc8\0\0\0\x01");
    assert!(matches!(assembler.push(truncate, Extent::Head), Err(DecodeError::TooLarge { .. })));
    push(&mut assembler, Bytes::from_static(b"E"));
    assert_eq!(touched(&push(&mut assembler, stream_commit(200, 500)).expect("it")), [5]);
}

proptest! {
    #[test]
    fn spoilt_streams_are_transactions_or_an_error(
        picks in prop::collection::vec((0_usize..16, any::<bool>(), any::<u8>(), any::<prop::sample::Index>()), 0..60),
    ) {
        let messages = [
            begin(100),
            commit(100),
            relation(5),
            insert(5, ["1", "~", "^"]),
            insert(6, ["1", "~", "^"]),
            row_message(b'U', 5, &[tuple(b'O', ["1", "a", "~"]), tuple(b'N', ["1", "^", "^"])]),
            row_message(b'D', 5, &[tuple(b'K', ["1", "a", "~"])]),
            Bytes::from_static(b"T\0\0\0\x01\0\0\0\0\x05"),
            logical("convoy", b"x", 1),
            Bytes::from_static(b"S\0\0\0\xc8\x01"),
            of(200, &relation(6)),
            of(200, &insert(6, ["1", "~", "^"])),
            of(201, &logical("convoy", b"x", 1)),
            Bytes::from_static(b"E"),
            stream_commit(200, 500),
            stream_abort(200, 201),
        ];
        let mut assembler = Assembler::new(Budget { rows_max: 5, bytes_max: 2000 });
        for (which, is_spoilt, byte, at) in picks {
            let mut message = messages[which].to_vec();
            if is_spoilt {
                let at = at.index(message.len());
                message[at] = byte;
            }
            let extent = if byte == 0 { Extent::Head } else { Extent::Whole };
            if let Ok(Some(transaction)) = assembler.push(message.into(), extent)
                && let Changes::Rows(rows) = transaction.changes
            {
                prop_assert!(rows.len() <= 5);
            }
        }
    }
}
