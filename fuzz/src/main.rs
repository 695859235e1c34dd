//! Bytes that nobody vouches for, put into everything that reads such: no panic, no memory or time out of proportion.
//!
//! One binary for all targets, since linking is what a short run would wait for: `CONVOY_FUZZ_TARGET` names the one.

#![no_main]

mod protocol;
mod requests;
mod sql;
mod stream;
mod texts;
#[path = "../../server/src/routes/url_params.rs"]
#[allow(dead_code)]
mod url_params;
mod values;

use std::sync::OnceLock;

/// A target's name, and what it does with bytes.
type Target = (&'static str, fn(&[u8]));

const TARGETS: [Target; 8] = [
    ("frames", stream::frames),
    ("pgoutput", stream::pgoutput),
    ("values", values::values),
    ("json", values::json),
    ("sql", sql::sql),
    ("texts", texts::texts),
    ("bodies", requests::bodies),
    ("urls", requests::urls),
];

fn target() -> fn(&[u8]) {
    let name = std::env::var("CONVOY_FUZZ_TARGET").unwrap_or_default();
    match TARGETS.iter().find(|(known, _)| *known == name) {
        Some((_, target)) => *target,
        None => {
            let known: Vec<_> = TARGETS.iter().map(|(known, _)| *known).collect();
            eprintln!("CONVOY_FUZZ_TARGET must be one of {}", known.join(", "));
            std::process::exit(2)
        }
    }
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    static TARGET: OnceLock<fn(&[u8])> = OnceLock::new();
    TARGET.get_or_init(target)(data);
});
