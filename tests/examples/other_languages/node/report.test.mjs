// A server writes a report each night.
import assert from "node:assert/strict";
import { once } from "node:events";
import http from "node:http";
import { text } from "node:stream/consumers";
import test from "node:test";

const DAY = 24 * 3600 * 1000;

async function ask(where, body) {
  const request = http.request({ ...where, method: body ? "POST" : "GET" });
  request.end(body && JSON.stringify(body));
  const [answer] = await once(request, "response");
  assert.equal(answer.statusCode, 200);
  return JSON.parse(await text(answer));
}

test("thirty reports in thirty days", async () => {
  const reports = [];
  const nightly = setInterval(() => reports.push(new Date()), DAY);
  const server = http.createServer((_, answer) => answer.end(JSON.stringify(reports)));
  await once(server.listen(0), "listening");
  const { port } = server.address();

  const socketPath = process.env.VDSOTIME_CONTROL.replace(/^unix:/, "");
  await ask({ socketPath, path: "/advance" }, { days: 30, stride: "1h" });

  assert.equal((await ask({ port })).length, 30);
  clearInterval(nightly);
  server.close();
});
