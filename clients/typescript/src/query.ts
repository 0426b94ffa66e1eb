/** Filters and orders of the API, on the device. */

import type { Item, Query } from "./types.js";

const RANKS: Record<string, number> = { low: 1, medium: 2, high: 3 };

/** Return a text without case, accents and invisible characters. */
function folded(text: string): string {
  return text
    .normalize("NFKD")
    .replace(/[\p{M}\p{Cf}]/gu, "")
    .toLowerCase();
}

/** Return the instant at which a task is due: a date when it ends on this device, and as a bound when it begins. */
function due(date: string | null | undefined, isBound?: boolean): number {
  const at = new Date(`${date}${date && date.length > 10 ? "" : "T00:00"}`);
  return date && date.length > 10 ? +at : at.setDate(at.getDate() + (isBound ? 0 : 1));
}

type Rank = string | number | boolean;

/** Return what an item is sorted by; NaN comes last in both directions. */
function rank(item: Item, key: string): Rank {
  if (key === "title") return folded(item.title);
  if (key === "priority") return RANKS[item.priority ?? ""] ?? Number.NaN;
  if (key === "due_date") return due(item.due_date);
  // A new task has no number yet.
  return key ? item[key as "completed" | "created_at" | "updated_at"] : Number(item.id);
}

/** Return the items that match, in order. */
export function select(items: Iterable<Item>, query: Query): Item[] {
  const { status = "all" } = query;
  const words = folded(query.search ?? "")
    .split(/\s+/)
    .filter(Boolean);
  const tags = [query.tag ?? []].flat().map(folded);
  const priorities = [query.priority ?? []].flat();
  const found = [...items].filter(
    (item) =>
      (status === "all" || (status === "completed") === item.completed) &&
      (status !== "overdue" || due(item.due_date) < Date.now()) &&
      (!priorities.length || priorities.includes(item.priority ?? "none")) &&
      tags.every((tag) => item.tags.some((own) => folded(own) === tag)) &&
      words.every((word) => folded([item.title, item.description, ...item.tags].join("\n")).includes(word)) &&
      (!query.due_after || due(item.due_date) >= due(query.due_after, true)) &&
      (!query.due_before || due(item.due_date) < due(query.due_before, true)),
  );
  const keys = [query.sort ?? [], ""].flat();
  const ranked = found.map((item) => ({ item, ranks: keys.map((key) => rank(item, key.replace("-", ""))) }));
  const order = (one: Rank, other: Rank, sign: number) =>
    +Number.isNaN(one) - +Number.isNaN(other) || (+(one > other) - +(one < other)) * sign;
  ranked.sort((a, b) =>
    keys.reduce(
      (result, key, position) =>
        result || order(a.ranks[position] ?? 0, b.ranks[position] ?? 0, key[0] === "-" ? -1 : 1),
      0,
    ),
  );
  return ranked.map(({ item }) => item).slice(0, query.limit);
}
