import { convoyError, defineRef } from 'convoy';
import { z } from 'zod';
import { mutation, query, type Id, type MutationCtx } from '../_generated/server';
import { userOf } from './_user';

const id = defineRef('todos');

/** The caller's todos, in the order in which they were written. */
export const list = query(async (ctx) => {
  const owner = userOf(ctx);
  return ctx.db.query('todos').withIndex('by_owner', (q) => q.eq('owner', owner)).take(500);
});

export const add = mutation({
  input: { text: z.string().max(500) },
  handler: async (ctx, input) => {
    const owner = userOf(ctx);
    const text = input.text.trim();
    if (text === '') throw convoyError('INVALID_ARGS', 'A todo needs some text.');
    return ctx.db.insert('todos', { owner, text });
  },
});

export const setDone = mutation({
  input: { id, done: z.boolean() },
  handler: async (ctx, input) => {
    await own(ctx, input.id);
    await ctx.db.patch(input.id, { done: input.done });
  },
});

export const remove = mutation({
  input: { id },
  handler: async (ctx, input) => {
    await own(ctx, input.id);
    await ctx.db.delete(input.id);
  },
});

/** Refuses a todo that is not the caller's. Another's gets the same answer as none at all, so that guesses tell nothing. */
async function own(ctx: MutationCtx, id: Id<'todos'>): Promise<void> {
  const owner = userOf(ctx);
  const todo = await ctx.db.get(id);
  if (todo?.owner !== owner) throw convoyError('NOT_FOUND', 'You have no such todo.');
}
