//! Who gets new clients.
use super::*;
use crate::config;
use crate::hlc::Clock;
use crate::id::{Names, NodeId};
use crate::server::{AdminState, Health, InFlight};
use crate::snapshot::{Base, Snapshot};
use std::sync::Arc;
use std::time::Duration;

/// A backend with these lines and servers, the latter as `name more`.
fn snapshot(lines: &str, servers: &[&str]) -> Snapshot {
    built(lines, servers, &base(), None)
}

fn base() -> Base {
    let clock = Clock::new(NodeId::new("lb1", 1), Duration::from_secs(86_400));
    Base::new(Arc::new(Names::default()), Arc::new(clock), 1, 1)
}

fn built(lines: &str, servers: &[&str], base: &Base, previous: Option<&Snapshot>) -> Snapshot {
    let server = |text: &&str| {
        let (name, more) = text.split_once(' ').unwrap_or((text, ""));
        let port = 9000 + crate::hash::stable(name.as_bytes()) % 1000;
        format!("{{ name = \"{name}\", addr = \"127.0.0.1:{port}\"{more} }}")
    };
    let text = format!(
        "[frontend.web]\nlisten = \"127.0.0.1:0\"\nbackend = \"app\"\n[backend.app]\n{lines}\nserver = [{}]\n",
        servers.iter().map(server).collect::<Vec<_>>().join(", ")
    );
    let config = config::load(&text, "host", None, &|_| None).unwrap_or_else(|found| panic!("{found:?}\n{text}"));
    Snapshot::build(Arc::new(config), base, previous)
}

fn turn(key: Option<u64>, random: u64) -> Turn<'static> {
    Turn { worker: 0, key, random, now: Timestamp(1_000_000), excluded: &[] }
}

fn name(snapshot: &Snapshot, picked: Option<usize>) -> String {
    picked.map_or("nobody".into(), |i| snapshot.backends[0].servers[i].config.name.clone())
}

/// So many open requests on a server.
fn busy(snapshot: &Snapshot, server: usize, n: usize) -> Vec<InFlight> {
    (0..n).map(|_| snapshot.backends[0].servers[server].state.enter()).collect()
}

fn client(i: u64) -> u64 {
    hash::stable(format!("client-{i}").as_bytes())
}

/// How many of `n` clients each server gets; each stays.
fn shares(snapshot: &Snapshot, n: u64, turn: impl Fn(u64) -> Turn<'static>) -> (Vec<usize>, Vec<InFlight>) {
    let backend = &snapshot.backends[0];
    let (mut counts, mut held) = (vec![0; backend.servers.len()], Vec::new());
    for i in 0..n {
        let picked = pick(backend, &turn(i)).expect("somebody");
        counts[picked] += 1;
        held.push(backend.servers[picked].state.enter());
    }
    (counts, held)
}

/// Computed apart from this code, in another language.
#[test]
fn the_servers_of_hashed_keys_never_change() {
    let picks = |servers: &[&str]| -> String {
        let snapshot = snapshot("balance = \"source\"", servers);
        let last = |i| name(&snapshot, pick(&snapshot.backends[0], &turn(Some(client(i)), 0))).pop().unwrap_or('-');
        (0..40).map(last).collect()
    };
    assert_eq!(picks(&["node1", "node2", "node3", "node4"]), "4414433144143324214113114224423234313441");
    assert_eq!(
        picks(&["node1", "node2", "node3 , weight = 2", "node4 , weight = 5"]),
        "4414433444143344334143444244443244444444"
    );
    assert_eq!(picks(&["node4", "node2", "node3", "node1"]), picks(&["node1", "node2", "node3", "node4"]));
}

#[test]
fn when_a_hashed_server_goes_only_its_own_keys_move() {
    let snapshot = snapshot("balance = \"source\"", &["a", "b", "c", "d"]);
    let backend = &snapshot.backends[0];
    let all = |excluded| -> Vec<_> {
        (0..2000).filter_map(|i| pick(backend, &Turn { excluded, ..turn(Some(client(i)), 0) })).collect()
    };
    let (before, after) = (all(&[]), all(&[2]));
    assert!(before.iter().zip(&after).all(|(b, a)| b == a || *b == 2));
    let share = before.iter().filter(|b| **b == 2).count();
    assert!((400..600).contains(&share), "{share}");
}

