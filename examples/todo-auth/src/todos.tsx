import { ConvoyError, useMutation, useQuery } from 'convoy/react';
import { useState, type FormEvent } from 'react';
import { api } from '../convoy/_generated/api';
import type { Doc } from '../convoy/_generated/server';

export function Todos() {
  const { data, error, isLoading } = useQuery(api.todos.list);
  const done = data?.filter((todo) => todo.done).length ?? 0;
  const [problem, setProblem] = useState('');
  /** Runs a mutation; what it throws is shown. Returns whether it was done. */
  const attempt = async (work: Promise<unknown>): Promise<boolean> => {
    setProblem('');
    try {
      await work;
      return true;
    } catch (error) {
      setProblem(error instanceof ConvoyError ? error.message : String(error));
      return false;
    }
  };
  const add = useMutation(api.todos.add);
  const remove = useMutation(api.todos.remove);
  // Shown at once, and undone if the server refuses.
  const setDone = useMutation(api.todos.setDone).withOptimisticUpdate((store, { id, done }) => {
    const shown = store.getQuery(api.todos.list);
    if (shown) store.setQuery(api.todos.list, {}, shown.map((todo) => (todo._id === id ? { ...todo, done } : todo)));
  });

  return (
    <main>
      <Composer onAdd={(text) => attempt(add({ text }))} />
      <p className="error" role="alert">{problem}</p>
      {error && <p className="note error">The todos can’t be read: {error.message}</p>}
      {isLoading && <p className="note">Reading your todos…</p>}
      {data?.length === 0 && <p className="note">Nothing to do. What you write above appears here, and nobody else sees it.</p>}
      <ul aria-label="Todos">
        {data?.map((todo) => (
          <Item
            key={todo._id}
            todo={todo}
            onDone={(done) => void attempt(setDone({ id: todo._id, done }))}
            onRemove={() => void attempt(remove({ id: todo._id }))}
          />
        ))}
      </ul>
      {data !== undefined && data.length > 0 && (
        <p className="count">
          {done} of {data.length} done
        </p>
      )}
    </main>
  );
}

function Item({ todo, onDone, onRemove }: { todo: Doc<'todos'>; onDone: (done: boolean) => void; onRemove: () => void }) {
  return (
    <li data-id={todo._id}>
      <label>
        <input type="checkbox" checked={todo.done} onChange={(event) => onDone(event.target.checked)} />
        <span>{todo.text}</span>
      </label>
      <button className="plain" aria-label={`Delete ${todo.text}`} onClick={onRemove}>
        Delete
      </button>
    </li>
  );
}

function Composer({ onAdd }: { onAdd: (text: string) => Promise<boolean> }) {
  const [text, setText] = useState('');
  const submit = async (event: FormEvent) => {
    event.preventDefault();
    setText('');
    if (!(await onAdd(text))) setText((now) => now || text); // What was typed meanwhile stays.
  };
  return (
    <form className="composer" onSubmit={submit}>
      <input aria-label="New todo" placeholder="What is to be done?" value={text} maxLength={500} onChange={(event) => setText(event.target.value)} autoFocus />
      <button>Add</button>
    </form>
  );
}
