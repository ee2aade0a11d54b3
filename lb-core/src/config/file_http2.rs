//! The shape of the file: HTTP/2. See [`super::file`].
use super::file::{Kind, Shape, key};

pub(super) static HTTP2: Shape = Shape {
    doc: "What one client connection of HTTP/2 may hold.",
    keys: &[
        key("max_streams", Kind::Whole(1, 10_000), "100", "Requests at a time. Default 100.").also(&[
            "max_concurrent_streams",
            "http2_max_concurrent_streams",
            "streams",
        ]),
        key(
            "window",
            Kind::Size(16_384, 16_777_216),
            "65_536",
            "Bytes of one request's body that wait for a server at most. Uploads over long ways are faster with more. \
             Default 64 KiB.",
        )
        .also(&["initial_window_size", "window_size"]),
    ],
};
