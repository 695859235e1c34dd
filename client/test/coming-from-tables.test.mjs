// The tables of docs/coming-from-convoy.md and docs/coming-from-convex.md against what there is: what they call working stands
// in the projects that coming-from-convoy.test.mjs and coming-from-convex.test.mjs run, and each name of ours in them is exported.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import ts from "typescript";
import { binary } from "./_convoy.mjs";
import { code, verdicts } from "./_doc-table.mjs";
import { filesOf } from "./_project.mjs";

const root = fileURLToPath(new URL("..", import.meta.url));
const read = (url) => readFileSync(new URL(url, import.meta.url), "utf8");

const VERDICTS = new Set(["works", "differs", "later", "won't", "won't, for now"]);
/** Each page with what shows that it is true, and the names in its examples that are a project's own. */
const PAGES = [
  {
    page: "coming-from-convoy.md",
    shown: [...Object.values(filesOf("coming-from/convoy")), read("coming-from-convoy.test.mjs")],
    own: ["AuthContext", "channel", "messages", "ref", "userId"],
  },
  {
    page: "coming-from-convex.md",
    shown: [...Object.values(filesOf("coming-from/convex")), read("coming-from-convex.test.mjs")],
    own: ["create", "m", "messages", "n", "ref", "text", "user", "userId"],
  },
].map(({ page, ...rest }) => ({ page, rows: verdicts(read(`../../docs/${page}`)), ...rest }));

/** What a row says of Convoy: its note, and where it works, what it is about, too. */
const said = ({ was, verdict, here }) => (verdict === "works" ? `${was} | ${here}` : here);
const spans = PAGES.flatMap(({ rows }) => rows.flatMap((row) => code(said(row))));

/** The names that each module of the package exports, types included. */
const modules = exported();

function exported() {
  const { exports } = JSON.parse(read("../package.json"));
  const entries = Object.entries(exports).filter(([, { types }]) => types !== undefined);
  const options = { module: ts.ModuleKind.NodeNext, moduleResolution: ts.ModuleResolutionKind.NodeNext, skipLibCheck: true, types: [] };
  const program = ts.createProgram(entries.map(([, { types }]) => join(root, types)), options);
  const checker = program.getTypeChecker();
  const names = (file) => checker.getExportsOfModule(checker.getSymbolAtLocation(program.getSourceFile(file))).map(({ name }) => name);
  return new Map(entries.map(([entry, { types }]) => [`convoy${entry.slice(1)}`, new Set(names(join(root, types)))]));
}

test("each row has three cells and one of five verdicts, and no two rows are about the same", () => {
  for (const { page, rows } of PAGES) {
    assert.ok(rows.length > 50, `${page}: only ${rows.length} rows were found`);
    for (const { was, verdict, columns } of rows) {
      assert.equal(columns, 3, `${page}: ${was}`);
      assert.ok(VERDICTS.has(verdict), `${page}: ${was}: ${verdict}`);
    }
    assert.equal(new Set(rows.map(({ was }) => was)).size, rows.length, page);
  }
});

test("every word of what works stands in a project that is run", () => {
  for (const { page, rows, shown, own } of PAGES) {
    const words = new Set(shown.join("\n").match(/[A-Za-z_]\w*/g));
    const unused = new Set(own);
    for (const { was } of rows.filter(({ verdict }) => verdict === "works")) {
      // Of quoted text only the modules' names are of the API.
      for (const word of code(was).join(" ").replace(/(["'])[^"'./]*\1/g, "").match(/[A-Za-z_]\w*/g) ?? []) {
        unused.delete(word);
        assert.ok(words.has(word) || own.includes(word), `${page} says that this works, and no test uses ${word}: ${was}`);
      }
    }
    assert.deepEqual([...unused], [], `${page}: names that stand in no row any more`);
  }
});

test("what is said to come from a module of ours is exported there", () => {
  let count = 0;
  for (const { page, rows } of PAGES) {
    for (const row of rows) {
      for (const [, names, module] of said(row).matchAll(/((?:`[^`]+`(?:, | and )?)*) ?from `'(convoy[^']*)'`/g)) {
        assert.ok(modules.has(module), `${page}: there is no module ${module}: ${row.was}`);
        for (const name of code(names)) {
          count += 1;
          assert.ok(modules.get(module).has(name.replace(/^type /, "")), `${page}: ${module} exports no ${name}: ${row.was}`);
        }
      }
    }
  }
  assert.ok(count > 8, `only ${count} names were found`);
});

test("names that are ours by their form are exported by some module", () => {
  const all = new Set([...modules.values()].flatMap((names) => [...names]));
  all.add("createContext"); // A project's own, in its server.ts.
  const names = new Set(spans.flatMap((span) => span.match(/\b(?:use[A-Z]\w*|define[A-Z]\w*|create[A-Z]\w*|[cC]onvoy[A-Z]\w*|\w+Validator)\b/g) ?? []));
  assert.ok(names.size > 10, [...names].join());
  for (const name of names) assert.ok(all.has(name), `no module exports ${name}`);
});

test("commands and flags are those of the binary", () => {
  const help = (command) => spawnSync(binary(), [...command, "--help"], { encoding: "utf8" });
  const commands = [...help([]).stdout.matchAll(/^ {2}([a-z]+) {2}/gm)].map(([, name]) => name);
  const flags = new Set(commands.flatMap((command) => help([command]).stdout.match(/--[a-z][a-z-]+/g)));
  const named = new Set(spans.flatMap((span) => /^convoy ([a-z]+)\b/.exec(span)?.[1] ?? []));
  assert.ok(named.size > 3, [...named].join());
  for (const name of named) assert.equal(help([name]).status, 0, `there is no convoy ${name}`);
  const meant = new Set(spans.filter((span) => !/^(npm|cargo) /.test(span)).flatMap((span) => span.match(/(?<![\w-])--[a-z][a-z-]*…?/g) ?? []));
  assert.ok(meant.size > 5, [...meant].join());
  const isThere = (flag) => (flag.endsWith("…") ? [...flags].some((known) => known.startsWith(flag.slice(0, -1))) : flags.has(flag));
  for (const flag of meant) assert.ok(isThere(flag), `there is no ${flag}`);
});
