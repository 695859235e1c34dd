//! What a call costs above its host: `cargo bench -p convoy-functions --bench cost`.

#[expect(dead_code, reason = "the tests use the rest")]
#[path = "../tests/support.rs"]
mod support;

use convoy_functions::Limits;
use futures_util::StreamExt;
use serde_json::json;
use std::sync::Arc;
use std::time::{Duration, Instant};
use support::{Folder, Memory, Zod, query};

/// Calls of each function that are timed.
const CALLS: usize = 200;

/// Calls that follow one another without a pause, so many at a time.
const IN_A_ROW: (usize, usize) = (4_000, 8);

#[tokio::main(flavor = "current_thread")]
async fn main() {
    for zod in [Zod::Three, Zod::Four] {
        let trivial = "
            import { query } from '../_generated/server';
            import { z } from 'zod';
            export const add = query({ input: { a: z.number() }, handler: (ctx, { a }) => a + 1 });
            export const one = query({ input: { id: z.string() }, handler: (ctx, { id }) => ctx.db.get(id) });
        ";
        let folder = Folder::new(zod, &[("functions/trivial.ts", trivial)]);
        let began = Instant::now();
        let project = Arc::new(folder.load().expect("a project"));
        let loaded = began.elapsed();
        let limits = Limits { workers: 4, ready_contexts: 100, ..Limits::default() };
        let runtime = convoy_functions::Runtime::new(project.clone(), limits);
        let (began, resident) = (processor_time(), resident_kib());
        while runtime.ready_contexts() < 100 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let prepare = processor_time().saturating_sub(began) / 100;
        println!(
            "{zod:?}: {} KiB resident a ready context",
            resident_kib().saturating_sub(resident) / 100
        );
        let host = Arc::new(Memory::default());
        for (name, args) in
            [("trivial.add", json!({ "a": 1 })), ("trivial.one", json!({ "id": "t:1" }))]
        {
            let mut took = Vec::new();
            for _ in 0..CALLS {
                let began = Instant::now();
                query(&runtime, &host, name, args.clone()).await.expect("a value");
                took.push(began.elapsed());
                // What comes after a call is not the call's time.
                tokio::time::sleep(Duration::from_millis(15)).await;
            }
            took.sort();
            println!(
                "{zod:?} {name}: p50 {:?}, p99 {:?}; preparing a context {prepare:?} of processor time; loading {loaded:?}; modules {:?}",
                took[CALLS / 2],
                took[CALLS * 99 / 100],
                project.size()
            );
            let (calls, at_a_time) = IN_A_ROW;
            let (began, used) = (Instant::now(), processor_time());
            let all = (0..calls).map(|_| query(&runtime, &host, name, args.clone()));
            futures_util::stream::iter(all)
                .buffer_unordered(at_a_time)
                .for_each(|value| async move { drop(value.expect("a value")) })
                .await;
            println!(
                "{zod:?} {name}: {:.0} calls a second in a row, {:?} of processor time each",
                calls as f64 / began.elapsed().as_secs_f64(),
                processor_time().saturating_sub(used) / u32::try_from(calls).expect("few")
            );
        }
    }
}

/// What all threads of this process have used.
fn processor_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Memory of this process that is in RAM.
fn resident_kib() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux");
    statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).expect("a number of pages")
        * 4
}
