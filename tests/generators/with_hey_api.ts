// The calls of a front-end, with the client that @hey-api/openapi-ts makes from openapi.json.
import assert from "node:assert/strict";
import {
  completeTask,
  createTask,
  deleteTask,
  exportUser,
  getRoot,
  getTask,
  listChanges,
  listTasks,
  updateTask,
} from "./hey";
import { client } from "./hey/client.gen";
import type { TaskIn, TaskOut } from "./hey";

const path = { user_id: "me" };
client.setConfig({ baseUrl: process.env.API_URL ?? "", auth: () => process.env.API_TOKEN });

async function main(): Promise<void> {
  assert.equal((await getRoot()).data?.name, "todo");
  const body: TaskIn = {
    title: "Buy oat milk",
    priority: "high",
    due_date: "2026-03-01",
    tags: ["shopping", "home"],
  };
  const created = await createTask({ path, body });
  assert(created.data);
  const task: TaskOut = created.data;
  const one = { ...path, task_id: task.id };

  const read = await getTask({ path: one });
  assert.deepEqual(read.data, task);
  const tag = read.response?.headers.get("ETag") ?? "";
  const unchanged = await getTask({ path: one, headers: { "If-None-Match": tag } });
  assert.equal(unchanged.response?.status, 304);

  const headers = { "If-Match": tag };
  const changed = await updateTask({ path: one, headers, body: { priority: null, completed: true } });
  assert.equal(changed.data?.priority, null);
  const stale = await updateTask({ path: one, headers, body: { title: "Lost update" } });
  assert.equal(stale.response?.status, 412);
  assert(stale.error && "current" in stale.error);
  assert.equal(stale.error.current?.title, "Buy oat milk");

  for (let time = 0; time < 2; time += 1) {
    assert.equal((await completeTask({ path: one, query: { completed: true } })).data?.completed, true);
  }

  const listed = await listTasks({
    path,
    query: { status: "completed", priority: ["none", "low"], tag: ["shopping", "home"], sort: ["-due_date", "title"] },
  });
  assert.deepEqual(
    listed.data?.map(({ id, due_date }) => [id, due_date]),
    [[task.id, "2026-03-01"]],
  );
  assert.deepEqual((await listTasks({ path, query: { completed: false, limit: 1 } })).data, []);

  const changes = await listChanges({ path });
  assert(changes.data);
  assert.deepEqual([changes.data.tasks.length, changes.data.has_more, changes.data.count], [1, false, 1]);
  assert.equal((await deleteTask({ path: one })).response?.status, 204);
  const since = await listChanges({ path, query: { since: changes.data.next } });
  assert.deepEqual(since.data?.deleted.map(({ id }) => id), [task.id]);

  const exported = await exportUser({ path, parseAs: "text" });
  const lines: string | undefined = exported.data;
  assert.equal(lines?.trim().split("\n").length, 2);
}

void main();
