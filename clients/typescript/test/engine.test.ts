/** The loop, with a clock and a network that the tests hold. */

import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import type { Conflict, Drift, Dropped, Tasks } from "../src/index.js";
import { client, closeAll, FakeNetwork, FakeServer, pass, stopClock, titles, tokenOf, until } from "./fake.js";

let server: FakeServer;
let network: FakeNetwork;

beforeEach(() => {
  stopClock();
  server = new FakeServer();
  network = new FakeNetwork(server);
});

afterEach(async () => {
  await closeAll();
  vi.useRealTimers();
});

/** What is in the batches that were sent. */
const sent = () => network.calls.filter(({ path }) => path === "/batch").map(({ body }) => body?.operations);
const pulls = () => network.calls.filter(({ path }) => path === "/changes").length;
const serverTitles = () => [...server.tasks.values()].map(({ title }) => title);

/** Return a client that is in step and waits for events. */
async function inStep(options: Parameters<typeof client>[1] = {}, own = network): Promise<Tasks> {
  const tasks = client(own, options);
  expect(await tasks.sync()).toBe(true);
  await until(() => own.streamed > 0 || !own.hasStreams, "the stream");
  return tasks;
}

describe("an edit", () => {
  test("is in the list at once, and has the server's id later", async () => {
    const tasks = client(network);
    const id = tasks.add({ title: "Buy oat milk" });

    expect(tasks.list()).toMatchObject([{ id, key: id, title: "Buy oat milk", pending: true }]);
    await tasks.sync();
    expect(tasks.list()).toMatchObject([{ id: 1, key: id, title: "Buy oat milk", pending: false }]);
    expect(tasks.get(id)?.id).toBe(1);
    expect(tasks.status).toMatchObject({ ready: true, online: true, pending: 0, error: null });
  });

  test("by the local id of a task that has another by now is sent", async () => {
    const tasks = await inStep();
    const id = tasks.add({ title: "a" });
    await tasks.sync();
    tasks.update(id, { completed: true });
    await tasks.sync();

    expect(server.tasks.get(1)?.completed).toBe(true);
  });

  test("of a creation that has not been sent goes into it", async () => {
    network.isDown = true;
    const tasks = client(network);
    const id = tasks.add({ title: "a" });
    tasks.update(id, { title: "b", tags: ["home"] });
    tasks.remove(tasks.add({ title: "never" }));
    expect(await tasks.sync()).toBe(false);
    network.isDown = false;
    await tasks.sync();

    expect(sent()).toEqual([[{ op: "create", key: id, task: { title: "b", tags: ["home"] } }]]);
  });

  test("while its creation is on its way follows by the server's id", async () => {
    const tasks = await inStep();
    const id = tasks.add({ title: " a " });
    network.before = (path) => {
      if (path !== "/batch") return;
      network.before = undefined;
      tasks.update(id, { title: "b" });
    };
    await tasks.sync();
    await until(() => tasks.status.pending === 0);

    expect(sent().map((operations) => operations?.map(({ op }) => op))).toEqual([["create"], ["update"]]);
    expect(serverTitles()).toEqual(["b"]);
  });

  test("that changes nothing is not sent", async () => {
    server.create({ title: "a" });
    const tasks = await inStep();
    tasks.update(1, { completed: true });
    tasks.update(1, { completed: false });
    tasks.update(1, {});
    tasks.update(99, { title: "nobody" });
    // The first may have gone out before the second was made.
    await tasks.sync();

    expect(server.tasks.get(1)?.completed).toBe(false);
    expect(tasks.status.pending).toBe(0);
  });

  test("of 250 tasks is sent 100 at a time", async () => {
    network.isDown = true;
    const tasks = client(network);
    for (let number = 0; number < 250; number++) tasks.add({ title: `${number}` });
    await tasks.sync();
    network.isDown = false;
    await tasks.sync();

    expect(sent().map((operations) => operations?.length)).toEqual([100, 100, 50]);
    expect(titles(tasks)).toEqual(serverTitles());
    expect(tasks.list()).toHaveLength(250);
  });

  test("after close is an error", async () => {
    const tasks = await inStep();
    await tasks.close();

    expect(() => tasks.add({ title: "late" })).toThrow("Closed");
    expect(await tasks.sync()).toBe(false);
  });
});

