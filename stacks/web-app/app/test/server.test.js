import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { test } from "node:test";

const source = (name) => fileURLToPath(new URL(`../src/${name}`, import.meta.url));

// Starts the real process and waits for a line of its log.
function launch(env) {
  const child = spawn(process.execPath, [source("server.js")], { env: { ...env }, stdio: ["ignore", "pipe", "inherit"] });
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const waitFor = async (msg) => {
    for (;;) {
      const { value, done } = await lines.next();
      if (done) throw new Error(`the process ended before it logged ${msg}`);
      const line = JSON.parse(value);
      if (line.msg === msg) return line;
    }
  };
  return { child, waitFor, exited: once(child, "exit") };
}

test("SIGTERM ends the process with code 0, and the health check follows", { timeout: 20_000 }, async () => {
  const { child, waitFor, exited } = launch({ PORT: "0", DATABASE_URL: "postgres://app:hunter2@db:5432/app" });
  const listening = await waitFor("listening");
  assert.equal(listening.database, "db:5432");
  const check = () => once(spawn(process.execPath, [source("healthcheck.js")], { env: { PORT: String(listening.port) }, stdio: "ignore" }), "exit");
  assert.equal((await check())[0], 0);

  child.kill("SIGTERM");
  await waitFor("stopped");
  assert.deepEqual(await exited, [0, null]);
  assert.equal((await check())[0], 1);
});

test("a wrong setting ends the process with code 1 and its name", { timeout: 20_000 }, async () => {
  const { waitFor, exited } = launch({ PORT: "x" });
  assert.match((await waitFor("can't start")).error, /PORT/);
  assert.deepEqual(await exited, [1, null]);
});
