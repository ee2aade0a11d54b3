//! One replicator, and what a peer of flesh and blood would not send.
use super::*;
use crate::wire::{Entries, PROTOCOL};
use lb_core::config::{KeyKind, PeerAddr};
use lb_core::hlc::Stamp;
use lb_core::id::{NameId, NodeId};
use lb_core::table::Update;
use lb_core::time::Timestamp;
use proptest::prelude::*;

mod counters;
mod names;

const WALL: Timestamp = Timestamp(1_790_000_000_000);

struct Bench {
    replicator: Replicator,
    table: Arc<StickTable>,
    at: Duration,
    outputs: Vec<Output>,
    accepted: u64,
}

fn peer_addr() -> SocketAddr {
    "10.0.0.2:8405".parse().unwrap()
}

fn config(join: Vec<PeerAddr>) -> config::Peers {
    config::Peers {
        cluster: "shop".into(),
        listen: "10.0.0.1:8405".parse().unwrap(),
        join,
        resolver: None,
        tls: None,
        join_timeout: Duration::from_secs(10),
        ask_timeout: Duration::from_millis(20),
        heartbeat: Duration::from_secs(1),
        anti_entropy: Duration::from_secs(10),
        max_clock_ahead: Duration::from_secs(86_400),
    }
}

fn hello() -> Hello {
    Hello {
        protocol: PROTOCOL,
        min_protocol: 1,
        cluster: "shop".into(),
        node: "b".into(),
        incarnation: 5,
        listen: peer_addr().to_string(),
        wall_ms: WALL.0,
        pulled: true,
        tables: vec![Schema { id: 9, name: "sessions".into(), kind: Some(KeyKind::String), len: 64 }],
        release: "0.1.0".into(),
    }
}

fn row(key: &str, clock_ms: u64) -> Update {
    let stamp = Stamp::new(clock_ms << 16, NodeId::new("b", 5));
    let left = Duration::from_secs(60);
    Update { key: key.as_bytes().into(), server: NameId(1), stamp, left, holders: Vec::new() }
}

fn entries(rows: Vec<Update>) -> Entries {
    let names = Names::default();
    assert_eq!(names.intern("app1"), NameId(1));
    Entries::pack(rows.into_iter().collect(), &names)
}

impl Bench {
    fn new(join: Vec<PeerAddr>) -> Self {
        let names = Arc::new(Names::default());
        let clock = Arc::new(Clock::new(NodeId::new("a", 1), Duration::from_secs(86_400)));
        let spec = config::Table {
            size: 10_000,
            expire: Duration::from_secs(600),
            store: vec![lb_core::counters::Counter::HttpReqCnt],
            ..config::Table::new("sessions", KeyKind::String)
        };
        let table = Arc::new(StickTable::new(Arc::new(spec), names.clone(), clock.clone(), 1));
        let (decisions, shared) = (Arc::default(), Arc::default());
        let config = config(join);
        let listen = config.listen;
        let time = lb_core::time::Steady::new(std::time::Instant::now(), WALL);
        let settings =
            crate::Settings { node: "a".into(), incarnation: 1, config, names, clock, decisions, shared, time };
        let setup = Setup { settings, listen, seed: 1 };
        let replicator =
            Replicator::new(setup, vec![table.clone()], Now { at: Duration::ZERO, wall: WALL, clock: WALL });
        let mut bench = Self { replicator, table, at: Duration::ZERO, outputs: Vec::new(), accepted: 0 };
        bench.drain();
        bench
    }

    fn drain(&mut self) {
        self.outputs.extend(std::iter::from_fn(|| self.replicator.poll_output()));
    }

    fn now(&self) -> Now {
        Now { at: self.at, wall: WALL.plus(self.at), clock: WALL.plus(self.at) }
    }

    fn input(&mut self, input: Input) {
        let now = self.now();
        self.replicator.handle(now, input);
        self.drain();
    }

    /// Lets time pass, turn by turn.
    fn pass(&mut self, time: Duration) {
        let until = self.at + time;
        while let Some(at) = self.replicator.poll_timeout(self.now()).filter(|at| *at <= until) {
            self.at = at.max(self.at + Duration::from_micros(10));
            self.input(Input::Tick);
        }
        self.at = until;
    }

    fn accept(&mut self) -> LinkId {
        self.accepted += 1;
        let link = LinkId::accepted(self.accepted);
        let remote = "10.0.0.2:40000".parse().unwrap();
        self.input(Input::Opened { link, side: Side::Acceptor, remote, certificate: None });
        link
    }

    fn receive(&mut self, link: LinkId, frame: Frame) {
        self.input(Input::Received { link, frame });
    }

