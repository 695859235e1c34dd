// The state machine of one session with the server. Pure: an event goes in, the next state and what is to be done
// come out. It knows no clock, no dice, no timers and no network; SPEC.md has its table, and tests compare the two.
//
// Responsible for: when to connect, resume, wait, poll or give up, and what the session is to be told.
// Leaves to others: doing it (stream.ts), and the results themselves (results.ts).

import type { Goodbye, Hello, Reference, Transition, WireError } from "./wire.js";

export type Phase =
  /** Nothing is subscribed to, so there is no stream. */
  | "idle"
  /** A request is out, `hello` has not come. */
  | "connecting"
  /** The stream runs. */
  | "live"
  /** Something on the way holds streams back: one long poll follows the other. */
  | "polling"
  /** Until the next attempt. */
  | "waiting"
  /** The browser says that there is no network. */
  | "offline"
  /** For good: by `close`, or because the server said so. */
  | "closed";

/** Before the server has answered at all. */
export const ANSWER_TIMEOUT_MS = 20_000;
/** From the answer's head to `hello`, which follows at once unless a proxy holds it back. */
export const GREETING_TIMEOUT_MS = 4_000;
/** How long one poll may last. */
export const POLL_MS = 10_000;
/** After so long, one attempt is made to stream again. */
export const POLL_SPELL_MS = 10 * 60_000;
export const RETRY_FIRST_MS = 250;
export const RETRY_MAX_MS = 15_000;
/** A stream that lived this long ended for a new reason; a shorter one counts as one more failure in a row. */
export const STEADY_MS = 5_000;
/** A request says at most so much of what to subscribe to; the rest follows. The server takes 1 MiB by default. */
export const REQUEST_BYTES_MAX = 640 * 1024;
/** A session may use 65,536 names in its life by default; a new one begins before that. */
export const NAMES_MAX = 50_000;
/** A reference longer than this would not be taken, and is not sent: on the way it may only cost the connection. */
export const REFERENCE_BYTES_MAX = 1024 * 1024;

/** A subscription that somebody wants; `bytes` is at least what it takes in a request. */
interface Want {
  readonly reference: Reference;
  readonly bytes: number;
}

interface Post {
  readonly id: number;
  readonly subscribe: readonly string[];
  readonly unsubscribe: readonly string[];
}

export interface State {
  readonly phase: Phase;
  /** Counts streams; what an older one still reports is ignored. */
  readonly attempt: number;
  readonly wants: ReadonlyMap<string, Want>;
  /** What the session has been told of, and not that it is no longer wanted. Changes with `session`. */
  readonly told: ReadonlySet<string>;
  /**
   * What was refused for good: by this session, so that a new one is asked again; or by the whole request that named it
   * alone, which any session would be refused with, so that only somebody else's is.
   */
  readonly refused: ReadonlyMap<string, "session" | "request">;
  /** How many subscriptions a request may name: fewer after one was refused as a whole, to find the one that is why. */
  readonly namesMost: number;
  /** What the request that is out subscribes to. */
  readonly opening: readonly string[];
  readonly session: string | null;
  /** Resumes the session; what it stands for has been applied. */
  readonly token: string | null;
  readonly heartbeatMs: number;
  /** The change of the session that is on its way; one at a time, so that none overtakes another. */
  readonly post: Post | null;
  readonly posts: number;
  /** Names that the session has been told, ever. */
  readonly named: number;
  /** In a row, without a steady stream between. */
  readonly failures: number;
  /** The least wait, by `retry:`. */
  readonly retryMs: number;
  readonly poll: boolean;
  /** When polling began, by the driver's clock. */
  readonly pollSince: number;
  /** Whether the request that is out has an answer's head, and `hello`. */
  readonly answered: boolean;
  readonly greeted: boolean;
  /** When `hello` came, by the driver's clock. */
  readonly since: number;
  /** Whether a transition has come on this stream. */
  readonly moved: boolean;
  /** Whether a poll was to go on with a session, and another has begun. */
  readonly strayed: boolean;
  /** Whether the server has refused the credentials since it last sent a transition. */
  readonly denied: boolean;
  readonly everLive: boolean;
  /** Why there is no stream. */
  readonly error: WireError | null;
}

