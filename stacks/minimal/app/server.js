const { createServer } = require("node:http");

const server = createServer((req, res) => {
  res.writeHead(200, { "content-type": "text/plain" });
  res.end("hello\n");
});
server.listen(8080);
process.on("SIGTERM", () => server.close(() => process.exit(0)));