    /// A link on which the peer `b` is up.
    fn up(&mut self) -> LinkId {
        let link = self.accept();
        self.receive(link, Frame::Hello(hello()));
        assert!(self.replicator.is_up("b"));
        link
    }

    fn sent(&self) -> Vec<&Frame> {
        let mut sent = Vec::new();
        for output in &self.outputs {
            if let Output::Send { frame, .. } = output {
                sent.push(frame);
            }
        }
        sent
    }

    fn refusal(&self) -> Option<&Refusal> {
        self.sent().into_iter().find_map(|f| if let Frame::Refuse(refusal) = f { Some(refusal) } else { None })
    }

    fn is_closed(&self, link: LinkId) -> bool {
        self.outputs.iter().any(|o| matches!(o, Output::Close { link: l } if *l == link))
    }

    fn dials(&self) -> Vec<LinkId> {
        self.outputs.iter().filter_map(|o| if let Output::Dial { link, .. } = o { Some(*link) } else { None }).collect()
    }

    fn status(&self) -> lb_core::status::PeersStatus {
        self.replicator.status(self.now())
    }
}

#[test]
fn a_peer_two_protocols_ahead_is_refused_and_one_that_still_speaks_ours_is_not() {
    let mut bench = Bench::new(Vec::new());
    let link = bench.accept();
    bench.receive(link, Frame::Hello(Hello { protocol: PROTOCOL + 2, min_protocol: PROTOCOL + 1, ..hello() }));
    let text = &bench.refusal().unwrap().text;
    assert!(text.contains("a has the peer protocols 1 to 2, b has the peer protocols 3 to 4"), "{text}");
    assert!(bench.is_closed(link));
    assert_eq!(bench.status().peers[0].reason.as_deref(), Some("protocol"));
    let mut bench = Bench::new(Vec::new());
    let link = bench.accept();
    bench.receive(link, Frame::Hello(Hello { protocol: PROTOCOL + 1, min_protocol: PROTOCOL, ..hello() }));
    assert!(bench.replicator.is_up("b"));
}

#[test]
fn a_certificate_must_name_the_node_that_shows_it() {
    let mut bench = Bench::new(Vec::new());
    let link = LinkId::accepted(1);
    let certificate = Some(vec!["c".to_owned()]);
    bench.input(Input::Opened { link, side: Side::Acceptor, remote: peer_addr(), certificate });
    bench.receive(link, Frame::Hello(hello()));
    assert_eq!(bench.refusal().unwrap().code, RefuseCode::Certificate);
    let status = bench.status();
    assert_eq!((status.peers.len(), status.peers[0].state.as_str()), (1, "refused"));
    assert!(status.peers[0].stranger && status.peers[0].reason.as_deref() == Some("certificate"));
    assert!(status.peers[0].error.as_ref().unwrap().contains("the certificate of b is for \"c\""));
}

#[test]
fn who_says_anything_before_hello_or_says_it_twice_is_sent_away() {
    for frames in [vec![Frame::Pulled], vec![Frame::Hello(hello()), Frame::Hello(hello())]] {
        let mut bench = Bench::new(Vec::new());
        let link = bench.accept();
        for frame in frames {
            bench.receive(link, frame);
        }
        assert_eq!(bench.refusal().unwrap().code, RefuseCode::Malformed);
        assert!(bench.is_closed(link));
    }
}

#[test]
fn what_no_peer_sends_costs_the_link() {
    let frames = [
        Frame::Ack { number: 7, taken: 1, refused: 0 },
        Frame::Batch { number: 2, table: 9, entries: Entries::default() },
        Frame::CountsAck { number: 7, refused: 0 },
        Frame::Counts { number: 2, pull: 0, table: 9, counts: wire::Counts::default() },
        Frame::Digest { table: 9, buckets: vec![1, 2, 3] },
        Frame::Compared { table: 9, buckets: vec![1, 2, 3] },
    ];
    for frame in frames {
        let mut bench = Bench::new(Vec::new());
        let link = bench.up();
        bench.receive(link, frame.clone());
        assert!(bench.is_closed(link), "{frame:?}");
    }
}

