// Calls every tool with the official client of a generation, and prints what it was told, as one JSON object.
//
// Arguments: the generation (legacy or modern), the address of the tools, and a bearer token.
import { clientOf } from "./clients.mjs";

const [generation, url, token] = process.argv.slice(2);
const [client, transport] = clientOf(generation, url, { requestInit: { headers: { Authorization: `Bearer ${token}` } } });
await client.connect(transport());

/** Call a tool, and give its content, or the sentence about what went wrong. The client checks it against the schema. */
async function call(name, args = {}) {
  const result = await client.callTool({ name, arguments: args });
  return result.isError ? result.content[0].text : result.structuredContent;
}

const { tools } = await client.listTools();
const { task } = await call("add_task", { title: "Buy oat milk", tags: ["home"], due_date: "2026-03-01" });
const task_id = task.id;
const results = {
  add_task: { task },
  list_tasks: await call("list_tasks", { tag: ["home"], limit: 5 }),
  get_task: await call("get_task", { task_id }),
  summarize_tasks: await call("summarize_tasks", { tz: "Europe/Prague" }),
  update_task: await call("update_task", { task_id, members: { priority: "high" }, if_revision: task.revision }),
  complete_task: await call("complete_task", { task_id }),
  delete_task: await call("delete_task", { task_id }),
  fault: await call("get_task", { task_id }),
  restore_task: await call("restore_task", { task_id }),
};
const refusal = await client.callTool({ name: "get_task", arguments: {} }).catch((error) => error.code);
console.log(
  JSON.stringify({
    server: client.getServerVersion(),
    capabilities: client.getServerCapabilities(),
    instructions: client.getInstructions(),
    revision: client.getNegotiatedProtocolVersion?.() ?? null,
    tools: tools.map(({ name }) => name),
    results,
    refusal,
  }),
);
await client.close();
