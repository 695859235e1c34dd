//! What goes wrong while a seed runs: connections that end, a stream that is lost, and changes of tables that no row tells
//! of. Whatever it is, what is shown stays what Postgres says.

use super::dice::Dice;
use super::schema::Table;
use super::writers::APPLICATION;
use rustix::process::{Pid, Signal, kill_process};
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
        if dice.percent(40) {
            stop_a_writer(&client, &mut dice).await;
            continue;
        }
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

/// A process that stands still until this is dropped.
struct Stopped(Pid);

impl Drop for Stopped {
    fn drop(&mut self) {
        let _ = kill_process(self.0, Signal::CONT);
    }
}

/// Lets the backend of a writer stand still for a moment, wherever it is: between its commit record and when others see
/// the commit, say, while a stream begins (docs/postgres.md, P6).
async fn stop_a_writer(client: &Client, dice: &mut Dice) {
    const SQL: &str = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() \
        AND application_name = $1 AND state <> 'idle' ORDER BY random() LIMIT 1";
    let Ok(Some(row)) = client.query_opt(SQL, &[&APPLICATION]).await else { return };
    let Some(pid) = Pid::from_raw(row.get(0)) else { return };
    if kill_process(pid, Signal::STOP).is_ok() {
        let _stopped = Stopped(pid);
        let pause = dice.between(5, 150).try_into().expect("positive");
        tokio::time::sleep(Duration::from_millis(pause)).await;
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
