// A proxy that collects an answer before it passes it on, as some do with streams.

import http from "node:http";

/** `head`: whether the answer's head is passed on at once. */
export async function bufferingProxy(target, { head }) {
  const proxy = { requests: [] };
  const server = http.createServer((request, response) => {
    proxy.requests.push(request.url);
    const upstream = http.request(target + request.url, { method: request.method, headers: { ...request.headers, host: new URL(target).host } }, (answer) => {
      response.writeHead(answer.statusCode, answer.headers);
      if (head) response.flushHeaders();
      const pieces = [];
      answer.on("data", (piece) => pieces.push(piece));
      answer.on("end", () => response.end(Buffer.concat(pieces)));
      answer.on("error", () => response.destroy());
    });
    upstream.on("error", () => response.destroy());
    response.on("close", () => upstream.destroy());
    request.pipe(upstream);
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  proxy.url = `http://127.0.0.1:${server.address().port}`;
  proxy.stop = () => new Promise((resolve) => (server.closeAllConnections(), server.close(resolve)));
  return proxy;
}
