/** Calls of the server: a token, a time limit, and errors that say when to come back. */

import type { Options, Problem } from "./types.js";

/** After so long without a byte a connection is dead. */
const SILENCE_MS = 60_000;

/** What is thrown where the server refused a request. */
export interface Refused {
  problem: Problem;
  /** How long the server wants to be left alone, in milliseconds; 0 if it does not say. */
  retryAfter: number;
}

/** Return the claims of a token, without checking it: that is for the server. */
export function claims(token: string): { sub?: string; userId?: string; exp?: number } {
  try {
    const text = atob((token.split(".")[1] ?? "").replaceAll("-", "+").replaceAll("_", "/"));
    return JSON.parse(new TextDecoder().decode(Uint8Array.from(text, (char) => char.charCodeAt(0))));
  } catch {
    return {};
  }
}

export interface Client {
  /** Return a token that has not expired. */
  bearer(refused?: boolean): Promise<string>;
  /** Return what `read` makes of the response; by default its JSON. `beat` says that the connection is alive. */
  request<T>(path: string, signal: AbortSignal, call?: Call<T>): Promise<T>;
}

export interface Call<T> {
  body?: unknown;
  read?: (response: Response, beat: () => void) => Promise<T>;
}

export function createClient(options: Options): Client {
  let token = "";

  async function bearer(refused = false): Promise<string> {
    const { exp } = claims(token);
    if (refused || !token || (exp && exp * 1000 < Date.now() + 10_000)) token = (await options.token(refused)) ?? "";
    if (!token) throw new Error("No token");
    return token;
  }

  async function request<T>(path: string, signal: AbortSignal, { body, read }: Call<T> = {}): Promise<T> {
    const controller = new AbortController();
    let timer: ReturnType<typeof setTimeout> | undefined;
    const beat = () => {
      clearTimeout(timer);
      timer = setTimeout(() => controller.abort(), SILENCE_MS);
    };
    beat();
    try {
      for (let again = false; ; again = true) {
        const headers = { Authorization: `Bearer ${await bearer(again)}`, "Content-Type": "application/json" };
        const sent = body ? { method: "POST", body: JSON.stringify(body) } : {};
        const init = { headers, signal: AbortSignal.any([signal, controller.signal]), ...sent };
        const response = await (options.fetch ?? fetch)(options.url.replace(/\/+$/, "") + path, init);
        beat();
        if (response.ok) return await (read ? read(response, beat) : response.json());
        if (response.status === 401 && !again) continue;
        const problem = await response.json().catch(() => ({}));
        const { status, statusText: detail } = response;
        const refused: Refused = {
          problem: { detail, ...problem, status },
          // This server sends seconds; a date (RFC 9110, section 10.2.3) counts as none. An hour is enough.
          retryAfter: Math.min(Number(response.headers.get("Retry-After")) || 0, 3600) * 1000,
        };
        throw refused;
      }
    } finally {
      clearTimeout(timer);
    }
  }

  return { bearer, request };
}
