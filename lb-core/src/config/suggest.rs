//! What to write instead: nearest words, the keys of a section, numbers with a unit, nouns for what a value may be.
use super::file::{Kind, Shape};
use toml::de::DeValue;

impl Kind {
    /// "must be …"
    pub(super) fn noun(&self) -> String {
        match self {
            Self::Text => "a text in quotes".into(),
            Self::Flag => "true or false".into(),
            Self::Whole(min, max) => format!("a whole number from {} to {}", grouped(*min), grouped(*max)),
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
            Self::Whole(..) => value.is_integer(),
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
pub(super) fn meant(word: &str, shape: &Shape) -> Option<(&'static str, bool)> {
    let same = |a: &str| a.replace('-', "_").eq_ignore_ascii_case(&word.replace('-', "_"));
    let own = || shape.keys.iter().find(|k| same(k.name)).map(|k| (k.name, true));
    let foreign = || shape.keys.iter().find(|k| k.also.iter().any(|w| same(w))).map(|k| (k.name, false));
    let near = || nearest(word, shape.keys.iter().map(|k| k.name)).map(|name| (name, true));
    own().or_else(foreign).or_else(near).or_else(|| near_alias(word, shape).map(|name| (name, false)))
}

/// Help for an unknown key: the one that was meant, or all there are.
pub(super) fn key(word: &str, shape: &Shape) -> String {
    let names: Vec<&str> = shape.keys.iter().map(|k| k.name).collect();
    match (meant(word, shape), names.as_slice()) {
        (Some((name, _)), _) => format!("did you mean `{name}`?"),
        (None, [only]) => format!("the only key here is `{only}`"),
        (None, names) => format!("the keys here are {}", ticked(names)),
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
    candidates
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
        assert_eq!(near("banana"), None);
        assert_eq!(near(&"x".repeat(10_000)), None);
    }
}
