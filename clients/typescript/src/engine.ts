/** The copy of a user's tasks on a device, the outbox, and the loop that keeps them in step with the server. */

import { createParser } from "eventsource-parser";
import { members, now, pick, view } from "./fold.js";
import { claims, createClient, type Refused } from "./http.js";
import { itemOf, prepare, refusal, settle } from "./outbox.js";
import { select } from "./query.js";
import { memory, openIndexedDB } from "./storage.js";
import type {
  BatchResults,
  Change,
  ChangesPage,
  Conflict,
  Drift,
  Dropped,
  Entry,
  Id,
  Item,
  Options,
  Query,
  Resolution,
  State,
  Status,
  Storage,
  Tasks,
} from "./types.js";

const BATCH_MAX = 100;
/** How often a round sends an operation again that others were faster than. */
const STALE_MAX = 3;
const POLL_MS = 30_000;
const BACKOFF_MIN_MS = 1_000;
/** With the jitter, a minute at most. */
const BACKOFF_MAX_MS = 48_000;
const HIDDEN_MS = 300_000;
/** What a stream waits for before it comes back, unless the server says otherwise. */
const RECONNECT_MS = 3_000;

/** What the callbacks are called with. */
interface Calls {
  onConflict: Conflict;
  onDropped: Dropped;
  onDrift: Drift;
}

/** What tabs tell each other. */
interface Message {
  /** The storage has changed. */
  changed?: boolean;
  /** The leader is to push and pull. */
  wake?: boolean;
  /** A round is over: whether device and server are in step, and the status. */
  done?: [boolean, Status];
  /** What to call in every tab. */
  call?: [keyof Calls, Calls[keyof Calls]];
  /** The user has signed out. */
  clear?: boolean;
}

/** Return a delay that is up to a quarter longer, so that clients do not all come back at once. */
const jittered = (ms: number) => ms * (1 + Math.random() / 4);

async function sha256(text: string): Promise<string> {
  const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text));
  return Array.from(new Uint8Array(digest), (byte) => (256 + byte).toString(16).slice(1)).join("");
}

