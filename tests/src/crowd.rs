//! Clients that come back all the while, in no order, at whatever instance is open to them.
//!
//! A client is its value of `X-Key`. Servers tell their name as the body.
use crate::dice::Dice;
use crate::{Client, Instance};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// Between two visits: a crowd, not a benchmark.
const PAUSE: Duration = Duration::from_millis(2);

/// Clients and the servers they have.
pub type Pins = Vec<(String, String)>;

/// A client's request; the name of the server that answered.
///
/// # Panics
/// There was no proper answer.
pub fn ask(lb: &Instance, key: &str) -> String {
    visit(lb.addr, key).unwrap_or_else(|| panic!("{key} got no answer from {}", lb.name))
}

fn visit(door: SocketAddr, key: &str) -> Option<String> {
    let mut client = Client::try_connect(door)?;
    client.send(format!("GET / HTTP/1.1\r\nHost: test\r\nX-Key: {key}\r\n\r\n"));
    client.answer().filter(|a| a.status == 200).map(|a| a.text())
}

/// So many new clients, the first visit of each at this instance.
pub fn newcomers(lb: &Instance, name: &str, count: usize) -> Pins {
    (0..count)
        .map(|i| format!("{name}{i}"))
        .map(|key| (ask(lb, &key), key))
        .map(|(server, key)| (key, server))
        .collect()
}

/// Lets every client come back to this instance, in another order; those who find another server.
pub fn moved(lb: &Instance, pins: &Pins) -> Vec<String> {
    let mut order: Vec<_> = pins.iter().collect();
    Dice::new(pins.len() as u64).shuffle(&mut order);
    let found = order.into_iter().map(|(key, had)| (key, had, ask(lb, key)));
    found.filter(|(_, had, has)| *had != has).map(|(key, had, has)| format!("{key}: {had} -> {has}")).collect()
}

/// Clients at work.
pub struct Crowd {
    doors: Arc<Mutex<Vec<SocketAddr>>>,
    visits: Arc<AtomicU64>,
    ended: Arc<AtomicBool>,
    work: JoinHandle<Vec<String>>,
}

impl Crowd {
    /// Clients that know their server, and come back to any of these instances.
    pub fn of(pins: &Pins, doors: &[&Instance]) -> Self {
        let doors = Arc::new(Mutex::new(doors.iter().map(|lb| lb.addr).collect()));
        let (visits, ended): (Arc<AtomicU64>, Arc<AtomicBool>) = Default::default();
        let (pins, open, count, end) = (pins.clone(), doors.clone(), visits.clone(), ended.clone());
        let work = std::thread::spawn(move || come_and_go(&pins, &open, &count, &end));
        Self { doors, visits, ended, work }
    }

    /// From now on they come to these instances only; a visit that is under way has ended.
    pub fn only(&self, doors: &[&Instance]) {
        // The lock is held through each visit.
        if let Ok(mut open) = self.doors.lock() {
            *open = doors.iter().map(|lb| lb.addr).collect();
        }
    }

    /// Visits so far.
    pub fn visits(&self) -> u64 {
        self.visits.load(Ordering::SeqCst)
    }

    /// Sends them home; what went wrong: a client that found another server, or got no answer.
    ///
    /// # Panics
    /// They never came.
    pub fn complaints(self) -> Vec<String> {
        self.ended.store(true, Ordering::SeqCst);
        assert!(self.visits() > 0, "the crowd never came");
        self.work.join().unwrap_or_else(|_| vec!["the crowd broke".into()])
    }
}

fn come_and_go(pins: &Pins, doors: &Mutex<Vec<SocketAddr>>, visits: &AtomicU64, end: &AtomicBool) -> Vec<String> {
    let (mut dice, mut complaints) = (Dice::new(pins.len() as u64), Vec::new());
    while !end.load(Ordering::SeqCst) {
        let (key, had) = &pins[dice.below(pins.len())];
        if let Ok(doors) = doors.lock() {
            let door = doors[dice.below(doors.len())];
            match visit(door, key) {
                Some(has) if has == *had => {}
                has => complaints.push(format!("{key} at {door}: {had} -> {has:?}")),
            }
            visits.fetch_add(1, Ordering::SeqCst);
        }
        std::thread::sleep(PAUSE);
    }
    complaints
}
