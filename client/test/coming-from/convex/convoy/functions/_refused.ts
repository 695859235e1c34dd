// What Convex has and TypeScript refuses here. Nothing imports it.

import { defineRef } from 'convoy';
// @ts-expect-error Actions come later.
import { action } from '../_generated/server';
import { mutation, query } from '../_generated/server';
import { api } from '../_generated/api';

export const outside = action;

export const another = mutation({
  args: { id: defineRef('books') },
  handler: async (ctx, args) => {
    // @ts-expect-error There is no storage: a key of one's own object store stands in a table.
    await ctx.storage.getUrl('x');
    // @ts-expect-error There is no scheduler: a table of what is due, and a worker.
    await ctx.scheduler.runAfter(0, api.books.remove, args);
    // @ts-expect-error No function calls another by its reference.
    await ctx.runMutation(api.books.remove, args);
  },
});

export const third = query(async (ctx) => {
  // @ts-expect-error A query only reads.
  await ctx.db.insert('shelves', { name: 'x', isClosed: false, keeperIds: [] });
});
