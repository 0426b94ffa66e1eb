/** Two devices of one user, each with a copy and a network of its own, over the client in todo-sync.js. */

import { createTasks } from "./todo-sync.js";

const find = (selector, root = document) => root.querySelector(selector);
const page = find("#page");
const url = location.origin + page.dataset.root;
const quiet = matchMedia("(prefers-reduced-motion: reduce)").matches;
const wait = (ms) => new Promise((done) => setTimeout(done, ms));
const SORT = ["completed", "due_date", "-priority"];
const MARKS = { high: "High", medium: "Medium", low: "Low" };

function copyOf(template) {
  return find(`#${template}-template`).content.cloneNode(true);
}

/** Return a date of a task as people say it, and how near it is. */
function spoken(due) {
  const day = due.length > 10 ? new Date(due) : new Date(`${due}T00:00`);
  const today = new Date().setHours(0, 0, 0, 0);
  const days = Math.round((new Date(day).setHours(0, 0, 0, 0) - today) / 86_400_000);
  const names = { "-1": "Yesterday", 0: "Today", 1: "Tomorrow" };
  const far = { day: "numeric", month: "short", ...(day.getFullYear() !== new Date().getFullYear() && { year: "numeric" }) };
  const name = names[days] ?? day.toLocaleDateString("en", days > 1 && days < 7 ? { weekday: "long" } : far);
  const time = due.length > 10 ? ` ${day.toLocaleTimeString("en", { hour: "numeric", minute: "2-digit" })}` : "";
  return { text: name + time, nearness: days < 0 ? "late" : days === 0 ? "today" : "" };
}

