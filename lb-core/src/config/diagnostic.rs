//! One mistake in a configuration file: where it is, what is wrong, what to write instead.
//! A value, not a text for the screen: the command line draws it with the source, the admin API sends it as lines.
use std::fmt;
use std::ops::Range;

/// A mistake in a configuration file.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Diagnostic {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// Bytes of the text it is about.
    pub span: Range<usize>,
    /// The key, as `backend.web.server[2].addr`; empty where the text is no TOML.
    pub path: String,
    /// What is wrong.
    pub message: String,
    /// What to write instead.
    pub help: String,
}

impl Diagnostic {
    /// A mistake at `span` of `text`.
    pub(crate) fn new(text: &str, span: Range<usize>, path: &str, message: String, help: String) -> Self {
        let span = clamp(text, span);
        let before = &text[..span.start];
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        Self {
            line: line(before.as_bytes()),
            column: before[line_start..].chars().count() + 1,
            span,
            path: path.into(),
            message,
            help,
        }
    }
}

/// The line, from 1, that begins or goes on after this much of a text.
pub(super) fn line(before: &[u8]) -> usize {
    memchr::memchr_iter(b'\n', before).count() + 1
}

/// `LINE:COLUMN: error: …`, and the help on a line of its own. The caller puts the file's name and a colon before it.
impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: error: {}", self.line, self.column, self.message)?;
        if !self.help.is_empty() {
            write!(f, "\n  help: {}", self.help)?;
        }
        Ok(())
    }
}

/// The span within the text and on character borders, so that nobody who slices by it can panic.
fn clamp(text: &str, span: Range<usize>) -> Range<usize> {
    let border = |at: usize| (0..=at.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    let start = border(span.start);
    start..border(span.end).max(start)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_columns_count_characters_from_one() {
        let text = "a = 1\nb = \"é\" # x\nc";
        let at = |start| {
            let d = Diagnostic::new(text, start..start + 1, "", String::new(), String::new());
            (d.line, d.column)
        };
        assert_eq!(at(0), (1, 1));
        assert_eq!(at(text.find('#').unwrap()), (2, 9));
        assert_eq!(at(text.len() + 10), (3, 2));
    }
}
