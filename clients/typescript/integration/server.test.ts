/** Devices of one user, and a real server: `tests/clients` starts it, and passes its address and its secret. */

import { createHmac, randomInt, randomUUID } from "node:crypto";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { type Conflict, createTasks, type Options, type Tasks } from "../src/index.js";

const { API_URL: url = "", API_SECRET: secret = "" } = process.env;

const part = (value: object) => Buffer.from(JSON.stringify(value)).toString("base64url");

function sign(sub: string): string {
  const now = Math.floor(Date.now() / 1000);
  const signed = `${part({ alg: "HS256", typ: "JWT" })}.${part({ sub, iat: now, exp: now + 3600 })}`;
  return `${signed}.${createHmac("sha256", secret).update(signed).digest("base64url")}`;
}

/** A device, with a switch for its network and a chance that an answer is lost. */
class Device {
  isOffline = false;
  losses = 0;
  drifts = 0;
  dropped = 0;
  #cut = new AbortController();
  readonly tasks: Tasks;

  constructor(user: string, options: Partial<Options> = {}) {
    this.tasks = createTasks({
      url,
      token: async () => sign(user),
      storage: "memory",
      fetch: (input, init) => this.#fetch(input, init),
      onDrift: () => void this.drifts++,
      onDropped: () => void this.dropped++,
      ...options,
    });
  }

  async #fetch(input: RequestInfo | URL, init: RequestInit = {}): Promise<Response> {
    if (this.isOffline) throw new TypeError("Failed to fetch");
    const signals = [this.#cut.signal, ...(init.signal ? [init.signal] : [])];
    const response = await fetch(input, { ...init, signal: AbortSignal.any(signals) });
    if (Math.random() < this.losses && !`${input}`.includes("/events")) throw new TypeError("The answer was lost");
    return response;
  }

  goOffline(): void {
    this.isOffline = true;
    this.#cut.abort();
    this.#cut = new AbortController();
  }

  goOnline(): void {
    this.isOffline = false;
  }
}

let user: string;
let devices: Device[];

beforeEach(() => {
  user = `user-${randomUUID()}`;
  devices = [];
});

afterEach(async () => {
  await Promise.all(devices.map(({ tasks }) => tasks.close()));
  expect(devices.map(({ drifts }) => drifts)).toEqual(devices.map(() => 0));
});

function device(options: Partial<Options> = {}): Device {
  const made = new Device(user, options);
  devices.push(made);
  made.tasks.subscribe(() => {});
  return made;
}

async function until(condition: () => unknown, what: string): Promise<void> {
  for (const end = Date.now() + 15_000; !condition(); ) {
    if (Date.now() > end) throw new Error(`Still waiting for ${what}.`);
    await new Promise((done) => setTimeout(done, 10));
  }
}

const titles = ({ tasks }: Device) => tasks.list().map(({ title }) => title);

async function stored(): Promise<{ id: number; title: string; completed: boolean; revision: number }[]> {
  const response = await fetch(`${url}/api/me/tasks`, { headers: { Authorization: `Bearer ${sign(user)}` } });
  return (await response.json()) as never;
}

describe("two devices", () => {
  test("show the same without being asked", async () => {
    const [phone, laptop] = [device(), device()];
    await until(() => phone.tasks.status.online && laptop.tasks.status.online, "both");
    const id = phone.tasks.add({ title: "Buy oat milk", priority: "high", due_date: "2026-03-01", tags: ["shopping"] });
    await until(() => titles(laptop).length === 1, "the task");
    laptop.tasks.update(laptop.tasks.list()[0]?.id ?? 0, { completed: true });
    await until(() => phone.tasks.get(id)?.completed, "the completion");
    const undo = phone.tasks.remove(id);
    await until(() => titles(laptop).length === 0, "the deletion");
    undo();
    await until(() => titles(laptop).length === 1, "the undo");

    const [task] = laptop.tasks.list();
    expect(task).toMatchObject({ title: "Buy oat milk", completed: true, tags: ["shopping"], due_date: "2026-03-01" });
  });

  test("that were both offline keep what only one changed, and say what was dropped", async () => {
    const conflicts: Conflict[] = [];
    const [phone, laptop] = [device(), device({ onConflict: (conflict) => void conflicts.push(conflict) })];
    const id = phone.tasks.add({ title: "a" });
    await until(() => titles(laptop).length === 1, "the task");
    phone.goOffline();
    laptop.goOffline();
    phone.tasks.update(id, { title: "phone", priority: "high" });
    const other = laptop.tasks.list()[0]?.id ?? 0;
    laptop.tasks.update(other, { title: "laptop", tags: ["home"] });
    laptop.tasks.add({ title: "new" });
    phone.goOnline();
    expect(await phone.tasks.sync()).toBe(true);
    laptop.goOnline();
    expect(await laptop.tasks.sync()).toBe(true);
    await phone.tasks.sync();

    expect(conflicts).toMatchObject([{ op: "update", mine: { title: "laptop" }, theirs: { title: "phone" } }]);
    expect(titles(phone)).toEqual(["phone", "new"]);
    expect(phone.tasks.list()[0]).toMatchObject({ priority: "high", tags: ["home"] });
    expect(titles(laptop)).toEqual(titles(phone));
  });
});

