// The official clients of both generations, behind one function.
import * as newest from "@modelcontextprotocol/client";
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";

const name = { name: "test", version: "1.0.0" };

/** Give a client of a generation that is not connected yet, and a function that makes its transport. */
export function clientOf(generation, url, options) {
  if (generation === "legacy") {
    return [new Client(name), () => new StreamableHTTPClientTransport(new URL(url), options)];
  }
  const versionNegotiation = { mode: { pin: "2026-07-28" } };
  return [
    new newest.Client(name, { versionNegotiation }),
    () => new newest.StreamableHTTPClientTransport(new URL(url), options),
  ];
}
