/** Pages as arguments of a query. */

import { z } from 'zod';

/**
 * The argument of a paginated query:
 * `args: { paginationOpts: paginationOptsValidator }`, then `.paginate(args.paginationOpts)`.
 */
export const paginationOptsValidator = z.object({
  numItems: z.number().int().min(1),
  cursor: z.string().nullable(),
  endCursor: z.string().nullish(),
});
