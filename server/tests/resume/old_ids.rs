//! Ids from long ago, from elsewhere, from nobody, and the same one twice.

use super::client::Client;
use super::news::read_until;
use crate::client::{EventStream, get, post};
use crate::support::{Fixture, until};
use serde_json::{Value, json};
use std::time::Duration;

fn keys(client: &Client, sub: &str) -> Vec<String> {
    client.subs.get(sub).map(|held| held.shown.keys.clone()).unwrap_or_default()
}

#[tokio::test]
async fn any_id_of_the_session_is_a_place_to_go_on_from() {
    let fixture = Fixture::start("resume_old", &["--allow-sql"]).await;
    let at = fixture.address;
    let all = json!([{"sub": "a", "query": "all"}]);
    // The client as it was after each transition.
    let mut client = Client::default();
    let mut wire = client.connect(at, &all, 0).await;
    read_until(&mut client, &mut wire, "a first answer", |client| client.transitions > 0).await;
    let mut past = vec![client.clone()];
    for id in 10..14 {
        fixture.write(&format!("insert into orders values ({id}, 7, 'open', 1)")).await;
        let key = id.to_string();
        read_until(&mut client, &mut wire, "the new row", |client| {
            keys(client, "a").contains(&key)
        })
        .await;
        past.push(client.clone());
    }
    drop(wire);
    let truth = keys(&client, "a");
    // Each of them, in any order, some twice; and each goes on with what it had then.
    for index in [4, 0, 2, 2, 3, 1, 4, 0] {
        let old = past[index].clone();
        for form in 0..4 {
            let mut again = old.clone();
            let before = again.transitions;
            let mut wire = again.connect(at, &all, form).await;
            read_until(&mut again, &mut wire, "what the others have", |again| {
                again.transitions > before
                    && !again.subs["a"].last.is_empty()
                    && keys(again, "a") == truth
            })
            .await;
        }
    }
    fixture.server.stop().await;
}

#[tokio::test]
async fn a_forged_id_is_no_session() {
    let fixture = Fixture::start("resume_forged", &[]).await;
    let at = fixture.address;
    let mut stream = EventStream::open(
        at,
        "POST",
        "/api/sync",
        &[],
        r#"{"subscribe":[{"sub":"a","query":"all"}]}"#,
    )
    .await;
    let hello = stream.expect("hello").await.data;
    let session = hello["session"].as_str().expect("a session").to_owned();
    let token = stream.transition().await.id.expect("a token");
    let (secret, number) = token.rsplit_once('-').expect("a secret and a number");
    let number: u64 = number.parse().expect("a number");
    let mut other = EventStream::open(at, "GET", "/api/query/all", &[], "").await;
    other.expect("hello").await;
    let of_query = other.transition().await.id.expect("a token");
    assert_ne!(secret, session, "who knows a session's id can't resume it");
    let forged = [
        format!("{session}-{number}"),
        // Of what was never sent.
        format!("{secret}-{}", number + 1000),
        format!("{secret}-18446744073709551616"),
        format!("{secret}--1"),
        format!("{secret}-"),
        format!("-{number}"),
        secret.to_owned(),
        "-".to_owned(),
        format!("{}-{number}", "0".repeat(32)),
        format!("{}-{number}", "ä".repeat(3000)),
        "%00-1".to_owned(),
        // A stream of one query is not resumed as one of many.
        of_query,
    ];
    for token in forged {
        let body = json!({ "resume": token }).to_string();
        let mut fresh = EventStream::open(at, "POST", "/api/sync", &[], &body).await;
        let hello = fresh.expect("hello").await.data;
        assert_eq!(hello["resumed"], json!(false), "{token}");
        assert_ne!(hello["session"], json!(session), "{token}");
    }
    // The other way round neither; and nobody has disturbed the session.
    let header = [("last-event-id", token.as_str())];
    let mut one = EventStream::open(at, "GET", "/api/query/all", &header, "").await;
    assert_eq!(one.expect("hello").await.data["resumed"], json!(false));
    assert_eq!(one.transition().await.data["updates"][0]["type"], "snapshot");
    fixture.write("insert into orders values (20, 7, 'open', 1)").await;
    assert_eq!(stream.transition().await.data["updates"][0]["type"], "diff");
    fixture.server.stop().await;
}

