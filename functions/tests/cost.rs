//! What a call costs above its host: reported, and held below the bar.

use crate::support::{Folder, Memory, Zod, query};
use convoy_functions::Limits;
use serde_json::json;
use std::sync::Arc;
use std::time::{Duration, Instant};

#[tokio::test]
async fn a_trivial_call_costs_less_than_a_millisecond() {
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
            "{zod:?}: {} KiB resident a ready context (run alone)",
            resident_kib().saturating_sub(resident) / 100
        );
        let host = Arc::new(Memory::default());
        for (name, args) in
            [("trivial.add", json!({ "a": 1 })), ("trivial.one", json!({ "id": "t:1" }))]
        {
            let mut took = Vec::new();
            for _ in 0..50 {
                let began = Instant::now();
                query(&runtime, &host, name, args.clone()).await.expect("a value");
                took.push(began.elapsed());
                // A call's context is thrown away and another made: that is not the call's time.
                tokio::time::sleep(Duration::from_millis(15)).await;
            }
            took.sort();
            println!(
                "{zod:?} {name}: best {:?}, p50 {:?}, p90 {:?}; preparing a context {prepare:?} of processor time (run alone); loading {loaded:?}; modules {:?}",
                took[0],
                took[25],
                took[45],
                project.size()
            );
            // Other tests run at the same time, on as many processors: of what is measured beside them only the best counts,
            // which is still one call from beginning to end.
            assert!(took[0] < Duration::from_millis(1), "{zod:?} {name}: {took:?}");
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
