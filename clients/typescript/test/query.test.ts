import { describe, expect, test } from "vitest";
import { select } from "../src/query.js";
import type { Item, Query } from "../src/types.js";

const AT = "2026-03-01T12:00:00.000Z";
const item = (id: number | string, members: Partial<Item>): Item => ({
  id,
  key: `${id}`,
  user_id: "ada",
  title: "",
  description: null,
  completed: false,
  priority: null,
  due_date: null,
  tags: [],
  created_at: AT,
  updated_at: AT,
  completed_at: null,
  revision: 1,
  pending: false,
  ...members,
});

const items = [
  item("new", { title: "Zebra" }),
  item(3, { title: "Xanthi by train", priority: "low", tags: ["Travel"], due_date: "2999-03-05" }),
  item(1, { title: "Äpfel", priority: "high", completed: true, due_date: "2020-01-01" }),
  item(2, {
    title: "banana",
    description: "A crème",
    priority: "high",
    tags: ["Food", "Home"],
    due_date: "2020-01-01",
  }),
];

const ids = (query: Query) => select(items, query).map(({ id }) => id);

describe("select", () => {
  test.each<[string, Query, (number | string)[]]>([
    ["everything in the order of creation, new tasks last", {}, [1, 2, 3, "new"]],
    ["open tasks", { status: "pending" }, [2, 3, "new"]],
    ["completed tasks", { status: "completed" }, [1]],
    ["overdue tasks, which are open", { status: "overdue" }, [2]],
    ["a priority", { priority: "high" }, [1, 2]],
    ["several priorities", { priority: ["low", "none"] }, [3, "new"]],
    ["a tag in any case", { tag: "food" }, [2]],
    ["all of several tags", { tag: ["food", "travel"] }, []],
    ["words without case and accents", { search: "CREME  banana" }, [2]],
    ["a word in a tag", { search: "trav" }, [3]],
    ["from a date", { due_after: "2999-03-05" }, [3]],
    ["before a date", { due_before: "2999-03-05" }, [1, 2]],
    ["before a date-time", { due_before: "2999-03-07T00:00:00Z" }, [1, 2, 3]],
    ["a limit", { limit: 2 }, [1, 2]],
  ])("finds %s", (_, query, expected) => {
    expect(ids(query)).toEqual(expected);
  });

  test.each<[string, Query["sort"] & {}, (number | string)[]]>([
    ["title, as a search compares", "title", [1, 2, 3, "new"]],
    ["title, reversed", "-title", ["new", 3, 2, 1]],
    ["priority, none last", "priority", [3, 1, 2, "new"]],
    ["priority, reversed, none last too", "-priority", [1, 2, 3, "new"]],
    ["due date, none last", "-due_date", [3, 1, 2, "new"]],
    ["several keys", ["completed", "-priority"], [2, 3, "new", 1]],
  ])("sorts by %s", (_, sort, expected) => {
    expect(ids({ sort })).toEqual(expected);
  });
});
