//! Every key that the file may have, damaged in every way its kind knows: one report each, at its place, with what to
//! write instead. The cases are made of the shape and of `deploy/lb.toml`, so that a new key is covered by itself.
use super::super::diagnostic::line;
use super::super::file::{Key, Kind, ROOT, Shape};
use super::*;
use std::collections::BTreeSet;
use std::ops::Range;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

const FILE: &str = include_str!("../../../../deploy/lb.toml");

/// Where `deploy/lb.toml` has a key for the first time.
struct Place {
    key: &'static Key,
    word: Range<usize>,
    value: Range<usize>,
}

impl Place {
    /// Whether it stands in a `[section]`, not before a `=`.
    fn has_header(&self) -> bool {
        self.value.start < self.word.end
    }
}

/// The first place of every key.
#[derive(Default)]
struct Places {
    seen: BTreeSet<*const Key>,
    all: Vec<Place>,
}

impl Places {
    fn of_file() -> Vec<Place> {
        let root = DeTable::parse(FILE).expect("deploy/lb.toml is TOML");
        let mut places = Self::default();
        places.table(&ROOT, root.get_ref());
        places.all
    }

    fn table(&mut self, shape: &'static Shape, table: &DeTable<'_>) {
        for key in shape.keys {
            let Some((word, value)) = table.get_key_value(key.name) else { continue };
            if self.seen.insert(key) {
                self.all.push(Place { key, word: word.span(), value: value.span() });
            }
            self.value(&key.kind, value);
        }
    }

    fn value(&mut self, kind: &'static Kind, value: &Spanned<DeValue<'_>>) {
        match (kind, value.get_ref()) {
            (Kind::Section(shape), DeValue::Table(table)) => self.table(shape, table),
            (Kind::Named(shape), DeValue::Table(table)) => {
                table.values().filter_map(|v| v.get_ref().as_table()).for_each(|t| self.table(shape, t));
            }
            (Kind::List(kind) | Kind::Many(kind), DeValue::Array(values)) => {
                values.iter().for_each(|value| self.value(kind, value));
            }
            (Kind::Many(kind), _) => self.value(kind, value),
            (Kind::Either(kinds), _) => kinds.iter().for_each(|kind| self.value(kind, value)),
            _ => {}
        }
    }
}

/// A value of each type of TOML.
const VALUES: [&str; 7] = ["7", "true", "1.5", "\"x\"", "[]", "{}", "1979-05-27"];

/// Whether a kind takes values of the type of this one.
fn takes(kind: &Kind, value: &str) -> bool {
    let first = value.as_bytes()[0];
    match kind {
        Kind::Text | Kind::Word(_) | Kind::Span | Kind::SpanOrZero => first == b'"',
        Kind::Flag => value == "true",
        Kind::Whole(..) | Kind::Signed(..) => value == "7",
        Kind::Size(..) => value == "7" || first == b'"',
        Kind::Pairs | Kind::Section(_) | Kind::Named(_) => first == b'{',
        Kind::List(_) => first == b'[',
        Kind::Many(kind) => first == b'[' || takes(kind, value),
        Kind::Either(kinds) => kinds.iter().any(|kind| takes(kind, value)),
    }
}

/// Whether a table may be a section of this kind.
fn is_section(kind: &Kind) -> bool {
    match kind {
        Kind::Section(_) => true,
        Kind::Many(kind) => is_section(kind),
        Kind::Either(kinds) => kinds.iter().any(is_section),
        _ => false,
    }
}

/// Wrong values of a kind that have its type.
fn wrong(kind: &Kind) -> Vec<String> {
    match kind {
        Kind::Text => vec!["\"\"".into(), "\"${NOT_SET_ANYWHERE}\"".into()],
        Kind::Flag => vec!["\"${LB_PORT}\"".into()],
        Kind::Whole(min, max) | Kind::Size(min, max) => {
            let mut all = vec!["-1".into(), format!("{}", u128::from(*max) + 1), "9".repeat(60)];
            all.extend(min.checked_sub(1).map(|n| n.to_string()));
            all.extend(matches!(kind, Kind::Size(..)).then(|| "\"lots\"".to_owned()));
            all
        }
        Kind::Signed(min, max) => vec![(min - 1).to_string(), (max + 1).to_string(), "9".repeat(60)],
        Kind::Span => ["\"0s\"", "\"5\"", "\"5 parsecs\"", "\"99999d\""].map(Into::into).to_vec(),
        Kind::SpanOrZero => ["\"5\"", "\"5 parsecs\"", "\"99999d\""].map(Into::into).to_vec(),
        Kind::Word(words) => words.iter().map(|word| format!("\"{word}zz\"")).chain([String::from("\"\"")]).collect(),
        Kind::Pairs => VALUES.iter().filter(|v| !takes(&Kind::Text, v)).map(|v| format!("{{ 503 = {v} }}")).collect(),
        Kind::Many(of) | Kind::List(of) => {
            let mut all = wrong(of);
            all.retain(|_| matches!(kind, Kind::Many(_)));
            all.extend(VALUES.iter().filter(|v| !takes(of, v)).map(|v| format!("[{v}]")));
            all
        }
        Kind::Either(kinds) => {
            // What is wrong for one kind and of the type of another is for that other to judge.
            let mut all: Vec<String> = kinds.iter().flat_map(wrong).collect();
            let texts = kinds.iter().filter(|kind| takes(kind, "\"x\"")).count();
            all.retain(|value| texts < 2 || !value.starts_with('"'));
            all.retain(|value| !value.starts_with("\"${") || matches!(kinds, [Kind::Text]));
            all
        }
        Kind::Section(_) | Kind::Named(_) => Vec::new(),
    }
}