export type Event =
  | { readonly type: "want"; readonly add: readonly { sub: string; reference: Reference }[]; readonly drop: readonly string[] }
  | { readonly type: "opened"; readonly attempt: number }
  | { readonly type: "hello"; readonly attempt: number; readonly at: number; readonly hello: Hello }
  | { readonly type: "transition"; readonly attempt: number; readonly id: string; readonly transition: Transition }
  | { readonly type: "misfit"; readonly attempt: number; readonly at: number; readonly message: string }
  | { readonly type: "goodbye"; readonly attempt: number; readonly at: number; readonly goodbye: Goodbye }
  | { readonly type: "retry"; readonly attempt: number; readonly ms: number }
  | { readonly type: "ended"; readonly attempt: number; readonly at: number; readonly message: string }
  | { readonly type: "refused"; readonly attempt: number; readonly status: number; readonly error: WireError }
  | { readonly type: "timeout"; readonly attempt: number; readonly at: number }
  /** The answer to a change of the session; status 0 where none came. */
  | { readonly type: "posted"; readonly id: number; readonly status: number; readonly error: WireError | null }
  | { readonly type: "woke" }
  | { readonly type: "online" }
  | { readonly type: "offline" }
  /** Somebody looks at the page again; for so long nothing has come. */
  | { readonly type: "visible"; readonly silentMs: number }
  /** Somebody else is logged in. */
  | { readonly type: "renew" }
  | { readonly type: "close" };

export type Subscribe = { readonly sub: string } & Reference;

export type Effect =
  /** Begins a stream; `fresh` asks for new credentials first. */
  | {
      readonly type: "open";
      readonly attempt: number;
      readonly resume: string | null;
      readonly subscribe: readonly Subscribe[];
      readonly poll: number | null;
      readonly fresh: boolean;
    }
  /** Ends the stream that runs, and its watch. */
  | { readonly type: "abort" }
  /** From here on, silence of so many milliseconds is a `timeout`. */
  | { readonly type: "watch"; readonly ms: number }
  | {
      readonly type: "post";
      readonly id: number;
      readonly session: string;
      readonly subscribe: readonly Subscribe[];
      readonly unsubscribe: readonly string[];
    }
  | { readonly type: "apply"; readonly attempt: number; readonly transition: Transition }
  /** These get this error, which is final. */
  | { readonly type: "fail"; readonly subs: readonly string[]; readonly error: WireError }
  /** `woke` after `leastMs` and a random part of `ceilingMs`: full jitter, so that a crowd does not return at once. */
  | { readonly type: "sleep"; readonly leastMs: number; readonly ceilingMs: number }
  | { readonly type: "unsleep" }
  /** A session begins: until they are answered in it, the results that are here are old, each as old as it may be. */
  | { readonly type: "outdate" }
  /** Nothing is to be built upon the results that are here. */
  | { readonly type: "doubt" }
  /** The results that are here are somebody else's. */
  | { readonly type: "forget" };

export interface Step {
  readonly state: State;
  readonly effects: readonly Effect[];
}

export const INITIAL: State = {
  phase: "idle",
  attempt: 0,
  wants: new Map(),
  told: new Set(),
  refused: new Map(),
  namesMost: Infinity,
  opening: [],
  session: null,
  token: null,
  heartbeatMs: ANSWER_TIMEOUT_MS / 2,
  post: null,
  posts: 0,
  named: 0,
  failures: 0,
  retryMs: 0,
  poll: false,
  pollSince: 0,
  answered: false,
  greeted: false,
  since: 0,
  moved: false,
  strayed: false,
  denied: false,
  everLive: false,
  error: null,
};

