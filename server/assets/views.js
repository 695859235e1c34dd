// What the shop's panels show: one view for each query of the demo, and a plain table for any other.
//
// A view is {paint(result), isEmpty(result), empty, meta?(result)}.
// Leaves to others: the states around it (panels.js), how rows move (table.js), charts.

import { Figure } from "./figure.js";
import { clock, decimal, instant, money, perSecond, scaled } from "./format.js";
import { flash } from "./frame.js";
import { MinuteLine } from "./line.js";
import { KeyedTable } from "./table.js";

const noRows = (result) => Array.isArray(result.value) && result.value.length === 0;

function made(name, className, parent) {
  const element = document.createElement(name);
  element.className = className;
  parent.append(element);
  return element;
}

function tableView(content, columns, { empty, meta }) {
  const table = new KeyedTable(made("table", "", content), columns);
  return { paint: ({ keys, value }) => table.paint(keys, value), isEmpty: noRows, empty, meta };
}

export function latest(content) {
  return tableView(
    content,
    [
      { label: "order", kind: "key", text: (row) => String(row.id) },
      { label: "region", kind: "text region", text: (row) => row.region },
      {
        label: "status",
        kind: "text status",
        text: (row) => row.status,
        decorate: (cell, row) => {
          if (cell.dataset.status !== row.status) cell.dataset.status = row.status;
        },
      },
      { label: "total", kind: "number", text: (row) => money(row.total) },
      { label: "placed at", kind: "number time", text: (row) => clock(instant(row.placed_at)) },
    ],
    { empty: "No orders yet. Insert one into “orders”, from anywhere, and it appears here." },
  );
}

export function lowStock(content) {
  return tableView(
    content,
    [
      { label: "", kind: "key", text: (row) => String(row.id) },
      { label: "product", kind: "text wide", text: (row) => row.name },
      {
        label: "left",
        kind: "number",
        text: (row) => (row.stock === 0 ? "none" : String(row.stock)),
        decorate: (cell, row) => {
          const low = String(row.stock <= row.reorder_level);
          if (cell.dataset.low !== low) cell.dataset.low = low;
        },
      },
      { label: "reorder at", kind: "number", text: (row) => String(row.reorder_level) },
    ],
    {
      empty: "Every product has ten or more in stock. Set one's “stock” lower, and it appears here.",
      meta: ({ value }) => (value.length === 1 ? "1 product" : `the ${value.length} lowest`),
    },
  );
}

/** Bars from zero, on one scale, and a check that the parts and the whole are from one snapshot. */
export function revenue(content, whole) {
  const list = made("div", "bars-list", content);
  const agree = made("p", "agree", content);
  const entries = new Map();
  const create = () => {
    const entry = made("div", "entry", list);
    const name = made("span", "", entry);
    const amount = made("span", "measure", entry);
    const fill = made("div", "fill", made("div", "track", entry));
    return { entry, name, amount, fill, text: null, share: null };
  };
  let checks = 0;
  let saidAt = 0;
  return {
    isEmpty: noRows,
    empty: "No orders, no revenue. Insert an order, and its region gets a bar.",
    paint({ keys, value }) {
      const greatest = Math.max(1, ...value.map((row) => Number(row.revenue)));
      for (const [key, { entry }] of entries) {
        if (keys.includes(key)) continue;
        entry.remove();
        entries.delete(key);
      }
      keys.forEach((key, index) => {
        const row = value[index];
        const slot = entries.get(key) ?? create();
        entries.set(key, slot);
        if (list.children[index] !== slot.entry) list.insertBefore(slot.entry, list.children[index] ?? null);
        const share = Math.max(0, Number(row.revenue) / greatest).toFixed(4);
        if (slot.share !== share) slot.fill.style.transform = `scaleX(${share})`;
        slot.share = share;
        const text = money(row.revenue, 2);
        if (slot.text === text) return;
        if (slot.text === null) slot.name.textContent = row.region;
        else flash(slot.amount);
        slot.amount.textContent = text;
        slot.text = text;
      });
    },
    /** Compares the regions with the total, digit for digit; call after both have been painted. */
    check(result) {
      const total = whole();
      if (result.status !== "ready" || total?.status !== "ready" || !total.value?.[0]) return;
      const parts = result.value.reduce((sum, row) => sum + (scaled(row.revenue, 6) ?? 0n), 0n);
      const difference = (scaled(total.value[0].revenue ?? "0", 6) ?? 0n) - parts;
      checks += 1;
      if (difference === 0n && performance.now() - saidAt < 1_000) return;
      saidAt = performance.now();
      agree.dataset.state = difference === 0n ? "ready" : "error";
      agree.textContent =
        difference === 0n
          ? `✓ adds up to the total, to the cent · ${decimal(checks)} checks`
          : `✕ The regions and the total differ by ${money(Number(difference) / 1e6)}. This must not be: please report it.`;
    },
  };
}

