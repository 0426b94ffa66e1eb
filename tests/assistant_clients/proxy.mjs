// A proxy that adds a bearer token to what has none, for programs that can send no header of their own.
//
// The first line on stdout is its origin. It ends on SIGTERM, and when its stdin ends.
import { once } from "node:events";
import { createServer, request as send } from "node:http";

const { TOKEN, UPSTREAM } = process.env;

process.stdin.on("end", () => process.exit(0)).resume();
process.on("SIGTERM", () => process.exit(0));

const server = createServer((request, response) => {
  const { method, url } = request;
  // Everything else is passed on as it is, the host too.
  const headers = { authorization: `Bearer ${TOKEN}`, ...request.headers };
  const upstream = send(new URL(url, UPSTREAM), { method, headers }, (answer) => {
    response.writeHead(answer.statusCode, answer.headers);
    answer.pipe(response);
  });
  upstream.on("error", () => response.destroy());
  request.pipe(upstream);
}).listen(0, "127.0.0.1");
await once(server, "listening");
console.log(`http://127.0.0.1:${server.address().port}`);