/// The file with something else at this place.
fn with(at: &Range<usize>, text: &str) -> String {
    format!("{}{text}{}", &FILE[..at.start], &FILE[at.end..])
}

fn place(at: usize) -> (usize, usize) {
    let before = &FILE[..at];
    (line(before.as_bytes()), before.chars().rev().take_while(|c| *c != '\n').count() + 1)
}

/// What is wrong with the reports of one mistake. `within`: where a value begins; what is inside a list or table is
/// reported there.
fn complaint(text: &str, at: usize, within: usize, help: &str) -> Option<String> {
    let found = match read(text) {
        Ok(_) => return Some("it is taken".into()),
        Err(found) => found,
    };
    let [one] = found.as_slice() else { return Some(format!("{} reports\n{}", found.len(), lines(&found))) };
    let (line, column) = place(at);
    if one.line != line || !(column..=column + within).contains(&one.column) {
        return Some(format!("reported at {}:{}, not at {line}:{column}\n{one}", one.line, one.column));
    }
    (one.help.is_empty() || !one.help.contains(help)).then(|| format!("no {help:?} in the help\n{one}"))
}

fn none(complaints: &[String]) {
    assert!(complaints.is_empty(), "{} of them:\n{}", complaints.len(), complaints.join("\n"));
}

#[test]
fn a_value_of_a_wrong_type_gives_one_report_at_its_place() {
    let mut bad = Vec::new();
    for (i, place) in Places::of_file().into_iter().enumerate() {
        // Three types for each key, by turns; what has a header has no value to replace.
        let turn = [i, i + 2, i + 4].map(|i| VALUES[i % VALUES.len()]);
        for value in turn.iter().filter(|value| !place.has_header() && !takes(&place.key.kind, value)) {
            if let Some(why) = complaint(&with(&place.value, value), place.value.start, 0, "write `") {
                bad.push(format!("{} = {value}: {why}", place.key.name));
            }
        }
    }
    none(&bad);
}

#[test]
fn a_value_out_of_its_bounds_gives_one_report_at_its_place() {
    let mut bad = Vec::new();
    for place in Places::of_file() {
        for value in wrong(&place.key.kind).into_iter().filter(|_| !place.has_header()) {
            if let Some(why) = complaint(&with(&place.value, &value), place.value.start, value.len(), "") {
                bad.push(format!("{} = {value}: {why}", place.key.name));
            }
        }
    }
    none(&bad);
}

#[test]
fn a_slip_in_any_key_gives_one_report_with_the_key_that_was_meant() {
    let mut bad = Vec::new();
    for place in Places::of_file() {
        let name = place.key.name;
        let mut swapped: Vec<char> = name.chars().collect();
        let last = swapped.len() - 1;
        swapped.swap(last - 1, last);
        let swapped: String = swapped.into_iter().collect();
        for slip in [format!("{name}{}", &name[last..]), swapped].into_iter().filter(|slip| slip != name) {
            // Under one spelling or the other: sections that name each other stay together.
            let text = match place.key.kind {
                Kind::Named(_) if place.has_header() => FILE.replace(&format!("[{name}."), &format!("[{slip}.")),
                _ => with(&place.word, &slip),
            };
            if let Some(why) = complaint(&text, place.word.start, 0, &format!("did you mean `{name}`?")) {
                bad.push(format!("{slip}: {why}"));
            }
        }
    }
    none(&bad);
}

#[test]
fn a_strange_key_in_any_section_is_reported_with_the_keys_there_are() {
    let mut bad = Vec::new();
    let inline = |place: &&Place| FILE[place.value.clone()].starts_with('{') && is_section(&place.key.kind);
    for place in Places::of_file().iter().filter(inline) {
        let at = place.value.start + 1;
        let more = if FILE[at..].trim_start().starts_with('}') { "" } else { "," };
        let text = format!("{} quuxquux = 1{more}{}", &FILE[..at], &FILE[at..]);
        if let Some(why) = complaint(&text, at + 1, 0, "key") {
            bad.push(format!("{}: {why}", place.key.name));
        }
    }
    none(&bad);
}
