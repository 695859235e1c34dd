// Numbers, times and sizes as people read them. Pure.
//
// int8 and numeric come as strings (`?numbers=string`) and are never made floats here:
// every digit that Postgres sent is still there to be shown.

/** The sample shop's prices are in this currency; the schema, like most, does not say. */
export const CURRENCY = "€";

/** A narrow no-break space before a unit keeps the two on one line. */
const THIN = "\u202f";

/** Returns a decimal string as a BigInt of `10^-places`, rounded half away from zero. */
export function scaled(text, places) {
  const match = /^(-?)([0-9]+)(?:\.([0-9]+))?$/.exec(text);
  if (match === null) return null;
  const fraction = (match[3] ?? "").padEnd(places + 1, "0");
  let value = BigInt(match[2] + fraction.slice(0, places));
  if (fraction[places] >= "5") value += 1n;
  return match[1] === "-" ? -value : value;
}

/** Returns `1,234.50` for `"1234.495"` and 2 places; text that is no plain decimal comes back as it is. */
export function decimal(value, places = 0) {
  if (value === null || value === undefined) return "–";
  const whole = scaled(String(value), places);
  if (whole === null) return String(value);
  const digits = (whole < 0n ? -whole : whole).toString().padStart(places + 1, "0");
  const integer = digits.slice(0, digits.length - places).replace(/\B(?=(?:[0-9]{3})+$)/g, ",");
  const fraction = places > 0 ? `.${digits.slice(-places)}` : "";
  return `${whole < 0n ? "−" : ""}${integer}${fraction}`;
}

export function money(value, places = 2) {
  return value === null || value === undefined ? "–" : `${CURRENCY}${decimal(value, places)}`;
}

/** Returns a duration with three significant digits at most: `0.8 ms`, `12 ms`, `1.4 s`, `3 min`. */
export function duration(ms) {
  if (ms === null || ms === undefined || Number.isNaN(ms)) return "–";
  if (ms < 0) return `−${duration(-ms)}`;
  if (ms < 9.95) return `${ms.toFixed(1)}${THIN}ms`;
  if (ms < 999.5) return `${Math.round(ms)}${THIN}ms`;
  if (ms < 9_950) return `${(ms / 1_000).toFixed(1)}${THIN}s`;
  if (ms < 120_000) return `${Math.round(ms / 1_000)}${THIN}s`;
  if (ms < 7_200_000) return `${Math.round(ms / 60_000)}${THIN}min`;
  if (ms < 172_800_000) return `${Math.round(ms / 3_600_000)}${THIN}h`;
  return `${Math.round(ms / 86_400_000)}${THIN}d`;
}

export function bytes(count) {
  if (count === null || count === undefined) return "–";
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let value = Number(count);
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${unit === 0 || value >= 99.5 ? Math.round(value) : value.toFixed(1)}${THIN}${units[unit]}`;
}

export function perSecond(rate) {
  return `${rate >= 9.95 || rate === 0 ? decimal(Math.round(rate)) : rate.toFixed(1)}${THIN}/s`;
}

/**
 * Returns milliseconds since 1970, with a fraction, for a timestamptz as `to_jsonb` or a transition writes it:
 * `2026-11-21T10:00:00.123456+00:00` or `…Z`. `Date.parse` alone would drop the microseconds.
 */
export function instant(text) {
  const match = /^(.*T[0-9:]{8})(?:\.([0-9]+))?(Z|[+-][0-9:]+)?$/.exec(text ?? "");
  if (match === null) return Number.NaN;
  const zone = /^[+-][0-9]{2}$/.test(match[3] ?? "") ? `${match[3]}:00` : (match[3] ?? "Z");
  return Date.parse(match[1] + zone) + Number(`0.${match[2] ?? 0}`) * 1_000;
}

const two = (number) => String(number).padStart(2, "0");

/** Returns the wall clock where the reader is: `10:42:07`. */
export function clock(ms) {
  const at = new Date(ms);
  return `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`;
}

export function clockMinute(ms) {
  const at = new Date(ms);
  return `${two(at.getHours())}:${two(at.getMinutes())}`;
}
