//! What a server's agent says of it: a line of HAProxy's agent-check protocol, as numbers and states.
//!
//! Words are separated by blanks or commas; each changes one thing, what is not named stays. Text behind `#` says why.
use crate::server::{AdminState, Health};

/// No line is longer.
pub const MAX_LINE: usize = 1024;
/// The greatest share of its configured weight, in percent.
const MAX_SHARE: u32 = 25_600;

/// A line, read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// `75%`: of the configured weight.
    pub share: Option<u32>,
    /// `maxconn:30`; 0: no bound.
    pub maxconn: Option<u32>,
    /// `ready`, `drain`, `maint`
    pub state: Option<AdminState>,
    /// `up`; `down`, `failed`, `stopped`
    pub health: Option<Health>,
    /// What stands behind `#`.
    pub why: Option<String>,
    /// Words that mean nothing here.
    pub unknown: Vec<String>,
}

impl Report {
    /// Reads a line: up to the first line end.
    pub fn read(bytes: &[u8]) -> Self {
        let line = bytes.split(|b| matches!(b, b'\n' | b'\r' | 0)).next().unwrap_or_default();
        let line = String::from_utf8_lossy(&line[..line.len().min(MAX_LINE)]);
        let (words, why) = line.split_once('#').unwrap_or((&line, ""));
        let mut report = Self { why: Some(why.trim().to_owned()).filter(|w| !w.is_empty()), ..Self::default() };
        for word in words.split([' ', '\t', ',']).filter(|w| !w.is_empty()) {
            report.word(&word.to_ascii_lowercase());
        }
        report
    }

    fn word(&mut self, word: &str) {
        match word {
            "ready" => self.state = Some(AdminState::Ready),
            "drain" => self.state = Some(AdminState::Drain),
            "maint" => self.state = Some(AdminState::Maint),
            "up" => self.health = Some(Health::Up),
            "down" | "failed" | "stopped" => self.health = Some(Health::Down),
            _ => {
                let share = word.strip_suffix('%').and_then(|n| n.parse().ok()).filter(|n| *n <= MAX_SHARE);
                let maxconn = word.strip_prefix("maxconn:").and_then(|n| n.parse().ok());
                match (share, maxconn) {
                    (Some(_), _) => self.share = share,
                    (_, Some(_)) => self.maxconn = maxconn,
                    _ => self.unknown.push(word.to_owned()),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn each_word_changes_one_thing_and_the_rest_stays() {
        let report = Report::read(b"up 50% drain maxconn:30\n");
        let expected = Report {
            share: Some(50),
            maxconn: Some(30),
            state: Some(AdminState::Drain),
            health: Some(Health::Up),
            ..Report::default()
        };
        assert_eq!(report, expected);
        assert_eq!(Report::read(b"\n"), Report::default());
        assert_eq!(Report::read(b"75%\r\nmaint"), Report { share: Some(75), ..Report::default() });
    }

    #[test]
    fn down_has_three_words_and_a_reason() {
        for word in ["down", "failed", "STOPPED"] {
            let report = Report::read(format!("0%, {word} # disk is full\n").as_bytes());
            assert_eq!((report.health, report.share), (Some(Health::Down), Some(0)));
            assert_eq!(report.why.as_deref(), Some("disk is full"));
        }
    }

    #[test]
    fn what_means_nothing_is_told() {
        assert_eq!(Report::read(b"up fine -3% 9999999% maxconn:x\n").unknown, ["fine", "-3%", "9999999%", "maxconn:x"]);
    }

    proptest! {
        #[test]
        fn whatever_comes_is_read(bytes: Vec<u8>) {
            let report = Report::read(&bytes);
            prop_assert!(report.share.is_none_or(|share| share <= MAX_SHARE));
        }
    }
}
