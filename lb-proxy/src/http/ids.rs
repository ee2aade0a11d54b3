//! Ids of requests: UUIDs of version 7, which sort by time and which nobody guesses.
use std::cell::Cell;
use std::hash::{BuildHasher, RandomState};

/// A worker's ids. The keys of the hash come from the system, so that neither two workers nor two lives of one make the
/// same.
#[derive(Default)]
pub(crate) struct Ids {
    keys: RandomState,
    next: Cell<u64>,
}

/// Longest id that is taken from a proxy.
const LONGEST: usize = 128;

impl Ids {
    /// A new one; `now`: Unix milliseconds.
    pub(crate) fn make(&self, now: u64) -> Box<str> {
        let n = self.next.get();
        self.next.set(n + 2);
        let (a, b) = (self.keys.hash_one(n), self.keys.hash_one(n + 1));
        let mut random = [0; 10];
        random[..8].copy_from_slice(&a.to_ne_bytes());
        random[8..].copy_from_slice(&b.to_ne_bytes()[..2]);
        let id = uuid::Builder::from_unix_timestamp_millis(now, &random).into_uuid();
        let mut text = [0; uuid::fmt::Hyphenated::LENGTH];
        (&*id.hyphenated().encode_lower(&mut text)).into()
    }
}

/// The id that a trusted proxy gave, if it is one that may stand in logs and headers.
pub(crate) fn given(value: &[u8]) -> Option<Box<str>> {
    let plain = |b: &u8| b.is_ascii_alphanumeric() || b"-_.~+/=:@|".contains(b);
    let good = (1..=LONGEST).contains(&value.len()) && value.iter().all(plain);
    good.then(|| String::from_utf8_lossy(value).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn ids_differ_sort_by_time_and_are_uuids() {
        let ids = Ids::default();
        let all: HashSet<_> = (0..1000).map(|_| ids.make(1_700_000_000_000)).collect();
        assert_eq!(all.len(), 1000);
        assert!(all.iter().all(|id| id.len() == 36 && id.as_bytes()[14] == b'7'), "{all:?}");
        assert!(ids.make(1_700_000_000_000) < ids.make(1_700_000_000_001));
        assert_ne!(Ids::default().make(1), Ids::default().make(1), "two workers");
    }

    #[test]
    fn an_id_of_a_proxy_is_taken_if_it_is_one() {
        assert_eq!(given(b"Root=1-67891233-abcdef").as_deref(), Some("Root=1-67891233-abcdef"));
        for bad in [&b""[..], b"a b", b"a\"b", b"\xff", &[b'a'; 129]] {
            assert_eq!(given(bad), None);
        }
    }
}
