import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { fold, MEMBERS, merge, patched, pick, rebased, same, view } from "../src/fold.js";
import type { Entry, Id, Item, TaskPatch } from "../src/types.js";

const identity = (id: Id) => id;
const AT = "2026-03-01T12:00:00.000Z";

const item = (members: Partial<Item> = {}): Item => ({
  id: 1,
  key: "1",
  user_id: "ada",
  title: "a",
  description: null,
  completed: false,
  priority: null,
  due_date: null,
  tags: [],
  created_at: AT,
  updated_at: AT,
  completed_at: null,
  revision: 1,
  pending: false,
  ...members,
});

/** Return an outbox of these edits, in order. */
const outbox = (...entries: Omit<Entry, "seq" | "at">[]): Entry[] =>
  entries.map((entry, position) => ({ ...entry, seq: position + 1, at: AT }));

const folded = (log: Entry[]) => fold(log, identity).map(({ op, task, base, seqs }) => ({ op, task, base, seqs }));

describe("fold", () => {
  test("edits of a creation go into it", () => {
    const log = outbox(
      { op: "create", id: "k", task: { title: "a" } },
      { op: "update", id: "k", task: { title: "b" }, base: { title: "a" } },
      { op: "update", id: "k", task: { priority: "high" }, base: { priority: null } },
    );

    expect(folded(log)).toMatchObject([{ op: "create", task: { title: "b", priority: "high" }, seqs: [1, 2, 3] }]);
  });

  test("a creation that is deleted is nothing, and a creation again when that is undone", () => {
    const log = outbox(
      { op: "create", id: "k", task: { title: "a" } },
      { op: "delete", id: "k" },
      { op: "restore", id: "k" },
    );

    expect(folded(log.slice(0, 2))).toMatchObject([{ op: undefined, seqs: [1, 2] }]);
    expect(folded(log)).toMatchObject([{ op: "create", task: { title: "a" }, seqs: [1, 2, 3] }]);
  });

  test("a creation that came to nothing is a creation again when that is undone later", () => {
    const log = outbox(
      { op: "restore", id: "k", item: item({ id: "k", title: "b", tags: ["t"] }) },
      { op: "update", id: "k", task: { title: "c" }, base: { title: "b" } },
    );

    expect(folded(log)).toMatchObject([{ op: "create", task: { title: "c", tags: ["t"] }, seqs: [1, 2] }]);
    expect(folded([...log, { op: "delete", id: "k", seq: 3, at: AT }])).toMatchObject([{ op: undefined }]);
  });

  test("the base of an update is that of its first edit", () => {
    const log = outbox(
      { op: "update", id: 1, task: { title: "b" }, base: { title: "a" } },
      { op: "update", id: 1, task: { title: "c" }, base: { title: "b" } },
    );

    expect(folded(log)).toEqual([{ op: "update", task: { title: "c" }, base: { title: "a" }, seqs: [1, 2] }]);
  });

  test("a deletion and its undo leave the update before them", () => {
    const log = outbox(
      { op: "update", id: 1, task: { title: "b" }, base: { title: "a" } },
      { op: "delete", id: 1, base: { title: "b" } },
      { op: "restore", id: 1 },
    );

    expect(folded(log.slice(0, 2))).toMatchObject([{ op: "delete", base: { title: "a" } }]);
    expect(folded(log)).toMatchObject([{ op: "update", task: { title: "b" }, base: { title: "a" } }]);
  });

  test("a restored task is changed by the next batch", () => {
    const log = outbox({ op: "restore", id: 1 }, { op: "update", id: 1, task: { title: "b" }, base: { title: "a" } });

    expect(folded(log)).toMatchObject([{ op: "restore", seqs: [1] }]);
  });

  test("a restore that is deleted again is nothing", () => {
    expect(folded(outbox({ op: "restore", id: 1 }, { op: "delete", id: 1 }))).toMatchObject([{ op: undefined }]);
  });

  test("an edit that is still being stored waits", () => {
    expect(fold([{ op: "create", id: "k", at: AT, task: { title: "a" } }], identity)).toEqual([]);
  });

  test("edits by the local and by the server's id are about the same task", () => {
    const log = outbox(
      { op: "update", id: "k", task: { title: "b" }, base: { title: "a" } },
      { op: "update", id: 1, task: { completed: true }, base: { completed: false } },
    );

    expect(fold(log, (id) => (id === "k" ? 1 : id))).toMatchObject([{ id: 1, task: { title: "b", completed: true } }]);
  });
});

describe("view", () => {
  test("a new task is in the list with what it has not", () => {
    const [shown] = view([], outbox({ op: "create", id: "k", task: { title: "a" } }), identity).values();

    expect(shown).toMatchObject({ id: "k", key: "k", title: "a", tags: [], priority: null, pending: true });
  });

  test("a restored task is as it was when it was removed", () => {
    const log = outbox(
      { op: "update", id: 1, task: { title: "b" } },
      { op: "delete", id: 1 },
      { op: "restore", id: 1, item: item({ title: "old" }) },
    );

    expect(view([item()], log, identity).get(1)).toMatchObject({ title: "b" });
    expect(view([], log.slice(2), identity).get(1)).toMatchObject({ title: "old", pending: true });
  });

  test("an untouched item is the same object", () => {
    const one = item();

    expect(view([one], [], identity).get(1)).toBe(one);
  });

  test("completing sets completed_at, and null clears", () => {
    expect(patched(item(), { completed: true }, "later")).toMatchObject({ completed_at: "later", updated_at: "later" });
    expect(patched(item({ completed: true, completed_at: AT }), { completed: false }, AT).completed_at).toBeNull();
    expect(patched(item({ tags: ["x"] }), { tags: null }, AT).tags).toEqual([]);
  });
});

