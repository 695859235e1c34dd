/** Queries and mutations as a project defines them. */

import type { AnyDataModel } from './data-model.js';
import type { FunctionKind, FunctionVisibility, RegisteredFunction } from '../types.js';
import type { DatabaseReader, DatabaseWriter } from './database.js';
import type { ArgsInput, ArgsOutput, ArgsValidator, Output, Validator } from './validator.js';

const FUNCTION = Symbol.for('convoy.function');

/** Reads, or reads and writes. */
type Kind = Exclude<FunctionKind, 'action'>;

/** Who calls. `createContext` in `server.ts` decides what is in it. */
export interface Auth {
  /** The identity's claims, or null for nobody. */
  getUserIdentity(): Promise<UserIdentity | null>;
}

/** Claims of an identity, by the names that they have in the token, or in what `createContext` made. */
export interface UserIdentity {
  /** Whom the token is about. Unique together with `iss`. */
  readonly sub?: string;
  /** Who made the token. */
  readonly iss?: string;
  readonly email?: string;
  readonly name?: string;
  readonly [claim: string]: unknown;
}

/** What `createContext` of `server.ts` is given as `base`; what it returns is what functions get. */
export interface GenericServerContext<DM extends AnyDataModel> {
  db: DatabaseReader<DM>;
  auth: Auth;
  /** Verifies JSON Web Tokens, in `createContext` alone: functions see who called in `auth`. */
  jwt: JwtVerifier;
}

/** Verifies JSON Web Tokens. */
export interface JwtVerifier {
  /** The claims of a token that counts; throws `UNAUTHORIZED` for one that does not. */
  verify<Claims = Record<string, unknown>>(token: string, options: JwtOptions): Promise<Claims>;
}

/** By what a token counts: one key, and what it has to say. */
export interface JwtOptions {
  /** The shared secret, for HS256. */
  secret?: string;
  /** A file with it, from the project's root, which keeps it out of the source. */
  secretFile?: string;
  /** A public key as PEM, for RS256 and ES256. */
  publicKey?: string;
  /** A key set: a file from the project's root, or a URL. */
  jwks?: string;
  issuer?: string | readonly string[];
  audience?: string | readonly string[];
  algorithms?: readonly string[];
  /** Seconds by which clocks may differ. */
  leeway?: number;
  /** Whether a token has to say until when it counts; it does unless this is false. */
  requireExp?: boolean;
}

/** A request as `createContext` sees it: all but its body. Node's `IncomingMessage` is written the same way. */
export interface ContextRequest {
  readonly method: string;
  readonly url: string;
  /** By names in lower case; one that came several times is joined by commas, cookies by semicolons. */
  readonly headers: { readonly [name: string]: string | undefined };
  readonly socket: { readonly remoteAddress: string | undefined };
}

/** What functions have in place of the `jwt` of `createContext`: nothing. A context is still passed on as one. */
interface NoJwt {
  /** @deprecated Tokens are verified once, in `createContext`: functions see who called in `auth`. */
  jwt: never;
}

/** The context of a query. */
export type GenericQueryCtx<DM extends AnyDataModel> = Omit<GenericServerContext<DM>, 'jwt'> & NoJwt;

/** The context of a mutation. */
export interface GenericMutationCtx<DM extends AnyDataModel> extends GenericQueryCtx<DM> {
  db: DatabaseWriter<DM>;
}

/** A function of a project as it is at run time. The last two parameters are what callers give and get. */
export interface DefinedFunction<K extends Kind, V extends FunctionVisibility, Args, Returns>
  extends RegisteredFunction<K, V, Args, Returns> {
  readonly [FUNCTION]: true;
  readonly kind: K;
  readonly visibility: V;
  readonly input: ArgsValidator | undefined;
  readonly returns: Validator | undefined;
  readonly handler: (ctx: any, input: any) => unknown;
}

/** Any function of a project. */
export type AnyFunction = DefinedFunction<Kind, FunctionVisibility, any, any>;

