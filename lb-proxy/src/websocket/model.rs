//! Frames written the slow and obvious way, to hold the followers against.
use super::frame::{CLOSE, NO_CODE};
use proptest::prelude::*;
use proptest::sample::Index;

/// A frame.
#[derive(Clone, Debug)]
pub(super) struct Frame {
    /// FIN, reserved bits, opcode.
    pub(super) first: u8,
    pub(super) mask: Option<[u8; 4]>,
    pub(super) payload: Vec<u8>,
}

impl Frame {
    pub(super) fn opcode(&self) -> u8 {
        self.first & 15
    }

    pub(super) fn code(&self) -> u16 {
        match (self.opcode(), &self.payload[..]) {
            (CLOSE, [high, low, ..]) => u16::from_be_bytes([*high, *low]),
            _ => NO_CODE,
        }
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        let mask_bit = if self.mask.is_some() { 0x80 } else { 0 };
        let mut bytes = vec![self.first];
        match self.payload.len() {
            n @ 0..126 => bytes.push(mask_bit | n as u8),
            n @ 126..65536 => {
                bytes.push(mask_bit | 126);
                bytes.extend((n as u16).to_be_bytes());
            }
            n => {
                bytes.push(mask_bit | 127);
                bytes.extend((n as u64).to_be_bytes());
            }
        }
        let mask = self.mask.unwrap_or_default();
        bytes.extend(self.mask.iter().flatten());
        bytes.extend(self.payload.iter().enumerate().map(|(i, b)| b ^ mask[i % 4]));
        bytes
    }
}

/// Some frames; lengths around every border of the header's form.
pub(super) fn frames() -> impl Strategy<Value = Vec<Frame>> {
    let len = prop_oneof![0..12usize, 120..130usize, Just(65535), Just(65536)];
    let frame = (any::<u8>(), any::<Option<[u8; 4]>>(), len, any::<u8>()).prop_map(|(first, mask, len, seed)| Frame {
        first,
        mask,
        payload: (0..len).map(|i| (i as u8).wrapping_mul(31).wrapping_add(seed)).collect(),
    });
    proptest::collection::vec(frame, 0..8)
}

/// The bytes in pieces.
pub(super) fn split<'a>(bytes: &'a [u8], cuts: &[Index]) -> impl Iterator<Item = &'a [u8]> + use<'a> {
    let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
    at.extend([0, bytes.len()]);
    at.sort_unstable();
    let pairs: Vec<_> = at.windows(2).map(|pair| (pair[0], pair[1])).collect();
    pairs.into_iter().map(move |(from, to)| &bytes[from..to])
}
