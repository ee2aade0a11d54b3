//! What to write instead: nearest words, the keys of a section, numbers with a unit, nouns for what a value may be.
use super::file::{Key, Kind, ROOT, Shape};
use super::file_check;
use super::file_rules;
use toml::de::DeValue;

impl Kind {
    /// "must be …"
    pub(super) fn noun(&self) -> String {
        match self {
            Self::Text => "a text in quotes".into(),
            Self::Flag => "true or false".into(),
            Self::Whole(min, max) => format!("a whole number from {} to {}", grouped(*min), grouped(*max)),
            Self::Signed(min, max) => format!("a whole number from {min} to {max}"),
            Self::Size(min, max) => {
                format!("a whole number from {} to {}, or a text as \"100k\"", grouped(*min), grouped(*max))
            }
            Self::Span | Self::SpanOrZero => "a duration in quotes, as \"500ms\", \"5s\", \"30m\" or \"1h30m\"".into(),
            Self::Word(words) => format!("one of {}", quoted(words)),
            Self::Pairs => "a table of texts, as { Name = \"value\" }".into(),
            Self::Section(_) => "a section".into(),
            Self::Named(_) => "sections with names".into(),
            Self::List(kind) => format!("a list in brackets, each element {}", kind.noun()),
            Self::Many(kind) => format!("{}, or a list of these", kind.noun()),
            Self::Either(kinds) => kinds.iter().map(Self::noun).collect::<Vec<_>>().join(", or "),
        }
    }

    /// Whether a value has the TOML type of this kind; for [`Kind::Either`], which has one kind for each type.
    pub(super) fn fits(&self, value: &DeValue<'_>) -> bool {
        match self {
            Self::Flag => value.is_bool(),
            Self::Whole(..) | Self::Signed(..) => value.is_integer(),
            Self::Size(..) => value.is_integer() || value.is_str(),
            Self::Pairs | Self::Section(_) | Self::Named(_) => value.is_table(),
            Self::List(_) => value.is_array(),
            _ => value.is_str(),
        }
    }
}

/// `100_000`, as TOML writes it.
fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let parts: Vec<_> = digits.as_bytes().rchunks(3).rev().map(|part| String::from_utf8_lossy(part)).collect();
    parts.join("_")
}

/// The key that an unknown one stands for, and whether it is that one with a slip: not another balancer's word, whose
/// values may be written otherwise.
pub(super) fn meant(word: &str, shape: &'static Shape) -> Option<(&'static str, bool)> {
    let own = shape.keys.iter().find(|k| same(k.name, word)).map(|k| (k.name, true));
    let foreign = || shape.keys.iter().find(|k| k.also.iter().any(|w| same(w, word))).map(|k| (k.name, false));
    if let Some(known) = own.or_else(foreign) {
        return Some(known);
    }
    // What a section below has by that very name is no slip of the keyboard here.
    if under_if(word, shape) || !below(shape, word).is_empty() {
        return None;
    }
    let near = nearest(word, shape.keys.iter().map(|k| k.name)).map(|name| (name, true));
    near.or_else(|| near_alias(word, shape).map(|name| (name, false)))
}

fn same(a: &str, b: &str) -> bool {
    a.replace('-', "_").eq_ignore_ascii_case(&b.replace('-', "_"))
}

/// Help for an unknown key: the one that was meant, where it belongs, or all there are.
pub(super) fn key(word: &str, value: &DeValue<'_>, shape: &'static Shape) -> String {
    let names: Vec<&str> = shape.keys.iter().map(|k| k.name).collect();
    if let Some((name, _)) = meant(word, shape) {
        return format!("did you mean `{name}`?");
    }
    if under_if(word, shape) {
        let eg = file_rules::IF.key(word).map_or("…", |k| k.eg);
        return format!("conditions stand under `if`: write `if = {{ {word} = {eg} }}`");
    }
    if word == "timeout" && std::ptr::eq(shape, &file_check::CHECK) {
        return "how long a check may take is `timeout = { check = \"2s\" }` of the backend".into();
    }
    if let Some((name, places)) = places(word, value, shape) {
        let belongs = format!("belongs under {}", places.join(" or "));
        return if name == word {
            format!("`{word}` {belongs}")
        } else {
            format!("`{name}` is it here, and {belongs}")
        };
    }
    match names.as_slice() {
        [only] => format!("the only key here is `{only}`"),
        names => format!("the keys here are {}", ticked(names)),
    }
}