/** How a function is defined; `args` is another word for `input`. */
type Definition<Ctx, A extends ArgsValidator, R, V extends Validator> =
  | { input?: A; args?: never; returns?: V; handler: (ctx: Ctx, input: ArgsOutput<A>) => R }
  | { args?: A; input?: never; returns?: V; handler: (ctx: Ctx, input: ArgsOutput<A>) => R };

/** Defines functions of a kind. */
export interface Builder<K extends Kind, V extends FunctionVisibility, Ctx> {
  <A extends ArgsValidator = {}, R = unknown, RV extends Validator = never>(
    definition: Definition<Ctx, A, R, RV>,
  ): DefinedFunction<K, V, ArgsInput<A>, [RV] extends [never] ? Awaited<R> : Output<RV>>;
  /** Without arguments the handler alone will do. */
  <R>(handler: (ctx: Ctx) => R): DefinedFunction<K, V, {}, Awaited<R>>;
}

type ReaderOf<Ctx> = Ctx extends { db: DatabaseReader<infer DM> } ? DatabaseReader<DM> : unknown;
type WriterOf<Ctx> = Ctx extends { db: DatabaseReader<infer DM> } ? DatabaseWriter<DM> : unknown;

/** The context that a query has: whatever `Ctx` says, its `db` only reads, and tokens were verified before. */
export type QueryCtxOf<Ctx> = Omit<Ctx, 'db' | 'jwt'> & NoJwt & { db: ReaderOf<Ctx> };

/** The context that a mutation has: its `db` writes as well. */
export type MutationCtxOf<Ctx> = Omit<Ctx, 'db' | 'jwt'> & NoJwt & { db: WriterOf<Ctx> };

/** The four builders. */
export interface FunctionHelpers<Ctx> {
  query: Builder<'query', 'public', QueryCtxOf<Ctx>>;
  mutation: Builder<'mutation', 'public', MutationCtxOf<Ctx>>;
  internalQuery: Builder<'query', 'internal', QueryCtxOf<Ctx>>;
  internalMutation: Builder<'mutation', 'internal', MutationCtxOf<Ctx>>;
}

/**
 * Makes `query`, `mutation` and their internal twins for a context of one's own:
 * `createFunctionHelpers<ServerContext & { auth: { userId: Id<'users'> } | null }>()`.
 */
export function createFunctionHelpers<Ctx = GenericServerContext<AnyDataModel>>(): FunctionHelpers<Ctx> {
  const builder = (kind: Kind, visibility: FunctionVisibility) => (definition: unknown) =>
    define(kind, visibility, definition);
  return {
    query: builder('query', 'public'),
    mutation: builder('mutation', 'public'),
    internalQuery: builder('query', 'internal'),
    internalMutation: builder('mutation', 'internal'),
  } as unknown as FunctionHelpers<Ctx>;
}

/** Whether a value is a function of a project. */
export function isFunction(value: unknown): value is AnyFunction {
  return typeof value === 'object' && value !== null && (value as Partial<AnyFunction>)[FUNCTION] === true;
}

interface LooseDefinition {
  input?: ArgsValidator;
  args?: ArgsValidator;
  returns?: Validator;
  handler?: unknown;
}

function define(kind: Kind, visibility: FunctionVisibility, given: unknown): AnyFunction {
  const definition: LooseDefinition = typeof given === 'function' ? { handler: given } : ((given ?? {}) as LooseDefinition);
  const { input, args, returns, handler } = definition;
  if (typeof handler !== 'function') {
    throw new Error(`a ${kind} has no handler: ${kind}({ input: { … }, handler: async (ctx, input) => { … } })`);
  }
  if (input !== undefined && args !== undefined) {
    throw new Error(`a ${kind} has both input and args, which are two words for one thing: keep one`);
  }
  return {
    [FUNCTION]: true,
    kind,
    visibility,
    input: input ?? args,
    returns,
    handler: handler as AnyFunction['handler'],
  };
}