describe("remove", () => {
  test("is undone before it is sent without a request", async () => {
    server.create({ title: "a" });
    const tasks = await inStep();
    network.isDown = true;
    const undo = tasks.remove(1);
    expect(titles(tasks)).toEqual([]);
    undo();
    expect(titles(tasks)).toEqual(["a"]);
    network.isDown = false;
    await tasks.sync();

    expect(sent()).toEqual([]);
    expect(server.revision).toBe(1);
  });

  test("of a creation that was never sent is undone by a creation", async () => {
    const tasks = await inStep();
    network.isDown = true;
    const undo = tasks.remove(tasks.add({ title: "a" }));
    network.isDown = false;
    await tasks.sync();
    expect(tasks.status.pending).toBe(0);
    undo();
    await tasks.sync();

    expect(titles(tasks)).toEqual(["a"]);
    expect([...server.tasks.values()].map(({ title }) => title)).toEqual(["a"]);
  });

  test("is undone after it is sent by a restore", async () => {
    server.create({ title: "a" });
    const tasks = await inStep();
    const undo = tasks.remove(1);
    await tasks.sync();
    expect(serverTitles()).toEqual([]);
    undo();
    expect(tasks.list()).toMatchObject([{ title: "a", pending: true }]);
    await tasks.sync();

    expect(serverTitles()).toEqual(["a"]);
    expect(sent().at(-1)).toEqual([{ op: "restore", id: 1 }]);
  });

  test("of a creation on its way is undone by the server's id", async () => {
    const tasks = await inStep();
    let undo = () => {};
    const id = tasks.add({ title: "a" });
    network.before = (path) => {
      if (path !== "/batch") return;
      network.before = undefined;
      undo = tasks.remove(id);
    };
    await tasks.sync();
    await until(() => tasks.status.pending === 0);
    expect(serverTitles()).toEqual([]);
    undo();
    await tasks.sync();

    expect(serverTitles()).toEqual(["a"]);
    expect(tasks.list()).toMatchObject([{ id: 1, title: "a", pending: false }]);
  });

  test("of a task that is restored is edited by the batch after it", async () => {
    server.create({ title: "a" });
    const tasks = await inStep();
    const undo = tasks.remove(1);
    await tasks.sync();
    network.isDown = true;
    undo();
    tasks.update(1, { title: "b" });
    await tasks.sync();
    network.isDown = false;
    await tasks.sync();

    expect(serverTitles()).toEqual(["b"]);
  });

  test("of what is not there does nothing", async () => {
    const tasks = await inStep();
    tasks.remove(7)();
    expect(tasks.status.pending).toBe(0);
  });

  test("that cannot be undone any more is reported", async () => {
    server.create({ title: "a" });
    const dropped: Dropped[] = [];
    const tasks = await inStep({ onDropped: (one) => dropped.push(one) });
    const undo = tasks.remove(1);
    await tasks.sync();
    server.trash.delete(1);
    undo();
    await tasks.sync();

    expect(dropped).toMatchObject([{ id: 1, op: "restore", problem: { status: 404 } }]);
    expect(titles(tasks)).toEqual([]);
  });
});

