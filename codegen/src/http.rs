//! `http.ts`: the wire, for programs without the client: `fetch` and `EventSource`, and nothing else.

use crate::project::Project;
use crate::typescript::{API_PACKAGE, head};

/// What follows the imports, in TypeScript, as its own file: an editor can read it so.
const BODY: &str = include_str!("http.body.ts");

/// Returns the text of `http.ts`.
pub(crate) fn http(_project: &Project) -> String {
    let about = "Calls and subscriptions by fetch and EventSource alone, for programs without convoy/client.";
    let mut text = head(about);
    text.push_str(&format!(
        "// @ts-nocheck: a project may compile without the types of the web (\"lib\": [\"dom\"]).

import {{
  getFunctionName,
  type FunctionArgs,
  type FunctionReturnType,
  type MutationRef,
  type QueryRef,
}} from '{API_PACKAGE}';
import type {{ ServerContext }} from './server.js';

"
    ));
    text.push_str(BODY);
    text
}
