// For operators: fills the queue, or empties it.
//
//   node src/queue.js send N
//   node src/queue.js purge
import { pathToFileURL } from "node:url";

import { PurgeQueueCommand, SendMessageBatchCommand } from "@aws-sdk/client-sqs";

import { createClients } from "./aws.js";
import { readConfig } from "./config.js";

const usage = "usage: queue.js send N | purge";
const batchSize = 10; // the most that SQS takes at once
const most = 10_000;

// Runs one command and resolves to what it did, in a line.
export async function run([command, ...args], { sqs, queueUrl }) {
  if (!queueUrl) throw new Error("ORDERS_QUEUE_URL is not set");
  if (command === "purge" && args.length === 0) {
    await sqs.send(new PurgeQueueCommand({ QueueUrl: queueUrl }));
    return "the queue is empty";
  }
  if (command !== "send" || args.length !== 1) throw new Error(usage);
  const count = Number(args[0]);
  if (!Number.isInteger(count) || count < 1 || count > most) throw new Error(`send: a whole number from 1 to ${most}, not ${JSON.stringify(args[0])}`);
  for (let sent = 0; sent < count; sent += batchSize) {
    const size = Math.min(batchSize, count - sent);
    const Entries = Array.from({ length: size }, (_, i) => ({ Id: String(i), MessageBody: JSON.stringify({ type: "test", n: sent + i + 1 }) }));
    const { Failed = [] } = await sqs.send(new SendMessageBatchCommand({ QueueUrl: queueUrl, Entries }));
    if (Failed.length > 0) throw new Error(`${Failed.length} messages of ${count} were refused after ${sent}: ${Failed[0].Message ?? Failed[0].Code}`);
  }
  return `${count} messages sent`;
}

if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) {
  try {
    const config = readConfig(process.env);
    console.log(await run(process.argv.slice(2), { ...createClients(config), queueUrl: config.queueUrl }));
  } catch (err) {
    console.error(err.message);
    process.exitCode = 1;
  }
}
