import assert from "node:assert/strict";
import { test } from "node:test";

import { readConfig } from "../src/config.js";

test("defaults need no environment", () => {
  const config = readConfig({});
  assert.equal(config.port, 3000);
  assert.equal(config.region, "us-east-1");
  assert.equal(config.bucket, undefined);
});

test("a wrong number names its variable", () => {
  assert.throws(() => readConfig({ PORT: "http" }), /PORT: "http" is not a whole number/);
});

test("a wrong URL is not repeated, because it may hold a password", () => {
  assert.throws(() => readConfig({ DATABASE_URL: "secret-without-scheme" }), (err) => /DATABASE_URL/.test(err.message) && !/secret/.test(err.message));
});

test("a bucket without a queue is refused", () => {
  assert.throws(() => readConfig({ ORDERS_BUCKET: "b" }), /belong together/);
});
