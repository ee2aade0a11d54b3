// Reconnects again and again through the given ports in turn; every session must go on where it was.
const WebSocket = require("ws");
const { to } = require("./dial.js");
const ports = process.argv.slice(2).map(Number);

async function one(session) {
  let said = 0, server;
  for (let round = 0; round < 6; round++) {
    const [url, terms] = to(ports[(session + round) % ports.length]);
    const socket = new WebSocket(url, { ...terms, headers: { "X-Session-ID": `js${session}` } });
    await new Promise((open, fail) => { socket.on("open", open); socket.on("error", fail); });
    for (const size of [1, 200, 70000]) {
      const answer = new Promise((got) => socket.once("message", (m) => got(m.toString())));
      socket.send("x".repeat(size));
      said++;
      const [name, key, count] = (await answer).split(" ");
      server ??= name;
      if (name !== server || key !== `js${session}` || Number(count) !== said) throw new Error(`${name} ${key} ${count}, not ${server} ${said}`);
    }
    const closed = new Promise((done) => socket.on("close", (code) => done(code)));
    socket.close(1000);
    if ((await closed) !== 1000) throw new Error("the close code was lost");
    await new Promise((later) => setTimeout(later, 20));
  }
}

Promise.all(Array.from({ length: 20 }, (_, s) => one(s))).then(() => console.log("kept"), (e) => { console.error(e); process.exit(1); });
