//! Cuts with functions in them: messages move between channels, by psql and by mutations, while sessions show them through
//! functions and through SQL, in one cut. After each transition all that is shown is one and the same state.
//!
//! `CONVOY_SEED` runs another seed, `CONVOY_SEEDS=100` the first hundred.

use super::project::{Served, mutate};
use super::viewer::{Law, Seen, View, Viewer, to};
use crate::oracle::Dice;
use crate::support::connect;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::task::JoinSet;

const FUNCTIONS: &str = "
const of = (ctx, channel) => ctx.db.query('messages').withIndex('by_channel', (q) => q.eq('channel', channel));
export const list = query({ args: { channel: z.string() }, handler: (ctx, { channel }) => of(ctx, channel).collect() });
export const counts = query({
  args: { channels: z.array(z.string()) },
  handler: async (ctx, { channels }) => {
    const counts = {};
    for (const channel of channels) counts[channel] = (await of(ctx, channel).collect()).length;
    return counts;
  },
});
export const top = query((ctx) => ctx.db.query('messages').order('desc', 'rank').take(3));
export const stamps = query(async (ctx) => (await ctx.db.raw(sql`select sum((doc->>'rank')::int8)::float8 as n from messages`))[0].n);
export const followed = query(async (ctx) => {
  const pointer = await ctx.db.query('channels').first();
  return pointer === null ? [] : of(ctx, pointer.name).collect();
});
export const pointer = query((ctx) => ctx.db.query('channels').first());
export const move = mutation({
  args: { from: z.string(), to: z.string(), point: z.boolean() },
  handler: async (ctx, { from, to, point }) => {
    const message = await of(ctx, from).first();
    if (message === null) return false;
    await ctx.db.patch(message._id, { channel: to, rank: message.rank + 1 });
    if (point) {
      const pointer = await ctx.db.query('channels').first();
      await ctx.db.patch(pointer._id, { name: to });
    }
    return true;
  },
});
";

const CHANNELS: [&str; 4] = ["a", "b", "c", "d"];
const MESSAGES: i64 = 24;
/// Moves of each writer.
const MOVES: usize = 30;
const STATES: &str = "select _id, doc->>'channel' as channel, doc->'rank' as rank from messages";

fn seeds(usual: u64) -> std::ops::RangeInclusive<u64> {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    match (number("CONVOY_SEED"), number("CONVOY_SEEDS")) {
        (Some(seed), _) => seed..=seed,
        (None, many) => 1..=many.unwrap_or(usual),
    }
}

/// Where each message is, and how often it was moved.
type State = BTreeMap<String, (String, i64)>;

fn state(rows: &Value) -> State {
    let of = |row: &Value| {
        let text = |name: &str| row[name].as_str().unwrap_or_default().to_owned();
        (text("_id"), (text("channel"), row["rank"].as_f64().unwrap_or_default() as i64))
    };
    rows.as_array().into_iter().flatten().map(of).collect()
}

fn in_channel(all: &State, channel: &str) -> State {
    let is_there = |(_, (at, _)): &(&String, &(String, i64))| at == channel;
    all.iter().filter(is_there).map(|(id, at)| (id.clone(), at.clone())).collect()
}

