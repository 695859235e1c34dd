//! Very many calls: none is lost, none waits for nothing.

use crate::support::{Folder, Memory, Zod, query};
use serde_json::json;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Each call asks the host three times, from two workers' threads to one task's: a lost wake-up would hang here.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_call_is_lost_among_thousands() {
    let sum = "
        import { query } from '../_generated/server';
        import { z } from 'zod';
        export const three = query({ input: z.object({ n: z.number() }), handler: async (ctx, { n }) => {
          await ctx.db.get('t:1' as any);
          await Promise.all([ctx.db.get('t:2' as any), ctx.db.get('t:3' as any)]);
          return n;
        }});
    ";
    let folder = Folder::new(Zod::Three, &[("functions/sum.ts", sum)]);
    let (runtime, host) = (Arc::new(folder.runtime()), Arc::new(Memory::default()));
    let began = Instant::now();
    let callers = (0..16).map(|caller| {
        let (runtime, host) = (runtime.clone(), host.clone());
        tokio::spawn(async move {
            for n in 0..150 {
                let call = query(&runtime, &host, "sum.three", json!({ "n": caller * 1000 + n }));
                let value =
                    tokio::time::timeout(Duration::from_secs(20), call).await.expect("not lost");
                assert_eq!(value.expect("a value"), json!(caller * 1000 + n));
            }
        })
    });
    for caller in callers.collect::<Vec<_>>() {
        caller.await.expect("no panic");
    }
    let rate = 2400.0 / began.elapsed().as_secs_f64();
    println!("{rate:.0} calls/s with a fresh context each");
    assert_eq!(host.asked().len(), 7200);
}
