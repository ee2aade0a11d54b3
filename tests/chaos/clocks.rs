//! Clocks that are wrong by an hour, and clocks that jump.
use crate::{CLIENTS, Servers, agree, nobody_moved};
use lb_tests::crowd::{Pins, ask, newcomers};
use lb_tests::{Crowd, Host, Instance, eventually, within};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Life of an entry where expiry is the matter.
const EXPIRE: Duration = Duration::from_secs(3);
/// How late an entry may go on a busy machine.
const LATE: Duration = Duration::from_millis(2500);

fn library() -> PathBuf {
    let dirs = std::fs::read_dir("/usr/lib").into_iter().flatten().flatten();
    let found = dirs.map(|dir| dir.path().join("faketime/libfaketimeMT.so.1")).find(|path| path.exists());
    found.expect("libfaketime, which tests/run installs")
}

/// A host whose wall clock is wrong; time that was measured stays right.
fn host(clock: (&'static str, String)) -> Host {
    let library = library().display().to_string();
    let mut env = vec![("LD_PRELOAD", library), ("FAKETIME_DONT_FAKE_MONOTONIC", "1".into())];
    env.push(clock);
    Host { env, ..Host::default() }
}

fn wrong_by(offset: &str) -> Host {
    host(("FAKETIME", offset.to_owned()))
}

/// A host whose wall clock is wrong by what this file says.
fn wrong_as_in(file: &Path) -> Host {
    let mut host = host(("FAKETIME_TIMESTAMP_FILE", file.display().to_string()));
    host.env.push(("FAKETIME_NO_CACHE", "1".into()));
    host
}

/// Waits until an instance shows that another's clock is wrong by so many hours.
fn shows(lb: &Instance, of: &str, hours: f64) {
    let offset = || {
        let all = lb.api("/api/peers");
        all["peers"].as_array()?.iter().find(|p| p["name"] == of)?["clock_offset_ms"].as_f64()
    };
    let right = |ms: f64| (ms / 3_600_000.0 - hours).abs() < 0.01;
    eventually("the offset is shown", || offset().is_some_and(right));
}

/// Pins a key again and again, at every instance in turn; the last word holds everywhere.
fn repinned_in_turn(cluster: &[Instance], key: &str) {
    for (lb, node) in
        cluster.iter().zip(["node2", "node3", "node1"]).chain(cluster.iter().zip(["node3", "node1", "node2"]))
    {
        lb.json(&["table", "set", "sessions", key, node]);
        for other in cluster {
            eventually("the later pin wins", || other.pin("sessions", key).as_deref() == Some(node));
        }
    }
}

/// Waits until an entry made (or touched last) at `since` is gone from all; it went neither early nor late.
fn expires(cluster: &[Instance], key: &str, since: Instant, meanwhile: impl Fn(Duration)) {
    let mut gone = vec![None; cluster.len()];
    eventually("it expires everywhere", || {
        meanwhile(since.elapsed());
        for (lb, gone) in cluster.iter().zip(&mut gone) {
            if gone.is_none() && lb.pin("sessions", key).is_none() {
                *gone = Some(since.elapsed());
            }
        }
        gone.iter().all(Option::is_some)
    });
    for (lb, gone) in cluster.iter().zip(gone) {
        let gone = gone.unwrap_or_default();
        assert!(gone >= EXPIRE && gone < EXPIRE + LATE, "{key} was gone from {} after {gone:?}", lb.name);
    }
}

#[test]
fn with_clocks_an_hour_apart_the_later_pin_wins_and_all_are_equal() {
    let servers = Servers::new();
    let cluster = Instance::cluster_on(&[Host::default(), wrong_by("+1h"), wrong_by("-1h")], &servers.config());
    shows(&cluster[0], "lb2", 1.0);
    shows(&cluster[0], "lb3", -1.0);
    let new = |i: usize| newcomers(&cluster[i], &format!("k{i}-"), CLIENTS / 3);
    let pins: Pins = [new(0), new(1), new(2)].concat();
    agree(&cluster, pins.len());
    let crowd = Crowd::of(&pins, &[&cluster[0], &cluster[1], &cluster[2]]);
    repinned_in_turn(&cluster, "moved");
    nobody_moved(&cluster, &pins);
    assert_eq!(crowd.complaints(), [""; 0]);
    agree(&cluster, pins.len() + 1);
}

#[test]
fn with_clocks_an_hour_apart_entries_expire_neither_early_nor_late() {
    let servers = Servers::new();
    let hosts = [Host::default(), wrong_by("+1h"), wrong_by("-1h")];
    let cluster = Instance::cluster_on(&hosts, &servers.config_with("expire = \"3s\""));
    for (i, lb) in cluster.iter().enumerate() {
        let (key, since) = (format!("short{i}"), Instant::now());
        ask(lb, &key);
        for other in &cluster {
            within(EXPIRE / 2, "it is everywhere", || other.pin("sessions", &key).is_some());
        }
        expires(&cluster, &key, since, |_| {});
    }
}

/// A wall clock that can be set.
struct Clock(TempDir);

impl Clock {
    fn new() -> Self {
        let clock = Self(TempDir::new().expect("a directory"));
        clock.set(0);
        clock
    }

    fn file(&self) -> PathBuf {
        self.0.path().join("clock")
    }

    /// So many seconds ahead of the right time.
    fn set(&self, ahead: i64) {
        // In one step: a file half written would be one more clock.
        let draft = self.0.path().join("draft");
        std::fs::write(&draft, format!("{ahead:+}"))
            .and_then(|()| std::fs::rename(&draft, self.file()))
            .expect("a clock");
    }
}

#[test]
fn a_clock_that_is_set_while_an_instance_runs_moves_no_client_and_loses_no_pin() {
    let (servers, clock) = (Servers::new(), Clock::new());
    let hosts = [Host::default(), wrong_as_in(&clock.file()), Host::default()];
    let cluster = Instance::cluster_on(&hosts, &servers.config());
    let mut pins = Pins::new();
    for hours in [1, -1, 0] {
        clock.set(3600 * hours);
        shows(&cluster[0], "lb2", hours as f64);
        pins.extend(newcomers(&cluster[1], &format!("at{hours}-"), CLIENTS / 3));
        agree(&cluster, pins.len());
        repinned_in_turn(&cluster, "moved");
        nobody_moved(&cluster, &pins);
        cluster[0].json(&["table", "clear", "sessions", "--key", "moved"]);
        agree(&cluster, pins.len());
    }
}

#[test]
fn a_clock_that_is_set_while_an_instance_runs_ends_no_entry_early_or_late() {
    let (servers, clock) = (Servers::new(), Clock::new());
    let hosts = [Host::default(), wrong_as_in(&clock.file())];
    let cluster = Instance::cluster_on(&hosts, &servers.config_with("expire = \"3s\""));
    for lb in &cluster {
        let (key, since) = (format!("by-{}", lb.name), Instant::now());
        lb.json(&["table", "set", "sessions", &key, "node1"]);
        for other in &cluster {
            within(EXPIRE / 2, "it is everywhere", || other.pin("sessions", &key).is_some());
        }
        expires(&cluster, &key, since, |elapsed| clock.set([7200, -7200, 3600][elapsed.as_secs() as usize % 3]));
    }
}