#[tokio::test]
async fn a_session_that_ended_is_not_resumed_and_a_digest_helps() {
    let fixture = Fixture::start("resume_ended", &["--session-ttl", "0.05"]).await;
    let at = fixture.address;
    let all = json!([{"sub": "a", "query": "all"}]);
    let mut client = Client::default();
    let mut wire = client.connect(at, &all, 0).await;
    read_until(&mut client, &mut wire, "a first answer", |client| client.transitions > 0).await;
    drop(wire);
    until("the session is forgotten", async || {
        get(at, "/api/status").await.json()["sessions"] == 0
    })
    .await;
    let session = client.session.clone().expect("a session");
    let answer = post(at, &format!("/api/sync/{session}"), r#"{"unsubscribe":["a"]}"#).await;
    assert_eq!(answer.status, 404);
    let digest = client.subs["a"].digest.clone();
    for (have, expected) in [(digest, "unchanged"), (None, "snapshot")] {
        let mut body = json!({"resume": client.token, "subscribe": all});
        if let Some(have) = have {
            body["have"] = json!({ "a": have });
        }
        let mut stream = EventStream::open(at, "POST", "/api/sync", &[], &body.to_string()).await;
        assert_eq!(stream.expect("hello").await.data["resumed"], json!(false));
        assert_eq!(stream.transition().await.data["updates"][0]["type"], expected);
    }
    fixture.server.stop().await;
}

/// At the moment at which a session's time is up, it is resumed or it is over, and either is said.
#[tokio::test(flavor = "multi_thread")]
async fn at_the_boundary_of_its_time_a_session_is_there_or_not() {
    let fixture = Fixture::start("resume_boundary", &["--session-ttl", "0.1"]).await;
    let at = fixture.address;
    let all = json!([{"sub": "a", "query": "all"}]);
    let (mut resumed, mut over) = (0, 0);
    // Where the boundary is depends on the machine: whoever was there comes later the next time, who was not, earlier.
    let mut wait = Duration::from_millis(100);
    for _ in 0..60 {
        let body = json!({ "subscribe": all }).to_string();
        let mut stream = EventStream::open(at, "POST", "/api/sync", &[], &body).await;
        stream.expect("hello").await;
        let token = stream.transition().await.id.expect("a token");
        drop(stream);
        tokio::time::sleep(wait).await;
        let body = json!({"resume": token, "subscribe": all}).to_string();
        let mut stream = EventStream::open(at, "POST", "/api/sync", &[], &body).await;
        let hello = stream.expect("hello").await.data;
        let update = stream.transition().await.data["updates"][0].clone();
        match hello["resumed"] == json!(true) {
            true => {
                assert_eq!(update["type"], "unchanged");
                resumed += 1;
                wait += Duration::from_millis(3);
            }
            false => {
                assert_eq!(update["type"], "snapshot");
                over += 1;
                wait = wait.saturating_sub(Duration::from_millis(3));
            }
        }
        // It lives: a change comes.
        let session = hello["session"].as_str().expect("a session");
        let answer = post(at, &format!("/api/sync/{session}"), r#"{"unsubscribe":[]}"#).await;
        assert_eq!(answer.status, 202, "a session that was just said to be there");
    }
    println!("{resumed} resumed, {over} over, the last after {wait:?}");
    assert!(resumed > 0 && over > 0, "{resumed} resumed, {over} over, the last after {wait:?}");
    fixture.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_who_resume_at_once_one_goes_on_and_the_others_are_told() {
    const RIVALS: usize = 24;
    let fixture = Fixture::start("resume_rivals", &[]).await;
    let at = fixture.address;
    for round in 0..5 {
        let all = json!([{"sub": "a", "query": "all"}]).to_string();
        let body = format!(r#"{{"subscribe":{all}}}"#);
        let mut stream = EventStream::open(at, "POST", "/api/sync", &[], &body).await;
        stream.expect("hello").await;
        let token = stream.transition().await.id.expect("a token");
        // All of them also subscribe to something new, of one name: it is the same wish.
        let body = json!({"resume": token, "subscribe": [
            {"sub": "a", "query": "all"}, {"sub": "b", "query": "orders.byTenant", "args": {"tenant": 7}},
        ]})
        .to_string();
        let mut rivals = tokio::task::JoinSet::new();
        for _ in 0..RIVALS {
            let body = body.clone();
            rivals.spawn(async move {
                let mut stream = EventStream::open(at, "POST", "/api/sync", &[], &body).await;
                assert_eq!(stream.status, 200);
                assert_eq!(stream.expect("hello").await.data["resumed"], json!(true));
                let mut seen = std::collections::BTreeSet::new();
                // Until it knows both, or is told to go.
                while seen.len() < 2 {
                    let event = stream.next().await.expect("a word before the end");
                    if event.name == "goodbye" {
                        assert_eq!(event.data["code"], "SUPERSEDED");
                        return None;
                    }
                    for update in event.data["updates"].as_array().expect("updates") {
                        assert_ne!(update["type"], "error", "{update}");
                        seen.insert(update["sub"].to_string());
                    }
                }
                Some(stream)
            });
        }
        let mut left: Vec<EventStream> = rivals.join_all().await.into_iter().flatten().collect();
        // Some may have known both before they were superseded; only one lives on.
        fixture.write(&format!("insert into orders values ({}, 7, 'open', 1)", 100 + round)).await;
        let mut told = 0;
        for stream in &mut left {
            loop {
                let event = stream.next().await.expect("a word");
                if event.name == "goodbye" {
                    assert_eq!(event.data["code"], "SUPERSEDED");
                    break;
                }
                if event.data["updates"].as_array().is_some_and(|updates| {
                    updates.iter().any(|update: &Value| update["type"] == "diff")
                }) {
                    told += 1;
                    break;
                }
            }
        }
        assert_eq!(told, 1, "of {} streams", left.len());
    }
    fixture.server.stop().await;
}
