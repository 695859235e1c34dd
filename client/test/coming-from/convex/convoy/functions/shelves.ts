import { z } from 'zod';
import { mutation, query } from '../_generated/server';

export const build = mutation({
  args: { name: z.string() },
  handler: async (ctx, args) => {
    return await ctx.db.insert('shelves', { name: args.name, isClosed: false, keeperIds: [] });
  },
});

/** Null where there is none; an error where there are two. */
export const byName = query({
  args: { name: z.string() },
  handler: async (ctx, args) => {
    return await ctx.db.query('shelves').withIndex('by_name', (q) => q.eq('name', args.name)).unique();
  },
});
