//! Cookies in header fields: found, taken out, changed. What the affinity cookie says is [`rule`]'s.
pub mod rule;
mod seal;

/// The cookies of a `Cookie` header, as (name, value) with white space and one pair of quotes taken off.
pub fn pairs(header: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    header.split(|b| *b == b';').filter_map(|pair| {
        let pair = pair.trim_ascii();
        let eq = memchr::memchr(b'=', pair)?;
        Some((pair[..eq].trim_ascii(), bare(&pair[eq + 1..])))
    })
}

/// A value without white space and one pair of quotes around it.
fn bare(value: &[u8]) -> &[u8] {
    let value = value.trim_ascii();
    value.strip_prefix(b"\"").and_then(|v| v.strip_suffix(b"\"")).unwrap_or(value)
}

/// The value of the first cookie of that name.
pub fn find<'a>(header: &'a [u8], name: &str) -> Option<&'a [u8]> {
    // As [`pairs`] reads it, but without a look at the pairs whose name is another.
    header.split(|b| *b == b';').find_map(|pair| {
        let rest = pair.trim_ascii_start().strip_prefix(name.as_bytes())?;
        Some(bare(rest.trim_ascii_start().strip_prefix(b"=")?))
    })
}

/// Appends the header's cookies without those of that name; nothing when no other is left.
pub fn without(header: &[u8], name: &str, out: &mut Vec<u8>) {
    let mut first = true;
    for pair in header.split(|b| *b == b';').map(<[u8]>::trim_ascii) {
        let bare = pair.split(|b| *b == b'=').next().unwrap_or_default().trim_ascii();
        if pair.is_empty() || bare == name.as_bytes() {
            continue;
        }
        if !first {
            out.extend_from_slice(b"; ");
        }
        first = false;
        out.extend_from_slice(pair);
    }
}

/// The name and value that a `Set-Cookie` field sets.
pub fn set_pair(field: &[u8]) -> Option<(&[u8], &[u8])> {
    pairs(field.split(|b| *b == b';').next()?).next()
}

/// What stands between a server's value and the application's own in a prefixed cookie.
pub const PREFIX_END: u8 = b'~';

/// Appends the header's cookies, those of that name without the prefix that a prefixed cookie has.
pub fn unprefixed(header: &[u8], name: &str, out: &mut Vec<u8>) {
    for (i, pair) in header.split(|b| *b == b';').enumerate() {
        if i > 0 {
            out.push(b';');
        }
        let eq = memchr::memchr(b'=', pair).filter(|eq| pair[..*eq].trim_ascii() == name.as_bytes());
        let end = eq.and_then(|eq| Some((eq, eq + memchr::memchr(PREFIX_END, &pair[eq..])?)));
        let Some((eq, end)) = end else {
            out.extend_from_slice(pair);
            continue;
        };
        out.extend_from_slice(&pair[..=eq]);
        // An opening quote stays.
        out.extend(pair[eq + 1..end].trim_ascii_start().iter().take(1).filter(|b| **b == b'"'));
        out.extend_from_slice(&pair[end + 1..]);
    }
}

/// Appends the value of a `Set-Cookie` field with another value for its cookie; `prefix`: before the one it has.
pub fn reset(field: &[u8], value: &str, prefix: bool, out: &mut Vec<u8>) {
    let end = memchr::memchr(b';', field).unwrap_or(field.len());
    let Some(eq) = memchr::memchr(b'=', &field[..end]) else {
        out.extend_from_slice(field);
        return;
    };
    out.extend_from_slice(&field[..=eq]);
    let old = field[eq + 1..end].trim_ascii();
    if prefix {
        let bare = old.strip_prefix(b"\"");
        out.extend(bare.is_some().then_some(b'"'));
        out.extend_from_slice(value.as_bytes());
        out.push(PREFIX_END);
        out.extend_from_slice(bare.unwrap_or(old));
    } else {
        out.extend_from_slice(value.as_bytes());
    }
    out.extend_from_slice(&field[end..]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_cookie_is_found_among_others_and_taken_out() {
        let header = b"a=1; SERVERID=node1 ;b=\"2\"; SERVERIDX=x";
        assert_eq!(find(header, "SERVERID"), Some(&b"node1"[..]));
        assert_eq!(find(header, "b"), Some(&b"2"[..]));
        assert_eq!(find(header, "ERVERID"), None);
        let mut out = Vec::new();
        without(header, "SERVERID", &mut out);
        assert_eq!(out, b"a=1; b=\"2\"; SERVERIDX=x");
        out.clear();
        without(b"SERVERID=node1", "SERVERID", &mut out);
        assert!(out.is_empty());
    }

    #[test]
    fn a_prefix_comes_off_before_the_server_and_on_before_the_client() {
        let stripped = |header: &[u8]| {
            let mut out = Vec::new();
            unprefixed(header, "SID", &mut out);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(stripped(b"a=1; SID=node1~abc; b=x~y"), "a=1; SID=abc; b=x~y");
        assert_eq!(stripped(b"SID=\"node1~a~b\""), "SID=\"a~b\"");
        assert_eq!(stripped(b"SID=abc;SIDX=n~1"), "SID=abc;SIDX=n~1", "one that has none stays as it is");
        let set = |field: &[u8], prefix| {
            let mut out = Vec::new();
            reset(field, "node1", prefix, &mut out);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(set(b"SID=abc; Path=/; HttpOnly", true), "SID=node1~abc; Path=/; HttpOnly");
        assert_eq!(set(b"SID=\"abc\"", true), "SID=\"node1~abc\"");
        assert_eq!(set(b"SID=whatever; Path=/", false), "SID=node1; Path=/");
        assert_eq!(set(b"SID=", false), "SID=node1");
    }

    proptest! {
        #[test]
        fn no_header_bytes_make_the_cookie_reader_fail(header: Vec<u8>) {
            let _ = find(&header, "SERVERID");
            let mut out = Vec::new();
            without(&header, "SERVERID", &mut out);
            prop_assert_eq!(find(&out, "SERVERID"), None);
            out.clear();
            unprefixed(&header, "SERVERID", &mut out);
            reset(&header, "n", true, &mut out);
        }

        #[test]
        fn a_cookie_is_found_where_the_list_of_all_of_them_has_it(header in "[ab= \";\t]{0,24}", name in "[ab]{1,2}") {
            let listed = pairs(header.as_bytes()).find(|(n, _)| *n == name.as_bytes()).map(|(_, v)| v);
            prop_assert_eq!(find(header.as_bytes(), &name), listed);
        }

        #[test]
        fn what_was_prefixed_reads_as_before_once_the_prefix_is_off(value in "[!#-+--:<-~]{0,20}") {
            let mut set = Vec::new();
            reset(format!("SID={value}; Path=/").as_bytes(), "node1", true, &mut set);
            let pair = set.split(|b| *b == b';').next().unwrap_or_default();
            let mut out = Vec::new();
            unprefixed(pair, "SID", &mut out);
            prop_assert_eq!(String::from_utf8(out).unwrap(), format!("SID={value}"));
        }
    }
}
