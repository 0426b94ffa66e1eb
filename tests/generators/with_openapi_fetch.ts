// The calls of a front-end, with openapi-fetch and the types that openapi-typescript makes from openapi.json.
import assert from "node:assert/strict";
import createClient from "openapi-fetch";
import type { components, paths } from "./fetch/schema";

const path = { user_id: "me" };
const client = createClient<paths>({
  baseUrl: process.env.API_URL ?? "",
  headers: { Authorization: `Bearer ${process.env.API_TOKEN}` },
});

async function main(): Promise<void> {
  const body: components["schemas"]["TaskIn"] = {
    title: "Buy oat milk",
    priority: "high",
    due_date: "2026-03-01",
    tags: ["shopping", "home"],
  };
  const created = await client.POST("/api/{user_id}/tasks", { params: { path }, body });
  assert(created.data);
  const task: components["schemas"]["TaskOut"] = created.data;
  const one = { ...path, task_id: task.id };

  const read = await client.GET("/api/{user_id}/tasks/{task_id}", { params: { path: one } });
  assert.deepEqual(read.data, task);
  const tag = read.response.headers.get("ETag") ?? "";
  const unchanged = await client.GET("/api/{user_id}/tasks/{task_id}", {
    params: { path: one, header: { "If-None-Match": tag } },
  });
  assert.equal(unchanged.response.status, 304);

  const changed = await client.PATCH("/api/{user_id}/tasks/{task_id}", {
    params: { path: one, header: { "If-Match": tag } },
    body: { priority: null, completed: true },
  });
  assert.equal(changed.data?.priority, null);
  const stale = await client.PATCH("/api/{user_id}/tasks/{task_id}", {
    params: { path: one, header: { "If-Match": tag } },
    body: { title: "Lost update" },
  });
  assert.equal(stale.response.status, 412);
  assert.equal(stale.error?.current?.title, "Buy oat milk");

  const completed = { params: { path: one, query: { completed: true } } };
  for (let time = 0; time < 2; time += 1) {
    assert.equal((await client.PATCH("/api/{user_id}/tasks/{task_id}/complete", completed)).data?.completed, true);
  }

  const listed = await client.GET("/api/{user_id}/tasks", {
    params: {
      path,
      query: { status: "completed", priority: ["none", "low"], tag: ["shopping", "home"], sort: ["-due_date", "title"] },
    },
  });
  assert.deepEqual(
    listed.data?.map(({ id, due_date }) => [id, due_date]),
    [[task.id, "2026-03-01"]],
  );
  const none = await client.GET("/api/{user_id}/tasks", { params: { path, query: { completed: false, limit: 1 } } });
  assert.deepEqual(none.data, []);

  const changes = await client.GET("/api/{user_id}/tasks/changes", { params: { path } });
  assert(changes.data);
  assert.deepEqual([changes.data.tasks.length, changes.data.has_more, changes.data.count], [1, false, 1]);
  assert.equal((await client.DELETE("/api/{user_id}/tasks/{task_id}", { params: { path: one } })).response.status, 204);
  const since = await client.GET("/api/{user_id}/tasks/changes", {
    params: { path, query: { since: changes.data.next } },
  });
  assert.deepEqual(since.data?.deleted.map(({ id }) => id), [task.id]);

  const exported = await client.GET("/api/{user_id}/export", { params: { path }, parseAs: "text" });
  const lines: string | undefined = exported.data;
  assert.equal(lines?.trim().split("\n").length, 2);
}

void main();
