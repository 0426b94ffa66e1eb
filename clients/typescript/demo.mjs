/** Bundle the client for the page at /demo, which needs no build step. With `--check`, compare it with what is there. */

import { readFile, writeFile } from "node:fs/promises";
import { build } from "esbuild";

const licence = async (name) =>
  `${name}: ${(await readFile(new URL(`node_modules/${name}/LICENSE`, import.meta.url), "utf8")).trim()}`;
const notices = await Promise.all(["idb", "eventsource-parser"].map(licence));
const FILE = new URL("../../todo/demo/static/todo-sync.js", import.meta.url);

const { outputFiles } = await build({
  entryPoints: [new URL("src/index.ts", import.meta.url).pathname],
  bundle: true,
  format: "esm",
  target: "es2022",
  minify: true,
  banner: { js: `/* Built by \`npm run demo\` in clients/typescript. In it are:\n\n${notices.join("\n\n")}\n*/` },
  write: false,
});
const [{ text }] = outputFiles;

if (!process.argv.includes("--check")) await writeFile(FILE, text);
else if ((await readFile(FILE, "utf8")) !== text) {
  console.error(
    "todo/demo/static/todo-sync.js is not what its source gives: run `npm run demo` in clients/typescript.",
  );
  process.exit(1);
}
