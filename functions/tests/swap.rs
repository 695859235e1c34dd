//! A new version takes the place of the old one, whole.

use crate::support::{Folder, Memory, Zod, query};
use convoy_functions::{Host, HostFuture};
use serde_json::json;
use std::sync::Arc;
use tokio::sync::Semaphore;

fn version(n: u32) -> String {
    format!(
        "import {{ query }} from '../_generated/server';
         import {{ n }} from '../n';
         export const get = query(async (ctx) => {{ await ctx.db.get('t:1' as any); return [n, {n}]; }});"
    )
}

/// A host that answers when it is let.
struct Gate(Semaphore);

impl Host for Gate {
    fn call<'a>(&'a self, _: &'a str, _: String) -> HostFuture<'a> {
        Box::pin(async {
            self.0.acquire().await.expect("open").forget();
            Ok("null".to_owned())
        })
    }
}

#[tokio::test]
async fn calls_under_way_end_on_their_version() {
    let folder = Folder::new(
        Zod::Three,
        &[("functions/v.ts", &version(1)), ("n.ts", "export const n = 1;")],
    );
    let runtime = Arc::new(folder.runtime());
    let gate = Arc::new(Gate(Semaphore::new(0)));
    let old = {
        let (runtime, gate) = (runtime.clone(), gate.clone());
        tokio::spawn(async move {
            runtime
                .call(
                    crate::support::call(convoy_functions::CallKind::Query, "v.get", json!({})),
                    gate,
                )
                .await
        })
    };
    // It has begun: the call knows its version from its first poll on.
    tokio::task::yield_now().await;
    folder.write("convoy/functions/v.ts", &version(2));
    folder.write("convoy/n.ts", "export const n = 2;");
    runtime.swap(Arc::new(folder.load().expect("a project")));
    let host = Arc::new(Memory::default());
    for _ in 0..10 {
        assert_eq!(
            query(&runtime, &host, "v.get", json!({})).await.expect("a value"),
            json!([2, 2])
        );
    }
    gate.0.add_permits(1);
    assert_eq!(old.await.expect("no panic").expect("a value"), "[1,1]");
}