describe("a conflict", () => {
  /** Return a client whose task somebody else changes before its edit arrives. */
  async function contested(mine: object, theirs: object, options: Parameters<typeof client>[1] = {}): Promise<Tasks> {
    server.create({ title: "a" });
    const tasks = await inStep(options);
    network.isDown = true;
    tasks.update(1, mine);
    server.update(1, theirs);
    await tasks.sync();
    network.isDown = false;
    await tasks.sync();
    return tasks;
  }

  test("in other members is none: both are kept", async () => {
    const conflicts: Conflict[] = [];
    const tasks = await contested(
      { completed: true },
      { title: "b" },
      { onConflict: (one) => void conflicts.push(one) },
    );

    expect(conflicts).toEqual([]);
    expect(server.tasks.get(1)).toMatchObject({ title: "b", completed: true });
    expect(tasks.get(1)).toMatchObject({ title: "b", completed: true, pending: false });
    // The first attempt met another revision, the second one had the new one.
    expect(sent()).toMatchObject([[{ if_revision: 1 }], [{ if_revision: 2 }]]);
  });

  test("in the same member leaves theirs, and tells what was dropped", async () => {
    const conflicts: Conflict[] = [];
    const onConflict = (one: Conflict) => void conflicts.push(one);
    const tasks = await contested({ title: "mine", completed: true }, { title: "theirs" }, { onConflict });

    expect(server.tasks.get(1)).toMatchObject({ title: "theirs", completed: true });
    expect(conflicts).toMatchObject([
      { id: 1, op: "update", base: { title: "a" }, mine: { title: "mine" }, theirs: { title: "theirs" } },
    ]);
    expect(tasks.status.pending).toBe(0);
  });

  test("is decided by onConflict for mine", async () => {
    await contested({ title: "mine" }, { title: "theirs" }, { onConflict: () => "mine" });

    expect(serverTitles()).toEqual(["mine"]);
  });

  test("is decided by onConflict, later, with other values", async () => {
    const onConflict = async ({ mine, theirs }: Conflict) => ({ title: `${mine?.title} and ${theirs.title}` });
    await contested({ title: "mine" }, { title: "theirs" }, { onConflict });

    expect(serverTitles()).toEqual(["mine and theirs"]);
  });

  test("that was decided is not asked about again when others are faster once more", async () => {
    const conflicts: Conflict[] = [];
    let wasFaster = false;
    network.before = (path) => {
      if (path !== "/batch" || !conflicts.length || wasFaster) return;
      wasFaster = true;
      server.update(1, { description: "more" });
    };
    const onConflict = (one: Conflict) => {
      conflicts.push(one);
      return "mine" as const;
    };
    await contested({ title: "mine" }, { title: "theirs" }, { onConflict });

    expect(conflicts).toHaveLength(1);
    expect(server.tasks.get(1)).toMatchObject({ title: "mine", description: "more" });
  });

  test("of a deletion with an edit leaves the task", async () => {
    server.create({ title: "a" });
    const conflicts: Conflict[] = [];
    const tasks = await inStep({ onConflict: (one) => void conflicts.push(one) });
    network.isDown = true;
    tasks.remove(1);
    server.update(1, { title: "b" });
    await tasks.sync();
    network.isDown = false;
    await tasks.sync();

    expect(conflicts).toMatchObject([{ op: "delete", mine: null, base: { title: "a" }, theirs: { title: "b" } }]);
    expect(titles(tasks)).toEqual(["b"]);
  });

  test("of a deletion is decided for the deletion", async () => {
    server.create({ title: "a" });
    const tasks = await inStep({ onConflict: () => "mine" });
    network.isDown = true;
    tasks.remove(1);
    server.update(1, { title: "b" });
    await tasks.sync();
    network.isDown = false;
    await tasks.sync();

    expect(serverTitles()).toEqual([]);
  });

  test("with a value that is the same is none", async () => {
    const onConflict = vi.fn();
    await contested({ title: "b" }, { title: "b" }, { onConflict });

    expect(onConflict).not.toHaveBeenCalled();
    expect(server.revision).toBe(2);
  });

  test("with values that the server stores in another form is none", async () => {
    const onConflict = vi.fn();
    const tasks = await inStep({ onConflict });
    const id = tasks.add({ title: "  a  " });
    network.before = (path) => {
      if (path !== "/batch") return;
      network.before = undefined;
      tasks.update(id, { title: "b" });
    };
    await tasks.sync();
    server.update(1, { completed: true });
    await tasks.sync();
    await until(() => tasks.status.pending === 0);

    expect(onConflict).not.toHaveBeenCalled();
    expect(server.tasks.get(1)).toMatchObject({ title: "b", completed: true });
  });

  test("that never ends waits after three attempts, and is not lost", async () => {
    server.create({ title: "a" });
    const tasks = await inStep();
    network.isDown = true;
    tasks.update(1, { completed: true });
    network.isDown = false;
    let others = 0;
    network.before = (path) => {
      if (path === "/batch") server.update(1, { description: `${others++}` });
    };
    expect(await tasks.sync()).toBe(false);
    expect(sent()).toHaveLength(4);
    expect(tasks.status).toMatchObject({ pending: 1, error: { status: 0 } });
    network.before = undefined;
    await tasks.sync();

    expect(server.tasks.get(1)).toMatchObject({ completed: true, description: "3" });
  });
});

