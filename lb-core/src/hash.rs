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

    /// As the reference implementation of XXH3 says (the Python package `xxhash`).
    #[test]
    fn the_hashes_never_change() {
        let long = b"0123456789abcdef0123456789abcdef".repeat(10);
        for (bytes, plain, seeded) in [
            (&b""[..], 0x2d06_8005_38d3_94c2_u64, 0x4dc5_b0cc_826f_6703_u64),
            (b"a", 0xe6c6_32b6_1e96_4e1f, 0xd2f6_d099_6f37_a720),
            (b"session-1", 0xc07e_a649_48c9_a305, 0x42b2_28cd_54be_7538),
            (&[192, 0, 2, 1], 0x2c1c_901e_ed9a_dc4a, 0x7c07_979f_d176_8596),
            (&long, 0x40c3_83cc_89d2_f624, 0xa8e6_65ca_d9fd_32a0),
        ] {
            assert_eq!((stable(bytes), stable_seeded(bytes, 1)), (plain, seeded), "{bytes:?}");
        }
        assert_eq!(rendezvous(1, 2), 0x6e9b_566a_1528_8ae6);
        assert_eq!(rendezvous(stable(b"session-1"), stable(b"node1")), 0x0388_324f_10f9_1c53);
    }
}
