import { createApp } from "./app.js";
import { createClients } from "./aws.js";
import { readConfig } from "./config.js";
import { createLogger } from "./log.js";
import { createMetrics } from "./metrics.js";
import { Orders } from "./orders.js";

function start() {
  const config = readConfig(process.env);
  const log = createLogger({ level: config.logLevel });
  const metrics = createMetrics();
  const orders = config.bucket && new Orders({ ...createClients(config), bucket: config.bucket, queueUrl: config.queueUrl, metrics });
  const { server, drain } = createApp({ orders, metrics, log, readyCacheMs: config.readyCacheMs });

  // Kubernetes takes the pod out of the Service while SIGTERM is under way: new
  // requests are refused by readiness, those that are running finish.
  let stopping = false;
  const stop = (signal) => {
    if (stopping) return;
    stopping = true;
    log.info("stopping", { signal });
    drain();
    const late = setTimeout(() => {
      log.warn("requests still run; closing them", { afterMs: config.shutdownMs });
      server.closeAllConnections();
    }, config.shutdownMs);
    server.close(() => {
      clearTimeout(late);
      log.info("stopped");
    });
    server.closeIdleConnections();
  };
  process.on("SIGTERM", stop);
  process.on("SIGINT", stop);

  server.on("error", (err) => {
    log.error("server failed", { error: err.message });
    process.exitCode = 1;
  });
  server.listen(config.port, () => {
    log.info("listening", {
      port: server.address().port,
      bucket: config.bucket,
      queue: config.queueUrl,
      endpoint: config.endpoint,
      database: config.database?.host, // never the whole URL: it holds the password
    });
  });
}

try {
  start();
} catch (err) {
  createLogger().error("can't start", { error: err.message });
  process.exitCode = 1;
}
