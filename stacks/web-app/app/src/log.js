// Structured logs: one JSON object a line on standard output.

const levels = { debug: 10, info: 20, warn: 30, error: 40 };

export function createLogger({ level = "info", write = (line) => process.stdout.write(line) } = {}) {
  const least = levels[level] ?? levels.info;
  const log = (name) => (msg, fields = {}) => {
    if (levels[name] < least) return;
    write(`${JSON.stringify({ time: new Date().toISOString(), level: name, msg, ...fields })}\n`);
  };
  return { debug: log("debug"), info: log("info"), warn: log("warn"), error: log("error") };
}
