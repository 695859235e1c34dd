// What Convex-Lite had and TypeScript refuses here. Nothing imports it.

import { z } from 'zod';
import { mutation, query } from '../_generated/server';
import { listByBook } from './front/reviews';

export const invalidate = mutation({
  args: z.object({ book: z.string() }),
  // @ts-expect-error There is no scheduler: what a query read is known.
  handler: async ({ scheduler }) => scheduler.invalidate(listByBook),
});

export const drizzled = query({
  args: z.object({ book: z.string() }),
  handler: async ({ db }, { book }) => {
    // @ts-expect-error Reads are written `db.query('reviews')`.
    return db.query.reviews.findMany({ where: (reviews, { eq }) => eq(reviews.book, book) });
  },
});