/** Take tags, a priority and a date out of what was typed. */
function parse(text) {
  const task = { tags: [] };
  task.title = text
    .replace(/(^|\s)#(\S+)/g, (_, space, tag) => (task.tags.push(tag), space))
    .replace(/(^|\s)!(low|medium|high)\b/i, (_, space, level) => ((task.priority = level.toLowerCase()), space))
    .replace(/(^|\s)(\d{4}-\d\d-\d\d)\b/, (_, space, date) => ((task.due_date = date), space))
    .replace(/\s+/g, " ")
    .trim();
  return task;
}

class Device {
  constructor(root, token) {
    this.root = root;
    this.name = root.dataset.name;
    this.rows = new Map();
    this.own = new Set();
    this.query = { status: "all", search: "" };
    this.cut = new AbortController();
    this.tasks = createTasks({
      url,
      token: async () => token,
      storage: "memory",
      fetch: (input, init) => this.fetch(input, init),
      onConflict: (conflict) => this.showConflict(conflict),
      onDropped: ({ problem }) => this.toast(problem.detail),
    });
    this.build();
    this.tasks.subscribe(() => this.render());
  }

  /** Call the server, if this device is online. */
  async fetch(input, init) {
    if (!this.isOnline) throw new TypeError("This device is offline.");
    const response = await fetch(input, { ...init, signal: AbortSignal.any([init.signal, this.cut.signal]) });
    pulse(`#${this.root.id}-line`);
    return response;
  }

  get isOnline() {
    return this.switch.ariaChecked === "true";
  }

  set isOnline(value) {
    this.switch.ariaChecked = value;
    this.switch.lastChild.textContent = value ? "Online" : "Offline";
    find(`#${this.root.id}-line`).classList.toggle("cut", !value);
    if (!value) {
      this.cut.abort();
      this.cut = new AbortController();
    }
    this.tasks.sync();
    this.render();
  }

  build() {
    const { root, name } = this;
    root.append(copyOf("device"));
    find("h2", root).id = `${root.id}-name`;
    find("h2", root).textContent = name;
    this.list = find(".tasks", root);
    this.list.ariaLabel = `Tasks on the ${name.toLowerCase()}`;
    this.switch = find(".switch", root);
    this.switch.addEventListener("click", () => (this.isOnline = !this.isOnline));
    const add = find(".add", root);
    this.input = add.elements.title;
    this.input.ariaLabel = `New task on the ${name.toLowerCase()}`;
    add.addEventListener("submit", (event) => {
      event.preventDefault();
      const task = parse(this.input.value);
      if (!task.title) return;
      this.add(task);
      this.input.value = "";
    });
    this.search = find("[type=search]", root);
    this.search.ariaLabel = `Search on the ${name.toLowerCase()}`;
    this.search.addEventListener("input", () => this.filter({ search: this.search.value }));
    find("[role=group]", root).ariaLabel = `Filter on the ${name.toLowerCase()}`;
    for (const button of root.querySelectorAll("[data-status]")) {
      button.addEventListener("click", () => this.filter({ status: button.dataset.status }));
    }
    root.addEventListener("keydown", (event) => this.onKey(event));
  }

  filter(change) {
    Object.assign(this.query, change);
    for (const button of this.root.querySelectorAll("[data-status]")) {
      button.ariaPressed = button.dataset.status === this.query.status;
    }
    this.search.value = this.query.search;
    this.render();
  }

  add(task) {
    this.own.add(this.tasks.add(task));
    this.render();
  }

  update(item, patch) {
    this.own.add(item.key);
    this.tasks.update(item.id, patch);
  }

  remove(item) {
    const undo = this.tasks.remove(item.id);
    this.undo = () => {
      this.own.add(item.key);
      undo();
      this.undo = undefined;
      this.toasts?.remove();
    };
    this.toasts = this.toast(`Deleted “${item.title}”.`, "Undo", () => this.undo?.());
  }

  render() {
    const { tasks, rows, list } = this;
    const { ready, online, pending, error } = tasks.status;
    const counted = `${pending} ${pending === 1 ? "change" : "changes"}`;
    let state = "In step";
    if (!this.isOnline) state = pending ? `${counted} waiting` : "Offline";
    else if (error?.status === 401) state = "The token is not accepted";
    else if (error) state = "Trying to reach the server";
    else if (!ready || !online) state = "Connecting";
    else if (pending) state = "Sending";
    const shown = find(".state", this.root);
    if (shown.textContent !== state) shown.textContent = state;
    this.root.dataset.state = !this.isOnline ? "offline" : error ? "error" : pending || !online ? "busy" : "in-step";
    if (error?.status === 401) askForToken();

    const items = tasks.list({ ...this.query, sort: SORT });
    const kept = new Set(items.map(({ key }) => key));
    for (const [key, row] of rows) {
      if (kept.has(key)) continue;
      row.element.remove();
      rows.delete(key);
    }
    items.forEach((item, position) => {
      const row = rows.get(item.key) ?? this.newRow(item.key);
      if (row.item !== item && !row.isEdited) this.fill(row, item);
      row.item = item;
      const there = list.children[position];
      if (there !== row.element) {
        const focused = document.activeElement;
        list.insertBefore(row.element, there ?? null);
        if (row.element.contains(focused)) focused.focus();
      }
    });
    this.wasShown ||= online;
    const empty = find(".empty", this.root);
    empty.hidden = items.length > 0;
    empty.textContent = this.query.search ? "Nothing matches." : ready ? "Nothing here. Enjoy it." : "Reading the list…";
    const newest = Math.max(0, ...tasks.list().map(({ revision }) => revision));
    if (newest && online) find("#revision").textContent = `revision ${Math.max(newest, latest)}`;
    latest = Math.max(newest, latest);
  }

  newRow(key) {
    const [element] = copyOf("task").children;
    const row = { key, element, item: undefined };
    const [box, , , remove] = element.children;
    box.addEventListener("change", () => this.update(row.item, { completed: box.checked }));
    find(".title", element).addEventListener("click", () => this.edit(row));
    remove.addEventListener("click", () => this.removeRow(row));
    element.row = row;
    this.rows.set(key, row);
    return row;
  }

  removeRow(row) {
    const next = row.element.nextElementSibling ?? row.element.previousElementSibling;
    this.remove(row.item);
    (next ? find("input", next) : this.input).focus();
  }

  fill(row, item) {
    const { element, item: before } = row;
    const [box, text, waiting, remove] = element.children;
    box.checked = item.completed;
    box.ariaLabel = `Complete “${item.title}”`;
    remove.ariaLabel = `Delete “${item.title}”`;
    element.classList.toggle("done", item.completed);
    element.dataset.priority = item.priority ?? "";
    find(".title", text).textContent = item.title;
    find(".title", text).ariaLabel = `Edit “${item.title}”`;
    find(".description", text).textContent = item.description ?? "";
    waiting.classList.toggle("shown", item.pending);
    const chips = [];
    if (item.due_date) {
      const { text: due, nearness } = spoken(item.due_date);
      const isLate = nearness === "late" && !item.completed;
      chips.push(chip("span", due + (isLate ? ", late" : ""), item.completed ? "" : nearness));
    }
    if (item.priority) chips.push(chip("span", MARKS[item.priority], `priority ${item.priority}`));
    for (const tag of item.tags) {
      const button = chip("button", `#${tag}`, "tag");
      button.type = "button";
      button.addEventListener("click", () => this.filter({ search: this.query.search === tag ? "" : tag }));
      chips.push(button);
    }
    find(".chips", text).replaceChildren(...chips);
    // What the other device did is shown; what this one did is known.
    if (item.pending) this.own.add(item.key);
    else if (this.own.delete(item.key)) return;
    else if (before ? before.revision !== item.revision : this.wasShown) flash(element);
  }

  edit(row) {
    if (row.isEdited) return;
    const { element, item } = row;
    row.isEdited = true;
    const [form] = copyOf("editor").children;
    const fields = form.elements;
    const close = () => {
      row.isEdited = false;
      form.remove();
      element.classList.remove("edited");
      if (this.rows.has(row.key)) this.fill(row, row.item);
      find(".title", element).focus();
    };
    fields.title.value = item.title;
    fields.description.value = item.description ?? "";
    fields.due_date.value = item.due_date?.slice(0, 10) ?? "";
    fields.priority.value = item.priority ?? "";
    fields.tags.value = item.tags.join(", ");
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      const tags = fields.tags.value.split(",").map((tag) => tag.trim()).filter(Boolean);
      const wanted = {
        title: fields.title.value.trim(),
        description: fields.description.value || null,
        priority: fields.priority.value || null,
        tags,
      };
      if (fields.due_date.value !== (item.due_date?.slice(0, 10) ?? "")) wanted.due_date = fields.due_date.value || null;
      // What was not touched here may have changed elsewhere.
      const patch = Object.entries(wanted).filter(([name, value]) => `${value ?? ""}` !== `${item[name] ?? ""}`);
      close();
      if (wanted.title && patch.length) this.update(item, Object.fromEntries(patch));
    });
    find(".cancel", form).addEventListener("click", close);
    form.addEventListener("keydown", (event) => event.key === "Escape" && close());
    element.classList.add("edited");
    element.append(form);
    form.scrollIntoView({ block: "nearest" });
    fields.title.select();
  }

  /** Keep what the other device did, and offer what this one wanted. */
  showConflict({ id, op, mine, theirs }) {
    if (op === "delete") {
      this.toast(`“${theirs.title}” has changed, so it was not deleted.`, "Delete it", () => this.tasks.remove(id)(), "conflict");
      return;
    }
    const [[name, value]] = Object.entries(mine);
    const say = (it) => (Array.isArray(it) ? it.join(", ") || "none" : typeof it === "boolean" ? (it ? "done" : "open") : it ?? "none");
    const text = `Both devices changed the ${name.replace("_", " ")}. Kept “${say(theirs[name])}”, dropped “${say(value)}”.`;
    this.toast(text, "Use mine", () => this.tasks.update(id, mine), "conflict");
  }

  toast(text, action, act, kind = "") {
    const toast = document.createElement("div");
    toast.className = `toast ${kind}`;
    toast.append(Object.assign(document.createElement("p"), { textContent: text }));
    const close = () => toast.remove();
    const button = Object.assign(document.createElement("button"), { type: "button", textContent: action ?? "Close" });
    button.addEventListener("click", () => (act?.(), close()));
    toast.append(button);
    find(".toasts", this.root).replaceChildren(toast);
    setTimeout(close, kind ? 20_000 : 8_000);
    return toast;
  }

  onKey(event) {
    const isTyping = event.target.matches("input:not([type=checkbox]), textarea, select");
    const row = event.target.closest?.("li")?.row;
    if (event.key === "Escape" && event.target === this.search) this.filter({ search: "" });
    if (isTyping || event.ctrlKey || event.metaKey || event.altKey) return;
    const step = { ArrowDown: "nextElementSibling", ArrowUp: "previousElementSibling" }[event.key];
    if (row && step) find("input", row.element[step] ?? row.element).focus();
    else if (row && event.key === "e") this.edit(row);
    else if (row && (event.key === "Delete" || event.key === "Backspace")) this.removeRow(row);
    else return;
    event.preventDefault();
  }
}

