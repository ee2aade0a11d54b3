//! A frame of each kind, with values that leave no field at its default where they can.
use lb_core::config::KeyKind;
use lb_core::decisions::Decision;
use lb_core::hlc::Stamp;
use lb_core::id::{NameId, Names, NodeId};
use lb_core::server::AdminState;
use lb_core::table::Update;
use lb_peers::wire::{Entries, Frame, Goodbye, Hello, Part, Refusal, RefuseCode, Schema};
use std::time::Duration;

/// File names and what is in them, as an instance says it whose newest protocol is this.
pub(crate) fn examples(protocol: u32) -> Vec<(&'static str, Frame)> {
    let one_bucket = |bucket: usize| (0..128).map(|byte| u8::from(byte == bucket / 8) << (bucket % 8)).collect();
    let parts = vec![Part { table: 3, buckets: Vec::new() }, Part { table: 4, buckets: one_bucket(777) }];
    let text = "table \"sessions\": a has type string of len 64, b has type integer".into();
    vec![
        ("hello", Frame::Hello(hello(protocol))),
        ("tables", Frame::Tables(schemas())),
        ("refuse", Frame::Refuse(Refusal { code: RefuseCode::Table, text })),
        ("goodbye", Frame::Goodbye(Goodbye::Stopping)),
        ("ping", Frame::Ping { sent: 123_456_789 }),
        ("pong", Frame::Pong { sent: 123_456_789, wall_ms: 1_790_000_000_123 }),
        ("pulled", Frame::Pulled),
        ("batch", Frame::Batch { number: 42, table: 3, entries: entries() }),
        ("ack", Frame::Ack { number: 42, taken: 3, refused: 1 }),
        ("pull_request", Frame::PullRequest { pull: 2, parts }),
        ("pull_batch", Frame::PullBatch { pull: 2, table: 3, entries: entries() }),
        ("pull_ack", Frame::PullAck { pull: 2 }),
        ("pull_done", Frame::PullDone { pull: 2, entries: 1_000_000, partial: true }),
        ("digest", Frame::Digest { table: 3, buckets: (0..1024).map(|n: u64| n << 54 | n).collect() }),
        ("ask", Frame::Ask { id: 9, table: 3, key: b"client-1".to_vec() }),
        ("answer", Frame::Answer { id: 9, table: 3, entries: entries() }),
        ("answer_nothing", Frame::Answer { id: 9, table: 0, entries: Entries::default() }),
        ("decisions", Frame::Decisions(decisions())),
    ]
}

fn hello(protocol: u32) -> Hello {
    Hello {
        protocol,
        min_protocol: 1,
        cluster: "shop".into(),
        node: "lb1".into(),
        incarnation: 0x0123_4567_89ab_cdef,
        listen: "192.0.2.7:8405".into(),
        wall_ms: 1_790_000_000_123,
        pulled: true,
        tables: schemas(),
        release: "0.1.0".into(),
    }
}

fn schemas() -> Vec<Schema> {
    let kinds = [KeyKind::Ip, KeyKind::Ipv6, KeyKind::Integer, KeyKind::String, KeyKind::Binary];
    let schema = |(id, kind)| Schema { id, name: format!("table{id}"), kind: Some(kind), len: 8 * u64::from(id) };
    (1..).zip(kinds).map(schema).collect()
}

/// Pins of two servers by two nodes, their stamps in no order; the last is a tombstone.
fn entries() -> Entries {
    let names = Names::default();
    let update = |key: &str, server, clock, node: &str, seconds: u64| Update {
        key: key.as_bytes().into(),
        server,
        stamp: Stamp::new(clock, NodeId::new(node, 7)),
        left: Duration::from_millis(seconds * 1000 + 1),
        holders: Vec::new(),
    };
    let (epoch, app1, app2) = (1_790_000_000_000 << 16, names.intern("app1"), names.intern("app2"));
    let all = [
        update("client-1", app1, epoch + 70_000, "lb1", 600),
        update("client-2", app2, epoch + 3, "lb2", 0),
        update("a key of another length", app1, epoch + (1 << 40), "lb1", 86_400),
        update("cleared", NameId::NONE, epoch + 65_536, "lb2", 1200),
    ];
    Entries::pack(all.into_iter().collect(), &names)
}

fn decisions() -> Vec<Decision> {
    let drain = Decision {
        server: ("web".into(), "app1".into()),
        state: Some(AdminState::Drain),
        weight: Some(0),
        closing: None,
        stamp: Stamp::new(1_790_000_000_000 << 16 | 5, NodeId::new("lb1", 7)),
        node: "lb1".into(),
        author: "ann".into(),
        reason: "a new disk".into(),
        at: 1_790_000_000_000,
    };
    let mut back = drain.clone();
    (back.server.1, back.state, back.weight) = ("app2".into(), None, None);
    vec![drain, back]
}
