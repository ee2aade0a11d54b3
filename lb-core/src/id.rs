//! Identities: nodes of a cluster, names shared between tables and configuration.
use parking_lot::RwLock;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// A node in a clock stamp: 24 bits of the stable hash of its name, 8 bits of its incarnation.
///
/// The incarnation makes the stamps of a restarted node differ from those of its former life. Two nodes whose names
/// share the 24 bits refuse each other when they meet ([`NodeId::same_name`]), so that a stamp names one node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub u32);

impl NodeId {
    /// The id of node `name` in its `incarnation`.
    pub fn new(name: &str, incarnation: u64) -> Self {
        let hash = crate::hash::stable(name.as_bytes());
        Self(((hash as u32) & 0xffff_ff00) | (crate::hash::stable(&incarnation.to_le_bytes()) as u32 & 0xff))
    }

    /// Whether both ids come from one name (or from two that must not meet).
    pub fn same_name(self, other: Self) -> bool {
        self.0 & 0xffff_ff00 == other.0 & 0xffff_ff00
    }
}

/// A name (of a server, mostly) as a small number, valid within this process only. 0 is "no name".
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NameId(pub u32);

impl NameId {
    /// No name: in a pin, the tombstone.
    pub const NONE: Self = Self(0);

    /// Whether this is [`NameId::NONE`].
    pub fn is_none(self) -> bool {
        self == Self::NONE
    }
}

impl fmt::Debug for NameId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "name#{}", self.0)
    }
}

/// Stands in no name of a server: see [`Names::moved`].
const HOME: char = '<';

/// The names that tables, servers and peers speak of, each stored once. A pin holds four bytes instead of a string,
/// and a server that the configuration does not know (a roll half done) still has its name kept and passed on.
///
/// Bounded: a peer that floods names gets [`NameId::NONE`] back past [`Names::MAX`], and its entry is refused. Names that
/// nothing uses any more are forgotten ([`Names::forget`]); their ids are never given to others, so that whoever still
/// holds one holds the id of nobody.
#[derive(Debug)]
pub struct Names {
    inner: RwLock<Inner>,
    nobody: Arc<str>,
}

#[derive(Debug, Default)]
struct Inner {
    ids: HashMap<Arc<str>, NameId>,
    names: HashMap<NameId, Known>,
    /// The newest id.
    newest: u32,
    /// How often names were forgotten.
    round: u32,
}

#[derive(Debug)]
struct Known {
    name: Arc<str>,
    /// The round in which somebody last asked for the id of this name.
    asked: AtomicU32,
}

impl Default for Names {
    fn default() -> Self {
        Self { inner: RwLock::default(), nobody: "".into() }
    }
}

impl Names {
    /// How many names a process remembers at most.
    pub const MAX: usize = 1 << 17;
    /// The longest name, in bytes.
    pub const MAX_LEN: usize = 256;