/// Says that all that a view shows is the state that its SQL shows.
fn agree(view: &View) -> Result<(), String> {
    let of = |sub: &str| Some(view.of(sub)).filter(Seen::is_in_cut);
    let Some(all) = of("all").map(|seen| state(&seen.value())) else { return Ok(()) };
    let differs = |what: &str, shown: String| Err(format!("{what} shows {shown}, and SQL {all:?}"));
    for channel in CHANNELS {
        if let Some(seen) = of(channel)
            && state(&seen.value()) != in_channel(&all, channel)
        {
            return differs(channel, seen.value().to_string());
        }
    }
    if let Some(seen) = of("counts") {
        let counts = CHANNELS.map(|channel| in_channel(&all, channel).len());
        let shown = CHANNELS.map(|channel| seen.value()[channel].as_u64().unwrap_or(999) as usize);
        if counts != shown {
            return differs("counts", format!("{shown:?}"));
        }
    }
    let sum: i64 = all.values().map(|(_, rank)| rank).sum();
    for sub in ["stamps", "sum"] {
        let Some(seen) = of(sub) else { continue };
        let value = seen.value();
        let shown = if sub == "sum" { value[0]["n"].as_f64() } else { value.as_f64() };
        if shown.map(|n| n as i64) != Some(sum) {
            return differs(sub, value.to_string());
        }
    }
    if let Some(seen) = of("top") {
        let mut ranks: Vec<i64> = all.values().map(|(_, rank)| *rank).collect();
        ranks.sort_unstable_by_key(|rank| -rank);
        let shown: Vec<i64> = seen
            .field("rank")
            .iter()
            .map(|rank| rank.as_f64().unwrap_or_default() as i64)
            .collect();
        if ranks[..3] != shown {
            return differs("top", format!("{shown:?}"));
        }
    }
    if let (Some(followed), Some(pointer)) = (of("followed"), of("pointer")) {
        let channel = pointer.value()["name"].as_str().unwrap_or_default().to_owned();
        if state(&followed.value()) != in_channel(&all, &channel) {
            return differs(&format!("followed ({channel})"), followed.value().to_string());
        }
    }
    Ok(())
}

/// Asks it of each state, and that nothing goes back: each move makes the sum greater.
fn law() -> Law {
    let mut last = 0;
    Box::new(move |view: &View| {
        agree(view)?;
        let sum = view.of("sum");
        if sum.is_in_cut() {
            let now = sum.value()[0]["n"].as_f64().unwrap_or_default() as i64;
            if now < last {
                return Err(format!("{now} moves after {last}"));
            }
            last = now;
        }
        Ok(())
    })
}

fn panels(dice: &mut Dice) -> Value {
    let mut all: Vec<Value> = CHANNELS
        .iter()
        .map(|channel| to(channel, "t.list", json!({ "channel": channel })))
        .collect();
    all.extend([
        to("counts", "t.counts", json!({ "channels": CHANNELS })),
        to("stamps", "t.stamps", json!({})),
        to("top", "t.top", json!({})),
        to("followed", "t.followed", json!({})),
        to("pointer", "t.pointer", json!({})),
        json!({"sub": "sum", "sql": "select sum((doc->>'rank')::int8) as n from messages"}),
    ]);
    let mut some = dice.some(&all, 70);
    some.push(json!({ "sub": "all", "sql": STATES }));
    json!(some)
}

async fn write_as_psql(url: String, seed: u64, part: u64) -> usize {
    let client = connect(&url).await;
    let mut dice = Dice::new(seed, part);
    let mut done = 0;
    for _ in 0..MOVES {
        let (from, to) = (*dice.pick(&CHANNELS), *dice.pick(&CHANNELS));
        let moved = format!(
            "update messages set doc = doc || jsonb_build_object('channel', '{to}', 'rank', (doc->>'rank')::int8 + 1) \
             where _id = (select _id from messages where doc->>'channel' = '{from}' order by _id limit 1)"
        );
        let point = format!("update channels set doc = doc || '{{\"name\":\"{to}\"}}'");
        let script = match dice.below(6) {
            0 => format!("begin; {moved}; {point}; commit"),
            1 => format!("begin; {moved}; rollback"),
            2 => format!("begin; savepoint s; {moved}; rollback to s; {moved}; {moved}; commit"),
            // It goes and comes back under its id.
            3 => format!(
                "do $$ declare gone messages; begin \
                 delete from messages where _id = (select min(_id) from messages where doc->>'channel' = '{from}') \
                 returning * into gone; \
                 if found then insert into messages values (gone._id, gone._creation_time, \
                 gone.doc || jsonb_build_object('channel', '{to}', 'rank', (gone.doc->>'rank')::int8 + 1)); end if; end $$"
            ),
            _ => moved.clone(),
        };
        match client.batch_execute(&script).await {
            Ok(()) => done += 1,
            Err(error) => {
                assert!(error.as_db_error().is_some(), "{script}: {error}");
                client.batch_execute("rollback").await.expect("a rollback");
            }
        }
    }
    done
}

