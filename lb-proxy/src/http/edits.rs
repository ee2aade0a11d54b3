//! What rules change in a head. Applied while the head is written, so that fields that nobody touches are still copied in
//! whole runs.
//!
//! Names come from the configuration, which refuses those of framing and of one hop; values have no control bytes in
//! them when they come here, and cannot end their line.
use lb_core::matcher::Pattern;
use lb_core::rules::template::GROUP;
use std::borrow::Cow;
use std::ops::Range;

/// Changes of one head, made one after the other.
#[derive(Debug, Default)]
pub(crate) struct Edits<'s> {
    /// Names whose fields, as they came, do not go on.
    dropped: Vec<&'s str>,
    /// Names and values that go on in their place, or besides.
    added: Vec<(&'s str, Range<usize>)>,
    /// Whose fields, as they came, go on with another value.
    replaced: Vec<Replaced<'s>>,
    text: Vec<u8>,
}

#[derive(Debug)]
struct Replaced<'s> {
    name: &'s str,
    pattern: &'s Pattern,
    to: Range<usize>,
}

impl<'s> Edits<'s> {
    /// The field has this value and no other.
    pub(crate) fn set(&mut self, name: &'s str, value: impl FnOnce(&mut Vec<u8>)) {
        self.remove(name);
        self.add(name, value);
    }

    /// A field more.
    pub(crate) fn add(&mut self, name: &'s str, value: impl FnOnce(&mut Vec<u8>)) {
        let start = self.text.len();
        value(&mut self.text);
        debug_assert!(!self.text[start..].iter().any(|b| matches!(b, b'\r' | b'\n' | 0)), "a value breaks its line");
        self.added.push((name, start..self.text.len()));
    }

    /// No field of that name.
    pub(crate) fn remove(&mut self, name: &'s str) {
        self.added.retain(|(n, _)| !n.eq_ignore_ascii_case(name));
        self.replaced.retain(|r| !r.name.eq_ignore_ascii_case(name));
        if !self.drops(name.as_bytes()) {
            self.dropped.push(name);
        }
    }

    /// In fields of that name everything that is like the pattern becomes `to`, in which groups stand as [`GROUP`] says.
    pub(crate) fn replace(&mut self, name: &'s str, pattern: &'s Pattern, to: impl FnOnce(&mut Vec<u8>)) {
        let start = self.text.len();
        to(&mut self.text);
        let to = start..self.text.len();
        for (_, at) in self.added.iter_mut().filter(|(n, _)| n.eq_ignore_ascii_case(name)) {
            if let Some(value) = substitute(pattern, &self.text[to.clone()], &self.text[at.clone()]) {
                *at = self.text.len()..self.text.len() + value.len();
                self.text.extend_from_slice(&value);
            }
        }
        if !self.drops(name.as_bytes()) {
            self.replaced.push(Replaced { name, pattern, to });
        }
    }

    /// Whether any field, as it came, may get another value.
    pub(crate) fn replaces_any(&self) -> bool {
        !self.replaced.is_empty()
    }

    /// Whether fields of that name, as they came, may get another value.
    pub(crate) fn replaces(&self, name: &[u8]) -> bool {
        self.replaced.iter().any(|r| r.name.as_bytes().eq_ignore_ascii_case(name))
    }

    /// The value of a field that came with this one.
    pub(crate) fn replaced<'v>(&self, name: &[u8], value: &'v [u8]) -> Cow<'v, [u8]> {
        let mut value = Cow::Borrowed(value);
        for r in self.replaced.iter().filter(|r| r.name.as_bytes().eq_ignore_ascii_case(name)) {
            if let Some(new) = substitute(r.pattern, &self.text[r.to.clone()], &value) {
                value = Cow::Owned(new);
            }
        }
        value
    }

    /// Whether fields of that name, as they came, do not go on.
    pub(crate) fn drops(&self, name: &[u8]) -> bool {
        self.dropped.iter().any(|n| n.as_bytes().eq_ignore_ascii_case(name))
    }

    /// The value that a field was given last.
    pub(crate) fn value(&self, name: &str) -> Option<&[u8]> {
        let (_, at) = self.added.iter().rev().find(|(n, _)| n.eq_ignore_ascii_case(name))?;
        Some(&self.text[at.clone()])
    }

    /// Appends the fields that were given, but this one.
    pub(crate) fn write(&self, but: &str, out: &mut Vec<u8>) {
        for (name, at) in self.added.iter().filter(|(name, _)| !name.eq_ignore_ascii_case(but)) {
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(b": ");
            out.extend_from_slice(&self.text[at.clone()]);
            out.extend_from_slice(b"\r\n");
        }
    }
}

