//! Several servers on one database.

use super::{FLAGS, Mirrors, Writers};
use crate::mirror::Mirror;
use crate::support::{Fixture, connect, text};

#[tokio::test(flavor = "multi_thread")]
async fn two_servers_on_one_database_do_not_meet() {
    let one = Fixture::start("two", &FLAGS).await;
    let other = Fixture::on(&one.url, &FLAGS).await;
    let (mut first, mut second) = (Mirrors::open(&one).await, Mirrors::open(&other).await);
    let writers = Writers::start(&one.url);
    // Tables that both publish, at the same time.
    let client = connect(&one.url).await;
    client
        .batch_execute("create table late (id int primary key); insert into late values (1)")
        .await
        .expect("a table");
    let late = "select id from late order by id";
    let (mut here, mut there) =
        tokio::join!(Mirror::of_sql(one.address, late), Mirror::of_sql(other.address, late));
    client.batch_execute("insert into late values (2)").await.expect("a write");
    here.shows_what(&client, late).await;
    there.shows_what(&client, late).await;
    writers.end().await;
    first.agree(&client).await;
    second.agree(&client).await;
    // One goes, and the other goes on.
    let slots =
        "select count(*)::text from pg_replication_slots where database = current_database()";
    assert_eq!(text(&client, slots).await.as_deref(), Some("2"));
    one.server.stop().await;
    assert_eq!(text(&client, slots).await.as_deref(), Some("1"));
    client
        .batch_execute("insert into late values (3); delete from orders where id > 2")
        .await
        .expect("writes");
    there.shows_what(&client, late).await;
    second.agree(&client).await;
    other.server.stop().await;
    assert_eq!(text(&client, slots).await.as_deref(), Some("0"));
}
