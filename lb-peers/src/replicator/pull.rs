//! Whom a starting instance pulls its tables from, which buckets from whom, and when it has waited enough.
//!
//! It must not know how a pull goes over the wire; it is told how each part ended.
use super::LinkId;
use lb_core::table::StickTable;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// How long a pull waits for further peers to come up, so that each gives a part.
const FURTHER_PEERS: Duration = Duration::from_millis(50);
/// Peers that a pull is divided among, at most.
const MAX_SOURCES: usize = 16;

/// Buckets of the digest as bits, the lowest bit of the first byte first. Empty: all.
pub(super) type Buckets = Vec<u8>;

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
    /// Peers with whole tables give a part each.
    Pulling(Parts),
    /// Nobody is whole: one after the other gives what it has.
    Gathering(LinkId),
    Done,
}

/// The parts of a pull.
#[derive(Debug, Default)]
struct Parts {
    /// Not asked for, or lost with their source.
    open: Vec<Buckets>,
    running: BTreeMap<LinkId, Buckets>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Plan {
    phase: Phase,
    until: Duration,
    /// When the first peer with whole tables was seen.
    seen: Option<Duration>,
    /// Peers that were not whole themselves, and gave what they had.
    partial: BTreeSet<LinkId>,
    /// What came so far: from whom, how many, since when.
    from: BTreeSet<String>,
    entries: u64,
    begun: Duration,
    /// How it came to be so, for people.
    how: String,
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Wait,
    PullFrom(Vec<(LinkId, Buckets)>),
    /// The tables are whole.
    Done,
}

/// How a part of a pull ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ended {
    pub(super) link: LinkId,
    /// The source was not whole itself.
    pub(super) partial: bool,
    pub(super) entries: u64,
}

impl Plan {
    pub(super) fn new(until: Duration) -> Self {
        Self {
            phase: Phase::Seeking,
            until,
            seen: None,
            partial: BTreeSet::new(),
            from: BTreeSet::new(),
            entries: 0,
            begun: Duration::ZERO,
            how: "looking for a peer to pull from".to_owned(),
        }
    }

    pub(super) fn is_done(&self) -> bool {
        matches!(self.phase, Phase::Done)
    }

    pub(super) fn how(&self) -> &str {
        &self.how
    }

    /// `accounted`: nobody else can be waited for.
    pub(super) fn step(&mut self, now: Duration, sources: &[Source<'_>], accounted: bool) -> Step {
        let is_whole = |s: &&Source<'_>| s.pulled && !self.partial.contains(&s.link);
        let whole: Vec<Source<'_>> = sources.iter().filter(is_whole).take(MAX_SOURCES).copied().collect();
        let waited = accounted || now >= self.until;
        match &mut self.phase {
            Phase::Seeking if !whole.is_empty() => {
                let seen = *self.seen.get_or_insert(now);
                if !accounted && now < seen + FURTHER_PEERS {
                    return Step::Wait;
                }
                (self.begun, self.phase) = (now, Phase::Pulling(Parts::divided(whole.len())));
                self.assign(&whole)
            }
            Phase::Pulling(parts) if parts.running.is_empty() && whole.is_empty() && waited => {
                self.gather(sources, accounted)
            }
            Phase::Pulling(_) => self.assign(&whole),
            Phase::Seeking if waited => self.gather(sources, accounted),
            Phase::Seeking | Phase::Gathering(_) | Phase::Done => Step::Wait,
        }
    }

    /// Asks idle sources for the parts that are open. Without any source the search begins anew, for those parts.
    fn assign(&mut self, whole: &[Source<'_>]) -> Step {
        let Phase::Pulling(parts) = &mut self.phase else { return Step::Wait };
        let mut asked = Vec::new();
        for source in whole {
            if parts.running.contains_key(&source.link) {
                continue;
            }
            let Some(buckets) = parts.open.pop() else { break };
            parts.running.insert(source.link, buckets.clone());
            self.from.insert(source.name.to_owned());
            asked.push((source.link, buckets));
        }
        if asked.is_empty() {
            return Step::Wait;
        }
        self.how = format!("pulling from {}", self.names());
        Step::PullFrom(asked)
    }

    fn names(&self) -> String {
        self.from.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
    }

    /// All who are there are as fresh as we are: takes what each of them has.
    fn gather(&mut self, sources: &[Source<'_>], accounted: bool) -> Step {
        if let Some(fresh) = sources.iter().find(|s| !self.partial.contains(&s.link)) {
            self.phase = Phase::Gathering(fresh.link);
            self.how = format!("pulling from {}", fresh.name);
            return Step::PullFrom(vec![(fresh.link, Buckets::new())]);
        }
        self.phase = Phase::Done;
        self.how = match (accounted, sources.is_empty()) {
            (true, true) => "began alone: no peer is there".into(),
            (true, false) => "began together with peers that are as new".into(),
            (false, _) => "began alone: no peer to pull from within join_timeout".into(),
        };
        Step::Done
    }

    /// A part has ended. True: the tables are whole.
    pub(super) fn ended(&mut self, now: Duration, ended: Ended) -> bool {
        let Ended { link, partial, entries } = ended;
        match &mut self.phase {
            Phase::Gathering(from) if *from == link => {
                self.partial.insert(link);
                self.phase = Phase::Seeking;
                false
            }
            Phase::Pulling(parts) => {
                let Some(buckets) = parts.running.remove(&link) else { return false };
                self.entries += entries;
                if partial {
                    self.partial.insert(link);
                    parts.open.push(buckets);
                }
                if !parts.open.is_empty() || !parts.running.is_empty() {
                    return false;
                }
                self.phase = Phase::Done;
                let took = now.saturating_sub(self.begun).as_millis();
                self.how = format!("pulled {} entries from {} in {took} ms", self.entries, self.names());
                true
            }
            _ => false,
        }
    }

    /// A link is gone: what was being pulled from it is pulled from another.
    pub(super) fn lost(&mut self, link: LinkId) {
        match &mut self.phase {
            Phase::Gathering(from) if *from == link => self.phase = Phase::Seeking,
            Phase::Pulling(parts) => {
                parts.open.extend(parts.running.remove(&link));
                if parts.running.is_empty() {
                    "looking for another peer to pull from: the source is gone".clone_into(&mut self.how);
                }
            }
            _ => {}
        }
        self.partial.remove(&link);
    }

    /// When waiting ends.
    pub(super) fn timeout(&self) -> Option<Duration> {
        match &self.phase {
            Phase::Seeking => Some(self.seen.map_or(self.until, |seen| self.until.min(seen + FURTHER_PEERS))),
            Phase::Pulling(parts) if parts.running.is_empty() => Some(self.until),
            _ => None,
        }
    }
}

impl Parts {
    /// All buckets in `n` parts.
    fn divided(n: usize) -> Self {
        let of = |part: usize| {
            let mut bits = vec![0u8; StickTable::BUCKETS / 8];
            (part..StickTable::BUCKETS).step_by(n).for_each(|bucket| bits[bucket / 8] |= 1 << (bucket % 8));
            bits
        };
        let open = if n == 1 { vec![Buckets::new()] } else { (0..n).map(of).collect() };
        Self { open, running: BTreeMap::new() }
    }
}
