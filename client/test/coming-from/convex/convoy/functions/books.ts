// Reads as in Convex: an index, the newest first, documents of another table beside them, pages; and writes that ask who calls.

import { defineRef, paginationOptsValidator } from 'convoy';
import { z } from 'zod';
import { internalMutation, internalQuery, mutation, query } from '../_generated/server';
import type { MutationCtx } from '../_generated/server';

export const list = query({
  args: { shelfId: defineRef('shelves') },
  handler: async (ctx, args) => {
    const books = await ctx.db
      .query('books')
      .withIndex('by_shelf', (q) => q.eq('shelfId', args.shelfId))
      .order('desc')
      .take(3);
    return await Promise.all(
      books.map(async (book) => {
        const giver = await ctx.db.get(book.giverId);
        return { ...book, giver };
      }),
    );
  },
});

export const get = query({
  args: { id: defineRef('books') },
  handler: async (ctx, args) => {
    return await ctx.db.get(args.id);
  },
});

export const search = query({
  args: { shelfId: defineRef('shelves'), term: z.string() },
  returns: z.array(z.string()),
  handler: async (ctx, args) => {
    const books = await ctx.db
      .query('books')
      .withIndex('by_shelf', (q) => q.eq('shelfId', args.shelfId))
      .collect();
    return books.filter((book) => book.title.toLowerCase().includes(args.term.toLowerCase())).map((book) => book.title);
  },
});

export const paginated = query({
  args: { shelfId: defineRef('shelves'), paginationOpts: paginationOptsValidator },
  handler: async (ctx, args) => {
    return await ctx.db
      .query('books')
      .withIndex('by_shelf', (q) => q.eq('shelfId', args.shelfId))
      .order('desc')
      .paginate(args.paginationOpts);
  },
});

/** All books, in pages that a validator of one's own asks for. */
export const everything = query({
  args: { paginationOpts: z.object({ numItems: z.number(), cursor: z.union([z.string(), z.null()]) }) },
  handler: async (ctx, args) => {
    return await ctx.db.query('books').order('desc').paginate(args.paginationOpts);
  },
});

/** Those that came to a shelf in a span of time. */
export const between = query({
  args: { shelfId: defineRef('shelves'), from: z.number(), to: z.number() },
  handler: async (ctx, args) => {
    return await ctx.db
      .query('books')
      .withIndex('by_shelf', (q) => q.eq('shelfId', args.shelfId).gt('addedAt', args.from).lte('addedAt', args.to))
      .collect();
  },
});

/** Those of one moment that were inserted after another one of it. */
export const later = query({
  args: { id: defineRef('books') },
  handler: async (ctx, args) => {
    const book = await ctx.db.get(args.id);
    if (book === null) return [];
    return await ctx.db
      .query('books')
      .withIndex('by_shelf', (q) => q.eq('shelfId', book.shelfId).eq('addedAt', book.addedAt).gt('_creationTime', book._creationTime))
      .collect();
  },
});

async function memberOf(ctx: MutationCtx) {
  const identity = await ctx.auth.getUserIdentity();
  if (!identity) {
    throw new Error('Nobody has shown a card');
  }
  const tokenIdentifier = `${identity.iss}|${identity.sub}`;
  const member = await ctx.db
    .query('members')
    .withIndex('by_token_identifier', (q) => q.eq('tokenIdentifier', tokenIdentifier))
    .unique();
  if (member) return member;
  const { name, email } = identity;
  if (!name || !email) throw new Error('The card has neither name nor address');
  const id = await ctx.db.insert('members', { name, email, tokenIdentifier, role: 'reader' });
  return (await ctx.db.get(id))!;
}

export const give = mutation({
  args: { shelfId: defineRef('shelves'), title: z.string(), addedAt: z.number().optional() },
  handler: async (ctx, args) => {
    const member = await memberOf(ctx);
    if (args.title.length > 60) {
      throw new Error('Such titles fit on no spine');
    }
    const bookId = await ctx.db.insert('books', {
      title: args.title,
      shelfId: args.shelfId,
      giverId: member._id,
      addedAt: args.addedAt ?? Date.now(),
    });
    return bookId;
  },
});

export const rename = mutation({
  args: { id: defineRef('books'), title: z.string() },
  handler: async (ctx, args) => {
    const member = await memberOf(ctx);
    const book = await ctx.db.get(args.id);
    if (book?.giverId !== member?._id) {
      throw new Error('Somebody else gave this book');
    }
    await ctx.db.patch(args.id, { title: args.title });
  },
});

export const mark = mutation({
  args: { id: defineRef('books'), sign: z.string() },
  handler: async (ctx, args) => {
    const member = await memberOf(ctx);
    const book = await ctx.db.get(args.id);
    if (!book) {
      throw new Error('There is no such book');
    }
    const marks = book.marks || [];
    marks.push({ sign: args.sign, memberId: member._id });
    await ctx.db.patch(args.id, { marks });
  },
});

export const exchange = mutation({
  args: { id: defineRef('books'), title: z.string() },
  handler: async (ctx, args) => {
    const { _id, _creationTime, marks, ...book } = (await ctx.db.get(args.id))!;
    await ctx.db.replace(args.id, { ...book, title: args.title });
  },
});

export const remove = mutation({
  args: { id: defineRef('books') },
  handler: async (ctx, args) => {
    await ctx.db.delete(args.id);
  },
});

export const ask = mutation({
  handler: async () => {
    console.error('asking the world');
    await fetch('http://127.0.0.1:1/');
  },
});

export const hidden = internalQuery(async (ctx) => ctx.db.query('books').collect());
export const hiddenToo = internalMutation({ handler: async (ctx) => ctx.db.insert('shelves', { name: 'x', isClosed: true, keeperIds: [] }) });
