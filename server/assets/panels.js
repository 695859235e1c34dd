// The frame of a panel: loading, empty, ready, stale and error, each in words that say what to do.
//
// Responsible for: which of the five a result is in, and the disclosure that shows the panel's SQL.
// Leaves to others: the content (views.js).

export class Panel {
  #section;
  #note;
  #meta;
  #view;
  content;

  /**
   * @param id      what `data-panel` says; a section is added to the page where there is none.
   * @param title   replaces the title in the page where given.
   * @param makeView  (content) → {paint(result), isEmpty(result), empty, meta?(result)}
   */
  constructor({ id, title, sql }, makeView) {
    this.#section = document.querySelector(`[data-panel="${CSS.escape(id)}"]`) ?? addSection(id);
    if (title) this.#section.querySelector("h2").textContent = title;
    this.#note = this.#section.querySelector(".note");
    this.#meta = this.#section.querySelector("[data-meta]");
    this.content = this.#section.querySelector(".content");
    this.#view = makeView(this.content);
    if (sql) this.#section.querySelector(".body").append(disclosure(sql));
  }

  paint(result) {
    const state = result.status === "ready" && this.#view.isEmpty(result) ? "empty" : result.status;
    // A stale result that never came has nothing to show but that.
    if (state === "ready" || (state === "stale" && result.value !== undefined)) this.#view.paint(result);
    if (state === "ready" && this.#view.meta) this.#setMeta(this.#view.meta(result));
    if (this.#section.dataset.state === state && state !== "error" && state !== "stale") return;
    this.#section.dataset.state = state;
    this.#note.hidden = state === "ready";
    this.#note.replaceChildren(...this.#words(state, result));
    if (state !== "ready") this.#setMeta(state === "stale" ? "stale" : "");
  }

  /** Says why there is nothing to show and nothing to wait for. */
  fail(what, remedy) {
    this.#section.dataset.state = "error";
    this.#note.hidden = false;
    this.#note.replaceChildren(strong(what), ` ${remedy}`);
  }

  #setMeta(text) {
    if (this.#meta.textContent !== text) this.#meta.textContent = text;
  }

  #words(state, result) {
    switch (state) {
      case "loading": {
        const words = document.createElement("span");
        words.textContent = "Reading the first result …";
        return [words];
      }
      case "empty":
        return [this.#view.empty];
      case "stale":
        return [strong("Stale."), ` As of LSN ${result.staleSince}: its query is slower than the others may wait. It catches up by itself.`];
      case "error": {
        const { code, message, final } = result.error;
        const remedy = final ? "Mend the query and reload the page." : "It comes back by itself when the query works again.";
        return [strong(code), ` ${sentence(message)} ${remedy}`];
      }
      default:
        return [];
    }
  }
}

function sentence(message) {
  return /[.!?]$/.test(message) ? message : `${message}.`;
}

function strong(text) {
  const made = document.createElement("strong");
  made.textContent = text;
  return made;
}

function disclosure(sql) {
  const made = document.createElement("details");
  const summary = made.appendChild(document.createElement("summary"));
  summary.textContent = "the SQL";
  const code = made.appendChild(document.createElement("pre"));
  code.className = "code";
  code.textContent = sql.trim();
  return made;
}

function addSection(id) {
  const section = document.createElement("section");
  section.className = "panel span-2";
  section.dataset.panel = id;
  section.dataset.live = "";
  section.dataset.state = "loading";
  section.innerHTML =
    '<header><h2></h2><span class="small quiet" data-meta></span></header>' +
    '<div class="body"><p class="note"></p><div class="content"></div></div>';
  section.querySelector("h2").textContent = id;
  section.setAttribute("aria-label", id);
  document.querySelector("#panels").insertBefore(section, document.querySelector('[data-panel="latency"]'));
  return section;
}
