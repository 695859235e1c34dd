//! Calls, end to end.

use crate::support::{Folder, Memory, Zod, mutation, query};
use serde_json::json;
use std::sync::Arc;

const SCHEMA: &str = "
import { defineSchema, defineTable, defineRef } from 'convoy';
import { z } from 'zod';
export const schema = defineSchema({
  users: defineTable({ name: z.string(), createdAt: z.number() }),
  projects: defineTable({ name: z.string(), userId: defineRef('users'), createdAt: z.number() }).index('by_userId', ['userId']),
});
export default schema;
";

const PROJECTS: &str = "
import { defineRef } from 'convoy';
import { mutation, query } from '../_generated/server';
import { z } from 'zod';

export const createProject = mutation({
  input: { userId: defineRef('users'), name: z.string() },
  handler: async (ctx, input) => {
    return ctx.db.insert('projects', { userId: input.userId, name: input.name, createdAt: Date.now() });
  },
});

export const listProjects = query({
  input: { userId: defineRef('users') },
  handler: async (ctx, input) => {
    return ctx.db
      .query('projects')
      .withIndex('by_userId', (q) => q.eq('userId', input.userId))
      .order('desc', 'createdAt')
      .collect();
  },
});
";

/// The quickstart's files, with either zod.
#[tokio::test]
async fn the_quickstart_runs() {
    for zod in [Zod::Three, Zod::Four] {
        let folder =
            Folder::new(zod, &[("schema.ts", SCHEMA), ("functions/projects.ts", PROJECTS)]);
        let (runtime, host) = (folder.runtime(), Arc::new(Memory::default()));
        let id = mutation(
            &runtime,
            &host,
            "projects.createProject",
            json!({ "userId": "users:1", "name": "a" }),
        )
        .await
        .unwrap_or_else(|error| panic!("{zod:?} {error} {:?}", error.detail));
        assert_eq!(id, "projects:1");
        let listed =
            query(&runtime, &host, "projects.listProjects", json!({ "userId": "users:1" }))
                .await
                .expect("a list");
        assert_eq!(
            listed,
            json!([{ "_id": "projects:1", "_creationTime": 1, "userId": "users:1", "name": "a", "createdAt": 1_700_000_000_000_i64 }])
        );
        assert_eq!(
            host.asked()[1].1,
            json!({
                "table": "projects", "index": "by_userId", "range": [{ "op": "eq", "field": "userId", "value": "users:1" }],
                "order": "desc", "orderBy": "createdAt", "after": null, "until": null, "limit": null
            })
        );
    }
}