test("rebased replaces what the server stores in another form, and nothing else", () => {
  const base = { title: " a ", completed: true };

  expect(rebased(base, { title: " a ", completed: false }, { title: "a", completed: false })).toEqual({
    title: "a",
    completed: true,
  });
});

// A few values for each member, so that edits meet.
const patch = fc
  .record(
    {
      title: fc.constantFrom("a", "b", "c"),
      description: fc.constantFrom(null, "x", "y"),
      completed: fc.boolean(),
      priority: fc.constantFrom(null, "low" as const, "high" as const),
      due_date: fc.constantFrom(null, "2026-03-01"),
      tags: fc.constantFrom<string[]>([], ["home"], ["home", "work"]),
    },
    { requiredKeys: [] },
  )
  .filter((value) => Object.keys(value).length > 0)
  .map((value): TaskPatch => value);
const task = patch.map((members) => item(members as Partial<Item>));

describe("merge, for any edits", () => {
  test("a member that only I changed is sent, one that only they changed is not touched, and the rest is contested", () => {
    fc.assert(
      fc.property(task, patch, patch, (base, mine, theirs) => {
        const now = patched(base, theirs, AT);
        const { send, contested } = merge(pick(base), mine, pick(now));
        for (const member of MEMBERS) {
          const isMine = mine[member] !== undefined && !same(mine[member], base[member]);
          const isTheirs = !same(now[member], base[member]);
          const isSame = same(mine[member], now[member]);
          expect(contested.includes(member)).toBe(mine[member] !== undefined && isTheirs && !isSame);
          expect(member in send).toBe(isMine && !isTheirs);
          if (member in send) expect(send[member]).toBe(mine[member]);
        }
      }),
    );
  });

  test("without anybody else it is what I did", () => {
    fc.assert(
      fc.property(task, patch, (base, mine) => {
        const { send, contested } = merge(pick(base), mine, pick(base));
        expect(contested).toEqual([]);
        expect(pick(patched(base, send, AT))).toEqual(pick(patched(base, mine, AT)));
      }),
    );
  });

  test("edits of different members give the same task in either order", () => {
    fc.assert(
      fc.property(task, patch, patch, (base, both, chosen) => {
        const isChosen = (member: string) => member in chosen;
        const one = Object.fromEntries(Object.entries(both).filter(([member]) => isChosen(member)));
        const other = Object.fromEntries(Object.entries(both).filter(([member]) => !isChosen(member)));
        const merged = (first: TaskPatch, second: TaskPatch) => {
          const now = patched(base, first, AT);
          return pick(patched(now, merge(pick(base), second, pick(now)).send, AT));
        };
        expect(merged(one, other)).toEqual(merged(other, one));
      }),
    );
  });

  test("a deletion is contested by exactly what has changed", () => {
    fc.assert(
      fc.property(task, patch, (base, theirs) => {
        const now = pick(patched(base, theirs, AT));
        const { send, contested } = merge(pick(base), null, now);
        expect(send).toEqual({});
        expect(contested).toEqual(MEMBERS.filter((member) => !same(base[member], now[member])));
      }),
    );
  });
});

describe("fold, for any edits of one task", () => {
  const edit = fc.oneof(
    patch.map((members) => ({ op: "update" as const, task: members })),
    fc.constant({ op: "delete" as const }),
    fc.constant({ op: "restore" as const }),
  );

  test("one operation leads to what the user sees", () => {
    fc.assert(
      fc.property(task, fc.boolean(), fc.array(edit, { maxLength: 8 }), (start, isNew, edits) => {
        const items = isNew ? [] : [start];
        const first: Omit<Entry, "seq" | "at">[] = isNew ? [{ op: "create", id: 1, task: pick(start) }] : [];
        const log = outbox(
          ...first,
          ...edits.map((one) => ({ ...one, id: 1, item: start }) as Omit<Entry, "seq" | "at">),
        );
        // A page offers an edit of what is shown, and an undo of what is not.
        const offered: Entry[] = [];
        for (const entry of log) {
          const isShown = view(items, offered, identity).has(1);
          if (isShown === (entry.op === "update" || entry.op === "delete")) offered.push(entry);
        }
        const [group] = fold(offered, identity);
        const alone = group?.op ? [{ ...group, op: group.op, at: AT }] : [];
        const expected = view(items, offered, identity).get(1);
        const actual = view(items, alone, identity).get(1);
        expect(actual && pick(actual)).toEqual(expected && pick(expected));
        expect(group?.seqs ?? []).toEqual(offered.map(({ seq }) => seq));
      }),
    );
  });
});
