import { defineSchema, defineTable } from 'convoy';
import { z } from 'zod';

export default defineSchema({
  messages: defineTable({
    channel: z.string(),
    author: z.string(),
    text: z.string(),
  }).index('by_channel', ['channel']),
});