#[test]
fn what_names_things_unknown_here_is_counted_or_passed_over() {
    let mut bench = Bench::new(Vec::new());
    let link = bench.up();
    bench.receive(link, Frame::Batch { number: 1, table: 77, entries: entries(vec![row("k", WALL.0)]) });
    bench.receive(link, Frame::PullAck { pull: 3 });
    bench.receive(link, Frame::PullDone { pull: 3, entries: 1, partial: false });
    bench.receive(link, Frame::Answer { id: 8, table: 77, entries: Entries::default() });
    bench.receive(link, Frame::PullRequest { pull: 1, parts: vec![wire::Part { table: 77, buckets: vec![1] }] });
    bench.receive(link, Frame::Unknown);
    assert!(!bench.is_closed(link));
    assert!(bench.sent().contains(&&Frame::Ack { number: 1, taken: 0, refused: 1 }));
    assert!(bench.sent().contains(&&Frame::PullDone { pull: 1, entries: 0, partial: false }));
}

#[test]
fn absurd_stamps_and_wrong_keys_are_refused_one_by_one() {
    let mut bench = Bench::new(Vec::new());
    let link = bench.up();
    let ages = 400 * 86_400_000;
    let rows = vec![row("good", WALL.0), row("absurd", WALL.0 + ages), row(&"x".repeat(65), WALL.0)];
    bench.receive(link, Frame::Batch { number: 1, table: 9, entries: entries(rows) });
    assert!(bench.sent().contains(&&Frame::Ack { number: 1, taken: 1, refused: 2 }));
    assert_eq!(bench.table.stats().entries, 1);
    assert_eq!(bench.status().peers[0].received, 3);
}

/// Any frame at all, of numbers that mean something here now and then.
fn any_frame() -> impl Strategy<Value = Frame> {
    let n = || prop_oneof![0u64..4, any::<u64>()];
    let table = || prop_oneof![Just(9u32), Just(1u32), any::<u32>()];
    let rows = || {
        let row = ("[a-c]{0,3}", prop_oneof![Just(WALL.0), any::<u64>()]).prop_map(|(key, ms)| row(&key, ms >> 1));
        proptest::collection::vec(row, 0..4).prop_map(entries)
    };
    let part = (table(), proptest::collection::vec(any::<u8>(), 0..200));
    let part = part.prop_map(|(table, buckets)| wire::Part { table, buckets });
    let digest = prop_oneof![0usize..3, Just(StickTable::BUCKETS)];
    prop_oneof![
        n().prop_map(|sent| Frame::Ping { sent }),
        (n(), n()).prop_map(|(sent, wall_ms)| Frame::Pong { sent, wall_ms }),
        Just(Frame::Pulled),
        (n(), table(), rows()).prop_map(|(number, table, entries)| Frame::Batch { number, table, entries }),
        (n(), any::<u32>()).prop_map(|(number, refused)| Frame::Ack { number, taken: 1, refused }),
        (n(), proptest::collection::vec(part, 0..3)).prop_map(|(pull, parts)| Frame::PullRequest { pull, parts }),
        (n(), table(), rows()).prop_map(|(pull, table, entries)| Frame::PullBatch { pull, table, entries }),
        n().prop_map(|pull| Frame::PullAck { pull }),
        (n(), n(), any::<bool>()).prop_map(|(pull, entries, partial)| Frame::PullDone { pull, entries, partial }),
        (table(), digest).prop_map(|(table, len)| Frame::Digest { table, buckets: vec![7; len] }),
        (table(), n(), any::<bool>()).prop_map(|(table, hash, full)| Frame::Root { table, hash, full }),
        (table(), prop_oneof![0usize..3, Just(StickTable::BUCKETS)])
            .prop_map(|(table, len)| Frame::Compared { table, buckets: vec![7; len] }),
        (n(), table()).prop_map(|(id, table)| Frame::Ask { id, table, key: b"k".to_vec() }),
        (n(), table(), rows()).prop_map(|(id, table, entries)| Frame::Answer { id, table, entries }),
        (n(), n(), table(), counters::any_counts()).prop_map(|(number, pull, table, counts)| Frame::Counts {
            number,
            pull,
            table,
            counts
        }),
        (n(), any::<u32>()).prop_map(|(number, refused)| Frame::CountsAck { number, refused }),
        Just(Frame::Tables(Vec::new())),
        Just(Frame::Tables(hello().tables)),
        Just(Frame::Unknown),
    ]
}

