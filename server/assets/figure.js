// One number that rolls: the new value is on the page at once, and the digits that changed
// slide into place, so what is read is never a value that the database did not have.
//
// Responsible for: digits, and the text that a screen reader gets.
// Leaves to others: formatting (format.js) and when to paint (frame.js).

import { flash, motionAllowed } from "./frame.js";

const ROLL = [{ transform: "translateY(45%)", opacity: 0.2 }, { transform: "none", opacity: 1 }];

export class Figure {
  #spoken;
  #digits;
  #text = null;
  #element;
  #waiting = false;
  #changedAt = 0;

  constructor(element) {
    this.#element = element;
    element.classList.add("figure");
    this.#spoken = element.appendChild(document.createElement("span"));
    this.#spoken.className = "spoken";
    this.#digits = element.appendChild(document.createElement("span"));
    this.#digits.setAttribute("aria-hidden", "true");
  }

  set(text) {
    if (text === this.#text) return;
    const first = this.#text === null;
    // What changes faster than it can be read does not roll.
    const now = performance.now();
    const rolls = !first && motionAllowed() && now - this.#changedAt > 300;
    this.#changedAt = now;
    this.#text = text;
    this.#speak();
    const spans = this.#digits.children;
    while (spans.length > text.length) this.#digits.firstElementChild.remove();
    while (spans.length < text.length) this.#digits.prepend(document.createElement("span"));
    // From the right: digits keep their place when the number grows.
    for (let index = 0; index < text.length; index += 1) {
      const span = spans[index];
      if (span.textContent === text[index]) continue;
      span.textContent = text[index];
      if (rolls) span.animate(ROLL, { duration: 160, easing: "ease-out" });
    }
    if (!first) flash(this.#element);
  }

  /** A screen reader gets the number once a second at most. */
  #speak() {
    if (this.#waiting) return;
    this.#waiting = true;
    this.#spoken.textContent = this.#text;
    setTimeout(() => {
      this.#waiting = false;
      if (this.#spoken.textContent !== this.#text) this.#speak();
    }, 1_000);
  }
}
