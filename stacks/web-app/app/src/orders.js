import { randomUUID } from "node:crypto";

import { GetObjectCommand, HeadBucketCommand, ListObjectsV2Command, PutObjectCommand } from "@aws-sdk/client-s3";
import { GetQueueAttributesCommand, SendMessageCommand } from "@aws-sdk/client-sqs";

const prefix = "orders/";

// InvalidOrder is an order that the client has to correct.
export class InvalidOrder extends Error {}

export function parseOrder(text) {
  let input;
  try {
    input = JSON.parse(text);
  } catch {
    throw new InvalidOrder("the body is not JSON");
  }
  if (input === null || typeof input !== "object" || Array.isArray(input)) throw new InvalidOrder("the body is not a JSON object");
  const { item, quantity = 1 } = input;
  if (typeof item !== "string" || item.length === 0 || item.length > 200) throw new InvalidOrder("item: 1 to 200 characters");
  if (!Number.isInteger(quantity) || quantity < 1 || quantity > 1000) throw new InvalidOrder("quantity: a whole number from 1 to 1000");
  return { item, quantity };
}

// Orders keeps each order as an object in a bucket, and tells the rest of the
// system with a message on a queue.
export class Orders {
  constructor({ s3, sqs, bucket, queueUrl, metrics }) {
    Object.assign(this, { s3, sqs, bucket, queueUrl, metrics });
  }

  // The object is written first: a message never names an order that is not
  // there. If sending fails the caller has to try again; the object that stays
  // behind is an order that nobody was told of, and orders_failed_total counts it.
  async create({ item, quantity }) {
    const order = { id: randomUUID(), item, quantity, createdAt: new Date().toISOString() };
    const key = `${prefix}${order.id}.json`;
    await this.#step("bucket", () =>
      this.s3.send(new PutObjectCommand({ Bucket: this.bucket, Key: key, Body: JSON.stringify(order), ContentType: "application/json" })),
    );
    const { MessageId: messageId } = await this.#step("queue", () =>
      this.sqs.send(
        new SendMessageCommand({
          QueueUrl: this.queueUrl,
          MessageBody: JSON.stringify({ type: "order.created", id: order.id, bucket: this.bucket, key }),
        }),
      ),
    );
    this.metrics.ordersCreated.inc();
    return { order, messageId };
  }

  // The newest orders of the first page of the bucket, and how many messages wait.
  async list(limit = 50) {
    const [page, queue] = await Promise.all([
      this.s3.send(new ListObjectsV2Command({ Bucket: this.bucket, Prefix: prefix })),
      this.#depth(),
    ]);
    const newest = (page.Contents ?? []).sort((a, b) => b.LastModified - a.LastModified).slice(0, limit);
    const orders = await Promise.all(
      newest.map(async ({ Key }) => {
        const object = await this.s3.send(new GetObjectCommand({ Bucket: this.bucket, Key }));
        return JSON.parse(await object.Body.transformToString());
      }),
    );
    return { orders, queue, truncated: Boolean(page.IsTruncated) || (page.Contents ?? []).length > limit };
  }

  // Looks at the bucket and the queue; resolves to the reasons why orders can't
  // be taken, none if they can.
  async check() {
    const looks = {
      bucket: () => this.s3.send(new HeadBucketCommand({ Bucket: this.bucket })),
      queue: () => this.#depth(),
    };
    const reasons = await Promise.all(
      Object.entries(looks).map(async ([dependency, look]) => {
        try {
          await look();
          this.metrics.dependencyUp.set({ dependency }, 1);
          return null;
        } catch (err) {
          this.metrics.dependencyUp.set({ dependency }, 0);
          return `${dependency}: ${err.name}: ${err.message}`;
        }
      }),
    );
    return reasons.filter(Boolean);
  }

  async #depth() {
    const names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"];
    const { Attributes = {} } = await this.sqs.send(new GetQueueAttributesCommand({ QueueUrl: this.queueUrl, AttributeNames: names }));
    const depth = { waiting: Number(Attributes[names[0]] ?? 0), inFlight: Number(Attributes[names[1]] ?? 0) };
    this.metrics.queueMessages.set(depth.waiting);
    return depth;
  }

  async #step(step, run) {
    try {
      return await run();
    } catch (err) {
      this.metrics.ordersFailed.inc({ step });
      throw err;
    }
  }
}
