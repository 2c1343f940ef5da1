// The image's HEALTHCHECK: exit 0 if the app answers. Slim images have no curl.
try {
  const response = await fetch(`http://127.0.0.1:${process.env.PORT || 3000}/health`, { signal: AbortSignal.timeout(2000) });
  if (!response.ok) throw new Error(`status ${response.status}`);
} catch (err) {
  console.error(`unhealthy: ${err.cause?.message ?? err.message}`);
  process.exitCode = 1;
}
