//! Whatever comes in at the port costs the connection it came on, and nothing else: a good peer's link stays as it is,
//! and goes on to replicate.
#![allow(clippy::unwrap_used)]

mod support;

use lb_core::hlc::Stamp;
use lb_core::id::{NameId, Names, NodeId};
use lb_core::table::{Holder, Update};
use lb_peers::wire::{Entries, Frame, RefuseCode};
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use support::stranger::{Stranger, announced, hello, message};
use support::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

/// Two good nodes, linked.
struct Pair {
    a: Node,
    b: Node,
    since: Instant,
    told: u32,
}

impl Pair {
    async fn new() -> Self {
        // As configured by default: these frames are great, and this machine may be small.
        let patient = |name: &str, join: &[SocketAddr]| {
            let mut settings = settings(name, join);
            settings.config.heartbeat = Duration::from_secs(1);
            settings
        };
        let a = Node::start(patient("a", &[])).await;
        let b = Node::start(patient("b", &[a.addr()])).await;
        b.pulled().await;
        a.sees("b").await;
        b.sees("a").await;
        Self { a, b, since: Instant::now(), told: 0 }
    }

    /// The good peers replicate both ways, over the link that they have had from the beginning.
    async fn is_unharmed(&mut self) {
        self.told += 1;
        let (there, back) = (format!("there {}", self.told), format!("back {}", self.told));
        self.a.pin(&there, "app1");
        self.b.has(&there, "app1").await;
        self.b.pin(&back, "app2");
        self.a.has(&back, "app2").await;
        let up_for = self.a.peer("b").and_then(|b| b.up_for).expect("b is up");
        assert!(up_for + 1 >= self.since.elapsed().as_secs(), "the link was lost, and came back");
    }

    async fn greeting(&self, name: &str) -> Stranger {
        let stranger = Stranger::greeting(self.a.addr(), name).await;
        self.a.sees(name).await;
        stranger
    }

    /// Bytes as a message: they cost the connection.
    async fn takes_no(&mut self, bytes: &[u8]) {
        let mut stranger = self.greeting("x").await;
        stranger.send(message(bytes)).await;
        stranger.loses_its_connection().await;
        eventually("the stranger is down", || !self.a.is_up("x")).await;
        self.is_unharmed().await;
    }

    /// A frame: it costs the connection, and the stranger is told why.
    async fn refuses(&mut self, bytes: &[u8], why: &str) {
        let mut stranger = self.greeting("x").await;
        stranger.send(message(bytes)).await;
        let said = stranger.loses_its_connection().await;
        let Some(Frame::Refuse(refusal)) = said.last() else { panic!("{why}: {said:?}") };
        assert!(refusal.code == RefuseCode::Malformed && refusal.text.contains(why), "{}", refusal.text);
        eventually("it is shown", || self.a.refusal().is_some_and(|text| text.contains(why))).await;
        self.is_unharmed().await;
    }
}

/// splitmix64
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    fn bytes(&mut self, n: usize) -> Vec<u8> {
        (0..n).map(|_| self.next() as u8).collect()
    }
}

fn update(key: &[u8], ms: u64, left: Duration) -> Update {
    let stamp = Stamp::new(ms << 16, NodeId::new("x", 5));
    Update { key: key.into(), server: NameId(1), stamp, left, holders: Vec::new() }
}

fn entries(updates: Vec<Update>) -> Entries {
    let names = Names::default();
    assert_eq!(names.intern("app9"), NameId(1));
    Entries::pack(updates.into_iter().collect(), &names)
}

