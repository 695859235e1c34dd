// Convoy in the browser, without a build step: one import for the pages that come with the server.
//
//   import { Sync } from "./convoy.js";
//   const sync = new Sync({ url: "/api/sync", onTransition: ({ changed }) => console.log(changed) });
//   sync.subscribe("a", { sql: "select id, status from orders order by id desc limit 10" });
//   sync.start();
//
// sse.js reads the stream, diff.js applies what it says, sync.js keeps the session.

export { Sync, compareLsn, retryDelay } from "./sync.js";
export { applyUpdate, applyOperations, applyPatch, LOADING, MisfitError } from "./diff.js";
export { SseParser } from "./sse.js";
