//! Publications that somebody changes by hand.

use crate::client::EventStream;
use crate::support::Fixture;

#[tokio::test]
async fn p1_publications_that_are_dropped_are_made_again() {
    let fixture = Fixture::start("faults_dropped", &[]).await;
    let mut stream = EventStream::open(fixture.address, "GET", "/api/query/all", &[], "").await;
    stream.expect("hello").await;
    stream.transition().await;
    fixture
        .write(
            "drop publication convoy_full; drop publication convoy_ins; \
             update orders set status = 'missed' where id = 1",
        )
        .await;
    let shows = async |stream: &mut EventStream, status: &str| loop {
        let updates = stream.transition().await.data["updates"].to_string();
        if updates.contains(status) {
            return;
        }
    };
    shows(&mut stream, "missed").await;
    // And from here on changes come again.
    fixture.write("update orders set status = 'seen' where id = 2").await;
    shows(&mut stream, "seen").await;
    fixture.server.stop().await;
}