/// A batch whose columns are given: lengths of keys, servers, clocks, nodes, lives.
fn columns(keys: &[u8], of: [&[u8]; 5]) -> Vec<u8> {
    let field = |number: u8, bytes: &[u8]| [&[number << 3 | 2][..], &varint(bytes.len()), bytes].concat();
    let [key_len, server, clock, node, left] = of;
    let nodes = field(6, &[1, 0, 0, 0]);
    let columns = [field(2, key_len), field(3, b"app9"), field(4, server), field(5, clock), nodes, field(7, node)];
    let entries = [field(1, keys), columns.concat(), field(8, left)].concat();
    let batch = [&[1 << 3, 1, 2 << 3, 9][..], &field(3, &entries)].concat();
    field(10, &batch)
}

fn varint(mut n: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while n >= 0x80 {
        bytes.push(n as u8 | 0x80);
        n >>= 7;
    }
    bytes.push(n as u8);
    bytes
}

#[test]
fn random_bytes_on_the_port() {
    on_one_thread(async {
        let (mut pair, mut random, mut strangers) = (Pair::new().await, Random(1), Vec::new());
        for round in 0..40 {
            let mut stranger = TcpStream::connect(pair.a.addr()).await.unwrap();
            if round % 2 == 0 {
                let _ = stranger.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
            }
            let _ = stranger.write_all(&random.bytes(1 << (round % 17))).await;
            strangers.push(stranger);
        }
        pair.is_unharmed().await;
        for mut stranger in strangers {
            let mut rest = Vec::new();
            let _ = timeout(PATIENCE, stranger.read_to_end(&mut rest)).await.expect("it is closed");
        }
        pair.is_unharmed().await;
    });
}

#[test]
fn random_bytes_as_a_message() {
    on_one_thread(async {
        let (mut pair, mut random) = (Pair::new().await, Random(2));
        for length in [1, 10, 100, 10_000, 1_000_000] {
            // Field 0 of protobuf does not exist: no luck makes this a frame.
            let bytes = [&[0][..], &random.bytes(length)].concat();
            pair.takes_no(&bytes).await;
        }
        // Before any greeting, too.
        let mut stranger = Stranger::open(pair.a.addr(), 1 << 20).await;
        stranger.send(message(&[0; 100])).await;
        stranger.loses_its_connection().await;
        pair.is_unharmed().await;
    });
}

#[test]
fn columns_that_lie() {
    on_one_thread(async {
        let mut pair = Pair::new().await;
        let one = [0].as_slice();
        // A key of so many bytes, of which there are three; then of none.
        pair.refuses(&columns(b"abc", [&varint(u32::MAX as usize), one, one, one, &[9]]), "shorter").await;
        pair.refuses(&columns(b"abc", [one, one, one, one, &[9]]), "longer").await;
        pair.refuses(&columns(b"a", [&[1], &[7], one, one, &[9]]), "no server").await;
        pair.refuses(&columns(b"a", [&[1], &[1], one, &[7], &[9]]), "no node").await;
        pair.refuses(&columns(b"a", [&[1], &[1], one, one, &[9, 9]]), "differ in length").await;
    });
}

#[test]
fn columns_without_end() {
    on_one_thread(async {
        let mut pair = Pair::new().await;
        // As many entries as a frame can hold, all of them of an empty key.
        let column = vec![0; 800_000];
        let all = columns(b"", [&column; 5]);
        assert!(all.len() > 3 << 20 && all.len() < 4 << 20);
        pair.refuses(&all, "too many entries").await;
        // And operators' decisions on nothing.
        let decisions = [10, 0].repeat(1 << 20);
        let frame = [&[0x9a, 1][..], &varint(decisions.len()), &decisions].concat();
        pair.refuses(&frame, "too many decisions").await;
    });
}

