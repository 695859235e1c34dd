import { defineRef, paginationOptsValidator, sql, type FunctionArgs, type FunctionReturnType, type Id, type ReferenceTo } from 'convoy';
import { internalMutation, mutation, query, type Doc, type MutationCtx, type QueryCtx } from '../_generated/server';
import { authMutation, authQuery, requireAuth } from './_auth';
import { z } from 'zod';

type Same<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false;
function same<A, B>(..._: Same<A, B> extends true ? [] : ['these types differ', A, B]): void {}

export const createProject = mutation({
  input: { userId: defineRef('users'), name: z.string() },
  handler: async (ctx, input) => {
    same<typeof input.userId, Id<'users'>>();
    // @ts-expect-error a field that the table does not have
    await ctx.db.insert('projects', { userId: input.userId, name: input.name, createdAt: 1, nmae: 'x' });
    // @ts-expect-error a field is missing
    await ctx.db.insert('projects', { userId: input.userId, name: input.name });
    // @ts-expect-error the id of another table
    await ctx.db.insert('projects', { userId: 'p' as Id<'projects'>, name: input.name, createdAt: 1 });
    // @ts-expect-error tokens are verified in createContext
    ctx.jwt.verify('token', { secret: 'secret' });
    return ctx.db.insert('projects', { userId: input.userId, name: input.name, createdAt: Date.now() });
  },
});

export const listProjects = query({
  args: { userId: defineRef('users'), limit: z.number().default(10) },
  handler: async (ctx, args) => {
    same<typeof args.limit, number>();
    // @ts-expect-error tokens are verified in createContext
    ctx.jwt.verify('token', { secret: 'secret' });
    // @ts-expect-error a query does not write
    ctx.db.insert('projects', { userId: args.userId, name: 'x', createdAt: 1 });
    // @ts-expect-error no such index
    ctx.db.query('projects').withIndex('by_nmae');
    // @ts-expect-error no such table
    ctx.db.query('project');
    // @ts-expect-error not the index' first field
    ctx.db.query('projects').withIndex('by_user_and_state', (q) => q.eq('state', 'open'));
    // @ts-expect-error a value of another type
    ctx.db.query('projects').withIndex('by_user_and_state', (q) => q.eq('userId', args.userId).eq('state', 'shut'));
    // @ts-expect-error after a lower bound on one field comes no other field
    ctx.db.query('projects').withIndex('by_user_and_state', (q) => q.gt('userId', args.userId).lt('state', 'open'));
    // @ts-expect-error the time of creation comes after the index' fields
    ctx.db.query('projects').withIndex('by_user_and_state', (q) => q.eq('userId', args.userId).gt('_creationTime', 1));
    ctx.db.query('projects').withIndex('by_userId', (q) => q.eq('userId', args.userId).gt('_creationTime', 1).lte('_creationTime', 9));
    const range = await ctx.db
      .query('projects')
      .withIndex('by_user_and_state', (q) => q.eq('userId', args.userId).eq('state', 'open').gte('createdAt', 1).lt('createdAt', 9))
      .filter((q) => q.and(q.eq(q.field('name'), 'x'), q.neq(q.field('createdAt'), 3)))
      .filter((doc) => doc.name !== 'y')
      .order('desc', 'createdAt')
      .take(args.limit);
    same<(typeof range)[number], Doc<'projects'>>();
    // @ts-expect-error no such field
    ctx.db.query('projects').filter((q) => q.eq(q.field('nmae'), 'x'));
    // @ts-expect-error no such field
    ctx.db.query('projects').order('desc', 'nmae');
    for await (const project of ctx.db.query('projects')) {
      same<typeof project._id, Id<'projects'>>();
    }
    return ctx.db
      .query('projects')
      .withIndex('by_userId', (q) => q.eq('userId', args.userId))
      .order('desc', 'createdAt')
      .collect();
  },
});

same<FunctionArgs<ReferenceTo<typeof listProjects>>, { userId: Id<'users'>; limit?: number | undefined }>();
same<FunctionReturnType<ReferenceTo<typeof listProjects>>, Doc<'projects'>[]>();
same<FunctionReturnType<ReferenceTo<typeof createProject>>, Id<'projects'>>();
same<Doc<'users'>['_creationTime'], number>();
same<Doc<'projects'>['state'], 'open' | 'done'>();
same<Doc<'projects'>['note'], string | undefined>();

export const change = internalMutation({
  args: z.object({ id: z.string(), note: z.string().optional() }),
  returns: z.object({ done: z.boolean() }),
  handler: async (ctx, { id, note }) => {
    const project = await ctx.db.get('projects', id);
    if (project === null) return { done: false };
    await ctx.db.patch(project._id, { note });
    await ctx.db.patch('projects', project._id, { note: undefined, state: 'done' });
    await ctx.db.replace(project._id, { ...project, name: 'x' });
    await ctx.db.delete(project._id);
    // @ts-expect-error a value of another type
    await ctx.db.patch(project._id, { createdAt: 'now' });
    const user = await ctx.db.get(project.userId);
    same<typeof user, Doc<'users'> | null>();
    return { done: true };
  },
});

same<FunctionReturnType<ReferenceTo<typeof change>>, { done: boolean }>();
same<typeof change.visibility, 'internal'>();

export const raw = query(async (ctx) => {
  const rows = await ctx.db.raw<{ total: number }>(sql`select count(*)::int as total from users where name = ${'x'}`);
  // @ts-expect-error text is no statement
  await ctx.db.raw('select 1');
  same<typeof rows, { total: number }[]>();
  const identity = await ctx.auth.getUserIdentity();
  const page = await ctx.db.query('hot').withIndex('by_n', (q) => q.gt('n', 1)).paginate({ numItems: 5, cursor: null });
  return { total: rows[0]?.total ?? 0, subject: identity?.sub ?? null, next: page.continueCursor };
});

export const mine = authQuery({
  handler: async (ctx) => {
    const { userId } = requireAuth(ctx);
    return readsAlone(ctx, userId);
  },
});

export const rename = authMutation({
  input: { name: z.string() },
  handler: async (ctx, { name }) => {
    const { userId } = requireAuth(ctx);
    await ctx.db.patch(userId, { name });
  },
});

export const pages = query({
  args: { userId: defineRef('users'), paginationOpts: paginationOptsValidator },
  handler: (ctx, { userId, paginationOpts }) =>
    ctx.db.query('projects').withIndex('by_userId', (q) => q.eq('userId', userId)).paginate(paginationOpts),
});

same<FunctionArgs<ReferenceTo<typeof pages>>['paginationOpts']['cursor'], string | null>();
same<FunctionReturnType<ReferenceTo<typeof pages>>['page'], Doc<'projects'>[]>();

async function readsAlone(ctx: { db: QueryCtx['db'] }, userId: Id<'users'>) {
  return ctx.db.query('projects').withIndex('by_userId', (q) => q.eq('userId', userId)).first();
}

/** A mutation's context serves where a query's is asked for. */
export const both = (ctx: MutationCtx): QueryCtx => ctx;
