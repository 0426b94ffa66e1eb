// A device of a user: the client of clients/typescript in a process of its own. Each line of stdin is a command as JSON,
// and gets a line with its result; what the client reports are lines with an `event`. It ends when its stdin ends.
//
// A task is known by its name: the first of its tags, which it is created with and always keeps.
import { createHmac } from "node:crypto";
import { createInterface } from "node:readline";
import { createTasks } from "../../clients/typescript/dist/index.js";

const { API_URL, API_SECRET, API_USER, EXPIRED_EVERY = "0" } = process.env;

// Short, so that tokens and streams end all the time. The client gets a new one ten seconds before.
const TOKEN_S = 14;

let tokens = 0;
let isOffline = false;
let network = new AbortController();
/** How often everything had been sent: edits between which that was the case cannot have been folded. */
let rounds = 0;
let pending = 0;
/** The functions that bring removed tasks back. */
const undos = [];

const say = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);
const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");

/** Return a token; every now and then one that has expired, unless the server has just refused one. */
async function token(isRefused) {
  if (isRefused) say({ event: "token" });
  const isExpired = !isRefused && Number(EXPIRED_EVERY) && ++tokens % Number(EXPIRED_EVERY) === 0;
  const now = Math.floor(Date.now() / 1000) - (isExpired ? 3600 : 0);
  const signed = `${part({ alg: "HS256", typ: "JWT" })}.${part({ sub: API_USER, iat: now, exp: now + TOKEN_S })}`;
  return `${signed}.${createHmac("sha256", API_SECRET).update(signed).digest("base64url")}`;
}

async function call(input, init) {
  if (isOffline) throw new TypeError("Offline");
  if (init.body) say({ event: "sent", rounds, ...JSON.parse(init.body) });
  return fetch(input, { ...init, signal: AbortSignal.any([init.signal, network.signal]) });
}

const tasks = createTasks({
  url: API_URL,
  token,
  storage: "memory",
  fetch: call,
  onConflict: ({ op, mine, theirs }) => void say({ event: "conflict", op, task: mine, name: theirs.tags[0] }),
  onDropped: ({ id, op, task, problem }) => void say({ event: "dropped", op, task, key: `${id}`, ...problem }),
  onDrift: (drift) => void say({ event: "drift", ...drift }),
});
tasks.subscribe(() => {
  if (pending && !tasks.status.pending) rounds++;
  pending = tasks.status.pending;
});

/** Return the task at this fraction of the list. */
const at = (fraction) => {
  const list = tasks.list();
  return list[Math.floor(fraction * list.length)];
};

/** Return what an edit was made of. */
const seen = ({ tags, revision, ...item }) => ({ name: tags[0], tag: tags[1] ?? null, revision, rounds, ...item });

const commands = {
  add({ task }) {
    tasks.add(task);
    return { rounds };
  },
  update({ fraction, title, description, tag, toggle }) {
    const item = at(fraction);
    if (!item) return {};
    const patch = { ...(title && { title }), ...(description && { description }) };
    if (tag) patch.tags = [item.tags[0], tag];
    if (toggle) patch.completed = !item.completed;
    tasks.update(item.id, patch);
    return seen(item);
  },
  remove({ fraction }) {
    const item = at(fraction);
    if (!item) return {};
    undos.push({ item, undo: tasks.remove(item.id) });
    return seen(item);
  },
  undo() {
    const last = undos.pop();
    if (!last) return {};
    last.undo();
    return { ...seen(last.item), rounds };
  },
  offline() {
    isOffline = true;
    network.abort();
    network = new AbortController();
    return {};
  },
  online() {
    isOffline = false;
    return {};
  },
  sync: async () => ({ inStep: await tasks.sync(), pending: tasks.status.pending }),
  copy: () => ({ tasks: tasks.list().map(({ id, revision, pending }) => [id, revision, pending]), rounds }),
  list: () => ({ tasks: tasks.list().map(({ key, pending, ...task }) => task) }),
};

for await (const line of createInterface({ input: process.stdin })) {
  const { number, command, ...rest } = JSON.parse(line);
  // What takes long does not keep the others waiting.
  void (async () => say({ number, ...(await commands[command](rest)) }))();
}
process.exit(0);
