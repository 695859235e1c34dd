// A small server that speaks the protocol (docs/protocol.md) over real HTTP, with functions that a test writes and a
// database that is a variable. For what a test must steer to the frame: when a transition leaves and what it reflects,
// goodbyes, refusals, answers that get lost, proxies that hold a stream back.

import { createServer } from "node:http";
import { randomUUID } from "node:crypto";

export class Peer {
  /** `queries` and `mutations` map names to functions of `(db, args)`, and for a query in a session its owner. */
  static async start({ db = {}, queries = {}, mutations = {} } = {}) {
    const peer = new Peer();
    Object.assign(peer, {
      db, queries, mutations,
      lsn: 100,
      heartbeatMs: 15_000, // What it promises; it never sends any.
      sessions: new Map(), // id → session
      done: new Map(), // mutation id → answer
      requests: [], // `{path, body, headers}`, all of them
      runs: 0, // how often a mutation's function ran
      owner: () => "", // (headers) => whose request it is; a session is its owner's
      slow: new Set(), // queries that are not answered for now
      isHeld: false, // whether transitions wait for `release`
      buffers: false, // whether an answer that streams is held back until it ends, as some proxies do
      intercept: null, // (request) => {status, body, headers} | "drop" | "keep" (never answered) | null
      sockets: new Set(),
    });
    peer.server = createServer((request, response) => void peer.#handle(request, response));
    peer.server.on("connection", (socket) => {
      peer.sockets.add(socket);
      socket.on("close", () => peer.sockets.delete(socket));
    });
    await new Promise((resolve) => peer.server.listen(0, "127.0.0.1", resolve));
    peer.port = peer.server.address().port;
    peer.url = `http://127.0.0.1:${peer.port}`;
    return peer;
  }

  async stop() {
    for (const socket of this.sockets) socket.destroy();
    await new Promise((resolve) => this.server.close(resolve));
  }

  /** Changes the database as somebody else would. */
  write(change) {
    change(this.db);
    this.lsn += 10;
    this.#publish();
  }

  /** Lets the transitions go that were held. */
  release() {
    this.isHeld = false;
    this.#publish();
  }

  /** Ends all streams with these words. */
  goodbye(goodbye) {
    for (const session of this.sessions.values()) {
      session.response?.end(`event: goodbye\ndata: ${JSON.stringify(goodbye)}\n\n`);
      session.response = null;
    }
  }

  /** Sends a transition that this server would never send by itself. */
  inject(session, transition) {
    this.#write(session, `event: transition\nid: ${randomUUID()}\ndata: ${JSON.stringify(transition)}\n\n`);
  }

  /** Breaks all connections. */
  cut() {
    for (const socket of this.sockets) socket.destroy();
  }

  forgetSessions() {
    this.cut();
    this.sessions.clear();
  }

  get streams() {
    return this.requests.filter(({ path }) => path.startsWith("/api/sync?"));
  }

  async #handle(request, response) {
    let text = "";
    for await (const piece of request.setEncoding("utf8")) text += piece;
    const body = text === "" ? {} : JSON.parse(text);
    const { pathname, searchParams } = new URL(request.url, this.url);
    const entry = { path: request.url, body, headers: request.headers };
    if (request.method !== "OPTIONS") this.requests.push(entry);
    // Pages of another origin may call.
    response.setHeader("access-control-allow-origin", "*");
    response.setHeader("access-control-allow-headers", "*");
    response.setHeader("access-control-expose-headers", "retry-after");
    if (request.method === "OPTIONS") return response.writeHead(204).end();
    const forced = this.intercept?.(entry);
    if (forced === "keep") return;
    if (forced === "drop") return request.socket.destroy();
    if (forced) return answer(response, forced.status, forced.body, forced.headers);
    const [, , what, name] = pathname.split("/").map(decodeURIComponent);
    const owner = this.owner(request.headers);
    if (what === "sync" && name === undefined) return this.#open(response, body, searchParams, owner);
    if (what === "sync") return this.#change(response, name, body, owner);
    if (what === "query") return this.#query(response, name, body);
    if (what === "mutation") return this.#mutation(response, name, body, request);
    answer(response, 404, failure("NOT_FOUND", pathname));
  }

  #open(response, body, params, owner) {
    const known = body.resume === undefined ? undefined : [...this.sessions.values()].find((session) => session.token === body.resume && session.owner === owner);
    const session = known ?? { id: randomUUID(), owner, subs: new Map(), used: new Set(), reflects: [], token: "", lsn: 0 };
    this.sessions.set(session.id, session);
    session.response?.end();
    response.writeHead(200, { "content-type": "text/event-stream", "cache-control": "no-store" });
    response.flushHeaders();
    session.response = response;
    session.poll = params.has("poll") ? Number(params.get("poll")) : null;
    session.buffer = "";
    response.on("close", () => {
      if (session.response === response) session.response = null;
    });
    this.#write(session, `event: hello\ndata: ${JSON.stringify({ session: session.id, resumed: known !== undefined, protocol: 1, heartbeat_ms: this.heartbeatMs })}\n\n`);
    if (session.poll !== null) setTimeout(() => this.#endPoll(session, response), session.poll);
    this.#subscribe(session, body.subscribe ?? [], body.have ?? {});
    this.#send(session, known !== undefined);
  }

