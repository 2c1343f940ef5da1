import { createServer } from "node:http";

import { InvalidOrder, parseOrder } from "./orders.js";

const maxBody = 16 * 1024;

class HttpError extends Error {
  constructor(status, message, headers = {}) {
    super(message);
    Object.assign(this, { status, headers });
  }
}

// createApp returns the HTTP server, and the switch that takes it out of service.
export function createApp({ orders, metrics, log, readyCacheMs = 2000, now = Date.now }) {
  let draining = false;
  let lastCheck;

  // One look at the dependencies serves every probe of the next moments.
  const reasons = () => {
    if (!orders) return Promise.resolve([]);
    if (!lastCheck || now() - lastCheck.at > readyCacheMs) lastCheck = { at: now(), result: orders.check() };
    return lastCheck.result;
  };

  const routes = {
    "/": { GET: async () => json(200, { name: "web-app", endpoints: ["/orders", "/health", "/ready", "/metrics"] }) },
    // Alive: the process answers. Dependencies don't count, a restart would not mend them.
    "/health": { GET: async () => json(200, { status: "ok" }) },
    "/ready": {
      GET: async () => {
        if (draining) return json(503, { status: "draining" });
        const missing = await reasons();
        return missing.length === 0 ? json(200, { status: "ready" }) : json(503, { status: "not ready", reasons: missing });
      },
    },
    "/metrics": {
      GET: async () => ({ status: 200, type: metrics.registry.contentType, body: await metrics.registry.metrics() }),
    },
    "/orders": {
      GET: async () => json(200, await needOrders(orders).list()),
      POST: async (req) => json(201, await needOrders(orders).create(parseOrder(await readBody(req)))),
    },
  };

  const server = createServer(async (req, res) => {
    const started = performance.now();
    const path = new URL(req.url, "http://app").pathname;
    const route = routes[path] ? path : "other"; // a label per unknown path would grow without bound
    const answer = await respond(routes[path], req);

    res.writeHead(answer.status, { "content-type": answer.type, ...answer.headers });
    res.end(req.method === "HEAD" ? undefined : answer.body);
    const seconds = (performance.now() - started) / 1000;
    metrics.httpDuration.observe({ method: req.method, route, status: answer.status }, seconds);
    const level = answer.status >= 500 ? "error" : route.startsWith("/orders") ? "info" : "debug";
    log[level]("request", { method: req.method, path, status: answer.status, ms: Math.round(seconds * 1000), error: answer.error });
  });

  return {
    server,
    drain() {
      draining = true;
    },
  };
}

async function respond(handlers, req) {
  try {
    if (!handlers) throw new HttpError(404, "not found");
    const handler = handlers[req.method === "HEAD" ? "GET" : req.method];
    if (!handler) throw new HttpError(405, "method not allowed", { allow: Object.keys(handlers).join(", ") });
    return await handler(req);
  } catch (err) {
    if (err instanceof InvalidOrder) return json(400, { error: err.message });
    if (err instanceof HttpError) return json(err.status, { error: err.message }, err.headers);
    // The cause goes to the log only: it may name what a caller should not see.
    return { ...json(502, { error: "a dependency failed" }), error: `${err.name}: ${err.message}` };
  }
}

const json = (status, body, headers = {}) => ({ status, type: "application/json", body: `${JSON.stringify(body)}\n`, headers });

function needOrders(orders) {
  if (!orders) throw new HttpError(503, "no bucket and queue are configured");
  return orders;
}

async function readBody(req) {
  const chunks = [];
  let size = 0;
  for await (const chunk of req) {
    size += chunk.length;
    if (size > maxBody) throw new HttpError(413, `the body is larger than ${maxBody} bytes`, { connection: "close" });
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString("utf8");
}
