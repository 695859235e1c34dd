//! Writers: random transactions, several statements each, that meet on the same rows.

use super::dice::Dice;
use super::schema::{KEYS, Kind, Shape, Table, quoted};
use super::values::{has_key, key, value};
use tokio::sync::watch;
use tokio_postgres::Client;

/// Accounts between which money moves; the sum never changes.
pub const ACCOUNTS: usize = 24;

/// What became of a writer's transactions.
#[derive(Debug, Default, Clone, Copy)]
pub struct Outcome {
    pub committed: u64,
    pub rolled_back: u64,
    /// Refused by Postgres: a deadlock, a key that was taken.
    pub failed: u64,
}

/// What a writer's session is called.
pub const APPLICATION: &str = "oracle writer";

/// How a writer's session is set.
const SESSION: &str =
    "SET deadlock_timeout = '20ms'; SET lock_timeout = '400ms'; SET TimeZone = 'UTC'";

/// Returns what fills the tables at first.
pub fn seed_rows(tables: &[Table], dice: &mut Dice) -> String {
    let mut sql = String::new();
    for table in tables {
        for number in 0..KEYS {
            if table.key_len == 0 || dice.percent(70) {
                sql.push_str(&insert(table, number, "", dice));
                sql.push(';');
            }
        }
    }
    for account in 0..ACCOUNTS {
        let region = ["north", "South", "east"][account % 3];
        sql.push_str(&format!("INSERT INTO accounts VALUES ({account}, '{region}', 100);"));
    }
    sql
}

/// Transactions that don't wait for the subscribers' first answers: tables are published among them.
const BEFORE_ANSWERS: usize = 20;

/// Writes so many transactions, most of them once it may go on.
pub async fn write(
    client: Client,
    tables: Vec<Table>,
    mut dice: Dice,
    transactions: usize,
    mut go: watch::Receiver<bool>,
) -> Outcome {
    let session = format!("SET application_name = '{APPLICATION}'; {SESSION}");
    client.batch_execute(&session).await.expect("a writer's session");
    let mut outcome = Outcome::default();
    for number in 0..transactions {
        if number == BEFORE_ANSWERS {
            go.wait_for(|go| *go).await.expect("the run goes on");
        }
        // Decided before anything runs: what a transaction does never hangs on how another one went.
        let plan = Plan::new(&tables, &mut dice, number);
        match plan.run(&client).await {
            Ok(Ended::Committed) => outcome.committed += 1,
            Ok(Ended::RolledBack) => outcome.rolled_back += 1,
            Err(error) => {
                outcome.failed += 1;
                assert!(error.code().is_some(), "a writer lost its connection: {error:?}");
                let code = error.code().map_or("", |code| code.code());
                let expected = ["40P01", "40001", "55P03", "23505"];
                assert!(
                    expected.contains(&code),
                    "a writer's statement is wrong: {error:?}\n{:?}",
                    plan.statements
                );
                let _ = client.batch_execute("ROLLBACK").await;
            }
        }
    }
    outcome
}

enum Ended {
    Committed,
    RolledBack,
}

struct Plan {
    statements: Vec<String>,
    end: End,
}

enum End {
    Commit,
    Rollback,
    /// In two phases.
    Prepare(String),
}

impl Plan {
    fn new(tables: &[Table], dice: &mut Dice, number: usize) -> Plan {
        let mut statements = vec![format!(
            "BEGIN; SET LOCAL synchronous_commit = {}",
            dice.pick(&["on", "on", "off", "local"])
        )];
        let mut slept = false;
        for _ in 0..dice.between(1, 5) {
            match dice.below(20) {
                0 => {
                    statements.push("SAVEPOINT s".to_owned());
                    statements.push(operation(tables, dice));
                    statements.push(operation(tables, dice));
                    statements.push(
                        dice.pick(&["ROLLBACK TO s", "RELEASE s", "ROLLBACK TO s; RELEASE s"])
                            .to_string(),
                    );
                }
                1 if !slept => {
                    slept = true;
                    statements.push(format!(
                        "SELECT pg_sleep({})",
                        dice.pick(&["0.002", "0.01", "0.05"])
                    ));
                }
                2..=6 => statements.push(transfer(dice)),
                _ => statements.push(operation(tables, dice)),
            }
        }
        let end = match dice.below(30) {
            0..=2 => End::Rollback,
            3 => End::Prepare(format!("oracle-{number}-{}", dice.noise(8))),
            _ => End::Commit,
        };
        Plan { statements, end }
    }

