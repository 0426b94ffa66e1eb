/** What the user did, applied to the copy, folded for the server, and merged with what others did. No input or output. */

import type { Entry, Id, Item, TaskPatch } from "./types.js";

/** The members that users write. */
export const MEMBERS = ["title", "description", "completed", "priority", "due_date", "tags"] as const;
type Member = (typeof MEMBERS)[number];

/** Return the time of an edit. */
export const now = () => new Date().toISOString();

/** Return the members of a patch that users write. */
export function members(patch: object): Member[] {
  return MEMBERS.filter((member) => (patch as TaskPatch)[member] !== undefined);
}

/** Return these members of a task. */
export function pick(task: object, names: readonly Member[] = MEMBERS): TaskPatch {
  return Object.fromEntries(names.map((name) => [name, (task as TaskPatch)[name]]));
}

/** Check whether two values of a member are the same. */
export function same(a: unknown, b: unknown): boolean {
  return JSON.stringify(a ?? null) === JSON.stringify(b ?? null);
}

/** Return a task with a patch applied, as the server would (RFC 7396): null clears, and no tags are an empty array. */
export function patched(item: Item, patch: TaskPatch, at: string): Item {
  const next = { ...item, ...pick(patch, members(patch)), updated_at: at, pending: true } as Item;
  next.tags ??= [];
  if (next.completed !== item.completed) next.completed_at = next.completed ? at : null;
  return next;
}

/** Return the list with everything in it that the outbox holds. */
export function view(items: Iterable<Item>, log: Iterable<Entry>, resolve: (id: Id) => Id): Map<Id, Item> {
  const shown = new Map<Id, Item>();
  const removed = new Map<Id, Item>();
  for (const item of items) shown.set(item.id, item);
  for (const { op, id: named, at, task = {}, item: kept } of log) {
    const id = resolve(named);
    const item = shown.get(id);
    if (op === "create") {
      const blank = { id, key: `${named}`, user_id: "", description: null, completed: false, priority: null };
      const rest = { due_date: null, tags: [], created_at: at, completed_at: null, revision: 0 };
      // A creation that was answered elsewhere is in the copy by now.
      if (!item) shown.set(id, patched({ ...blank, ...rest } as Partial<Item> as Item, task, at));
    } else if (op === "restore") {
      const back = removed.get(id) ?? kept;
      if (!item && back) shown.set(id, { ...back, id, pending: true });
    } else if (item) {
      if (op === "update") shown.set(id, patched(item, task, at));
      else {
        removed.set(id, item);
        shown.delete(id);
      }
    }
  }
  return shown;
}

/** What the user did with one task, as one operation; without an `op` it came to nothing. */
export interface Folded {
  id: Id;
  op?: Entry["op"] | undefined;
  seqs: number[];
  task: TaskPatch;
  base: TaskPatch;
}

/**
 * Fold the outbox, so that each task is addressed once: edits of a creation go into it, later values replace earlier ones
 * and keep the earliest base, and a deletion and its undo are nothing. What cannot be folded waits for the next batch.
 */
export function fold(log: Iterable<Entry>, resolve: (id: Id) => Id): Folded[] {
  const groups = new Map<Id, Folded & { isDeleted?: boolean; isClosed?: boolean }>();
  for (const { seq, op, id: named, task, base, item } of log) {
    // It is being stored.
    if (!seq) continue;
    const id = resolve(named);
    const group = groups.get(id) ?? { id, seqs: [], task: {}, base: {} };
    groups.set(id, group);
    // A restored task can be changed once it is back, and a deleted one (in another tab) not at all.
    if (op === "update" && (group.isDeleted || group.op === "restore")) group.isClosed = true;
    if (group.isClosed) continue;
    group.seqs.push(seq);
    group.task = { ...group.task, ...task };
    group.base = { ...base, ...group.base };
    if (op === "delete") {
      if (group.op === "restore") group.op = undefined;
      else group.isDeleted = true;
    } else if (op === "restore" && group.isDeleted) group.isDeleted = false;
    else if (op === "restore" && typeof id === "string" && !group.op) {
      // Creation and deletion came to nothing, so that the server has nothing to restore.
      group.op = "create";
      group.task = pick(item as Item);
    } else group.op ??= op;
  }
  for (const group of groups.values()) {
    if (group.isDeleted) group.op = group.op === "create" ? undefined : "delete";
  }
  return [...groups.values()];
}

/** What becomes of an edit: members to send, and members that somebody else has changed to something else. */
export interface Merged {
  send: TaskPatch;
  contested: Member[];
}

/**
 * Merge an edit with the task as it is now, member by member.
 *
 * @param base The members as the user saw them.
 * @param mine The members as the user wants them; null where the user deleted the task.
 * @param theirs The task as it is now.
 */
export function merge(base: TaskPatch, mine: TaskPatch | null, theirs: TaskPatch): Merged {
  const wanted = mine ? members(mine).filter((member) => !same(mine[member], theirs[member])) : members(base);
  const contested = wanted.filter((member) => !same(base[member], theirs[member]));
  const uncontested = wanted.filter((member) => !contested.includes(member));
  return { send: mine ? pick(mine, uncontested) : {}, contested };
}

/** Return a patch in which members that had a value before have the server's form of it now. */
export function rebased(base: TaskPatch, sent: TaskPatch, stored: TaskPatch): TaskPatch {
  const moved = members(base).filter((member) => member in sent && same(base[member], sent[member]));
  return { ...base, ...pick(stored, moved) };
}
