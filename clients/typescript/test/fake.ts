/** A server in memory that keeps the rules of docs/api/batch.md and docs/api/sync.md, and a network that can fail. */

import { createHash } from "node:crypto";
import { vi } from "vitest";
import { createTasks, type Options, type Task, type Tasks } from "../src/index.js";
import type { Operation, Result } from "../src/types.js";

const EMPTY = { description: null, completed: false, priority: null, due_date: null, tags: [], completed_at: null };

export class FakeServer {
  revision = 0;
  lastId = 0;
  tasks = new Map<number, Task>();
  trash = new Map<number, { task: Task; revision: number }>();
  keys = new Map<string, { id: number; body: string }>();
  /** The revision below which cursors have expired. */
  expired = 0;
  streams = new Set<ReadableStreamDefaultController<Uint8Array>>();

  change(task: Omit<Task, "revision">): Task {
    const next = { ...task, revision: ++this.revision } as Task;
    this.tasks.set(next.id, next);
    for (const stream of this.streams) send(stream, `event: changed\ndata: {"revision":${this.revision}}\n\n`);
    return next;
  }

  create(members: Partial<Task>): Task {
    const at = new Date().toISOString();
    const task = { ...EMPTY, title: "", ...members, id: ++this.lastId, user_id: "ada", created_at: at, updated_at: at };
    return this.change({ ...task, tags: task.tags ?? [], title: task.title.trim() } as Task);
  }

  update(id: number, members: object): Task {
    const live = this.tasks.get(id) as Task;
    const next = { ...live, ...members, updated_at: new Date(Date.parse(live.updated_at) + 1).toISOString() };
    return this.change({ ...next, tags: next.tags ?? [], title: next.title.trim() });
  }

  remove(id: number): void {
    const task = this.tasks.get(id) as Task;
    this.tasks.delete(id);
    this.trash.set(id, { task, revision: ++this.revision });
    for (const stream of this.streams) send(stream, `event: changed\ndata: {"revision":${this.revision}}\n\n`);
  }

  run(operation: Operation): Result {
    const problem = (status: number, detail: string, more = {}) =>
      ({ status, problem: { type: "about:blank", title: detail, status, detail, ...more } }) as unknown as Result;
    if (operation.op === "create") {
      const body = JSON.stringify(operation.task);
      const known = this.keys.get(operation.key);
      if (known && known.body !== body) return problem(422, "The key has been used.");
      if (!operation.task.title.trim()) return problem(422, "title must not be blank.");
      if (!known) {
        const task = this.create(operation.task as Partial<Task>);
        this.keys.set(operation.key, { id: task.id, body });
        return { status: 201, task };
      }
      const live = this.tasks.get(known.id);
      const gone = this.trash.get(known.id);
      if (live) return { status: 201, task: live, replayed: true };
      const deleted = { id: known.id, revision: gone?.revision ?? 0, deleted_at: "" };
      return { status: 201, task: gone?.task as Task, replayed: true, deleted };
    }
    const live = this.tasks.get(operation.id);
    const gone = this.trash.get(operation.id);
    if (operation.op === "restore") {
      if (live) return { status: 200, task: live };
      if (!gone) return problem(404, "Task not found");
      this.trash.delete(operation.id);
      return { status: 200, task: this.change(gone.task) };
    }
    const isAllowed = !live || operation.if_revision === undefined || operation.if_revision === live.revision;
    if (operation.op === "delete") {
      if (!live && !gone) return problem(404, "Task not found");
      if (!isAllowed) return problem(412, "This has changed since it was read.", { current: live });
      if (live) this.remove(operation.id);
      const { revision } = this.trash.get(operation.id) as { revision: number };
      return { status: 204, deleted: { id: operation.id, revision, deleted_at: "" } };
    }
    if (!live) return problem(404, "Task not found");
    if (operation.task.title?.trim() === "") return problem(422, "title must not be blank.");
    const wanted = { ...live, ...operation.task, title: (operation.task.title ?? live.title).trim() };
    if (JSON.stringify({ ...wanted, tags: wanted.tags ?? [] }) === JSON.stringify(live))
      return { status: 200, task: live };
    if (!isAllowed) return problem(412, "This has changed since it was read.", { current: live });
    return { status: 200, task: this.update(operation.id, operation.task) };
  }

  checksum(): string {
    const sorted = [...this.tasks.values()].sort((a, b) => a.revision - b.revision);
    return createHash("sha256")
      .update(sorted.map(({ id, revision }) => `${id}:${revision}\n`).join(""))
      .digest("hex");
  }

  changes(since: number, limit: number) {
    const changed = [...this.tasks.values()].map((task) => ({ revision: task.revision, task }));
    const gone = [...this.trash].map(([id, { revision }]) => ({ revision, deleted: { id, revision, deleted_at: "" } }));
    const all = [...changed, ...gone]
      .filter(({ revision }) => revision > since)
      .sort((a, b) => a.revision - b.revision);
    const page = all.slice(0, limit);
    const has_more = all.length > limit;
    const last = has_more ? page.at(-1)?.revision : this.revision;
    return {
      tasks: page.flatMap((change) => ("task" in change ? [change.task] : [])),
      deleted: page.flatMap((change) => ("deleted" in change ? [change.deleted] : [])),
      next: `c${last}`,
      has_more,
      ...(has_more ? {} : { count: this.tasks.size, checksum: this.checksum() }),
    };
  }
}

