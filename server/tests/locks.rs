//! Tables that somebody keeps readers out of.

use crate::client::EventStream;
use crate::support::Fixture;
use serde_json::json;

#[tokio::test]
async fn a_locked_table_holds_up_nobody_who_does_not_read_it() {
    let fixture = Fixture::start("locks", &["--allow-sql"]).await;
    fixture.write("create table other (id int4 primary key)").await;
    let open = async |sql: &str| {
        let path = format!("/api/sql?sql={}", sql.replace(' ', "%20"));
        let mut stream = EventStream::open(fixture.address, "GET", &path, &[], "").await;
        stream.expect("hello").await;
        stream
    };
    // Both are read again at every change.
    let mut locked = open("select count(*) as n from orders").await;
    let mut free = open("select count(*) as n from other").await;
    let value = |data: &serde_json::Value| data["updates"][0]["value"].clone();
    assert_eq!(value(&locked.transition().await.data), json!([{"n": 3}]));
    assert_eq!(value(&free.transition().await.data), json!([{"n": 0}]));

    fixture.write("begin; delete from orders; lock table orders in access exclusive mode").await;
    let holder = crate::support::connect(&fixture.url).await;
    // The first read of `orders` from now on waits, and both results are wanted at once.
    holder.batch_execute("insert into other values (1)").await.expect("a write");
    let mut late = open("select max(id) as id from orders").await;
    for n in 2..5 {
        holder.batch_execute(&format!("insert into other values ({n})")).await.expect("a write");
        let ops = loop {
            let ops = free.transition().await.data["updates"][0]["ops"].clone();
            if ops[0]["set"]["n"] == json!(n) {
                break ops;
            }
        };
        assert_eq!(ops[0]["op"], json!("update"));
    }
    fixture.write("commit").await;
    assert_eq!(locked.transition().await.data["updates"][0]["ops"][0]["set"], json!({"n": 0}));
    assert_eq!(value(&late.transition().await.data), json!([{"id": null}]));
    drop(holder);
    fixture.server.stop().await;
}

#[tokio::test]
async fn p2_who_waits_for_a_writer_is_told_its_name() {
    let fixture = Fixture::start("named_writer", &["--allow-sql", "--first-answer-max", "1"]).await;
    fixture.write("create table other (id int4 primary key)").await;
    fixture.write("begin; insert into other values (1)").await;
    let pid: i32 =
        fixture.writer.query_one("select pg_backend_pid()", &[]).await.expect("a pid").get(0);
    let path = "/api/sql?sql=select%20id%20from%20other";
    let mut stream = EventStream::open(fixture.address, "GET", path, &[], "").await;
    stream.expect("hello").await;
    // The reason, and not that it took too long: there is time enough to say it.
    let update = stream.transition().await.data["updates"][0].clone();
    let message = update["error"]["message"].as_str().expect("an error");
    assert!(message.contains(&format!("pg_terminate_backend({pid})")), "{message}");
    fixture.write("commit").await;
    fixture.server.stop().await;
}
