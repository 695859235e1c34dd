// What an editor shows: right uses have the right types, wrong ones are errors. Compiled by `npm test`, never run.

import { useQuery as useTanstackQuery } from "@tanstack/react-query";
import { ConvoyError, createConvoyClient, type MutationRef, type QueryRef } from "convoy/client";
import { ConvoyProvider, useMutation, useMutationState, usePaginatedQuery, useQuery } from "convoy/react";
import { convoyMutation, convoyQuery } from "convoy/tanstack";

type Message = { _id: string; channel: string; text: string };
declare const api: {
  messages: {
    listByChannel: QueryRef<{ channel: string }, Message[]>;
    all: QueryRef<{ limit?: number }, Message[]>;
    page: QueryRef<
      { channel: string; paginationOpts: { numItems: number; cursor: string | null; endCursor?: string | null } },
      { page: Message[]; isDone: boolean; continueCursor: string }
    >;
    send: MutationRef<{ channel: string; text: string }, string>;
    clear: MutationRef<{}, null>;
  };
};

type Equal<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false;
function is<T extends true>(): T | void {}

export function MessageList({ channel }: { channel: string }) {
  const { data: messages, isLoading, error, refetch, connectionState, isReconnecting, isStale } = useQuery(api.messages.listByChannel, { channel });
  is<Equal<typeof messages, Message[] | undefined>>();
  is<Equal<typeof error, ConvoyError | null>>();
  is<Equal<typeof connectionState, "connecting" | "live" | "reconnecting" | "offline" | "closed">>();
  is<Equal<typeof refetch, () => Promise<Message[]>>>();
  useQuery(api.messages.listByChannel, { channel }, { enabled: false, keepPreviousData: true });
  useQuery(api.messages.listByChannel, "skip");
  useQuery(api.messages.all);
  useQuery(api.messages.all, { limit: 3 });
  // @ts-expect-error: the channel is missing.
  useQuery(api.messages.listByChannel);
  // @ts-expect-error: it is a string.
  useQuery(api.messages.listByChannel, { channel: 1 });
  // @ts-expect-error: a mutation is no query.
  useQuery(api.messages.send, { channel, text: "" });
  return isLoading || isReconnecting || isStale ? null : <ul>{messages?.map(({ _id, text }) => <li key={_id}>{text}</li>)}</ul>;
}

export function SendMessageForm({ channel }: { channel: string }) {
  const { mutate: sendMessage } = useMutation(api.messages.send).withOptimisticUpdate((localStore, args) => {
    is<Equal<typeof args, { channel: string; text: string }>>();
    const current = localStore.getQuery(api.messages.listByChannel, { channel: args.channel });
    if (!current) return;
    localStore.setQuery(api.messages.listByChannel, { channel: args.channel }, [...current, { _id: `temp_${Date.now()}`, ...args }]);
    // @ts-expect-error: a message has a text.
    localStore.setQuery(api.messages.listByChannel, { channel: args.channel }, [{ _id: "x" }]);
    for (const { args: each, value } of localStore.getAllQueries(api.messages.listByChannel)) {
      is<Equal<typeof each, { channel: string }>>();
      is<Equal<typeof value, Message[] | undefined>>();
    }
  });
  const send = useMutation(api.messages.send);
  const clear = useMutation(api.messages.clear);
  const { mutate, isLoading, error, data, reset } = useMutationState(api.messages.send);
  is<Equal<typeof data, string | undefined>>();
  const go = async () => {
    const id = await send({ channel, text: "a" });
    is<Equal<typeof id, string>>();
    await sendMessage({ channel, text: "b" });
    await mutate({ channel, text: "c" });
    await clear();
    // @ts-expect-error: the text is missing.
    await send({ channel });
    // @ts-expect-error: it takes arguments.
    await send();
  };
  return <button onClick={go} onDoubleClick={reset} disabled={isLoading} title={error?.code ?? ""} />;
}

export function Pages({ channel }: { channel: string }) {
  const { results, status, loadMore } = usePaginatedQuery(api.messages.page, { channel }, { initialNumItems: 10 });
  is<Equal<(typeof results)[number], Message>>();
  is<Equal<typeof status, "LoadingFirstPage" | "CanLoadMore" | "LoadingMore" | "Exhausted">>();
  // @ts-expect-error: this query returns no pages.
  usePaginatedQuery(api.messages.all, {}, { initialNumItems: 10 });
  // @ts-expect-error: the channel is missing.
  usePaginatedQuery(api.messages.page, {}, { initialNumItems: 10 });
  return <button onClick={() => loadMore(5)} />;
}

const client = createConvoyClient();
export const app = <ConvoyProvider client={client}><MessageList channel="a" /></ConvoyProvider>;

export async function withoutReact(): Promise<void> {
  const list = await client.query(api.messages.listByChannel, { channel: "a" });
  is<Equal<typeof list, Message[]>>();
  await client.query(api.messages.all);
  const id = await client.mutation(api.messages.send, { channel: "a", text: "x" }, { optimisticUpdate: (_store, { text }) => void text.length });
  is<Equal<typeof id, string>>();
  await client.mutation(api.messages.clear);
  const watch = client.watchQuery(api.messages.listByChannel, { channel: "a" });
  is<Equal<ReturnType<typeof watch.getCurrent>["data"], Message[] | undefined>>();
  client.subscribe(api.messages.listByChannel, { channel: "a" }, (messages) => void messages.length)();
  // @ts-expect-error: a query is no mutation.
  await client.mutation(api.messages.all, {});
}

export function WithTanstack() {
  const { data } = useTanstackQuery(convoyQuery(client, api.messages.listByChannel, { channel: "a" }));
  is<Equal<typeof data, Message[] | undefined>>();
  const { mutationFn } = convoyMutation(client, api.messages.send);
  is<Equal<ReturnType<typeof mutationFn>, Promise<string>>>();
  return null;
}