/** Returns the state after `event`, and what is to be done; the same object where the event changes nothing. */
export function step(state: State, event: Event): Step {
  if ("attempt" in event && event.attempt !== state.attempt) return stay(state);
  switch (event.type) {
    case "want":
      return want(state, event);
    case "opened":
      return opened(state);
    case "hello":
      return hello(state, event);
    case "transition":
      return transition(state, event);
    case "misfit":
      return misfit(state, event);
    case "goodbye":
      return goodbye(state, event);
    case "retry":
      return hasStream(state) ? { state: { ...state, retryMs: Math.min(event.ms, 60_000) }, effects: [] } : stay(state);
    case "ended":
      return ended(state, event);
    case "refused":
      return refused(state, event);
    case "timeout":
      return timeout(state, event.at);
    case "posted":
      return posted(state, event);
    case "woke":
      return state.phase === "waiting" ? open(state) : stay(state);
    case "online":
      return state.phase === "waiting" || state.phase === "offline" ? open({ ...state, poll: false }) : stay(state);
    case "offline":
      return offline(state);
    case "visible":
      return visible(state, event.silentMs);
    case "renew":
      return renew(state);
    case "close":
      return close(state);
  }
}

export type ConnectionState = "connecting" | "live" | "reconnecting" | "offline" | "closed";

/** Returns the word for a state that users are shown. */
export function connectionState(state: State): ConnectionState {
  switch (state.phase) {
    case "live":
    case "polling":
      return "live";
    case "offline":
    case "closed":
      return state.phase;
    default:
      return state.everLive ? "reconnecting" : "connecting";
  }
}

/** Whether a request is out or may be. */
export function hasStream(state: State): boolean {
  return state.phase === "connecting" || state.phase === "live" || state.phase === "polling";
}

// The events.

function want(state: State, event: Event & { type: "want" }): Step {
  const wants = new Map(state.wants);
  const refused = new Map(state.refused);
  for (const sub of event.drop) {
    wants.delete(sub);
    refused.delete(sub);
  }
  const large: string[] = [];
  for (const { sub, reference } of event.add) {
    const { length } = JSON.stringify(reference);
    // A character takes at most three bytes of UTF-8; the rest is for the names around it.
    wants.set(sub, { reference, bytes: 3 * length + 128 });
    if (length <= REFERENCE_BYTES_MAX) continue;
    refused.set(sub, "request");
    large.push(sub);
  }
  const next = { ...state, wants, refused };
  if (state.phase === "closed") {
    const subs = event.add.map(({ sub }) => sub);
    const error = state.error ?? { code: "UNAVAILABLE", message: "the client was closed" };
    return { state: next, effects: subs.length > 0 ? [{ type: "fail", subs, error }] : [] };
  }
  if (wants.size === 0) return rest(next);
  const error = { code: "PAYLOAD_TOO_LARGE", message: `the arguments take more than ${REFERENCE_BYTES_MAX} bytes` };
  const failed: Effect[] = large.length > 0 ? [{ type: "fail", subs: large, error }] : [];
  return after(failed, state.phase === "idle" ? open(next) : tell(next));
}

function opened(state: State): Step {
  if (!hasStream(state) || state.greeted) return stay(state);
  // A buffered poll comes as a whole, when it is over.
  const ms = state.poll ? POLL_MS + ANSWER_TIMEOUT_MS : GREETING_TIMEOUT_MS;
  return { state: { ...state, answered: true }, effects: [{ type: "watch", ms }] };
}

function hello(state: State, { hello, at }: Event & { type: "hello" }): Step {
  if (!hasStream(state) || state.greeted) return stay(state);
  const goesOn = hello.resumed && state.session === hello.session;
  const told = new Set(goesOn ? state.told : []);
  for (const sub of state.opening) told.add(sub);
  const next: State = {
    ...state,
    phase: state.poll ? "polling" : "live",
    told,
    ...(goesOn ? {} : { refused: lasting(state.refused) }),
    namesMost: Math.max(1, state.namesMost * 2),
    opening: [],
    session: hello.session,
    token: hello.resumed ? state.token : null,
    heartbeatMs: hello.heartbeat_ms,
    post: goesOn ? state.post : null,
    named: (goesOn ? state.named : 0) + state.opening.length,
    answered: true,
    greeted: true,
    since: at,
    strayed: state.poll && state.token !== null && !goesOn,
    pollSince: state.poll && state.phase !== "polling" ? at : state.pollSince,
    everLive: true,
    error: null,
  };
  const begun: Effect[] = goesOn ? [] : [{ type: "outdate" }];
  return after([{ type: "watch", ms: silenceMs(next) }, ...begun], tell(next));
}

