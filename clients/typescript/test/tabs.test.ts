/** Tabs of a browser, which share a database, a lock and a channel. */

import "fake-indexeddb/auto";
import { IDBFactory } from "fake-indexeddb";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import type { Conflict, Tasks } from "../src/index.js";
import {
  client,
  closeAll,
  FakeLocks,
  FakeNetwork,
  FakeServer,
  pass,
  stopClock,
  titles,
  tokenOf,
  until,
} from "./fake.js";

/** A page that can be hidden; all tabs of a test share it. */
class FakeDocument extends EventTarget {
  hidden = false;

  show(isShown: boolean): void {
    this.hidden = !isShown;
    this.dispatchEvent(new Event("visibilitychange"));
  }
}

let server: FakeServer;
let network: FakeNetwork;
let page: FakeDocument;
let events: EventTarget;

beforeEach(() => {
  stopClock();
  server = new FakeServer();
  network = new FakeNetwork(server);
  page = new FakeDocument();
  events = new EventTarget();
  vi.stubGlobal("indexedDB", new IDBFactory());
  vi.stubGlobal("navigator", { locks: new FakeLocks() });
  vi.stubGlobal("document", page);
  vi.stubGlobal("localStorage", {});
  vi.stubGlobal("addEventListener", events.addEventListener.bind(events));
});

afterEach(async () => {
  await closeAll();
  vi.unstubAllGlobals();
  vi.useRealTimers();
});

const tab = (options: Parameters<typeof client>[1] = {}, own = network) =>
  client(own, { storage: "indexeddb", ...options });

/** Return a tab that leads, and one that follows. */
async function twoTabs(options: Parameters<typeof client>[1] = {}): Promise<[Tasks, Tasks, FakeNetwork]> {
  const leader = tab(options);
  leader.subscribe(() => {});
  await until(() => network.streamed === 1, "the leader");
  const silent = new FakeNetwork(server);
  const follower = tab(options, silent);
  follower.subscribe(() => {});
  await until(() => follower.status.syncedAt, "the follower");
  return [leader, follower, silent];
}

describe("tabs", () => {
  test("show the same, and one of them alone calls the server", async () => {
    const [leader, follower, silent] = await twoTabs();
    follower.add({ title: "from the follower" });
    leader.add({ title: "from the leader" });
    server.create({ title: "from elsewhere" });
    await until(() => titles(leader).length === 3 && leader.status.pending === 0);
    await until(() => titles(follower).length === 3 && follower.status.pending === 0);

    expect(titles(follower).sort()).toEqual(titles(leader).sort());
    expect(silent.calls).toEqual([]);
    expect(silent.streamed).toBe(0);
  });

  test("learn that the leader is in step", async () => {
    const [, follower] = await twoTabs();
    server.tasks.clear();
    expect(await follower.sync()).toBe(true);
    await until(() => titles(follower).length === 0);
  });

  test("hand over when the leader closes", async () => {
    const [leader, follower, silent] = await twoTabs();
    await leader.close();
    await until(() => silent.streamed === 1, "the new leader");
    follower.add({ title: "a" });
    await until(() => server.tasks.size === 1);
  });

  test("are all told of a conflict, and the leader's answer counts", async () => {
    server.create({ title: "a" });
    const told: Conflict[] = [];
    const onConflict = (conflict: Conflict) => {
      told.push(conflict);
      return "mine" as const;
    };
    const [, follower] = await twoTabs({ onConflict });
    network.isDown = true;
    follower.update(1, { title: "mine" });
    server.update(1, { title: "theirs" });
    await until(() => follower.status.error);
    network.isDown = false;
    await follower.sync();
    await until(() => told.length === 2);
    await until(() => server.tasks.get(1)?.title === "mine");
  });

  test("all forget the user who signs out in one of them", async () => {
    const [leader, follower] = await twoTabs();
    follower.add({ title: "a" });
    await until(() => titles(leader).length === 1);
    await follower.clear();
    await until(() => {
      try {
        leader.update("nobody", {});
        leader.add({ title: "late" });
        return false;
      } catch {
        return true;
      }
    });
    const next = tab({}, new FakeNetwork(new FakeServer()));
    await next.sync();
    expect(next.list()).toEqual([]);
  });
});

