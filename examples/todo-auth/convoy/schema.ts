import { defineSchema, defineTable } from 'convoy';
import { z } from 'zod';

export default defineSchema({
  todos: defineTable({
    /** Whose it is: `sub` of the token. No function takes it as an argument. */
    owner: z.string(),
    text: z.string(),
    done: z.boolean().default(false),
  }).index('by_owner', ['owner']),
});