async fn write_by_mutations(address: SocketAddr, seed: u64, part: u64) -> usize {
    let mut dice = Dice::new(seed, part);
    let mut done = 0;
    for _ in 0..MOVES {
        let args = json!({ "from": dice.pick(&CHANNELS), "to": dice.pick(&CHANNELS), "point": dice.percent(30) });
        let answer = mutate(address, "t.move", &args, &[]).await;
        match answer.status.as_u16() {
            200 => done += 1,
            _ => assert_eq!(answer.code(), "CONFLICT", "{}", answer.body),
        }
    }
    done
}

/// What goes wrong meanwhile.
#[derive(Clone, Copy, PartialEq)]
enum Trouble {
    Nothing,
    /// The stream is lost, again and again.
    Stream,
    /// Tables are altered.
    Tables,
}

async fn trouble(url: String, trouble: Trouble) {
    let client = connect(&url).await;
    let mut round = 0;
    loop {
        round += 1;
        let sql = match trouble {
            Trouble::Nothing => return,
            Trouble::Stream => "select pg_terminate_backend(active_pid) from pg_replication_slots \
                 where database = current_database()"
                .to_owned(),
            Trouble::Tables => format!(
                "alter table messages add column c{round} int4 default {round}; \
                 create index i{round} on messages (c{round}); alter table messages drop column c{round}"
            ),
        };
        // It may lose against the writers.
        let _ = client.batch_execute(&sql).await;
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn functions_and_sql_of_one_cut_show_one_state() {
    run(Trouble::Nothing, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn functions_and_sql_of_one_cut_show_one_state_while_the_stream_is_lost() {
    run(Trouble::Stream, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn functions_and_sql_of_one_cut_show_one_state_while_tables_change() {
    run(Trouble::Tables, 1).await;
}

async fn run(what: Trouble, usual_seeds: u64) {
    for seed in seeds(usual_seeds) {
        println!("CONVOY_SEED={seed}");
        let served = Served::start("fn_oracle", &["--allow-sql"], FUNCTIONS).await;
        let fill = format!(
            "insert into messages (doc) select jsonb_build_object('channel', 'a', 'text', n::text, 'rank', 0) from generate_series(1, {MESSAGES}) n;
             insert into channels (doc) values ('{{\"name\":\"a\",\"topic\":\"t\"}}')"
        );
        served.write(&fill).await;
        let mut dice = Dice::new(seed, 99);
        let mut viewers = Vec::new();
        for _ in 0..3 {
            viewers.push(Viewer::under(served.address, panels(&mut dice), law()).await);
        }
        let mut writers = JoinSet::new();
        for part in 0..2 {
            writers.spawn(write_as_psql(served.url.clone(), seed, part));
            writers.spawn(write_by_mutations(served.address, seed, part + 10));
        }
        let troubled = tokio::spawn(trouble(served.url.clone(), what));
        // Some come while it goes on.
        for _ in 0..3 {
            viewers.push(Viewer::under(served.address, panels(&mut dice), law()).await);
        }
        let done: usize = writers.join_all().await.into_iter().sum();
        troubled.abort();
        assert!(done > MOVES * 2, "{done}");
        let sql = format!("select json_agg(s)::text from ({STATES}) s");
        let row = served.writer.query_one(&sql, &[]).await.expect("the state");
        let end = state(&serde_json::from_str(row.get(0)).expect("JSON"));
        assert_eq!(end.len() as i64, MESSAGES);
        for viewer in &mut viewers {
            viewer.until("the end", |view| state(&view.of("all").value()) == end).await;
        }
        let lsn = served.write("insert into notes values (1, 'end')").await;
        let mut transitions = 0;
        for mut viewer in viewers {
            viewer.passes(&lsn).await;
            let view = viewer.close().await;
            agree(&view).unwrap_or_else(|problem| panic!("{problem}"));
            transitions += view.transitions;
        }
        // Two of each: while the stream is lost there are few.
        assert!(transitions >= 12, "{transitions} transitions prove little");
        served.server.stop().await;
    }
}
