// The parser against the standard's corner cases, and against itself: how a stream is cut must not matter.
import assert from "node:assert/strict";
import { test } from "node:test";
import { SseParser } from "../sse.js";

function parse(pieces) {
  const events = [];
  const retries = [];
  const parser = new SseParser({ onEvent: (event) => events.push(event), onRetry: (ms) => retries.push(ms) });
  for (const piece of pieces) parser.push(piece);
  return { events, retries };
}

test("an event has a type, data and the last id", () => {
  const { events } = parse(["event: hello\ndata: {}\n\nid: 7\nevent: transition\ndata: a\n\ndata: b\n\n"]);
  assert.deepEqual(events, [
    { type: "hello", data: "{}", id: "" },
    { type: "transition", data: "a", id: "7" },
    { type: "message", data: "b", id: "7" },
  ]);
});

test("comments, unknown fields and events without data are passed over", () => {
  const { events, retries } = parse([": still here\n\nfoo: bar\nretry: 1500\nretry: soon\n\nevent: x\n\ndata\n\n"]);
  assert.deepEqual(events, [{ type: "message", data: "", id: "" }]);
  assert.deepEqual(retries, [1500]);
});

test("one space after the colon is dropped, no more", () => {
  assert.equal(parse(["data:  two\n\n"]).events[0].data, " two");
  assert.equal(parse(["data:none\n\n"]).events[0].data, "none");
});

test("several data lines are joined, and a byte order mark is skipped", () => {
  assert.equal(parse(["\ufeffdata: a\ndata: b\n\n"]).events[0].data, "a\nb");
});

test("an unfinished event is not reported", () => {
  assert.deepEqual(parse(["data: a\n"]).events, []);
  assert.deepEqual(parse(["data: a"]).events, []);
});

test("how a stream is cut does not matter, whatever its line ends", () => {
  for (const end of ["\n", "\r\n", "\r"]) {
    const text = ["event: hello", 'data: {"a":1}', "", ": c", "", "id: x", "data: one", "data: two", "", "data: é😀", "", ""].join(end);
    const whole = parse([text]).events;
    assert.equal(whole.length, 3);
    assert.equal(whole[1].data, "one\ntwo");
    for (let cut = 0; cut <= text.length; cut += 1) {
      assert.deepEqual(parse([text.slice(0, cut), text.slice(cut)]).events, whole, `cut at ${cut} of ${JSON.stringify(end)}`);
    }
    assert.deepEqual(parse([...text]).events, whole);
  }
});
