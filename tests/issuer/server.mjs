// A real Better Auth server for tests of what it issues: on loopback only, with keys and users that die with it.
//
// The first line on stdout is a JSON object with `origin`, `baseUrl` and `jwksUrl`. The process ends on SIGTERM, and
// when its stdin ends, so that nothing is left of it when the tests die.
//
// Environment, all of it optional:
//   PORT          Where to listen; 0 stands for any free port.
//   ALG           EdDSA (Better Auth's default), ES256, ES512, RS256, PS256, or HS256: then tokens are signed with the
//                 secret by a function of our own, as users of Better Auth configure it, and no keys are published.
//   SECRET        The secret of Better Auth, 32 characters or more.
//   BASE_PATH     A path that the base URL carries.
//   TRICKLE_MS    The pause between two bytes of a trickle, in milliseconds.
//   COOKIE_CACHE  off, or how the session-data cookie is made: compact, jwe, jwt, or jwt-jwks (a JWT by the keys).
//
// Controls, with JSON in and out:
//   GET  /__test/live      the id of the key that signs now
//   POST /__test/rotate    the live key expires and stays published, and a new one is made
//   POST /__test/retire    {kid}: the key is gone at once
//   POST /__test/sign      {payload}: exactly this text, signed by the live key
//   POST /__test/sign-jwt  {claims}: signed by Better Auth's own signJWT, with what it adds
//   POST /__test/fault     {mode}: how the path of the key set answers from now on
//   GET  /__test/hits      how many requests that path has had; POST sets it back to 0
//   GET  /__test/mail      the verification mails
//   GET  /__test/keys      the good set; a redirect leads here
import { generateKeyPairSync } from "node:crypto";
import { once } from "node:events";
import { createServer } from "node:http";
import { gzipSync } from "node:zlib";
import { betterAuth } from "better-auth";
import { memoryAdapter } from "better-auth/adapters/memory";
import { toNodeHandler } from "better-auth/node";
import { createJwk, jwt } from "better-auth/plugins";
import { CompactSign, SignJWT, decodeProtectedHeader, importJWK } from "jose";

const { ALG = "EdDSA", BASE_PATH = "", COOKIE_CACHE = "off", PORT = "0", TRICKLE_MS = "100" } = process.env;
const { SECRET = "a-secret-for-tests-that-is-long-enough-and-guards-nothing" } = process.env;
const SHARED = ALG === "HS256";
const BIG = 10 * 1024 * 1024;

process.stdin.on("end", () => process.exit(0)).resume();
process.on("SIGTERM", () => process.exit(0));

// Better Auth has to know its own origin, and that has the port: so the server listens before there is a Better Auth.
const server = createServer().listen(Number(PORT), "127.0.0.1");
await once(server, "listening");
const origin = `http://127.0.0.1:${server.address().port}`;

const tables = { user: [], session: [], account: [], verification: [], jwks: [] };
const mails = [];

// A custom signer is only taken along with a remote set, and that only along with the name of an algorithm.
const sharedSecret = {
  jwks: { remoteUrl: `${origin}/nothing`, keyPairConfig: { alg: "EdDSA" } },
  jwt: {
    sign: (claims) =>
      new SignJWT(claims).setProtectedHeader({ alg: "HS256", typ: "JWT" }).sign(new TextEncoder().encode(SECRET)),
  },
};
// The private key is kept in the clear because `sign` takes it from the table.
const keyPairs = { jwks: { keyPairConfig: { alg: ALG }, disablePrivateKeyEncryption: true } };
const jwtOptions = { ...(SHARED ? sharedSecret : keyPairs), sessionCookieCache: COOKIE_CACHE === "jwt-jwks" };

const auth = betterAuth({
  baseURL: origin + BASE_PATH,
  secret: SECRET,
  database: memoryAdapter(tables),
  emailAndPassword: { enabled: true },
  emailVerification: {
    sendOnSignUp: true,
    sendVerificationEmail: async ({ user, token }) => void mails.push({ to: user.email, token }),
  },
  session:
    COOKIE_CACHE === "off" ? {} : { cookieCache: { enabled: true, maxAge: 300, strategy: COOKIE_CACHE.split("-")[0] } },
  rateLimit: { enabled: false },
  telemetry: { enabled: false },
  logger: { level: "error" },
  plugins: [jwt(jwtOptions)],
});
const context = await auth.$context;
// A base URL may end with a slash; the path of the key set has one all the same.
const baseUrl = context.baseURL.replace(/\/$/, "");
const jwksUrl = new URL(`${baseUrl}/jwks`);

/** Give the key that Better Auth itself signs with now; it makes one where there is none. */
async function liveKey() {
  const { token } = await auth.api.signJWT({ body: { payload: {} } });
  const { kid } = decodeProtectedHeader(token);
  return tables.jwks.find((row) => row.id === kid);
}

async function sign(payload) {
  const bytes = new TextEncoder().encode(payload);
  if (SHARED) {
    const header = { alg: "HS256", typ: "JWT" };
    return new CompactSign(bytes).setProtectedHeader(header).sign(new TextEncoder().encode(SECRET));
  }
  const { id, privateKey } = await liveKey();
  return new CompactSign(bytes)
    .setProtectedHeader({ alg: ALG, kid: id })
    .sign(await importJWK(JSON.parse(privateKey), ALG));
}

