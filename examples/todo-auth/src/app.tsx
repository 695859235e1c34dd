import { useConnectionState, useQuery } from 'convoy/react';
import { useState, type FormEvent } from 'react';
import { api } from '../convoy/_generated/api';
import { logIn, logOut, useSession } from './session';
import { Todos } from './todos';

export function App() {
  const session = useSession();
  // Nothing of one person's page is kept for the next: the key has it begin anew.
  return session === null ? <LogIn /> : <Home key={session.token} name={session.name} />;
}

function Home({ name }: { name: string }) {
  const { error } = useQuery(api.todos.list);
  // A token that has expired, or was never good. The server says which.
  if (error?.code === 'UNAUTHORIZED') return <LogIn reason={`You are logged out: ${error.message}.`} />;
  return (
    <>
      <header>
        <h1>{name}’s todos</h1>
        <Connection />
        <button className="plain" onClick={logOut}>
          Log out
        </button>
      </header>
      <Todos />
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

function LogIn({ reason = '' }: { reason?: string }) {
  const [problem, setProblem] = useState(reason);
  const submit = async (event: FormEvent<HTMLFormElement>) => {
    event.preventDefault();
    const form = new FormData(event.currentTarget);
    setProblem('');
    try {
      await logIn(String(form.get('user')).trim().toLowerCase(), String(form.get('password')));
    } catch (error) {
      setProblem((error as Error).message);
    }
  };
  return (
    <main className="login">
      <h1>Log in to see your todos</h1>
      <form onSubmit={submit}>
        <label>
          Name <input name="user" autoComplete="username" required autoFocus />
        </label>
        <label>
          Password <input name="password" type="password" autoComplete="current-password" required />
        </label>
        <button>Log in</button>
        <p className="error" role="alert">{problem}</p>
      </form>
      <p className="quiet">In this demo there are ada, bob and grace, each with the name as password.</p>
    </main>
  );
}
