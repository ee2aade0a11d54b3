//! RFC 9113 and RFC 7541 frame by frame: what must be answered, what must end a stream, what must end the connection.
use crate::app_h2;
use crate::foreign::{python, server};
use lb_tests::frames::{Frame, PREFACE, block, flag, frame, get, kind, raw_block};
use lb_tests::instance::free_port;
use lb_tests::pki::Pki;
use lb_tests::{Frames, Instance, Origin};
use std::net::SocketAddr;

const PROTOCOL: u32 = 1;
const FLOW_CONTROL: u32 = 3;
const STREAM_CLOSED: u32 = 5;
const FRAME_SIZE: u32 = 6;
const REFUSED: u32 = 7;
const COMPRESSION: u32 = 9;

/// What must become of it.
enum Must {
    /// The connection goes on.
    Live,
    /// A request on stream 1 is answered with 200.
    Answer,
    /// The connection ends, with one of these errors where it says one.
    End(&'static [u32]),
    /// The stream ends with one of these errors; that the connection does is no mistake.
    Reset(&'static [u32]),
}
use Must::{Answer, End, Live, Reset};

type Case = (&'static str, fn(&mut Frames), Must);

const END: u8 = flag::END_HEADERS | flag::END_STREAM;
const OPEN: u8 = flag::END_HEADERS;

fn post(extra: &[(&str, &str)]) -> Vec<u8> {
    let plain = [(":method", "POST"), (":scheme", "http"), (":path", "/"), (":authority", "test")];
    block(&[&plain, extra].concat())
}

/// A request without a body whose fields are these.
fn head(c: &mut Frames, fields: &[(&str, &str)]) {
    c.request(1, &block(fields));
}

/// As [`head`], after the usual ones.
fn with(c: &mut Frames, fields: &[(&str, &str)]) {
    let mut all = get("/");
    all.extend(block(fields));
    c.request(1, &all);
}

fn setting(id: u16, value: u32) -> Vec<u8> {
    [&id.to_be_bytes()[..], &value.to_be_bytes()].concat()
}

/// A request on stream 1 that has been answered.
fn done(c: &mut Frames) {
    c.request(1, &get("/"));
    c.body(1).expect("an answer");
}

/// The fourteen bytes of a PRIORITY on which nothing depends.
const PRIORITY: [u8; 5] = [0, 0, 0, 0, 16];

const FRAMES: &[Case] = &[
    ("4.1 a frame of an unknown kind is ignored", |c| _ = c.send(0xff, 0, 0, b"12345678"), Live),
    ("4.1 an undefined flag is ignored", |c| _ = c.send(kind::PING, 0x16, 0, b"12345678"), Live),
    ("4.1 the reserved bit is ignored", |c| _ = c.send(kind::PING, 0, 1 << 31, b"12345678"), Live),
    (
        "4.2 a frame of the greatest size is taken",
        |c| {
            c.send(kind::HEADERS, OPEN, 1, &post(&[]));
            c.send(kind::DATA, flag::END_STREAM, 1, &[b'x'; 16_384]);
        },
        Answer,
    ),
    (
        "4.2 a larger DATA",
        |c| {
            c.send(kind::HEADERS, OPEN, 1, &post(&[]));
            c.send(kind::DATA, flag::END_STREAM, 1, &[b'x'; 16_385]);
        },
        End(&[FRAME_SIZE]),
    ),
    ("4.2 a larger HEADERS", |c| with(c, &[("x", &"y".repeat(17_000))]), End(&[FRAME_SIZE])),
    ("4.2 a larger SETTINGS", |c| _ = c.send(kind::SETTINGS, 0, 0, &setting(0x99, 1).repeat(2800)), End(&[FRAME_SIZE])),
    (
        "4.3 a header block that is none",
        |c| _ = c.request(1, &[0x40, 0x90, 0xff, 0xff, 0xff]),
        End(&[COMPRESSION, PROTOCOL]),
    ),
    (
        "4.3 a PRIORITY within a header block",
        |c| {
            c.send(kind::HEADERS, flag::END_STREAM, 1, &get("/"));
            c.send(kind::PRIORITY, 0, 1, &PRIORITY);
            c.send(kind::CONTINUATION, flag::END_HEADERS, 1, &block(&[("x", "y")]));
        },
        End(&[PROTOCOL]),
    ),
    (
        "4.3 a HEADERS of another stream within a header block",
        |c| {
            c.send(kind::HEADERS, flag::END_STREAM, 1, &get("/"));
            c.request(3, &get("/"));
        },
        End(&[PROTOCOL]),
    ),
    (
        "5.5 an unknown frame within a header block",
        |c| {
            c.send(kind::HEADERS, flag::END_STREAM, 1, &get("/"));
            c.send(0xff, 0, 1, b"");
        },
        End(&[PROTOCOL]),
    ),
    ("6.7 a PING is answered", |_| (), Live),
    ("6.7 an answer to no PING is ignored", |c| _ = c.send(kind::PING, flag::ACK, 0, b"12345678"), Live),
    ("6.7 a PING on a stream", |c| _ = c.send(kind::PING, 0, 1, b"12345678"), End(&[PROTOCOL])),
    ("6.7 a short PING", |c| _ = c.send(kind::PING, 0, 0, b"1234567"), End(&[FRAME_SIZE])),
    ("6.7 a long PING", |c| _ = c.send(kind::PING, 0, 0, b"123456789"), End(&[FRAME_SIZE])),
    ("6.8 a GOAWAY on a stream", |c| _ = c.send(kind::GOAWAY, 0, 1, &[0; 8]), End(&[PROTOCOL])),
    ("6.8 a short GOAWAY", |c| _ = c.send(kind::GOAWAY, 0, 0, &[0; 7]), End(&[FRAME_SIZE])),
    (
        "8.4 a client pushes",
        |c| {
            c.send(kind::HEADERS, OPEN, 1, &post(&[]));
            c.send(kind::PUSH_PROMISE, flag::END_HEADERS, 1, &[&[0, 0, 0, 2][..], &get("/")].concat());
        },
        End(&[PROTOCOL]),
    ),
];

const STATES: &[Case] = &[
    ("5.1 idle: DATA", |c| _ = c.send(kind::DATA, flag::END_STREAM, 1, b"x"), End(&[PROTOCOL, STREAM_CLOSED])),
    ("5.1 idle: RST_STREAM", |c| _ = c.send(kind::RST_STREAM, 0, 1, &[0, 0, 0, 8]), End(&[PROTOCOL])),
    ("5.1 idle: WINDOW_UPDATE", |c| _ = c.send(kind::WINDOW_UPDATE, 0, 1, &[0, 0, 0, 100]), End(&[PROTOCOL])),
    ("5.1 idle: CONTINUATION", |c| _ = c.send(kind::CONTINUATION, flag::END_HEADERS, 1, &get("/")), End(&[PROTOCOL])),
    (
        "5.1 idle: PRIORITY is ignored",
        |c| {
            c.send(kind::PRIORITY, 0, 9, &PRIORITY);
            c.request(11, &get("/"));
        },
        Live,
    ),
    (
        "5.1 half-closed: DATA",
        |c| {
            c.request(1, &get("/"));
            c.send(kind::DATA, flag::END_STREAM, 1, b"x");
        },
        Reset(&[STREAM_CLOSED, PROTOCOL]),
    ),
    (
        "5.1 half-closed: HEADERS",
        |c| {
            c.request(1, &get("/"));
            c.request(1, &get("/"));
        },
        Reset(&[STREAM_CLOSED, PROTOCOL]),
    ),
    (
        "5.1 half-closed: CONTINUATION",
        |c| {
            c.request(1, &get("/"));
            c.send(kind::CONTINUATION, flag::END_HEADERS, 1, &get("/"));
        },
        End(&[STREAM_CLOSED, PROTOCOL]),
    ),
    (
        "5.1 half-closed: WINDOW_UPDATE and PRIORITY are taken",
        |c| {
            c.request(1, &get("/"));
            c.send(kind::WINDOW_UPDATE, 0, 1, &[0, 0, 0, 100]);
            c.send(kind::PRIORITY, 0, 1, &PRIORITY);
        },
        Answer,
    ),
    (
        "5.1 closed by RST_STREAM: DATA",
        |c| {
            c.send(kind::HEADERS, OPEN, 1, &post(&[]));
            c.send(kind::RST_STREAM, 0, 1, &[0, 0, 0, 8]);
            c.send(kind::DATA, flag::END_STREAM, 1, b"x");
        },
        Reset(&[STREAM_CLOSED]),
    ),
    (
        "5.1 closed by RST_STREAM: HEADERS",
        |c| {
            c.send(kind::HEADERS, OPEN, 1, &post(&[]));
            c.send(kind::RST_STREAM, 0, 1, &[0, 0, 0, 8]);
            c.request(1, &get("/"));
        },
        Reset(&[STREAM_CLOSED, PROTOCOL]),
    ),
    (
        "5.1 closed by RST_STREAM: CONTINUATION",
        |c| {
            c.send(kind::HEADERS, OPEN, 1, &post(&[]));
            c.send(kind::RST_STREAM, 0, 1, &[0, 0, 0, 8]);
            c.send(kind::CONTINUATION, flag::END_HEADERS, 1, &get("/"));
        },
        End(&[STREAM_CLOSED, PROTOCOL]),
    ),
    (
        "5.1 closed: DATA",
        |c| {
            done(c);
            c.send(kind::DATA, flag::END_STREAM, 1, b"x");
        },
        Reset(&[STREAM_CLOSED]),
    ),
    (
        "5.1 closed: HEADERS",
        |c| {
            done(c);
            c.request(1, &get("/"));
        },
        End(&[STREAM_CLOSED, PROTOCOL]),
    ),
    (
        "5.1 closed: CONTINUATION",
        |c| {
            done(c);
            c.send(kind::CONTINUATION, flag::END_HEADERS, 1, &get("/"));
        },
        End(&[STREAM_CLOSED, PROTOCOL]),
    ),
    (
        "5.1 closed: PRIORITY, WINDOW_UPDATE and RST_STREAM are ignored",
        |c| {
            done(c);
            c.send(kind::PRIORITY, 0, 1, &PRIORITY);
            c.send(kind::WINDOW_UPDATE, 0, 1, &[0, 0, 0, 1]);
            c.send(kind::RST_STREAM, 0, 1, &[0, 0, 0, 8]);
        },
        Live,
    ),
    ("5.1.1 an even stream", |c| _ = c.request(2, &get("/")), End(&[PROTOCOL])),
    (
        "5.1.1 a stream smaller than one before",
        |c| {
            c.request(5, &get("/"));
            c.body(5);
            c.request(3, &get("/"));
        },
        End(&[PROTOCOL, STREAM_CLOSED]),
    ),
    (
        "5.1.2 more streams than allowed",
        |c| {
            // Opened, never ended: the server waits for them.
            for i in 0..=100 {
                c.send(kind::HEADERS, OPEN, 3 + 2 * i, &post(&[]));
            }
        },
        Reset(&[PROTOCOL, REFUSED]),
    ),
    (
        "5.3 a HEADERS that depends on itself",
        |c| {
            let depends = [&[0, 0, 0, 1, 255][..], &get("/")].concat();
            c.send(kind::HEADERS, END | flag::PRIORITY, 1, &depends);
        },
        Reset(&[PROTOCOL]),
    ),
    (
        "5.3 a PRIORITY that depends on itself",
        |c| _ = c.send(kind::PRIORITY, 0, 1, &[0, 0, 0, 1, 16]),
        Reset(&[PROTOCOL]),
    ),
];

const KINDS: &[Case] = &[
    ("6.1 DATA on the connection", |c| _ = c.send(kind::DATA, flag::END_STREAM, 0, b"x"), End(&[PROTOCOL])),
    (
        "6.1 padding longer than DATA",
        |c| {
            c.send(kind::HEADERS, OPEN, 1, &post(&[]));
            c.send(kind::DATA, flag::END_STREAM | flag::PADDED, 1, &[6, b'x', 0, 0, 0, 0]);
        },
        End(&[PROTOCOL]),
    ),
    (
        "6.1 DATA with padding",
        |c| {
            c.send(kind::HEADERS, OPEN, 1, &post(&[("content-length", "1")]));
            c.send(kind::DATA, flag::END_STREAM | flag::PADDED, 1, &[3, b'x', 0, 0, 0]);
        },
        Answer,
    ),
    (
        "6.1 DATA of padding alone",
        |c| {
            c.send(kind::HEADERS, OPEN, 1, &post(&[]));
            c.send(kind::DATA, flag::PADDED, 1, &[3, 0, 0, 0]);
            c.send(kind::DATA, flag::END_STREAM, 1, b"");
        },
        Answer,
    ),
    (
        "6.1 padded DATA without a length",
        |c| {
            c.send(kind::HEADERS, OPEN, 1, &post(&[]));
            c.send(kind::DATA, flag::END_STREAM | flag::PADDED, 1, &[]);
        },
        End(&[PROTOCOL, FRAME_SIZE]),
    ),
    ("6.2 HEADERS on the connection", |c| _ = c.request(0, &get("/")), End(&[PROTOCOL])),
    (
        "6.2 padding longer than HEADERS",
        |c| _ = c.send(kind::HEADERS, END | flag::PADDED, 1, &[&[200][..], &get("/")].concat()),
        End(&[PROTOCOL]),
    ),
    (
        "6.2 HEADERS with padding and priority",
        |c| {
            let padded = [&[4][..], &[0, 0, 0, 0, 255], &get("/"), &[0; 4]].concat();
            c.send(kind::HEADERS, END | flag::PADDED | flag::PRIORITY, 1, &padded);
        },
        Answer,
    ),
    ("6.3 PRIORITY on the connection", |c| _ = c.send(kind::PRIORITY, 0, 0, &PRIORITY), End(&[PROTOCOL])),
    (
        "6.3 a short PRIORITY",
        |c| {
            c.send(kind::HEADERS, OPEN, 1, &post(&[]));
            c.send(kind::PRIORITY, 0, 1, &PRIORITY[..4]);
        },
        Reset(&[FRAME_SIZE]),
    ),
    ("6.4 RST_STREAM on the connection", |c| _ = c.send(kind::RST_STREAM, 0, 0, &[0, 0, 0, 8]), End(&[PROTOCOL])),
    (
        "6.4 a short RST_STREAM",
        |c| {
            c.send(kind::HEADERS, OPEN, 1, &post(&[]));
            c.send(kind::RST_STREAM, 0, 1, &[0, 0, 8]);
        },
        End(&[FRAME_SIZE]),
    ),
    (
        "6.4 a long RST_STREAM",
        |c| {
            c.send(kind::HEADERS, OPEN, 1, &post(&[]));
            c.send(kind::RST_STREAM, 0, 1, &[0, 0, 0, 8, 0]);
        },
        End(&[FRAME_SIZE]),
    ),
    (
        "6.5 SETTINGS are acknowledged",
        |c| {
            c.send(kind::SETTINGS, 0, 0, &setting(3, 100));
            c.find(|f| f.kind == kind::SETTINGS && f.flags == flag::ACK).expect("an acknowledgement");
        },
        Live,
    ),
    (
        "6.5 an acknowledgement that carries something",
        |c| _ = c.send(kind::SETTINGS, flag::ACK, 0, &setting(3, 1)),
        End(&[FRAME_SIZE]),
    ),
    ("6.5 SETTINGS on a stream", |c| _ = c.send(kind::SETTINGS, 0, 1, &setting(3, 1)), End(&[PROTOCOL])),
    ("6.5 SETTINGS of an odd size", |c| _ = c.send(kind::SETTINGS, 0, 0, &[0, 3, 0]), End(&[FRAME_SIZE])),
    ("6.5.2 ENABLE_PUSH of 2", |c| _ = c.send(kind::SETTINGS, 0, 0, &setting(2, 2)), End(&[PROTOCOL])),
    (
        "6.5.2 INITIAL_WINDOW_SIZE too large",
        |c| _ = c.send(kind::SETTINGS, 0, 0, &setting(4, 1 << 31)),
        End(&[FLOW_CONTROL, PROTOCOL]),
    ),
    ("6.5.2 MAX_FRAME_SIZE too small", |c| _ = c.send(kind::SETTINGS, 0, 0, &setting(5, 16_383)), End(&[PROTOCOL])),
    ("6.5.2 MAX_FRAME_SIZE too large", |c| _ = c.send(kind::SETTINGS, 0, 0, &setting(5, 1 << 24)), End(&[PROTOCOL])),
    ("6.5.2 an unknown setting is ignored", |c| _ = c.send(kind::SETTINGS, 0, 0, &setting(0xff, 1)), Live),
    (
        "6.5.3 of two values of a setting the last holds",
        |c| {
            c.send(kind::SETTINGS, 0, 0, &[setting(4, 100), setting(4, 1)].concat());
            c.request(1, &get("/"));
            let data = c.find(|f| f.kind == kind::DATA).expect("data");
            assert_eq!(data.payload.len(), 1);
        },
        Live,
    ),
    ("6.9 WINDOW_UPDATE of 0", |c| _ = c.send(kind::WINDOW_UPDATE, 0, 0, &[0; 4]), End(&[PROTOCOL])),
    (
        "6.9 WINDOW_UPDATE of 0 on a stream",
        |c| {
            c.send(kind::HEADERS, OPEN, 1, &post(&[]));
            c.send(kind::WINDOW_UPDATE, 0, 1, &[0; 4]);
        },
        Reset(&[PROTOCOL]),
    ),
    ("6.9 a short WINDOW_UPDATE", |c| _ = c.send(kind::WINDOW_UPDATE, 0, 0, &[0, 0, 1]), End(&[FRAME_SIZE])),
    (
        "6.9.1 a window past its bound",
        |c| {
            c.send(kind::WINDOW_UPDATE, 0, 0, &0x7fff_ffffu32.to_be_bytes());
            c.send(kind::WINDOW_UPDATE, 0, 0, &0x7fff_ffffu32.to_be_bytes());
        },
        End(&[FLOW_CONTROL]),
    ),
    (
        "6.9.1 a stream's window past its bound",
        |c| {
            c.send(kind::HEADERS, OPEN, 1, &post(&[]));
            c.send(kind::WINDOW_UPDATE, 0, 1, &0x7fff_ffffu32.to_be_bytes());
            c.send(kind::WINDOW_UPDATE, 0, 1, &0x7fff_ffffu32.to_be_bytes());
        },
        Reset(&[FLOW_CONTROL]),
    ),
    (
        "6.9.1 no more is sent than the window holds",
        |c| {
            c.send(kind::SETTINGS, 0, 0, &setting(4, 1));
            c.request(1, &get("/"));
            assert_eq!(c.find(|f| f.kind == kind::DATA).expect("data").payload.len(), 1);
            assert!(c.lives(), "and then it waits");
            c.send(kind::WINDOW_UPDATE, 0, 1, &[0, 0, 0, 1]);
            assert_eq!(c.find(|f| f.kind == kind::DATA).expect("data").payload.len(), 1);
        },
        Live,
    ),
    (
        "6.9.2 a window opened by new settings",
        |c| {
            c.send(kind::SETTINGS, 0, 0, &setting(4, 0));
            c.request(1, &get("/"));
            c.find(|f| f.kind == kind::HEADERS).expect("a head");
            c.send(kind::SETTINGS, 0, 0, &setting(4, 1));
            assert_eq!(c.find(|f| f.kind == kind::DATA).expect("data").payload.len(), 1);
        },
        Live,
    ),
    (
        "6.9.2 a window below zero",
        |c| {
            c.send(kind::SETTINGS, 0, 0, &setting(4, 3));
            c.request(1, &get("/"));
            assert_eq!(c.find(|f| f.kind == kind::DATA).expect("data").payload.len(), 3);
            c.send(kind::SETTINGS, 0, 0, &setting(4, 2));
            c.send(kind::WINDOW_UPDATE, 0, 1, &[0, 0, 0, 2]);
            assert_eq!(c.find(|f| f.kind == kind::DATA).expect("data").payload.len(), 1);
        },
        Live,
    ),
    (
        "6.9.2 settings that push a window past its bound",
        |c| {
            c.send(kind::HEADERS, OPEN, 1, &post(&[]));
            c.send(kind::WINDOW_UPDATE, 0, 1, &[0x7f, 0xff, 0, 0]);
            c.send(kind::SETTINGS, 0, 0, &setting(4, 0x7fff_ffff));
        },
        End(&[FLOW_CONTROL]),
    ),
    (
        "6.10 several CONTINUATIONs",
        |c| {
            c.send(kind::HEADERS, flag::END_STREAM, 1, &get("/"));
            c.send(kind::CONTINUATION, 0, 1, &block(&[("a", "b")]));
            c.send(kind::CONTINUATION, flag::END_HEADERS, 1, &block(&[("c", "d")]));
        },
        Answer,
    ),
    (
        "6.10 DATA instead of a CONTINUATION",
        |c| {
            c.send(kind::HEADERS, 0, 1, &post(&[]));
            c.send(kind::DATA, flag::END_STREAM, 1, b"x");
        },
        End(&[PROTOCOL]),
    ),
    (
        "6.10 a CONTINUATION on the connection",
        |c| {
            c.send(kind::HEADERS, 0, 1, &get("/"));
            c.send(kind::CONTINUATION, flag::END_HEADERS, 0, &block(&[("x", "y")]));
        },
        End(&[PROTOCOL]),
    ),
    (
        "6.10 a CONTINUATION behind a block's end",
        |c| {
            c.send(kind::HEADERS, OPEN, 1, &post(&[]));
            c.send(kind::CONTINUATION, flag::END_HEADERS, 1, &block(&[("x", "y")]));
        },
        End(&[PROTOCOL, STREAM_CLOSED]),
    ),
    (
        "6.10 a CONTINUATION behind a CONTINUATION that ended",
        |c| {
            c.send(kind::HEADERS, 0, 1, &post(&[]));
            c.send(kind::CONTINUATION, flag::END_HEADERS, 1, &block(&[("x", "y")]));
            c.send(kind::CONTINUATION, flag::END_HEADERS, 1, &block(&[("x", "y")]));
        },
        End(&[PROTOCOL, STREAM_CLOSED]),
    ),
    (
        "6.10 a CONTINUATION behind DATA",
        |c| {
            c.send(kind::HEADERS, OPEN, 1, &post(&[]));
            c.send(kind::DATA, 0, 1, b"x");
            c.send(kind::CONTINUATION, flag::END_HEADERS, 1, &block(&[("x", "y")]));
        },
        End(&[PROTOCOL, STREAM_CLOSED]),
    ),
];

const MESSAGES: &[Case] = &[
    ("8.1 a plain request", |c| _ = c.request(1, &get("/")), Answer),
    ("8.1 HEAD", |c| head(c, &[(":method", "HEAD"), (":scheme", "http"), (":path", "/"), (":authority", "t")]), Answer),
    (
        "8.1 OPTIONS *",
        |c| head(c, &[(":method", "OPTIONS"), (":scheme", "http"), (":path", "*"), (":authority", "t")]),
        Answer,
    ),
    (
        "8.1 pseudo-fields in any order",
        |c| head(c, &[(":path", "/"), (":authority", "t"), (":scheme", "http"), (":method", "GET")]),
        Answer,
    ),
    (
        "8.1 trailers",
        |c| {
            c.send(kind::HEADERS, OPEN, 1, &post(&[("trailer", "x-sum")]));
            c.send(kind::DATA, 0, 1, b"x");
            c.send(kind::HEADERS, END, 1, &block(&[("x-sum", "1")]));
        },
        Answer,
    ),
    (
        "8.1 a second head that does not end",
        |c| {
            c.send(kind::HEADERS, OPEN, 1, &post(&[]));
            c.send(kind::HEADERS, OPEN, 1, &block(&[("x", "y")]));
        },
        Reset(&[PROTOCOL]),
    ),
    ("8.2 a name in upper case", |c| with(c, &[("X-Test", "ok")]), Reset(&[PROTOCOL])),
    ("8.2.2 Connection", |c| with(c, &[("connection", "keep-alive")]), Reset(&[PROTOCOL])),
    ("8.2.2 Transfer-Encoding", |c| with(c, &[("transfer-encoding", "chunked")]), Reset(&[PROTOCOL])),
    ("8.2.2 Upgrade", |c| with(c, &[("upgrade", "h2c")]), Reset(&[PROTOCOL])),
    ("8.2.2 Keep-Alive", |c| with(c, &[("keep-alive", "5")]), Reset(&[PROTOCOL])),
    ("8.2.2 Proxy-Connection", |c| with(c, &[("proxy-connection", "close")]), Reset(&[PROTOCOL])),
    ("8.2.2 TE other than trailers", |c| with(c, &[("te", "trailers, deflate")]), Reset(&[PROTOCOL])),
    ("8.2.2 TE: trailers", |c| with(c, &[("te", "trailers")]), Answer),
    ("8.3 an unknown pseudo-field", |c| with(c, &[(":test", "ok")]), Reset(&[PROTOCOL])),
    ("8.3 a pseudo-field of answers", |c| with(c, &[(":status", "200")]), Reset(&[PROTOCOL])),
    (
        "8.3 a pseudo-field behind others",
        |c| head(c, &[(":method", "GET"), (":scheme", "http"), ("x", "y"), (":path", "/"), (":authority", "t")]),
        Reset(&[PROTOCOL]),
    ),
    (
        "8.3.1 an empty path",
        |c| head(c, &[(":method", "GET"), (":scheme", "http"), (":path", ""), (":authority", "t")]),
        Reset(&[PROTOCOL]),
    ),
    ("8.3.1 no method", |c| head(c, &[(":scheme", "http"), (":path", "/"), (":authority", "t")]), Reset(&[PROTOCOL])),
    ("8.3.1 no scheme", |c| head(c, &[(":method", "GET"), (":path", "/"), (":authority", "t")]), Reset(&[PROTOCOL])),
    ("8.3.1 no path", |c| head(c, &[(":method", "GET"), (":scheme", "http"), (":authority", "t")]), Reset(&[PROTOCOL])),
    (
        "8.3.1 two methods",
        |c| {
            head(c, &[(":method", "GET"), (":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "t")])
        },
        Reset(&[PROTOCOL]),
    ),
    (
        "8.3.1 two schemes",
        |c| {
            head(
                c,
                &[(":method", "GET"), (":scheme", "http"), (":scheme", "http"), (":path", "/"), (":authority", "t")],
            )
        },
        Reset(&[PROTOCOL]),
    ),
    (
        "8.3.1 two paths",
        |c| head(c, &[(":method", "GET"), (":scheme", "http"), (":path", "/"), (":path", "/"), (":authority", "t")]),
        Reset(&[PROTOCOL]),
    ),
    (
        "8.3.1 two authorities",
        |c| {
            head(
                c,
                &[(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "t"), (":authority", "t")],
            )
        },
        Reset(&[PROTOCOL]),
    ),
    (
        "8.1.1 a length that DATA does not have",
        |c| {
            c.send(kind::HEADERS, OPEN, 1, &post(&[("content-length", "1")]));
            c.send(kind::DATA, flag::END_STREAM, 1, b"test");
        },
        Reset(&[PROTOCOL]),
    ),
    (
        "8.1.1 a length that several DATA do not have",
        |c| {
            c.send(kind::HEADERS, OPEN, 1, &post(&[("content-length", "1")]));
            c.send(kind::DATA, 0, 1, b"test");
            c.send(kind::DATA, flag::END_STREAM, 1, b"test");
        },
        Reset(&[PROTOCOL]),
    ),
    (
        "8.1.1 less than the length",
        |c| {
            c.send(kind::HEADERS, OPEN, 1, &post(&[("content-length", "9")]));
            c.send(kind::DATA, flag::END_STREAM, 1, b"test");
        },
        Reset(&[PROTOCOL]),
    ),
    ("8.1.1 a length without DATA", |c| _ = c.request(1, &post(&[("content-length", "9")])), Reset(&[PROTOCOL])),
];

/// The library calls a block that cannot be decoded a PROTOCOL_ERROR, and ends the connection as it must.
const BLOCK: &[u32] = &[COMPRESSION, PROTOCOL];

/// `:method GET`, `:scheme http`, `:path /` by index, `:authority` in full.
const INDEXED: [u8; 6] = [0x82, 0x86, 0x84, 0x01, 0x01, b't'];

fn hpack(c: &mut Frames, more: &[u8]) {
    c.request(1, &[&INDEXED, more].concat());
}

const HPACK: &[Case] = &[
    ("2.3.3 fields by index", |c| hpack(c, &[]), Answer),
    ("2.3.3 an index that is nowhere", |c| hpack(c, &[0xc6]), End(BLOCK)),
    ("2.3.3 a name by an index that is nowhere", |c| hpack(c, &[0x7e, 1, b'x']), End(BLOCK)),
    ("4.2 a new table size at the end of a block", |c| hpack(c, &[0x21]), End(BLOCK)),
    ("4.2 a new table size at the beginning", |c| _ = c.request(1, &[&[0x20][..], &INDEXED].concat()), Answer),
    ("5.2 padding of more than seven bits", |c| hpack(c, &[0x00, 0x01, b'x', 0x82, 0x1f, 0xff]), End(BLOCK)),
    ("5.2 padding of other bits than ones", |c| hpack(c, &[0x00, 0x01, b'x', 0x81, 0x18]), End(BLOCK)),
    ("5.2 the end symbol", |c| hpack(c, &[0x00, 0x01, b'x', 0x84, 0xff, 0xff, 0xff, 0xff]), End(BLOCK)),
    ("5.2 a length past the block", |c| hpack(c, &[0x00, 0x7f, 0x80, 0x01]), End(BLOCK)),
    ("5.1 an integer without end", |c| hpack(c, &[0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]), End(BLOCK)),
    ("6.1 index 0", |c| hpack(c, &[0x80]), End(BLOCK)),
    ("6.2.1 a literal that is indexed, and used", |c| hpack(c, &[0x40, 1, b'a', 1, b'b', 0xbe]), Answer),
    ("6.2.2 a literal that is not indexed", |c| hpack(c, &[0x00, 1, b'a', 1, b'b']), Answer),
    ("6.2.3 a literal never to be indexed", |c| hpack(c, &[0x10, 1, b'a', 1, b'b']), Answer),
    ("6.2 a literal with a known name", |c| hpack(c, &[0x0f, 0x2b, 1, b'b']), Answer),
    ("6.2 a literal in the code of HPACK", |c| hpack(c, &[0x00, 1, b'a', 0x82, 0x10, 0x9f]), Answer),
    (
        "6.3 a table larger than allowed",
        |c| _ = c.request(1, &[&[0x3f, 0xe2, 0x1f][..], &INDEXED].concat()),
        End(BLOCK),
    ),
];

fn verdict(frame: Option<&Frame>) -> String {
    frame.map_or("the end".into(), |f| format!("kind {} on {} with {:?}", f.kind, f.stream, f.error()))
}

fn check(c: &mut Frames, name: &str, must: &Must) {
    match must {
        Live => assert!(c.lives(), "{name}"),
        Answer => {
            let answer = c.head(1);
            assert_eq!(answer.as_ref().and_then(Frame::status), Some(200), "{name}: {}", verdict(answer.as_ref()));
            assert!(c.lives(), "{name}");
        }
        End(codes) => {
            let goaway = c.find(|f| f.kind == kind::GOAWAY);
            if let Some(code) = goaway.as_ref().and_then(Frame::error) {
                assert!(codes.contains(&code), "{name}: {}", verdict(goaway.as_ref()));
            }
            assert!(c.next().is_none(), "{name}: it goes on");
        }
        Reset(codes) => {
            let end = c.find(|f| f.error().is_some());
            if let Some(code) = end.as_ref().and_then(Frame::error) {
                assert!(codes.contains(&code), "{name}: {}", verdict(end.as_ref()));
            }
        }
    }
}

/// Those that fail, without TLS and with it.
fn all(cases: &[Case], within: std::time::Duration) -> Vec<String> {
    let (pki, a) = (Pki::new(), Origin::named("a long enough answer"));
    pki.issue("site.pem", &["shop.example"]);
    let port = free_port();
    let tls = format!("{{ addr = \"127.0.0.1:{port}\", tls = {{ cert = {:?} }} }}", pki.text("site.pem"));
    let config =
        app_h2(&[&a], "timeout = { server = \"2s\" }").replace("h2c = true }", &format!("h2c = true }}, {tls}"));
    let lb = Instance::start(&config);
    let tunnel = server(python("tls_tunnel.py"), &port.to_string());
    let over_tls = failing(cases, ([127, 0, 0, 1], tunnel.port).into(), within);
    let plain = failing(cases, lb.addr, within);
    plain.into_iter().chain(over_tls.into_iter().map(|name| format!("over TLS: {name}"))).collect()
}

fn failing(cases: &[Case], addr: SocketAddr, within: std::time::Duration) -> Vec<String> {
    let failed = |(name, act, must): &Case| {
        let started = std::time::Instant::now();
        let told = std::panic::catch_unwind(|| {
            let mut c = Frames::connect(addr);
            c.patience(within);
            act(&mut c);
            check(&mut c, name, must);
        });
        // An end must be told, not waited out.
        let late = matches!(must, End(_) | Reset(_)) && started.elapsed() >= within;
        (told.is_err() || late).then(|| (*name).to_owned())
    };
    cases.iter().filter_map(failed).collect()
}

const SOON: std::time::Duration = std::time::Duration::from_secs(5);

#[test]
fn frames_are_read_as_the_rfc_says() {
    assert_eq!(all(FRAMES, SOON), [""; 0]);
}

#[test]
fn streams_pass_through_their_states_as_the_rfc_says() {
    assert_eq!(all(STATES, SOON), [""; 0]);
}

#[test]
fn each_kind_of_frame_is_held_to_its_rules() {
    assert_eq!(all(KINDS, SOON), [""; 0]);
}

#[test]
fn messages_are_well_formed_or_refused() {
    assert_eq!(all(MESSAGES, SOON), [""; 0]);
}

#[test]
fn header_blocks_are_decoded_as_rfc_7541_says() {
    assert_eq!(all(HPACK, SOON), [""; 0]);
}

#[test]
fn a_connection_begins_with_the_preface_and_settings() {
    let a = Origin::named("a");
    let lb = Instance::start(&app_h2(&[&a], ""));
    // In pieces.
    let mut c = Frames::silent(lb.addr);
    for piece in PREFACE.chunks(5) {
        assert!(c.bytes(piece));
    }
    c.send(kind::SETTINGS, 0, 0, &[]);
    assert_eq!(c.next().expect("settings").kind, kind::SETTINGS);
    assert!(c.lives());
    // Something else instead of settings.
    let mut c = Frames::silent(lb.addr);
    c.bytes(&[PREFACE, &frame(kind::PING, 0, 0, b"12345678")].concat());
    assert_eq!(c.find(|f| f.kind == kind::GOAWAY).and_then(|f| f.error()), Some(PROTOCOL));
    // No preface: it is read as HTTP/1.1.
    let mut c = lb.client();
    c.send("PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n");
    assert_eq!(c.answer().map(|a| a.status), Some(505));
    assert!(c.closed());
    let mut c = lb.client();
    assert_eq!(c.get("/", "").text(), "a");
}

#[test]
fn a_pseudo_field_in_trailers_reaches_no_server() {
    let a = Origin::named("a");
    let lb = Instance::start(&app_h2(&[&a], ""));
    let mut c = Frames::connect(lb.addr);
    c.send(kind::HEADERS, OPEN, 1, &post(&[]));
    c.send(kind::DATA, 0, 1, b"x");
    c.send(kind::HEADERS, END, 1, &block(&[(":path", "/other"), ("x-sum", "1")]));
    c.head(1).expect("an answer, or a reset");
    assert!(a.seen().iter().all(|seen| seen.body == b"x" && !seen.head.contains("other")), "{:?}", a.seen());
}

#[test]
fn without_h2c_the_preface_is_no_request() {
    let a = Origin::named("a");
    let lb = Instance::start(&crate::app(&[&a], ""));
    let mut c = lb.client();
    c.send([PREFACE, &frame(kind::SETTINGS, 0, 0, &[])].concat());
    assert_eq!(c.answer().map(|a| a.status), Some(505));
    assert_eq!(a.seen(), []);
}

#[test]
fn a_block_of_raw_bytes_is_what_the_tests_say_it_is() {
    assert_eq!(raw_block(&[(b"a", b"b")]), [0, 1, b'a', 1, b'b']);
    assert_eq!(block(&[("a", &"x".repeat(200))])[..5], [0, 1, b'a', 127, 73]);
}
