// References to functions: what generated code exports as `api`, and what the client takes.
//
// Responsible for: the types, and how a reference carries its name.
// Leaves to others: which functions there are (generated code), and calling them (client/).

const NAME = Symbol.for("convoy.functionName");

export type FunctionKind = "query" | "mutation" | "action";

/** A function of the project, by name; its arguments and result exist only as types. */
export interface FunctionReference<Kind extends FunctionKind = FunctionKind, Args = any, Result = any> {
  readonly _kind?: Kind;
  readonly _args?: Args;
  readonly _result?: Result;
}

export type QueryRef<Args = any, Result = any> = FunctionReference<"query", Args, Result>;
export type MutationRef<Args = any, Result = any> = FunctionReference<"mutation", Args, Result>;

export type ArgsOf<Reference> = Reference extends FunctionReference<any, infer Args, any> ? Args : never;
export type ResultOf<Reference> = Reference extends FunctionReference<any, any, infer Result> ? Result : never;

/** Returns the name that the server knows a reference by, like `orders.byTenant`. */
export function getFunctionName(reference: FunctionReference): string {
  const name = (reference as { [NAME]?: unknown } | null | undefined)?.[NAME];
  if (typeof name === "string" && name !== "") return name;
  throw new TypeError("this is not a reference to a function; write it as api.folder.name, from convoy/_generated/api");
}

/** Returns the reference with this name. */
export function functionReference<Kind extends FunctionKind, Args, Result>(name: string): FunctionReference<Kind, Args, Result> {
  return { [NAME]: name } as FunctionReference<Kind, Args, Result>;
}

function proxyOf(path: readonly string[]): unknown {
  return new Proxy(
    {},
    {
      get(_, property) {
        if (property === NAME) return path.join(".");
        return typeof property === "string" ? proxyOf([...path, property]) : undefined;
      },
    },
  );
}

/** References by property path, without types: `anyApi.orders.byTenant`. */
export const anyApi = proxyOf([]) as any;
