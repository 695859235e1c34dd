// What a page of the first Convoys and of Convex-Lite looks like: hooks, without a provider.

import { useMutation as useTanstackMutation, useQuery as useTanstackQuery } from '@tanstack/react-query';
import { useState } from 'react';
import { ConvoyError, createConvoyClient } from 'convoy/client';
import { useMutation, useMutationState, useQuery } from 'convoy/react';
import { convoyMutation, convoyQuery } from 'convoy/tanstack';
import { api } from '../convoy/_generated/api';
import type { Id } from '../convoy/_generated/server';

type Reader = { readerId: Id<'readers'> };

export function Loans({ readerId }: Reader) {
  const lend = useMutation(api.loans.lend);
  const { data, connectionState, isReconnecting, isStale } = useQuery(api.loans.list, { readerId });
  return (
    <button onClick={() => lend({ readerId, title: 'Emma' })}>
      {`${connectionState}${isReconnecting ? ' again' : ''}${isStale ? ' stale' : ''}: ${data?.map(({ title }) => title).join()}`}
    </button>
  );
}

export function OnDemand({ readerId }: Reader) {
  const { data, refetch } = useQuery(api.loans.list, { readerId }, { enabled: false });
  return <button onClick={() => refetch()}>{data === undefined ? 'not asked' : `${data.length} loans`}</button>;
}

export function Failing({ readerId }: Reader) {
  const { error, data } = useQuery(api.loans.history, { readerId });
  return <p>{error === null ? `${data?.length} loans` : `${error.code}: ${error.message}`}</p>;
}

export function Reviews({ book }: { book: string }) {
  const { data: reviews, isLoading } = useQuery(api.front.reviews.listByBook, { book });
  if (isLoading) return <p>loading</p>;
  return <p>{reviews?.map((review) => (review._id.startsWith('temp_') ? `(${review.words})` : review.words)).join()}</p>;
}

export function ReviewForm({ book, words }: { book: string; words: string }) {
  const [outcome, setOutcome] = useState('');
  const { mutate: add } = useMutation(api.front.reviews.add).withOptimisticUpdate((localStore, args) => {
    const current = localStore.getQuery(api.front.reviews.listByBook, { book: args.book });
    if (!current) return;
    const review = {
      _id: `temp_${Date.now()}` as Id<'reviews'>,
      _creationTime: Date.now(),
      book: args.book,
      words: args.words,
    };
    localStore.setQuery(api.front.reviews.listByBook, { book: args.book }, [...current, review]);
  });
  const submit = async () => {
    try {
      await add({ book, words });
      setOutcome('printed');
    } catch (error) {
      setOutcome(error instanceof ConvoyError ? error.code : 'something else');
    }
  };
  return <button onClick={submit}>{outcome}</button>;
}

export function Desk({ readerId, title }: Reader & { title: string }) {
  const { mutate, isLoading, error, data, reset } = useMutationState(api.loans.lend);
  const [caught, setCaught] = useState('');
  const submit = async () => {
    try {
      await mutate({ readerId, title });
    } catch (err) {
      if (err instanceof ConvoyError) setCaught(`${err.code}, ${err.message}, ${JSON.stringify(err.data)}`);
    }
  };
  return (
    <button onClick={submit} onDoubleClick={reset}>
      {isLoading ? 'busy' : `${error?.code ?? 'fine'}; ${data?.replace(/:.*/, '') ?? 'nothing'}; ${caught}`}
    </button>
  );
}

/** The same loans in the cache of TanStack Query. */
export function CachedLoans({ readerId, client }: Reader & { client: ReturnType<typeof createConvoyClient> }) {
  const { data } = useTanstackQuery(convoyQuery(client, api.loans.list, { readerId }));
  const { mutate } = useTanstackMutation(convoyMutation(client, api.loans.lend));
  return <button onClick={() => mutate({ readerId, title: 'Persuasion' })}>{data?.map(({ title }) => title).join() ?? 'loading'}</button>;
}

/** Without React: what a script calls. */
export async function lendFromScript({ readerId }: Reader, title: string) {
  const client = createConvoyClient();
  try {
    return await client.mutation(api.loans.lend, { readerId, title });
  } finally {
    client.close();
  }
}
