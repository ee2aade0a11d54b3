//! A path as conditions compare it: as a server would understand it, so that no other spelling of it slips by a rule.
//!
//! Escapes of visible characters are decoded (`%2F`, too), several slashes are one, `.` and `..` are resolved. What
//! cannot stand in a target, and `%`, `?` and `#`, stay escaped, in capitals. Only what is compared is like that: the
//! server gets the path as it came.

use std::borrow::Cow;

/// The path in that form; `None`: it has it already.
pub fn plain(path: &[u8]) -> Option<Vec<u8>> {
    if !path.starts_with(b"/") || is_plain(path) {
        return None;
    }
    let plain = resolve(&decode(path, say));
    (plain != path).then_some(plain)
}

/// The spellings of a path that are looked at where a part of it is replaced and the rest passed on: as it came, unless
/// `..` might take that part away; without what has no meaning (escapes of letters and digits, dots, slashes more), so that
/// `%2F` stays what it is; and as it is compared.
pub fn spellings(path: &[u8]) -> impl Iterator<Item = Cow<'_, [u8]>> {
    let odd = path.starts_with(b"/") && !is_plain(path);
    let simple = if odd { decode(path, unreserved) } else { Vec::new() };
    let dots = simple.split(|b| *b == b'/').any(|segment| matches!(segment, b"." | b".."));
    let plain = odd.then(|| resolve(&decode(path, say)));
    // `..` may take away what only looks like one segment: then there is but one reading.
    let alike = |simple: &Vec<u8>| plain.as_ref().is_some_and(|plain| resolve(&decode(simple, say)) == *plain);
    let simple = odd.then(|| resolve(&simple)).filter(|simple| simple != path && alike(simple));
    let plain = plain.filter(|plain| plain != path && simple.as_ref() != Some(plain));
    let came = (!dots).then_some(Cow::Borrowed(path));
    came.into_iter().chain(simple.map(Cow::Owned)).chain(plain.map(Cow::Owned))
}

/// An escape of what need not be escaped is decoded (RFC 3986, 6.2.2.2), any other stays.
fn unreserved(byte: u8, out: &mut Vec<u8>) {
    if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
        out.push(byte);
    } else {
        escape(byte, out);
    }
}

/// Whether there is nothing in it that could be written in another way. A `false` may be wrong.
fn is_plain(path: &[u8]) -> bool {
    let mut before = 0;
    path.iter().all(|&byte| {
        let odd = byte == b'%' || !byte.is_ascii_graphic() || (before == b'/' && (byte == b'/' || byte == b'.'));
        before = byte;
        !odd
    })
}

/// Writes the path anew; `escaped` says what an escaped byte becomes.
fn decode(path: &[u8], escaped: impl Fn(u8, &mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::with_capacity(path.len());
    let mut rest = path;
    while let [first, after @ ..] = rest {
        rest = after;
        match (first, after) {
            (b'%', [high, low, after @ ..]) if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                escaped(digit(*high) << 4 | digit(*low), &mut out);
                rest = after;
            }
            // A sign that escapes nothing must not come to do so.
            (byte, _) => say(*byte, &mut out),
        }
    }
    out
}

fn digit(hex: u8) -> u8 {
    match hex {
        b'0'..=b'9' => hex - b'0',
        _ => (hex | 0x20) - b'a' + 10,
    }
}

fn say(byte: u8, out: &mut Vec<u8>) {
    if byte.is_ascii_graphic() && !b"%?#".contains(&byte) {
        out.push(byte);
    } else {
        escape(byte, out);
    }
}

fn escape(byte: u8, out: &mut Vec<u8>) {
    let hex = |n: u8| b"0123456789ABCDEF"[usize::from(n)];
    out.extend([b'%', hex(byte >> 4), hex(byte & 15)]);
}

