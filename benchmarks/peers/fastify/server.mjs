// Fastify and pg as in their documentation, in a cluster with one process for each of two processors.

import cluster from "node:cluster";
import Fastify from "fastify";
import jwt from "@fastify/jwt";
import pg from "pg";

const WORKERS = 2;
const COLUMNS =
  "id, user_id, title, description, completed, priority, due_date, tags, created_at, updated_at, completed_at";
const CHANGEABLE = ["title", "description", "completed", "priority", "due_date", "tags"];

const dateTime = { type: ["string", "null"], format: "date-time" };
const text = { type: ["string", "null"] };
const title = { type: "string", minLength: 1, maxLength: 200 };
const tags = { type: "array", items: { type: "string" } };
const rules = {
  title,
  description: { ...text, maxLength: 1000 },
  completed: { type: "boolean" },
  priority: text,
  due_date: dateTime,
  tags,
};
const task = {
  type: "object",
  properties: {
    id: { type: "integer" },
    user_id: { type: "string" },
    ...rules,
    created_at: dateTime,
    updated_at: dateTime,
    completed_at: dateTime,
  },
};
const params = {
  type: "object",
  properties: { user_id: { type: "string" }, task_id: { type: "integer" } },
};
const bodyOf = (required) => ({ type: "object", properties: rules, required, minProperties: 1 });

function build() {
  const app = Fastify();
  const pool = new pg.Pool({ connectionString: process.env.DATABASE_URL });
  app.register(jwt, { secret: process.env.BETTER_AUTH_SECRET, verify: { algorithms: ["HS256"] } });
  app.addHook("onRequest", async (request, reply) => {
    try {
      await request.jwtVerify();
    } catch {
      return reply.code(401).send({ detail: "Invalid token" });
    }
    if (request.user.sub !== request.params.user_id) return reply.code(403).send({ detail: "Not your tasks" });
  });
  const one = (reply, rows) => rows[0] ?? reply.code(404).send({ detail: "Task not found" });

  const path = "/api/:user_id/tasks";
  const listed = { schema: { params, response: { 200: { type: "array", items: task } } } };
  app.get(path, listed, async (request) => {
    const { rows } = await pool.query(`SELECT ${COLUMNS} FROM peer_tasks WHERE user_id = $1 ORDER BY id`, [
      request.params.user_id,
    ]);
    return rows;
  });
  app.get(`${path}/:task_id`, { schema: { params, response: { 200: task } } }, async (request, reply) => {
    const { user_id, task_id } = request.params;
    const { rows } = await pool.query(`SELECT ${COLUMNS} FROM peer_tasks WHERE id = $1 AND user_id = $2`, [
      task_id,
      user_id,
    ]);
    return one(reply, rows);
  });
  const created = { schema: { params, body: bodyOf(["title"]), response: { 201: task } } };
  app.post(path, created, async (request, reply) => {
    const body = request.body;
    const { rows } = await pool.query(
      `INSERT INTO peer_tasks
         (user_id, title, description, completed, priority, due_date, tags, created_at, updated_at, completed_at)
       VALUES ($1, $2, $3, $4::boolean, $5, $6, $7, now(), now(), CASE WHEN $4::boolean THEN now() END)
       RETURNING ${COLUMNS}`,
      [
        request.params.user_id,
        body.title,
        body.description,
        body.completed ?? false,
        body.priority,
        body.due_date,
        body.tags ?? [],
      ],
    );
    return reply.code(201).send(rows[0]);
  });
  const patched = { schema: { params, body: bodyOf([]), response: { 200: task } } };
  app.patch(`${path}/:task_id`, patched, async (request, reply) => {
    const { user_id, task_id } = request.params;
    const names = CHANGEABLE.filter((name) => name in request.body);
    const sets = names.map((name, place) => `${name} = $${place + 3}`);
    if (names.includes("completed")) {
      sets.push(`completed_at = CASE WHEN $${names.indexOf("completed") + 3} THEN coalesce(completed_at, now()) END`);
    }
    const { rows } = await pool.query(
      `UPDATE peer_tasks SET ${sets.join(", ")}, updated_at = now()
       WHERE id = $1 AND user_id = $2 RETURNING ${COLUMNS}`,
      [task_id, user_id, ...names.map((name) => request.body[name])],
    );
    return one(reply, rows);
  });
  app.delete(`${path}/:task_id`, { schema: { params } }, async (request, reply) => {
    const { user_id, task_id } = request.params;
    const { rowCount } = await pool.query("DELETE FROM peer_tasks WHERE id = $1 AND user_id = $2", [task_id, user_id]);
    return reply.code(rowCount ? 204 : 404).send();
  });
  return app;
}

if (cluster.isPrimary) {
  for (let number = 0; number < WORKERS; number += 1) cluster.fork();
} else {
  await build().listen({ port: Number(process.env.PORT), host: "127.0.0.1" });
}