function chip(kind, text, name) {
  return Object.assign(document.createElement(kind), { className: `chip ${name}`, textContent: text });
}

function flash(element) {
  element.classList.remove("changed");
  requestAnimationFrame(() => element.classList.add("changed"));
}

function pulse(selector) {
  if (quiet) return;
  const line = find(selector);
  line.classList.remove("pulse");
  requestAnimationFrame(() => line.classList.add("pulse"));
}

let latest = 0;
let devices = [];
let active;

function show(id) {
  find("#devices").dataset.shown = id;
  for (const button of document.querySelectorAll("[data-show]")) button.ariaPressed = button.dataset.show === id;
}

/** Show sync, a conflict and an undo, each where it happens. */
async function tour() {
  const [phone, laptop] = devices;
  const caption = find("#caption");
  const say = async (text, ms = 1_500) => {
    caption.hidden = false;
    caption.textContent = text;
    await wait(ms);
  };
  const named = (device, title) => device.tasks.list().find((item) => item.title === title);
  find("#tour").disabled = true;
  for (const device of devices) device.filter({ search: "", status: "all" });
  for (const device of devices) device.isOnline = true;
  // An earlier tour has left its task.
  for (const { id, title } of phone.tasks.list({ tag: ["friends", "tickets"] })) {
    if (title === "Hike on Saturday") phone.tasks.remove(id);
  }
  const today = new Date().toLocaleDateString("sv");
  phone.add({ title: "Plan the weekend", priority: "high", due_date: today, tags: ["friends"] });
  await say("The phone adds a task. The laptop has it at once.");
  for (const device of devices) device.isOnline = false;
  await say("Both go offline …", 900);
  const [here, there] = devices.map((device) => named(device, "Plan the weekend"));
  if (here && there) {
    phone.update(here, { title: "Hike on Saturday" });
    laptop.update(there, { title: "Cinema on Sunday", tags: ["friends", "tickets"] });
    await say("… and both change the same task. The edits wait on each device.", 1_800);
    phone.isOnline = true;
    await say("The phone is back, and sends its title.", 1_200);
    laptop.isOnline = true;
    await say("The laptop is back: its new tag is kept, and it asks about its title.", 2_200);
    const item = phone.tasks.get(here.id);
    if (item) phone.remove(item);
    await say("The phone deletes it …", 1_100);
    phone.undo?.();
    await say("… and takes that back. Both have it again. Now you.", 4_000);
  }
  for (const device of devices) device.isOnline = true;
  caption.hidden = true;
  find("#tour").disabled = false;
}

