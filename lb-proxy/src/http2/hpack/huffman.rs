//! The code of Huffman that RFC 7541 gives in its appendix B. It is canonical: the lengths of its codes are all there is to know.
use super::Broken;

/// Bits of each byte's code; the last is the end symbol's, which no string has.
#[rustfmt::skip]
const LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28,
    28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7,
    8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19,
    13, 14, 6, 15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13,
    28, 20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21,
    22, 23, 22, 23, 23, 24, 22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23,
    22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23, 26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25,
    19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25,
    25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26, 30,
];
/// The end symbol.
const END: u16 = 256;
/// The longest code.
const MOST: usize = 30;

struct Codes {
    /// By the next eight bits: a byte whose code is no longer than that, and the code's length; 0: it is longer.
    short: [(u8, u8); 256],
    /// By length: the first 32 bits, as a number, that are past all codes of this length and shorter ones.
    past: [u64; MOST + 1],
    /// By length: the first code, and where its symbol stands.
    first: [(u32, u32); MOST + 1],
    /// By code.
    symbols: [u16; 257],
}

static CODES: Codes = codes();

const fn codes() -> Codes {
    let mut codes = Codes { short: [(0, 0); 256], past: [0; MOST + 1], first: [(0, 0); MOST + 1], symbols: [0; 257] };
    let (mut code, mut at, mut length) = (0u32, 0usize, 1usize);
    while length <= MOST {
        code <<= 1;
        codes.first[length] = (code, at as u32);
        let mut symbol = 0;
        while symbol < LENGTHS.len() {
            if LENGTHS[symbol] as usize == length {
                codes.symbols[at] = symbol as u16;
                if length <= 8 {
                    let from = (code as usize) << (8 - length);
                    let mut i = from;
                    while i < from + (1 << (8 - length)) {
                        codes.short[i] = (symbol as u8, length as u8);
                        i += 1;
                    }
                }
                code += 1;
                at += 1;
            }
            symbol += 1;
        }
        codes.past[length] = (code as u64) << (32 - length);
        length += 1;
    }
    codes
}

/// Appends what `coded` stands for.
pub(super) fn decode(coded: &[u8], out: &mut Vec<u8>) -> Result<(), Broken> {
    let mut coming = coded.iter();
    // The next bits, from the top, and how many there are.
    let (mut bits, mut have) = (0u64, 0u32);
    loop {
        while have <= 56 {
            let Some(byte) = coming.next() else { break };
            bits |= u64::from(*byte) << (56 - have);
            have += 8;
        }
        let (byte, length) = CODES.short[(bits >> 56) as usize];
        if length > 0 && u32::from(length) <= have {
            out.push(byte);
            bits <<= length;
            have -= u32::from(length);
            continue;
        }
        if have < 8 && bits.leading_ones() >= have {
            // What is left is padding: the beginning of the end symbol, all ones.
            return Ok(());
        }
        let next = bits >> 32;
        let length = (9..=MOST).find(|length| next < CODES.past[*length]).ok_or(Broken)?;
        if length as u32 > have {
            return Err(Broken);
        }
        let (first, at) = CODES.first[length];
        let code = (next >> (32 - length)) as u32;
        let symbol = CODES.symbols[(at + code - first) as usize];
        if symbol == END {
            return Err(Broken);
        }
        out.push(symbol as u8);
        bits <<= length;
        have -= length as u32;
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(crate) fn encode(text: &[u8]) -> Vec<u8> {
        let mut bits = Vec::new();
        for byte in text {
            let length = usize::from(LENGTHS[usize::from(*byte)]);
            let (first, at) = CODES.first[length];
            let symbols = &CODES.symbols[at as usize..];
            let place = symbols.iter().position(|s| *s == u16::from(*byte)).unwrap();
            let code = first + place as u32;
            bits.extend((0..length).rev().map(|i| code >> i & 1 == 1));
        }
        bits.resize(bits.len().next_multiple_of(8), true);
        bits.chunks(8).map(|byte| byte.iter().fold(0, |n, bit| n << 1 | u8::from(*bit))).collect()
    }

    #[test]
    fn padding_is_short_and_all_ones_and_the_end_symbol_is_no_byte() {
        let mut out = Vec::new();
        // "a" is 00011.
        assert_eq!(decode(&[0b0001_1111], &mut out), Ok(()));
        assert_eq!(out, b"a");
        assert_eq!(decode(&[0b0001_1110], &mut out), Err(Broken));
        assert_eq!(decode(&[0b0001_1111, 0xff], &mut out), Err(Broken));
        assert_eq!(decode(&[0xff; 4], &mut out), Err(Broken));
        assert_eq!(decode(&[0xff; 8], &mut out), Err(Broken));
        assert_eq!(decode(&[], &mut out), Ok(()));
    }
}
