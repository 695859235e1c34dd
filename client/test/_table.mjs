// The machine's table, as the code has it: each event in each state.

import { INITIAL, step } from "../dist/client/machine.js";

const A = { query: "a", args: {} };
const B = { query: "b", args: {} };
const ERROR = { code: "X", message: "x" };
const HELLO = { session: "s1", resumed: false, heartbeat_ms: 15_000 };

function run(state, ...events) {
  return events.reduce((now, event) => step(now, { attempt: now.attempt, at: 0, ...event }).state, state);
}

const want = { type: "want", add: [{ sub: "1", reference: A }], drop: [] };
const more = { type: "want", add: [{ sub: "2", reference: B }], drop: [] };
const hello = { type: "hello", hello: HELLO };
const transition = { type: "transition", id: "t1", transition: { lsn: "0/1", updates: [] } };
const connecting = run(INITIAL, want);
// With a change of the session on its way, and something to resume.
const live = run(connecting, hello, transition, more);
const polling = run(connecting, { type: "opened" }, { type: "timeout" }, hello, transition, more);
const waiting = run(live, { type: "ended", message: "x" });

export const STATES = {
  idle: INITIAL,
  connecting,
  resuming: run(waiting, { type: "woke" }),
  live,
  polling,
  waiting,
  offline: run(live, { type: "offline" }),
  closed: run(live, { type: "close" }),
};

const refused = (status) => ({ type: "refused", status, error: ERROR });
const goodbye = (code, retry_ms) => ({ type: "goodbye", goodbye: { code, message: "x", retry_ms, resume: true } });
const answered = (state) => ({ ...state, answered: true, greeted: false });
const silent = (state) => ({ ...state, answered: false, greeted: false });
const denied = (state) => ({ ...state, denied: true });
const unsubscribing = (state) => ({ ...state, post: state.post && { ...state.post, subscribe: [], unsubscribe: ["0"] } });
const asking = (...opening) => (state) => ({ ...answered(state), opening });
const several = (state) => ({ ...state, post: state.post && { ...state.post, subscribe: ["1", "2"] } });
const moved = (state) => ({ ...state, moved: true });
const same = (state) => state;

/** By the words of SPEC.md: the event, and what of the state the words presuppose. */
export const EVENTS = {
  "`want`: one more": [{ type: "want", add: [{ sub: "3", reference: A }], drop: [] }, same],
  "`want`: the last goes": [{ type: "want", add: [], drop: ["1", "2"] }, same],
  "`opened`": [{ type: "opened" }, silent],
  "`hello`, a new session": [{ type: "hello", hello: { ...HELLO, session: "s2" } }, answered],
  "`hello`, resumed": [{ type: "hello", hello: { ...HELLO, resumed: true } }, answered],
  "`transition`": [{ ...transition, id: "t2" }, same],
  "`misfit`": [{ type: "misfit", message: "x" }, same],
  "`retry`": [{ type: "retry", ms: 100 }, same],
  "`goodbye`, come back": [goodbye("UNAVAILABLE", 100), same],
  "`goodbye`, stay away": [goodbye("SUPERSEDED", null), same],
  "`goodbye` `UNAUTHORIZED`": [{ ...goodbye("UNAUTHORIZED", null), at: 3_600_000 }, same],
  "`goodbye` `UNAUTHORIZED` soon after a transition": [goodbye("UNAUTHORIZED", null), moved],
  "`goodbye` `UNAUTHORIZED`, again": [goodbye("UNAUTHORIZED", null), denied],
  "`ended`": [{ type: "ended", message: "x" }, moved],
  "`ended` without a transition, or in a session that was not resumed": [{ type: "ended", message: "x" }, (state) => ({ ...moved(state), strayed: true })],
  "`refused` 404": [refused(404), answered],
  "`refused` 401": [refused(401), answered],
  "`refused` 401, again": [refused(401), (state) => denied(answered(state))],
  "`refused` 400, 413, of several": [refused(400), asking("1", "2")],
  "`refused` 400, 413, of one": [refused(413), asking("1")],
  "`refused` 400, 413, of none; 403 …": [refused(403), answered],
  "`refused` 408, 429, 5xx": [refused(503), answered],
  "`timeout`, no answer": [{ type: "timeout" }, silent],
  "`timeout`, no `hello`": [{ type: "timeout" }, answered],
  "`timeout`, nothing more": [{ type: "timeout" }, (state) => (state.greeted ? state : { ...state, greeted: state.phase === "live" || state.phase === "polling" })],
  "`posted` 202": [{ type: "posted", id: 1, status: 202, error: null }, same],
  "`posted` 400, 413, of several": [{ type: "posted", id: 1, status: 413, error: ERROR }, several],
  "`posted` 400, 403, 413, 429, of what to subscribe to": [{ type: "posted", id: 1, status: 429, error: ERROR }, same],
  "`posted` 400, 403, 413, 429, of what is no longer wanted alone": [{ type: "posted", id: 1, status: 429, error: ERROR }, unsubscribing],
  "`posted`, anything else": [{ type: "posted", id: 1, status: 0, error: ERROR }, same],
  "`woke`": [{ type: "woke" }, same],
  "`online`": [{ type: "online" }, same],
  "`offline`": [{ type: "offline" }, same],
  "`visible`": [{ type: "visible", silentMs: 0 }, same],
  "`visible` after a sleep": [{ type: "visible", silentMs: 60_000 }, same],
  "`renew`": [{ type: "renew" }, same],
  "`close`": [{ type: "close" }, same],
  "any of an older stream": [{ ...transition, attempt: -1 }, same],
};

function nameOf(state) {
  return state.phase === "connecting" && state.token !== null ? "resuming" : state.phase;
}

/** Returns what a cell of the table says. */
export function cell(stateName, eventName) {
  const [event, given] = EVENTS[eventName];
  const before = given(STATES[stateName]);
  const { state, effects } = step(before, { attempt: before.attempt, at: 0, ...event });
  const done = effects.map(({ type }) => type).join(", ");
  const to = nameOf(state) === nameOf(before) ? "" : `→ ${nameOf(state)}`;
  if (state === before && effects.length === 0) return "";
  return [done, to].filter((part) => part !== "").join(" ") || "noted";
}

/** Returns a row of the table. */
export function row(eventName) {
  return `| ${eventName} | ${Object.keys(STATES).map((state) => cell(state, eventName)).join(" | ")} |`;
}
