//! How many connections each client address has open: what `maxconn_per_address` looks at.
//!
//! Short locks on shards, and memory only for addresses that have a connection. It knows nothing of why somebody is
//! counted or not.
use foldhash::fast::FixedState;
use hashbrown::HashMap;
use parking_lot::Mutex;
use std::hash::BuildHasher;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

/// Locks, so that workers seldom wait for each other.
const SHARDS: usize = 16;

/// Whoever has one bound: an IPv4 address, or 64 bits of an IPv6 address, which is the least that a client is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Subscriber {
    /// IPv4, mapped addresses included.
    V4(Ipv4Addr),
    /// The first 64 bits.
    V6(u64),
}

impl From<IpAddr> for Subscriber {
    fn from(addr: IpAddr) -> Self {
        match addr.to_canonical() {
            IpAddr::V4(addr) => Self::V4(addr),
            IpAddr::V6(addr) => Self::V6((addr.to_bits() >> 64) as u64),
        }
    }
}

/// See the module.
#[derive(Debug)]
pub struct Addresses {
    hash: FixedState,
    shards: [Mutex<HashMap<Subscriber, usize, FixedState>>; SHARDS],
}

impl Addresses {
    /// Nobody is there. `seed`: of a hash that clients cannot foresee.
    pub fn new(seed: u64) -> Self {
        let hash = FixedState::with_seed(seed);
        let shards = std::array::from_fn(|_| Mutex::new(HashMap::with_hasher(hash.clone())));
        Self { hash, shards }
    }

    /// One connection more from there; `None`: it has so many already.
    pub fn enter(self: &Arc<Self>, client: IpAddr, most: usize) -> Option<Entered> {
        let client = Subscriber::from(client);
        let mut shard = self.shard(client).lock();
        let open = shard.entry(client).or_default();
        if *open >= most {
            return None;
        }
        *open += 1;
        Some(Entered { among: self.clone(), client })
    }

    fn shard(&self, client: Subscriber) -> &Mutex<HashMap<Subscriber, usize, FixedState>> {
        // Bits that the maps themselves do not look at first.
        &self.shards[(self.hash.hash_one(client) >> 32) as usize % SHARDS]
    }
}

/// A connection that counts; no more once it is dropped.
#[derive(Debug)]
pub struct Entered {
    among: Arc<Addresses>,
    client: Subscriber,
}

impl Drop for Entered {
    fn drop(&mut self) {
        let mut shard = self.among.shard(self.client).lock();
        if let Some(open) = shard.get_mut(&self.client) {
            *open -= 1;
            if *open == 0 {
                shard.remove(&self.client);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_has_so_many_and_gets_its_places_back() {
        let addresses = Arc::new(Addresses::new(7));
        let held: Vec<_> = (0..3).map(|_| addresses.enter(ip("192.0.2.1"), 3).expect("a place")).collect();
        assert!(addresses.enter(ip("192.0.2.1"), 3).is_none());
        assert!(addresses.enter(ip("::ffff:192.0.2.1"), 3).is_none(), "the same in other words");
        assert!(addresses.enter(ip("192.0.2.2"), 3).is_some(), "somebody else");
        drop(held);
        assert!(addresses.enter(ip("192.0.2.1"), 1).is_some());
        assert!(addresses.shards.iter().all(|shard| shard.lock().is_empty()), "who is gone takes no memory");
    }

    #[test]
    fn ipv6_counts_by_its_first_64_bits() {
        let addresses = Arc::new(Addresses::new(7));
        let _held = addresses.enter(ip("2001:db8:1:2::1"), 1).expect("a place");
        assert!(addresses.enter(ip("2001:db8:1:2:ffff::9"), 1).is_none());
        assert!(addresses.enter(ip("2001:db8:1:3::1"), 1).is_some());
    }
}
