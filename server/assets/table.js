// A table whose rows are known by key: what changed carries the accent, what came slides in,
// what went collapses.
//
// Responsible for: turning (keys, rows) into the fewest changes of the page, and for staying calm at high
// rates: past a few rows a second nothing slides, and only cells light up, not rows.
// Leaves to others: what a cell says (columns), and when to paint (frame.js).

import { flash, motionAllowed } from "./frame.js";

/** More arrivals a second than this, and rows are swapped in place without sliding. */
const CALM_ARRIVALS_PER_SECOND = 6;
/** More rows leaving at once than this are simply taken away. */
const LEAVING_MAX = 4;

export class KeyedTable {
  #body;
  #columns;
  #shown = new Map(); // key → {row, cells}
  #spare = []; // Rows taken off the page, to be used again: at high rates nothing is allocated.
  #painted = false;
  #arrivals = 0; // Decaying count of rows that came or went, about a second's worth.
  #countedAt = 0;

  /**
   * @param table    a <table> element; its head is written from the columns.
   * @param columns  [{name, label, text(row) → string, kind: "number" | "text" | "key", decorate?(td, row)}]
   */
  constructor(table, columns) {
    this.#columns = columns;
    const head = table.createTHead().insertRow();
    for (const { label, kind } of columns) {
      const cell = document.createElement("th");
      cell.scope = "col";
      cell.className = kind;
      cell.textContent = label;
      head.append(cell);
    }
    this.#body = table.createTBody();
  }

  paint(keys, rows) {
    const wanted = new Set(keys);
    const gone = [...this.#shown.keys()].filter((key) => !wanted.has(key));
    const came = keys.filter((key) => !this.#shown.has(key));
    const calm = this.#count(gone.length + came.length) && this.#painted && motionAllowed();

    for (const key of gone) {
      const record = this.#shown.get(key);
      this.#shown.delete(key);
      if (calm && gone.length <= LEAVING_MAX) this.#collapse(record);
      else this.#release(record);
    }
    let next = this.#firstStaying();
    keys.forEach((key, index) => {
      let record = this.#shown.get(key);
      const isNew = record === undefined;
      if (isNew) {
        record = this.#spare.pop() ?? this.#create();
        this.#shown.set(key, record);
      }
      if (record.row === next) {
        next = this.#following(next);
      } else {
        this.#body.insertBefore(record.row, next);
      }
      this.#fill(record, rows[index], isNew);
      if (isNew && this.#painted) {
        if (calm && came.length <= LEAVING_MAX) this.#slideIn(record);
        else flash(record.cells[0].cell);
      }
    });
    this.#painted = true;
  }

  /** Takes note of arrivals and departures; returns whether there are few enough for rows to move. */
  #count(changes) {
    const now = performance.now();
    this.#arrivals = this.#arrivals * Math.exp((this.#countedAt - now) / 1_000) + changes / 2;
    this.#countedAt = now;
    return this.#arrivals <= CALM_ARRIVALS_PER_SECOND;
  }

  #fill(record, row, isNew) {
    this.#columns.forEach((column, index) => {
      const slot = record.cells[index];
      const text = column.text(row);
      if (slot.text !== text) {
        slot.text = text;
        slot.node.data = text;
        if (!isNew) flash(slot.cell);
      }
      column.decorate?.(slot.inner, row);
    });
  }

  #create() {
    const row = document.createElement("tr");
    const cells = this.#columns.map(({ kind }) => {
      const cell = row.insertCell();
      cell.className = kind;
      // The cell's padding is on this inner box, so that a row can shrink to nothing.
      const inner = cell.appendChild(document.createElement("div"));
      const node = inner.appendChild(document.createTextNode(""));
      return { cell, inner, node, text: "" };
    });
    return { row, cells };
  }

  #release(record) {
    record.row.remove();
    record.row.classList.remove("leaving");
    record.row.removeAttribute("aria-hidden");
    if (this.#spare.length < 64) this.#spare.push(record);
  }

  #slideIn({ row, cells }) {
    for (const { cell, inner } of cells) {
      const height = inner.offsetHeight;
      inner.animate(
        [
          { height: "0px", paddingTop: "0px", paddingBottom: "0px", opacity: 0, overflow: "hidden" },
          { height: `${height}px`, overflow: "hidden" },
        ],
        { duration: 180, easing: "ease-out" },
      );
      flash(cell);
    }
    row.classList.remove("leaving");
  }

  #collapse(record) {
    record.row.classList.add("leaving");
    record.row.setAttribute("aria-hidden", "true");
    let last = null;
    for (const { inner } of record.cells) {
      const height = inner.offsetHeight;
      last = inner.animate(
        [
          { height: `${height}px`, overflow: "hidden" },
          { height: "0px", paddingTop: "0px", paddingBottom: "0px", opacity: 0, overflow: "hidden" },
        ],
        { duration: 180, easing: "ease-in", fill: "forwards" },
      );
    }
    // A row that has collapsed is not used again: its animations still hold it at nothing.
    last.finished.then(() => record.row.remove(), () => record.row.remove());
  }

  #firstStaying() {
    const first = this.#body.firstElementChild;
    return first?.classList.contains("leaving") ? this.#following(first) : first;
  }

  #following(row) {
    let next = row.nextElementSibling;
    while (next?.classList.contains("leaving")) next = next.nextElementSibling;
    return next;
  }
}
