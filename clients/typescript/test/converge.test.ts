/** Devices that edit at random, on a network that loses answers, in pages that close and open again. */

import "fake-indexeddb/auto";
import { IDBFactory } from "fake-indexeddb";
import fc from "fast-check";
import { afterEach, expect, test, vi } from "vitest";
import type { Dropped, Tasks } from "../src/index.js";
import { client, closeAll, FakeLocks, FakeNetwork, FakeServer, until } from "./fake.js";

afterEach(async () => {
  await closeAll();
  vi.unstubAllGlobals();
});

const step = fc.oneof(
  { weight: 4, arbitrary: fc.constant({ kind: "add" as const }) },
  { weight: 6, arbitrary: fc.record({ kind: fc.constant("update" as const), which: fc.nat(9), value: fc.nat(3) }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant("complete" as const), which: fc.nat(9) }) },
  {
    weight: 2,
    arbitrary: fc.record({ kind: fc.constant("remove" as const), which: fc.nat(9), isUndone: fc.boolean() }),
  },
  { weight: 2, arbitrary: fc.constant({ kind: "undo" as const }) },
  { weight: 3, arbitrary: fc.constant({ kind: "sync" as const }) },
  { weight: 2, arbitrary: fc.constant({ kind: "lose" as const }) },
  { weight: 2, arbitrary: fc.constant({ kind: "switch" as const }) },
  { weight: 1, arbitrary: fc.constant({ kind: "reopen" as const }) },
  { weight: 2, arbitrary: fc.constant({ kind: "pause" as const }) },
);
const steps = fc.array(fc.tuple(fc.nat(3), step), { minLength: 5, maxLength: 60 });

// One tab of four devices, or two tabs of two.
test.each([1, 2])(
  "devices with %i tabs end with what the server has, and nothing is there twice or refused",
  async (tabs) => {
    await fc.assert(
      fc.asyncProperty(steps, async (script) => {
        vi.stubGlobal("navigator", { locks: new FakeLocks() });
        const server = new FakeServer();
        const reports: Dropped[] = [];
        let drifts = 0;
        vi.stubGlobal("indexedDB", new IDBFactory());
        const networks = Array.from({ length: 4 / tabs }, () => new FakeNetwork(server));
        const devices = [0, 1, 2, 3].map((tab) => {
          const which = tab % networks.length;
          const network = networks[which] as FakeNetwork;
          network.pageSize = 3;
          const open = (): Tasks => {
            // Each device has a database of its own.
            const tasks = client(network, {
              url: `https://device-${which}.example.com`,
              storage: "indexeddb",
              user: "ada",
              onDropped: (one) => reports.push(one),
              onDrift: () => drifts++,
            });
            tasks.subscribe(() => {});
            return tasks;
          };
          return { network, open, tasks: open(), undo: () => {} };
        });
        let made = 0;
        for (const [which, action] of script) {
          const device = devices[which] as (typeof devices)[number];
          const { tasks, network } = device;
          const list = tasks.list();
          const item = "which" in action ? list[action.which % Math.max(1, list.length)] : undefined;
          if (action.kind === "add") tasks.add({ title: ` ${made++} ` });
          else if (action.kind === "update" && item) tasks.update(item.id, { description: `${action.value}` });
          else if (action.kind === "complete" && item) tasks.update(item.id, { completed: !item.completed });
          else if (action.kind === "remove" && item) {
            device.undo = tasks.remove(item.id);
            if (action.isUndone) device.undo();
          } else if (action.kind === "undo") {
            device.undo();
            device.undo = () => {};
          } else if (action.kind === "sync") await tasks.sync();
          else if (action.kind === "lose") network.next = ["lost"];
          else if (action.kind === "switch") network.isDown = !network.isDown;
          else if (action.kind === "pause") await new Promise((done) => setImmediate(done));
          else if (action.kind === "reopen") {
            await tasks.close();
            device.tasks = device.open();
            device.undo = () => {};
          }
        }
        for (const network of networks) {
          network.isDown = false;
          network.next = [];
        }
        for (let round = 0; round < 4; round++) {
          for (const { tasks } of devices) while (!(await tasks.sync()));
        }
        const expected = () => [...server.tasks.values()].sort((a, b) => a.id - b.id);
        const shown = (tasks: Tasks) => tasks.list().map(({ key, pending, ...task }) => task);
        for (const { tasks } of devices) {
          await until(() => JSON.stringify(shown(tasks)) === JSON.stringify(expected()), "the same list");
          await until(() => tasks.status.pending === 0 && tasks.status.error === null, "the outbox");
        }
        expect(drifts).toBe(0);
        // Every task has a title of its own, and none of them is there twice, deleted ones included.
        const titles = [...server.tasks.values(), ...[...server.trash.values()].map(({ task }) => task)].map(
          ({ title }) => title,
        );
        expect(titles.map(Number).sort((a, b) => a - b)).toEqual(
          [...new Set(titles.map(Number))].sort((a, b) => a - b),
        );
        expect(reports.filter(({ problem }) => problem.status !== 404)).toEqual([]);
        await closeAll();
      }),
      { numRuns: Number(process.env.RUNS ?? 60) },
    );
  },
  120_000,
);