/// Whether the section has an `if`, and the word is what that asks for.
fn under_if(word: &str, shape: &Shape) -> bool {
    shape.key("if").is_some() && file_rules::IF.key(word).is_some() && shape.key(word).is_none()
}

/// The sections that have the key: those under this one, else, as `backend.NAME.check`, all of them. By its own name, else
/// by another balancer's word for it; few, all for one key, or it says nothing.
fn places(word: &str, value: &DeValue<'_>, shape: &'static Shape) -> Option<(&'static str, Vec<String>)> {
    let all = || {
        let mut found = below(&ROOT, word);
        // What is timed is not what is meant.
        found.retain(|(path, _)| !path.ends_with(".timeout`"));
        found
    };
    let few = |found: Vec<(String, &'static Key)>| {
        let name = found.first()?.1.name;
        let one = found.len() <= 4 && found.iter().all(|(_, key)| key.name == name);
        one.then(|| (name, found.into_iter().map(|(path, _)| path).collect()))
    };
    // A section is not meant by a number.
    let fitting = |mut found: Vec<(String, &'static Key)>| {
        found.retain(|(_, key)| key.kind.fits(value));
        few(found)
    };
    let foreign = |of: &'static Shape| under(of, &|key| key.also.iter().any(|w| same(w, word)));
    let own = fitting(below(shape, word)).or_else(|| fitting(all())).or_else(|| few(below(shape, word)));
    own.or_else(|| few(all())).or_else(|| few(foreign(shape))).or_else(|| few(foreign(&ROOT)))
}

/// The sections under this one that have a key of this name.
fn below(of: &'static Shape, word: &str) -> Vec<(String, &'static Key)> {
    under(of, &|key| key.name == word)
}

/// The sections under this one with such a key.
fn under(of: &'static Shape, is: &dyn Fn(&Key) -> bool) -> Vec<(String, &'static Key)> {
    let mut found = Vec::new();
    visit(of, String::new(), &mut Vec::new(), &mut |path, shape| {
        if let Some(key) = shape.keys.iter().find(|key| is(key)).filter(|_| !path.is_empty()) {
            found.push((format!("`{path}`"), key));
        }
    });
    found
}

