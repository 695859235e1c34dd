//! `createContext` of a project's `server.ts`: who calls, for queries, mutations and streams.

use super::project::{Folder, Served, functions};
use crate::client::{Answer, ask};
use crate::support::connect;
use convoy_postgres::testing;
use serde_json::json;
use std::net::SocketAddr;

/// By a session's cookie, which a table knows; without one it is nobody, and with a wrong one an error.
const SERVER: &str = "
import { convoyError } from 'convoy';

export async function createContext(req, base) {
  const session = req.headers.cookie?.match(/session=([^;]*)/)?.[1];
  if (session === undefined) return { ...base, auth: null };
  const [known] = await base.db.query('messages').withIndex('by_channel', (q) => q.eq('channel', session)).take(1);
  if (!known) throw convoyError('UNAUTHORIZED', 'no such session');
  return { ...base, auth: { userId: known.text } };
}
";

const FUNCTIONS: &str = "
export const who = query((ctx) => (ctx.auth === null ? 'nobody' : ctx.auth.userId));
export const note = mutation({
  args: {},
  handler: async (ctx) => {
    if (!ctx.auth) throw convoyError('UNAUTHORIZED', 'nobody');
    await ctx.db.insert('messages', { channel: 'notes', text: ctx.auth.userId, rank: 1 });
    return ctx.auth.userId;
  },
});
export const mine = query(async (ctx) => {
  const notes = await ctx.db.query('messages').withIndex('by_channel', (q) => q.eq('channel', 'notes')).collect();
  return notes.filter((note) => note.text === ctx.auth?.userId).length;
});
";

async fn call(address: SocketAddr, path: &str, cookie: &str) -> Answer {
    let headers = [("content-type", "application/json"), ("cookie", cookie)];
    ask(address, "POST", path, &headers, "{}").await
}

#[tokio::test(flavor = "multi_thread")]
async fn who_calls_is_what_create_context_says() {
    let url = testing::shared().await.database("fn_context").await;
    connect(&url).await.batch_execute(super::project::NOTES).await.expect("a table");
    let folder = Folder::new(&[("functions/t.ts", &functions(FUNCTIONS)), ("server.ts", SERVER)]);
    let served = Served::of(&url, &[], folder).await;
    for (session, user) in [("s1", "ada"), ("s2", "bob")] {
        served.message(session, user, 1).await;
    }
    let at = served.address;
    let who = async |cookie: &str| call(at, "/api/query/t.who", cookie).await;
    assert_eq!(who("other=1").await.json()["value"], "nobody");
    assert_eq!(who("a=b; session=s1").await.json()["value"], "ada");
    assert_eq!(who("session=s2").await.json()["value"], "bob");
    let refused = who("session=s3").await;
    assert_eq!((refused.status.as_u16(), refused.code().as_str()), (401, "UNAUTHORIZED"));

    let noted = call(at, "/api/mutation/t.note", "session=s1").await;
    assert_eq!(noted.json()["value"], json!("ada"));
    assert_eq!(call(at, "/api/mutation/t.note", "x=1").await.status, 401);
    // The same query and arguments: each has their own.
    assert_eq!(call(at, "/api/query/t.mine", "session=s1").await.json()["value"], 1);
    assert_eq!(call(at, "/api/query/t.mine", "session=s2").await.json()["value"], 0);
    served.server.stop().await;
}