describe("what the server refuses", () => {
  let dropped: Dropped[];
  const onDropped = (one: Dropped) => void dropped.push(one);

  beforeEach(() => {
    dropped = [];
  });

  test("because the task is gone is dropped and reported", async () => {
    server.create({ title: "a" });
    const tasks = await inStep({ onDropped });
    network.isDown = true;
    tasks.update(1, { title: "b" });
    server.remove(1);
    network.isDown = false;
    await tasks.sync();

    expect(dropped).toMatchObject([{ id: 1, op: "update", task: { title: "b" }, problem: { status: 404 } }]);
    expect(titles(tasks)).toEqual([]);
    expect(tasks.status.pending).toBe(0);
  });

  test("because the task has been gone for a while is dropped without a request", async () => {
    server.create({ title: "a" });
    server.create({ title: "b" });
    const tasks = await inStep({ onDropped });
    network.streamAnswers = [];
    network.before = (path) => {
      if (path !== "/changes") return;
      network.before = undefined;
      tasks.update(1, { title: "late" });
      tasks.remove(2);
    };
    server.remove(1);
    server.remove(2);
    await until(() => dropped.length === 1);
    await tasks.sync();

    expect(sent()).toEqual([]);
    expect(dropped).toMatchObject([{ id: 1, op: "update" }]);
  });

  test("because its values break a rule is dropped and reported, with the edits that followed", async () => {
    const tasks = await inStep({ onDropped });
    network.isDown = true;
    const id = tasks.add({ title: "  " });
    tasks.add({ title: "good" });
    await tasks.sync();
    network.isDown = false;
    network.before = (path) => {
      if (path !== "/batch") return;
      network.before = undefined;
      tasks.update(id, { priority: "high" });
    };
    await tasks.sync();
    await until(() => tasks.status.pending === 0);

    expect(dropped).toMatchObject([
      { id, op: "create", task: { title: "  " }, problem: { status: 422 } },
      { id, op: "update", problem: { status: 404 } },
    ]);
    expect(titles(tasks)).toEqual(["good"]);
  });

  test.each([413, 422, 400])("as a whole with %i is sent in halves until one is to blame", async (status) => {
    const tasks = await inStep({ onDropped, fetch: refusing(network.fetch, status) });
    network.isDown = true;
    for (const title of ["a", "b", "poison", "c"]) tasks.add({ title });
    await tasks.sync();
    network.isDown = false;
    await tasks.sync();

    expect(serverTitles().sort()).toEqual(["a", "b", "c"]);
    expect(dropped).toMatchObject([{ op: "create", task: { title: "poison" }, problem: { status } }]);
  });

  function refusing(fetch: typeof network.fetch, status: number): typeof network.fetch {
    return async (input, init) => {
      if (`${init?.body}`.includes("poison")) return new Response(JSON.stringify({ detail: "No." }), { status });
      return fetch(input, init);
    };
  }
});

