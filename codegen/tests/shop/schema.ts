import { defineRef, defineSchema, defineTable } from 'convoy';
import { z } from 'zod';

export const schema = defineSchema({
  users: defineTable({ name: z.string() }),
  orders: defineTable({
    userId: defineRef('users'),
    status: z.enum(['open', 'paid']),
    total: z.number(),
  }).index('by_userId', ['userId']),
});
