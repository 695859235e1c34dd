// Arguments named `args`, SQL by drizzle, a clock.

import { sql } from 'drizzle-orm';
import { z } from 'zod';
import { mutation, query } from '../_generated/server';

export const join = mutation({
  args: { name: z.string() },
  handler: async (ctx, args) => {
    return ctx.db.insert('readers', { name: args.name, joinedAt: Date.now() });
  },
});

export const total = query({
  handler: async (ctx) => {
    const rows = await ctx.db.raw<{ total: number }>(sql`select count(*) as total from readers`);
    return rows[0]!.total;
  },
});

export const named = query({
  args: { name: z.string() },
  handler: async (ctx, args) => {
    return ctx.db.raw<{ id: string }>(sql`select _id as id from readers where doc->>'name' = ${args.name}`);
  },
});

/** Whether the time stands still while something happens. */
export const stopTheClock = mutation({
  handler: async (ctx) => {
    const before = Date.now();
    for (let n = 0; n < 20; n++) await ctx.db.query('readers').collect();
    return { before, after: Date.now() };
  },
});

/** Reads and writes a table that somebody else made. */
export const visit = mutation({
  args: { door: z.string() },
  handler: async (ctx, args) => {
    await ctx.db.insert('visitors', { door: args.door });
    return (await ctx.db.query('visitors').collect()).length;
  },
});