describe("a lost answer", () => {
  test("of a batch is asked for with the same batch, and nothing is there twice", async () => {
    const tasks = await inStep();
    network.next = ["lost"];
    const id = tasks.add({ title: "a" });
    await until(() => tasks.status.error);
    tasks.update(id, { title: "b" });
    await tasks.sync();

    expect(sent()[1]).toEqual(sent()[0]);
    expect(serverTitles()).toEqual(["b"]);
    expect(tasks.list()).toHaveLength(1);
  });

  test("of a creation that others have changed meanwhile overwrites nothing unseen", async () => {
    const conflicts: Conflict[] = [];
    const tasks = await inStep({ onConflict: (conflict) => void conflicts.push(conflict) });
    network.next = ["lost"];
    const id = tasks.add({ title: " a" });
    await until(() => tasks.status.error);
    server.update(1, { title: "theirs" });
    tasks.update(id, { title: "mine", priority: "high" });
    await tasks.sync();

    expect(server.tasks.get(1)).toMatchObject({ title: "theirs", priority: "high" });
    expect(conflicts).toMatchObject([{ mine: { title: "mine" }, theirs: { title: "theirs" } }]);
  });

  test("of a deletion counts as one", async () => {
    server.create({ title: "a" });
    const tasks = await inStep();
    network.next = ["lost"];
    tasks.remove(1);
    await until(() => tasks.status.error);
    await tasks.sync();

    expect(serverTitles()).toEqual([]);
    expect(tasks.status.pending).toBe(0);
  });
});

describe("the copy", () => {
  test("is read page by page", async () => {
    for (const title of ["a", "b", "c", "d", "e"]) server.create({ title });
    server.remove(2);
    network.pageSize = 2;
    const tasks = await inStep();

    expect(titles(tasks)).toEqual(["a", "c", "d", "e"]);
    expect(pulls()).toBeGreaterThan(2);
  });

  test("whose cursor has expired is read again, and the outbox stays", async () => {
    server.create({ title: "a" });
    const tasks = await inStep();
    network.isDown = true;
    const id = tasks.add({ title: "mine" });
    await tasks.sync();
    server.create({ title: "b" });
    server.tasks.delete(1);
    server.expired = 3;
    network.isDown = false;
    await tasks.sync();

    expect(titles(tasks)).toEqual(["b", "mine"]);
    expect(tasks.get(id)?.id).toBe(3);
  });

  test("that differs from the server is read again once, and reported", async () => {
    server.create({ title: "a" });
    server.create({ title: "b" });
    const drifts: Drift[] = [];
    const tasks = await inStep({ onDrift: (one) => drifts.push(one) });
    // A deletion of which nobody is told.
    server.tasks.delete(1);
    await tasks.sync();

    expect(drifts).toMatchObject([{ local: { count: 2 }, server: { count: 1 } }]);
    expect(titles(tasks)).toEqual(["b"]);
  });

  test("that differs after everything was read is an error, and another attempt follows", async () => {
    server.create({ title: "a" });
    const onDrift = vi.fn();
    const tasks = client(network, { onDrift });
    const { checksum } = server;
    server.checksum = () => "wrong";
    expect(await tasks.sync()).toBe(false);
    expect(onDrift).toHaveBeenCalledTimes(2);
    expect(titles(tasks)).toEqual(["a"]);
    server.checksum = checksum;
    await pass(2000);
    await until(() => tasks.status.online);
  });
});

describe("a token", () => {
  test("that is refused is replaced once", async () => {
    const asked: boolean[] = [];
    const token = async (refused: boolean) => {
      asked.push(refused);
      return tokenOf({ sub: "ada", n: asked.length });
    };
    network.next = [{ status: 401 }];
    const tasks = client(network, { token });
    await tasks.sync();

    expect(asked).toEqual([false, true]);
    expect(network.calls[0]?.token).not.toBe(network.calls[1]?.token);
    expect(tasks.status.online).toBe(true);
  });

  test("that is refused twice is an error that says so", async () => {
    network.next = [{ status: 401 }, { status: 401, body: { detail: "Invalid token" } }];
    const tasks = client(network);

    expect(await tasks.sync()).toBe(false);
    expect(tasks.status).toMatchObject({ online: false, error: { status: 401, detail: "Invalid token" } });
  });

  test("is asked for again when it expires", async () => {
    const token = vi.fn(async () => tokenOf({ sub: "ada", exp: Date.now() / 1000 + 60 }));
    const tasks = await inStep({ token });
    await tasks.sync();
    expect(token).toHaveBeenCalledTimes(1);
    await pass(55_000);
    await tasks.sync();

    expect(token).toHaveBeenCalledTimes(2);
  });

  test("names the user in userId too, in any alphabet", async () => {
    const seen: string[] = [];
    const tasks = client(network, {
      token: async () => tokenOf({ userId: "Žofie" }),
      fetch: async (input) => {
        seen.push(`${input}`);
        return new Response(JSON.stringify({ detail: "no" }), { status: 403 });
      },
    });
    await tasks.sync();

    expect(seen).toEqual(["https://api.example.com/api/%C5%BDofie/tasks/changes"]);
    expect(tasks.status.error).toEqual({ status: 403, detail: "no" });
  });

  test("that is not there yet is asked for again, and what was done meanwhile is sent", async () => {
    const token = vi.fn(async (): Promise<string | null> => null);
    const tasks = client(network, { token });
    tasks.add({ title: "early" });
    await until(() => tasks.status.error);
    expect(tasks.status).toMatchObject({ ready: false, pending: 1, error: { status: 0 } });
    token.mockImplementation(async () => tokenOf({ sub: "ada" }));
    await pass(2000);
    await until(() => tasks.status.pending === 0 && tasks.status.online);

    expect(serverTitles()).toEqual(["early"]);
  });
});

