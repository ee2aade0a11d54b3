//! What two tables compare to know that they hold the same pins, without sending them.
use crate::hlc::Stamp;
use std::sync::atomic::{AtomicU64, Ordering};

/// Buckets: a key's is the top ten bits of its stable hash.
pub(super) const BUCKETS: usize = 1024;

/// For each bucket the XOR of its entries' hashes. Kept up to date under the shards' locks; read without any.
#[derive(Debug)]
pub(super) struct Digest(Box<[AtomicU64]>);

impl Default for Digest {
    fn default() -> Self {
        Self((0..BUCKETS).map(|_| AtomicU64::new(0)).collect())
    }
}

impl Digest {
    /// Puts a key with each of `versions` in where it was out, and out where it was in.
    pub(super) fn toggle(&self, key: &[u8], versions: &[Stamp]) {
        let key = crate::hash::stable(key);
        let hash = versions.iter().fold(0, |x, stamp| x ^ version_hash(key, *stamp));
        self.0[bucket(key)].fetch_xor(hash, Ordering::Relaxed);
    }

    pub(super) fn read(&self) -> Vec<u64> {
        self.0.iter().map(|b| b.load(Ordering::Relaxed)).collect()
    }
}

/// One hash over all buckets. Leaves the process, as a bucket's does.
pub(super) fn root(buckets: &[u64]) -> u64 {
    buckets.iter().fold(0, |root, bucket| crate::hash::stable_seeded(&bucket.to_le_bytes(), root))
}

/// The bucket of a key, by its stable hash.
pub(super) fn bucket(key: u64) -> usize {
    (key >> 54) as usize
}

/// The hash of a key, by its stable hash, in one version. Leaves the process: every release must compute the same.
fn version_hash(key: u64, stamp: Stamp) -> u64 {
    let mut bytes = [0; 20];
    bytes[..8].copy_from_slice(&key.to_le_bytes());
    bytes[8..16].copy_from_slice(&stamp.clock().to_le_bytes());
    bytes[16..].copy_from_slice(&stamp.node.0.to_le_bytes());
    crate::hash::stable(&bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::NodeId;

    #[test]
    fn the_digest_never_changes_between_releases() {
        let digest = Digest::default();
        digest.toggle(b"session-1", &[Stamp::new(0x0123_4567_89ab_cdef, NodeId(7))]);
        let set: Vec<_> = digest.read().into_iter().enumerate().filter(|(_, hash)| *hash != 0).collect();
        assert_eq!(set, [(769, 9_056_560_399_465_344_304)]);
        assert_eq!(root(&digest.read()), 8_615_870_738_028_699_620);
    }
}
