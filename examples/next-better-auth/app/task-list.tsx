"use client";

import { type FormEvent, useState } from "react";
import { createTasks, type Tasks } from "todo-sync";
import { useTasks } from "todo-sync/react";
import { authClient } from "../auth-client";

/** The list, which works offline too. */
export function TaskList({ api, name }: { api: string; name: string }) {
  const [notice, setNotice] = useState<{ text: string; undo?: () => void }>();
  const [tasks] = useState<Tasks>(() =>
    createTasks({
      url: api,
      token: async () => (await authClient.token()).data?.token,
      onConflict: ({ theirs }) => setNotice({ text: `“${theirs.title}” was changed elsewhere, and stays like that.` }),
      onDropped: ({ problem }) => setNotice({ text: problem.detail }),
    }),
  );
  const { items, status, add, update, remove } = useTasks({ sort: ["completed", "-priority", "due_date"] }, tasks);

  function submit(event: FormEvent<HTMLFormElement>) {
    event.preventDefault();
    const title = new FormData(event.currentTarget).get("title");
    if (title) add({ title: `${title}` });
    event.currentTarget.reset();
  }

  function undo() {
    notice?.undo?.();
    setNotice(undefined);
  }

  async function signOut() {
    if (status.pending && !confirm("Some changes have not been sent yet, and would be lost.")) return;
    await tasks.clear();
    await authClient.signOut();
  }

  return (
    <>
      <header>
        <h1>Tasks of {name}</h1>
        <button onClick={signOut}>Sign out</button>
      </header>
      <form onSubmit={submit}>
        <input name="title" aria-label="New task" placeholder="What is to be done?" maxLength={200} />
        <button>Add</button>
      </form>
      <ul aria-busy={!status.ready}>
        {items.map(({ id, key, title, completed, pending }) => (
          <li key={key} className={pending ? "pending" : ""}>
            <label>
              <input type="checkbox" checked={completed} onChange={() => update(id, { completed: !completed })} />
              <span>{title}</span>
            </label>
            <button aria-label={`Delete ${title}`} onClick={() => setNotice({ text: "Deleted.", undo: remove(id) })}>
              ×
            </button>
          </li>
        ))}
      </ul>
      <p role="status">
        {status.online ? "In step" : "Offline"}
        {status.pending ? `, ${status.pending} not sent yet` : ""}
      </p>
      {notice && (
        <p role="alert">
          {notice.text} {notice.undo && <button onClick={undo}>Undo</button>}
        </p>
      )}
    </>
  );
}