#[test]
fn absurd_stamps_are_refused_one_by_one_and_move_no_clock() {
    on_one_thread(async {
        let mut pair = Pair::new().await;
        let mut stranger = pair.greeting("x").await;
        let (far, life) = (Duration::from_secs(25 * 3600), Duration::from_secs(60));
        let ahead = now().0 + far.as_millis() as u64;
        let rows = vec![
            update(b"far", ahead, life),
            update(b"farthest", u64::MAX >> 16, life),
            update(b"good", now().0, life),
            update(b"old", 0, life),
        ];
        stranger.say(Frame::Batch { number: 1, table: 9, entries: entries(rows) }).await;
        let ack =
            stranger.hears(|f| if let Frame::Ack { taken, refused, .. } = f { Some((taken, refused)) } else { None });
        assert_eq!(ack.await, Some((2, 2)));
        assert_eq!(pair.a.server_of("far").or(pair.a.server_of("farthest")), None);
        let stamp = pair.a.settings.clock.stamp(now());
        assert!(stamp.time().0 < now().0 + 60_000, "our clock has stayed with the wall: {stamp:?}");
        assert!(pair.a.is_up("x"), "what is good of a peer is taken");
        pair.is_unharmed().await;
    });
}

#[test]
fn a_life_without_end_is_cut_to_the_tables() {
    on_one_thread(async {
        let mut pair = Pair::new().await;
        let mut stranger = pair.greeting("x").await;
        let lives = [1 << 63, u64::MAX].map(Duration::from_millis);
        let mut rows: Vec<_> =
            lives.iter().enumerate().map(|(i, left)| update(format!("k{i}").as_bytes(), now().0, *left)).collect();
        // And a socket that is never closed, by a clock of its own.
        rows[0].holders = vec![Holder { node: NodeId::new("x", 5), seq: u64::MAX, left: lives[1] }];
        stranger.say(Frame::Batch { number: 1, table: 9, entries: entries(rows) }).await;
        for key in ["k0", "k1"] {
            pair.a.has(key, "app9").await;
            assert!(pair.a.left(key) <= pair.a.table.spec().expire);
        }
        pair.is_unharmed().await;
    });
}

#[test]
fn keys_that_no_table_has() {
    on_one_thread(async {
        let mut pair = Pair::new().await;
        let mut stranger = pair.greeting("x").await;
        let rows = [&b""[..], &[b'k'; 65], &[0; 100_000]].map(|key| update(key, now().0, Duration::from_secs(60)));
        for (number, table) in [(1, 9), (2, 7777)] {
            stranger.say(Frame::Batch { number, table, entries: entries(rows.to_vec()) }).await;
            let ack = stranger.hears(|f| if let Frame::Ack { refused, .. } = f { Some(refused) } else { None }).await;
            assert_eq!(ack, Some(3));
        }
        pair.is_unharmed().await;
        assert_eq!(pair.a.table.stats().entries, 2, "the good peers' own");
    });
}

#[test]
fn a_frame_of_a_gibibyte() {
    on_one_thread(async {
        let mut pair = Pair::new().await;
        for size in [1 << 30, u32::MAX, (4 << 20) + 1] {
            let mut stranger = pair.greeting("x").await;
            stranger.send(announced(size).freeze()).await;
            stranger.loses_its_connection().await;
            eventually("it is said so", || !pair.a.is_up("x")).await;
            let error = pair.a.peer("x").and_then(|x| x.error);
            assert_eq!(error.as_deref(), Some("it sent a frame of more than 4 MiB"));
        }
        pair.is_unharmed().await;
    });
}

#[test]
fn a_frame_that_is_announced_and_never_comes() {
    on_one_thread(async {
        let mut pair = Pair::new().await;
        let mut stranger = pair.greeting("x").await;
        stranger.send(announced(4 << 20).freeze()).await;
        stranger.send(vec![0; 1000].into()).await;
        stranger.loses_its_connection().await;
        pair.is_unharmed().await;
    });
}

