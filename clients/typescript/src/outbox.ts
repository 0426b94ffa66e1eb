/** From the outbox to a batch, and from the results of a batch to what changes on the device. No input or output. */

import { fold, members, merge, now, pick, rebased } from "./fold.js";
import type {
  Change,
  Conflict,
  Dropped,
  Entry,
  Id,
  Item,
  NewTask,
  Operation,
  Resolution,
  Result,
  Sent,
  Task,
  TaskPatch,
} from "./types.js";

/** Return a task of the server as an item. */
export function itemOf(task: Task, items: Map<Id, Item>, key = items.get(task.id)?.key): Item {
  return { ...task, key: key ?? `${task.id}`, pending: false };
}

/** Return what is reported of an operation that the server refused. */
export function refusal({ id, operation }: Sent, problem: Dropped["problem"]): Dropped {
  return { id, op: operation.op, task: "task" in operation ? operation.task : null, problem };
}

/**
 * Fold the outbox and merge it with what others did.
 *
 * @param log The outbox.
 * @param items The copy.
 * @param resolve Returns the server's id of a task that was created here, if there is one.
 * @param max The number of operations in a batch.
 * @param decide Decides a conflict.
 * @returns The change that stores the next batch, and what comes to nothing because its task is gone.
 */
export async function prepare(
  log: Entry[],
  items: Map<Id, Item>,
  resolve: (id: Id) => Id,
  max: number,
  decide: (conflict: Conflict) => Resolution | Promise<Resolution>,
): Promise<{ change: Change; dropped: Dropped[] }> {
  const batch: Sent[] = [];
  const done: number[] = [];
  const decided: Entry[] = [];
  const dropped: Dropped[] = [];
  for (const { id, seqs, op, task, base } of fold(log, resolve)) {
    if (batch.length === max) break;
    const item = items.get(id);
    let sent = seqs;
    let operation: Operation | undefined;
    if (op === "create") operation = { op, key: `${id}`, task: task as NewTask };
    // What the server has never seen is not restored, but created.
    else if (op === "restore" && !item) operation = { op, id: id as number };
    else if (item && (op === "update" || op === "delete")) {
      const theirs = item as Item & Task;
      const mine = op === "update" ? task : null;
      const { send, contested } = merge(base, mine, theirs);
      let patch = send;
      let isDeletion = !mine;
      if (contested.length) {
        const resolution = await decide({
          id,
          op,
          base: pick(base, contested),
          mine: mine && pick(mine, contested),
          theirs,
        });
        isDeletion &&= resolution === "mine";
        patch = { ...patch, ...(resolution === "mine" ? mine : resolution) };
      }
      const target = { id: theirs.id, if_revision: item.revision };
      if (isDeletion) operation = { op: "delete", ...target };
      else if (members(patch).length) operation = { op: "update", ...target, task: patch as never };
      if (contested.length && operation) {
        // It is kept as it was decided, so that nobody is asked twice.
        sent = seqs.splice(0, 1);
        done.push(...seqs);
        decided.push({ seq: sent[0] as number, id, op: operation.op, at: now(), task: patch, base: pick(item) });
      }
    } else if (op === "update") {
      dropped.push({ id, op, task, problem: { status: 404, detail: "Task not found" } });
    }
    if (operation) batch.push({ id, operation, seqs: sent });
    else done.push(...seqs);
  }
  return { change: { done, log: decided, state: { batch: batch[0] && batch } }, dropped };
}

/**
 * Apply the results of a batch. The entries of the outbox that follow are changed in place.
 *
 * @returns The change, what was refused, and whether an operation has to be merged with a newer task and sent again.
 */
export function settle(
  batch: Sent[],
  results: Result[],
  log: Entry[],
  items: Map<Id, Item>,
  resolve: (id: Id) => Id,
): { change: Change; dropped: Dropped[]; isStale: boolean } {
  const put: Item[] = [];
  const drop: Id[] = [];
  const done: number[] = [];
  const dropped: Dropped[] = [];
  const answered = new Set<number | undefined>(batch.flatMap(({ seqs }) => seqs));
  const changed = new Set<Entry>();
  let isStale = false;
  batch.forEach((one, position) => {
    const { id, operation, seqs } = one;
    const { status, task, deleted, problem } = results[position] as Result;
    const isCreated = operation.op === "create";
    if (problem?.current) {
      isStale = true;
      put.push(itemOf(problem.current, items));
      return;
    }
    done.push(...seqs);
    if (deleted) drop.push(deleted.id);
    else if (task) put.push(itemOf(task, items, isCreated ? `${id}` : undefined));
    if (problem) {
      if (status === 404) drop.push(id);
      if (status !== 404 || operation.op !== "delete") dropped.push(refusal(one, problem));
    }
    if (!task) return;
    // What the user did meanwhile is about the server's task, and the server's form of the values.
    // After a lost response, a creation may have the values of others by now, which the user has not seen.
    const isChanged = isCreated && task.updated_at !== task.created_at;
    const sent: TaskPatch = "task" in operation && !isChanged ? operation.task : {};
    for (const entry of log) {
      if (answered.has(entry.seq) || (entry.id !== id && resolve(entry.id) !== task.id)) continue;
      entry.id = task.id;
      if (entry.base) entry.base = rebased(entry.base, sent, task);
      // What has no position yet is stored after this.
      if (entry.seq) changed.add(entry);
    }
  });
  return { change: { put, drop, done, log: [...changed], state: { batch: undefined } }, dropped, isStale };
}
