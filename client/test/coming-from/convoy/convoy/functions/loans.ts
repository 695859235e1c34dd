// Arguments named `input`, and functions that know the reader.

import { convoyError, defineRef } from 'convoy';
import { z } from 'zod';
import { mutation, query } from '../_generated/server';
import { authMutation, authQuery, requireAuth } from './_auth';

export const lend = mutation({
  input: { readerId: defineRef('readers'), title: z.string() },
  handler: async (ctx, input) => {
    if (input.title === '') {
      throw convoyError('NO_TITLE', 'a book has a title', { field: 'title' });
    }
    return ctx.db.insert('loans', {
      readerId: input.readerId,
      title: input.title,
      lentAt: Date.now(),
    });
  },
});

export const list = query({
  input: { readerId: defineRef('readers') },
  handler: async (ctx, input) => {
    return ctx.db
      .query('loans')
      .withIndex('by_readerId', (q) => q.eq('readerId', input.readerId))
      .order('desc', 'lentAt')
      .collect();
  },
});

export const mine = authQuery({
  handler: async (ctx) => {
    const { readerId } = requireAuth(ctx);
    return ctx.db.query('loans').withIndex('by_readerId', (q) => q.eq('readerId', readerId)).collect();
  },
});

export const bringBack = authMutation({
  input: { loanId: defineRef('loans') },
  handler: async (ctx, input) => {
    const { readerId } = requireAuth(ctx);
    const loan = await ctx.db.get(input.loanId);
    if (loan?.readerId !== readerId) {
      throw convoyError('FORBIDDEN', 'this loan is somebody else\'s');
    }
    await ctx.db.delete(input.loanId);
  },
});

/** Only the reader may look, so that a page that asks for another's has an error to show. */
export const history = authQuery({
  input: { readerId: defineRef('readers') },
  handler: async (ctx, input) => {
    if (requireAuth(ctx).readerId !== input.readerId) {
      throw convoyError('FORBIDDEN', 'these loans are somebody else\'s');
    }
    return ctx.db.query('loans').withIndex('by_readerId', (q) => q.eq('readerId', input.readerId)).collect();
  },
});
