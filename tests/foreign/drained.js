// Speaks compressed and fragmented messages without a pause until it is closed; every message that was answered must
// have come back whole and in order, and the end must have a word.
const WebSocket = require("ws");
const { to } = require("./dial.js");
const [port, sockets] = process.argv.slice(2).map(Number);

function one(id) {
  return new Promise((done, fail) => {
    const [url, terms] = to(port);
    const socket = new WebSocket(url, { ...terms, headers: { "X-Session-ID": `d${id}` } });
    let sent = 0, got = 0;
    const say = () => {
      if (socket.readyState !== WebSocket.OPEN) return;
      const size = [10, 5000, 70000][sent % 3], text = `${sent++} ` + "x".repeat(size);
      if (sent % 2) return socket.send(text);
      socket.send(text.slice(0, 5), { fin: false });
      socket.send(text.slice(5), { fin: true });
    };
    socket.on("open", () => { if (id === 0) console.log("open"); say(); say(); });
    socket.on("message", (data) => {
      const text = data.toString(), n = Number(text.split(" ")[0]);
      if (n !== got || text.length !== `${n} `.length + [10, 5000, 70000][n % 3]) fail(new Error(`${n} of ${text.length} for ${got}`));
      got++;
      say();
    });
    socket.on("error", fail);
    socket.on("close", (code, reason) => done([code, reason.toString(), sent, got]));
  });
}

Promise.all(Array.from({ length: sockets }, (_, i) => one(i))).then((ends) => {
  for (const [code, reason, , got] of ends) if (code !== 1012 || !reason || !got) throw new Error(JSON.stringify(ends));
  console.log("closed");
}).catch((e) => { console.error(e); process.exit(1); });
