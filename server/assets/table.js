// A table whose rows are known by key: what changed carries the accent, what came slides in,
// what went collapses.
//
// Responsible for: turning (keys, rows) into the fewest changes of the page, and for staying calm at high
// rates: past a few rows a second nothing slides, and only cells light up, not rows.
// Leaves to others: what a cell says (columns), and when to paint (frame.js).

import { calm, flash, motionAllowed } from "./frame.js";

/** More rows than this coming or going at once are simply swapped. */
const MOVING_MAX = 4;

const NOTHING = { height: "0px", paddingTop: "0px", paddingBottom: "0px", opacity: 0, overflow: "hidden" };

export class KeyedTable {
  #body;
  #columns;
  #slots = []; // The rows on the page that stay, in order: {key, row, cells}.
  #painted = false;

  /**
   * @param table    a <table> element; its head is written from the columns.
   * @param columns  [{label, text(row) → string, kind: "number" | "text" | "key" …, decorate?(inner, row)}]
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
    const before = new Map(this.#slots.map((slot) => [slot.key, slot]));
    const wanted = new Set(keys);
    const gone = this.#slots.filter(({ key }) => !wanted.has(key)).length;
    const came = keys.filter((key) => !before.has(key)).length;
    const few = gone <= MOVING_MAX && came <= MOVING_MAX;
    // Asked first: what is not shown sliding still counts.
    const slides = calm(gone + came) && few && this.#painted && motionAllowed();
    const texts = new Map(this.#slots.map((slot) => [slot.key, slot.cells.map(({ text }) => text)]));
    if (slides) this.#arrange(keys, wanted, before);
    else this.#swap(keys);
    keys.forEach((key, index) => {
      const slot = this.#slots[index];
      const known = texts.get(key);
      slot.key = key;
      this.#fill(slot, rows[index], known);
      if (known !== undefined || !this.#painted) return;
      if (slides) this.#slideIn(slot);
      else flash(slot.cells[0].cell);
    });
    this.#painted = true;
  }

  /** Rows go where their keys go. */
  #arrange(keys, wanted, before) {
    for (const slot of this.#slots) if (!wanted.has(slot.key)) this.#collapse(slot);
    let next = this.#following(null);
    this.#slots = keys.map((key) => {
      const slot = before.get(key) ?? this.#create();
      if (slot.row === next) next = this.#following(next);
      else this.#body.insertBefore(slot.row, next);
      return slot;
    });
  }

  /** Rows stay where they are and only what they say changes: cheap, however much comes and goes. */
  #swap(keys) {
    while (this.#slots.length > keys.length) this.#slots.pop().row.remove();
    while (this.#slots.length < keys.length) {
      const slot = this.#create();
      this.#body.append(slot.row);
      this.#slots.push(slot);
    }
  }

  #fill(slot, row, known) {
    this.#columns.forEach((column, index) => {
      const cell = slot.cells[index];
      const text = column.text(row);
      if (cell.text !== text) {
        cell.text = text;
        cell.node.data = text;
      }
      if (known !== undefined && known[index] !== text) flash(cell.cell);
      column.decorate?.(cell.inner, row);
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
    return { key: null, row, cells };
  }

  #slideIn({ row, cells }) {
    const height = row.offsetHeight;
    for (const { cell, inner } of cells) {
      inner.animate([NOTHING, { height: `${height}px`, overflow: "hidden" }], { duration: 180, easing: "ease-out" });
      flash(cell);
    }
  }

  #collapse({ row, cells }) {
    row.classList.add("leaving");
    row.setAttribute("aria-hidden", "true");
    const height = row.offsetHeight;
    const timing = { duration: 180, easing: "ease-in", fill: "forwards" };
    const animations = cells.map(({ inner }) => inner.animate([{ height: `${height}px`, overflow: "hidden" }, NOTHING], timing));
    // A row that has collapsed is not used again: its animations still hold it at nothing.
    const remove = () => row.remove();
    animations[0].finished.then(remove, remove);
  }

  /** Returns the next row that stays, or the first after null. */
  #following(row) {
    let next = row === null ? this.#body.firstElementChild : row.nextElementSibling;
    while (next?.classList.contains("leaving")) next = next.nextElementSibling;
    return next;
  }
}
