//! Rules of a frontend on what its tables have counted: whose counts a rule looks at, what it compares, what it does.
//! They are values here; who counts and who answers is not known.
use crate::counters::Counter;
use crate::stick::KeyExpr;
use crate::time::format_duration;
use std::fmt;
use std::time::Duration;

/// One rule. It counts its key's request in its table, then looks there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limit {
    /// Whose counts.
    pub key: KeyExpr,
    /// In which table.
    pub table: String,
    /// All of these must hold. Empty: always.
    pub when: Vec<Condition>,
    /// What is done then.
    pub then: Action,
}

/// A comparison with a counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Condition {
    /// One that the table stores.
    pub counter: Counter,
    /// How it is compared.
    pub op: Op,
    /// With what.
    pub number: u64,
}

/// A comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Op {
    More,
    AtLeast,
    Less,
    AtMost,
    Equal,
}

/// What a rule does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Nothing: the rule is there to count.
    Track,
    /// Answers with this status.
    Deny(u16),
    /// Holds the request for a while, then answers with this status.
    Tarpit(Duration, u16),
    /// Adds one to `gpc(n)`.
    Inc(u8),
    /// Sets `gpt(n)`.
    Set(u8, u64),
}

impl Limit {
    /// How long until a rate that the rule looks at has forgotten what it holds now: the longest period. `None`: it
    /// looks at no rate, so nothing that waiting would change.
    pub fn period(&self) -> Option<Duration> {
        self.when.iter().filter_map(|c| c.counter.period()).max()
    }
}

impl Action {
    /// Its first word.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Track => "track",
            Self::Deny(_) => "deny",
            Self::Tarpit(..) => "tarpit",
            Self::Inc(_) => "inc",
            Self::Set(..) => "set",
        }
    }
}

impl Condition {
    /// Whether it holds for a counter of this value.
    pub fn holds(&self, value: u64) -> bool {
        match self.op {
            Op::More => value > self.number,
            Op::AtLeast => value >= self.number,
            Op::Less => value < self.number,
            Op::AtMost => value <= self.number,
            Op::Equal => value == self.number,
        }
    }
}

impl Op {
    /// All, with their signs.
    pub const SIGNS: [(&str, Self); 5] =
        [(">", Self::More), (">=", Self::AtLeast), ("<", Self::Less), ("<=", Self::AtMost), ("==", Self::Equal)];
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = Self::SIGNS.iter().find(|(_, op)| op == self).map_or("", |(sign, _)| sign);
        f.write_str(sign)
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.counter, self.op, self.number)
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Track => f.write_str("track"),
            Self::Deny(status) => write!(f, "deny {status}"),
            Self::Tarpit(hold, status) => write!(f, "tarpit {} {status}", format_duration(*hold)),
            Self::Inc(n) => write!(f, "inc gpc({n})"),
            Self::Set(n, value) => write!(f, "set gpt({n}) {value}"),
        }
    }
}

/// `src in clients when http_req_rate(10s) > 100 then deny 429`
impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in {}", self.key, self.table)?;
        for (i, condition) in self.when.iter().enumerate() {
            write!(f, " {} {condition}", if i == 0 { "when" } else { "and" })?;
        }
        write!(f, " then {}", self.then)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_comparison_holds_where_its_sign_says() {
        let holds = |op, value| Condition { counter: Counter::ConnCur, op, number: 5 }.holds(value);
        let below_at_above = |op| [4, 5, 6].map(|value| holds(op, value));
        assert_eq!(below_at_above(Op::More), [false, false, true]);
        assert_eq!(below_at_above(Op::AtLeast), [false, true, true]);
        assert_eq!(below_at_above(Op::Less), [true, false, false]);
        assert_eq!(below_at_above(Op::AtMost), [true, true, false]);
        assert_eq!(below_at_above(Op::Equal), [false, true, false]);
    }

    #[test]
    fn the_longest_period_of_a_rule_is_what_a_client_has_to_wait() {
        let condition = |counter| Condition { counter, op: Op::More, number: 1 };
        let limit = |when| Limit { key: KeyExpr::Src, table: "t".into(), when, then: Action::Deny(429) };
        let (ten, minute) = (Duration::from_secs(10), Duration::from_secs(60));
        let rates = vec![condition(Counter::HttpReqRate(ten)), condition(Counter::HttpErrRate(minute))];
        assert_eq!(limit(rates).period(), Some(minute));
        assert_eq!(limit(vec![condition(Counter::ConnCur)]).period(), None);
    }
}