/** Keep a copy of a user's tasks in step with a server. Nothing happens before the first call or subscription. */
export function createTasks(options: Options): Tasks {
  const client = createClient(options);
  const { storage: kind = "indexeddb" } = options;
  const name = `todo-sync ${options.url}`;
  const listeners = new Set<() => void>();

  let user = "";
  let storage: Storage | undefined;
  let channel: BroadcastChannel | undefined;
  /** The name of the lock that the leading tab holds; none where no other tab has this storage, or cannot be asked. */
  let lock: string | undefined;
  let canStream = true;

  let items = new Map<Id, Item>();
  let log: Entry[] = [];
  let state: State = {};
  /** The server's ids of tasks that were created here, also of those that are deleted by now. */
  const ids = new Map<Id, Id>();

  let status: Status = { ready: false, online: false, pending: 0, syncedAt: null, error: null };
  let shown: Map<Id, Item> | undefined;
  let lists = new Map<string, Item[]>();

  const closing = new AbortController();
  let opening: Promise<void> | undefined;
  let unstored = 0;
  /** What is done with the storage, one after the other. */
  let queue = Promise.resolve();

  // Of the tab that leads.
  let contender: AbortController | undefined;
  let session: AbortController | undefined;
  let streaming: AbortController | undefined;
  let timer: ReturnType<typeof setTimeout> | undefined;
  let hiding: ReturnType<typeof setTimeout> | undefined;
  let isRunning = false;
  let isWanted = false;
  let failures = 0;
  let notBefore = 0;
  let hasRetryAfter = false;
  let streamNotBefore = 0;
  let batchMax = BATCH_MAX;
  const waiting: ((isInStep: boolean) => void)[] = [];

  const resolve = (id: Id): Id => ids.get(id) ?? id;
  const current = () => (shown ??= view(items.values(), log, resolve));
  const get = (id: Id) => current().get(resolve(id));
  const post = (message: Message) => channel?.postMessage(message);
  const path = (rest: string) => `/api/${encodeURIComponent(user)}/tasks${rest}`;

  function publish(change: Partial<Status> = {}): void {
    shown = undefined;
    lists = new Map();
    status = { ...status, ...change, pending: log.length };
    for (const listener of listeners) listener();
  }

  const call = (name: keyof Calls, detail: unknown) =>
    (options[name] as ((detail: unknown) => Resolution | Promise<Resolution>) | undefined)?.(detail);

  /** Call the callback of every tab, and return what that of this one returns. */
  function announce<Name extends keyof Calls>(name: Name, detail: Calls[Name]): Resolution | Promise<Resolution> {
    post({ call: [name, detail] });
    return call(name, detail);
  }

  // ------------------------------------------------------------------------------------------------------- storage

  function enqueue(work: () => Promise<void>): Promise<void> {
    const done = queue.then(work);
    queue = done.catch(() => {});
    return done;
  }

  /** Apply a change to the storage, then to what is in memory; as the leader, unless another tab leads by then. */
  function write(change: Change, signal?: AbortSignal): Promise<void> {
    return enqueue(async () => {
      signal?.throwIfAborted();
      if (change.state) change.state = { ...state, ...change.state };
      await storage?.write(change);
      if (change.replace) items.clear();
      change.drop?.forEach((id) => items.delete(id));
      change.put?.forEach(keep);
      const changed = new Map(change.log?.map((entry) => [entry.seq, entry]));
      log = log
        .filter(({ seq }) => !change.done?.includes(seq as number))
        .map((entry) => changed.get(entry.seq) ?? entry);
      state = change.state ?? state;
      // Only the leader has a signal; what other tabs write is for the leader to send.
      post({ changed: true, wake: !signal });
      publish();
    });
  }

  function keep(item: Item): void {
    items.set(item.id, item);
    ids.set(item.key, item.id);
  }

  /** Read what other tabs have stored. */
  function reload(): Promise<void> {
    return enqueue(async () => {
      const { items: stored, log: entries, ...rest } = await (storage as Storage).load();
      items = new Map();
      stored.forEach(keep);
      // What is being stored follows, and what could not be stored.
      log = [...entries, ...log.filter(({ seq }) => !seq || seq < 0)];
      state = rest;
      publish({ ready: true });
    });
  }

  async function store(entry: Entry): Promise<void> {
    // What the storage does not take is kept in memory, and sent all the same.
    await write({ log: [entry] }).catch(() => {
      entry.seq ??= --unstored;
    });
    wake();
  }

  function append(entry: Entry): void {
    if (closing.signal.aborted) throw new Error("Closed");
    log.push(entry);
    publish();
    if (storage) void store(entry);
    else void start();
  }

  // ------------------------------------------------------------------------------------------------- start and end

  /** Open the storage of the user; as long as nobody knows who that is, try again. */
  function start(): Promise<void> {
    opening ??= open().catch((error) => {
      opening = undefined;
      fail(error);
      finish(waiting, false);
      if (!closing.signal.aborted) timer = setTimeout(start, notBefore - Date.now());
    });
    return opening;
  }

  async function open(): Promise<void> {
    user = options.user ?? (await identify());
    let opened = typeof kind === "object" ? kind : memory();
    if (kind === "indexeddb" && globalThis.indexedDB) {
      const database = `todo-sync ${await sha256(`${options.url}\n${user}`)}`;
      try {
        opened = await openIndexedDB(database);
        if (globalThis.BroadcastChannel && globalThis.navigator?.locks) lock = database;
        else canStream = false;
      } catch {
        // A browser may refuse it, as some do in private windows.
      }
    }
    if (closing.signal.aborted) return opened.close();
    storage = opened;
    if (lock) {
      channel = new BroadcastChannel(lock);
      channel.onmessage = ({ data }: MessageEvent<Message>) => receive(data);
    }
    await reload();
    for (const entry of log.filter(({ seq }) => !seq)) void store(entry);
    if (globalThis.document) {
      document.addEventListener("visibilitychange", onVisibility, closing);
      addEventListener("online", () => wake(true), closing);
      addEventListener("offline", () => publish({ online: false }), closing);
    }
    onVisibility();
  }

  /** Return the id of the user that the token names; without a token, that of the last user on this device. */
  async function identify(): Promise<string> {
    const known = device();
    try {
      const { sub, userId } = claims(await client.bearer());
      known[name] = sub || userId || "";
    } catch (error) {
      if (!known[name]) throw error;
    }
    return known[name] as string;
  }

  /** Return where the last user is remembered; a browser may refuse it. */
  function device(): Record<string, string> {
    try {
      return kind === "indexeddb" ? localStorage : {};
    } catch {
      return {};
    }
  }

  /** Lead as soon as no other tab does. */
  function compete(): void {
    if (contender || closing.signal.aborted) return;
    const { signal } = (contender = new AbortController());
    const lead = () => {
      session = contender;
      failures = notBefore = 0;
      wake();
    };
    if (!lock) {
      lead();
      return;
    }
    void navigator.locks
      .request(lock, { signal }, async () => {
        // The leader before may have stored more than it could tell.
        await reload();
        if (signal.aborted) return;
        lead();
        await new Promise((done) => signal.addEventListener("abort", done));
      })
      .catch(() => {});
  }

  function resign(): void {
    clearTimeout(timer);
    contender?.abort();
    contender = session = undefined;
  }

  function onVisibility(): void {
    clearTimeout(hiding);
    if (globalThis.document?.hidden) hiding = setTimeout(resign, HIDDEN_MS);
    compete();
    wake(true);
  }

  function receive({ changed, wake: isAsked, done, call: called, clear }: Message): void {
    if (closing.signal.aborted) return;
    if (clear) void wipe();
    else if (changed) void reload().then(() => isAsked && wake());
    else if (isAsked && session) wake(true);
    else if (done) {
      publish({ ...done[1], ready: status.ready });
      finish(waiting, done[0]);
    } else if (called) void call(...called);
  }

  async function close(): Promise<void> {
    closing.abort();
    resign();
    clearTimeout(hiding);
    finish(waiting, false);
    await opening;
    await queue;
    channel?.close();
    channel = undefined;
    storage?.close();
  }

  async function wipe(): Promise<void> {
    closing.abort();
    resign();
    delete device()[name];
    await enqueue(async () => storage?.clear());
    items.clear();
    log = [];
    publish({ ready: false, online: false, syncedAt: null });
    await close();
  }

  // ------------------------------------------------------------------------------------------------------- the loop

  function finish(waiters: typeof waiting, isInStep: boolean): void {
    for (const done of waiters.splice(0)) done(isInStep);
  }

  function schedule(ms: number): void {
    clearTimeout(timer);
    if (session) timer = setTimeout(wake, ms);
  }

  /** Push and pull; after a failure not before its time, unless this is forced and the server has set no time. */
  function wake(isForced?: boolean): void {
    if (!session) {
      if (isForced) post({ wake: true });
      return;
    }
    isWanted = true;
    if (isRunning) return;
    const wait = isForced === true && !hasRetryAfter ? 0 : notBefore - Date.now();
    if (wait > 0) schedule(wait);
    else void run(session);
  }

  async function run(own: AbortController): Promise<void> {
    const { signal } = own;
    clearTimeout(timer);
    isRunning = true;
    const waiters: typeof waiting = [];
    let isInStep = true;
    while (isWanted && isInStep) {
      isWanted = false;
      waiters.push(...waiting.splice(0));
      try {
        // Nobody says what other tabs have stored.
        if (!canStream) await reload();
        if (!state.cursor) await pull(signal);
        await push(signal);
        await pull(signal);
        failures = notBefore = 0;
        publish({ online: true, syncedAt: Date.now(), error: null });
      } catch (error) {
        isInStep = false;
        if (!signal.aborted) fail(error);
      }
      post({ done: [isInStep, status] });
      finish(waiters, isInStep);
    }
    isRunning = false;
    if (signal.aborted) wake();
    else if (isInStep) void listen(own);
    // Who asked while this was failing is served by another attempt.
    else if (waiting.length) wake(true);
    else schedule(notBefore - Date.now());
  }

  function fail(error: unknown): void {
    const { problem, retryAfter } = error as Partial<Refused>;
    hasRetryAfter = Boolean(retryAfter);
    const backoff = Math.min(BACKOFF_MIN_MS * 2 ** failures++, BACKOFF_MAX_MS);
    notBefore = Date.now() + jittered(retryAfter || backoff);
    publish({ online: false, error: problem ?? { status: 0, detail: String(error) } });
  }

  /** Wait for events. Where there can be none, and after a stream has ended, come back later. */
  async function listen(own: AbortController): Promise<void> {
    const { signal } = own;
    if (streaming === own) return;
    let wait = canStream ? streamNotBefore - Date.now() : POLL_MS;
    if (wait <= 0) {
      wait = RECONNECT_MS;
      streaming = own;
      const read = async ({ body }: Response, beat: () => void) => {
        const parser = createParser({
          onEvent({ event }) {
            // After `expired` the stream ends, and the next call has a new token.
            if (event === "changed") wake(true);
          },
          onRetry(ms) {
            wait = ms;
          },
        });
        const reader = (body as ReadableStream<BufferSource>).pipeThrough(new TextDecoderStream()).getReader();
        for (;;) {
          const { done, value } = await reader.read();
          if (done) return;
          beat();
          parser.feed(value);
        }
      };
      await client.request(path(`/events?since=${state.cursor}`), signal, { read }).catch((error) => {
        const { retryAfter } = error as Partial<Refused>;
        // A stream that broke is opened again as soon as a call succeeds, a refused one later.
        if (retryAfter !== undefined) streamNotBefore = Date.now() + (wait = Math.max(POLL_MS, retryAfter));
      });
      if (streaming === own) streaming = undefined;
    }
    if (!signal.aborted && !isRunning) schedule(jittered(wait));
  }

  // ---------------------------------------------------------------------------------------------------------- pull

  /** Read the changes; all tasks where the cursor has expired, or where the copy turns out to be wrong. */
  async function pull(signal: AbortSignal, isAgain?: boolean): Promise<void> {
    let cursor = isAgain ? undefined : state.cursor;
    let replace = !cursor;
    const seen = new Map<Id, Item | undefined>();
    let page: ChangesPage | undefined;
    do {
      page = await client
        .request<ChangesPage>(path(`/changes${cursor ? `?since=${cursor}` : ""}`), signal)
        .catch((error: Partial<Refused>) => {
          // It has expired, or it is from a server that was there before.
          if (cursor && /410|422/.test(`${error.problem?.status}`)) return undefined;
          throw error;
        });
      cursor = page?.next;
      if (!page) {
        replace = true;
        seen.clear();
      }
      page?.tasks.forEach((task) => seen.set(task.id, itemOf(task, items)));
      page?.deleted.forEach(({ id }) => seen.set(id, undefined));
    } while (!page || page.has_more);
    // The old copy is shown until the new one is complete.
    if (cursor !== state.cursor || replace) {
      const put = [...seen.values()].filter((item) => item !== undefined);
      const drop = [...seen.keys()].filter((id) => !seen.get(id));
      await write({ replace, put, drop, state: { cursor } }, signal);
    }
    const { count = 0, checksum = "" } = page;
    const sorted = [...items.values()].sort((a, b) => a.revision - b.revision);
    const own = await sha256(sorted.map(({ id, revision }) => `${id}:${revision}\n`).join(""));
    if (own === checksum) return;
    void announce("onDrift", { local: { count: items.size, checksum: own }, server: { count, checksum } });
    if (isAgain) throw new Error("The copy is wrong");
    await pull(signal, true);
  }

  // ---------------------------------------------------------------------------------------------------------- push

  /** Send the outbox, batch by batch, until nothing is left of it. */
  async function push(signal: AbortSignal): Promise<void> {
    const report = (dropped: Dropped[]) => dropped.forEach((detail) => void announce("onDropped", detail));
    for (let stale = 0; stale <= STALE_MAX; ) {
      if (!state.batch) {
        // Edits that are made together are sent together.
        await queue;
        if (!log.length) return;
        const { change, dropped } = await prepare(log, items, resolve, batchMax, (conflict) =>
          announce("onConflict", conflict),
        );
        await write(change, signal);
        report(dropped);
      }
      const { batch } = state;
      if (!batch) return;
      try {
        const body = { operations: batch.map(({ operation }) => operation) };
        const { results } = await client.request<BatchResults>(path("/batch"), signal, { body });
        batchMax = BATCH_MAX;
        const { change, dropped, isStale } = settle(batch, results, log, items, resolve);
        await write(change, signal);
        report(dropped);
        if (isStale) stale++;
      } catch (error) {
        const { problem } = error as Partial<Refused>;
        if (!problem || !/400|413|422/.test(`${problem.status}`)) throw error;
        // A batch that is refused as a whole is sent in halves, until the operation is found that is to blame.
        batchMax = batch.length >> 1;
        const culprits = batchMax ? [] : batch;
        batchMax ||= BATCH_MAX;
        await write({ done: culprits.flatMap(({ seqs }) => seqs), state: { batch: undefined } }, signal);
        report(culprits.map((sent) => refusal(sent, problem)));
      }
    }
    throw new Error("Too many conflicts");
  }

  return {
    add(task) {
      const id = crypto.randomUUID();
      append({ op: "create", id, at: now(), task: pick(task, members(task)) });
      return id;
    },
    update(id, patch) {
      const item = get(id);
      const names = members(patch);
      if (!item || !names.length) return;
      append({ op: "update", id: item.id, at: now(), task: pick(patch, names), base: pick(item, names) });
    },
    remove(id) {
      const item = get(id);
      if (!item) return () => {};
      append({ op: "delete", id: item.id, at: now(), base: pick(item) });
      return () => append({ op: "restore", id: resolve(item.id), at: now(), item });
    },
    get,
    list(query: Query = {}) {
      const name = JSON.stringify(query);
      const list = lists.get(name) ?? select(current().values(), query);
      lists.set(name, list);
      return list;
    },
    get status() {
      return status;
    },
    subscribe(listener) {
      listeners.add(listener);
      if (!closing.signal.aborted) void start();
      return () => listeners.delete(listener);
    },
    async sync() {
      if (closing.signal.aborted) return false;
      const done = new Promise<boolean>((resolved) => waiting.push(resolved));
      await start();
      wake(true);
      return done;
    },
    async clear() {
      // An earlier page may have left something.
      if (!closing.signal.aborted) await start();
      post({ clear: true });
      await wipe();
    },
    close,
  };
}
