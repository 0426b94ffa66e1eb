import { App } from "./app";

// The address is read for each request, so that one build runs anywhere.
export const dynamic = "force-dynamic";

export default function Page() {
  return <App api={process.env.TODO_URL ?? "http://127.0.0.1:8000"} />;
}
