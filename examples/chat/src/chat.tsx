import { ConvoyError, useConnectionState, useMutation, useQuery } from 'convoy/react';
import { memo, useEffect, useRef, useState, type FormEvent } from 'react';
import { api } from '../convoy/_generated/api';
import type { Doc, Id } from '../convoy/_generated/server';

const CHANNELS = ['general', 'random', 'help'];

export function Chat() {
  const [channel, setChannel] = useState('general');
  const counts = useQuery(api.messages.perChannel, {});
  const countOf = (name: string) => counts.data?.find((row) => row.channel === name)?.messages ?? 0;
  return (
    <>
      <header>
        <h1>Chat</h1>
        <nav aria-label="Channels">
          {CHANNELS.map((name) => (
            <button key={name} aria-current={name === channel || undefined} onClick={() => setChannel(name)}>
              {name}
              <span className="count">{countOf(name)}</span>
            </button>
          ))}
        </nav>
        <Connection />
      </header>
      <Messages key={channel} channel={channel} />
      <Composer channel={channel} />
    </>
  );
}

function Connection() {
  const state = useConnectionState();
  return (
    <span className="state" data-state={state} role="status">
      {state}
    </span>
  );
}

function Messages({ channel }: { channel: string }) {
  const { data, error, isLoading } = useQuery(api.messages.list, { channel });
  const end = useRef<HTMLLIElement>(null);
  const last = data?.at(-1)?._id;
  useEffect(() => {
    end.current?.scrollIntoView({ block: 'end' });
  }, [last]);
  if (error) return <p className="note error">The messages can’t be read: {error.message}</p>;
  if (isLoading || data === undefined) return <p className="note">Reading the messages…</p>;
  if (data.length === 0) return <p className="note">Nobody has said anything in {channel} yet. Write the first message below.</p>;
  return (
    <ol aria-label={`Messages in ${channel}`} aria-live="polite">
      {data.map((message) => (
        <Message key={message._id} message={message} />
      ))}
      <li ref={end} aria-hidden="true" />
    </ol>
  );
}

const TIME = new Intl.DateTimeFormat([], { hour: '2-digit', minute: '2-digit' });

// A message that did not change is the same object, so only new ones are drawn.
const Message = memo(function Message({ message }: { message: Doc<'messages'> }) {
  const at = new Date(message._creationTime);
  return (
    <li data-id={message._id} data-pending={message._id.startsWith('pending:') || undefined}>
      <time dateTime={at.toISOString()}>{TIME.format(at)}</time>
      <b>{message.author}</b>
      {message.text}
    </li>
  );
});

function Composer({ channel }: { channel: string }) {
  const [author, setAuthor] = useState(() => localStorage.getItem('author') ?? 'Ada');
  const [text, setText] = useState('');
  const [problem, setProblem] = useState('');
  const send = useMutation(api.messages.send).withOptimisticUpdate((store, message) => {
    const shown = store.getQuery(api.messages.list, { channel: message.channel });
    if (!shown) return;
    const pending = { ...message, _id: `pending:${shown.length}` as Id<'messages'>, _creationTime: Date.now() };
    store.setQuery(api.messages.list, { channel: message.channel }, [...shown, pending]);
  });
  const submit = async (event: FormEvent) => {
    event.preventDefault();
    localStorage.setItem('author', author);
    setText('');
    setProblem('');
    try {
      await send({ channel, author, text });
    } catch (error) {
      setText((now) => now || text); // What was typed meanwhile stays.
      setProblem(error instanceof ConvoyError ? error.message : String(error));
    }
  };
  return (
    <>
      <div className="error" role="alert">{problem}</div>
      <form onSubmit={submit}>
        <input name="author" aria-label="Your name" value={author} onChange={(e) => setAuthor(e.target.value)} required maxLength={40} />
        <input name="text" aria-label="Message" placeholder={`Message ${channel}`} value={text} onChange={(e) => setText(e.target.value)} autoFocus />
        <button>Send</button>
      </form>
    </>
  );
}