function send(stream: ReadableStreamDefaultController<Uint8Array>, text: string): void {
  stream.enqueue(new TextEncoder().encode(text));
}

export type Answer = { status: number; body?: unknown; headers?: Record<string, string> } | "lost" | "unreachable";

/** The connection of one device: what it sent, and what happens to it. */
export class FakeNetwork {
  isDown = false;
  pageSize = 1000;
  /** What was called, without the streams. */
  calls: { method: string; path: string; body: { operations: Operation[] } | undefined; token: string | null }[] = [];
  /** How often a stream was opened. */
  streamed = 0;
  /** What happens to the next calls: an answer instead of the server's, or no answer after or before the server acts. */
  next: (Answer | undefined)[] = [];
  streamAnswers: Answer[] = [];
  hasStreams = true;
  /** Runs before the server sees a call. */
  before: ((path: string) => void) | undefined;

  constructor(readonly server: FakeServer) {}

  fetch = async (input: RequestInfo | URL, init: RequestInit = {}): Promise<Response> => {
    const url = new URL(`${input}`);
    const path = url.pathname.replace("/api/ada/tasks", "");
    const { signal } = init;
    signal?.throwIfAborted();
    if (this.isDown) throw new TypeError("Failed to fetch");
    if (path === "/events") return this.#stream(signal);
    const body = init.body ? JSON.parse(`${init.body}`) : undefined;
    const token = new Headers(init.headers).get("Authorization");
    this.calls.push({ method: init.method ?? "GET", path, body, token });
    this.before?.(path);
    const planned = this.next.shift();
    if (planned === "unreachable") throw new TypeError("Failed to fetch");
    if (planned === "lost") {
      this.#answer(path, url, body);
      throw new TypeError("Failed to fetch");
    }
    const { status, body: content, headers = {} } = planned ?? this.#answer(path, url, body);
    return new Response(JSON.stringify(content ?? {}), { status, headers });
  };

  #answer(path: string, url: URL, body: { operations: Operation[] }): Exclude<Answer, string> {
    if (path === "/batch") {
      const before = this.server.revision;
      const results = body.operations.map((operation) => this.server.run(operation));
      return {
        status: 200,
        body: { results, before, revision: this.server.revision, next: `c${this.server.revision}` },
      };
    }
    const since = Number(url.searchParams.get("since")?.slice(1) ?? 0);
    if (since && since < this.server.expired) return { status: 410, body: { detail: "Gone", code: "cursor_expired" } };
    return { status: 200, body: this.server.changes(since, this.pageSize) };
  }

  #stream(signal: AbortSignal | null | undefined): Response {
    const planned = this.streamAnswers.shift();
    if (planned === "unreachable" || planned === "lost") throw new TypeError("Failed to fetch");
    if (planned) return new Response("{}", { status: planned.status, headers: planned.headers ?? {} });
    this.streamed++;
    const { server } = this;
    let own: ReadableStreamDefaultController<Uint8Array>;
    const body = new ReadableStream<Uint8Array>({
      start(controller) {
        own = controller;
        server.streams.add(controller);
        send(controller, "retry: 3000\n: todo\n\n");
        signal?.addEventListener("abort", () => {
          server.streams.delete(controller);
          controller.error(signal.reason);
        });
      },
      cancel() {
        server.streams.delete(own);
      },
    });
    return new Response(body);
  }
}

/** Return an unsigned token with these claims. */
export function tokenOf(claims: object): string {
  const part = (value: object) => Buffer.from(JSON.stringify(value)).toString("base64url");
  return `${part({ alg: "none" })}.${part(claims)}.`;
}

/** Web Locks, as far as they are used here: one holder, and a queue that can be left. */
export class FakeLocks {
  #tails = new Map<string, Promise<unknown>>();

  request(name: string, { signal }: { signal: AbortSignal }, run: () => Promise<void>): Promise<unknown> {
    const before = this.#tails.get(name) ?? Promise.resolve();
    const own = before.then(() => (signal.aborted ? undefined : run()));
    this.#tails.set(
      name,
      own.catch(() => {}),
    );
    return own;
  }
}

const opened: Tasks[] = [];

/** Return a client of a network, which is closed after the test. */
export function client(network: FakeNetwork, options: Partial<Options> = {}): Tasks {
  const tasks = createTasks({
    url: "https://api.example.com",
    token: async () => tokenOf({ sub: "ada" }),
    storage: "memory",
    fetch: network.fetch,
    ...options,
  });
  opened.push(tasks);
  return tasks;
}

export async function closeAll(): Promise<void> {
  await Promise.all(opened.splice(0).map((tasks) => tasks.close()));
}

/** Wait for what needs no clock: promises, digests and IndexedDB. */
export async function until(condition: () => unknown, what = "the condition"): Promise<void> {
  const end = process.hrtime.bigint() + 5_000_000_000n;
  while (!condition()) {
    if (process.hrtime.bigint() > end) throw new Error(`Still waiting for ${what}.`);
    await new Promise((done) => setImmediate(done));
  }
}

/** Stop the clock: time passes when a test lets it. */
export function stopClock(): void {
  vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "Date"], now: new Date("2026-03-01T12:00:00Z") });
}

/** Let time pass. */
export const pass = (ms: number) => vi.advanceTimersByTimeAsync(ms);

export const titles = (tasks: Tasks) => tasks.list().map(({ title }) => title);
