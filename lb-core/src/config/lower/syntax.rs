//! Text that is no TOML: the parser's errors as diagnostics, and which of the later findings can still be believed.
use super::super::diagnostic::Diagnostic;
use super::super::suggest;
use std::collections::BTreeSet;
use std::ops::Range;
use toml::de::Error;

/// The parser's errors, one for a line: the second is mostly an echo of the first.
pub(super) fn diagnostics(text: &str, errors: &[Error]) -> Vec<Diagnostic> {
    let mut lines = BTreeSet::new();
    let mut found: Vec<_> = errors.iter().map(|e| diagnostic(text, e)).collect();
    found.sort_by_key(|d| d.span.start);
    found.retain(|d| lines.insert(d.line));
    found
}

fn diagnostic(text: &str, error: &Error) -> Diagnostic {
    let mut span = error.span().unwrap_or(text.len()..text.len());
    // "Something is missing here" at the end of a line is shown on that line, not on the next.
    while span.start > 0 && span.start >= text.trim_end().len() && text.is_char_boundary(span.start - 1) {
        span.start -= 1;
        if !text[span.start..].starts_with(char::is_whitespace) {
            break;
        }
    }
    let word = text.get(span.clone()).unwrap_or("").trim();
    let message = match error.message() {
        m if m.contains("must be quoted") && word.is_empty() => "this key has no value".into(),
        m => m.replace(", expected nothing", "").replace(", expected literal string", ""),
    };
    if let Some(place) = bare_text(text, span.start).filter(|_| message.starts_with("invalid ")) {
        let bare = &text[place.clone()];
        let flag = suggest::nearest(bare, ["true", "false"].into_iter());
        let help = flag.map_or_else(|| format!("write `\"{bare}\"`"), |flag| format!("write `{flag}`"));
        return Diagnostic::new(text, place, "", format!("`{bare}` is no value: texts stand in quotes"), help);
    }
    let help = match message.as_str() {
        m if m.contains("must be quoted") && !word.is_empty() => format!("write `\"{word}\"`"),
        m if m.contains("has no value") => "write a value after the `=`".into(),
        m if m.contains("duplicate key") => "a key stands once in its section: remove one of the two".into(),
        m if m.contains("missing comma") => "put a `,` between the two, and close what was opened before".into(),
        m if m.contains("unclosed") => "close it: `[section]`, `[\"list\"]`, `{ key = \"value\" }`".into(),
        m if m.contains("string") => "close the text with the quote it began with".into(),
        m if m.contains("key with no value") => "write `key = value`".into(),
        _ => "lines are `[section]` or `key = value`; https://toml.io shows all of TOML".into(),
    };
    Diagnostic::new(text, span, "", message, help)
}

/// The value without quotes that stands around this place, as in `mode = tcp`.
fn bare_text(text: &str, at: usize) -> Option<Range<usize>> {
    let (before, after) = text.split_at_checked(at)?;
    let start = before.rfind(['=', ',', '[', '{', '\n']).map_or(0, |i| i + 1);
    let end = at + after.find([',', ']', '}', '#', '\n']).unwrap_or(after.len());
    let start = end - text.get(start..end)?.trim_start().len();
    let bare = text.get(start..end)?.trim_end();
    let plain = |c: char| c.is_ascii_alphanumeric() || "._:/%*-".contains(c);
    let first = bare.chars().next()?;
    ((first.is_ascii_alphanumeric() || "/*".contains(first)) && bare.chars().all(plain))
        .then_some(start..start + bare.len())
}

/// Of the findings about what was read: those that a syntax error cannot have caused. A bracket left open takes in
/// lines that belong elsewhere, so nothing after it is believed; otherwise only the broken lines themselves are not.
pub(super) fn beside(errors: &[Error], syntax: &[Diagnostic], found: Vec<Diagnostic>) -> Vec<Diagnostic> {
    let open = |e: &&Error| ["unclosed", "comma", "in array", "inline table"].iter().any(|w| e.message().contains(w));
    let first_open = errors.iter().filter(open).filter_map(Error::span).map(|s| s.start).min().unwrap_or(usize::MAX);
    let broken: BTreeSet<usize> = syntax.iter().map(|d| d.line).collect();
    found.into_iter().filter(|d| d.span.start < first_open && !broken.contains(&d.line)).collect()
}
