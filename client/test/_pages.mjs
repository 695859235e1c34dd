// Serves the built package and one page that has loaded it, for tests in a browser.

import { createReadStream, existsSync } from "node:fs";
import { createServer, request as ask } from "node:http";
import { dirname, extname, join, normalize } from "node:path";
import { fileURLToPath } from "node:url";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");
const TYPES = { ".js": "text/javascript", ".map": "application/json" };
const PAGE = `<!doctype html><meta charset=utf-8><title>convoy</title><link rel=icon href="data:,">
<script type=module>
  import { createConvoyClient, anyApi, ConvoyError } from "/dist/client/index.js";
  window.shown = {};
  window.start = (options) => {
    window.client = createConvoyClient({ lingerMs: 20, ...options });
    return true;
  };
  window.watch = (name, args) => {
    const watch = client.watchQuery(name, args);
    const end = watch.onUpdate(() => (shown[watch.key] = watch.getCurrent()));
    window.ends = { ...window.ends, [watch.key]: end };
    return watch.key;
  };
  window.mutate = (name, args, update) => client.mutation(name, args, update ? { optimisticUpdate: update } : {});
  window.isReady = true;
</script>`;

/** `api`: the server that gets what is asked under `/api/`, so that pages and it have one origin. */
export async function servePages({ api } = {}) {
  const server = createServer((request, response) => {
    if (api !== undefined && request.url.startsWith("/api/")) return pass(request, response, api);
    const path = normalize(new URL(request.url, "http://x").pathname);
    if (path === "/") return response.writeHead(200, { "content-type": "text/html" }).end(PAGE);
    const file = join(root, path);
    if (!path.startsWith("/dist/") || !existsSync(file)) return response.writeHead(404).end();
    response.writeHead(200, { "content-type": TYPES[extname(file)] ?? "text/plain", "access-control-allow-origin": "*" });
    createReadStream(file).pipe(response);
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const url = `http://127.0.0.1:${server.address().port}`;
  return { url, stop: () => new Promise((resolve) => (server.closeAllConnections(), server.close(resolve))) };
}

function pass(request, response, api) {
  const { hostname, port } = new URL(api);
  const { method, url: path, headers } = request;
  const passed = ask({ hostname, port, method, path, headers: { ...headers, host: `${hostname}:${port}` } }, (answer) => {
    response.writeHead(answer.statusCode, answer.headers);
    response.flushHeaders();
    answer.pipe(response);
    answer.on("error", () => response.destroy());
  });
  passed.on("error", () => response.destroy());
  response.on("close", () => passed.destroy());
  request.pipe(passed);
}
