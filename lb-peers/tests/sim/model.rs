//! The reference model: every write with its stamp, every use of a key, and from them what the tables must hold in the
//! end. It is told of nothing that the nodes say to each other.
use lb_core::decisions::{Decision, Decisions};
use lb_core::hlc::Stamp;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// How much longer a tombstone is kept than a pin.
const TOMBSTONE_EXTRA: Duration = Duration::from_secs(3600);

/// A node that lives so long has its links and its tables.
const JOINED: Duration = Duration::from_secs(15);

/// A table, by its place among a node's tables, and a key.
pub(crate) type Place = (usize, String);

/// What a node holds under a key; no server: a tombstone.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Held {
    pub(crate) stamp: Stamp,
    pub(crate) server: Option<String>,
    pub(crate) left: Duration,
}

/// All that a node holds.
#[derive(Debug)]
pub(crate) struct View {
    pub(crate) node: usize,
    pub(crate) life: u64,
    /// When this life began.
    pub(crate) born: Duration,
    /// How many tables it has.
    pub(crate) tables: usize,
    pub(crate) held: BTreeMap<Place, Held>,
}

#[derive(Debug)]
struct Write {
    server: Option<String>,
    at: Duration,
    /// Perhaps nobody who lives has heard of it.
    lost: bool,
}

/// What happened to a key.
#[derive(Debug, Default)]
struct Story {
    writes: BTreeMap<Stamp, Write>,
    /// When each life of a node last used it.
    used: BTreeMap<u64, Duration>,
}

/// What must hold of the tables' lives.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// The shortest and the longest expiry of the nodes.
    pub(crate) expire: (Duration, Duration),
    /// How long an entry may be on its way, from which the time that is left to it is counted anew: its life may end
    /// that much later, and who believes in so late an end tells of a use that much later.
    pub(crate) slack: Duration,
    /// The tables are full: an entry may be missing.
    pub(crate) full: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Model {
    stories: BTreeMap<Place, Story>,
    /// Decisions by server, each with whether it is lost.
    decisions: BTreeMap<(String, String), BTreeMap<Stamp, bool>>,
    /// The newest version that each life of a node was seen to hold.
    newest: BTreeMap<u64, BTreeMap<Place, Stamp>>,
}

impl Model {
    /// A node wrote, or told of a use.
    pub(crate) fn wrote(&mut self, (at, life): (Duration, u64), place: Place, held: Held) {
        let story = self.stories.entry(place).or_default();
        story.writes.entry(held.stamp).or_insert(Write { server: held.server, at, lost: false });
        story.used.insert(life, at);
    }

    /// A key was used.
    pub(crate) fn touched(&mut self, (at, life): (Duration, u64), place: Place) {
        self.stories.entry(place).or_default().used.insert(life, at);
    }

    pub(crate) fn decided(&mut self, decision: &Decision) {
        self.decisions.entry(decision.server.clone()).or_default().insert(decision.stamp, false);
    }

    /// A node is gone: what none of those who are left holds may be lost.
    pub(crate) fn died(&mut self, survivors: &[View], decided: &[Arc<Decisions>]) {
        for (place, story) in &mut self.stories {
            let known = survivors.iter().filter_map(|view| view.held.get(place)).map(|held| held.stamp).max();
            let unknown = story.writes.iter_mut().filter(|(stamp, _)| known.is_none_or(|known| **stamp > known));
            unknown.for_each(|(_, write)| write.lost = true);
        }
        for ((backend, server), stamps) in &mut self.decisions {
            let known = decided
                .iter()
                .filter_map(|d| d.get(backend, server, lb_core::time::Timestamp(0)))
                .map(|d| d.stamp)
                .max();
            stamps
                .iter_mut()
                .filter(|(stamp, _)| known.is_none_or(|known| **stamp > known))
                .for_each(|(_, l)| *l = true);
        }
    }

    /// What a node holds never goes back to an older version, nor away before its time.
    pub(crate) fn watch(&mut self, view: &View) -> Result<(), String> {
        let newest = self.newest.entry(view.life).or_default();
        for (place, stamp) in newest.iter() {
            let held = view.held.get(place).map(|held| held.stamp);
            if held.is_none_or(|held| held < *stamp) {
                return Err(format!("lb{} had {place:?} as of {stamp:?}, and now {held:?}", view.node));
            }
        }
        newest.extend(view.held.iter().map(|(place, held)| (place.clone(), held.stamp)));
        Ok(())
    }

