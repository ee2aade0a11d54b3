//! HPACK (RFC 7541) as a server of HTTP/2 needs it. It must not know what a field means.
//!
//! The decoder does all that clients may do. The encoder names fields of the static table and says the rest in full: it has
//! no table of its own to keep, and the client is told so with the first block.
mod encode;
mod huffman;
mod table;

pub(super) use encode::{NO_TABLE, field, status};

use std::collections::VecDeque;

/// What a client's table may hold: the default, which we do not change.
const TABLE: usize = 4096;
/// What an entry costs beside its bytes (RFC 7541, 4.1).
const COST: usize = 32;

/// A block that nobody can decode. Its connection is over, because no later one can be decoded either.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Broken;

/// The client's table, and scratch space.
#[derive(Debug)]
pub(super) struct Decoder {
    /// The newest first.
    entries: VecDeque<Entry>,
    size: usize,
    limit: usize,
    name: Vec<u8>,
    value: Vec<u8>,
}

#[derive(Debug)]
struct Entry {
    /// The name, then the value.
    text: Box<[u8]>,
    name: usize,
}

impl Entry {
    fn size(&self) -> usize {
        self.text.len() + COST
    }
}

impl Decoder {
    pub(super) fn new() -> Self {
        Self { entries: VecDeque::new(), size: 0, limit: TABLE, name: Vec::new(), value: Vec::new() }
    }

    /// Calls `each` with name and value of each field of a whole block.
    pub(super) fn decode(&mut self, block: &[u8], mut each: impl FnMut(&[u8], &[u8])) -> Result<(), Broken> {
        let mut rest = block;
        let mut first = true;
        while let Some(byte) = rest.first() {
            match byte {
                0x80.. => {
                    let (name, value) = lookup(&self.entries, integer(&mut rest, 7)?)?;
                    each(name, value);
                }
                0x40..=0x7f => self.literal(&mut rest, 6, true, &mut each)?,
                // A new size, which stands before all fields.
                0x20..=0x3f => {
                    let limit = integer(&mut rest, 5)?;
                    if limit > TABLE || !first {
                        return Err(Broken);
                    }
                    self.limit = limit;
                    self.evict(0);
                    continue;
                }
                _ => self.literal(&mut rest, 4, false, &mut each)?,
            }
            first = false;
        }
        Ok(())
    }

    fn literal(
        &mut self,
        rest: &mut &[u8],
        bits: u32,
        keep: bool,
        each: &mut impl FnMut(&[u8], &[u8]),
    ) -> Result<(), Broken> {
        let index = integer(rest, bits)?;
        let name = if index == 0 { string(rest, &mut self.name)? } else { lookup(&self.entries, index)?.0 };
        let value = string(rest, &mut self.value)?;
        each(name, value);
        if !keep {
            return Ok(());
        }
        if name.len() + value.len() + COST > self.limit {
            // Too large for the table: it empties it.
            self.entries.clear();
            self.size = 0;
            return Ok(());
        }
        let entry = Entry { text: [name, value].concat().into(), name: name.len() };
        self.evict(entry.size());
        self.size += entry.size();
        self.entries.push_front(entry);
        Ok(())
    }

    /// Makes room for so much.
    fn evict(&mut self, more: usize) {
        while self.size + more > self.limit {
            let Some(oldest) = self.entries.pop_back() else { return };
            self.size -= oldest.size();
        }
    }
}

fn lookup(entries: &VecDeque<Entry>, index: usize) -> Result<(&[u8], &[u8]), Broken> {
    let at = index.checked_sub(1).ok_or(Broken)?;
    if let Some((name, value)) = table::STATIC.get(at) {
        return Ok((name.as_bytes(), value.as_bytes()));
    }
    let entry = entries.get(at - table::STATIC.len()).ok_or(Broken)?;
    Ok(entry.text.split_at(entry.name))
}

/// An integer that begins in the low bits of the first byte; at most 28 bits more.
fn integer(rest: &mut &[u8], bits: u32) -> Result<usize, Broken> {
    let (first, mut tail) = rest.split_first().ok_or(Broken)?;
    let most = (1 << bits) - 1;
    let mut n = usize::from(*first) & most;
    if n == most {
        let mut shift = 0;
        loop {
            let (byte, next) = tail.split_first().ok_or(Broken)?;
            tail = next;
            n += usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                break;
            }
            shift += 7;
            if shift > 21 {
                return Err(Broken);
            }
        }
    }
    *rest = tail;
    Ok(n)
}

