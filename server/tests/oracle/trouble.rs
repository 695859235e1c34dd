//! What goes wrong while a seed runs: connections that end, a stream that is lost, and changes of tables that no row tells
//! of. Whatever it is, what is shown stays what Postgres says.

use super::dice::Dice;
use super::schema::Table;
use std::time::Duration;
use tokio_postgres::Client;

/// How often the stream may be lost: each time everything is read again, and between two there has to be something to
/// see.
const LOSSES_MAX: usize = 3;

/// Makes trouble until it is aborted.
pub async fn make_trouble(client: Client, tables: Vec<Table>, mut dice: Dice) {
    // Who waits for a lock holds up all who come after; the writers of a seed don't take breaks.
    client.batch_execute("SET lock_timeout = '200ms'").await.expect("a setting");
    let mut losses = 0;
    loop {
        tokio::time::sleep(Duration::from_millis(
            dice.between(50, 400).try_into().expect("positive"),
        ))
        .await;
        let table = dice.pick(&tables);
        let name = table.sql();
        let sql = match dice.below(10) {
            0 if losses < LOSSES_MAX => {
                losses += 1;
                end_one("walsender")
            }
            0..=4 => end_one("client backend"),
            5 if table.key_len > 0 => format!("ALTER TABLE {name} REPLICA IDENTITY FULL"),
            6 if table.key_len > 0 => format!("ALTER TABLE {name} REPLICA IDENTITY DEFAULT"),
            7 => format!("VACUUM FULL {name}"),
            8 => format!("CREATE INDEX ON {name} ((hid % 7))"),
            _ => format!("ANALYZE {name}"),
        };
        // A lock that was not to be had, say.
        let _ = client.batch_execute(&sql).await;
    }
}

/// Returns what ends one of Convoy's connections.
fn end_one(kind: &str) -> String {
    format!(
        "SELECT pg_terminate_backend(pid) FROM (SELECT pid FROM pg_stat_activity \
         WHERE datname = current_database() AND application_name = 'convoy' AND backend_type = '{kind}' \
         ORDER BY random() LIMIT 1) one"
    )
}