async function rotate() {
  const past = new Date(Date.now() - 1);
  for (const row of tables.jwks) row.expiresAt ??= past;
  await createJwk({ context }, jwtOptions);
}

const goodSet = async () => (SHARED ? { keys: [] } : auth.api.getJwks());

/** Give keys that no verifier may use, although the first two are the live one. */
async function unusableSet() {
  const { keys } = await goodSet();
  const { id } = SHARED ? {} : await liveKey();
  const { kid, ...live } = keys.find((key) => key.kid === id) ?? {};
  const made = (type, options) => generateKeyPairSync(type, options).publicKey.export({ format: "jwk" });
  return {
    keys: [
      { ...live, kid, use: "enc" },
      live,
      { alg: "HS256", kty: "oct", k: Buffer.from(SECRET).toString("base64url"), kid: "oct" },
      { alg: "ES384", ...made("ec", { namedCurve: "P-384" }), kid: "p-384" },
      { alg: "RS256", ...made("rsa", { modulusLength: 1024 }), kid: "rsa-1024" },
    ],
  };
}

/** Give the bytes of an answer after which the connection ends. */
function answer(status, body, headers = {}) {
  const all = { "content-type": "application/json", "content-length": Buffer.byteLength(body), ...headers };
  const lines = [`HTTP/1.1 ${status}`, ...Object.entries(all).map(([name, value]) => `${name}: ${value}`)];
  return Buffer.concat([Buffer.from([...lines, "connection: close", "", ""].join("\r\n")), Buffer.from(body)]);
}

/** Send bytes one by one, beginning with this one. */
function trickle(socket, bytes, sent) {
  socket.setNoDelay(true);
  socket.write(bytes.subarray(0, sent));
  const timer = setInterval(() => {
    if (sent === bytes.length) socket.end();
    else socket.write(bytes.subarray(sent, ++sent));
  }, Number(TRICKLE_MS));
  socket.on("close", () => clearInterval(timer));
}

// The bytes go past the HTTP server of Node, which would not send most of this.
const faults = {
  503: (socket) => socket.end(answer("503 Service Unavailable", '{"error":"down"}')),
  404: (socket) => socket.end(answer("404 Not Found", "{}")),
  hang: () => {},
  reset: (socket, good) => {
    const bytes = answer("200 OK", good);
    socket.write(bytes.subarray(0, bytes.length - 20));
    setTimeout(() => socket.resetAndDestroy(), 50);
  },
  html: (socket) =>
    socket.end(answer("200 OK", "<!doctype html><title>Sign in</title>", { "content-type": "text/html" })),
  badjson: (socket) => socket.end(answer("200 OK", '{"keys":[')),
  empty: (socket) => socket.end(answer("200 OK", '{"keys":[]}')),
  array: (socket) => socket.end(answer("200 OK", "[]")),
  redirect: (socket) => socket.end(answer("302 Found", "", { location: `${origin}/__test/keys` })),
  trickle: (socket, good) => {
    const bytes = answer("200 OK", good);
    trickle(socket, bytes, bytes.length - Buffer.byteLength(good));
  },
  "trickle-headers": (socket, good) => trickle(socket, answer("200 OK", good), 0),
  big: (socket, good) => socket.end(answer("200 OK", good.padStart(BIG))),
  gzip: (socket, good) => socket.end(answer("200 OK", gzipSync(good), { "content-encoding": "gzip" })),
  unusable: async (socket) => socket.end(answer("200 OK", JSON.stringify(await unusableSet()))),
};

let mode = "ok";
let hits = 0;

const controls = {
  "GET /__test/live": async () => ({ kid: SHARED ? "" : (await liveKey()).id }),
  "POST /__test/rotate": async () => void (SHARED || (await rotate())),
  "POST /__test/retire": ({ kid }) => void tables.jwks.splice(0, Infinity, ...tables.jwks.filter((r) => r.id !== kid)),
  "POST /__test/sign": async ({ payload }) => ({ token: await sign(payload) }),
  "POST /__test/sign-jwt": ({ claims }) => auth.api.signJWT({ body: { payload: claims } }),
  "POST /__test/fault": (body) => void ({ mode } = body),
  "GET /__test/hits": () => ({ hits }),
  "POST /__test/hits": () => void (hits = 0),
  "GET /__test/mail": () => mails,
  "GET /__test/keys": goodSet,
};

const betterAuthHandler = toNodeHandler(auth);

server.on("request", async (request, response) => {
  const { pathname } = new URL(request.url, origin);
  const control = controls[`${request.method} ${pathname}`];
  try {
    if (control) {
      const body = Buffer.concat(await request.toArray()).toString();
      const result = JSON.stringify((await control(body ? JSON.parse(body) : {})) ?? {});
      response.writeHead(200, { "content-type": "application/json" }).end(result);
      return;
    }
    if (pathname === jwksUrl.pathname) {
      hits += 1;
      if (mode !== "ok") {
        request.socket.on("error", () => {});
        await faults[mode](request.socket, JSON.stringify(await goodSet()));
        return;
      }
    }
    await betterAuthHandler(request, response);
  } catch (error) {
    console.error(error);
    response.writeHead(500, { "content-type": "application/json" }).end(JSON.stringify({ error: String(error) }));
  }
});

console.log(JSON.stringify({ origin, jwksUrl: jwksUrl.href, baseUrl }));
