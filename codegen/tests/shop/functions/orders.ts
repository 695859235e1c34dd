import { defineRef } from 'convoy';
import { z } from 'zod';
import { internalMutation, mutation, query } from '../_generated/server';

/** Not a function of ours: it is in no api. */
export const PAGE = 20;

export const list = query({
  input: { userId: defineRef('users'), limit: z.number().optional() },
  handler: async (ctx, input) => {
    const orders = await ctx.db.all('orders');
    return orders.filter((order) => order.userId === input.userId).slice(0, input.limit ?? PAGE);
  },
});

export const count = query({
  handler: async (ctx) => (await ctx.db.all('orders')).length,
});

export const create = mutation({
  input: { userId: defineRef('users'), total: z.number() },
  handler: async (ctx, input) => ctx.db.insert('orders', { ...input, status: 'open' }),
});

export const sweep = internalMutation({
  input: { before: z.number() },
  handler: async (_ctx, input) => input.before,
});
