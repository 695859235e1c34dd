// Rows and figures on the page, touched only where they changed, so that a change is seen.

/** How long a change is lit, and how long a row takes to go, in ms. */
const LIT_MS = 600;
const GO_MS = 160;

const still = matchMedia('(prefers-reduced-motion: reduce)');
const moves = () => !still.matches && !document.hidden;
const glows = new WeakMap(); // element → its animation: a newer one takes its place.

/** Says `text` in an element, and lights it where that is news. */
export function put(element, text) {
  const before = element.textContent;
  if (before === text) return;
  element.textContent = text;
  if (before !== '' && before !== '–') light(element);
}

function light(element) {
  if (!moves()) return;
  glows.get(element)?.cancel();
  glows.set(element, element.animate({ backgroundColor: ['var(--accent-wash)', 'transparent'] }, LIT_MS));
}

/**
 * Keeps the children of `parent` as the rows of a result. `make(row)` returns an element with a `data-field` wherever
 * `texts(row)`, an object of texts by field, has something to say; `place(element, row)` does what else follows the row.
 */
export class Rows {
  #elements = new Map(); // key → element
  #isFirst = true;

  constructor(parent, { make, texts, place = () => {} }) {
    Object.assign(this, { parent, make, texts, place });
  }

  draw(keys, rows) {
    const gone = new Map(this.#elements);
    let next = this.parent.firstElementChild;
    keys.forEach((key, index) => {
      const row = rows[index];
      gone.delete(key);
      let element = this.#elements.get(key);
      if (element === undefined) {
        element = this.make(row);
        element.dataset.key = key;
        this.#elements.set(key, element);
        if (!this.#isFirst && moves()) element.classList.add('came');
      }
      for (const [field, text] of Object.entries(this.texts(row))) put(element.querySelector(`[data-field="${field}"]`), text);
      this.place(element, row);
      while (next?.classList.contains('going')) next = next.nextElementSibling;
      if (next === element) next = element.nextElementSibling;
      else this.parent.insertBefore(element, next);
    });
    for (const [key, element] of gone) {
      this.#elements.delete(key);
      go(element);
    }
    this.#isFirst = false;
  }
}

function go(element) {
  if (!moves()) return element.remove();
  element.classList.add('going');
  element.setAttribute('aria-hidden', 'true');
  setTimeout(() => element.remove(), GO_MS);
}
