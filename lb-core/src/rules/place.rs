//! Another path for a request: whole, by its prefix, by a pattern. The query stays, behind what the new path adds to it.
use super::template::{Template, Var};
use crate::matcher::{Pattern, path, under};

/// Another path.
#[derive(Clone, Debug, PartialEq)]
pub enum Place {
    /// This path whatever it was.
    Whole(Template),
    /// What stands for this prefix, which ends at a segment border.
    Prefix(String, Template),
    /// What stands for the first thing like this pattern.
    Like(Pattern, Template),
}

impl Place {
    /// The target instead of a path and its query; `None`: the path has no such prefix or nothing like the pattern,
    /// however it is spelt, just as conditions compare it. What is not replaced stays as it came, as far as that goes.
    ///
    /// It begins with exactly one slash, so that no browser and no server takes it for a host, and has no byte that
    /// could end it.
    pub fn target(&self, path: &[u8], query: &[u8], say: &mut dyn FnMut(&Var, &mut Vec<u8>)) -> Option<Vec<u8>> {
        let mut said = |var: &Var, out: &mut Vec<u8>| {
            let mut value = Vec::new();
            say(var, &mut value);
            escape(&value, matches!(var, Var::Path | Var::Query), out);
        };
        let mut out = path::spellings(path).find_map(|path| self.moved(&path, &mut said))?;
        let slashes = out.iter().take_while(|b| **b == b'/' || **b == b'\\').count();
        out.splice(..slashes, [b'/']);
        if !query.is_empty() {
            let mark = if out.contains(&b'?') { b'&' } else { b'?' };
            out.push(mark);
            out.extend_from_slice(query);
        }
        Some(out)
    }

    fn moved(&self, path: &[u8], say: &mut dyn FnMut(&Var, &mut Vec<u8>)) -> Option<Vec<u8>> {
        let mut out = Vec::with_capacity(path.len() + 16);
        match self {
            Self::Whole(to) => to.write(&mut out, say, &|_| b""),
            Self::Prefix(prefix, to) => {
                let rest = under(prefix, path)?;
                to.write(&mut out, say, &|_| b"");
                join(&mut out, rest, path.len() > prefix.len() || prefix.ends_with('/'));
            }
            Self::Like(pattern, to) => {
                let found = pattern.regex().captures(path)?;
                let whole = found.get(0)?;
                out.extend_from_slice(&path[..whole.start()]);
                to.write(&mut out, say, &|n| found.get(n).map_or(b"", |group| group.as_bytes()));
                out.extend_from_slice(&path[whole.end()..]);
            }
        }
        Some(out)
    }
}

/// Appends the rest of a path behind what stands for its prefix, with one slash between them.
fn join(out: &mut Vec<u8>, rest: &[u8], more: bool) {
    // What the new prefix says of a query stands behind the rest.
    let query = out.iter().position(|b| *b == b'?').map(|at| out.split_off(at));
    if more {
        while out.last() == Some(&b'/') {
            out.pop();
        }
        out.push(b'/');
        out.extend_from_slice(rest.strip_prefix(b"/").unwrap_or(rest));
    }
    out.extend(query.unwrap_or_default());
}