    async fn run(&self, client: &Client) -> Result<Ended, tokio_postgres::Error> {
        for statement in &self.statements {
            client.batch_execute(statement).await?;
        }
        match &self.end {
            End::Commit => client.batch_execute("COMMIT").await?,
            End::Rollback => {
                client.batch_execute("ROLLBACK").await?;
                return Ok(Ended::RolledBack);
            }
            End::Prepare(name) => {
                client.batch_execute(&format!("PREPARE TRANSACTION '{name}'")).await?;
                client.batch_execute("SELECT pg_sleep(0.005)").await?;
                client.batch_execute(&format!("COMMIT PREPARED '{name}'")).await?;
            }
        }
        Ok(Ended::Committed)
    }
}

fn transfer(dice: &mut Dice) -> String {
    let (from, to, amount) = (dice.below(ACCOUNTS), dice.below(ACCOUNTS), dice.between(1, 9));
    format!(
        "UPDATE accounts SET balance = balance - {amount} WHERE id = {from}; \
         UPDATE accounts SET balance = balance + {amount} WHERE id = {to}"
    )
}

fn operation(tables: &[Table], dice: &mut Dice) -> String {
    let table = dice.pick(tables).clone();
    let number = dice.below(KEYS);
    let name = table.sql();
    match dice.below(100) {
        0 => match table.shape {
            Shape::Partitioned if dice.percent(50) => {
                format!("TRUNCATE {}", quoted(dice.pick::<String>(&table.leaves())))
            }
            _ => format!("TRUNCATE {name}"),
        },
        1..=25 => {
            let keep = if table.key_len == 0 { "" } else { " ON CONFLICT DO NOTHING" };
            // A truncated table fills up again.
            let numbers: Vec<usize> = if dice.percent(20) {
                (0..8).map(|_| dice.below(KEYS)).collect()
            } else {
                vec![number]
            };
            numbers
                .iter()
                .map(|number| insert(&table, *number, keep, dice))
                .collect::<Vec<_>>()
                .join(";")
        }
        26..=31 if table.key_len > 0 => {
            let key: Vec<String> = table.key().iter().map(|column| column.sql()).collect();
            let set = assignments(&table, dice);
            insert(
                &table,
                number,
                &format!(" ON CONFLICT ({}) DO UPDATE SET {set}", key.join(", ")),
                dice,
            )
        }
        32..=41 => format!("DELETE FROM {name} WHERE {}", has_key(&table, number, dice)),
        42..=47 if table.key_len > 0 => {
            let other = dice.below(KEYS);
            let set = table
                .key()
                .iter()
                .zip(key(&table, other))
                .map(|(column, value)| format!("{} = {value}", column.sql()));
            let set = set.collect::<Vec<_>>().join(", ");
            let taken = has_key(&table, other, dice);
            format!(
                "UPDATE {name} SET {set} WHERE {} AND NOT EXISTS (SELECT FROM {name} t WHERE {taken})",
                has_key(&table, number, dice)
            )
        }
        48..=53 => {
            format!(
                "UPDATE {name} SET {} WHERE n = {}",
                assignments(&table, dice),
                dice.between(-3, 9)
            )
        }
        54..=55 => {
            format!("UPDATE {name} SET n = n + 1 WHERE n BETWEEN 0 AND {}", dice.between(1, 5))
        }
        _ => format!(
            "UPDATE {name} SET {} WHERE {}",
            assignments(&table, dice),
            has_key(&table, number, dice)
        ),
    }
}

fn insert(table: &Table, number: usize, conflict: &str, dice: &mut Dice) -> String {
    let data = table.data();
    let names = table
        .key()
        .iter()
        .chain(data.iter().copied())
        .map(|column| column.sql())
        .collect::<Vec<_>>();
    let mut values = key(table, number);
    values.extend(data.iter().map(|column| value(column.kind, dice)));
    format!(
        "INSERT INTO {} AS t ({}) VALUES ({}){conflict}",
        table.sql(),
        names.join(", "),
        values.join(", ")
    )
}

fn assignments(table: &Table, dice: &mut Dice) -> String {
    let data: Vec<(String, Kind)> =
        table.data().iter().map(|column| (column.sql(), column.kind)).collect();
    let some = dice.some(&data, 25);
    some.iter()
        .map(|(name, kind)| format!("{name} = {}", value(*kind, dice)))
        .collect::<Vec<_>>()
        .join(", ")
}
