// A WebSocket server of other people's making: sends back its name, the session and how often it spoke.
const { WebSocketServer } = require("ws");
const [name, sessions] = [process.argv[2], new Map()];
const server = new WebSocketServer({ host: "127.0.0.1", port: 0 }, () => console.log(server.address().port));
server.on("connection", (socket, request) => {
  const session = request.headers["x-session-id"] ?? "-";
  socket.on("message", () => {
    sessions.set(session, (sessions.get(session) ?? 0) + 1);
    socket.send(`${name} ${session} ${sessions.get(session)}`);
  });
});
