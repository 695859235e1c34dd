//! Requests that no client would send: whatever the bytes, they are a request or an error that says why in few words,
//! and a resume token that is not one of ours is nobody's.
//!
//! `CONVOY_SPOILT=1000000` tries more of them, and `CONVOY_SEED` others.

use super::{ApiError, Numbers, OpeningRequest, Reference, SessionRequest, read_args, read_params};
use crate::auth::Identity;
use crate::limits::{MemoryLimits, RequestLimits};
use crate::pipeline::EventQueue;
use crate::sessions::{Digests, Sessions};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

/// Bodies of each kind, as clients send them.
const BODIES: [&str; 8] = [
    r#"{"subscribe":[{"sub":"a","sql":"select id from orders where id = $1","params":[7]},{"sub":"b","query":"orders.byTenant","args":{"tenant":7}}],"have":{"a":"00112233445566778899aabbccddeeff"}}"#,
    r#"{"unsubscribe":["a","b"],"await":"16/B374D848"}"#,
    r#"{"resume":"5d41402abc4b2a76b9719d911017c592-12","have":{"ä€":"00112233445566778899aabbccddeeff"}}"#,
    r#"{"sql":"select 1","params":[null,true,1e400,-0.0,12345678901234567890,"\ud83d\ude00",[1,[2]],{"k":"v"}]}"#,
    r#"{"tenant":7,"since":"2026-11-29T00:00:00Z","tags":["a","b"],"doc":{"a":{"b":[1,2,{}]}}}"#,
    r#"[1,"two",null,[3],{"four":4}]"#,
    r"{}",
    "",
];

/// What is put in at random places: what JSON is made of, and what breaks it.
const PIECES: [&[u8]; 22] = [
    b"{",
    b"}",
    b"[",
    b"]",
    b"\"",
    b"\\",
    b",",
    b":",
    b"null",
    b"1e999999",
    b"-",
    b"\\u0000",
    b"\\ud800",
    b"\xff",
    b"\xc3",
    b"\0",
    b"\n",
    b"\"sub\":",
    b"\"subscribe\":[",
    b"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[",
    b"{\"a\":{\"a\":{\"a\":",
    b"18446744073709551616",
];

/// More than any message says.
const MESSAGE_BYTES_MAX: usize = 1_000;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Returns bytes like these, with some changed, taken out, put in or said again.
fn spoil(bytes: &[u8], random: &mut SmallRng) -> Vec<u8> {
    let mut spoilt = bytes.to_vec();
    for _ in 0..random.random_range(0..6) {
        let at = random.random_range(0..=spoilt.len());
        match random.random_range(0..6) {
            0 => spoilt.truncate(at),
            1 if at < spoilt.len() => spoilt[at] = random.random(),
            2 if at < spoilt.len() => drop(spoilt.remove(at)),
            3 => {
                let from = random.random_range(0..=at);
                let again = spoilt[from..at].to_vec();
                spoilt.splice(at..at, again);
            }
            4 => {
                let piece = PIECES[random.random_range(0..PIECES.len())];
                // Now and then so deep that a reader that recurses would not come back.
                let times = if random.random_bool(0.02) { 2_000 } else { 1 };
                spoilt.splice(at..at, piece.repeat(times));
            }
            _ => {
                let other = BODIES[random.random_range(0..BODIES.len())].as_bytes();
                spoilt.splice(at..at, other.iter().copied());
            }
        }
    }
    spoilt
}

fn check<T>(read: Result<T, ApiError>, bytes: &[u8]) -> bool {
    if let Err(error) = &read {
        let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(300)]);
        assert!(!error.message.is_empty(), "{shown}");
        assert!(error.message.len() <= MESSAGE_BYTES_MAX, "{}: {shown}", error.message);
    }
    read.is_ok()
}

#[test]
fn any_bytes_are_a_request_or_an_error() {
    let (seed, count) = (number("CONVOY_SEED", 1), number("CONVOY_SPOILT", 20_000));
    println!("CONVOY_SEED={seed} CONVOY_SPOILT={count}");
    let mut random = SmallRng::seed_from_u64(seed);
    let (mut good, mut bad) = (0_u64, 0_u64);
    for _ in 0..count {
        let bytes = spoil(BODIES[random.random_range(0..BODIES.len())].as_bytes(), &mut random);
        let limit = [64, 64 << 10][random.random_range(0..2)];
        let outcomes = [
            check(SessionRequest::read(&bytes, limit), &bytes),
            check(OpeningRequest::read(&bytes, limit), &bytes),
            check(Reference::read_sql_body(&bytes, limit), &bytes),
            check(read_args(&bytes, limit), &bytes),
            check(read_params(&bytes, limit), &bytes),
        ];
        let read = outcomes.iter().filter(|is_good| **is_good).count() as u64;
        (good, bad) = (good + read, bad + 5 - read);
    }
    assert!(good > count / 10 && bad > count, "{good} were read and {bad} were not");
}

#[test]
fn a_token_that_is_not_ours_is_nobodys() {
    let memory = MemoryLimits::default().parts().expect("shares");
    let queue = EventQueue::new(1 << 20, &memory);
    let sessions = Sessions::new(queue, RequestLimits::default(), &memory, Default::default());
    let nobody = Identity::nobody().into();
    let attached = sessions.open(None, &nobody).expect("room");
    let mut chunks = Vec::new();
    attached.session.encode_first(&attached.queue, Numbers::Number, &mut chunks);
    let token = String::from_utf8(chunks.concat()).expect("UTF-8");
    let token = token.lines().find_map(|line| line.strip_prefix("id: ")).expect("a token");
    assert!(sessions.resume(token, None, &Digests::new(), &nobody).is_some(), "{token}");
    let seed = number("CONVOY_SEED", 1);
    let mut random = SmallRng::seed_from_u64(seed);
    let secret = token.rsplit_once('-').expect("a number at its end").0;
    for _ in 0..20_000 {
        let spoilt = spoil(token.as_bytes(), &mut random);
        let Ok(spoilt) = String::from_utf8(spoilt) else { continue };
        // With its secret, older positions are its own.
        let is_ours = spoilt.rsplit_once('-').is_some_and(|(before, _)| before == secret);
        let resumed = sessions.resume(&spoilt, None, &Digests::new(), &nobody).is_some();
        assert!(!resumed || is_ours, "seed {seed}: {spoilt:?}");
        let elsewhere = sessions.resume(&spoilt, Some("orders.byTenant"), &Digests::new(), &nobody);
        assert!(elsewhere.is_none(), "seed {seed}: {spoilt:?}");
    }
}
