//! Frames that only make work: the connection is ended, memory stays where it was, and others are answered meanwhile.
use crate::app_h2;
use lb_tests::frames::{block, flag, frame, get, kind};
use lb_tests::{Frames, Instance, Origin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const OPEN: u8 = flag::END_HEADERS;
const END: u8 = flag::END_HEADERS | flag::END_STREAM;

/// Bytes to be sent at the beginning, and bytes to be sent again and again; the stream they begin with, and whether it
/// grows.
type Flood = (&'static str, fn(u32) -> Vec<u8>);

fn ping(_: u32) -> Vec<u8> {
    frame(kind::PING, 0, 0, b"12345678")
}

fn post() -> Vec<u8> {
    block(&[(":method", "POST"), (":scheme", "http"), (":path", "/"), (":authority", "test")])
}

/// Each is called with 1, 3, 5, …
const FLOODS: &[Flood] = &[
    ("PING", ping),
    ("SETTINGS", |_| frame(kind::SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 100])),
    ("empty SETTINGS", |_| frame(kind::SETTINGS, 0, 0, &[])),
    ("PRIORITY", |id| frame(kind::PRIORITY, 0, id, &[0, 0, 0, 0, 16])),
    ("WINDOW_UPDATE", |_| frame(kind::WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1])),
    ("unknown frames", |_| frame(0x77, 0, 0, b"x")),
    ("rapid reset", |id| {
        [frame(kind::HEADERS, END, id, &get("/")), frame(kind::RST_STREAM, 0, id, &[0, 0, 0, 8])].concat()
    }),
    ("rapid reset of bodies", |id| {
        [frame(kind::HEADERS, OPEN, id, &post()), frame(kind::RST_STREAM, 0, id, &[0, 0, 0, 8])].concat()
    }),
    ("made you reset by WINDOW_UPDATE", |id| {
        [frame(kind::HEADERS, END, id, &get("/")), frame(kind::WINDOW_UPDATE, 0, id, &[0; 4])].concat()
    }),
    ("made you reset by an overflow", |id| {
        let most = 0x7fff_ffffu32.to_be_bytes();
        [frame(kind::HEADERS, OPEN, id, &post()), frame(kind::WINDOW_UPDATE, 0, id, &most)].concat()
    }),
    ("made you reset by a malformed head", |id| frame(kind::HEADERS, END, id, &block(&[(":method", "GET")]))),
    ("made you reset by DATA past its length", |id| {
        let head = [post(), block(&[("content-length", "1")])].concat();
        [frame(kind::HEADERS, OPEN, id, &head), frame(kind::DATA, flag::END_STREAM, id, b"xx")].concat()
    }),
    ("more streams than allowed", |id| frame(kind::HEADERS, OPEN, id, &post())),
    ("empty DATA", |id| {
        let head = if id == 1 { frame(kind::HEADERS, OPEN, 1, &post()) } else { Vec::new() };
        [head, frame(kind::DATA, 0, 1, b"")].concat()
    }),
    ("DATA of padding", |id| {
        let head = if id == 1 { frame(kind::HEADERS, OPEN, 1, &post()) } else { Vec::new() };
        [head, frame(kind::DATA, flag::PADDED, 1, &[3, 0, 0, 0])].concat()
    }),
    ("CONTINUATION", |id| {
        let head = if id == 1 { frame(kind::HEADERS, flag::END_STREAM, 1, &get("/")) } else { Vec::new() };
        [head, frame(kind::CONTINUATION, 0, 1, &block(&[("x", &"y".repeat(1000))]))].concat()
    }),
    ("empty CONTINUATION", |id| {
        let head = if id == 1 { frame(kind::HEADERS, flag::END_STREAM, 1, &get("/")) } else { Vec::new() };
        [head, frame(kind::CONTINUATION, 0, 1, b"")].concat()
    }),
];

/// Those that are tried on a connection whose answers nobody reads, too.
const UNREAD: &[&str] = &["PING", "SETTINGS", "rapid reset", "made you reset by WINDOW_UPDATE"];

/// How much a flood may add to the proxy's memory.
const MEMORY: usize = 16 << 20;

fn quick(lb: &Instance) -> Duration {
    let started = Instant::now();
    assert_eq!(lb.client().get("/", "").text(), "a");
    started.elapsed()
}

