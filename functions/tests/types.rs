//! What TypeScript says of the module `convoy`: what is right compiles, and what is wrong does not.

use crate::support::packages;
use std::fs;
use std::path::Path;
use std::process::Command;

/// Runs `tsc` on the files of `tests/types/`, where `@ts-expect-error` marks what has to be refused.
#[test]
fn the_types_promise_what_the_readme_shows() {
    let crate_folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let server = crate_folder.join("../client/src/server").canonicalize().expect("the module");
    let modules = packages().join("node_modules");
    for zod in ["zod", "zod3"] {
        let folder = tempfile::tempdir().expect("a folder");
        let config = serde_json::json!({
            "compilerOptions": {
                "strict": true, "noEmit": true, "target": "es2022", "module": "esnext", "moduleResolution": "bundler",
                "lib": ["es2023", "dom"], "types": [], "skipLibCheck": true, "allowImportingTsExtensions": true,
                "noUncheckedIndexedAccess": true, "exactOptionalPropertyTypes": true, "erasableSyntaxOnly": false,
                "paths": {
                    "convoy": [server.join("index.ts")],
                    "convoy:server/*": [server.join("*")],
                    "zod": [modules.join(zod)],
                }
            },
            "include": [crate_folder.join("tests/types"), crate_folder.join("js")],
        });
        let path = folder.path().join("tsconfig.json");
        fs::write(&path, config.to_string()).expect("it can be written");
        let output =
            Command::new(modules.join(".bin/tsc")).arg("-p").arg(&path).output().expect("tsc runs");
        assert!(
            output.status.success(),
            "with {zod}:\n{}",
            String::from_utf8_lossy(&output.stdout)
        );
    }
}