    /// Nobody holds what was never written.
    pub(crate) fn known(&self, view: &View) -> Result<(), String> {
        for (place, held) in &view.held {
            let write = self.stories.get(place).and_then(|story| story.writes.get(&held.stamp));
            if write.is_none_or(|write| write.server != held.server) {
                return Err(format!("lb{} holds {place:?} as {held:?}, which nobody wrote", view.node));
            }
        }
        Ok(())
    }

    /// The cluster has settled: all hold the same, and what they must.
    pub(crate) fn settled(&self, at: Duration, views: &[View], bounds: Bounds) -> Result<(), String> {
        views.iter().try_for_each(|view| self.known(view))?;
        let lives: BTreeSet<u64> = views.iter().map(|view| view.life).collect();
        for (place, story) in &self.stories {
            let having: Vec<&View> = views.iter().filter(|view| view.tables > place.0).collect();
            story.check(at, &lives, &having, (place, bounds)).map_err(|why| format!("{place:?}: {why}\n{story:#?}"))?;
        }
        Ok(())
    }

    /// All know the same decisions, and none that somebody knew is lost.
    pub(crate) fn decisions_settled(&self, all: &[Arc<Decisions>]) -> Result<(), String> {
        for ((backend, server), stamps) in &self.decisions {
            let needed = stamps.iter().filter(|(_, lost)| !**lost).map(|(stamp, _)| *stamp).max();
            let known: BTreeSet<_> =
                all.iter().map(|d| d.get(backend, server, lb_core::time::Timestamp(0)).map(|d| d.stamp)).collect();
            if known.len() > 1 || known.first().is_some_and(|known| *known < needed) {
                return Err(format!("decisions on {server}: {known:?}, and needed {needed:?}"));
            }
        }
        Ok(())
    }
}

impl Story {
    fn check(
        &self,
        at: Duration,
        lives: &BTreeSet<u64>,
        views: &[&View],
        (place, bounds): (&Place, Bounds),
    ) -> Result<(), String> {
        let (shortest, longest) = bounds.expire;
        let held: Vec<Option<&Held>> = views.iter().map(|view| view.held.get(place)).collect();
        let last = self.used.values().max().copied().unwrap_or_default();
        for held in held.iter().flatten() {
            let extra = if held.server.is_none() { TOMBSTONE_EXTRA } else { Duration::ZERO };
            if at + held.left > last + longest + bounds.slack + extra {
                return Err(format!("at {at:?} it lives too long: {held:?}"));
            }
        }
        let versions: BTreeSet<Stamp> = held.iter().flatten().map(|held| held.stamp).collect();
        if versions.len() > 1 {
            return Err(format!("held in several versions: {held:?}"));
        }
        if bounds.full {
            return Ok(());
        }
        if let Some(needed) = self.needed(at, shortest)
            && held.iter().any(|held| held.is_none_or(|held| held.stamp < needed))
        {
            return Err(format!("{needed:?} must be known to all at {at:?}: {held:?}"));
        }
        let used = self.used.iter().filter(|(life, _)| lives.contains(life)).map(|(_, at)| *at).max();
        let Some(used) = used else { return Ok(()) };
        let due = (used + shortest - shortest / 8).saturating_sub(bounds.slack);
        let heard = |view: &&&View| view.born + JOINED < used;
        for view in views.iter().filter(heard).filter(|_| due > at) {
            if view.held.get(place).is_none_or(|held| at + held.left < due) {
                return Err(format!("at {at:?} it must live until {due:?} on lb{}: {held:?}", view.node));
            }
        }
        Ok(())
    }

    /// The newest version that somebody who lives knew all along; none once it, or one that may have taken its place,
    /// is past its time: with that the entry was forgotten.
    fn needed(&self, at: Duration, expire: Duration) -> Option<Stamp> {
        let ends = |w: &Write| w.at + expire + if w.server.is_none() { TOMBSTONE_EXTRA } else { Duration::ZERO };
        let lives = |(_, write): &(&Stamp, &Write)| ends(write) > at;
        self.writes.iter().rev().take_while(lives).find(|(_, write)| !write.lost).map(|(stamp, _)| *stamp)
    }
}