  #write(session, text) {
    if (this.buffers) session.buffer += text;
    else session.response?.write(text);
  }

  #endPoll(session, response) {
    if (session.response !== response) return;
    if (!session.buffer.includes("transition")) this.#send(session, true, false);
    session.response = null;
    response.end(session.buffer);
  }

  #subscribe(session, subscribe, have) {
    for (const { sub, query, args } of subscribe) {
      if (session.used.has(sub)) continue;
      session.used.add(sub);
      session.subs.set(sub, { query, args, sent: null, have: have[sub] ?? null });
    }
  }

  #change(response, id, body, owner) {
    const session = this.sessions.get(id);
    if (session?.owner !== owner) return answer(response, 404, failure("NOT_FOUND", "no such session"));
    if ((body.subscribe ?? []).some(({ sub }) => session.used.has(sub))) return answer(response, 400, failure("INVALID_ARGS", "a sub was used before"));
    for (const sub of body.unsubscribe ?? []) session.subs.delete(sub);
    this.#subscribe(session, body.subscribe ?? [], body.have ?? {});
    answer(response, 202, {});
    this.#send(session, false);
  }

  #query(response, name, args) {
    const run = this.queries[name];
    if (run === undefined) return answer(response, 404, failure("NOT_FOUND", `no query is called ${name}`));
    answer(response, 200, { value: run(this.db, args), lsn: text(this.lsn) });
  }

  #mutation(response, name, args, { headers, socket }) {
    const id = headers["x-convoy-mutation"];
    const session = headers["x-convoy-session"];
    const run = this.mutations[name];
    if (run === undefined || (session !== undefined && !this.sessions.has(session))) return answer(response, 404, failure("NOT_FOUND", `no mutation is called ${name}`));
    let result = this.done.get(id);
    if (result === undefined) {
      this.runs += 1;
      try {
        const value = run(this.db, args) ?? null;
        this.lsn += 10;
        result = { value, lsn: text(this.lsn) };
        this.done.set(id, result);
        if (session !== undefined) this.sessions.get(session).reflects.push(id);
        this.#publish();
      } catch (error) {
        return answer(response, error.status ?? 400, failure(error.code ?? "INTERNAL", error.message, error.data));
      }
    }
    if (this.loseAnswers > 0) {
      this.loseAnswers -= 1;
      return socket.destroy();
    }
    answer(response, 200, result);
  }

  #publish() {
    if (this.isHeld) return;
    for (const session of this.sessions.values()) this.#send(session, session.reflects.length > 0);
  }

  #send(session, always, mayEnd = true) {
    if (session.response === null || session.response === undefined) return;
    if (this.isHeld && !always) {
      // Held: first answers still come, but not what has changed.
      if ([...session.subs.values()].every(({ sent }) => sent !== null)) return;
    }
    const updates = [];
    for (const [sub, subscription] of session.subs) {
      if (this.slow.has(subscription.query)) continue;
      const run = this.queries[subscription.query];
      if (run === undefined) {
        updates.push({ sub, type: "error", final: true, error: failure("NOT_FOUND", `no query is called ${subscription.query}`).error });
        session.subs.delete(sub);
        continue;
      }
      const value = run(this.db, subscription.args, session.owner);
      const digest = JSON.stringify(value);
      if (subscription.sent === digest) continue;
      const isRows = Array.isArray(value) && value.every((row) => typeof row?._id === "string");
      if (subscription.sent === null && subscription.have === digest) updates.push({ sub, type: "unchanged" });
      else updates.push({ sub, type: "snapshot", digest, ...(isRows ? { keys: value.map(({ _id }) => _id) } : {}), value: structuredClone(value) });
      subscription.sent = digest;
    }
    if (updates.length === 0 && !always) return;
    session.token = randomUUID();
    const reflects = session.reflects.splice(0);
    this.#write(session, `event: transition\nid: ${session.token}\ndata: ${JSON.stringify({ lsn: text(this.lsn), committed_at: null, reflects, updates })}\n\n`);
    if (session.poll !== null && updates.length > 0 && mayEnd) {
      const { response } = session;
      session.response = null;
      response.end(session.buffer);
    }
  }
}

function text(lsn) {
  return `0/${lsn.toString(16).toUpperCase()}`;
}

function failure(code, message, data = null) {
  return { error: { code, message, data } };
}

function answer(response, status, body, headers = {}) {
  response.writeHead(status, { "content-type": "application/json", ...headers });
  response.end(JSON.stringify(body));
}
