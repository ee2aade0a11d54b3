//! The shape of the file: `backend.websocket`. See [`super::file`].
use super::file::{Kind, Shape, key};

pub(super) static WEBSOCKET: Shape = Shape {
    doc: "What WebSockets get beyond being passed on.",
    keys: &[
        key(
            "ping",
            Kind::Span,
            "\"30s\"",
            "Pings of lb to a side that was silent for so long; answers to them go no further. Default: none.",
        )
        .also(&["ping_interval", "heartbeat", "keepalive"]),
        key(
            "pong_timeout",
            Kind::Span,
            "\"10s\"",
            "How long the answer to a ping may take before the socket is closed. Default 10s.",
        )
        .also(&["ping_timeout"]),
        key("ping_to", Kind::Word(&["both", "client", "server"]), "\"both\"", "Who is pinged. Default both."),
        key(
            "close_timeout",
            Kind::Span,
            "\"3s\"",
            "How long each step of a close by lb may take: the end of a message, the server's answer, the client's. \
             Default 3s.",
        ),
        key(
            "idle",
            Kind::Word(&["frames", "data"]),
            "\"frames\"",
            "What counts against `timeout.tunnel`: any frame of client or server, their pings included (`frames`), or \
             only messages (`data`). Pings of lb and their answers never do. Default frames.",
        ),
        key(
            "max_frame",
            Kind::Size(125, 1 << 40),
            "1_048_576",
            "Greatest payload of a frame; a larger one closes the socket with 1009. Default: any.",
        )
        .also(&["max_frame_size", "max_payload"]),
        key(
            "strict",
            Kind::Flag,
            "true",
            "A frame that breaks the protocol closes the socket with 1002. Default false: it is counted, and passed on \
             to be judged by the other end.",
        ),
        key(
            "verify_accept",
            Kind::Flag,
            "false",
            "A 101 without the right `Sec-WebSocket-Accept` is answered with 502. Default true.",
        ),
        key(
            "refuse",
            Kind::Word(&["http", "close"]),
            "\"http\"",
            "How an upgrade is refused that finds no place or passes a limit: with 503 or 429 (`http`), or by a \
             handshake and a Close frame with 1013, which scripts in browsers can see (`close`). Default http.",
        ),
    ],
};
