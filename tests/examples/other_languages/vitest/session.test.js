// A session lasts for 30 days.
import { once } from "node:events";
import http from "node:http";
import { afterAll, beforeAll, expect, test } from "vitest";

const DAY = 24 * 3600 * 1000;
let server, login;

beforeAll(async () => {
  login = Date.now();
  server = http.createServer((_, answer) => {
    answer.writeHead(Date.now() - login < 30 * DAY ? 200 : 401).end();
  });
  await once(server.listen(0), "listening");
});
afterAll(() => server.close());

function jump(span) {
  const socketPath = process.env.VDSOTIME_CONTROL.replace(/^unix:/, "");
  const request = http.request({ socketPath, path: "/jump", method: "POST" });
  request.end(JSON.stringify({ span }));
  return once(request, "response").then(([answer]) => expect(answer.statusCode).toBe(200));
}

const status = async () => (await fetch(`http://localhost:${server.address().port}`)).status;

test("the session expires", { timeout: 0 }, async () => {
  await jump("29d");
  expect(await status()).toBe(200);
  await jump("1d");
  expect(await status()).toBe(401);
});
