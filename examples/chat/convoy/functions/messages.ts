import { convoyError } from 'convoy';
import { z } from 'zod';
import { mutation, query } from '../_generated/server';

/** The newest messages of a channel, oldest first. */
export const list = query({
  input: { channel: z.string() },
  handler: async (ctx, { channel }) => {
    const newest = await ctx.db
      .query('messages')
      .withIndex('by_channel', (q) => q.eq('channel', channel))
      .order('desc')
      .take(100);
    return newest.reverse();
  },
});

export const send = mutation({
  input: { channel: z.string(), author: z.string().min(1).max(40), text: z.string().max(2000) },
  handler: async (ctx, input) => {
    const text = input.text.trim();
    if (text === '') throw convoyError('INVALID_ARGS', 'A message needs some text.');
    return ctx.db.insert('messages', { ...input, text });
  },
});
