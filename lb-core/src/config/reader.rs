//! Reads sections of a parsed file by their [`Shape`], and collects every mistake with its place instead of stopping at
//! the first. It knows types and bounds; what values mean together is [`super::lower`]'s.
use super::diagnostic::{Diagnostic, line};
use super::file::{Key, Kind, Shape};
use super::suggest;
use crate::jwt::Keys;
use crate::time::parse_duration;
use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// The environment, as a look-up by name.
pub type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Files that the configuration names, as a look-up by path.
pub type Files<'a> = &'a dyn Fn(&Path) -> std::io::Result<Vec<u8>>;

/// No duration of a configuration is longer: ten years. Timers are computed with it without overflow.
const LONGEST: Duration = Duration::from_secs(3650 * 86_400);

/// One reading of one file.
pub(super) struct Cx<'a> {
    text: &'a str,
    env: Env<'a>,
    files: Option<Files<'a>>,
    /// The text has syntax errors, so what seems to be missing may only be unreadable.
    partial: bool,
    found: RefCell<Vec<Diagnostic>>,
    /// What does not fit the mode of its frontend or backend.
    unfit: RefCell<Vec<Diagnostic>>,
    /// A mode has a mistake: what fits it is not known.
    pub(super) mode_unknown: Cell<bool>,
    /// What `jwt(CLAIM)` keys are read with; inside, `None`: its section has mistakes. Outside: there is none.
    pub(super) jwt: RefCell<Option<Option<Arc<Keys>>>>,
    #[cfg(test)]
    pub(super) asked: RefCell<std::collections::HashSet<*const Key, foldhash::fast::FixedState>>,
}

impl<'a> Cx<'a> {
    pub(super) fn new(text: &'a str, env: Env<'a>, partial: bool) -> Self {
        Self {
            text,
            env,
            files: None,
            partial,
            found: RefCell::default(),
            unfit: RefCell::default(),
            mode_unknown: Cell::default(),
            jwt: RefCell::default(),
            #[cfg(test)]
            asked: RefCell::default(),
        }
    }

    /// With files to read.
    pub(super) fn with_files(self, files: Option<Files<'a>>) -> Self {
        Self { files, ..self }
    }

    /// What a file holds; `None`: files are not read.
    pub(super) fn read(&self, path: &Path) -> Option<std::io::Result<Vec<u8>>> {
        self.files.map(|files| files(path))
    }

    pub(super) fn bad(&self, span: Range<usize>, path: &str, message: impl Into<String>, help: impl Into<String>) {
        let diagnostic = Diagnostic::new(self.text, span, path, message.into(), help.into());
        self.found.borrow_mut().push(diagnostic);
    }

    /// As [`Self::bad`], for what does not fit the mode. Silent where a mode has a mistake of its own.
    pub(super) fn unfit(&self, span: Range<usize>, path: &str, message: impl Into<String>, help: impl Into<String>) {
        let diagnostic = Diagnostic::new(self.text, span, path, message.into(), help.into());
        self.unfit.borrow_mut().push(diagnostic);
    }

    /// As [`Self::bad`], for what is not there. Silent where syntax errors may have hidden it.
    pub(super) fn missing(&self, span: Range<usize>, path: &str, message: impl Into<String>, help: impl Into<String>) {
        if !self.partial {
            self.bad(span, path, message, help);
        }
    }

    /// Line of a place, for "used already in line 7".
    pub(super) fn line(&self, at: &Range<usize>) -> usize {
        line(&self.text.as_bytes()[..at.start.min(self.text.len())])
    }

    pub(super) fn into_found(self) -> Vec<Diagnostic> {
        let mut found = self.found.into_inner();
        if !self.mode_unknown.get() {
            found.extend(self.unfit.into_inner());
        }
        found
    }
}

/// One section: a table whose keys a [`Shape`] names.
pub(super) struct Section<'a> {
    pub(super) cx: &'a Cx<'a>,
    pub(super) path: String,
    /// Its header, or its name, or its brace: where something missing is reported.
    pub(super) at: Range<usize>,
    table: &'a DeTable<'a>,
    strange: Vec<Strange<'a>>,
    shape: &'static Shape,
}

