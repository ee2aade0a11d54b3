//! What people and scripts read: aligned tables, colours only on a terminal, JSON on request.
use anstyle::{AnsiColor, Style};
use comfy_table::{Table, presets};
use serde::Serialize;

/// Green: as it should be.
pub(crate) const GOOD: Style = Style::new().fg_color(Some(anstyle::Color::Ansi(AnsiColor::Green)));
/// Red: it needs somebody.
pub(crate) const BAD: Style = Style::new().fg_color(Some(anstyle::Color::Ansi(AnsiColor::Red)));
/// Yellow: on purpose, but not as usual.
pub(crate) const ODD: Style = Style::new().fg_color(Some(anstyle::Color::Ansi(AnsiColor::Yellow)));
/// Headings.
pub(crate) const HEAD: Style = Style::new().bold();

/// A line.
pub(crate) fn line(text: impl std::fmt::Display) {
    anstream::println!("{text}");
}

/// A heading.
pub(crate) fn heading(text: &str) {
    line(format_args!("{HEAD}{text}{HEAD:#}"));
}

/// Text in a style. Where standard output is no terminal, `anstream` takes the style out again.
pub(crate) fn styled(style: Style, text: impl std::fmt::Display) -> String {
    format!("{style}{text}{style:#}")
}

/// Pretty JSON.
pub(crate) fn json(value: &impl Serialize) -> anyhow::Result<()> {
    line(serde_json::to_string_pretty(value)?);
    Ok(())
}

/// One JSON object on a line.
pub(crate) fn json_line(value: &impl Serialize) -> anyhow::Result<()> {
    line(serde_json::to_string(value)?);
    Ok(())
}

/// Rows under headings, in columns.
pub(crate) fn table(headings: &[&str], rows: Vec<Vec<String>>) {
    line(aligned(headings, rows));
}

fn aligned(headings: &[&str], rows: Vec<Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(headings.iter().map(|h| h.to_uppercase()));
    table.add_rows(rows);
    table.lines().map(|l| l.trim_end().to_owned()).collect::<Vec<_>>().join("\n")
}

/// Seconds for people: `1h4m`, `12s`, `0.3s`.
pub(crate) fn seconds(s: f64) -> String {
    match s {
        s if s < 10.0 => format!("{s:.1}s"),
        s if s < 3600.0 => format!("{}m{:02}s", s as u64 / 60, s as u64 % 60),
        s => format!("{}h{:02}m", s as u64 / 3600, s as u64 / 60 % 60),
    }
}

/// Bytes for people.
pub(crate) fn bytes(n: u64) -> String {
    match n {
        n if n < 10 * 1024 => format!("{n} B"),
        n if n < 10 * 1024 * 1024 => format!("{} KiB", n / 1024),
        n => format!("{} MiB", n / (1024 * 1024)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_no_line_ends_in_blanks() {
        let text = aligned(&["name", "n"], vec![vec!["a".into(), "100".into()], vec!["longer".into(), String::new()]]);
        let lines: Vec<_> = text.lines().collect();
        assert!(lines[0].contains("NAME") && lines.iter().all(|l| *l == l.trim_end()), "{text}");
        assert_eq!(lines[0].find('N'), lines[1].find('a'));
    }

    #[test]
    fn times_and_sizes_are_short() {
        assert_eq!((seconds(0.25), seconds(75.0), seconds(3700.0)), ("0.2s".into(), "1m15s".into(), "1h01m".into()));
        assert_eq!((bytes(100), bytes(20_480)), ("100 B".into(), "20 KiB".into()));
    }
}
