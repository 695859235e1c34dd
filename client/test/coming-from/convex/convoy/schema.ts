// A library that lends books. Its schema is the default export, with what Convex' validators say in zod's words.

import { defineRef, defineSchema, defineTable } from 'convoy';
import { z } from 'zod';

export default defineSchema({
  books: defineTable({
    title: z.string(),
    shelfId: defineRef('shelves'),
    giverId: defineRef('members'),
    addedAt: z.number(),
    marks: z.array(z.object({ sign: z.string(), memberId: defineRef('members') })).optional(),
  })
    .index('by_shelf', ['shelfId', 'addedAt'])
    .index('by_giver', ['giverId']),

  members: defineTable({
    name: z.string(),
    email: z.string(),
    tokenIdentifier: z.string(),
    portrait: z.string().optional(),
    role: z.union([z.literal('librarian'), z.literal('reader')]),
  })
    .index('by_email', ['email'])
    .index('by_token_identifier', ['tokenIdentifier']),

  shelves: defineTable({
    name: z.string(),
    isClosed: z.boolean(),
    keeperIds: z.array(defineRef('members')),
  }).index('by_name', ['name']),

  errands: defineTable({
    title: z.string(),
    status: z.enum(['open', 'begun', 'done']),
    dueAt: z.number().optional(),
    tags: z.array(z.string()),
    anything: z.any(),
    nothing: z.null(),
  })
    .index('by_status', ['status'])
    .index('by_due', ['dueAt']),
});
