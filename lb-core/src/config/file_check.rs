//! The shapes of `check` and `agent`: how servers are asked.
use super::file::{Key, Kind, Shape, key};

pub(super) static CHECK: Shape = Shape {
    doc: "Health check, asked in one way: `tcp = true`, `http = \"GET /path\"`, `websocket = \"/path\"` or `grpc = true`.",
    keys: &[
        key(
            "tcp",
            Kind::Either(&[Kind::Flag, Kind::List(&Kind::Section(&STEP))]),
            "[{ send = \"PING\\r\\n\", expect = \"+PONG\" }]",
            "A connection opens; with a list, each step of it succeeds: its bytes are sent, then what it expects comes.",
        )
        .also(&["tcp_check", "tcp-check", "send", "send_expect"]),
        key("http", Kind::Text, "\"GET /health\"", "A request is answered as expected: method and path.")
            .also(&["path", "uri", "httpchk"]),
        key(
            "websocket",
            Kind::Text,
            "\"/ws\"",
            "A WebSocket opens at this path, answers a ping and closes.",
        )
        .also(&["ws"]),
        key(
            "grpc",
            Kind::Either(&[Kind::Flag, Kind::Text]),
            "\"shop.Orders\"",
            "grpc.health.v1.Health/Check says SERVING: for this service, or with `true` for the whole server. HTTP/2, \
             without `tls` in the clear.",
        )
        .also(&["grpc_service"]),
        key(
            "headers",
            Kind::Pairs,
            "{ Host = \"shop.example.com\" }",
            "Headers of the request of `http` and `websocket`. `Host` defaults to the server's address.",
        )
        .also(&["header"]),
        key(
            "expect",
            Kind::Many(&Kind::Either(&[Kind::Whole(100, 599), Kind::Text])),
            "200",
            "Statuses taken: 200, \"200-399\", or a list of these. Default 200-399.",
        )
        .also(&["status", "matcher"]),
        key("expect_body", Kind::Text, "\"ok\"", "Text that the first 64 KiB of the body must hold. Default: any.")
            .also(&["body"]),
        CHECK_TLS,
        CHECK_SEND_PROXY,
        CHECK_PORT,
        CHECK_ADDR,
        INTERVAL,
        FAST_INTERVAL,
        DOWN_INTERVAL,
        FALL,
        RISE,
    ],
};

static CHECK_TLS_KINDS: [Kind; 2] = [Kind::Flag, Kind::Section(&super::file_edge::SERVER_TLS_KEYS)];

const CHECK_TLS: Key = key(
    "tls",
    Kind::Either(&CHECK_TLS_KINDS),
    "{ sni = \"health.internal\" }",
    "TLS under the check; what it does not say is as in the `tls` of the server. Default: as requests go, or where `port` or \
     `addr` is given, none.",
)
.also(&["ssl", "check_ssl"]);

const CHECK_SEND_PROXY: Key = key(
    "send_proxy",
    Kind::Either(&[Kind::Flag, Kind::Word(&["v1", "v2"])]),
    "false",
    "Whether a check begins with a PROXY protocol header, which says that it is our own. Default: as `send_proxy` of the \
     server, or where `port` or `addr` is given, none.",
)
.also(&["check_send_proxy", "check-send-proxy", "proxy_protocol"]);

const CHECK_PORT: Key = key("port", Kind::Whole(1, 65535), "8081", "Asked at this port. Default: the server's.");

const CHECK_ADDR: Key = key("addr", Kind::Text, "\"127.0.0.1\"", "Asked at this IP address. Default: the server's.")
    .also(&["address", "host"]);

const INTERVAL: Key = key("interval", Kind::Span, "\"2s\"", "Time between two. Default 2s.").also(&["inter"]);

const FAST_INTERVAL: Key = key(
    "fast_interval",
    Kind::Span,
    "\"500ms\"",
    "Time between two while the last results contradict the server's state. Default: `interval`.",
)
.also(&["fastinter"]);

const DOWN_INTERVAL: Key =
    key("down_interval", Kind::Span, "\"10s\"", "Time between two while the server is down. Default: `interval`.")
        .also(&["downinter"]);

const FALL: Key = key("fall", Kind::Whole(1, 1000), "3", "Failures in a row until a server is down. Default 3.");

const RISE: Key = key("rise", Kind::Whole(1, 1000), "2", "Successes in a row until it is up. Default 2.");

static SERVER_CHECK_KINDS: [Kind; 2] = [Kind::Flag, Kind::Section(&SERVER_CHECK_KEYS)];

/// `check` of a server.
pub(super) const SERVER_CHECK: Key = key(
    "check",
    Kind::Either(&SERVER_CHECK_KINDS),
    "{ port = 8081 }",
    "Where the check of this server differs from its backend's; `false`: it is not checked. Default true.",
)
.also(&["health_check", "no_check"]);

static SERVER_CHECK_KEYS: Shape = Shape {
    doc: "Where the check of one server differs from its backend's.",
    keys: &[CHECK_PORT, CHECK_ADDR, CHECK_TLS, CHECK_SEND_PROXY, INTERVAL, FAST_INTERVAL, DOWN_INTERVAL, FALL, RISE],
};

static SERVER_AGENT_KINDS: [Kind; 2] = [Kind::Flag, Kind::Section(&SERVER_AGENT_KEYS)];

/// `agent` of a server.
pub(super) const SERVER_AGENT: Key = key(
    "agent",
    Kind::Either(&SERVER_AGENT_KINDS),
    "{ port = 9998 }",
    "Where the agent of this server differs from its backend's; `false`: it has none. Default true.",
)
.also(&["agent_check", "agent-check"]);

static SERVER_AGENT_KEYS: Shape = Shape {
    doc: "Where the agent of one server differs from its backend's.",
    keys: &[
        key("port", Kind::Whole(1, 65535), "9998", "Its port.").also(&["agent_port"]),
        key("addr", Kind::Text, "\"10.0.1.5\"", "Its IP address.").also(&["address", "host", "agent_addr"]),
        key("send", Kind::Text, "\"app\\n\"", "Sent to it before it is heard.").also(&["agent_send"]),
    ],
};

static STEP: Shape = Shape {
    doc: "One step of a TCP check: what is sent, what must come then.",
    keys: &[
        key("send", Kind::Text, "\"PING\\r\\n\"", "Text to send."),
        key("send_hex", Kind::Text, "\"16030100\"", "Bytes to send, in hexadecimal.")
            .also(&["send_binary", "send-binary"]),
        key("expect", Kind::Text, "\"+PONG\"", "Text that must come.").also(&["string"]),
        key("expect_regex", Kind::Text, "\"^2[0-9][0-9] \"", "Regular expression that must match what comes.")
            .also(&["rstring", "regex"]),
        key("expect_hex", Kind::Text, "\"1603\"", "Bytes that must come, in hexadecimal.").also(&["binary"]),
    ],
};

pub(super) static AGENT: Shape = Shape {
    doc: "A process beside each server that says how it is, on a line of text for each connection.",
    keys: &[
        key("port", Kind::Whole(1, 65535), "9999", "Its port.").required().also(&["agent_port"]),
        key("addr", Kind::Text, "\"10.0.1.5\"", "Its IP address. Default: the server's.").also(&["address", "host"]),
        key("send", Kind::Text, "\"app\\n\"", "Sent to it before it is heard. Default: nothing.").also(&["agent_send"]),
        key("interval", Kind::Span, "\"2s\"", "Time between two questions. Default 2s.")
            .also(&["inter", "agent_inter"]),
    ],
};