describe("the storage", () => {
  test("keeps the copy, the cursor and the outbox", async () => {
    const first = tab();
    const id = first.add({ title: "sent" });
    await first.sync();
    network.isDown = true;
    first.update(id, { title: "not sent" });
    await first.sync();
    await first.close();
    const second = tab();
    second.subscribe(() => {});
    await until(() => second.status.ready);
    expect(second.list()).toMatchObject([{ id: 1, key: id, title: "not sent", pending: true }]);
    network.isDown = false;
    network.calls = [];
    await second.sync();

    expect(server.tasks.get(1)?.title).toBe("not sent");
    // It went on from where it was.
    expect(network.calls.map(({ path }) => path)).toEqual(["/batch", "/changes"]);
  });

  test("sends a batch again as it was, also after the page was closed", async () => {
    const first = tab();
    await first.sync();
    network.next = ["lost"];
    const id = first.add({ title: "a" });
    await until(() => first.status.error);
    await first.close();
    const second = tab();
    second.subscribe(() => {});
    await until(() => second.status.ready);
    second.update(id, { title: "b" });
    await second.sync();

    expect([...server.tasks.values()]).toMatchObject([{ title: "b" }]);
  });

  test("has an edit once that was made while its creation was answered", async () => {
    const first = tab();
    await first.sync();
    network.before = (path) => {
      if (path !== "/batch") return;
      network.before = undefined;
      first.update(id, { title: "b" });
      network.next = [undefined, { status: 503 }];
    };
    const id = first.add({ title: " a " });
    await until(() => first.status.error);
    await first.close();
    const second = tab();
    second.subscribe(() => {});
    await until(() => second.status.ready);
    expect(second.list()).toMatchObject([{ id: 1, key: id, title: "b" }]);
    expect(second.status.pending).toBe(1);
    await second.sync();

    expect([...server.tasks.values()]).toMatchObject([{ title: "b", revision: 2 }]);
  });

  test("opens without a network for the last user of this device", async () => {
    const first = tab();
    first.add({ title: "mine" });
    await first.sync();
    await first.close();
    network.isDown = true;
    const offline = tab({
      token: async () => {
        throw new TypeError("Failed to fetch");
      },
    });
    offline.subscribe(() => {});
    await until(() => offline.status.ready);
    expect(titles(offline)).toEqual(["mine"]);
    await offline.clear();

    expect(localStorage).toEqual({});
  });

  test("is one for each user", async () => {
    const first = tab();
    first.add({ title: "mine" });
    await first.sync();
    const second = tab({ token: async () => tokenOf({ sub: "eve" }) });
    second.subscribe(() => {});
    await until(() => second.status.ready);

    expect(second.list()).toEqual([]);
  });

  test("that fails keeps edits in memory, and they are sent", async () => {
    const tasks = tab();
    await tasks.sync();
    const put = vi.spyOn(IDBObjectStore.prototype, "put");
    put.mockImplementationOnce(() => {
      throw new DOMException("No room", "QuotaExceededError");
    });
    tasks.add({ title: "a" });
    await until(() => server.tasks.size === 1);
    put.mockRestore();
  });

  test("that a browser refuses is memory", async () => {
    vi.stubGlobal("indexedDB", {
      open() {
        throw new DOMException("Not in this window", "SecurityError");
      },
    });
    const tasks = tab();
    tasks.add({ title: "a" });
    await tasks.sync();
    await until(() => network.streamed === 1);

    expect(titles(tasks)).toEqual(["a"]);
  });

  test("that tabs share without locks is followed by a look every 30 s", async () => {
    vi.stubGlobal("navigator", {});
    const tasks = tab();
    await tasks.sync();
    server.create({ title: "theirs" });
    await pass(38_000);
    await until(() => titles(tasks).length === 1);

    expect(network.streamed).toBe(0);
  });
});

describe("a page", () => {
  test("that is hidden for five minutes closes the stream, and pulls at once when it is shown", async () => {
    const tasks = tab();
    tasks.subscribe(() => {});
    await until(() => network.streamed === 1);
    page.show(false);
    await pass(299_000);
    // Silence has ended streams meanwhile, and each was opened again.
    await until(() => server.streams.size === 1);
    await pass(1_001);
    expect(server.streams.size).toBe(0);
    const { length } = network.calls;
    server.create({ title: "meanwhile" });
    await pass(600_000);
    expect(network.calls).toHaveLength(length);
    page.show(true);
    await until(() => titles(tasks).length === 1);
  });

  test("that is hidden for less keeps it", async () => {
    const tasks = tab();
    tasks.subscribe(() => {});
    await until(() => network.streamed === 1);
    page.show(false);
    await pass(30_000);
    page.show(true);
    await pass(20_000);

    expect(server.streams.size).toBe(1);
    expect(network.streamed).toBe(1);
  });

  test("that is offline says so, and pulls at once when it is online", async () => {
    const tasks = tab();
    tasks.subscribe(() => {});
    await until(() => network.streamed === 1);
    events.dispatchEvent(new Event("offline"));
    expect(tasks.status.online).toBe(false);
    server.create({ title: "a" });
    events.dispatchEvent(new Event("online"));
    await until(() => tasks.status.online && titles(tasks).length === 1);
  });
});
