// Tables of a page in Markdown whose second column is a verdict, and the code that stands in a cell.

/** The rows of all tables, without their heads; a bar within code divides no cells. */
export function verdicts(markdown) {
  const lines = markdown.split("\n");
  const isRule = (line) => /^\|[-|]+\|$/.test(line ?? "");
  const rows = lines.filter((line, i) => line.startsWith("|") && !isRule(line) && !isRule(lines[i + 1]));
  return rows.map((line) => {
    const cells = line.slice(1, -1).match(/(?:(`+).*?\1|[^`|])+/g).map((cell) => cell.trim());
    const [was, verdict, here = ""] = cells;
    return { was, verdict, here, columns: cells.length };
  });
}

/** What stands between backticks, of one or two. */
export function code(cell) {
  return [...cell.matchAll(/(`+) ?(.+?) ?\1/g)].map(([, , text]) => text);
}
