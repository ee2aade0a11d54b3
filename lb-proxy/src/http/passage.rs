//! What rules make of one request: its head as the server will get it, its target, its id and user, and what is to be
//! done with its answer. A request that no rule touches has no memory here.
use super::edits::Edits;
use lb_core::matcher::path;
use lb_core::rules::{AnswerRule, Edit, Encoding};
use lb_core::snapshot::{Backend, Done, Frontend};
use std::ops::Range;

/// Stands in values for the server's name until that is known. No value has this byte.
pub(crate) const SERVER: &[u8] = b"\0";

/// A request on its way through the rules. `'s` is the snapshot that it goes by.
#[derive(Default)]
pub(crate) struct Passage<'s> {
    /// Where it goes, once that is known.
    pub(crate) backend: Option<&'s Backend>,
    made: Option<Box<Made<'s>>>,
}

/// What rules have made of it.
#[derive(Default)]
pub(crate) struct Made<'s> {
    /// Of its head.
    pub(crate) edits: Edits<'s>,
    pub(crate) target: Option<Target>,
    pub(crate) id: Option<Box<str>>,
    /// Who showed a right password.
    pub(crate) user: Option<Box<str>>,
    /// Its class in queues.
    pub(crate) class: i16,
    /// What the client takes of the encodings that the backend compresses with.
    pub(crate) encoding: Option<Encoding>,
    due: Vec<Due<'s>>,
    text: Vec<u8>,
}

/// A new path and query.
pub(crate) struct Target {
    pub(crate) bytes: Vec<u8>,
    path: usize,
    plain: Option<Vec<u8>>,
}

/// What a rule will do with the answer.
struct Due<'s> {
    rule: &'s AnswerRule,
    done: &'s Done,
    edits: Vec<(&'s Edit, Range<usize>)>,
}

impl Target {
    pub(crate) fn new(bytes: Vec<u8>) -> Self {
        let path = memchr::memchr(b'?', &bytes).unwrap_or(bytes.len());
        let plain = path::plain(&bytes[..path]);
        Self { bytes, path, plain }
    }

    /// The path as conditions compare it.
    pub(crate) fn plain(&self) -> &[u8] {
        self.plain.as_deref().unwrap_or_else(|| self.path())
    }

    pub(crate) fn path(&self) -> &[u8] {
        &self.bytes[..self.path]
    }

    /// Without `?`.
    pub(crate) fn query(&self) -> &[u8] {
        self.bytes.get(self.path + 1..).unwrap_or_default()
    }
}

impl<'s> Passage<'s> {
    /// What was made of it, if anything.
    pub(crate) fn made(&self) -> Option<&Made<'s>> {
        self.made.as_deref()
    }

    /// To make something of it.
    pub(crate) fn make(&mut self) -> &mut Made<'s> {
        self.made.get_or_insert_default()
    }

    /// Its class in queues: lower ones come in first.
    pub(crate) fn priority_class(&self) -> i16 {
        self.made().map_or(0, |made| made.class)
    }

    /// Its id, if it has one.
    pub(crate) fn id(&self) -> Option<&str> {
        self.made.as_ref().and_then(|made| made.id.as_deref())
    }

    /// Adds the id for the client, where the frontend says so.
    pub(crate) fn echo(&self, done: Option<Edits<'s>>, frontend: &'s Frontend) -> Option<Edits<'s>> {
        let spec = frontend.config.rules.request_id.as_ref().filter(|spec| spec.answer);
        let (Some(spec), Some(id)) = (spec, self.id()) else { return done };
        let mut edits = done.unwrap_or_default();
        edits.set(&spec.header, |out| out.extend_from_slice(id.as_bytes()));
        Some(edits)
    }

    /// Keeps what a rule will do with the answer, `text` holding the values.
    pub(crate) fn foresee(&mut self, rule: &'s AnswerRule, done: &'s Done, values: &[Range<usize>], text: &[u8]) {
        let made = self.make();
        let base = made.text.len();
        made.text.extend_from_slice(text);
        let edits = rule.then.iter().zip(values).map(|(edit, at)| (edit, at.start + base..at.end + base)).collect();
        made.due.push(Due { rule, done, edits });
    }

    /// What is done with an answer of this status with these fields, by lower-case name, after what is done already;
    /// `None`: nothing. `server`: who gave it, if not we.
    pub(crate) fn answer<'f>(
        &self,
        done: Option<Edits<'s>>,
        status: u16,
        field: &dyn Fn(&str) -> Option<&'f [u8]>,
        server: &str,
        worker: usize,
    ) -> Option<Edits<'s>> {
        let Some(made) = self.made.as_ref().filter(|made| !made.due.is_empty()) else { return done };
        let mut edits = done.unwrap_or_default();
        for due in made.due.iter().filter(|due| due.rule.of.matches(status, field)) {
            due.done[worker].0.bump();
            for (edit, at) in &due.edits {
                let value = |out: &mut Vec<u8>| say_server(&made.text[at.clone()], server, out);
                match edit {
                    Edit::Set(name, _) => edits.set(name, value),
                    Edit::Add(name, _) => edits.add(name, value),
                    Edit::Remove(name) => edits.remove(name),
                    Edit::Replace(name, pattern, _) => edits.replace(name, pattern, value),
                }
            }
        }
        Some(edits)
    }
}

fn say_server(text: &[u8], server: &str, out: &mut Vec<u8>) {
    for (i, part) in text.split(|b| *b == SERVER[0]).enumerate() {
        if i > 0 {
            out.extend_from_slice(server.as_bytes());
        }
        out.extend_from_slice(part);
    }
}
