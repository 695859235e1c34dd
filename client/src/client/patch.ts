// RFC 6902 patches on values that never change in place: only what lies on a path is copied.

import type { PatchStep } from "./wire.js";

/** An update that does not fit the result it is for: the stream can no longer be trusted. */
export class MisfitError extends Error {
  override readonly name = "MisfitError";
}

/** Returns `document` after the patch; `document` itself stays as it is, and shares what was not touched. */
export function applyPatch(document: unknown, patch: readonly PatchStep[]): unknown {
  let root = document;
  for (const step of patch) {
    switch (step.op) {
      case "add":
        root = add(root, step.path, step.value);
        break;
      case "replace":
        read(root, step.path);
        root = edit(root, names(step.path), step.path, (container, name) => put(container, name, step.value));
        break;
      case "remove":
        root = remove(root, step.path);
        break;
      case "move": {
        if (step.path.startsWith(`${step.from}/`)) throw new MisfitError("a value can't be moved into itself");
        const moved = read(root, step.from);
        root = add(step.from === "" ? root : remove(root, step.from), step.path, moved);
        break;
      }
      case "copy":
        root = add(root, step.path, read(root, step.from));
        break;
      case "test":
        if (!equal(read(root, step.path), step.value)) throw new MisfitError(`the test at ${step.path} failed`);
        break;
      default:
        throw new MisfitError(`unknown patch operation ${JSON.stringify((step as { op: unknown }).op)}`);
    }
  }
  return root;
}

type Container = unknown[] | Record<string, unknown>;

function add(root: unknown, path: string, value: unknown): unknown {
  return edit(root, names(path), path, (container, name) => {
    if (!Array.isArray(container)) return put(container, name, value);
    const index = name === "-" ? container.length : arrayIndex(name);
    if (index > container.length) throw new MisfitError(`nothing can be added at ${path}`);
    container.splice(index, 0, value);
  }, value);
}

function remove(root: unknown, path: string): unknown {
  if (path === "") throw new MisfitError("a patch can't remove the whole value");
  read(root, path);
  return edit(root, names(path), path, (container, name) => {
    if (Array.isArray(container)) container.splice(arrayIndex(name), 1);
    else delete container[name];
  });
}

/** Copies the containers on the way and lets `change` loose on the last; an empty path gives `whole`. */
function edit(
  root: unknown,
  way: string[],
  path: string,
  change: (container: Container, name: string) => void,
  whole: unknown = undefined,
): unknown {
  if (way.length === 0) {
    if (whole !== undefined) return whole;
    const holder: Record<string, unknown> = { root };
    change(holder, "root");
    return holder["root"];
  }
  const [name, ...rest] = way as [string, ...string[]];
  if (root === null || typeof root !== "object") throw new MisfitError(`nothing is at ${path}`);
  const copy: Container = Array.isArray(root) ? root.slice() : { ...(root as Record<string, unknown>) };
  if (rest.length === 0) change(copy, name);
  else put(copy, name, edit(member(root, name, path), rest, path, change));
  return copy;
}

function put(container: Container, name: string, value: unknown): void {
  if (Array.isArray(container)) container[arrayIndex(name)] = value;
  // Not by assignment: a member called __proto__ is one like any other.
  else Object.defineProperty(container, name, { value, writable: true, enumerable: true, configurable: true });
}

/** The names in a JSON pointer (RFC 6901). */
function names(pointer: string): string[] {
  if (pointer === "") return [];
  if (!pointer.startsWith("/")) throw new MisfitError(`not a JSON pointer: ${pointer}`);
  return pointer.slice(1).split("/").map((name) => name.replaceAll("~1", "/").replaceAll("~0", "~"));
}

function read(root: unknown, pointer: string): unknown {
  return names(pointer).reduce((container, name) => member(container, name, pointer), root);
}

function member(container: unknown, name: string, pointer: string): unknown {
  if (container === null || typeof container !== "object" || !Object.hasOwn(container, name)) {
    throw new MisfitError(`nothing is at ${pointer}`);
  }
  return (container as Record<string, unknown>)[name];
}

function arrayIndex(name: string): number {
  if (!/^(0|[1-9][0-9]*)$/.test(name)) throw new MisfitError(`not an array index: ${name}`);
  return Number(name);
}

function equal(a: unknown, b: unknown): boolean {
  if (a === b) return true;
  if (a === null || b === null || typeof a !== "object" || typeof b !== "object") return false;
  if (Array.isArray(a) !== Array.isArray(b)) return false;
  const members = Object.keys(a);
  return (
    members.length === Object.keys(b).length &&
    members.every((name) => Object.hasOwn(b, name) && equal((a as any)[name], (b as any)[name]))
  );
}
