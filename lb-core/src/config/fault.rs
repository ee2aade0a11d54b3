//! Mistakes that only show outside of the text: a file that a key names cannot be used, an address is taken, a host name
//! stands for nothing. Whoever finds one knows the key; where that stands is looked up in the text afterwards.
use super::Diagnostic;
use std::ops::Range;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Such a mistake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The key that it is about, as `frontend.web.listen[0].tls.cert`.
    pub key: String,
    /// Where it may stand as well: what a server has not of its own, it has from its backend.
    pub or: Option<String>,
    /// What is wrong.
    pub message: String,
}

impl Fault {
    /// A mistake about this key.
    pub fn new(key: impl Into<String>, message: impl Into<String>) -> Self {
        Self { key: key.into(), or: None, message: message.into() }
    }

    /// With its place in the text of the file.
    pub fn placed(&self, text: &str) -> Diagnostic {
        let (root, _) = DeTable::parse_recoverable(text);
        let keys = [Some(&self.key), self.or.as_ref()].into_iter().flatten();
        // The key whose place is known best; of two alike the likelier one.
        let known = keys.map(|key| (key, find(root.get_ref(), key))).min_by_key(|(_, (left, _))| *left);
        let (key, (_, span)) = known.unwrap_or((&self.key, (0, 0..0)));
        Diagnostic::new(text, span, key, self.message.clone(), String::new())
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

/// How much of a key the text does not have, in bytes, and the place of what it has.
fn find(root: &DeTable<'_>, key: &str) -> (usize, Range<usize>) {
    let (mut table, mut left, mut span) = (root, key, 0..0);
    loop {
        // Names of sections may have dots in them: the longest that fits is meant.
        let ends = |rest: &str| rest.is_empty() || rest.starts_with(['.', '[']);
        let fits = |name: &str| left.strip_prefix(name).is_some_and(ends);
        let best = table.iter().filter(|(name, _)| fits(name.get_ref())).max_by_key(|(name, _)| name.get_ref().len());
        let Some((name, value)) = best else { return (left.len(), span) };
        left = &left[name.get_ref().len()..];
        let before = left.len();
        let value = element(value, &mut left);
        let listed = left.len() < before;
        // A section is shown by its name, an element by how it begins: all of its lines would be too much.
        span = match (value.get_ref().is_table(), listed) {
            (false, _) => value.span(),
            (true, false) => name.span(),
            (true, true) => value.span().start..value.span().start + 1,
        };
        left = left.strip_prefix('.').unwrap_or(left);
        let (DeValue::Table(inner), false) = (value.get_ref(), left.is_empty()) else { return (left.len(), span) };
        table = inner;
    }
}

/// The element that `[0]` names, if it is there. A single value stands for a list of one.
fn element<'a, 'i>(value: &'a Spanned<DeValue<'i>>, left: &mut &str) -> &'a Spanned<DeValue<'i>> {
    let index = left.strip_prefix('[').and_then(|rest| rest.split_once(']'));
    let Some((index, rest)) = index.and_then(|(index, rest)| Some((index.parse::<usize>().ok()?, rest))) else {
        return value;
    };
    let list = match value.get_ref() {
        DeValue::Array(list) => list.get(index),
        _ => (index == 0).then_some(value),
    };
    match list {
        Some(element) => {
            *left = rest;
            element
        }
        None => value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"[frontend."a.b"]
listen = ["127.0.0.1:1", { addr = "127.0.0.1:2", tls = { cert = "site.pem" } }]
[frontend.a]
listen = "127.0.0.1:3"
[backend.app]
tls = { ca = "ca.pem" }
server = [{ name = "one" }]
"#;

    fn place(key: &str) -> (usize, usize, &str) {
        let found = Fault::new(key, "wrong").placed(TEXT);
        (found.line, found.column, &TEXT[found.span])
    }

    #[test]
    fn a_key_is_found_in_the_text_as_deep_as_it_goes() {
        assert_eq!(place("frontend.a.b.listen[0]"), (2, 11, "\"127.0.0.1:1\""));
        assert_eq!(place("frontend.a.b.listen[1].tls.cert"), (2, 65, "\"site.pem\""));
        assert_eq!(place("frontend.a.listen[0]"), (4, 10, "\"127.0.0.1:3\""));
        assert_eq!(place("frontend.a.listen[0].tls.cert").2, "\"127.0.0.1:3\"", "as deep as it goes");
        assert_eq!(place("backend.app.check.tls.ca").2, "app");
        assert_eq!(place("log.access"), (1, 1, ""));
    }

    #[test]
    fn what_a_server_has_from_its_backend_is_found_there() {
        let key = Fault::new("backend.app.server[0].tls.ca", "wrong");
        assert_eq!((&TEXT[key.placed(TEXT).span], key.placed(TEXT).line), ("{", 7));
        let both = Fault { or: Some("backend.app.tls.ca".into()), ..key };
        assert_eq!((&TEXT[both.placed(TEXT).span], both.placed(TEXT).line), ("\"ca.pem\"", 6));
    }
}
