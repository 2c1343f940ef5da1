import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

import { run } from "../src/queue.js";
import { FakeSQS } from "./fake-aws.js";

const queueUrl = "http://aws/0/orders";

test("send fills the queue in batches, purge empties it", async () => {
  const sqs = new FakeSQS();
  assert.equal(await run(["send", "25"], { sqs, queueUrl }), "25 messages sent");
  assert.deepEqual(sqs.messages.map(({ n }) => n), Array.from({ length: 25 }, (_, i) => i + 1));
  assert.equal(await run(["purge"], { sqs, queueUrl }), "the queue is empty");
  assert.equal(sqs.messages.length, 0);
});

test("messages that the queue refuses are an error", async () => {
  const sqs = { send: async () => ({ Failed: [{ Id: "0", Code: "Busy", Message: "try later" }] }) };
  await assert.rejects(run(["send", "3"], { sqs, queueUrl }), /1 messages of 3 were refused after 0: try later/);
});

test("a wrong command says what is right", async () => {
  const sqs = new FakeSQS();
  for (const [args, reason] of [
    [[], /usage/],
    [["send"], /usage/],
    [["purge", "all"], /usage/],
    [["send", "0"], /whole number/],
    [["send", "many"], /not "many"/],
  ]) {
    await assert.rejects(run(args, { sqs, queueUrl }), reason);
  }
  await assert.rejects(run(["purge"], { sqs }), /ORDERS_QUEUE_URL/);
  assert.equal(sqs.messages.length, 0);
});

test("the script ends with code 1 where it can't do it", () => {
  const script = fileURLToPath(new URL("../src/queue.js", import.meta.url));
  const { status, stderr } = spawnSync(process.execPath, [script, "purge"], { env: {}, encoding: "utf8" });
  assert.equal(status, 1);
  assert.match(stderr, /^ORDERS_QUEUE_URL is not set$/m);
});
