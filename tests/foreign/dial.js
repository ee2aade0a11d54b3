// Where the clients here connect to: a port of this machine; over TLS where LB_TEST_CA names whom to trust.
const ca = process.env.LB_TEST_CA;

exports.to = (port) => ca
  ? [`wss://127.0.0.1:${port}/ws`, { ca: require("fs").readFileSync(ca), servername: "shop.example" }]
  : [`ws://127.0.0.1:${port}/ws`, {}];