/// Appends a value so that it stays inside its place. `sent`: it was a part of a target, and is legal as it is.
fn escape(value: &[u8], sent: bool, out: &mut Vec<u8>) {
    for byte in value {
        let plain = byte.is_ascii_alphanumeric() || b"-._~/".contains(byte);
        if plain || (sent && byte.is_ascii_graphic() && *byte != b'#') {
            out.push(*byte);
        } else {
            let hex = |n: u8| b"0123456789ABCDEF"[usize::from(n)];
            out.extend([b'%', hex(byte >> 4), hex(byte & 15)]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn moved(place: &Place, path: &str, query: &str) -> Option<String> {
        let mut say = |var: &Var, out: &mut Vec<u8>| match var {
            Var::Path => out.extend_from_slice(path.as_bytes()),
            _ => out.extend_from_slice(b"a b?c&d"),
        };
        let target = place.target(path.as_bytes(), query.as_bytes(), &mut say)?;
        Some(String::from_utf8(target).unwrap())
    }

    fn prefix(from: &str, to: &str) -> Place {
        Place::Prefix(from.into(), Template::read(to, None).unwrap())
    }

    fn like(pattern: &str, to: &str) -> Place {
        let pattern = Pattern::new(pattern).unwrap();
        let to = Template::read(to, Some(pattern.regex().captures_len() - 1)).unwrap();
        Place::Like(pattern, to)
    }

    #[test]
    fn a_prefix_is_replaced_at_its_border_with_one_slash_between() {
        for (from, to, path, new) in [
            ("/api", "/", "/api/x", "/x"),
            ("/api", "/", "/api", "/"),
            ("/api", "/", "/api/", "/"),
            ("/api", "/v2", "/api/x/", "/v2/x/"),
            ("/api", "/v2/", "/api/x", "/v2/x"),
            ("/api", "/v2", "/api", "/v2"),
            ("/api/", "/v2", "/api/x", "/v2/x"),
            ("/", "/app", "/x", "/app/x"),
            ("/", "/app", "/", "/app/"),
            ("/api", "/v2?old=1", "/api/x", "/v2/x?old=1"),
        ] {
            assert_eq!(moved(&prefix(from, to), path, "").as_deref(), Some(new), "{from} {to} {path}");
        }
        assert_eq!(moved(&prefix("/api", "/"), "/apix", ""), None);
    }

    #[test]
    fn a_pattern_is_replaced_where_it_is_found_with_its_groups() {
        let user = like("^/user/(\\d+)/(.*)$", "/u?id=$1&rest=$2");
        assert_eq!(moved(&user, "/user/7/x", "q=1").as_deref(), Some("/u?id=7&rest=x&q=1"));
        assert_eq!(moved(&user, "/user/x/x", ""), None);
        assert_eq!(moved(&like("b+", "c"), "/abba", "").as_deref(), Some("/aca"));
        assert_eq!(moved(&like("^/", ""), "/x", "").as_deref(), Some("/x"), "a path begins with a slash");
    }

    #[test]
    fn the_query_stays_and_variables_stay_inside_their_place() {
        let whole = |to| Place::Whole(Template::read(to, None).unwrap());
        assert_eq!(moved(&whole("/new"), "/old", "a=1").as_deref(), Some("/new?a=1"));
        assert_eq!(moved(&whole("/x%{path}"), "/old%20y", "").as_deref(), Some("/x/old%20y"));
        assert_eq!(moved(&whole("/x?h=%{src}"), "/", "").as_deref(), Some("/x?h=a%20b%3Fc%26d"));
    }

    #[test]
    fn a_path_is_found_however_it_is_spelt_and_the_rest_keeps_its_escapes() {
        for (path, new) in [
            ("//internal/x", Some("/new/x")),
            ("/%69nternal/a%2Fb%20c", Some("/new/a%2Fb%20c")),
            ("/x/../internal/y", Some("/new/y")),
            ("/x%2F..%2Finternal/y%2Fz", Some("/new/y/z")),
            ("/internal/../y", None),
            ("/internal//y", Some("/new//y")),
        ] {
            assert_eq!(moved(&prefix("/internal", "/new"), path, "").as_deref(), new, "{path}");
            assert_eq!(moved(&like("^/internal", "/new"), path, "").as_deref(), new, "{path}");
        }
    }

    #[test]
    fn no_path_becomes_a_host() {
        assert_eq!(moved(&prefix("/old", "/"), "/old//evil.example/", "").as_deref(), Some("/evil.example/"));
        assert_eq!(moved(&prefix("/old", "/"), "/old/\\evil.example/", "").as_deref(), Some("/evil.example/"));
        assert_eq!(moved(&like("^/old", ""), "/old//evil.example", "").as_deref(), Some("/evil.example"));
    }

    proptest! {
        #[test]
        fn every_new_target_is_one_target(path in "/[!-~&&[^?#]]{0,30}", query in "[!-~&&[^#]]{0,10}", value: Vec<u8>) {
            let place = Place::Whole(Template::read("%{src}%{path}?%{query}%{src}", None).unwrap());
            let mut say = |var: &Var, out: &mut Vec<u8>| out.extend_from_slice(match var {
                Var::Path => path.as_bytes(),
                Var::Query => query.as_bytes(),
                _ => &value,
            });
            let target = place.target(path.as_bytes(), query.as_bytes(), &mut say).unwrap();
            prop_assert!(target.iter().all(|b| b.is_ascii_graphic() && *b != b'#'));
            prop_assert!(target[0] == b'/' && !target.starts_with(b"//") && !target.starts_with(b"/\\"));
        }
    }
}