describe("the server", () => {
  test("refuses what breaks a rule, one operation alone, and the rest is stored", async () => {
    const phone = device();
    phone.tasks.add({ title: "x".repeat(201) });
    phone.tasks.add({ title: "good" });
    await phone.tasks.sync();

    expect(phone.dropped).toBe(1);
    expect(titles(phone)).toEqual(["good"]);
  });

  test("refuses a batch of more than its bytes, which is sent in smaller ones", async () => {
    const phone = device();
    phone.goOffline();
    const description = "\u{1F600}".repeat(1000);
    const tags = Array.from({ length: 20 }, (_, number) => `${"\u{1F601}".repeat(47)}${number}`);
    for (let number = 0; number < 100; number++) phone.tasks.add({ title: `${number}`, description, tags });
    await phone.tasks.sync();
    phone.goOnline();

    expect(await phone.tasks.sync()).toBe(true);
    expect(phone.dropped).toBe(0);
    expect((await stored()).map(({ title }) => title)).toEqual(titles(phone));
  });

  test("whose cursor is another's makes the device begin again", async () => {
    const snapshot = { items: [], log: [], cursor: "bm9uc2Vuc2U" };
    const storage = { load: async () => snapshot, write: async () => {}, clear: async () => {}, close: () => {} };
    const phone = device({ storage });
    expect(await phone.tasks.sync()).toBe(true);
  });
});

test("three devices with lost answers and networks that come and go end with the same tasks, none of them twice", async () => {
  const all = [device(), device(), device()];
  for (const one of all) one.losses = 0.1;
  const made: string[] = [];
  for (let step = 0; step < 300; step++) {
    const one = all[randomInt(3)] as Device;
    const list = one.tasks.list();
    const item = list[randomInt(Math.max(1, list.length))];
    const kind = randomInt(10);
    if (kind < 3 || !item) {
      made.push(`${step}`);
      one.tasks.add({ title: `${step}` });
    } else if (kind < 6) one.tasks.update(item.id, { completed: !item.completed });
    else if (kind < 8) one.tasks.update(item.id, { description: `${step}`, tags: [`tag ${step % 3}`] });
    else if (kind === 8) {
      const undo = one.tasks.remove(item.id);
      if (step % 2) undo();
    } else if (one.isOffline) one.goOnline();
    else one.goOffline();
    if (step % 7 === 0) await new Promise((done) => setTimeout(done, 5));
  }
  for (const one of all) {
    one.goOnline();
    one.losses = 0;
  }
  for (let round = 0; round < 3; round++) {
    for (const one of all) {
      while (!(await one.tasks.sync()));
    }
  }

  const expected = await stored();
  const shown = (one: Device) =>
    one.tasks.list().map(({ id, title, completed, revision }) => ({ id, title, completed, revision }));
  for (const one of all) {
    expect(one.tasks.status).toMatchObject({ pending: 0, error: null });
    expect(shown(one)).toEqual(
      expected.map(({ id, title, completed, revision }) => ({ id, title, completed, revision })),
    );
  }
  const names = expected.map(({ title }) => title);
  expect(new Set(names).size).toBe(names.length);
  expect(names.every((name) => made.includes(name))).toBe(true);
}, 60_000);