/// A key that the shape does not know.
struct Strange<'a> {
    word: &'a Spanned<Cow<'a, str>>,
    value: &'a Spanned<DeValue<'a>>,
    /// The key that it stands for, and whether it is that one with a slip, not another balancer's word.
    meant: Option<(&'static str, bool)>,
}

impl<'a> Section<'a> {
    pub(super) fn new(
        cx: &'a Cx<'a>,
        path: String,
        at: Range<usize>,
        table: &'a DeTable<'a>,
        shape: &'static Shape,
    ) -> Self {
        let mut strange = Vec::new();
        for (word, value) in table.iter().filter(|(word, _)| shape.key(word.get_ref()).is_none()) {
            let key = word.get_ref();
            strange.push(Strange { word, value, meant: suggest::meant(key, shape) });
            let place = if path.is_empty() { "at the top level".into() } else { format!("in `{path}`") };
            let message = format!("unknown key `{key}` {place}");
            cx.bad(word.span(), &join(&path, key), message, suggest::key(key, value.get_ref(), shape));
        }
        Self { cx, path, at, table, strange, shape }
    }

    /// Whether the file has nothing in it.
    pub(super) fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// The value of a key, if the file has it.
    pub(super) fn get(&self, name: &'static str) -> Option<Item<'a>> {
        let key = self.shape.key(name);
        debug_assert!(key.is_some(), "config::file knows no key {name} of {}", self.path);
        let key = key?;
        #[cfg(test)]
        self.cx.asked.borrow_mut().insert(key);
        self.item(key)
    }

    /// A key that the file has; one with a slip in it is read as the one that was meant, so that the slip, which is
    /// reported, brings no reports about what it seems to lack.
    fn item(&self, key: &'static Key) -> Option<Item<'a>> {
        let slip = || self.strange.iter().find(|s| s.meant == Some((key.name, true))).map(|s| (s.word, s.value));
        let (word, value) = self.table.get_key_value(key.name).or_else(slip)?;
        Some(Item { cx: self.cx, path: join(&self.path, key.name), value, word: word.span(), key, kind: &key.kind })
    }

    /// Whether an unknown key stands for this one: then it is not missing, and that is reported.
    pub(super) fn misspelt(&self, name: &str) -> bool {
        self.strange.iter().filter_map(|strange| strange.meant).any(|(meant, _)| meant == name)
    }

    /// That something is not there. Silent where a key is unknown: that may have been meant to be it.
    pub(super) fn lacks(&self, message: impl Into<String>, help: impl Into<String>) {
        if self.strange.is_empty() {
            self.cx.missing(self.at.clone(), &self.path, message, help);
        }
    }

    /// The value of a key the section must have.
    pub(super) fn need(&self, name: &'static str) -> Option<Item<'a>> {
        let item = self.get(name);
        if item.is_none() && !self.misspelt(name) {
            let example = self.shape.key(name).map_or("", |k| k.eg);
            let message = format!("`{}` has no `{name}`", self.path);
            self.cx.missing(self.at.clone(), &self.path, message, format!("add `{name} = {example}`"));
        }
        item
    }

    /// The keys that the file gives, whether anybody asks for them or not.
    pub(super) fn given(&self) -> impl Iterator<Item = Item<'a>> {
        self.shape.keys.iter().filter_map(|key| self.item(key))
    }

    pub(super) fn text(&self, name: &'static str) -> Option<String> {
        self.get(name)?.text()
    }

    /// Reports keys that have no meaning here. Of a slip one report is enough.
    pub(super) fn useless(&self, names: &[&'static str], why: &str, help: &str) {
        for item in names.iter().filter(|name| self.table.contains_key(**name)).filter_map(|name| self.get(name)) {
            let message = format!("`{}` has no meaning {why}", item.name());
            item.cx.missing(item.word.clone(), &item.path, message, help);
        }
    }

    pub(super) fn flag(&self, name: &'static str, default: bool) -> bool {
        self.get(name).and_then(|item| item.flag()).unwrap_or(default)
    }

    pub(super) fn whole(&self, name: &'static str, default: u32) -> u32 {
        self.get(name).and_then(|item| item.whole()).and_then(|n| u32::try_from(n).ok()).unwrap_or(default)
    }

    pub(super) fn size(&self, name: &'static str, default: usize) -> usize {
        self.get(name).and_then(|item| item.whole()).and_then(|n| usize::try_from(n).ok()).unwrap_or(default)
    }

    pub(super) fn duration(&self, name: &'static str, default: Duration) -> Duration {
        self.get(name).and_then(|item| item.duration()).unwrap_or(default)
    }

    pub(super) fn word<T: serde::de::DeserializeOwned>(&self, name: &'static str) -> Option<T> {
        self.get(name)?.word()
    }
}

/// One value, with its place and what its [`Kind`] allows.
pub(super) struct Item<'a> {
    pub(super) cx: &'a Cx<'a>,
    pub(super) path: String,
    value: &'a Spanned<DeValue<'a>>,
    /// The key's own place.
    pub(super) word: Range<usize>,
    key: &'static Key,
    kind: &'static Kind,
}

impl<'a> Item<'a> {
    /// The key's name.
    pub(super) fn name(&self) -> &'static str {
        self.key.name
    }

    /// Place of the value.
    pub(super) fn at(&self) -> Range<usize> {
        self.value.span()
    }

    pub(super) fn bad(&self, message: impl Into<String>, help: impl Into<String>) {
        self.cx.bad(self.at(), &self.path, message, help);
    }

    /// `write KEY = EXAMPLE`
    pub(super) fn example(&self) -> String {
        format!("write `{} = {}`", self.key.name, self.key.eg)
    }

    fn wrong_type<T>(&self) -> Option<T> {
        let is = match self.value.get_ref() {
            DeValue::String(_) => "a text",
            DeValue::Integer(_) => "a number",
            DeValue::Float(_) => "a decimal number",
            DeValue::Boolean(_) => "true or false",
            DeValue::Datetime(_) => "a date",
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a section",
        };
        self.bad(format!("`{}` must be {}, not {is}", self.path, self.kind.noun()), self.example());
        None
    }

    /// A text, `${VAR}` replaced.
    pub(super) fn text(&self) -> Option<String> {
        debug_assert!(matches!(self.kind, Kind::Text), "{} is no text in config::file", self.path);
        let DeValue::String(raw) = self.value.get_ref() else {
            return self.wrong_type();
        };
        let text = self.expand(raw)?;
        if text.is_empty() {
            self.bad(format!("`{}` is empty", self.path), self.example());
            return None;
        }
        Some(text)
    }

    pub(super) fn flag(&self) -> Option<bool> {
        debug_assert!(matches!(self.kind, Kind::Flag), "{} is no flag in config::file", self.path);
        match (self.value.get_ref(), self.variable()?) {
            (DeValue::Boolean(flag), _) => Some(*flag),
            (_, Some(text)) => text.parse().ok().or_else(|| self.wrong_type()),
            _ => self.wrong_type(),
        }
    }

    /// A whole number within the bounds of its kind.
    pub(super) fn whole(&self) -> Option<u64> {
        let (Kind::Whole(min, max) | Kind::Size(min, max)) = *self.kind else {
            debug_assert!(false, "{} is no number in config::file", self.path);
            return None;
        };
        let number: Option<i128> = match (self.value.get_ref(), self.variable()?) {
            // A number too long even for this is out of bounds, on the side its sign says.
            (DeValue::Integer(n), _) => Some(i128::from_str_radix(n.as_str(), n.radix()).unwrap_or(i128::MAX)),
            (_, Some(text)) => suggest::size(&text),
            (DeValue::String(text), None) if matches!(self.kind, Kind::Size(..)) => suggest::size(text),
            _ => return self.wrong_type(),
        };
        match number {
            None => self.wrong_type(),
            Some(n) if n < i128::from(min) || n > i128::from(max) => {
                let n = if n == i128::MAX { "more".into() } else { n.to_string() };
                self.bad(format!("`{}` must be {}, not {n}", self.path, self.kind.noun()), self.example());
                None
            }
            Some(n) => u64::try_from(n).ok(),
        }
    }

    /// A whole number within the bounds of its kind, which may be below zero.
    pub(super) fn signed(&self) -> Option<i64> {
        let Kind::Signed(min, max) = *self.kind else {
            debug_assert!(false, "{} is no signed number in config::file", self.path);
            return None;
        };
        let number: Option<i128> = match (self.value.get_ref(), self.variable()?) {
            (DeValue::Integer(n), _) => i128::from_str_radix(n.as_str(), n.radix()).ok(),
            (_, Some(text)) => text.parse().ok(),
            _ => return self.wrong_type(),
        };
        match number.and_then(|n| i64::try_from(n).ok()).filter(|n| (min..=max).contains(n)) {
            Some(n) => Some(n),
            None => {
                self.bad(format!("`{}` must be {}", self.path, self.kind.noun()), self.example());
                None
            }
        }
    }

    pub(super) fn duration(&self) -> Option<Duration> {
        debug_assert!(matches!(self.kind, Kind::Span | Kind::SpanOrZero), "{} is no duration", self.path);
        let DeValue::String(raw) = self.value.get_ref() else {
            return self.wrong_type();
        };
        let text = self.expand(raw)?;
        match parse_duration(&text) {
            Err(why) => self.bad(format!("\"{text}\" is {why}"), self.example()),
            Ok(d) if d.is_zero() && matches!(self.kind, Kind::Span) => {
                self.bad(format!("`{}` is zero", self.path), format!("{}, or leave it out", self.example()));
            }
            Ok(d) if d > LONGEST => self.bad(format!("`{}` is longer than ten years", self.path), self.example()),
            Ok(d) => return Some(d),
        }
        None
    }

    /// One of the words of its kind, as the value that serde knows under that word.
    pub(super) fn word<T: serde::de::DeserializeOwned>(&self) -> Option<T> {
        let Kind::Word(words) = *self.kind else {
            debug_assert!(false, "{} is no word in config::file", self.path);
            return None;
        };
        let DeValue::String(raw) = self.value.get_ref() else {
            return self.wrong_type();
        };
        let text = self.expand(raw)?;
        if !words.contains(&text.as_str()) {
            let message = format!("\"{text}\" is no value of `{}`", self.path);
            self.bad(message, suggest::word(&text, words));
            return None;
        }
        let known = T::deserialize(serde::de::value::StrDeserializer::<serde::de::value::Error>::new(&text));
        debug_assert!(known.is_ok(), "config::file lists {text} for {}, its type does not", self.path);
        known.ok()
    }

    /// The one of several kinds that this value has.
    pub(super) fn either(&self) -> Option<Self> {
        let Kind::Either(kinds) = self.kind else {
            debug_assert!(false, "{} has one kind in config::file", self.path);
            return None;
        };
        match kinds.iter().find(|kind| kind.fits(self.value.get_ref())) {
            Some(kind) => Some(self.element(self.value, self.path.clone(), kind)),
            None => self.wrong_type(),
        }
    }

    /// Whether the value is a text.
    pub(super) fn is_text(&self) -> bool {
        self.value.get_ref().is_str()
    }

    /// Whether the value is a number.
    pub(super) fn is_number(&self) -> bool {
        self.value.get_ref().is_integer()
    }

    /// Whether the value is a list.
    pub(super) fn is_list(&self) -> bool {
        self.value.get_ref().is_array()
    }

    /// Whether the value is a section.
    pub(super) fn is_section(&self) -> bool {
        self.value.get_ref().is_table()
    }

    /// Whether the value is a section with nothing in it.
    pub(super) fn is_empty_section(&self) -> bool {
        self.value.get_ref().as_table().is_some_and(DeTable::is_empty)
    }

    /// Whether the value is `true` or `false`.
    pub(super) fn is_flag(&self) -> bool {
        self.value.get_ref().is_bool()
    }

    pub(super) fn section(&self) -> Option<Section<'a>> {
        let Kind::Section(shape) = self.kind else {
            debug_assert!(false, "{} is no section in config::file", self.path);
            return None;
        };
        let DeValue::Table(table) = self.value.get_ref() else {
            return self.wrong_type();
        };
        Some(Section::new(self.cx, self.path.clone(), self.brace(), table, shape))
    }

