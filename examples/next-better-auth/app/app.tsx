"use client";

import { type FormEvent, useState } from "react";
import { authClient } from "../auth-client";
import { TaskList } from "./task-list";

/** The tasks of the user, or the way in. */
export function App({ api }: { api: string }) {
  const { data: session, isPending } = authClient.useSession();
  if (isPending) return null;
  return <main>{session ? <TaskList key={session.user.id} api={api} name={session.user.name} /> : <Entrance />}</main>;
}

function Entrance() {
  const [problem, setProblem] = useState("");

  async function enter(event: FormEvent<HTMLFormElement>) {
    event.preventDefault();
    const { submitter } = event.nativeEvent as SubmitEvent;
    const form = Object.fromEntries(new FormData(event.currentTarget, submitter)) as Record<string, string>;
    const { email = "", password = "" } = form;
    const { error } =
      form.action === "up"
        ? await authClient.signUp.email({ email, password, name: email.split("@")[0] ?? "" })
        : await authClient.signIn.email({ email, password });
    setProblem(error?.message ?? "");
  }

  return (
    <form className="entrance" onSubmit={enter}>
      <h1>Tasks</h1>
      <input name="email" type="email" autoComplete="email" aria-label="E-mail" placeholder="E-mail" required />
      <input
        name="password"
        type="password"
        autoComplete="current-password"
        aria-label="Password"
        placeholder="Password"
        minLength={8}
        required
      />
      <button name="action" value="in">
        Sign in
      </button>
      <button name="action" value="up">
        Sign up
      </button>
      <p role="alert">{problem}</p>
    </form>
  );
}
