// The demo's page: one session for all panels, painted at most once a frame, and how long
// each commit took to be on the screen.
//
// Reads  GET  /demo/panels.json  {panels: [{id, title?, sql}], curl, change, own}
//        POST /api/sync          the panels, as ad hoc SQL (sync.js)
//        GET  /api/status        lag_bytes, lag_seconds, once a second
//        POST /demo/change       {sql, lsn}: one row, changed over a connection of its own

import { Sync, compareLsn } from "./convoy.js";
import { bytes, clock, decimal, duration, instant } from "./format.js";
import { painter, wallClock } from "./frame.js";
import { Histogram } from "./histogram.js";
import { LatencyWindow } from "./latency.js";
import { Panel } from "./panels.js";
import { generic, latest, lowStock, minutes, revenue, totals } from "./views.js";

const by = (id) => document.getElementById(id);
const say = (element, text) => {
  if (element.textContent !== text) element.textContent = text;
};

const panels = new Map(); // id → {panel, view}
const dirty = new Set();
const latencies = new LatencyWindow();
const histogram = new Histogram(by("histogram"), "full");
const spark = new Histogram(by("spark"), "bare");

// --- what came, and what is not painted yet ---------------------------------------------------

let pending = []; // Commit times, ms, of the transitions that the next paint shows.
let pendingLsn = null;
let counted = { changes: 0, transitions: 0, since: performance.now() };
let rates = { changesPerSecond: 0, transitionsPerSecond: 0 };

const sync = new Sync({
  url: "api/sync",
  onConnection: paintConnection,
  onTransition({ transition, changed }) {
    pendingLsn = transition.lsn;
    if (changed.size > 0) {
      for (const sub of changed) dirty.add(sub);
      counted.transitions += 1;
      for (const update of transition.updates) counted.changes += update.ops?.length ?? 0;
      // A page that nobody sees paints nothing: what it would measure is not commit to screen.
      if (transition.committed_at && !document.hidden) pending.push(instant(transition.committed_at));
    }
    repaint();
  },
});

const repaint = painter(
  () => {
    for (const id of dirty) {
      const result = sync.results.get(id);
      if (result) panels.get(id)?.panel.paint(result);
    }
    if (dirty.has("revenue") || dirty.has("totals")) {
      panels.get("revenue")?.view.check?.(sync.results.get("revenue"));
    }
    dirty.clear();
    const receipt = { commits: pending, lsn: pendingLsn };
    pending = [];
    return receipt;
  },
  (shownAt, { commits, lsn }) => {
    for (const committedAt of commits) latencies.record(shownAt - committedAt, performance.now());
    if (lsn !== null) noteShown(lsn, shownAt);
  },
);

document.addEventListener("visibilitychange", () => {
  pending = [];
  if (!document.hidden) sync.hurry();
});
addEventListener("online", () => sync.hurry());

// --- the bar ----------------------------------------------------------------------------------

function paintConnection() {
  const { word, since, message, asOf } = sync.connection;
  // Connected, but past the time by which a heartbeat was due.
  const overdue = word === "live" && sync.heartbeatMs !== null && Date.now() - Math.max(asOf ?? 0, since) > sync.heartbeatMs * 1.25;
  const [state, text] = {
    connecting: () => ["waiting", "connecting"],
    live: () => (overdue ? ["stale", `stale since ${clock(asOf ?? since)}`] : ["live", "live"]),
    reconnecting: () => ["stale", asOf === null ? `reconnecting: ${message}` : `reconnecting, showing data as of ${clock(asOf)}`],
    closed: () => ["error", `closed: ${message}. Reload the page to connect again.`],
  }[word]();
  by("connection").dataset.state = state;
  by("connection").title = message;
  say(by("connection").querySelector(".words"), text);
  document.body.classList.toggle("disconnected", state === "stale" || state === "error");
}

function paintLatency() {
  const summary = latencies.summary(performance.now());
  say(by("p50"), duration(summary.p50));
  say(by("p99"), duration(summary.p99));
  spark.set(summary);
  const section = document.querySelector('[data-panel="latency"]');
  section.dataset.state = summary.count === 0 ? "empty" : "ready";
  section.querySelector(".note").hidden = summary.count > 0;
  if (summary.count === 0) return;
  histogram.set(summary);
  const words = by("latency-words");
  if (summary.clockBehindMs > 2) {
    words.textContent = `This device's clock is at least ${duration(summary.clockBehindMs)} behind the database's, so these numbers are too small. Open the page on the machine that runs the demo.`;
  } else {
    const samples = summary.count === 1 ? "1 transition" : `${decimal(summary.count)} transitions`;
    words.innerHTML = "<strong></strong> <span></span>";
    words.firstChild.textContent = `p50 ${duration(summary.p50)} · p99 ${duration(summary.p99)} · max ${duration(summary.max)}`;
    words.lastChild.textContent = `of ${samples}, each from its newest commit to the frame that showed it; counts over time on a log axis.`;
  }
}

