import { Counter, Gauge, Histogram, Registry, collectDefaultMetrics } from "prom-client";

// A registry of its own, so that tests can have several apps in one process.
export function createMetrics({ defaults = true } = {}) {
  const registry = new Registry();
  if (defaults) collectDefaultMetrics({ register: registry });
  const ordersFailed = new Counter({
    name: "orders_failed_total",
    help: "Orders that could not be stored, by the step that failed.",
    labelNames: ["step"],
    registers: [registry],
  });
  // A series has to be there before its first failure, or rate() misses it.
  for (const step of ["bucket", "queue"]) ordersFailed.inc({ step }, 0);
  return {
    registry,
    ordersCreated: new Counter({
      name: "orders_created_total",
      help: "Orders that are in the bucket and on the queue.",
      registers: [registry],
    }),
    ordersFailed,
    queueMessages: new Gauge({
      name: "orders_queue_messages",
      help: "Messages that wait in the queue, when it was last asked.",
      registers: [registry],
    }),
    dependencyUp: new Gauge({
      name: "dependency_up",
      help: "Whether the last look at a dependency succeeded (1) or not (0).",
      labelNames: ["dependency"],
      registers: [registry],
    }),
    httpDuration: new Histogram({
      name: "http_request_duration_seconds",
      help: "Time to answer a request.",
      labelNames: ["method", "route", "status"],
      buckets: [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5],
      registers: [registry],
    }),
  };
}
