// What a page of Convex' looks like here: a provider, hooks, pages that are loaded one by one.

import React, { useState } from 'react';
import { createConvoyClient } from 'convoy/client';
import { ConvoyProvider, useConnectionState, useConvoy, useMutation, usePaginatedQuery, useQuery } from 'convoy/react';
import { api } from '../convoy/_generated/api';
import type { Id } from '../convoy/_generated/server';

type Shelf = { shelfId: Id<'shelves'> };

export const clientOf = (url: string, getToken: () => Promise<string | null>) => createConvoyClient({ url, auth: () => getToken() });

export function App({ client, children }: { client: ReturnType<typeof createConvoyClient>; children: React.ReactNode }) {
  return (
    <React.StrictMode>
      <ConvoyProvider client={client}>{children}</ConvoyProvider>
    </React.StrictMode>
  );
}

export function Books({ shelfId }: Shelf) {
  const { data: books } = useQuery(api.books.list, { shelfId });
  if (books === undefined) return <p>loading</p>;
  return (
    <ul>
      {books.map((book) => (
        <li key={book._id}>{`${book.title} from ${book.giver?.name};`}</li>
      ))}
    </ul>
  );
}

export function Skipped({ shelfId }: { shelfId: Id<'shelves'> | null }) {
  const { data: books, isLoading } = useQuery(api.books.list, shelfId === null ? 'skip' : { shelfId });
  return <p>{`${books === undefined ? 'nothing' : books.length}${isLoading ? ' yet' : ''}`}</p>;
}

export function Give({ shelfId, title }: Shelf & { title: string }) {
  const [outcome, setOutcome] = useState('give');
  const give = useMutation(api.books.give);
  const submit = async (event: React.FormEvent) => {
    event.preventDefault();
    try {
      const id = await give({ shelfId, title });
      setOutcome(id.replace(/:.*/, ''));
    } catch (error) {
      setOutcome(String(error));
    }
  };
  return (
    <form onSubmit={submit}>
      <button type="submit">{outcome}</button>
    </form>
  );
}

export function Forget() {
  const forget = useMutation(api.errands.forget);
  const { data: errands } = useQuery(api.errands.all);
  return <button onClick={() => forget()}>{errands === undefined ? 'loading' : `${errands.length} errands`}</button>;
}

export function Remove({ shelfId, id }: Shelf & { id: Id<'books'> }) {
  const remove = useMutation(api.books.remove).withOptimisticUpdate((localStore, args) => {
    const books = localStore.getQuery(api.books.list, { shelfId });
    if (books === undefined) return;
    localStore.setQuery(api.books.list, { shelfId }, books.filter((book) => book._id !== args.id));
  });
  return <button onClick={() => remove({ id })}>remove</button>;
}

export function PagedBooks({ shelfId }: Shelf) {
  const { results, status, loadMore } = usePaginatedQuery(api.books.paginated, { shelfId }, { initialNumItems: 2 });
  return (
    <div>
      {results.map((book) => (
        <i key={book._id}>{book.title} </i>
      ))}
      {status === 'LoadingFirstPage' && 'first'}
      {status === 'CanLoadMore' && <button onClick={() => loadMore(2)}>more</button>}
      {status === 'LoadingMore' && 'loading'}
      {status === 'Exhausted' && 'that is all'}
    </div>
  );
}

export function Sign() {
  const state = useConnectionState();
  const client = useConvoy();
  const [me, setMe] = useState('?');
  const ask = async () => setMe((await client.query(api.errands.whoAmI))?.name ?? 'nobody');
  return <button onClick={ask}>{`${state}, ${me}`}</button>;
}