    /// The id of `name`, made when it is new. [`NameId::NONE`] for an empty or too long name, or when full.
    pub fn intern(&self, name: &str) -> NameId {
        if name.is_empty() || name.len() > Self::MAX_LEN {
            return NameId::NONE;
        }
        if let Some(id) = self.find(name) {
            return id;
        }
        let mut inner = self.inner.write();
        if let Some(id) = inner.find(name) {
            return id;
        }
        let Some(id) = inner.newest.checked_add(1).filter(|_| inner.names.len() < Self::MAX) else {
            return NameId::NONE;
        };
        inner.newest = id;
        let (id, name): (_, Arc<str>) = (NameId(id), name.into());
        let asked = AtomicU32::new(inner.round);
        inner.names.insert(id, Known { name: name.clone(), asked });
        inner.ids.insert(name, id);
        id
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.inner.read().names.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Forgets the names that are not `used`, unless somebody asked for them since the last time but one: what they were
    /// asked for may be on its way to where it is used. Returns how many went.
    pub fn forget(&self, used: &HashSet<NameId>) -> usize {
        let mut inner = self.inner.write();
        inner.round += 1;
        let Inner { ids, names, round, .. } = &mut *inner;
        let before = names.len();
        // The pin of a client that was moved is made of two names.
        let parts = |id: &NameId| names.get(id).and_then(|known| known.name.split_once(HOME));
        let halves = used.iter().filter_map(parts).flat_map(|(server, home)| [server, home]);
        let halves: HashSet<NameId> = halves.filter_map(|name| ids.get(name).copied()).collect();
        names.retain(|id, known| {
            let fresh = known.asked.load(Relaxed) + 1 >= *round;
            let keep = fresh || used.contains(id) || halves.contains(id);
            if !keep {
                ids.remove(&known.name);
            }
            keep
        });
        before - names.len()
    }

    /// The pin of a client that was moved to a server and may go back to its first one: `server<first`, as one name. To
    /// an instance that does not know of such pins it is a server that its configuration does not have. Without room
    /// for one more name the way back is forgotten.
    pub fn moved(&self, server: NameId, home: NameId) -> NameId {
        let names = (self.name(server), self.name(home));
        if names.0.is_empty() || names.1.is_empty() {
            return server;
        }
        let pin = self.intern(&format!("{}{HOME}{}", names.0, names.1));
        if pin.is_none() { server } else { pin }
    }

    /// Takes a pin made by [`Self::moved`] apart: where the client is, and its first server.
    pub fn parted(&self, pin: NameId) -> Option<(NameId, NameId)> {
        let name = self.name(pin);
        let (server, home) = name.split_once(HOME)?;
        Some((self.find(server)?, self.find(home)?))
    }

    /// Whether a pin names this server, moved there or not.
    pub fn is_at(&self, pin: NameId, server: NameId) -> bool {
        pin == server || self.parted(pin).is_some_and(|(at, _)| at == server)
    }

    /// The id of `name` if it has one.
    pub fn find(&self, name: &str) -> Option<NameId> {
        self.inner.read().find(name)
    }

    /// The name behind an id; empty for [`NameId::NONE`] and for those that were forgotten.
    pub fn name(&self, id: NameId) -> Arc<str> {
        self.inner.read().names.get(&id).map_or(&self.nobody, |known| &known.name).clone()
    }
}

impl Inner {
    fn find(&self, name: &str) -> Option<NameId> {
        let id = *self.ids.get(name)?;
        if let Some(known) = self.names.get(&id)
            && known.asked.load(Relaxed) != self.round
        {
            known.asked.store(self.round, Relaxed);
        }
        Some(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_one_id_and_an_id_one_name() {
        let names = Names::default();
        let a = names.intern("node1");
        assert_eq!(a, names.intern("node1"));
        assert_ne!(a, names.intern("node2"));
        assert_eq!(&*names.name(a), "node1");
        assert_eq!(names.intern(""), NameId::NONE);
        assert_eq!(names.find("node3"), None);
    }

    #[test]
    fn a_pin_keeps_the_way_back_in_its_name() {
        let names = Names::default();
        let (a, b) = (names.intern("node1"), names.intern("node2"));
        let moved = names.moved(b, a);
        assert_eq!((&*names.name(moved), names.parted(moved)), ("node2<node1", Some((b, a))));
        assert_eq!(names.parted(a), None);
        assert!(names.is_at(moved, b) && names.is_at(a, a) && !names.is_at(moved, a));
        assert_eq!(names.parted(names.intern("node2<gone")), None, "a first server that nobody knows");
        let long = names.intern(&"x".repeat(Names::MAX_LEN));
        assert_eq!(names.moved(long, a), long, "too long for both: the way back is forgotten");
    }

    #[test]
    fn a_name_that_nothing_uses_is_forgotten_after_a_grace_and_its_id_is_nobodys_for_ever() {
        let names = Names::default();
        let (used, unused) = (names.intern("used"), names.intern("unused"));
        let moved = names.moved(names.intern("to"), names.intern("from"));
        let kept = HashSet::from([used, moved]);
        assert_eq!(names.forget(&kept), 0, "they were asked for a moment ago");
        assert_eq!(names.forget(&kept), 1);
        assert_eq!((&*names.name(used), &*names.name(unused)), ("used", ""));
        assert_eq!(names.find("unused"), None);
        assert!(names.parted(moved).is_some(), "of a pin in two parts both are used");
        assert_eq!(names.moved(used, unused), used, "no way back to nobody");
        let again = names.intern("unused");
        assert!(again > moved && again != unused);
    }

    #[test]
    fn a_restarted_node_keeps_its_name_but_not_its_id() {
        let (first, second) = (NodeId::new("lb1", 1), NodeId::new("lb1", 2));
        assert!(first.same_name(second));
        assert_ne!(first, second);
        assert!(!first.same_name(NodeId::new("lb2", 1)));
    }
}