#[test]
fn no_hashed_server_gets_more_than_its_bounded_part() {
    // All of one key: without a bound one server would get all.
    let snapshot = snapshot("balance = \"source\"\nload_bound = 150", &["a", "b , weight = 2", "c"]);
    let (counts, _held) = shares(&snapshot, 400, |_| turn(Some(client(7)), 0));
    for (count, part) in counts.iter().zip([100, 200, 100]) {
        assert!(*count <= part * 3 / 2 + 1, "{counts:?}");
    }
    assert_eq!(counts.iter().sum::<usize>(), 400);
}

#[test]
fn a_bound_moves_nobody_while_loads_are_even() {
    let (free, bound) = (
        snapshot("balance = \"source\"", &["a", "b", "c"]),
        snapshot("balance = \"source\"\nload_bound = 200", &["a", "b", "c"]),
    );
    let _held: Vec<_> = (0..3).map(|i| busy(&bound, i, 10)).collect();
    for i in 0..100 {
        let turn = turn(Some(client(i)), 0);
        assert_eq!(pick(&free.backends[0], &turn), pick(&bound.backends[0], &turn));
    }
}

#[test]
fn two_random_draws_spread_far_better_than_one() {
    let mut dice = 1u64;
    let mut roll = move || {
        dice = hash::stable(&dice.to_le_bytes());
        dice
    };
    let rolls: Vec<u64> = (0..2000).map(|_| roll()).collect();
    let spread = |balance: &str| {
        let snapshot = snapshot(&format!("balance = \"{balance}\""), &["a", "b", "c", "d", "e", "f", "g", "h"]);
        let (counts, _held) = shares(&snapshot, 2000, |i| turn(None, rolls[i as usize]));
        counts.iter().max().zip(counts.iter().min()).map(|(max, min)| max - min).unwrap_or_default()
    };
    let (one, two) = (spread("random(1)"), spread("random(2)"));
    assert!(two <= 6 && one > 3 * two, "{one} {two}");
    assert!(spread("random(8)") <= 1, "all are drawn: leastconn");
}

#[test]
fn random_draws_by_weight() {
    let snapshot = snapshot("balance = \"random\"", &["a", "b , weight = 3"]);
    let (counts, _held) = shares(&snapshot, 400, |i| turn(None, client(i)));
    assert!((95..=105).contains(&counts[0]), "{counts:?}");
}

#[test]
fn two_instances_draw_alike_for_one_key() {
    let (one, two) =
        (snapshot("balance = \"random\"", &["a", "b", "c"]), snapshot("balance = \"random\"", &["a", "b", "c"]));
    for i in 0..50 {
        assert_eq!(
            pick(&one.backends[0], &turn(Some(client(i)), 1)),
            pick(&two.backends[0], &turn(Some(client(i)), 2))
        );
    }
}

#[test]
fn first_fills_one_server_before_it_opens_the_next() {
    let snapshot = snapshot("balance = \"first\"", &["a , maxconn = 3", "b , maxconn = 2", "c , maxconn = 1"]);
    let (counts, held) = shares(&snapshot, 5, |_| turn(None, 0));
    assert_eq!(counts, [3, 2, 0]);
    drop(held);
    assert_eq!(name(&snapshot, pick(&snapshot.backends[0], &turn(None, 0))), "a", "the first again, once it has room");
    let _full: Vec<_> = [(0, 6), (1, 2), (2, 1)].iter().map(|(i, n)| busy(&snapshot, *i, *n)).collect();
    assert_ne!(name(&snapshot, pick(&snapshot.backends[0], &turn(None, 0))), "a", "all full: not the fullest");
}