/// Every section under this one. `above`: those on the way, so that one that holds itself is seen once.
fn visit(
    shape: &'static Shape,
    path: String,
    above: &mut Vec<*const Shape>,
    each: &mut dyn FnMut(&str, &'static Shape),
) {
    if above.contains(&std::ptr::from_ref(shape)) {
        return;
    }
    each(&path, shape);
    above.push(shape);
    for key in shape.keys {
        let path = if path.is_empty() { key.name.to_owned() } else { format!("{path}.{}", key.name) };
        inside(&key.kind, path, above, each);
    }
    above.pop();
}

fn inside(
    kind: &'static Kind,
    path: String,
    above: &mut Vec<*const Shape>,
    each: &mut dyn FnMut(&str, &'static Shape),
) {
    match kind {
        Kind::Section(shape) => visit(shape, path, above, each),
        Kind::Named(shape) => visit(shape, format!("{path}.NAME"), above, each),
        Kind::List(kind) | Kind::Many(kind) => inside(kind, path, above, each),
        Kind::Either(kinds) => kinds.iter().for_each(|kind| inside(kind, path.clone(), above, each)),
        _ => {}
    }
}

/// The key one of whose other words was mistyped.
fn near_alias(word: &str, shape: &Shape) -> Option<&'static str> {
    let near = nearest(word, shape.keys.iter().flat_map(|k| k.also.iter().copied()))?;
    shape.keys.iter().find(|k| k.also.contains(&near)).map(|k| k.name)
}

/// Help for a wrong word.
pub(super) fn word(text: &str, words: &[&str]) -> String {
    match nearest(text, words.iter().copied()) {
        Some(near) => format!("did you mean \"{near}\"? There are {}", quoted(words)),
        None => format!("write one of {}", quoted(words)),
    }
}

/// Help for a name that nothing has.
pub(super) fn name(text: &str, what: &str, names: &[String]) -> String {
    match (nearest(text, names.iter().map(String::as_str)), names) {
        (Some(near), _) => format!("did you mean \"{near}\"?"),
        (None, []) => format!("there is no {what} yet: add `[{what}.{text}]`"),
        (None, names) => {
            let names: Vec<&str> = names.iter().map(String::as_str).take(20).collect();
            format!("add `[{what}.{text}]`, or write one of {}", quoted(&names))
        }
    }
}

/// The candidate that a slip of the keyboard turns into `word`.
pub(super) fn nearest<'a>(word: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    // Distances are quadratic: nobody means a known word by so long a one.
    if word.len() > 64 {
        return None;
    }
    let word = word.to_lowercase();
    let reach = (word.chars().count() / 3).clamp(1, 3);
    let candidates: Vec<&str> = candidates.collect();
    // An abbreviation, as "int": its length says nothing of how far it is.
    let mut begun = candidates.iter().filter(|c| word.len() > 2 && c.to_lowercase().starts_with(&word));
    if let (Some(only), None) = (begun.next(), begun.next()) {
        return Some(only);
    }
    candidates
        .into_iter()
        .map(|c| (strsim::damerau_levenshtein(&word, &c.to_lowercase()), c))
        .filter(|(distance, c)| *distance <= reach && *distance < c.chars().count())
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, c)| c)
}

/// `"100k"`, `"1.5M"` is none, `"16KiB"`: k, M, G are thousands; Ki, Mi, Gi are 1,024s.
pub(super) fn size(text: &str) -> Option<i128> {
    let text = text.trim().replace('_', "");
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let factor = match unit.trim_start().trim_end_matches(['b', 'B']).to_ascii_lowercase().as_str() {
        "" => 1,
        "k" => 1_000,
        "m" => 1_000_000,
        "g" => 1_000_000_000,
        "ki" => 1 << 10,
        "mi" => 1 << 20,
        "gi" => 1 << 30,
        _ => return None,
    };
    number.parse::<i128>().ok()?.checked_mul(factor)
}

fn quoted(words: &[&str]) -> String {
    words.iter().map(|w| format!("\"{w}\"")).collect::<Vec<_>>().join(", ")
}

fn ticked(words: &[&str]) -> String {
    words.iter().map(|w| format!("`{w}`")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_with_decimal_and_binary_units() {
        for (text, n) in [("100", 100), ("100k", 100_000), ("2M", 2_000_000), ("16KiB", 16384), ("16 kB", 16000)] {
            assert_eq!(size(text), Some(n), "{text}");
        }
        for text in ["", "k", "1.5M", "10x", "-1", "999999999999999999999999999999999999999999"] {
            assert_eq!(size(text), None, "{text}");
        }
    }

    #[test]
    fn a_slip_is_suggested_and_a_stranger_is_not() {
        let near = |word: &str| nearest(word, ["expire", "size", "type"].into_iter());
        assert_eq!(near("exprie"), Some("expire"));
        assert_eq!(near("Size"), Some("size"));
        assert_eq!(near("exp"), Some("expire"));
        assert_eq!(near("banana"), None);
        assert_eq!(near(&"x".repeat(10_000)), None);
    }
}
