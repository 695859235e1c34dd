// Filters as Convex builds them, and functions that have nothing but a handler.

import { z } from 'zod';
import { mutation, query } from '../_generated/server';
import type { QueryCtx } from '../_generated/server';

export const add = mutation({
  args: {
    title: z.string(),
    status: z.enum(['open', 'begun', 'done']),
    dueAt: z.number().optional(),
    tags: z.array(z.string()),
  },
  handler: async (ctx, args) => {
    return await ctx.db.insert('errands', { ...args, anything: { of: ['any', 1] }, nothing: null });
  },
});

/** Empties the list; takes no arguments. */
export const forget = mutation({
  handler: async (ctx) => {
    for (const { _id } of await ctx.db.query('errands').collect()) await ctx.db.delete(_id);
  },
});

export const all = query(async (ctx) => ctx.db.query('errands').collect());

export const first = query({ handler: async (ctx) => ctx.db.query('errands').first() });

const FILTERS = {
  eq: (ctx: QueryCtx) => ctx.db.query('errands').filter((q) => q.eq(q.field('status'), 'open')),
  neq: (ctx: QueryCtx) => ctx.db.query('errands').filter((q) => q.neq(q.field('status'), 'open')),
  lt: (ctx: QueryCtx) => ctx.db.query('errands').filter((q) => q.lt(q.field('dueAt'), 2)),
  lte: (ctx: QueryCtx) => ctx.db.query('errands').filter((q) => q.lte(q.field('dueAt'), 2)),
  gt: (ctx: QueryCtx) => ctx.db.query('errands').filter((q) => q.gt(q.field('dueAt'), 2)),
  gte: (ctx: QueryCtx) => ctx.db.query('errands').filter((q) => q.gte(q.field('dueAt'), 2)),
  and: (ctx: QueryCtx) =>
    ctx.db.query('errands').filter((q) => q.and(q.gte(q.field('dueAt'), 2), q.eq(q.field('status'), 'open'))),
  or: (ctx: QueryCtx) => ctx.db.query('errands').filter((q) => q.or(q.eq(q.field('dueAt'), 1), q.eq(q.field('status'), 'done'))),
  not: (ctx: QueryCtx) => ctx.db.query('errands').filter((q) => q.not(q.eq(q.field('title'), 'dust'))),
  doc: (ctx: QueryCtx) => ctx.db.query('errands').filter((doc) => doc.tags.includes('upstairs')),
};

export const filtered = query({
  args: { by: z.enum(['eq', 'neq', 'lt', 'lte', 'gt', 'gte', 'and', 'or', 'not', 'doc']) },
  handler: async (ctx, args) => (await FILTERS[args.by](ctx).collect()).map(({ title }) => title),
});

/** By an index on a field that may be missing. */
export const due = query({
  args: { before: z.number() },
  handler: async (ctx, args) => {
    const due = await ctx.db.query('errands').withIndex('by_due', (q) => q.lt('dueAt', args.before)).collect();
    return due.map(({ title }) => title);
  },
});

/** What a page can tell of who looks at it; null for nobody. */
export const whoAmI = query(async (ctx) => {
  const identity = await ctx.auth.getUserIdentity();
  console.log('somebody asks who they are');
  return identity && { subject: identity.sub, issuer: identity.iss, name: identity.name, email: identity.email };
});