function transition(state: State, { id, transition, attempt }: Event & { type: "transition" }): Step {
  if (!hasStream(state) || !state.greeted) return stay(state);
  const gone = transition.updates.filter((update) => update.type === "error" && update.final === true);
  const next = gone.length > 0 ? without(state, gone.map((update) => update.sub), "session") : state;
  return {
    state: { ...next, token: id === "" ? state.token : id, moved: true, denied: false },
    effects: [{ type: "apply", attempt, transition }],
  };
}

function misfit(state: State, { message, at }: Event & { type: "misfit" }): Step {
  if (!hasStream(state)) return stay(state);
  // What is on the screen may be wrong from here on: start over, and build upon nothing.
  const { state: next, effects } = fail(steady(apart(state), at), { code: "INTERNAL", message });
  return { state: next, effects: [{ type: "abort" }, { type: "doubt" }, ...effects] };
}

function goodbye(state: State, { goodbye, at }: Event & { type: "goodbye" }): Step {
  if (!hasStream(state)) return stay(state);
  const kept = steady(goodbye.resume ? state : apart(state), at);
  const error = { code: goodbye.code, message: goodbye.message };
  if (goodbye.code === "UNAUTHORIZED" && !state.denied) {
    const renewed = { ...kept, denied: true };
    // Credentials that are good for a moment only are no reason to ask without a pause.
    const isBrief = state.moved && at - state.since <= STEADY_MS;
    return after([{ type: "abort" }], isBrief ? fail(renewed, error, goodbye.retry_ms ?? 0) : open(renewed));
  }
  if (goodbye.retry_ms === null) return shut(kept, error);
  return after([{ type: "abort" }], fail(kept, error, goodbye.retry_ms));
}

function ended(state: State, { message, at }: Event & { type: "ended" }): Step {
  if (!hasStream(state)) return stay(state);
  const isFruitful = state.moved || at - state.since > STEADY_MS;
  if (state.poll && state.greeted && isFruitful && !state.strayed) {
    // That is how a poll ends. Once in a while the way may have become clear.
    return open({ ...state, failures: 0, poll: at - state.pollSince < POLL_SPELL_MS });
  }
  return after([{ type: "abort" }], fail(steady(state, at), { code: "UNAVAILABLE", message }));
}

function refused(state: State, { status, error }: Event & { type: "refused" }): Step {
  if (!hasStream(state)) return stay(state);
  // The session is gone, or no longer ours; a new one is not.
  if (status === 404 && state.token !== null) return after([{ type: "abort" }], open(apart(state)));
  if (status === 401 && !state.denied) return after([{ type: "abort" }], open({ ...state, denied: true }));
  if ((status === 400 || status === 413) && state.opening.length > 0) return divided(state, error);
  const willPass = status >= 500 || status === 408 || status === 429;
  return willPass ? after([{ type: "abort" }], fail(state, error)) : shut(state, error);
}

/** One of what was asked for is why nothing of it was taken: asks for half of it, and then for the rest. */
function divided(state: State, error: WireError): Step {
  const { opening } = state;
  const half: State = { ...state, namesMost: Math.floor(opening.length / 2) };
  if (opening.length > 1) return after([{ type: "abort" }], open(half));
  // It was alone. Now without any: whether the server takes a stream at all is known before the others are tried.
  return after([{ type: "abort" }, { type: "fail", subs: opening, error }], open(without(half, opening, "request")));
}

function timeout(state: State, at: number): Step {
  if (!hasStream(state)) return stay(state);
  const error = { code: "TIMEOUT", message: "nothing came from the server in time" };
  if (state.greeted) return after([{ type: "abort" }], fail(steady(state, at), error));
  // An answer without a greeting: somebody on the way collects it first. A session that nobody has seen is not resumed.
  if (state.answered && !state.poll) return after([{ type: "abort" }], open({ ...state, poll: true }));
  // Some hold back even the head.
  return after([{ type: "abort" }], fail({ ...state, poll: !state.poll }, error));
}