describe("a failure", () => {
  test.each([429, 503])("with %i is tried again when the server says, however often it is asked", async (status) => {
    network.next = [{ status, headers: { "Retry-After": "20" } }];
    const tasks = client(network);
    expect(await tasks.sync()).toBe(false);
    tasks.add({ title: "a" });
    const later = tasks.sync();
    await pass(19_000);
    expect(network.calls).toHaveLength(1);
    await pass(6_001);

    expect(await later).toBe(true);
    expect(serverTitles()).toEqual(["a"]);
  });

  test("with a Retry-After of years waits for an hour", async () => {
    network.next = [{ status: 503, headers: { "Retry-After": "99999999" } }];
    const tasks = client(network);
    await tasks.sync();
    await pass(3_500_000);
    expect(network.calls).toHaveLength(1);
    await pass(1_100_000);
    await until(() => tasks.status.online);
  });

  test("of the network is tried again after 1 to 60 s, longer each time", async () => {
    network.isDown = true;
    const fetch = vi.fn(network.fetch);
    const tasks = client(network, { fetch });
    await tasks.sync();
    const gaps: number[] = [];
    for (let last = Date.now(); gaps.length < 9; ) {
      const { length } = fetch.mock.calls;
      while (fetch.mock.calls.length === length) await pass(250);
      gaps.push(Date.now() - last);
      last = Date.now();
    }

    expect(gaps[0]).toBeGreaterThanOrEqual(1000);
    expect(gaps[0]).toBeLessThanOrEqual(1500);
    expect(gaps[3]).toBeGreaterThanOrEqual(8000);
    expect(gaps.slice(7).every((gap) => gap >= 48_000 && gap <= 60_500)).toBe(true);
    // One that is asked for does not wait.
    network.isDown = false;
    expect(await tasks.sync()).toBe(true);
  });

  test("that was under way when a sync was asked for is followed by another attempt", async () => {
    const tasks = await inStep();
    let later: Promise<boolean> | undefined;
    network.next = ["unreachable"];
    network.before = () => {
      later ??= tasks.sync();
    };
    expect(await tasks.sync()).toBe(false);
    expect(await later).toBe(true);
  });

  test("of an edit does not hurry the next attempt", async () => {
    network.isDown = true;
    const fetch = vi.fn(network.fetch);
    const tasks = client(network, { fetch });
    await tasks.sync();
    const before = fetch.mock.calls.length;
    tasks.add({ title: "a" });
    await pass(500);

    expect(fetch.mock.calls.length).toBe(before);
  });

  test("to answer within 60 s is one", async () => {
    const hanging: typeof fetch = (_, init) =>
      new Promise((_, reject) => init?.signal?.addEventListener("abort", () => reject(init.signal?.reason)));
    const tasks = client(network, { fetch: hanging });
    const done = tasks.sync();
    await until(() => tasks.status.ready);
    await pass(60_001);

    expect(await done).toBe(false);
  });
});