/// The value with everything that is like the pattern replaced; `None`: nothing is.
fn substitute(pattern: &Pattern, to: &[u8], value: &[u8]) -> Option<Vec<u8>> {
    let mut found = pattern.regex().captures_iter(value).peekable();
    found.peek()?;
    let (mut out, mut end) = (Vec::with_capacity(value.len() + to.len()), 0);
    for groups in found {
        let Some(whole) = groups.get(0) else { continue };
        out.extend_from_slice(&value[end..whole.start()]);
        end = whole.end();
        let mut rest = to;
        while let [first, after @ ..] = rest {
            rest = after;
            match (*first, after) {
                (GROUP, [digit @ b'0'..=b'9', after @ ..]) => {
                    out.extend_from_slice(groups.get(usize::from(digit - b'0')).map_or(b"", |group| group.as_bytes()));
                    rest = after;
                }
                (byte, _) => out.push(byte),
            }
        }
    }
    out.extend_from_slice(&value[end..]);
    // White space around a value is no part of it.
    Some(out.trim_ascii().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_word_counts_and_names_have_no_case() {
        let mut edits = Edits::default();
        edits.add("X-A", |out| out.extend_from_slice(b"1"));
        edits.add("x-a", |out| out.extend_from_slice(b"2"));
        assert!(!edits.drops(b"X-A"), "what is added stands beside what came");
        edits.set("X-B", |out| out.extend_from_slice(b"3"));
        edits.set("x-b", |out| out.extend_from_slice(b"4"));
        edits.remove("x-A");
        edits.add("X-A", |out| out.extend_from_slice(b"5"));
        let mut out = Vec::new();
        edits.write("host", &mut out);
        assert_eq!(out, b"x-b: 4\r\nX-A: 5\r\n");
        assert!(edits.drops(b"x-a") && edits.drops(b"X-B") && !edits.drops(b"X-C"));
        assert_eq!((edits.value("X-b"), edits.value("host")), (Some(&b"4"[..]), None));
    }

    #[test]
    fn values_are_replaced_in_the_order_of_the_rules() {
        let pattern = |text: &str| Pattern::new(text).unwrap();
        let (http, a, all, digits) = (pattern("^http://"), pattern("a"), pattern("^(.*)$"), pattern("([0-9])([0-9])"));
        let mut edits = Edits::default();
        edits.add("Location", |out| out.extend_from_slice(b"http://added"));
        edits.replace("location", &http, |out| out.extend_from_slice(b"https://"));
        edits.replace("X-A", &digits, |out| out.extend_from_slice(b"\x012\x011"));
        edits.replace("X-A", &a, |out| out.extend_from_slice(b""));
        assert_eq!(edits.value("Location"), Some(&b"https://added"[..]));
        assert_eq!(&*edits.replaced(b"LOCATION", b"http://came/http://"), b"https://came/http://");
        assert_eq!(&*edits.replaced(b"x-a", b"a12b34a"), b"21b43", "all that is like it");
        assert_eq!(&*edits.replaced(b"X-B", b"a"), b"a");
        assert!(edits.replaces(b"x-a") && !edits.drops(b"x-a") && !edits.replaces(b"X-B"));
        edits.set("X-A", |out| out.extend_from_slice(b"v"));
        edits.replace("X-A", &all, |out| out.extend_from_slice(b" <\x011> "));
        assert!(!edits.replaces(b"X-A"), "what came is gone");
        assert_eq!(edits.value("x-a"), Some(&b"<v>"[..]));
    }
}
