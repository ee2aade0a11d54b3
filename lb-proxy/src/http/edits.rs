//! What rules change in a head. Applied while the head is written, so that fields that nobody touches are still copied in
//! whole runs.
//!
//! Names come from the configuration, which refuses those of framing and of one hop; values have no control bytes in
//! them when they come here, and cannot end their line.
use std::ops::Range;

/// Changes of one head, made one after the other.
#[derive(Debug, Default)]
pub(crate) struct Edits<'s> {
    /// Names whose fields, as they came, do not go on.
    dropped: Vec<&'s str>,
    /// Names and values that go on in their place, or besides.
    added: Vec<(&'s str, Range<usize>)>,
    text: Vec<u8>,
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
        if !self.drops(name.as_bytes()) {
            self.dropped.push(name);
        }
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
}
