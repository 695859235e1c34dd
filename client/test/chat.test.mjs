// The example in examples/chat, in a document.

import assert from "node:assert/strict";
import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { test } from "node:test";
import { render, screen } from "./_dom.mjs";
import { createElement as h } from "react";
import { flushSync } from "react-dom";
import ts from "typescript";
import { createConvoyClient } from "convoy/client";
import { ConvoyProvider } from "convoy/react";
import { Peer } from "./_peer.mjs";

/** Imports the component as it is, with an `api` that nobody generated. It lies where it finds this package. */
async function chat(t) {
  const source = readFileSync(new URL("../../examples/chat/src/chat.tsx", import.meta.url), "utf8");
  const { outputText } = ts.transpileModule(source, { compilerOptions: { module: "ESNext", target: "ES2022", jsx: ts.JsxEmit.ReactJSX } });
  const file = new URL("../dist/chat.test.mjs", import.meta.url);
  writeFileSync(file, outputText.replace(/import \{ api \} from .*/, 'import { anyApi as api } from "convoy/client";'));
  t.after(() => rmSync(file));
  return (await import(file)).Chat;
}

test("a message that can't be sent comes back, but not over what was typed meanwhile", async (t) => {
  globalThis.localStorage = window.localStorage;
  window.Element.prototype.scrollIntoView = () => {};
  const Chat = await chat(t);
  const peer = await Peer.start({
    db: { messages: [] },
    queries: { "messages.list": (db) => db.messages, "messages.perChannel": () => [] },
    mutations: {
      "messages.send": () => {
        throw Object.assign(new Error("not now"), { code: "BUSY" });
      },
    },
  });
  const client = createConvoyClient({ url: peer.url });
  t.after(async () => {
    client.close();
    await peer.stop();
  });
  const { container } = await render(t, h(ConvoyProvider, { client }, h(Chat)));
  await screen(container, /Nobody has said anything/);
  const input = container.querySelector("input[name=text]");
  const type = (text) =>
    flushSync(() => {
      Object.getOwnPropertyDescriptor(window.HTMLInputElement.prototype, "value").set.call(input, text);
      input.dispatchEvent(new window.Event("input", { bubbles: true }));
    });
  const submit = () => flushSync(() => container.querySelector("form").dispatchEvent(new window.Event("submit", { bubbles: true, cancelable: true })));

  type("first");
  submit();
  assert.equal(input.value, "");
  await screen(container, /not now/);
  assert.equal(input.value, "first");

  submit();
  assert.doesNotMatch(container.textContent, /not now/);
  type("second");
  await screen(container, /not now/);
  assert.equal(input.value, "second");
});