function open(token) {
  sessionStorage.setItem("token", token);
  for (const { tasks, root } of devices) {
    tasks.close();
    root.replaceChildren();
  }
  devices = ["phone", "laptop"].map((id) => new Device(find(`#${id}`), token));
  [active] = devices;
  find("#assistant").textContent = `claude mcp add --transport http todo ${url}/mcp --header "Authorization: Bearer ${token}"`;
}

function askForToken() {
  const dialog = find("#sign-in");
  if (!dialog.open) dialog.showModal();
}

async function newAddress() {
  const headers = { Authorization: `Bearer ${sessionStorage.getItem("token")}` };
  const response = await fetch(`${url}/api/me/calendar`, { method: "PUT", headers });
  const { url: address, detail } = await response.json();
  find("#calendar").textContent = address ?? detail;
  const button = find("#new-address");
  button.replaceWith(Object.assign(button.cloneNode(), { textContent: "Copy", id: "", ariaLabel: "Copy the address" }));
  find("#calendar").nextElementSibling.dataset.copy = "calendar";
}

document.addEventListener("click", async ({ target }) => {
  const { copy, show: shown } = target.dataset ?? {};
  active = devices.find(({ root }) => root.contains(target)) ?? active;
  if (shown) show(shown);
  if (target.id === "new-address") await newAddress();
  if (!copy) return;
  await navigator.clipboard.writeText(find(`#${copy}`).textContent);
  target.textContent = "Copied";
  setTimeout(() => (target.textContent = "Copy"), 1_500);
});

document.addEventListener("focusin", ({ target }) => {
  active = devices.find(({ root }) => root.contains(target)) ?? active;
});

document.addEventListener("keydown", (event) => {
  const { target, key, ctrlKey, metaKey, altKey } = event;
  if (!active || ctrlKey || metaKey || altKey || target.matches("input:not([type=checkbox]), textarea, select")) return;
  const act = {
    n: () => active.input.focus(),
    "/": () => active.search.focus(),
    u: () => active.undo?.(),
    o: () => (active.isOnline = !active.isOnline),
  }[key];
  if (!act) return;
  event.preventDefault();
  act();
});

find("#tour").addEventListener("click", tour);
find("#sign-in").addEventListener("close", () => open(find("[name=token]").value.trim()));

const given = new URLSearchParams(location.hash.slice(1)).get("token");
// The token is not left where it is bookmarked or shared.
if (given) history.replaceState(null, "", location.pathname);
const token = given ?? sessionStorage.getItem("token");
if (!isSecureContext) {
  // Browsers give no cryptography to a page that came by plain HTTP from another machine.
  find("#caption").hidden = false;
  find("#caption").textContent = "Open this page on the machine itself, at 127.0.0.1, or by HTTPS.";
} else if (token) open(token);
else askForToken();
