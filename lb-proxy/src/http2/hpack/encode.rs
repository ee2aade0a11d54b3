//! Fields as a client reads them. Nothing enters a table, and strings stand there plainly: a few bytes more on the wire, and
//! hardly any work.
use super::table;

/// Begins a connection's first block: the client's table of our fields stays empty.
pub(in super::super) const NO_TABLE: [u8; 1] = [0x20];

/// A value that no table on the way may keep.
const NEVER: u8 = 0x10;
const SET_COOKIE: u8 = 55;

/// The status of an answer.
pub(in super::super) fn status(status: u16, out: &mut Vec<u8>) {
    let indexed = match status {
        200 => 8,
        204 => 9,
        206 => 10,
        304 => 11,
        400 => 12,
        404 => 13,
        500 => 14,
        _ => {
            out.extend([8, 3].iter().copied().chain([100, 10, 1].map(|unit| b'0' + (status / unit % 10) as u8)));
            return;
        }
    };
    out.push(0x80 | indexed);
}

/// A field whose name has lower case only.
pub(in super::super) fn field(name: &[u8], value: &[u8], out: &mut Vec<u8>) {
    match table::index(name) {
        0 => {
            out.push(0);
            integer(name.len(), 7, 0, out);
            out.extend_from_slice(name);
        }
        SET_COOKIE => integer(usize::from(SET_COOKIE), 4, NEVER, out),
        index => integer(usize::from(index), 4, 0, out),
    }
    integer(value.len(), 7, 0, out);
    out.extend_from_slice(value);
}

fn integer(mut n: usize, bits: u32, flags: u8, out: &mut Vec<u8>) {
    let most = (1usize << bits) - 1;
    if n < most {
        out.push(flags | n as u8);
        return;
    }
    out.push(flags | most as u8);
    n -= most;
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}