function posted(state: State, { id, status, error }: Event & { type: "posted" }): Step {
  const { post } = state;
  if (post === null || post.id !== id) return stay(state);
  const next = { ...state, post: null };
  if (status >= 200 && status < 300) return tell({ ...next, namesMost: next.namesMost * 2 });
  const isRefused = status === 400 || status === 403 || status === 413 || status === 429;
  if (isRefused && post.subscribe.length > 0) {
    // Nothing of it was applied. To say again what to subscribe to would not help; what is no longer wanted still stands.
    const told = new Set([...state.told, ...post.unsubscribe]);
    if ((status === 400 || status === 413) && post.subscribe.length > 1) {
      // One of them is why.
      for (const sub of post.subscribe) told.delete(sub);
      const named = state.named - post.subscribe.length;
      return tell({ ...next, told, named, namesMost: Math.floor(post.subscribe.length / 2) });
    }
    const { state: last, effects } = tell(without({ ...next, told, namesMost: next.namesMost * 2 }, post.subscribe, "request"));
    const why = error ?? { code: "INTERNAL", message: `the server answered with status ${status}` };
    return { state: last, effects: [{ type: "fail", subs: post.subscribe, error: why }, ...effects] };
  }
  // The server does not know what we know: a new session puts both at the same place.
  const lost = apart(next);
  if (!hasStream(state)) return { state: lost, effects: [] };
  const why = error ?? { code: "UNAVAILABLE", message: "the session could not be told of a change" };
  return after([{ type: "abort" }], fail(lost, why));
}

function offline(state: State): Step {
  const error = { code: "UNAVAILABLE", message: "there is no network" };
  if (hasStream(state)) {
    return { state: { ...left(state), phase: "offline", error }, effects: [{ type: "abort" }] };
  }
  if (state.phase === "waiting") return { state: { ...state, phase: "offline", error }, effects: [{ type: "unsleep" }] };
  return stay(state);
}

function visible(state: State, silentMs: number): Step {
  if (state.phase === "waiting" || state.phase === "offline") return open(state);
  // A page that slept has not heard its timers.
  if (state.phase === "live" && silentMs > silenceMs(state)) return after([{ type: "abort" }], open(state));
  return stay(state);
}

function renew(state: State): Step {
  const fresh = { ...apart(state), refused: new Map(), namesMost: Infinity, denied: false, failures: 0, error: null };
  const effects: Effect[] = hasStream(state) ? [{ type: "abort" }, { type: "forget" }] : [{ type: "forget" }];
  if (state.phase === "offline") return { state: fresh, effects };
  if (fresh.wants.size === 0) return { state: { ...left(fresh), phase: "idle" }, effects };
  return after(effects, open(fresh));
}

function close(state: State): Step {
  if (state.phase === "closed") return stay(state);
  const effects: Effect[] = hasStream(state) ? [{ type: "abort" }] : state.phase === "waiting" ? [{ type: "unsleep" }] : [];
  return { state: { ...left(apart(state)), phase: "closed" }, effects };
}

// What they have in common.

function stay(state: State): Step {
  return { state, effects: [] };
}

function after(effects: readonly Effect[], { state, effects: more }: Step): Step {
  return { state, effects: [...effects, ...more] };
}

/** Begins the next stream. */
function open(state: State): Step {
  const subs: string[] = [];
  let bytes = 0;
  for (const [sub, wanted] of state.wants) {
    // What stands in the session that is resumed is not said again.
    if (state.token !== null && state.told.has(sub)) continue;
    const by = state.refused.get(sub);
    if (by === "request" || (by === "session" && state.token !== null)) continue;
    bytes += wanted.bytes;
    if (subs.length >= state.namesMost || (bytes > REQUEST_BYTES_MAX && subs.length > 0)) break;
    subs.push(sub);
  }
  const next: State = {
    ...left(state),
    // From poll to poll the session stands, and can be told of changes.
    phase: state.phase === "polling" && state.poll && state.token !== null ? "polling" : "connecting",
    opening: subs,
    ...(state.token === null ? { session: null, told: new Set<string>(), refused: lasting(state.refused), post: null, named: 0 } : {}),
  };
  const effect: Effect = {
    type: "open",
    attempt: next.attempt,
    resume: state.token,
    subscribe: entries(state, subs),
    poll: state.poll ? POLL_MS : null,
    fresh: state.denied,
  };
  const effects: Effect[] = [effect, { type: "watch", ms: ANSWER_TIMEOUT_MS + (state.poll ? POLL_MS : 0) }];
  return { state: next, effects: state.phase === "waiting" ? [{ type: "unsleep" }, ...effects] : effects };
}

