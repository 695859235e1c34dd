// A project as somebody writes it, from a folder of files: type-checked, and its page imported here.
//
// Responsible for: reading the files, tsc, modules for Node out of TypeScript.
// Leaves to others: packages, generated code, tables and the server (_convoy.mjs).

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdirSync, readFileSync, readdirSync, writeFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import ts from "typescript";

const tsc = fileURLToPath(new URL("../node_modules/typescript/bin/tsc", import.meta.url));

/** The settings of a project that a bundler builds. */
const TSCONFIG = {
  compilerOptions: {
    target: "es2022",
    lib: ["es2023", "dom", "dom.iterable"],
    module: "esnext",
    moduleResolution: "bundler",
    jsx: "react-jsx",
    types: ["node"],
    strict: true,
    noEmit: true,
    skipLibCheck: true,
  },
  include: ["convoy", "src"],
};

/** The files of a folder beside this one, by their paths in it, with the settings for tsc. */
export function filesOf(name) {
  const folder = fileURLToPath(new URL(name, import.meta.url));
  const found = readdirSync(folder, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
  const files = found.map((entry) => join(entry.parentPath ?? entry.path, entry.name));
  const texts = files.map((file) => [relative(folder, file), readFileSync(file, "utf8")]);
  return { ...Object.fromEntries(texts), "tsconfig.json": JSON.stringify(TSCONFIG) };
}

/** Holds a project, generated code included, against its types. */
export function typeCheck(folder) {
  const { status, stdout } = spawnSync(process.execPath, [tsc, "-p", folder], { encoding: "utf8" });
  assert.equal(status, 0, `tsc in ${folder}:\n${stdout}`);
}

/** Imports a module of a project, and with it those of the project's that it needs: each translated, without its types. */
export async function importFrom(folder, file) {
  const done = new Set();
  const translate = (source) => {
    if (done.has(source)) return;
    done.add(source);
    const options = { module: ts.ModuleKind.ESNext, target: ts.ScriptTarget.ES2022, jsx: ts.JsxEmit.ReactJSX };
    const { outputText } = ts.transpileModule(readFileSync(source, "utf8"), { fileName: source, compilerOptions: options });
    const text = outputText.replace(/(from ["'])(\.[^"']*?)(?:\.js)?(["'])/g, (_all, before, path, after) => {
      translate(`${join(dirname(source), path)}.ts`);
      return `${before}${path}.mjs${after}`;
    });
    const target = translated(folder, source);
    mkdirSync(dirname(target), { recursive: true });
    writeFileSync(target, text);
  };
  const source = join(folder, file);
  translate(source);
  return import(pathToFileURL(translated(folder, source)));
}

/** Where the translation of a source lies: beside the project's folders, so that paths between them hold. */
const translated = (folder, source) => join(folder, "translated", relative(folder, source).replace(/\.tsx?$/, ".mjs"));