proptest! {
    #[test]
    fn no_frames_of_a_peer_make_the_node_panic_or_lose_its_wits(
        frames in proptest::collection::vec((any_frame(), 0u64..2000), 0..60),
    ) {
        let mut bench = Bench::new(Vec::new());
        let mut link = bench.up();
        for (frame, pause) in frames {
            if bench.is_closed(link) {
                link = bench.accept();
                bench.receive(link, Frame::Hello(hello()));
            }
            bench.receive(link, frame);
            bench.pass(Duration::from_millis(pause));
        }
        bench.status();
        // A better peer finds it in order.
        let link = bench.accept();
        bench.receive(link, Frame::Hello(Hello { node: "good".into(), incarnation: 77, ..hello() }));
        let good = Update { stamp: Stamp::new((WALL.0 + 1) << 16, NodeId::new("good", 77)), ..row("good", 0) };
        bench.receive(link, Frame::Batch { number: 1, table: 9, entries: entries(vec![good]) });
        let ack = Frame::Ack { number: 1, taken: 1, refused: 0 };
        prop_assert!(bench.sent().contains(&&ack));
    }
}

#[test]
fn a_link_that_never_greets_and_one_that_falls_silent_end() {
    let mut bench = Bench::new(Vec::new());
    let mute = bench.accept();
    bench.pass(Duration::from_secs(4));
    assert!(bench.is_closed(mute));
    let link = bench.up();
    bench.pass(Duration::from_millis(2900));
    assert!(!bench.is_closed(link));
    bench.pass(Duration::from_millis(200));
    assert!(bench.is_closed(link));
    let peer = &bench.status().peers[0];
    assert_eq!((peer.state.as_str(), peer.error.as_deref()), ("down", Some("it does not answer")));
}

#[test]
fn an_address_is_dialled_less_and_less_often_up_to_every_two_seconds() {
    let mut bench = Bench::new(vec![PeerAddr::Socket(peer_addr())]);
    let mut times = Vec::new();
    for _ in 0..12 {
        let link = *bench.dials().last().unwrap();
        times.push(bench.at);
        let (failure, error) = (Failure::Unreachable, "no route".to_owned());
        bench.input(Input::NotOpened { link, failure, error });
        let dials = bench.dials().len();
        while bench.dials().len() == dials {
            bench.pass(Duration::from_millis(5));
        }
    }
    let waits: Vec<_> = times.windows(2).map(|w| w[1] - w[0]).collect();
    assert!(waits[0] <= Duration::from_millis(110) && waits[0] >= Duration::from_millis(50), "{waits:?}");
    assert!(waits[10] <= Duration::from_millis(2100) && waits[10] >= Duration::from_millis(1000), "{waits:?}");
}

#[test]
fn a_refused_address_is_tried_every_five_seconds_and_a_lost_peer_at_once() {
    let mut bench = Bench::new(vec![PeerAddr::Socket(peer_addr())]);
    let link = bench.dials()[0];
    bench.input(Input::Opened { link, side: Side::Dialler, remote: peer_addr(), certificate: None });
    bench.receive(link, Frame::Hello(Hello { cluster: "blog".into(), ..hello() }));
    bench.pass(Duration::from_millis(4900));
    assert_eq!(bench.dials().len(), 1);
    bench.pass(Duration::from_millis(200));
    assert_eq!(bench.dials().len(), 2);
    let link = bench.dials()[1];
    bench.input(Input::Opened { link, side: Side::Dialler, remote: peer_addr(), certificate: None });
    bench.receive(link, Frame::Hello(hello()));
    bench.input(Input::Closed { link, error: "broken".into() });
    bench.pass(Duration::from_millis(110));
    assert_eq!(bench.dials().len(), 3);
}

#[test]
fn a_second_life_of_a_peer_replaces_the_first_and_tells_it_so() {
    let mut bench = Bench::new(Vec::new());
    let first = bench.up();
    let second = bench.accept();
    bench.receive(second, Frame::Hello(Hello { incarnation: 6, ..hello() }));
    assert!(bench.is_closed(first) && !bench.is_closed(second) && bench.replicator.is_up("b"));
    assert!(bench.refusal().unwrap().text.contains("another instance called \"b\""));
}

#[test]
fn of_two_streams_the_one_of_the_smaller_name_stays_in_whatever_order_they_come() {
    for dialled_first in [true, false] {
        let mut bench = Bench::new(vec![PeerAddr::Socket(peer_addr())]);
        let dialled = bench.dials()[0];
        let open = |bench: &mut Bench, first: bool| match first {
            true => {
                let (link, side, remote) = (dialled, Side::Dialler, peer_addr());
                bench.input(Input::Opened { link, side, remote, certificate: None });
                dialled
            }
            false => bench.accept(),
        };
        let one = open(&mut bench, dialled_first);
        bench.receive(one, Frame::Hello(hello()));
        let other = open(&mut bench, !dialled_first);
        bench.receive(other, Frame::Hello(hello()));
        let accepted = LinkId::accepted(1);
        assert!(bench.is_closed(accepted) && !bench.is_closed(dialled), "dialled first: {dialled_first}");
        // It is not dialled again while it is up.
        bench.receive(dialled, Frame::Ping { sent: 0 });
        bench.pass(Duration::from_secs(2));
        assert_eq!(bench.dials().len(), 1);
    }
}

