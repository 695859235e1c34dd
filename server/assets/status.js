// The status page of `serve`: how the server is, and which queries it keeps live.
//
// Reads  GET /api/status   a JSON object; every number and text in it is shown, nested objects by their path,
//                          with the unit that its name ends in (_bytes, _seconds, _ms, _per_second).
//                          `replication.state`, `lag_bytes`, `lag_seconds`, `live_queries`, `sessions` also
//                          stand in the bar.
//        GET /api/queries  {"queries": [{id, name | sql, args | params, plan, subscribers, rows?}]}, or the list alone.
// Both once a second, one at a time, and not while nobody looks.

import { bytes, clock, decimal, duration, perSecond } from "./format.js";
import { KeyedTable } from "./table.js";

/** More rows than this make no page for a person; the rest is counted. */
const QUERIES_SHOWN_MAX = 200;

const by = (id) => document.getElementById(id);
const say = (element, text) => {
  if (element.textContent !== text) element.textContent = text;
};

let lastAnswer = null; // Wall clock, in ms.

async function ask(path) {
  const response = await fetch(path, { signal: AbortSignal.timeout(5_000), cache: "no-store" });
  const answer = await response.json().catch(() => null);
  if (!response.ok) throw new Error(answer?.error?.message ?? `${path} answered with status ${response.status}`);
  return answer;
}

function setState(panel, state, words) {
  panel.dataset.state = state;
  const note = panel.querySelector(".note");
  note.hidden = state === "ready";
  if (words) say(note, words);
}

// --- the server -------------------------------------------------------------------------------

/** Returns [path, value] for every number, text and truth value in a status, in its own order. */
function flatten(value, path = "") {
  if (value === null || typeof value !== "object") return [[path, value]];
  return Object.entries(value).flatMap(([name, inner]) => flatten(inner, path === "" ? name : `${path}.${name}`));
}

function inWords(path, value) {
  if (value === null) return "–";
  if (typeof value === "boolean") return value ? "yes" : "no";
  if (typeof value !== "number") return String(value);
  if (path.endsWith("_bytes")) return bytes(value);
  if (path.endsWith("_seconds")) return duration(value * 1_000);
  if (path.endsWith("_ms")) return duration(value);
  if (path.endsWith("_per_second")) return perSecond(value);
  return Number.isInteger(value) ? decimal(String(value)) : String(Number(value.toPrecision(4)));
}

/** Returns a path as a label: what the unit says is said with the number. */
function label(path) {
  return path
    .replace(/_(bytes|seconds|ms|per_second)$/, "")
    .replaceAll("_", " ")
    .replaceAll(".", " · ");
}

const facts = new Map(); // path → its <dd>

function paintStatus(status) {
  const seen = new Set();
  for (const [path, value] of flatten(status)) {
    seen.add(path);
    let slot = facts.get(path);
    if (slot === undefined) {
      const group = document.createElement("div");
      const name = group.appendChild(document.createElement("dt"));
      name.textContent = label(path);
      name.title = path;
      slot = group.appendChild(document.createElement("dd"));
      by("facts").append(group);
      facts.set(path, slot);
    }
    say(slot, inWords(path, value));
  }
  for (const [path, slot] of facts) {
    if (seen.has(path)) continue;
    slot.parentElement.remove();
    facts.delete(path);
  }
  const known = { ...status.replication, ...status };
  const seconds = typeof known.lag_seconds === "number" ? ` · ${known.lag_seconds.toFixed(1)}\u202fs` : "";
  say(by("lag"), typeof known.lag_bytes === "number" ? `${bytes(known.lag_bytes)}${seconds}` : "unknown");
  say(by("live-queries"), inWords("", countOf(known.live_queries)));
  say(by("sessions"), inWords("", countOf(known.sessions)));
  setState(by("server"), "ready");

  const replication = status.replication?.state ?? (typeof status.replication === "string" ? status.replication : "streaming");
  const streams = /^(streaming|live|up|connected)$/i.test(replication);
  paintConnection(streams ? "live" : "stale", streams ? "live" : `replication is ${replication}`);
}

/** A count may come alone or with its parts. */
function countOf(value) {
  return value !== null && typeof value === "object" ? (value.total ?? value.count ?? null) : (value ?? null);
}

function paintConnection(state, words) {
  by("connection").dataset.state = state;
  say(by("connection").querySelector(".words"), words);
  document.body.classList.toggle("disconnected", state !== "live");
}

// --- the queries ------------------------------------------------------------------------------

const table = new KeyedTable(document.querySelector(".queries"), [
  {
    label: "query",
    kind: "text statement",
    text: (query) => {
      const given = query.args ?? query.params;
      const some = given && Object.keys(given).length > 0 ? `  ${JSON.stringify(given)}` : "";
      return `${query.name ?? query.query ?? query.sql ?? ""}${some}`.replace(/\s+/g, " ").trim();
    },
  },
  { label: "plan", kind: "text", text: (query) => (typeof query.plan === "object" ? (query.plan?.kind ?? JSON.stringify(query.plan)) : String(query.plan ?? "–")) },
  { label: "rows", kind: "number", text: (query) => inWords("", countOf(query.rows)), decorate: named("rows") },
  { label: "subscribers", kind: "number", text: (query) => inWords("", Array.isArray(query.subscribers) ? query.subscribers.length : countOf(query.subscribers)), decorate: named("subscribers") },
  {
    label: "last changes",
    kind: "key",
    text: () => "",
    decorate: (cell, query) => {
      const link = cell.querySelector("a") ?? cell.appendChild(document.createElement("a"));
      const to = `api/queries/${encodeURIComponent(query.id)}/why`;
      if (link.getAttribute("href") === to) return;
      link.href = to;
      link.textContent = "why";
      link.setAttribute("aria-label", `The last changes that touched query ${query.id}`);
    },
  },
]);

/** On a phone the head of the table is gone, and each number brings its own name. */
function named(name) {
  return (inner) => {
    inner.parentElement.dataset.label = name;
  };
}

function paintQueries(answer) {
  const queries = Array.isArray(answer) ? answer : answer.queries;
  const shown = queries.slice(0, QUERIES_SHOWN_MAX);
  table.paint(
    shown.map((query) => String(query.id)),
    shown,
  );
  const rest = queries.length > shown.length ? `${decimal(shown.length)} of ${decimal(queries.length)}` : decimal(queries.length);
  say(by("queries").querySelector("[data-meta]"), rest);
  if (queries.length > 0) setState(by("queries"), "ready");
  else setState(by("queries"), "empty", "No query is live. Subscribe to one, with curl -N or a client, and it appears here.");
}

// --- once a second ----------------------------------------------------------------------------

async function poll() {
  try {
    paintStatus(await ask("api/status"));
    lastAnswer = Date.now();
  } catch (error) {
    const asOf = lastAnswer === null ? "" : `, showing data as of ${clock(lastAnswer)}`;
    paintConnection("error", `no answer${asOf}`);
    if (lastAnswer === null) setState(by("server"), "error", `The server does not answer: ${error.message}. See that convoy serve is running; this page asks again each second.`);
    return;
  }
  try {
    paintQueries(await ask("api/queries"));
  } catch (error) {
    setState(by("queries"), "error", `The list of live queries did not load: ${error.message}. This page asks again each second.`);
  }
}

async function run() {
  for (;;) {
    if (!document.hidden) await poll();
    await new Promise((resolve) => setTimeout(resolve, 1_000));
  }
}

run();
