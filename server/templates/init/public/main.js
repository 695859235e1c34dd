// The page, without a build step: live queries come as server-sent events, mutations are posted.
// With a bundler, `convoy/react` and `convoy/client` do all of this, with types.

import { watch } from './live.js';

const at = (id) => document.getElementById(id);
const channel = new URLSearchParams(location.search).get('channel') || 'general';
const clock = new Intl.DateTimeFormat(undefined, { timeStyle: 'short' });
const [list, note, connection, author, text, problem] =
  ['messages', 'note', 'connection', 'author', 'text', 'problem'].map(at);

at('channel').textContent = document.title = `# ${channel}`;
author.value = localStorage.getItem('author') ?? '';

watch('messages.list', { channel }, {
  onRows: showMessages,
  onState(state, words) {
    connection.dataset.state = state;
    connection.querySelector('.words').textContent = words;
  },
  onError(message) {
    note.hidden = false;
    note.dataset.state = 'error';
    note.textContent = message;
  },
});
watch('messages.count', { channel }, {
  onRows([row]) {
    at('count').textContent = row.messages;
  },
});

const items = new Map(); // _id → its <li>
let isFirst = true;

function showMessages(messages) {
  note.hidden = messages.length > 0;
  note.dataset.state = 'empty';
  note.textContent = 'No messages yet: the first that is sent to this channel appears here.';
  const isAtEnd = innerHeight + scrollY >= document.body.scrollHeight - 40;
  const gone = new Set(items.keys());
  messages.forEach((message, index) => {
    gone.delete(message._id);
    let item = items.get(message._id);
    if (item === undefined) {
      item = document.createElement('li');
      item.append(...['strong', 'time', 'p'].map((name) => document.createElement(name)));
      item.addEventListener('animationend', (event) => {
        if (event.animationName === 'lit') event.currentTarget.removeAttribute('class');
      });
      if (!isFirst) item.className = 'new';
      items.set(message._id, item);
    }
    const [name, time, words] = item.children;
    if (words.textContent !== '' && words.textContent !== message.text) item.className = 'changed';
    name.textContent = message.author;
    time.textContent = clock.format(message._creationTime);
    words.textContent = message.text;
    if (list.children[index] !== item) list.insertBefore(item, list.children[index] ?? null);
  });
  for (const id of gone) {
    items.get(id).remove();
    items.delete(id);
  }
  if (isFirst || isAtEnd) scrollTo(0, document.body.scrollHeight);
  isFirst = false;
}

at('send').addEventListener('submit', async (event) => {
  event.preventDefault();
  const button = event.target.querySelector('button');
  button.disabled = true;
  problem.textContent = '';
  localStorage.setItem('author', author.value);
  try {
    const response = await fetch('/api/mutation/messages.send', {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ channel, author: author.value, text: text.value }),
    });
    if (!response.ok) throw new Error((await response.json()).error.message);
    text.value = '';
  } catch (error) {
    problem.textContent = `Not sent: ${error.message}`;
  }
  button.disabled = false;
  text.focus();
});