async function pollStatus() {
  try {
    const response = await fetch("api/status", { signal: AbortSignal.timeout(5_000), cache: "no-store" });
    if (!response.ok) throw new Error(`status ${response.status}`);
    const status = await response.json();
    const { lag_bytes: lagBytes, lag_seconds: lagSeconds } = { ...status.replication, ...status };
    const seconds = typeof lagSeconds === "number" ? ` · ${lagSeconds.toFixed(1)}\u202fs` : "";
    say(by("lag"), typeof lagBytes === "number" ? `${bytes(lagBytes)}${seconds}` : "unknown");
  } catch {
    say(by("lag"), "unknown");
  }
}

/** Runs `work` again and again, `ms` after it has ended: a slow answer does not pile up. */
async function every(ms, work) {
  for (;;) {
    if (!document.hidden) await work();
    await new Promise((resolve) => setTimeout(resolve, ms));
  }
}

function tick() {
  const now = performance.now();
  const seconds = (now - counted.since) / 1_000;
  rates = { changesPerSecond: counted.changes / seconds, transitionsPerSecond: counted.transitions / seconds };
  counted = { changes: 0, transitions: 0, since: now };
  paintConnection();
  // While nothing comes, no time passes on the page: a minute without news is not one without orders.
  const asOf = sync.connection.word === "live" ? Date.now() : (sync.connection.asOf ?? Date.now());
  for (const [id, { view }] of panels) {
    const result = sync.results.get(id);
    if (result?.status === "ready" && !view.isEmpty(result)) view.tick?.(asOf);
  }
}

// --- the button -------------------------------------------------------------------------------

const shown = []; // The last transitions that were on the screen: {lsn, at}, oldest first.
let awaited = null; // {lsn, show} of the change that the button made.

function noteShown(lsn, at) {
  shown.push({ lsn, at });
  if (shown.length > 512) shown.shift();
  settle();
}

function settle() {
  if (awaited === null) return;
  const hit = shown.find((entry) => entry.at >= awaited.pressedAt && compareLsn(entry.lsn, awaited.lsn) >= 0);
  if (!hit) return;
  awaited.show(hit.at - awaited.pressedAt);
  awaited = null;
}

by("change").addEventListener("click", async () => {
  const button = by("change");
  const outcome = by("outcome");
  button.disabled = true;
  const pressedAt = wallClock();
  try {
    const response = await fetch("demo/change", { method: "POST", signal: AbortSignal.timeout(10_000) });
    const answer = await response.json();
    if (!response.ok) throw new Error(answer.error?.message ?? `the server answered with status ${response.status}`);
    const code = document.createElement("code");
    code.textContent = answer.sql;
    const when = document.createElement("span");
    when.textContent = "committed; not on this screen yet …";
    outcome.replaceChildren(code, document.createElement("br"), when);
    awaited = {
      lsn: answer.lsn,
      pressedAt,
      show: (ms) => (when.textContent = `committed by ${answer.lsn}, and on this screen ${duration(ms)} after the click.`),
    };
    settle();
  } catch (error) {
    outcome.textContent = `No change is known to have been made: ${error.message}. Is the demo still running in its terminal?`;
  } finally {
    button.disabled = false;
  }
});

for (const button of document.querySelectorAll("[data-copy]")) {
  button.addEventListener("click", async () => {
    const code = button.closest(".recipe").querySelector("pre");
    try {
      await navigator.clipboard.writeText(code.textContent);
      button.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(code);
      button.textContent = "Selected";
    }
    setTimeout(() => (button.textContent = "Copy"), 1_500);
  });
}

// --- start ------------------------------------------------------------------------------------

const views = {
  latest,
  revenue: (content) => revenue(content, () => sync.results.get("totals")),
  minutes,
  low_stock: lowStock,
  totals: (content) => totals(content, () => rates),
};

async function start() {
  let list;
  try {
    const response = await fetch("demo/panels.json", { cache: "no-store" });
    if (!response.ok) throw new Error(`the server answered with status ${response.status}`);
    list = await response.json();
  } catch (error) {
    for (const section of document.querySelectorAll("[data-live]")) {
      const panel = new Panel({ id: section.dataset.panel }, () => ({}));
      panel.fail("The list of panels did not load:", `${error.message}. See that the demo is running, then reload the page.`);
    }
    by("connection").dataset.state = "error";
    say(by("connection").querySelector(".words"), "not connected");
    return;
  }
  for (const { id, title, sql } of list.panels) {
    let view;
    const panel = new Panel({ id, title, sql }, (content) => (view = (Object.hasOwn(views, id) ? views[id] : generic)(content)));
    panels.set(id, { panel, view });
    sync.subscribe(id, { sql });
  }
  for (const recipe of document.querySelectorAll("[data-recipe]")) {
    const line = list[recipe.dataset.recipe];
    recipe.hidden = !line;
    if (line) recipe.querySelector("pre").textContent = line;
  }
  sync.start();
  setInterval(tick, 1_000);
  setInterval(paintLatency, 250);
  every(1_000, pollStatus);
}

start();