/// Slashes and dots, as of RFC 3986, 5.2.4.
fn resolve(path: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(path.len());
    let mut last: &[u8] = b"";
    for segment in path.split(|b| *b == b'/') {
        last = segment;
        match segment {
            b"" | b"." => {}
            b".." => out.truncate(memchr::memrchr(b'/', &out).unwrap_or(0)),
            segment => {
                out.push(b'/');
                out.extend_from_slice(segment);
            }
        }
    }
    if out.is_empty() || matches!(last, b"" | b"." | b"..") {
        out.push(b'/');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(path: &str) -> String {
        String::from_utf8(plain(path.as_bytes()).unwrap_or_else(|| path.into())).unwrap()
    }

    #[test]
    fn every_spelling_of_a_path_is_compared_as_one() {
        for path in [
            "/admin/x",
            "//admin/x",
            "/admin//x",
            "/%61dmin/x",
            "/%61%64min%2Fx",
            "/admin%2fx",
            "/./admin/x",
            "/a/../admin/x",
            "/a/%2e%2E/admin/./x",
            "/../../admin/x",
            "/a/b/../../admin/y/../x",
        ] {
            assert_eq!(of(path), "/admin/x", "{path}");
        }
        for path in ["/admin/", "/admin/.", "/admin/x/..", "/admin//"] {
            assert_eq!(of(path), "/admin/", "{path}");
        }
        for path in ["/", "//", "/..", "/a/..", "/%2e"] {
            assert_eq!(of(path), "/", "{path}");
        }
    }

    #[test]
    fn what_cannot_be_written_otherwise_stays() {
        for path in ["/a%20b", "/k%C3%A4se", "/a%3Fb", "/a%25b", "/.well-known/x", "/a.b/..c/c..", "*", ""] {
            assert_eq!(of(path), path);
        }
        assert_eq!((of("/a%c3b"), of("/käse"), of("/a%zz")), ("/a%C3b".into(), "/k%C3%A4se".into(), "/a%25zz".into()));
        // Decoded once: a server that decodes twice is wrong, and its own affair.
        assert_eq!(of("/%2561dmin"), "/%2561dmin");
    }

    #[test]
    fn where_a_part_is_replaced_the_rest_keeps_what_its_escapes_mean() {
        let of = |path: &str| -> Vec<String> {
            spellings(path.as_bytes()).map(|s| String::from_utf8(s.into_owned()).unwrap()).collect()
        };
        assert_eq!(of("/a/b"), ["/a/b"]);
        assert_eq!(of("*"), ["*"]);
        assert_eq!(of("//%61/./b"), ["/a/b"]);
        assert_eq!(of("//%61/b"), ["//%61/b", "/a/b"]);
        assert_eq!(of("/npm/@x%2fy"), ["/npm/@x%2fy", "/npm/@x%2Fy", "/npm/@x/y"]);
        assert_eq!(of("/x/..%2Fadmin"), ["/x/..%2Fadmin", "/admin"]);
        assert_eq!(of("/x/%2e%2e/admin"), ["/admin"]);
        assert_eq!(of("/x/a%2Fb/../c"), ["/x/a/c"]);
        assert_eq!(of("/a%20b%zz"), ["/a%20b%zz", "/a%20b%25zz"]);
        assert_eq!(of("/%%32%65/x"), ["/%%32%65/x", "/%252e/x"]);
    }

    proptest! {
        #[test]
        fn the_last_spelling_is_what_is_compared(path in "/(/|\\.|%2[eEfF]|%[0-9a-f]{2}|[a-c%?é]){0,20}") {
            let compared = plain(path.as_bytes()).unwrap_or_else(|| path.clone().into());
            let all: Vec<_> = spellings(path.as_bytes()).map(Cow::into_owned).collect();
            prop_assert_eq!(all.last(), Some(&compared));
            for spelling in all {
                prop_assert_eq!(plain(&spelling).unwrap_or(spelling), compared.clone());
            }
        }

        #[test]
        fn a_plain_path_is_plain(path in "(/|\\.|%2[eEfF]|%[0-9a-f]{2}|[a-c%?é]){0,20}") {
            let once = plain(path.as_bytes()).unwrap_or_else(|| path.clone().into());
            prop_assert_eq!(plain(&once), None);
        }
    }
}
