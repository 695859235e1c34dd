import { z } from 'zod';
import { mutation, query } from '../_generated/server';

/** The last messages of a channel, the newest at the end. Wakes when one of them changes, and for no other channel's. */
export const list = query({
  input: { channel: z.string() },
  handler: async (ctx, input) => {
    const newest = await ctx.db
      .query('messages')
      .withIndex('by_channel', (q) => q.eq('channel', input.channel))
      .order('desc')
      .take(100);
    return newest.reverse();
  },
});

/** Writes a message, in one transaction. */
export const send = mutation({
  input: {
    channel: z.string().min(1).max(60),
    author: z.string().min(1).max(60),
    text: z.string().min(1).max(2000),
  },
  handler: async (ctx, input) => {
    return ctx.db.insert('messages', {
      channel: input.channel,
      author: input.author,
      text: input.text,
    });
  },
});