    /// Sections under free names, in the order of the file.
    pub(super) fn named(&self) -> Vec<(String, Range<usize>, Section<'a>)> {
        let (Kind::Named(shape), DeValue::Table(table)) = (self.kind, self.value.get_ref()) else {
            self.wrong_type::<()>();
            return Vec::new();
        };
        let mut entries: Vec<_> = table.iter().collect();
        entries.sort_by_key(|(name, _)| name.span().start);
        let read = |(name, value): (&'a Spanned<_>, &'a Spanned<DeValue<'a>>)| {
            let name_text: &str = AsRef::<str>::as_ref(name.get_ref() as &std::borrow::Cow<'a, str>);
            let path = join(&self.path, name_text);
            match value.get_ref() {
                DeValue::Table(table) => {
                    let section = Section::new(self.cx, path, name.span(), table, shape);
                    Some((name_text.to_owned(), name.span(), section))
                }
                _ => {
                    let message = format!("`{path}` must be a section");
                    // What is in a list has no header.
                    let help = match path.contains('[') {
                        true => format!("write `{name_text} = {{ … }}` with {}", shape.needs()),
                        false => format!("write `[{path}]` and its keys below it"),
                    };
                    self.cx.bad(value.span(), &path, message, help);
                    None
                }
            }
        };
        entries.into_iter().filter_map(read).collect()
    }

    /// The elements of a list; of [`Kind::Many`] also of a single value.
    pub(super) fn elements(&self) -> Vec<Self> {
        let (one_is_enough, kind) = match self.kind {
            Kind::List(kind) => (false, *kind),
            Kind::Many(kind) => (true, *kind),
            _ => {
                debug_assert!(false, "{} is no list in config::file", self.path);
                return Vec::new();
            }
        };
        match self.value.get_ref() {
            DeValue::Array(values) => {
                let path = |i| format!("{}[{i}]", self.path);
                values.iter().enumerate().map(|(i, value)| self.element(value, path(i), kind)).collect()
            }
            _ if one_is_enough => vec![self.element(self.value, self.path.clone(), kind)],
            _ => {
                self.wrong_type::<()>();
                Vec::new()
            }
        }
    }

    /// Texts under free keys, in the order of the file.
    pub(super) fn pairs(&self) -> Vec<(String, Self)> {
        let (Kind::Pairs, DeValue::Table(table)) = (self.kind, self.value.get_ref()) else {
            self.wrong_type::<()>();
            return Vec::new();
        };
        let mut entries: Vec<_> = table.iter().collect();
        entries.sort_by_key(|(name, _)| name.span().start);
        let read = |(name, value): (&'a Spanned<std::borrow::Cow<'a, str>>, &'a Spanned<DeValue<'a>>)| {
            let mut item = self.element(value, join(&self.path, name.get_ref()), &Kind::Text);
            item.word = name.span();
            (name.get_ref().to_string(), item)
        };
        entries.into_iter().map(read).collect()
    }

    fn element(&self, value: &'a Spanned<DeValue<'a>>, path: String, kind: &'static Kind) -> Self {
        Item { cx: self.cx, path, value, word: self.word.clone(), key: self.key, kind }
    }

    /// Where a section begins: its header, its first word or its brace; not all of a long inline table.
    fn brace(&self) -> Range<usize> {
        let at = self.at();
        match self.cx.text.as_bytes().get(at.start) {
            Some(b'{') => at.start..at.start + 1,
            _ => at,
        }
    }

    /// The expanded text of a value that is a text with a `${VAR}` in it, where another type is meant; inside, `None`:
    /// it is no such text. Outside, `None`: it is one, and cannot be expanded, which is reported.
    fn variable(&self) -> Option<Option<String>> {
        match self.value.get_ref() {
            DeValue::String(raw) if raw.contains("${") => self.expand(raw).map(Some),
            _ => Some(None),
        }
    }

    fn expand(&self, raw: &str) -> Option<String> {
        match super::env::expand(raw, self.cx.env) {
            Ok(text) => Some(text),
            Err(why) => {
                self.bad(why.message, why.help);
                None
            }
        }
    }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}
