//! How fast each client address makes keys: `max_new_keys`. A client that brings a new key with each request fills no
//! table; it is served without a pin.
//!
//! Memory is bounded: of those who made keys within the last moments so many are known, and more are let in unseen.
use super::StickTable;
use super::key::StickKey;
use crate::addresses::Subscriber;
use crate::pace::Pace;
use crate::time::Timestamp;
use foldhash::fast::FixedState;
use hashbrown::HashMap;
use parking_lot::Mutex;
use std::hash::BuildHasher;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

const SHARDS: usize = 16;
/// Addresses that a shard knows at most.
const KNOWN: usize = 4096;
/// A full shard is looked through for those that are done this often at most, in microseconds: a flood of new addresses
/// would have each of them look at all others.
const SWEEP: u64 = 10_000;
/// What an address may make at once, in microseconds at its pace.
const BURST: u64 = 1_000_000;

/// See the module.
#[derive(Debug)]
pub(super) struct Creators {
    /// Microseconds for each key; 0: no bound.
    interval: AtomicU64,
    refused: AtomicU64,
    hash: FixedState,
    shards: [Mutex<Shard>; SHARDS],
}

#[derive(Debug)]
struct Shard {
    /// Until when what an address has made is at its pace, in microseconds.
    known: HashMap<Subscriber, u64, FixedState>,
    /// When those that were done were last taken out, in microseconds.
    swept: u64,
}

impl Shard {
    /// Whether there is place for one more, after those that are done are gone.
    fn has_room(&mut self, now: u64) -> bool {
        if self.known.len() >= KNOWN && now.abs_diff(self.swept) >= SWEEP {
            self.known.retain(|_, until| *until > now);
            self.swept = now;
        }
        self.known.len() < KNOWN
    }
}

impl Creators {
    pub(super) fn new(pace: Option<Pace>, seed: u64) -> Self {
        let hash = FixedState::with_seed(seed);
        let shards = std::array::from_fn(|_| Mutex::new(Shard { known: HashMap::with_hasher(hash.clone()), swept: 0 }));
        let creators = Self { interval: AtomicU64::new(0), refused: AtomicU64::new(0), hash, shards };
        creators.set(pace);
        creators
    }

    pub(super) fn set(&self, pace: Option<Pace>) {
        self.interval.store(pace.map_or(0, |pace| (60_000_000 / u64::from(pace.in_a_minute())).max(1)), Relaxed);
    }

    pub(super) fn refused(&self) -> u64 {
        self.refused.load(Relaxed)
    }

    fn bounded(&self) -> bool {
        self.interval.load(Relaxed) > 0
    }

    fn take(&self, client: Subscriber, now: Timestamp) -> bool {
        let interval = self.interval.load(Relaxed);
        let (now, burst) = (now.0.saturating_mul(1000), BURST.max(interval));
        let mut shard = self.shards[(self.hash.hash_one(client) >> 32) as usize % SHARDS].lock();
        if !shard.known.contains_key(&client) && !shard.has_room(now) {
            return true;
        }
        let until = shard.known.entry(client).or_insert(now);
        // A clock that was set back makes nobody wait for longer.
        *until = (*until).clamp(now, now + burst);
        let may = *until + interval <= now + burst;
        if may {
            *until += interval;
        } else {
            self.refused.fetch_add(1, Relaxed);
        }
        may
    }
}

impl StickTable {
    /// Whether a client at this address may pin this key: it is there, or the client has not made too many.
    pub fn may_pin(&self, key: &StickKey, client: IpAddr, now: Timestamp) -> bool {
        !self.creators.bounded() || self.peek(key, now).is_some() || self.creators.take(client.into(), now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> Subscriber {
        text.parse::<IpAddr>().unwrap().into()
    }

    fn taken(creators: &Creators, client: &str, at: u64) -> usize {
        (0..1000).filter(|_| creators.take(ip(client), Timestamp(at))).count()
    }

    #[test]
    fn an_address_makes_keys_at_its_pace_and_another_at_its_own() {
        let creators = Creators::new("10/s".parse().ok(), 7);
        assert_eq!(taken(&creators, "192.0.2.1", 5000), 10, "what a second allows, at once");
        assert_eq!(taken(&creators, "192.0.2.1", 5500), 5);
        assert_eq!(taken(&creators, "192.0.2.2", 5500), 10);
        assert_eq!(taken(&creators, "192.0.2.1", 60_000), 10, "no more is saved up");
        assert_eq!(taken(&creators, "192.0.2.1", 1000), 0, "a clock that was set back");
        assert_eq!(taken(&creators, "192.0.2.1", 2000), 10, "costs a second at most");
        assert!(creators.refused() > 4000);
        creators.set("6/m".parse().ok());
        assert_eq!(taken(&creators, "192.0.2.9", 100_000), 1);
        assert_eq!(taken(&creators, "192.0.2.9", 110_000), 1);
    }

    #[test]
    fn many_addresses_take_so_much_memory_and_are_forgotten() {
        let creators = Creators::new("10/s".parse().ok(), 7);
        let known = || creators.shards.iter().map(|shard| shard.lock().known.len()).sum::<usize>();
        for n in 0..200_000u64 {
            assert!(creators.take(Subscriber::V6(n), Timestamp(1)));
        }
        assert!(known() <= SHARDS * KNOWN);
        for n in 0..1000u64 {
            assert!(creators.take(Subscriber::V6(1 << 32 | n), Timestamp(10_000)));
        }
        assert!(known() <= 1000 + SHARDS, "{}", known());
    }

    #[test]
    fn a_flood_of_addresses_looks_through_the_known_ones_once_in_a_while() {
        let mut shard = Shard { known: HashMap::with_hasher(FixedState::with_seed(7)), swept: 0 };
        let full = |shard: &mut Shard, until: u64| {
            (0..KNOWN as u64).for_each(|n| _ = shard.known.insert(Subscriber::V6(n), until));
        };
        full(&mut shard, SWEEP + 5);
        assert!(!shard.has_room(SWEEP), "nobody is done");
        assert!(!shard.has_room(SWEEP + 5), "all are, and it was looked a moment ago");
        assert!(shard.has_room(2 * SWEEP));
        assert!(shard.known.is_empty());
        full(&mut shard, 1);
        assert!(shard.has_room(SWEEP), "a clock that was set back");
    }
}
