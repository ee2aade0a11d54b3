//! Counters on a link: when they are sent, and what comes of those that are received.
use super::*;
use crate::wire::Counts;
use lb_core::counters::{Counter, Event};
use lb_core::table::{KeyCounts, NodeCounts, StickKey};

fn key() -> StickKey {
    StickKey::parse(KeyKind::String, 64, "k").unwrap()
}

/// What `b` counted of a key.
fn counts(name: &str, clock_ms: u64, n: u64) -> Counts {
    let slot = NodeCounts {
        node: NodeId::new("b", 5),
        seq: clock_ms << 16,
        age: Duration::ZERO,
        numbers: vec![[n, 0, 0], [7, 7, 7]],
    };
    let left = Duration::from_secs(60);
    let keys =
        vec![KeyCounts { key: name.as_bytes().into(), left, cleared: 0, kept: Duration::ZERO, slots: vec![slot] }];
    Counts { store: vec!["http_req_cnt".into(), "of_a_later_release(3)".into()], keys }
}

/// Any counters, some of them with fewer numbers than they have names.
pub(super) fn any_counts() -> impl Strategy<Value = Counts> {
    let clock = prop_oneof![Just(WALL.0), any::<u64>()];
    ("[a-c]{0,3}", clock, any::<u64>(), 0usize..3).prop_map(|(name, ms, n, len)| {
        let mut counts = counts(&name, ms >> 1, n);
        counts.keys[0].slots[0].numbers.truncate(len);
        counts
    })
}

impl Bench {
    /// Requests counted here in the frames sent since the last time.
    fn told(&mut self) -> Vec<(u64, u64)> {
        let told = self.sent().into_iter().filter_map(|frame| match frame {
            Frame::Counts { number, counts, .. } => Some((*number, counts.keys[0].slots[0].numbers[0][0])),
            _ => None,
        });
        let told = told.collect();
        self.outputs.clear();
        told
    }

    /// Lets the time between two readings pass.
    fn rest(&mut self) {
        self.pass(Duration::from_millis(101));
        self.outputs.clear();
    }

    fn count(&mut self) {
        self.table.count(&key(), &[Event::Request], self.now().wall);
        self.input(Input::Changed);
    }
}

#[test]
fn the_first_count_of_a_quiet_time_is_told_at_once_and_what_follows_ten_times_a_second() {
    let mut bench = Bench::new(Vec::new());
    let link = bench.up();
    bench.rest();
    bench.count();
    assert_eq!(bench.told(), [(1, 1)]);
    bench.receive(link, Frame::CountsAck { number: 1, refused: 0 });
    let mut told = Vec::new();
    for _ in 0..100 {
        bench.count();
        bench.pass(Duration::from_millis(3));
        told.extend(bench.told().into_iter().map(|(_, n)| n));
    }
    bench.pass(Duration::from_millis(100));
    told.extend(bench.told().into_iter().map(|(_, n)| n));
    assert!((3..=4).contains(&told.len()) && told.last() == Some(&101), "{told:?}");
}

#[test]
fn a_peer_that_acknowledges_nothing_costs_no_more_than_the_window() {
    let mut bench = Bench::new(Vec::new());
    let link = bench.up();
    let mut sent = Vec::new();
    for _ in 0..40 {
        bench.count();
        bench.pass(Duration::from_millis(101));
        bench.receive(link, Frame::Pong { sent: 0, wall_ms: 0 });
        sent.extend(bench.told());
    }
    assert_eq!(sent.len(), 16);
    // It is told the rest, once, when it has caught up.
    bench.receive(link, Frame::CountsAck { number: 16, refused: 0 });
    assert_eq!(bench.told(), [(17, 40)]);
}

#[test]
fn a_stream_that_broke_goes_on_with_what_was_not_acknowledged() {
    let mut bench = Bench::new(Vec::new());
    let link = bench.up();
    bench.rest();
    bench.count();
    assert_eq!(bench.told(), [(1, 1)]);
    bench.input(Input::Closed { link, error: "broken".into() });
    let link = bench.up();
    assert_eq!(bench.told(), [(1, 1)]);
    bench.receive(link, Frame::CountsAck { number: 1, refused: 0 });
    bench.input(Input::Closed { link, error: "broken".into() });
    let link = bench.up();
    assert_eq!(bench.told(), []);
    // In a new life it has forgotten.
    bench.input(Input::Closed { link, error: "broken".into() });
    let link = bench.accept();
    bench.receive(link, Frame::Hello(Hello { incarnation: 6, pulled: false, ..hello() }));
    assert_eq!(bench.told(), [(1, 1)]);
}

#[test]
fn a_peer_of_the_protocol_before_is_told_no_counters_and_may_tell_none() {
    let mut bench = Bench::new(Vec::new());
    let link = bench.accept();
    bench.receive(link, Frame::Hello(Hello { protocol: 1, ..hello() }));
    bench.count();
    bench.receive(link, Frame::PullRequest { pull: 1, parts: vec![wire::Part { table: 9, buckets: Vec::new() }] });
    bench.pass(Duration::from_millis(1));
    assert!(bench.sent().iter().any(|frame| matches!(frame, Frame::PullDone { pull: 1, .. })));
    assert_eq!(bench.told(), []);
    bench.receive(link, Frame::Counts { number: 1, pull: 0, table: 9, counts: counts("k", WALL.0, 1) });
    assert!(bench.is_closed(link));
}

#[test]
fn what_a_peer_counted_is_merged_and_acknowledged_and_what_is_absurd_refused() {
    let mut bench = Bench::new(Vec::new());
    let link = bench.up();
    bench.receive(link, Frame::Counts { number: 1, pull: 0, table: 9, counts: counts("k", WALL.0, 5) });
    let absurd = counts("k", WALL.0 + 400 * 86_400_000, 500);
    bench.receive(link, Frame::Counts { number: 2, pull: 0, table: 9, counts: absurd });
    bench.receive(link, Frame::Counts { number: 3, pull: 0, table: 77, counts: counts("k", WALL.0, 6) });
    for (number, refused) in [(1, 0), (2, 1), (3, 1)] {
        assert!(bench.sent().contains(&&Frame::CountsAck { number, refused }));
    }
    let now = bench.now().wall;
    assert_eq!(bench.table.counter(&key(), Counter::HttpReqCnt, now), 5);
}

#[test]
fn a_pull_brings_the_counters_of_all_nodes_after_the_pins() {
    let mut bench = Bench::new(Vec::new());
    let link = bench.up();
    bench.rest();
    bench.count();
    bench.receive(link, Frame::Counts { number: 1, pull: 0, table: 9, counts: counts("other", WALL.0, 5) });
    bench.outputs.clear();
    bench.receive(link, Frame::PullRequest { pull: 4, parts: vec![wire::Part { table: 9, buckets: Vec::new() }] });
    bench.pass(Duration::from_millis(1));
    let frames = bench.sent();
    let keys = frames.iter().filter_map(|frame| match frame {
        Frame::Counts { number: 0, pull: 4, counts, .. } => Some(&counts.keys),
        _ => None,
    });
    let mut keys: Vec<&[u8]> = keys.flatten().map(|counts| &*counts.key).collect();
    keys.sort_unstable();
    assert_eq!(keys, [&b"k"[..], b"other"]);
    assert!(matches!(frames.last(), Some(Frame::PullDone { pull: 4, .. })));
}
