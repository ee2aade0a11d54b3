//! Whom a starting instance pulls its tables from, and when it has waited enough.
//!
//! It must not know how a pull goes over the wire; it is told how it ended.
use super::LinkId;
use std::collections::BTreeSet;
use std::time::Duration;

/// A peer that could be pulled from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Source<'a> {
    pub(super) link: LinkId,
    pub(super) name: &'a str,
    /// Its own tables are whole.
    pub(super) pulled: bool,
}

/// Where the start of this instance is.
#[derive(Debug)]
enum Phase {
    Seeking,
    Pulling { link: LinkId },
    Done,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Plan {
    phase: Phase,
    until: Duration,
    /// Peers that were not whole themselves, and gave what they had.
    partial: BTreeSet<LinkId>,
    /// How it came to be so, for people.
    how: String,
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Wait,
    PullFrom(LinkId),
    /// The tables are whole.
    Done,
}

impl Plan {
    pub(super) fn new(until: Duration) -> Self {
        let how = "looking for a peer to pull from".to_owned();
        Self { phase: Phase::Seeking, until, partial: BTreeSet::new(), how }
    }

    pub(super) fn is_done(&self) -> bool {
        matches!(self.phase, Phase::Done)
    }

    pub(super) fn how(&self) -> &str {
        &self.how
    }

    /// `accounted`: nobody else can be waited for.
    pub(super) fn step(&mut self, now: Duration, sources: &[Source<'_>], accounted: bool) -> Step {
        if !matches!(self.phase, Phase::Seeking) {
            return Step::Wait;
        }
        if let Some(whole) = sources.iter().find(|s| s.pulled) {
            return self.pull(whole);
        }
        if !accounted && now < self.until {
            return Step::Wait;
        }
        // All who are there are as fresh as we are: take what each of them has.
        if let Some(fresh) = sources.iter().find(|s| !self.partial.contains(&s.link)) {
            return self.pull(fresh);
        }
        self.phase = Phase::Done;
        self.how = match (accounted, sources.is_empty()) {
            (true, true) => "began alone: no peer is there".into(),
            (true, false) => "began together with peers that are as new".into(),
            (false, _) => "began alone: no peer to pull from within join_timeout".into(),
        };
        Step::Done
    }

    fn pull(&mut self, source: &Source<'_>) -> Step {
        self.phase = Phase::Pulling { link: source.link };
        self.how = format!("pulling from {}", source.name);
        Step::PullFrom(source.link)
    }

    /// A pull of all tables has ended. True: the tables are whole.
    pub(super) fn ended(&mut self, link: LinkId, name: &str, partial: bool, entries: u64, took: Duration) -> bool {
        if !matches!(self.phase, Phase::Pulling { link: from } if from == link) {
            return false;
        }
        if partial {
            self.partial.insert(link);
            self.phase = Phase::Seeking;
            return false;
        }
        self.phase = Phase::Done;
        self.how = format!("pulled {entries} entries from {name} in {} ms", took.as_millis());
        true
    }

    /// A link is gone: what was being pulled from it is pulled from another.
    pub(super) fn lost(&mut self, link: LinkId) {
        if matches!(self.phase, Phase::Pulling { link: from } if from == link) {
            self.phase = Phase::Seeking;
            "looking for another peer to pull from: the source is gone".clone_into(&mut self.how);
        }
        self.partial.remove(&link);
    }

    /// When waiting ends.
    pub(super) fn timeout(&self) -> Option<Duration> {
        matches!(self.phase, Phase::Seeking).then_some(self.until)
    }
}