/** Tells the session what it does not know yet, one change after the other. */
function tell(state: State): Step {
  if (state.phase !== "live" && state.phase !== "polling") return stay(state);
  if (state.session === null || state.post !== null) return stay(state);
  const unsubscribe = [...state.told].filter((sub) => !state.wants.has(sub));
  const subscribe: string[] = [];
  let bytes = unsubscribe.length * 32;
  for (const [sub, wanted] of state.wants) {
    if (state.told.has(sub) || state.refused.has(sub) || state.opening.includes(sub)) continue;
    bytes += wanted.bytes;
    if (subscribe.length >= state.namesMost || (bytes > REQUEST_BYTES_MAX && subscribe.length > 0)) break;
    subscribe.push(sub);
  }
  if (subscribe.length === 0 && unsubscribe.length === 0) return stay(state);
  if (state.named + subscribe.length > NAMES_MAX) return after([{ type: "abort" }], open(apart(state)));
  const told = new Set(state.told);
  for (const sub of unsubscribe) told.delete(sub);
  for (const sub of subscribe) told.add(sub);
  const id = state.posts + 1;
  return {
    state: { ...state, told, post: { id, subscribe, unsubscribe }, posts: id, named: state.named + subscribe.length },
    effects: [{ type: "post", id, session: state.session, subscribe: entries(state, subscribe), unsubscribe }],
  };
}

/** Nobody wants anything: there is no reason for a stream. */
function rest(state: State): Step {
  if (state.phase === "idle") return stay(state);
  const effects: Effect[] = hasStream(state) ? [{ type: "abort" }] : state.phase === "waiting" ? [{ type: "unsleep" }] : [];
  return { state: { ...left(apart(state)), phase: "idle", failures: 0, everLive: false, error: null }, effects };
}

/** Waits, and longer the more often it failed. */
function fail(state: State, error: WireError, leastMs = 0): Step {
  const failures = state.failures + 1;
  const ceilingMs = Math.min(RETRY_MAX_MS, RETRY_FIRST_MS * 2 ** Math.min(failures - 1, 16));
  return {
    state: { ...left(state), phase: "waiting", failures, error },
    effects: [{ type: "sleep", leastMs: Math.max(leastMs, state.retryMs), ceilingMs }],
  };
}

function shut(state: State, error: WireError): Step {
  const effects: Effect[] = [{ type: "abort" }];
  if (state.wants.size > 0) effects.push({ type: "fail", subs: [...state.wants.keys()], error });
  return { state: { ...left(apart(state)), phase: "closed", error }, effects };
}

/** The stream is no longer listened to. */
function left(state: State): State {
  return { ...state, attempt: state.attempt + 1, opening: [], answered: false, greeted: false, moved: false };
}

/** The session is not gone back to. */
function apart(state: State): State {
  return { ...state, session: null, token: null, told: new Set(), refused: lasting(state.refused), post: null, named: 0 };
}

/** These are not asked for again: not in this session, or in none. */
function without(state: State, subs: readonly string[], by: "session" | "request"): State {
  const told = new Set(state.told);
  const refused = new Map(state.refused);
  for (const sub of subs) {
    told.delete(sub);
    if (state.wants.has(sub)) refused.set(sub, by);
  }
  return { ...state, told, refused };
}

/** What a new session would be refused with, too. */
function lasting(refused: State["refused"]): State["refused"] {
  return new Map([...refused].filter(([, by]) => by === "request"));
}

function steady(state: State, at: number): State {
  return state.greeted && at - state.since > STEADY_MS ? { ...state, failures: 0 } : state;
}

function silenceMs(state: State): number {
  return state.poll ? POLL_MS + ANSWER_TIMEOUT_MS : state.heartbeatMs * 2;
}

function entries(state: State, subs: readonly string[]): Subscribe[] {
  return subs.map((sub) => ({ sub, ...(state.wants.get(sub) as Want).reference }));
}
