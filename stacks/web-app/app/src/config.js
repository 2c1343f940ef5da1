// Settings from the environment. A setting that is wrong stops the start, with
// the name of the variable: a pod that can't work must not look as if it could.

const integer = (env, name, fallback) => {
  const text = env[name];
  if (text === undefined || text === "") return fallback;
  const value = Number(text);
  if (!Number.isInteger(value) || value < 0) throw new Error(`${name}: ${JSON.stringify(text)} is not a whole number`);
  return value;
};

const url = (env, name) => {
  const text = env[name];
  if (text === undefined || text === "") return undefined;
  try {
    return new URL(text);
  } catch {
    // The value itself stays out of the message: it may hold a password.
    throw new Error(`${name} is not a URL`);
  }
};

export function readConfig(env) {
  const config = {
    port: integer(env, "PORT", 3000),
    logLevel: env.LOG_LEVEL || "info",
    bucket: env.ORDERS_BUCKET || undefined,
    queueUrl: url(env, "ORDERS_QUEUE_URL")?.href,
    database: url(env, "DATABASE_URL"),
    region: env.AWS_REGION || env.AWS_DEFAULT_REGION || "us-east-1",
    endpoint: url(env, "AWS_ENDPOINT_URL")?.href,
    // How long a request to AWS may take before it counts as failed.
    awsTimeoutMs: integer(env, "AWS_TIMEOUT_MS", 2000),
    // How long requests may finish after SIGTERM; shorter than the pod's grace period.
    shutdownMs: integer(env, "SHUTDOWN_MS", 10000),
    // How long a readiness result is used again, so that probes don't load AWS.
    readyCacheMs: integer(env, "READY_CACHE_MS", 2000),
  };
  if (Boolean(config.bucket) !== Boolean(config.queueUrl)) {
    throw new Error("ORDERS_BUCKET and ORDERS_QUEUE_URL belong together: set both or none");
  }
  return config;
}
