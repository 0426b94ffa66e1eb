/** Where copy, cursor and outbox are kept. A change is one transaction: all of it is stored, or nothing. */

import { type DBSchema, openDB } from "idb";
import type { Entry, Id, Item, Snapshot, State, Storage } from "./types.js";

interface Schema extends DBSchema {
  items: { key: Id; value: Item };
  log: { key: number; value: Entry };
  state: { key: number; value: State };
}

/** Open the database of this name. */
export async function openIndexedDB(name: string): Promise<Storage> {
  const db = await openDB<Schema>(name, 1, {
    upgrade(db) {
      db.createObjectStore("items", { keyPath: "id" });
      db.createObjectStore("log", { keyPath: "seq", autoIncrement: true });
      db.createObjectStore("state");
    },
    // Another version of the page wants to change the stores.
    blocking: () => db.close(),
  });
  const begin = () => {
    const transaction = db.transaction(["items", "log", "state"], "readwrite");
    return {
      items: transaction.objectStore("items"),
      log: transaction.objectStore("log"),
      state: transaction.objectStore("state"),
      done: transaction.done,
    };
  };
  return {
    async load() {
      const stores = begin();
      const [items, log, state] = await Promise.all([stores.items.getAll(), stores.log.getAll(), stores.state.get(0)]);
      return { ...state, items, log };
    },
    async write(change) {
      const { items, log, state, done } = begin();
      // The requests of a transaction are run in this order, and none of them waits for another.
      const requests = [
        change.replace && items.clear(),
        ...(change.drop ?? []).map((id) => items.delete(id)),
        ...(change.put ?? []).map((item) => items.put(item)),
        ...(change.done ?? []).map((seq) => log.delete(seq)),
        change.state && state.put(change.state, 0),
        done,
      ];
      const [seqs] = await Promise.all([Promise.all((change.log ?? []).map((entry) => log.put(entry))), ...requests]);
      change.log?.forEach((entry, position) => {
        entry.seq = seqs[position] as number;
      });
    },
    async clear() {
      const { items, log, state, done } = begin();
      await Promise.all([items.clear(), log.clear(), state.clear(), done]);
    },
    close: () => db.close(),
  };
}

/** Keep nothing: what the client has in memory is all there is. */
export function memory(): Storage {
  let last = 0;
  return {
    load: async (): Promise<Snapshot> => ({ items: [], log: [] }),
    async write(change) {
      for (const entry of change.log ?? []) entry.seq ??= ++last;
    },
    clear: async () => {},
    close: () => {},
  };
}
