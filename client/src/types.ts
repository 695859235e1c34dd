/**
 * The types of functions and of references to them. Types alone: nothing of this is there at run time.
 *
 * A builder's result says in its type what it is (`RegisteredFunction`); the generated `api` is made of those types, so
 * that a reference knows its function's arguments and result, and an editor leads from the one to the other.
 */

/** What a function does: reads, writes, or has effects outside of the database (later). */
export type FunctionKind = 'query' | 'mutation' | 'action';

/** Who may call it: any client, or other functions alone. */
export type FunctionVisibility = 'public' | 'internal';

/** What is known of a function, in types. */
export interface FunctionMark<
  Kind extends FunctionKind,
  Visibility extends FunctionVisibility,
  Args,
  Result,
> {
  readonly kind: Kind;
  readonly visibility: Visibility;
  readonly args: Args;
  readonly result: Result;
}

/** What `query`, `mutation` and their kin return. `__convoy` is never there at run time. */
export interface RegisteredFunction<
  Kind extends FunctionKind = FunctionKind,
  Visibility extends FunctionVisibility = FunctionVisibility,
  Args = any,
  Result = any,
> {
  readonly __convoy?: FunctionMark<Kind, Visibility, Args, Result>;
}

/**
 * A function's name, with the types of what it takes and gives. The properties are in the type alone: at run time it has
 * only its name, which `getFunctionName` tells. They are required, so that a function itself is no reference to it.
 */
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

/** A reference to a query: a function's, or that of a `.sql` file. */
export interface QueryRef<
  Args = any,
  Result = any,
  Visibility extends FunctionVisibility = 'public',
> extends FunctionReference<'query', Visibility, Args, Result> {}

/** A reference to a mutation. */
export interface MutationRef<
  Args = any,
  Result = any,
  Visibility extends FunctionVisibility = 'public',
> extends FunctionReference<'mutation', Visibility, Args, Result> {}

/** The arguments that a call of this function gives. */
export type FunctionArgs<Ref extends FunctionReference> = Ref['_args'];

/** What a call of this function comes to. */
export type FunctionReturnType<Ref extends FunctionReference> = Ref['_result'];

/** The rest of a call's parameters: the arguments, which may be left out where none of them is required. */
export type OptionalRestArgs<Ref extends FunctionReference> =
  {} extends FunctionArgs<Ref> ? [args?: FunctionArgs<Ref>] : [args: FunctionArgs<Ref>];

type IsAny<T> = 0 extends 1 & T ? true : false;

/** The mark of an export; `never` where it is no function of ours. */
type MarkOf<Export> =
  IsAny<Export> extends true
    ? never
    : '__convoy' extends keyof Export
      ? NonNullable<Export['__convoy']>
      : never;

/** The reference to a registered function; `never` where it is none. */
export type ReferenceTo<Export> =
  MarkOf<Export> extends FunctionMark<infer Kind, infer Visibility, infer Args, infer Result>
    ? [Kind] extends ['query']
      ? QueryRef<Args, Result, Visibility>
      : [Kind] extends ['mutation']
        ? MutationRef<Args, Result, Visibility>
        : never
    : never;

// No mapped type below renames its keys (`as`): of such a property an editor does not know where it is declared, and
// "go to definition" would end here. So names are chosen first, and picked then.

/** The names of what a module exports of ours. */
type FunctionNames<Module> = {
  [Name in keyof Module]-?: [MarkOf<Module[Name]>] extends [never] ? never : Name;
}[keyof Module];

type References<Module, Names extends keyof Module> = {
  readonly [Name in Names]: ReferenceTo<Module[Name]>;
};

/** The references to what a module exports, without what is no function of ours. */
export type ApiFromModule<Module> = References<Module, FunctionNames<Module>>;

/** The references to what several modules export: `ApiFromModules<{ orders: typeof orders }>`. */
export type ApiFromModules<Modules> = {
  readonly [Name in keyof Modules]: ApiFromModule<Modules[Name]>;
};

/** The names in a tree under which there is a reference of this visibility. */
type NamesOf<Api, Visibility extends FunctionVisibility> = {
  [Name in keyof Api]: Api[Name] extends FunctionReference
    ? Api[Name]['_visibility'] extends Visibility
      ? Name
      : never
    : [NamesOf<Api[Name], Visibility>] extends [never]
      ? never
      : Name;
}[keyof Api];

type PickedApi<Api, Visibility extends FunctionVisibility, Names extends keyof Api> = {
  readonly [Name in Names]: Api[Name] extends FunctionReference
    ? Api[Name]
    : FilterApi<Api[Name], Visibility>;
};

/** A tree of references without those of another visibility, and without what is empty then. */
export type FilterApi<Api, Visibility extends FunctionVisibility> = PickedApi<
  Api,
  Visibility,
  NamesOf<Api, Visibility>
>;
