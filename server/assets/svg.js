// The few lines that every chart here needs: elements, attributes, ticks at round numbers, and the
// size of the box it is drawn in.

const NAMESPACE = "http://www.w3.org/2000/svg";

export function element(name, attributes = {}, text = null) {
  const made = document.createElementNS(NAMESPACE, name);
  set(made, attributes);
  if (text !== null) made.textContent = text;
  return made;
}

export function set(target, attributes) {
  for (const [name, value] of Object.entries(attributes)) target.setAttribute(name, value);
}

/** Returns a drawing that fills `host`; `redraw` is called with its size whenever that changes. */
export function canvas(host, label, redraw) {
  const drawing = host.appendChild(element("svg", { role: "img", "aria-label": label, class: "chart" }));
  const size = { width: 0, height: 0 };
  new ResizeObserver(([entry]) => {
    size.width = Math.floor(entry.contentRect.width);
    size.height = Math.floor(entry.contentRect.height);
    set(drawing, { viewBox: `0 0 ${size.width} ${size.height}` });
    redraw();
  }).observe(host);
  return { drawing, size };
}

/** Returns the round step (1, 2 or 5 times a power of ten) that makes at most `count` ticks up to `max`. */
export function roundStep(max, count) {
  const rough = Math.max(max, 1) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].find((factor) => factor * power >= rough) * power;
  return Math.max(1, step);
}
