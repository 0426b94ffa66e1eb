// @vitest-environment happy-dom

import { act, createElement } from "react";
import { createRoot } from "react-dom/client";
import { renderToString } from "react-dom/server";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { TasksProvider, useTasks } from "../src/react.js";
import { client, closeAll, FakeNetwork, FakeServer, until } from "./fake.js";

beforeEach(() => vi.stubGlobal("IS_REACT_ACT_ENVIRONMENT", true));

afterEach(async () => {
  await closeAll();
  vi.unstubAllGlobals();
});

function List() {
  const { items, status, add } = useTasks({ status: "pending", sort: ["-priority"] });
  const names = items.map(({ key, title }) => createElement("li", { key }, title));
  const button = createElement(
    "button",
    { type: "button", onClick: () => add({ title: "new", priority: "high" }) },
    "Add",
  );
  return createElement("div", null, button, createElement("ul", null, names), `${status.pending} pending`);
}

test("useTasks renders the list, and again after each change of it", async () => {
  const server = new FakeServer();
  server.create({ title: "old" });
  const tasks = client(new FakeNetwork(server));
  const root = document.body.appendChild(document.createElement("div"));
  const app = createRoot(root);
  await act(async () => app.render(createElement(TasksProvider, { tasks }, createElement(List))));
  await act(async () => until(() => tasks.status.online));
  expect(root.textContent).toBe("Addold0 pending");

  await act(async () => root.querySelector("button")?.click());
  expect(root.querySelectorAll("li")[0]?.textContent).toBe("new");
  const row = root.querySelector("li");
  await act(async () => until(() => tasks.status.pending === 0));
  // The row is the same although the task has another id now.
  expect(root.querySelector("li")).toBe(row);

  await act(async () => app.unmount());
});

test("useTasks on a server renders an empty list, and calls nobody", () => {
  const network = new FakeNetwork(new FakeServer());
  const html = renderToString(createElement(TasksProvider, { tasks: client(network) }, createElement(List)));

  expect(html).toContain("<ul></ul>");
  expect(network.calls).toEqual([]);
});

test("useTasks without tasks says what it needs", () => {
  expect(() => renderToString(createElement(List))).toThrow("TasksProvider");
});