#[test]
fn a_flood_ends_its_connection_and_nobody_elses() {
    let a = Origin::named("a");
    let lb = Instance::start(&app_h2(&[&a], ""));
    quick(&lb);
    let first = lb.memory();
    let mut wrong = Vec::new();
    let unread = FLOODS.iter().filter(|(name, _)| UNREAD.contains(name)).map(|flood| (flood, false));
    for ((name, flood), read) in FLOODS.iter().map(|flood| (flood, true)).chain(unread) {
        let before = lb.memory();
        let mut c = Frames::connect(lb.addr);
        let mut reader = c.again();
        let over = AtomicBool::new(false);
        let (ended, slowest) = std::thread::scope(|scope| {
            scope.spawn(|| {
                while read && reader.next().is_some() {}
                over.store(read, Ordering::SeqCst);
            });
            let writer = scope.spawn(|| {
                let until = Instant::now() + Duration::from_secs(15);
                let mut id = 1;
                while Instant::now() < until && !over.load(Ordering::SeqCst) {
                    let bytes: Vec<u8> = (0..200).flat_map(|i| flood(id + 2 * i)).collect();
                    id += 400;
                    if !c.bytes(&bytes) {
                        break;
                    }
                }
                let ended = Instant::now() < until;
                c.shutdown();
                ended
            });
            let mut slowest = Duration::ZERO;
            while !writer.is_finished() {
                slowest = slowest.max(quick(&lb));
            }
            (writer.join().expect("no panic"), slowest)
        });
        let grown = lb.memory().saturating_sub(before);
        if !ended || slowest > Duration::from_secs(1) || grown > MEMORY {
            wrong.push(format!("{name}, read {read}: ended {ended}, slowest {slowest:?}, {} KiB more", grown >> 10));
        }
    }
    assert_eq!(wrong, [""; 0]);
    let all = lb.memory().saturating_sub(first);
    assert!(all < 2 * MEMORY, "{} KiB more after all of them", all >> 10);
    assert!(lb.admin_text("/metrics").contains("lb_http2_connections_closed_total{frontend=\"web\",reason=\"flood\"}"));
    let floods = lb.admin_text("/metrics");
    let floods = floods.lines().find(|l| l.starts_with("lb_http2_connections_closed_total") && l.contains("flood"));
    let floods: u32 = floods.and_then(|l| l.rsplit(' ').next()).and_then(|n| n.parse().ok()).unwrap_or(0);
    assert!(floods >= 8, "{floods} counted as floods");
}

#[test]
fn a_bomb_of_hpack_costs_no_more_than_a_head() {
    let a = Origin::named("a");
    let lb = Instance::start(&app_h2(&[&a], ""));
    quick(&lb);
    let before = lb.memory();
    let mut c = Frames::connect(lb.addr);
    // Four thousand bytes enter the table once, and are named again by one byte each.
    let entry = [&[0x40, 1, b'x'][..], &[127, 0x81, 0x1e], &[b'y'; 4000]].concat();
    let many = [get("/"), entry, vec![0xbe; 12_000]].concat();
    c.request(1, &many);
    c.head(1).expect("an answer");
    for i in 1..50 {
        c.request(1 + 2 * i, &[get("/"), vec![0xbe; 12_000]].concat());
    }
    assert!(quick(&lb) < Duration::from_secs(1));
    assert!(lb.memory().saturating_sub(before) < MEMORY, "{} KiB", lb.memory().saturating_sub(before) >> 10);
    assert_eq!(a.seen().len(), 2);
}

#[test]
fn windows_held_at_zero_hold_little_memory() {
    let a = Origin::answering(|seen| {
        lb_tests::origin::Reply::Body(if seen.head.starts_with("GET /quick") {
            "a".into()
        } else {
            "x".repeat(1 << 20)
        })
    });
    let lb = Instance::start(&app_h2(&[&a], ""));
    assert_eq!(lb.client().get("/quick", "").text(), "a");
    let before = lb.memory();
    let mut held: Vec<_> = (0..2).map(|_| Frames::connect(lb.addr)).collect();
    for c in &mut held {
        c.send(kind::SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]);
        for i in 0..100 {
            c.request(1 + 2 * i, &get("/"));
        }
        for _ in 0..100 {
            c.find(|f| f.kind == kind::HEADERS).expect("a head");
        }
    }
    assert_eq!(lb.client().get("/quick", "").text(), "a");
    let grown = lb.memory().saturating_sub(before);
    // Two hundred answers that wait, each with what was read of it at first.
    assert!(grown < MEMORY, "{} KiB", grown >> 10);
}
