// The page: which queries it shows, and how. What comes is drawn once a frame, all panels in one go.

import * as latency from './latency.js';
import { watch } from './live.js';
import { put, Rows } from './rows.js';

const by = (id) => document.getElementById(id);
const money = new Intl.NumberFormat(undefined, { style: 'currency', currency: 'EUR' });
const count = new Intl.NumberFormat();
const clock = new Intl.DateTimeFormat(undefined, { timeStyle: 'medium' });
const cents = (amount) => Math.round(amount * 100);

/** Returns a maker of elements from one of the page's templates. */
const template = (id) => () => by(id).content.firstElementChild.cloneNode(true);

const branches = new Rows(by('branches'), {
  make: template('branch'),
  texts: ({ branch, accounts, balance }) => ({ branch, accounts: count.format(accounts), balance: money.format(balance) }),
  place: (element, { share }) => element.style.setProperty('--share', share),
});
const accounts = new Rows(by('accounts'), {
  make: template('account'),
  texts: ({ owner, branch, balance }) => ({ owner, branch, balance: money.format(balance) }),
});
const transfers = new Rows(by('transfers'), {
  make: template('transfer'),
  texts: ({ at, sender, receiver, amount }) => ({ at: clock.format(new Date(at)), sender, receiver, amount: money.format(amount) }),
});

/** Each panel: the queries that it shows, what it is empty without, and how it draws them. */
const panels = [
  {
    panel: by('totals'),
    shows: ['total', 'moved'],
    draw(total, moved) {
      put(by('balance'), money.format(total.rows[0].balance));
      put(by('count'), count.format(total.rows[0].accounts));
      put(by('moved'), money.format(moved.rows[0].amount));
      put(by('moves'), count.format(moved.rows[0].transfers));
    },
  },
  {
    panel: by('by-branch'),
    shows: ['branches', 'total'],
    draw({ keys, rows }, total) {
      const most = Math.max(...rows.map(({ balance }) => balance), 0.01);
      branches.draw(keys, rows.map((row) => ({ ...row, share: row.balance / most })));
      const sum = rows.reduce((sum, { balance }) => sum + cents(balance), 0);
      const agree = sum === cents(total.rows[0].balance);
      by('agree').dataset.state = agree ? 'ready' : 'error';
      by('agree').textContent = agree
        ? 'The branches add up to the total.'
        : `The branches add up to ${money.format(sum / 100)}, which is not the total.`;
    },
  },
  { panel: by('by-owner'), shows: ['accounts'], draw: ({ keys, rows }) => accounts.draw(keys, rows) },
  { panel: by('latest'), shows: ['latest'], draw: ({ keys, rows }) => transfers.draw(keys, rows) },
];

let latest = null; // All results, as of one moment.
let isDue = false; // Whether a frame is on its way that shows them.
let oldest = null; // When the first of the commits was made that it shows, in ms.

watch(
  {
    total: { query: 'accounts.total' },
    branches: { query: 'accounts.byBranch' },
    accounts: { query: 'accounts.list' },
    moved: { query: 'transfers.total' },
    latest: { query: 'transfers.latest' },
  },
  {
    onMove(results, committedAt) {
      // Nobody waited for a commit that was there before the page, or that comes while nobody looks.
      if (committedAt !== null && latest !== null && !document.hidden) oldest = Math.min(oldest ?? Infinity, Date.parse(committedAt));
      latest = results;
      if (!isDue) requestAnimationFrame(frame);
      isDue = true;
    },
    onState(state, words) {
      by('connection').dataset.state = state;
      document.body.classList.toggle('disconnected', state === 'stale' || state === 'error');
      const said = by('connection').querySelector('.words');
      if (said.textContent !== words) said.textContent = words;
    },
  },
);

function frame() {
  isDue = false;
  for (const { panel, shows, draw } of panels) drawPanel(panel, shows.map((name) => latest.get(name)), draw);
  const since = oldest;
  oldest = null;
  // After the frame is painted. One that shows several commits counts by the oldest.
  if (since !== null) setTimeout(() => latency.record(Date.now() - since, performance.now()));
}

document.addEventListener('visibilitychange', () => (oldest = null));

function drawPanel(panel, shown, draw) {
  const error = shown.find((result) => result.error !== null)?.error;
  const note = panel.querySelector('.note');
  if (error !== undefined) {
    panel.dataset.state = 'error';
    note.textContent = `This can’t be read: ${error}. Mend the query’s file below convoy/queries, and reload the page.`;
    return;
  }
  const isStale = shown.some(({ stale }) => stale);
  panel.dataset.state = isStale ? 'stale' : shown[0].rows.length === 0 ? 'empty' : 'ready';
  note.textContent = isStale ? 'Stale: this query is slow, and shows an earlier moment than the rest.' : (note.dataset.empty ?? '');
  if (shown[0].rows.length > 0 || !isStale) draw(...shown);
}

// The bar: how the last minute went, and how far behind the server is.

async function lag() {
  if (by('connection').dataset.state !== 'live') return '–';
  try {
    const status = await (await fetch('/api/status', { cache: 'no-store' })).json();
    const { lag_seconds: seconds } = { ...status.replication, ...status };
    return typeof seconds === 'number' ? `${seconds.toFixed(1)} s` : '–';
  } catch {
    return '–';
  }
}

setInterval(() => latency.draw({ p50: by('p50'), p99: by('p99'), histogram: by('histogram') }, performance.now()), 1_000);
setInterval(async () => document.hidden || (by('lag').textContent = await lag()), 2_000);
