import assert from "node:assert/strict";
import { once } from "node:events";
import { after, beforeEach, test } from "node:test";

import { createApp } from "../src/app.js";
import { createLogger } from "../src/log.js";
import { createMetrics } from "../src/metrics.js";
import { Orders } from "../src/orders.js";
import { FakeS3, FakeSQS } from "./fake-aws.js";

const running = [];
after(() => running.forEach((server) => server.close()));

let s3, sqs, metrics, lines;
beforeEach(() => {
  s3 = new FakeS3();
  sqs = new FakeSQS();
  metrics = createMetrics({ defaults: false });
  lines = [];
});

// Starts an app on a free port and returns a function that calls it.
async function serve({ withOrders = true, readyCacheMs = 0, now } = {}) {
  const orders = withOrders ? new Orders({ s3, sqs, bucket: "orders", queueUrl: "http://aws/0/orders", metrics }) : undefined;
  const log = createLogger({ level: "debug", write: (line) => lines.push(JSON.parse(line)) });
  const app = createApp({ orders, metrics, log, readyCacheMs, now });
  app.server.listen(0, "127.0.0.1");
  await once(app.server, "listening");
  running.push(app.server);
  const call = async (path, options) => {
    const response = await fetch(`http://127.0.0.1:${app.server.address().port}${path}`, options);
    const text = await response.text();
    return { status: response.status, headers: response.headers, text, body: text.startsWith("{") ? JSON.parse(text) : undefined };
  };
  return { call, drain: app.drain };
}

const post = (body) => ({ method: "POST", body: typeof body === "string" ? body : JSON.stringify(body) });

test("an order becomes an object, a message and a count, and can be read", async () => {
  const { call } = await serve();
  const created = await call("/orders", post({ item: "tea", quantity: 2 }));
  assert.equal(created.status, 201);
  assert.equal(created.body.messageId, "m-1");

  const key = `orders/${created.body.order.id}.json`;
  assert.deepEqual([...s3.objects.keys()], [key]);
  assert.deepEqual(sqs.messages, [{ type: "order.created", id: created.body.order.id, bucket: "orders", key }]);

  const listed = await call("/orders");
  assert.deepEqual(listed.body.orders, [created.body.order]);
  assert.equal(listed.body.queue.waiting, 1);
  assert.match((await call("/metrics")).text, /^orders_created_total 1$/m);
});

test("a bad order is refused with the reason and nothing is stored", async () => {
  const { call } = await serve();
  for (const [body, reason] of [
    ["{", /not JSON/],
    ["[]", /not a JSON object/],
    [{ item: "" }, /item/],
    [{ item: "tea", quantity: 0 }, /quantity/],
    [{ item: "tea", quantity: 1.5 }, /quantity/],
  ]) {
    const refused = await call("/orders", post(body));
    assert.equal(refused.status, 400);
    assert.match(refused.body.error, reason);
  }
  assert.equal(s3.objects.size, 0);
  assert.equal(sqs.messages.length, 0);
});

test("a body that is too large is refused", async () => {
  const { call } = await serve();
  assert.equal((await call("/orders", post({ item: "x".repeat(20_000) }))).status, 413);
});

test("a queue that fails is counted, and the cause stays in the log", async () => {
  const { call } = await serve();
  sqs.failing = new Error("queue host secret.internal unreachable");
  const failed = await call("/orders", post({ item: "tea" }));
  assert.equal(failed.status, 502);
  assert.doesNotMatch(failed.text, /secret/);
  assert.match((await call("/metrics")).text, /^orders_failed_total\{step="queue"\} 1$/m);
  assert.ok(lines.some((line) => line.level === "error" && /secret\.internal/.test(line.error)));
});

test("health ignores dependencies, readiness names the one that fails", async () => {
  const { call } = await serve();
  assert.equal((await call("/ready")).status, 200);
  s3.failing = Object.assign(new Error("no such bucket"), { name: "NotFound" });
  const ready = await call("/ready");
  assert.equal(ready.status, 503);
  assert.deepEqual(ready.body.reasons, ["bucket: NotFound: no such bucket"]);
  assert.equal((await call("/health")).status, 200);
  assert.match((await call("/metrics")).text, /^dependency_up\{dependency="bucket"\} 0$/m);
});

test("the messages that wait are counted whenever the queue is asked", async () => {
  const { call } = await serve();
  sqs.messages = [{}, {}, {}];
  assert.equal((await call("/ready")).status, 200);
  assert.match((await call("/metrics")).text, /^orders_queue_messages 3$/m);
  sqs.messages = [];
  assert.equal((await call("/orders")).status, 200);
  assert.match((await call("/metrics")).text, /^orders_queue_messages 0$/m);
});

test("a readiness result is used again until it is old", async () => {
  let time = 0;
  const { call } = await serve({ readyCacheMs: 1000, now: () => time });
  assert.equal((await call("/ready")).status, 200);
  s3.failing = new Error("gone");
  time = 900;
  assert.equal((await call("/ready")).status, 200);
  time = 1100;
  assert.equal((await call("/ready")).status, 503);
});

test("a draining app is not ready but still answers", async () => {
  const { call, drain } = await serve();
  drain();
  assert.equal((await call("/ready")).status, 503);
  assert.equal((await call("/orders", post({ item: "tea" }))).status, 201);
});

test("without a bucket the app runs and orders are unavailable", async () => {
  const { call } = await serve({ withOrders: false });
  assert.equal((await call("/ready")).status, 200);
  assert.equal((await call("/orders")).status, 503);
});

test("unknown paths and methods are refused, and share one metric label", async () => {
  const { call } = await serve();
  assert.equal((await call("/nope/1")).status, 404);
  const refused = await call("/orders", { method: "DELETE" });
  assert.equal(refused.status, 405);
  assert.equal(refused.headers.get("allow"), "GET, POST");
  const { text } = await call("/metrics");
  assert.match(text, /route="other"/);
  assert.doesNotMatch(text, /nope/);
});