/// A string, where it lies or decoded in `scratch`.
fn string<'a, 'b: 'a>(rest: &mut &'b [u8], scratch: &'a mut Vec<u8>) -> Result<&'a [u8], Broken> {
    let coded = rest.first().ok_or(Broken)? & 0x80 != 0;
    let length = integer(rest, 7)?;
    let (text, tail) = rest.split_at_checked(length).ok_or(Broken)?;
    *rest = tail;
    if !coded {
        return Ok(text);
    }
    scratch.clear();
    huffman::decode(text, scratch)?;
    Ok(scratch)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn hex(text: &str) -> Vec<u8> {
        let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
        digits.chunks(2).map(|d| u8::from_str_radix(std::str::from_utf8(d).unwrap(), 16).unwrap()).collect()
    }

    fn decoded(decoder: &mut Decoder, block: &[u8]) -> Result<String, Broken> {
        let mut text = String::new();
        decoder.decode(block, |name, value| {
            text += &format!("{}={};", String::from_utf8_lossy(name), String::from_utf8_lossy(value));
        })?;
        Ok(text)
    }

    #[test]
    fn the_examples_of_the_rfc_are_decoded() {
        // RFC 7541, C.4: requests in the code of Huffman, one after the other on a connection.
        let mut decoder = Decoder::new();
        for (block, fields) in [
            (
                "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
                ":method=GET;:scheme=http;:path=/;:authority=www.example.com;",
            ),
            (
                "8286 84be 5886 a8eb 1064 9cbf",
                ":method=GET;:scheme=http;:path=/;:authority=www.example.com;cache-control=no-cache;",
            ),
            (
                "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
                ":method=GET;:scheme=https;:path=/index.html;:authority=www.example.com;custom-key=custom-value;",
            ),
        ] {
            assert_eq!(decoded(&mut decoder, &hex(block)).as_deref(), Ok(fields));
        }
        assert_eq!(decoder.size, 164);
        // C.6, with a table of 256 bytes, from which entries are driven out.
        let mut decoder = Decoder::new();
        decoder.limit = 256;
        let first = "4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e 919d \
                     29ad 1718 63c7 8f0b 97c8 e9ae 82ae 43d3";
        assert_eq!(
            decoded(&mut decoder, &hex(first)).as_deref(),
            Ok(
                ":status=302;cache-control=private;date=Mon, 21 Oct 2013 20:13:21 GMT;location=https://www.example.com;"
            )
        );
        assert_eq!(decoded(&mut decoder, &hex("4883 640e ffc1 c0bf")).map(|text| text.len()), Ok(102));
        assert_eq!((decoder.size, decoder.entries.len()), (222, 4));
    }

    #[test]
    fn what_the_encoder_says_is_what_the_decoder_reads() {
        let mut block = NO_TABLE.to_vec();
        status(200, &mut block);
        status(418, &mut block);
        for (name, value) in
            [("content-type", "text/plain"), ("x-long", &"y".repeat(300)), ("set-cookie", "a=b"), ("x", "")]
        {
            field(name.as_bytes(), value.as_bytes(), &mut block);
        }
        let text = decoded(&mut Decoder::new(), &block).unwrap();
        let long = "y".repeat(300);
        assert_eq!(text, format!(":status=200;:status=418;content-type=text/plain;x-long={long};set-cookie=a=b;x=;"));
    }

    #[test]
    fn each_name_of_the_static_table_is_known_to_the_encoder() {
        for (name, _) in &table::STATIC[14..] {
            let mut block = Vec::new();
            field(name.as_bytes(), b"v", &mut block);
            assert!(block.len() < 5, "{name}");
            assert_eq!(decoded(&mut Decoder::new(), &block), Ok(format!("{name}=v;")));
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_decoder_fail(blocks: Vec<Vec<u8>>) {
            let mut decoder = Decoder::new();
            for block in blocks {
                let _ = decoder.decode(&block, |_, _| {});
                prop_assert!(decoder.size <= TABLE);
                prop_assert_eq!(decoder.size, decoder.entries.iter().map(Entry::size).sum::<usize>());
            }
        }

        #[test]
        fn strings_in_the_code_of_huffman_are_decoded(text: Vec<u8>) {
            let mut out = Vec::new();
            prop_assert_eq!(huffman::decode(&huffman::tests::encode(&text), &mut out), Ok(()));
            prop_assert_eq!(out, text);
        }
    }
}
