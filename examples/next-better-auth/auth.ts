/** Better Auth: users with a password, and tokens for the task API. The tasks are not here. */

import { betterAuth } from "better-auth";
import { memoryAdapter } from "better-auth/adapters/memory";
import { jwt } from "better-auth/plugins";

// Users and keys are gone when the process ends: an application names its database here.
const kept = globalThis as { tables?: Record<string, object[]> };
kept.tables ??= { user: [], session: [], account: [], verification: [], jwks: [] };

export const auth = betterAuth({
  database: memoryAdapter(kept.tables as never),
  emailAndPassword: { enabled: true },
  plugins: [jwt()],
  telemetry: { enabled: false },
});
