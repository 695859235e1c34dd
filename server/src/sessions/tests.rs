use super::*;
use crate::auth::Identity;
use crate::limits::MemoryLimits;
use crate::protocol::Numbers;
use convoy_engine::{
    Digest, ErrorCode, Outbox, OutboxState, Position, QueryError, Transition, Update, UpdateKind,
};
use convoy_types::Lsn;

fn sessions() -> Sessions {
    let memory = MemoryLimits::default().parts().expect("shares");
    Sessions::new(
        EventQueue::new(1 << 20, &memory),
        RequestLimits::default(),
        &memory,
        Arc::default(),
    )
}

fn claim(sub: &str, have: Option<Digest>) -> Claim {
    Claim { sub: sub.into(), have, bytes: 0 }
}

fn nobody() -> Caller {
    Identity::nobody().into()
}

fn transition(kind: UpdateKind) -> Transition {
    Transition {
        lsn: Lsn(7),
        committed_at: None,
        reflects: Vec::new(),
        updates: vec![Update { sub: "a".into(), kind }],
        position: Position::default(),
    }
}

fn final_error() -> UpdateKind {
    UpdateKind::Error { last: true, error: QueryError::new(ErrorCode::Unavailable, "gone") }
}

/// Writes what is in a stream's queue.
fn drain(session: &Session, queue: &Arc<StreamQueue>) -> String {
    let mut chunks = Vec::new();
    while let Some(item) = queue.take() {
        session.encode(queue, item, Numbers::Number, &mut chunks);
    }
    chunks.iter().map(|chunk| String::from_utf8_lossy(chunk)).collect()
}

/// Opens a session with one subscription whose first answer was sent; returns it with its token.
fn open(sessions: &Sessions) -> (Attached, String) {
    let attached = sessions.open(None, &nobody()).expect("room");
    let session = &attached.session;
    session.claim(&RequestLimits::default(), &[claim("a", None)]).expect("a free name");
    let mut outbox = session.outbox(&attached.queue);
    assert_eq!(outbox.send(transition(UpdateKind::Unchanged)), OutboxState::Ready);
    let frame = drain(session, &attached.queue);
    let token = frame.lines().find_map(|line| line.strip_prefix("id: ")).expect("a token");
    let token = token.to_owned();
    (attached, token)
}

/// The older stream's connection has taken a transition from its queue when the newer stream takes over: who hears of
/// it must be the newer one.
#[test]
fn what_an_older_stream_has_in_hand_is_told_by_the_newer() {
    let sessions = sessions();
    let (older, token) = open(&sessions);
    let mut outbox = older.session.outbox(&older.queue);
    outbox.send(transition(final_error()));
    let in_hand = older.queue.take().expect("the error");
    let newer = sessions.resume(&token, None, &Digests::new(), &nobody()).expect("it lives");
    let mut frames = Vec::new();
    let written = older.session.encode(&older.queue, in_hand, Numbers::Number, &mut frames);
    assert!(frames.is_empty() && written.updates == 0, "nobody reads it: {frames:?}");
    let told = drain(&newer.session, &newer.queue);
    assert!(told.contains(r#""type":"error","final":true"#), "{told:?}");
}

/// The same wish twice at once, as from a client that did not wait for the first answer.
#[test]
fn names_are_claimed_once_by_whoever_comes_first() {
    let sessions = sessions();
    let (attached, _) = open(&sessions);
    let names = [claim("a", None), claim("b", None)];
    let again = || attached.session.claim_free(&RequestLimits::default(), &names).expect("room");
    assert!(matches!(again()[..], [Standing::Stands, Standing::Free]));
    assert!(matches!(again()[..], [Standing::Stands, Standing::Stands]));
    attached.session.unsubscribe(&["b".into()]);
    assert!(matches!(again()[..], [Standing::Stands, Standing::Gone(_)]));
}

#[test]
fn what_the_client_has_is_known_by_its_token() {
    let sessions = sessions();
    let attached = sessions.open(None, &nobody()).expect("room");
    let session = &attached.session;
    let digest = Digest::read(&"1".repeat(32)).expect("a digest");
    session.claim(&RequestLimits::default(), &[claim("a", Some(digest))]).expect("a free name");
    assert_eq!(session.has("a"), None, "only asked after a resume");
    session.outbox(&attached.queue).send(transition(UpdateKind::Unchanged));
    let frame = drain(session, &attached.queue);
    let token = frame.lines().find_map(|line| line.strip_prefix("id: ")).expect("a token");
    let has = |token: &str, have: &Digests| {
        sessions.resume(token, None, have, &nobody()).expect("it lives");
        session.has("a")
    };
    assert_eq!(has(token, &Digests::new()), Some(digest));
    let other = Digest::read(&"2".repeat(32)).expect("a digest");
    assert_eq!(has(token, &Digests::from([("a".into(), other)])), Some(other));
    // Where the first answer never arrived, what it has from before is no base of a diff.
    let before = format!("{}-0", token.rsplit_once('-').expect("a number at its end").0);
    assert_eq!(has(&before, &Digests::new()), None);
}

#[test]
fn a_session_is_its_owners_alone() {
    let sessions = sessions();
    let (attached, token) = open(&sessions);
    let id = attached.session.wire_id();
    let (unknown, others) = (sessions.find("none", "null"), sessions.find(id, "{}"));
    assert_eq!(unknown.err(), others.err(), "it can't be told from one that is not there");
    let somebody = Identity::new(serde_json::json!({}), None).expect("small").into();
    assert!(sessions.resume(&token, None, &Digests::new(), &somebody).is_none());
    assert!(sessions.find(id, &nobody().key).is_ok());
    assert!(sessions.resume(&token, None, &Digests::new(), &nobody()).is_some());
}
