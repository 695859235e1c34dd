// In a folder, and in Convex-Lite's style: arguments as one `z.object`, the context and the arguments taken apart.

import { z } from 'zod';
import { mutation, query } from '../../_generated/server';

export const listByBook = query({
  args: z.object({
    book: z.string(),
  }),
  handler: async ({ db }, { book }) => {
    return db.query('reviews').withIndex('by_book', (q) => q.eq('book', book)).order('asc').collect();
  },
});

export const add = mutation({
  args: z.object({
    book: z.string(),
    words: z.string(),
  }),
  handler: async ({ db }, { book, words }) => {
    if (words === 'unprintable') throw new Error('this is for the log alone');
    await db.insert('reviews', { book, words });
  },
});
