import { defineRef, defineSchema, defineTable } from 'convoy';
import { z } from 'zod';

export const schema = defineSchema({
  users: defineTable({ name: z.string(), createdAt: z.number() }),
  projects: defineTable({
    name: z.string(),
    userId: defineRef('users'),
    state: z.enum(['open', 'done']).default('open'),
    note: z.string().optional(),
    createdAt: z.number(),
  })
    .index('by_userId', ['userId'])
    .index('by_user_and_state', ['userId', 'state', 'createdAt']),
  audit_log: defineTable({ event: z.string() }).unmanaged(),
  hot: defineTable({ n: z.number() }).index('by_n', ['n']).relational(),
});

// @ts-expect-error a field that the table does not have
defineTable({ name: z.string() }).index('by_nmae', ['nmae']);
// @ts-expect-error no zod type
defineTable({ name: 'string' });
// @ts-expect-error no table
defineSchema({ users: { name: z.string() } });

export default schema;