#[test]
fn a_peer_that_never_reads() {
    on_one_thread(async {
        let mut pair = Pair::new().await;
        // Not one byte may be sent to it, and every frame of it wants an answer.
        let mut stranger = Stranger::open(pair.a.addr(), 0).await;
        stranger.say(Frame::Hello(hello("x"))).await;
        // Many more than may be out at a time.
        for sent in 0..4000 {
            if !stranger.say(Frame::Ping { sent }).await {
                break;
            }
        }
        let _ = timeout(PATIENCE, stranger.connection).await.expect("it is closed");
        eventually("it is said so", || pair.a.peer("x").is_some_and(|x| x.state == "down")).await;
        assert_eq!(pair.a.peer("x").and_then(|x| x.error).as_deref(), Some("it does not read what it is sent"));
        pair.is_unharmed().await;
    });
}

#[test]
fn a_half_open_link() {
    on_one_thread(async {
        let mut pair = Pair::new().await;
        // It greeted, and went without a word; another never greeted.
        let (greeted, silent) = (pair.greeting("x").await, Stranger::open(pair.a.addr(), 1 << 20).await);
        greeted.loses_its_connection().await;
        silent.loses_its_connection().await;
        assert_eq!(pair.a.peer("x").and_then(|x| x.error).as_deref(), Some("it does not answer"));
        pair.is_unharmed().await;
    });
}

#[test]
fn an_address_where_somebody_accepts_and_says_nothing() {
    on_one_thread(async {
        let silent = TcpListener::bind(any_port()).await.unwrap();
        let at = silent.local_addr().unwrap();
        let a = Node::start(settings("a", &[at])).await;
        let b = Node::joining("b", &[&a]).await;
        a.sees("b").await;
        let mut held = Vec::new();
        for _ in 0..2 {
            held.push(timeout(PATIENCE, silent.accept()).await.expect("it is tried again").unwrap());
        }
        let shown = || a.peer(&at.to_string()).is_some_and(|p| p.error.is_some_and(|e| e.contains("does not answer")));
        eventually("it is shown", shown).await;
        a.pin("k", "app1");
        b.has("k", "app1").await;
    });
}

/// Frames that are good on their own, in an order and with numbers that no peer sends.
#[test]
fn good_frames_out_of_place() {
    on_one_thread(async {
        let mut pair = Pair::new().await;
        let ours = |number| Frame::Batch { number, table: 9, entries: Entries::default() };
        for (frame, why) in [
            (Frame::Hello(hello("x")), "two hellos"),
            (ours(2), "out of order"),
            (ours(u64::MAX), "out of order"),
            (Frame::Ack { number: 99_999, taken: 0, refused: 0 }, "acknowledgement of what was not sent"),
            (Frame::Digest { table: 9, buckets: vec![1, 2, 3] }, "another size"),
            (Frame::Compared { table: 9, buckets: vec![1, 2, 3] }, "another size"),
        ] {
            pair.refuses(&frame.to_bytes(), why).await;
        }
        let mut stranger = pair.greeting("x").await;
        let part = |buckets| lb_peers::wire::Part { table: 9, buckets };
        for frame in [
            Frame::PullAck { pull: 77 },
            Frame::PullDone { pull: 77, entries: u64::MAX, partial: true },
            Frame::PullBatch { pull: 77, table: 9, entries: Entries::default() },
            Frame::Pong { sent: u64::MAX, wall_ms: u64::MAX },
            Frame::Answer { id: u64::MAX, table: 9, entries: Entries::default() },
            Frame::Ask { id: 1, table: 9, key: vec![0; 100_000] },
            Frame::PullRequest { pull: u64::MAX, parts: vec![part(vec![0xff; 1]), part(vec![0xff; 100_000])] },
        ] {
            assert!(stranger.say(frame).await);
        }
        // It is still heard.
        stranger.say(Frame::Ping { sent: 5 }).await;
        assert!(stranger.hears(|f| (f == Frame::Pong { sent: 5, wall_ms: wall(&f) }).then_some(())).await.is_some());
        pair.is_unharmed().await;
    });
}

fn wall(frame: &Frame) -> u64 {
    if let Frame::Pong { wall_ms, .. } = frame { *wall_ms } else { 0 }
}
