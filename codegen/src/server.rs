//! `server.ts`: the builders of functions, which know the project's tables and context.

use crate::project::Project;
use crate::typescript::{PACKAGE, head};

/// Returns the text of `server.ts`.
pub(crate) fn server(project: &Project) -> String {
    let mut text = head("Builders that know this project's tables.");
    text.push_str(&format!(
        "import {{
  createFunctionHelpers,
  type DataModelFromSchema,
  type GenericServerContext,
  type Id as IdOf,
  type MutationCtxOf,
  type QueryCtxOf,
}} from '{PACKAGE}';\n"
    ));
    if project.has_schema {
        text.push_str("import type * as schemaModule from '../schema.js';\n");
    }
    if project.has_server {
        text.push_str("import type * as serverModule from '../server.js';\n");
    }
    text.push_str(if project.has_schema { SCHEMA } else { NO_SCHEMA });
    text.push_str(CONTEXT);
    text.push_str(if project.has_server { OWN_CONTEXT } else { BASE_CONTEXT });
    text.push_str(BUILDERS);
    text
}

const SCHEMA: &str = "
type Exports = typeof schemaModule;

/** The schema: what `schema.ts` exports by default, else as `schema`. */
export type Schema = Exports extends { readonly default: infer S }
  ? S
  : Exports extends { readonly schema: infer S }
    ? S
    : never;

/** The tables: their documents, and what can be said of them. */
export type DataModel = DataModelFromSchema<Schema>;
";

const NO_SCHEMA: &str = "
/** The tables: there is no `schema.ts`, so nothing is known of them. */
export type DataModel = DataModelFromSchema<any>;
";

const CONTEXT: &str = "
export type TableName = keyof DataModel & string;

/** A document of a table. */
export type Doc<Table extends keyof DataModel & string> = DataModel[Table]['document'];

/** The id of a document of a table. */
export type Id<Table extends keyof DataModel & string> = IdOf<Table>;

/** What `createContext` of `server.ts` is given, as `base`. */
export type ServerContext = GenericServerContext<DataModel>;
";

const OWN_CONTEXT: &str = "
/** What `createContext` of `server.ts` makes. */
type Context = typeof serverModule extends {
  readonly createContext: (...args: any[]) => infer Made;
}
  ? Awaited<Made>
  : ServerContext;
";

const BASE_CONTEXT: &str = "
type Context = ServerContext;
";

const BUILDERS: &str = "
/** The `ctx` of queries. */
export type QueryCtx = QueryCtxOf<Context>;

/** The `ctx` of mutations. */
export type MutationCtx = MutationCtxOf<Context>;

const helpers = createFunctionHelpers<Context>();

/** A query that clients may subscribe to. */
export const query = helpers.query;

/** A query for other functions alone. */
export const internalQuery = helpers.internalQuery;

/** A mutation that clients may call. */
export const mutation = helpers.mutation;

/** A mutation for other functions alone. */
export const internalMutation = helpers.internalMutation;
";
