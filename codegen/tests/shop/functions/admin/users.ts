import { z } from 'zod';
import { query } from '../../_generated/server';

export const find = query({
  input: { name: z.string() },
  handler: async (ctx, input) => {
    const users = await ctx.db.all('users');
    return users.find((user) => user.name === input.name) ?? null;
  },
});