describe("events", () => {
  test("bring the changes of others", async () => {
    const tasks = await inStep();
    server.create({ title: "theirs" });
    await until(() => titles(tasks).includes("theirs"));
  });

  test("that end are opened again after the time that the server names", async () => {
    const tasks = await inStep();
    for (const stream of server.streams) {
      stream.enqueue(new TextEncoder().encode("retry: 7000\n\nevent: expired\ndata: {}\n\n"));
      stream.close();
    }
    server.streams.clear();
    server.create({ title: "meanwhile" });
    await until(() => network.streamed === 1);
    await pass(6900);
    expect(network.streamed).toBe(1);
    await pass(2000);
    await until(() => network.streamed === 2);

    expect(titles(tasks)).toEqual(["meanwhile"]);
  });

  test("that break are opened again as soon as a call succeeds", async () => {
    const tasks = await inStep();
    for (const stream of server.streams) stream.error(new TypeError("network error"));
    server.streams.clear();
    await tasks.sync();
    await until(() => network.streamed === 2);
    server.create({ title: "theirs" });
    await until(() => titles(tasks).includes("theirs"));
  });

  test("that are silent for 60 s are dead", async () => {
    await inStep();
    await pass(59_000);
    for (const stream of server.streams) stream.enqueue(new TextEncoder().encode(": still here\n\n"));
    await until(() => true);
    await pass(59_000);
    expect(server.streams.size).toBe(1);
    await pass(1_001);
    expect(server.streams.size).toBe(0);
    await pass(4_000);
    await until(() => network.streamed === 2);
  });

  test("that the server has no room for are replaced by a look every 30 s, or as it says", async () => {
    network.streamAnswers = [{ status: 429, headers: { "Retry-After": "50" } }, { status: 404 }];
    network.hasStreams = false;
    const tasks = await inStep();
    await until(() => !network.streamAnswers[1]);
    server.create({ title: "theirs" });
    const before = pulls();
    await pass(49_000);
    expect(pulls()).toBe(before);
    await pass(14_000);
    await until(() => titles(tasks).includes("theirs"));
    await until(() => !network.streamAnswers.length);
    expect(network.streamed).toBe(0);
    await pass(38_000);
    await until(() => network.streamed === 1);
  });

  test("are left alone while edits are sent", async () => {
    const tasks = await inStep();
    tasks.add({ title: "a" });
    await tasks.sync();

    expect(network.streamed).toBe(1);
  });
});

test("a device is in step between two changes, however many follow", async () => {
  const tasks = client(network);
  network.before = (path) => {
    if (path === "/changes" && server.revision < 50) server.create({ title: `${server.revision}` });
  };
  expect(await tasks.sync()).toBe(true);
  expect(tasks.status.online).toBe(true);
});

describe("the store", () => {
  test("returns the same list until something changes, and tells who subscribed", async () => {
    const tasks = await inStep();
    const listener = vi.fn();
    const stop = tasks.subscribe(listener);
    const list = tasks.list({ status: "pending" });
    expect(tasks.list({ status: "pending" })).toBe(list);
    tasks.add({ title: "a" });
    expect(listener).toHaveBeenCalled();
    expect(tasks.list({ status: "pending" })).not.toBe(list);
    stop();
    const { length } = listener.mock.calls;
    tasks.add({ title: "b" });
    expect(listener.mock.calls).toHaveLength(length);
  });

  test("does nothing before it is used", async () => {
    const token = vi.fn(async () => null);
    client(network, { token });
    await pass(60_000);

    expect(token).not.toHaveBeenCalled();
  });
});

describe("clear", () => {
  test("forgets what was not sent, and closes", async () => {
    const tasks = await inStep();
    network.isDown = true;
    tasks.add({ title: "mine" });
    await tasks.clear();

    expect(tasks.list()).toEqual([]);
    expect(tasks.status).toMatchObject({ ready: false, online: false, pending: 0 });
    await pass(600_000);
    expect(serverTitles()).toEqual([]);
    expect(() => tasks.add({ title: "late" })).toThrow("Closed");
  });

  test("of a client whose user is unknown ends too", async () => {
    const tasks = client(network, { token: async () => null });
    tasks.add({ title: "a" });
    await tasks.clear();

    expect(tasks.list()).toEqual([]);
  });
});
