/** What a front-end sees of the client. The shapes of tasks are those of `openapi.json`. */

import type { components } from "./openapi.js";

type Schemas = components["schemas"];

/** A task as the server returns it. */
export type Task = Schemas["TaskOut"];
/** The members of a new task. */
export type NewTask = Schemas["TaskIn"];
/** The members to change; null clears one (RFC 7396). */
export type TaskPatch = Partial<Schemas["TaskPatch"]>;
/** An error of the server (RFC 9457). */
export type Problem = Partial<Schemas["RefusalOut"]> & { status: number; detail: string };
export type Operation = Schemas["BatchIn"]["operations"][number];
export type Result = Schemas["ResultOut"];
export type BatchResults = Schemas["BatchOut"];
export type ChangesPage = Schemas["ChangesOut"];

/** The id of a task: the server's, or until the server has answered, the key of its creation (a UUID). */
export type Id = number | string;

/** A task as the list shows it: with everything in it that the user did on this device. */
export interface Item extends Omit<Task, "id"> {
  id: Id;
  /** The same for as long as the task is on this device, also when the server gives it an id: the key of a list row. */
  key: string;
  /** Whether the server has yet to answer something that the user did with it. */
  pending: boolean;
}

/** The filters and the order of a list, by the names of the API. */
export interface Query {
  status?: "all" | "pending" | "completed" | "overdue";
  /** Any of these; `none` is a task without one. */
  priority?: Priority | Priority[];
  /** All of these, in any case. */
  tag?: string | string[];
  /** Each word is part of the title, the description or a tag, in any case and without regard to accents. */
  search?: string;
  /** At this date or later, as a date, which begins in the time zone of the device, or as a date-time. */
  due_after?: string;
  due_before?: string;
  /** The keys in turn; `-` reverses one. By default in the order of creation. */
  sort?: SortKey | SortKey[];
  limit?: number;
}

export type Priority = "low" | "medium" | "high" | "none";
type Sortable = "created_at" | "updated_at" | "title" | "due_date" | "priority" | "completed";
export type SortKey = Sortable | `-${Sortable}`;

/** How far the device and the server are in step. It is replaced, never changed. */
export interface Status {
  /** Whether the copy on this device has been read; before that, the list is empty. */
  ready: boolean;
  /** Whether the last attempt to reach the server succeeded. */
  online: boolean;
  /** How many edits the server has yet to answer. */
  pending: number;
  /** When the server was last in step, in milliseconds since 1970; null if never in this session. */
  syncedAt: number | null;
  /** Why the last attempt failed: the server's problem, or one with status 0 where there was no answer. */
  error: Problem | null;
}

/** Somebody else changed what the user changed. */
export interface Conflict {
  id: Id;
  op: "update" | "delete";
  /** The contested members, as the user saw them. */
  base: TaskPatch;
  /** The contested members, as the user wants them; null for a deletion. */
  mine: TaskPatch | null;
  /** The task as it is now. */
  theirs: Task;
}

/** What is sent instead of nothing: what the user wanted, or other values. */
export type Resolution = "mine" | TaskPatch | undefined | void;

/** An edit that the server refused, and that is no longer in the outbox. */
export interface Dropped {
  id: Id;
  op: Operation["op"];
  /** The members that it had. */
  task: TaskPatch | null;
  problem: Problem;
}

/** The copy and the server disagree after everything was read: a fault of either. The copy has been dropped. */
export interface Drift {
  local: { count: number; checksum: string };
  server: { count: number; checksum: string };
}

export interface Options {
  /** The address of the server, such as `https://api.example.com`. */
  url: string;
  /**
   * Returns a token of the signed-in user. It is called when there is none yet, when the last one has expired, and with
   * `true` when the server refused the last one.
   */
  token: (refused: boolean) => Promise<string | null | undefined>;
  /** Where the copy and the outbox are kept. `indexeddb`, the default, survives a reload; `memory` does not. */
  storage?: "indexeddb" | "memory" | Storage;
  /** The id of the user; by default the one that the token names, or offline the last one on this device. */
  user?: string;
  /** Decides a conflict. Theirs stays unless it returns something. In tabs that follow, what it returns is ignored. */
  onConflict?: (conflict: Conflict) => Resolution | Promise<Resolution>;
  /** Is told what the server refused. */
  onDropped?: (dropped: Dropped) => void;
  /** Is told that the copy was wrong. */
  onDrift?: (drift: Drift) => void;
  /** Calls the server; by default the global `fetch`. */
  fetch?: typeof fetch;
}

export interface Tasks {
  /** Creates a task at once, and returns its id until the server has one. That id stays good for all calls here. */
  add(task: NewTask): string;
  /** Changes members of a task at once. */
  update(id: Id, patch: TaskPatch): void;
  /** Deletes a task at once, and returns the function that brings it back. */
  remove(id: Id): () => void;
  /** Returns one task, if there is one. */
  get(id: Id): Item | undefined;
  /** Returns the tasks that match, the same array until something changes. */
  list(query?: Query): readonly Item[];
  readonly status: Status;
  /** Calls a function after each change of the list or of the status, until the returned function is called. */
  subscribe(listener: () => void): () => void;
  /** Pushes and pulls now. Resolves when that is over: whether the server and the device are in step. */
  sync(): Promise<boolean>;
  /** Forgets everything on this device, in all tabs, also what was not sent, and closes: the user signs out. */
  clear(): Promise<void>;
  /** Stops, and keeps what is on the device. */
  close(): Promise<void>;
}

/** An edit of the user, as the outbox keeps it. Nothing is folded before it is sent. */
export interface Entry {
  /** Its position in the outbox, given by the storage. */
  seq?: number;
  op: Operation["op"];
  id: Id;
  at: string;
  /** Of a creation its members, of an update the changed ones. */
  task?: TaskPatch;
  /** Of an update or a deletion, the members that it is about, as the user saw them. */
  base?: TaskPatch;
  /** Of a restore, what to show until the server has answered. */
  item?: Item;
}

/** An operation of a batch, and the entries that it stands for. */
export interface Sent {
  id: Id;
  operation: Operation;
  seqs: number[];
}

/** A batch is stored before it is sent, and sent as it was until its results have come. */
export interface State {
  cursor?: string | undefined;
  batch?: Sent[] | undefined;
}

export interface Snapshot extends State {
  items: Item[];
  log: Entry[];
}

/** What changes at once, or not at all. */
export interface Change {
  /** Drop the copy first. */
  replace?: boolean;
  put?: Item[];
  drop?: Id[];
  /** New entries, which get their `seq`, and changed ones, which have it. */
  log?: Entry[];
  done?: number[];
  /** Replaces the state that is stored. */
  state?: State;
}

/** Copy, cursor and outbox on the device. */
export interface Storage {
  load(): Promise<Snapshot>;
  /** Applies a change in one transaction. */
  write(change: Change): Promise<void>;
  clear(): Promise<void>;
  close(): void;
}
