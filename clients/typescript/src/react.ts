"use client";

/** The list in React: it renders again when something in it has changed. */

import { createContext, createElement, type ReactNode, useContext, useSyncExternalStore } from "react";
import type { Item, Query, Status, Tasks } from "./types.js";

const TasksContext = createContext<Tasks | null>(null);

/** Give the components below it these tasks. */
export function TasksProvider({ tasks, children }: { tasks: Tasks; children?: ReactNode }) {
  return createElement(TasksContext.Provider, { value: tasks }, children);
}

const EMPTY: readonly Item[] = [];
const WAITING: Status = { ready: false, online: false, pending: 0, syncedAt: null, error: null };

/** What a component shows, and what it does with it. */
export type UseTasks = { items: readonly Item[]; status: Status } & Pick<Tasks, "add" | "update" | "remove">;

/**
 * Return the tasks that match a query, how far they are in step with the server, and the functions that change them.
 *
 * @param query The filters and the order; by default all tasks in the order of their creation.
 * @param given The tasks; by default those of the nearest `TasksProvider`.
 */
export function useTasks(query: Query = {}, given?: Tasks): UseTasks {
  const provided = useContext(TasksContext);
  const tasks = given ?? provided;
  if (!tasks) throw new Error("useTasks needs a TasksProvider above it, or the tasks as its second argument.");
  const items = useSyncExternalStore(
    tasks.subscribe,
    () => tasks.list(query),
    () => EMPTY,
  );
  const status = useSyncExternalStore(
    tasks.subscribe,
    () => tasks.status,
    () => WAITING,
  );
  const { add, update, remove } = tasks;
  return { items, status, add, update, remove };
}
