// A library that lends books. Its schema is a named export, as the first Convoys had it.

import { defineRef, defineSchema, defineTable } from 'convoy';
import { z } from 'zod';

export const schema = defineSchema({
  readers: defineTable({
    name: z.string(),
    joinedAt: z.number(),
  }),
  cards: defineTable({
    number: z.string(),
    readerId: defineRef('readers'),
  }).index('by_number', ['number']),
  loans: defineTable({
    title: z.string(),
    readerId: defineRef('readers'),
    lentAt: z.number(),
  }).index('by_readerId', ['readerId']),
  reviews: defineTable({
    book: z.string(),
    words: z.string(),
  }).index('by_book', ['book']),
  visitors: defineTable({ door: z.string() }).unmanaged(),
});