#[test]
fn a_list_that_names_only_this_node_makes_it_ready_at_once() {
    let own = PeerAddr::Socket("10.0.0.1:8405".parse().unwrap());
    assert!(Bench::new(vec![own]).replicator.is_pulled());
    let name = |host: &str| PeerAddr::Name { host: host.into(), port: 8405 };
    let mut bench = Bench::new(vec![name("lb.internal")]);
    assert!(!bench.replicator.is_pulled());
    bench.looked_up(&name("lb.internal"), &["10.0.0.1:8405"], 5);
    assert!(bench.replicator.is_pulled());
}

#[test]
fn a_table_that_a_peer_does_not_have_is_not_in_sync_with_it() {
    let mut bench = Bench::new(Vec::new());
    let link = bench.up();
    bench.receive(link, Frame::Tables(Vec::new()));
    let peer = &bench.status().peers[0];
    assert_eq!((peer.in_sync, peer.tables[0].note.as_deref()), (Some(false), Some("it has no such table")));
}

#[test]
fn a_peer_of_the_protocol_before_is_sent_no_roots_and_says_why_nothing_is_known() {
    let mut bench = Bench::new(Vec::new());
    let link = bench.accept();
    bench.receive(link, Frame::Hello(Hello { protocol: 1, ..hello() }));
    for _ in 0..40 {
        bench.receive(link, Frame::Ping { sent: 0 });
        bench.pass(Duration::from_secs(1));
    }
    assert!(bench.replicator.is_up("b") && !bench.sent().iter().any(|f| matches!(f, Frame::Root { .. })));
    let peer = &bench.status().peers[0];
    assert_eq!(peer.in_sync, None);
    assert!(peer.tables[0].note.as_ref().unwrap().contains("release"), "{peer:?}");
}

#[test]
fn an_instance_that_finds_itself_behind_another_address_stops_dialling_it() {
    let mut bench = Bench::new(vec![PeerAddr::Socket(peer_addr())]);
    let link = bench.dials()[0];
    bench.input(Input::Opened { link, side: Side::Dialler, remote: peer_addr(), certificate: None });
    bench.receive(link, Frame::Hello(Hello { node: "a".into(), incarnation: 1, ..hello() }));
    bench.pass(Duration::from_secs(20));
    assert_eq!(bench.dials().len(), 1);
    assert!(bench.replicator.is_pulled() && bench.status().peers.is_empty());
}

#[test]
fn an_instance_whose_peers_cannot_be_reached_begins_alone_when_the_time_is_up() {
    let mut bench = Bench::new(vec![PeerAddr::Socket(peer_addr())]);
    bench.pass(Duration::from_millis(9900));
    assert!(!bench.replicator.is_pulled());
    bench.pass(Duration::from_millis(200));
    assert!(bench.replicator.is_pulled());
    assert!(bench.status().pull.contains("join_timeout"));
}

#[test]
fn names_of_strangers_cost_bounded_memory() {
    let mut bench = Bench::new(Vec::new());
    for i in 0..1000 {
        let link = bench.accept();
        bench.receive(link, Frame::Hello(Hello { node: format!("x{i}"), cluster: "blog".into(), ..hello() }));
        let link = bench.accept();
        bench.receive(link, Frame::Hello(Hello { node: format!("y{i}"), ..hello() }));
        bench.input(Input::Closed { link, error: "broken".into() });
    }
    assert!(bench.status().peers.len() <= 300);
}

#[test]
fn a_question_that_nobody_can_answer_is_done_at_once_and_one_that_nobody_answers_in_time() {
    let mut bench = Bench::new(Vec::new());
    let ask = |id| Input::Ask { id, table: "sessions".into(), key: b"k".to_vec() };
    let done =
        |bench: &Bench, id: u64| bench.outputs.iter().any(|o| matches!(o, Output::Answered { id: i } if *i == id));
    bench.input(ask(1));
    assert!(done(&bench, 1));
    let link = bench.up();
    bench.input(ask(2));
    assert!(bench.sent().iter().any(|f| matches!(f, Frame::Ask { id: 2, .. })));
    bench.pass(Duration::from_millis(19));
    assert!(!done(&bench, 2));
    bench.pass(Duration::from_millis(1));
    assert!(done(&bench, 2));
    bench.input(ask(3));
    bench.input(Input::Closed { link, error: "broken".into() });
    assert!(done(&bench, 3));
}
