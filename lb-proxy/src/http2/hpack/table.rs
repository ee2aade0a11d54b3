//! RFC 7541, appendix A.

/// What both sides know without having been told; the first has the index 1.
#[rustfmt::skip]
pub(super) const STATIC: [(&str, &str); 61] = [
    (":authority", ""), (":method", "GET"), (":method", "POST"), (":path", "/"), (":path", "/index.html"),
    (":scheme", "http"), (":scheme", "https"), (":status", "200"), (":status", "204"), (":status", "206"),
    (":status", "304"), (":status", "400"), (":status", "404"), (":status", "500"), ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"), ("accept-language", ""), ("accept-ranges", ""), ("accept", ""),
    ("access-control-allow-origin", ""), ("age", ""), ("allow", ""), ("authorization", ""), ("cache-control", ""),
    ("content-disposition", ""), ("content-encoding", ""), ("content-language", ""), ("content-length", ""),
    ("content-location", ""), ("content-range", ""), ("content-type", ""), ("cookie", ""), ("date", ""), ("etag", ""),
    ("expect", ""), ("expires", ""), ("from", ""), ("host", ""), ("if-match", ""), ("if-modified-since", ""),
    ("if-none-match", ""), ("if-range", ""), ("if-unmodified-since", ""), ("last-modified", ""), ("link", ""),
    ("location", ""), ("max-forwards", ""), ("proxy-authenticate", ""), ("proxy-authorization", ""), ("range", ""),
    ("referer", ""), ("refresh", ""), ("retry-after", ""), ("server", ""), ("set-cookie", ""),
    ("strict-transport-security", ""), ("transfer-encoding", ""), ("user-agent", ""), ("vary", ""), ("via", ""),
    ("www-authenticate", ""),
];

/// Index of a name of lower case; 0: it has none.
pub(super) fn index(name: &[u8]) -> u8 {
    let candidates: &[u8] = match name.len() {
        3 => &[21, 60],
        4 => &[33, 34, 59, 45, 37, 38],
        5 => &[22, 50],
        6 => &[54, 19, 32, 35],
        7 => &[36, 51, 52],
        8 => &[46, 39, 42],
        10 => &[55, 58],
        11 => &[53],
        12 => &[31, 47],
        13 => &[24, 44, 18, 30, 23, 41],
        14 => &[28, 15],
        15 => &[16, 17],
        16 => &[26, 27, 29, 61],
        17 => &[57, 40],
        18 => &[48],
        19 => &[25, 43, 49],
        25 => &[56],
        27 => &[20],
        _ => &[],
    };
    let is = |i: &&u8| STATIC[usize::from(**i) - 1].0.as_bytes() == name;
    candidates.iter().find(is).copied().unwrap_or(0)
}