#[test]
fn backups_wait_until_nobody_else_is_left() {
    let servers = ["a", "b", "x , backup = true", "y , backup = true"];
    let one = snapshot("", &servers);
    let all = snapshot("all_backups = true", &servers);
    let who = |snapshot: &Snapshot| -> std::collections::BTreeSet<String> {
        (0..10).map(|i| name(snapshot, pick(&snapshot.backends[0], &turn(None, i)))).collect()
    };
    assert_eq!(who(&one), ["a", "b"].map(String::from).into());
    for snapshot in [&one, &all] {
        snapshot.backends[0].servers[0].state.set_health(Health::Down, 1);
        assert_eq!(who(snapshot), ["b".to_owned()].into());
        snapshot.backends[0].servers[1].state.set_admin(AdminState::Drain);
    }
    assert_eq!(who(&one), ["x".to_owned()].into(), "the first of them alone");
    assert_eq!(who(&all), ["x", "y"].map(String::from).into());
    one.backends[0].servers[2].state.set_admin(AdminState::Maint);
    assert_eq!(who(&one), ["y".to_owned()].into());
    one.backends[0].servers[1].state.set_admin(AdminState::Ready);
    assert_eq!(who(&one), ["b".to_owned()].into());
    let excluded = &[1][..];
    assert_eq!(name(&one, pick(&one.backends[0], &Turn { excluded, ..turn(None, 0) })), "y", "it failed this request");
}

#[test]
fn weight_zero_takes_no_new_client_even_when_alone() {
    let snapshot = snapshot("", &["a , weight = 0", "b"]);
    snapshot.backends[0].servers[1].state.set_health(Health::Down, 1);
    assert_eq!(name(&snapshot, pick(&snapshot.backends[0], &turn(None, 0))), "nobody");
}

#[test]
fn a_server_that_comes_up_gets_its_part_little_by_little() {
    let snapshot = snapshot("slow_start = \"10s\"", &["a", "b"]);
    let backend = &snapshot.backends[0];
    let state = &backend.servers[1].state;
    let part = |now: u64| {
        let turn = |i| Turn { now: Timestamp(now), ..turn(None, i) };
        (0..1000).filter(|i| pick(backend, &turn(*i)) == Some(1)).count()
    };
    assert_eq!(part(1_000_000), 500, "nobody has come up since the start");
    state.set_health(Health::Down, 1_000_000);
    state.set_health(Health::Up, 1_005_000);
    assert!(part(1_005_000) <= 11);
    // Half the weight is a third of the clients.
    assert!((325..=340).contains(&part(1_010_000)), "{}", part(1_010_000));
    assert!((495..=505).contains(&part(1_015_000)));
}

#[test]
fn a_server_that_joins_starts_slowly_and_one_that_was_there_does_not() {
    let base = base();
    let old = built("slow_start = \"10s\"", &["a"], &base, None);
    let new = built("slow_start = \"10s\"", &["a", "b"], &base, Some(&old));
    let at = |server: usize, now| new.backends[0].servers[server].share(Timestamp(now));
    assert_eq!((at(0, 5_000), at(1, 5_000)), (1024, 10), "its time begins when somebody looks");
    assert_eq!((at(0, 10_000), at(1, 10_000)), (1024, 512));
    assert_eq!(at(1, 15_000), 1024);
}

#[test]
fn a_thousand_reconnecting_clients_reach_a_new_server_at_its_pace() {
    let snapshot = snapshot(
        "balance = \"leastconn\"\nslow_start = { time = \"60s\", pace = \"50/s\" }",
        &["a", "b , slow_start = \"0s\""],
    );
    let backend = &snapshot.backends[0];
    let _held = busy(&snapshot, 1, 1000);
    let state = &backend.servers[0].state;
    state.set_health(Health::Down, 1_000_000);
    state.set_health(Health::Up, 1_000_000);
    let mut held = Vec::new();
    // Half a minute, 100 clients a second.
    for ms in (0..30_000).step_by(10) {
        let picked = pick(backend, &Turn { now: Timestamp(1_000_000 + ms), ..turn(None, ms) });
        held.push(backend.servers[picked.expect("somebody")].state.enter());
        let most = 50 * ms / 1000 + 7;
        assert!(u64::from(state.in_flight()) <= most, "{} after {ms} ms", state.in_flight());
    }
    assert!(state.in_flight() > 900, "{}", state.in_flight());
    backend.servers[1].state.set_admin(AdminState::Maint);
    for _ in 0..500 {
        assert_eq!(pick(backend, &turn(None, 0)), Some(0), "nobody is refused for the pace");
    }
}
