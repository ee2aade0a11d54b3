// Node's client of HTTP/2: requests with trailers, and a WebSocket of RFC 8441.
const http2 = require("http2");
const session = http2.connect(`http://127.0.0.1:${process.argv[2]}`);
const fail = (why) => { console.error(why); process.exit(1); };
session.on("error", fail);
const ask = (headers, body) => new Promise((resolve) => {
  const stream = session.request(headers, { endStream: false });
  let text = "", status;
  stream.on("response", (h) => { status = h[":status"]; });
  stream.on("data", (d) => { text += d; });
  stream.on("end", () => resolve({ status, text }));
  stream.on("error", fail);
  stream.end(body);
});
session.on("remoteSettings", async (settings) => {
  if (!settings.enableConnectProtocol) fail("no extended CONNECT");
  const answers = await Promise.all([...Array(50).keys()].map((i) => ask({ ":path": `/${i}`, ":method": "POST" }, `body ${i}`)));
  if (!answers.every((a) => a.status === 200)) fail(JSON.stringify(answers));
  const socket = session.request({ ":method": "CONNECT", ":protocol": "websocket", ":path": "/ws", "sec-websocket-version": "13", "x-session-id": "h2" }, { endStream: false });
  socket.on("response", (headers) => {
    if (headers[":status"] !== 200) fail(`status ${headers[":status"]}`);
    // A masked frame of text, "hello", under a mask of zeros.
    socket.write(Buffer.concat([Buffer.from([0x81, 0x85, 0, 0, 0, 0]), Buffer.from("hello")]));
  });
  socket.on("data", (data) => {
    if (data[0] !== 0x81) fail(`no frame of text: ${data.toString("hex")}`);
    console.log(data.subarray(2).toString());
    session.destroy();
  });
});
