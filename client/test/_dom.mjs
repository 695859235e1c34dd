// A document for React, as a module that is imported before react-dom.

import { JSDOM } from "jsdom";

const dom = new JSDOM("<!doctype html><div id=root></div>", { url: "http://127.0.0.1/", pretendToBeVisual: true });
globalThis.window = dom.window;
globalThis.document = dom.window.document;
if (globalThis.navigator === undefined) globalThis.navigator = dom.window.navigator;
globalThis.IS_REACT_ACT_ENVIRONMENT = false; // What is tested comes from a server, when it comes.

/** Renders into a new element; returns it with what takes it away. */
export async function render(t, element) {
  const { createRoot } = await import("react-dom/client");
  const { flushSync } = await import("react-dom");
  const container = document.createElement("div");
  document.body.append(container);
  const root = createRoot(container, { onUncaughtError: (error) => t.diagnostic(`uncaught: ${error}`) });
  const show = (next) => flushSync(() => root.render(next));
  show(element);
  const unmount = () => {
    flushSync(() => root.unmount());
    container.remove();
  };
  t.after(unmount);
  return { container, show, unmount };
}

/** Waits until `check` holds of the text that is shown. */
export async function screen(container, check, ms = 10_000) {
  const matches = typeof check === "string" ? (text) => text === check : (text) => check.test(text);
  if (matches(container.textContent)) return;
  await new Promise((resolve, reject) => {
    const timer = setTimeout(() => {
      observer.disconnect();
      reject(new Error(`${check} is not shown within ${ms} ms; shown is ${JSON.stringify(container.textContent)}`));
    }, ms);
    const observer = new window.MutationObserver(() => {
      if (!matches(container.textContent)) return;
      clearTimeout(timer);
      observer.disconnect();
      resolve();
    });
    observer.observe(container, { childList: true, subtree: true, characterData: true });
  });
}
