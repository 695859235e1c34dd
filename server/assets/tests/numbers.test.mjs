// Formatting keeps every digit, and the latency window says what it was told.
import assert from "node:assert/strict";
import { test } from "node:test";
import * as format from "../format.js";
import { BUCKETS, LatencyWindow, bucketFrom, bucketOf } from "../latency.js";

const plain = (text) => text.replaceAll("\u202f", " ");

test("decimals keep every digit and round half away from zero", () => {
  assert.equal(format.decimal("9007199254740993"), "9,007,199,254,740,993");
  assert.equal(format.decimal("123456789012345678901234.565", 2), "123,456,789,012,345,678,901,234.57");
  assert.equal(format.decimal("-0.005", 2), "−0.01");
  assert.equal(format.decimal("1000", 2), "1,000.00");
  assert.equal(format.decimal("999"), "999");
  assert.equal(format.decimal("NaN", 2), "NaN");
  assert.equal(format.decimal(null), "–");
  assert.equal(format.scaled("12.3", 2), 1230n);
});

test("sizes, rates and durations have units", () => {
  assert.equal(plain(format.bytes(0)), "0 B");
  assert.equal(plain(format.bytes(1536)), "1.5 KiB");
  assert.equal(plain(format.bytes(3 * 2 ** 30)), "3.0 GiB");
  assert.equal(plain(format.duration(0.84)), "0.8 ms");
  assert.equal(plain(format.duration(12.4)), "12 ms");
  assert.equal(plain(format.duration(999.6)), "1.0 s");
  assert.equal(plain(format.duration(-3)), "−3.0 ms");
  assert.equal(plain(format.perSecond(1234)), "1,234 /s");
  assert.equal(plain(format.perSecond(0.5)), "0.5 /s");
});

test("an instant keeps its microseconds, in each form of zone", () => {
  const base = Date.UTC(2026, 10, 21, 10, 0, 0);
  assert.ok(Math.abs(format.instant("2026-11-21T10:00:00.123456Z") - base - 123.456) < 0.001);
  assert.ok(Math.abs(format.instant("2026-11-21T10:00:00.5+00:00") - base - 500) < 0.001);
  assert.equal(format.instant("2026-11-21T12:00:00+02"), base);
  assert.equal(format.instant("2026-11-21T10:00:00"), base);
  assert.ok(Number.isNaN(format.instant(null)));
});

test("quantiles are right to within a bucket, at any scale", () => {
  for (const scale of [0.5, 7, 300, 20_000]) {
    const window = new LatencyWindow();
    for (let i = 1; i <= 1_000; i += 1) window.record((i / 1_000) * scale, 5_000);
    const { count, p50, p99, max } = window.summary(5_000);
    assert.equal(count, 1_000);
    assert.equal(max, scale);
    assert.ok(Math.abs(p50 / (scale * 0.5) - 1) < 0.05, `p50 ${p50} at ${scale}`);
    assert.ok(Math.abs(p99 / (scale * 0.99) - 1) < 0.05, `p99 ${p99} at ${scale}`);
  }
});

test("the window forgets after a minute, also when its slots are used again", () => {
  const window = new LatencyWindow();
  window.record(1_000, 0);
  window.record(10, 30_000);
  assert.equal(window.summary(59_999).count, 2);
  assert.equal(window.summary(60_000).count, 1);
  window.record(5, 60_500);
  assert.equal(window.summary(60_500).count, 2);
  assert.equal(window.summary(600_000).count, 0);
  assert.equal(window.summary(600_000).p50, null);
});

test("a clock that is behind is said, not hidden", () => {
  const window = new LatencyWindow();
  window.record(-40, 0);
  assert.equal(window.summary(0).clockBehindMs, 40);
});

test("every bucket holds its own lower edge", () => {
  for (let index = 0; index < BUCKETS; index += 1) assert.equal(bucketOf(bucketFrom(index) * 1.0001), index);
  assert.equal(bucketOf(0), 0);
  assert.equal(bucketOf(1e9), BUCKETS - 1);
});
