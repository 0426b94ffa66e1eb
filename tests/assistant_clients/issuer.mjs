// A real Better Auth server whose OAuth provider issues access tokens for one resource: on loopback only, with keys,
// users and clients that die with it.
//
// The first line on stdout is a JSON object with `origin`. The process ends on SIGTERM, and when its stdin ends, so that
// nothing is left of it when the tests die.
//
// Environment:
//   PORT           Where to listen; 0 stands for any free port.
//   RESOURCE       The resource that access tokens are for.
//   REGISTRATION   off, or on: clients register themselves (RFC 7591).
import { once } from "node:events";
import { createServer } from "node:http";
import { betterAuth } from "better-auth";
import { memoryAdapter } from "better-auth/adapters/memory";
import { toNodeHandler } from "better-auth/node";
import { jwt } from "better-auth/plugins";
import { mcp } from "@better-auth/mcp";

const { PORT = "0", REGISTRATION = "on", RESOURCE } = process.env;

process.stdin.on("end", () => process.exit(0)).resume();
process.on("SIGTERM", () => process.exit(0));

// Better Auth has to know its own origin, and that has the port: so the server listens before there is a Better Auth.
const server = createServer().listen(Number(PORT), "127.0.0.1");
await once(server, "listening");
const origin = `http://127.0.0.1:${server.address().port}`;

const tables = ["user", "session", "account", "verification", "jwks", "oauthClient", "oauthResource", "oauthClientResource"];
tables.push("oauthRefreshToken", "oauthAccessToken", "oauthConsent", "oauthClientAssertion");

const auth = betterAuth({
  baseURL: origin,
  secret: "a-secret-for-tests-that-is-long-enough-and-guards-nothing",
  database: memoryAdapter(Object.fromEntries(tables.map((table) => [table, []]))),
  emailAndPassword: { enabled: true },
  rateLimit: { enabled: false },
  telemetry: { enabled: false },
  logger: { level: "error" },
  plugins: [
    jwt(),
    mcp({
      loginPage: "/login",
      consentPage: "/consent",
      resource: RESOURCE,
      scopes: ["openid", "offline_access", "tasks:read", "tasks:write"],
      allowDynamicClientRegistration: REGISTRATION === "on",
      allowUnauthenticatedClientRegistration: REGISTRATION === "on",
    }),
  ],
});

server.on("request", toNodeHandler(auth));
console.log(JSON.stringify({ origin }));