export function totals(content, rates) {
  const figures = made("dl", "figures", content);
  const slot = (label) => {
    const group = made("div", "", figures);
    made("dt", "", group).textContent = label;
    return { figure: new Figure(made("span", "", made("dd", "", group))), below: made("dd", "below", group) };
  };
  const orders = slot("orders");
  const revenueSum = slot("revenue");
  const average = slot("average order");
  const changes = slot("row changes on this page");
  let placedBefore = null; // [wall clock in ms, number of orders] a few seconds ago, for the rate.
  const paintRate = () => {
    const { changesPerSecond, transitionsPerSecond } = rates();
    changes.figure.set(perSecond(changesPerSecond));
    changes.below.textContent = `in ${perSecond(transitionsPerSecond)} transitions`;
  };
  return {
    isEmpty: noRows,
    empty: "No totals yet.",
    paint({ value: [row] }) {
      orders.figure.set(decimal(row.orders));
      revenueSum.figure.set(money(row.revenue ?? "0", 0));
      average.figure.set(row.average === null ? "–" : money(row.average));
      revenueSum.below.textContent = `exactly ${money(row.revenue ?? "0")}`;
      average.below.textContent = "revenue ÷ orders";
      const now = Date.now();
      const count = Number(row.orders);
      if (placedBefore === null || now - placedBefore[0] > 3_000) {
        if (placedBefore !== null) orders.below.textContent = `${perSecond(Math.max(0, ((count - placedBefore[1]) / (now - placedBefore[0])) * 1_000))} placed`;
        placedBefore = [now, count];
      }
    },
    tick: paintRate,
  };
}

export function minutes(content) {
  const line = new MinuteLine(made("div", "plot", content));
  const caption = made("p", "caption", content);
  const words = (nowMs) => {
    const { current, previous, trailing } = line.last(nowMs);
    const text =
      trailing === null
        ? `${decimal(current)} so far in the first minute`
        : `about ${decimal(trailing)} in the last 60 s · ${decimal(current)} so far in this minute, ${decimal(previous)} in the one before`;
    if (caption.textContent !== text) caption.textContent = text;
  };
  return {
    isEmpty: noRows,
    empty: "No orders yet. The line begins with the first one.",
    paint({ value }) {
      line.set(value.map((row) => [instant(row.minute), Number(row.orders)]));
      line.draw(Date.now());
      words(Date.now());
    },
    /** Time passes also when nothing changes. */
    tick(nowMs) {
      line.draw(nowMs);
      words(nowMs);
    },
  };
}

/** Any other query: its columns as they come. */
export function generic(content) {
  let table = null;
  let shape = "";
  const numeric = /^(int|float|numeric|money|oid)/;
  return {
    isEmpty: noRows,
    empty: "No rows. The first one that fits appears here.",
    paint({ columns, keys, value }) {
      const now = JSON.stringify(columns);
      if (now !== shape) {
        shape = now;
        content.replaceChildren();
        table = new KeyedTable(
          made("table", "", content),
          columns.map(({ name, type }) => ({
            label: name,
            kind: numeric.test(type) ? "number" : "text",
            text: (row) => (row[name] === null ? "null" : typeof row[name] === "object" ? JSON.stringify(row[name]) : String(row[name])),
          })),
        );
      }
      table.paint(keys, value);
    },
    meta: ({ value }) => `${value.length} rows`,
  };
}
