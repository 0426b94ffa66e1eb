// The whole way of a new assistant to a task: it calls, learns where the issuer is, registers itself, sends the user
// there, who signs in and consents, and creates a task with the access token.
//
// Arguments: the generation (legacy or modern), the address of the tools, and optionally the scope that the user allows.
// What happened is printed as one JSON object.
import { UnauthorizedError as UnauthorizedModern } from "@modelcontextprotocol/client";
import { UnauthorizedError } from "@modelcontextprotocol/sdk/client/auth.js";
import { clientOf } from "./clients.mjs";

const [generation, url, scope] = process.argv.slice(2);
const redirectUrl = "http://127.0.0.1:1/callback";
const state = { requests: [] };

// What the client of the protocol keeps, in memory.
const authProvider = {
  redirectUrl,
  clientMetadata: {
    client_name: "test",
    // Better Auth takes a client for a web application otherwise, whose redirect has to be https.
    application_type: "native",
    redirect_uris: [redirectUrl],
    grant_types: ["authorization_code", "refresh_token"],
    response_types: ["code"],
    token_endpoint_auth_method: "none",
  },
  clientInformation: () => state.client,
  saveClientInformation: (client) => void (state.client = client),
  tokens: () => state.tokens,
  saveTokens: (tokens) => void (state.tokens = tokens),
  redirectToAuthorization: (address) => void (state.address = address),
  saveCodeVerifier: (verifier) => void (state.verifier = verifier),
  codeVerifier: () => state.verifier,
};

/** Do what a user does in a browser: sign up where the login page would be, consent, and come back. */
async function browse(address) {
  const { origin } = address;
  const headers = { origin, "content-type": "application/json" };
  const account = { name: "Alice", email: `alice.${crypto.randomUUID()}@example.com`, password: "correct horse battery" };
  const signUp = { method: "POST", headers, body: JSON.stringify(account) };
  const signedUp = await fetch(`${origin}/api/auth/sign-up/email`, signUp);
  const cookie = signedUp.headers.getSetCookie().map((set) => set.split(";")[0]).join("; ");
  state.user = (await signedUp.json()).user.id;
  // A program is told where a browser would be sent.
  const asked = await fetch(address, { headers: { cookie } });
  const consentPage = new URL((await asked.json()).url, origin);
  state.consentPage = consentPage.pathname;
  const consent = JSON.stringify({ accept: true, scope, oauth_query: consentPage.search.slice(1) });
  const answer = await fetch(`${origin}/api/auth/oauth2/consent`, {
    method: "POST",
    headers: { ...headers, cookie },
    body: consent,
  });
  const given = await answer.json();
  return new URL(given.redirect_uri ?? given.url);
}

/** Keep the addresses that the client asks, in order. */
async function recorded(resource, options) {
  state.requests.push(`${options?.method ?? "GET"} ${new URL(resource).pathname}`);
  return fetch(resource, options);
}

const [client, transport] = clientOf(generation, url, { authProvider, fetch: recorded });
const first = transport();
try {
  await client.connect(first);
} catch (error) {
  if (!(error instanceof UnauthorizedError || error instanceof UnauthorizedModern)) throw error;
}
const back = await browse(state.address);
state.scope = state.address.searchParams.get("scope");
await first.finishAuth(generation === "legacy" ? back.searchParams.get("code") : back.searchParams);

const [signedIn, again] = clientOf(generation, url, { authProvider, fetch: recorded });
await signedIn.connect(again());
const tools = (await signedIn.listTools()).tools.map(({ name }) => name);
const arguments_ = { title: "Buy oat milk" };
const created = await signedIn
  .callTool({ name: "add_task", arguments: arguments_ })
  .then((result) => result.structuredContent)
  .catch((error) => ({ error: String(error) }));
console.log(JSON.stringify({ ...state, tools, created }));
await signedIn.close();
