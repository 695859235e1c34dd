// References to functions: what generated code exports as `api`, and what the client takes.
//
// Responsible for: the types, and how a reference carries its name.
// Leaves to others: which functions there are (generated code), and calling them (client/).

const NAME = Symbol.for("convoy.functionName");

export type FunctionKind = "query" | "mutation" | "action";
export type FunctionVisibility = "public" | "internal";

/** A function's name, with the types of what it takes and gives; the properties are in the type alone. */
export interface FunctionReference<
  Kind extends FunctionKind = FunctionKind,
  Visibility extends FunctionVisibility = FunctionVisibility,
  Args = any,
  Result = any,
> {
  readonly _kind: Kind;
  readonly _visibility: Visibility;
  readonly _args: Args;
  readonly _result: Result;
}

export interface QueryRef<Args = any, Result = any, Visibility extends FunctionVisibility = "public">
  extends FunctionReference<"query", Visibility, Args, Result> {}
export interface MutationRef<Args = any, Result = any, Visibility extends FunctionVisibility = "public">
  extends FunctionReference<"mutation", Visibility, Args, Result> {}

export type FunctionArgs<Ref extends FunctionReference> = Ref["_args"];
export type FunctionReturnType<Ref extends FunctionReference> = Ref["_result"];

/** The rest of a call's parameters: the arguments, which may be left out where none of them is required. */
export type OptionalRestArgs<Ref extends FunctionReference> =
  {} extends FunctionArgs<Ref> ? [args?: FunctionArgs<Ref>] : [args: FunctionArgs<Ref>];

/** Returns the name that the server knows a reference by, like `orders.byTenant`. */
export function getFunctionName(reference: FunctionReference | string): string {
  if (typeof reference === "string") return reference;
  const name = (reference as { [NAME]?: unknown } | null | undefined)?.[NAME];
  if (typeof name === "string" && name !== "") return name;
  throw new TypeError("this is no reference to a function: give one of the generated api, like api.orders.list");
}

/** Returns the reference of this name, for names that are known only at run time. */
export function functionReference<Kind extends FunctionKind, Args = any, Result = any>(
  name: string,
): FunctionReference<Kind, "public", Args, Result> {
  return reference(name) as FunctionReference<Kind, "public", Args, Result>;
}

/** Each name is always the same object, as hooks that compare references need. */
function reference(name: string): unknown {
  const parts = new Map<string, unknown>();
  return new Proxy(Object.freeze({}), {
    get(_, key) {
      if (key === NAME) return name;
      if (typeof key === "symbol" || key === "then" || key === "toJSON") return undefined;
      let part = parts.get(key);
      if (part === undefined) parts.set(key, (part = reference(name === "" ? key : `${name}.${key}`)));
      return part;
    },
  });
}

/** References by property path, without types: `anyApi.orders.byTenant`. */
export const anyApi = reference("") as any;
