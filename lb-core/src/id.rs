//! Identities: nodes of a cluster, names shared between tables and configuration.
use parking_lot::RwLock;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

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
/// Bounded: a peer that floods names gets [`NameId::NONE`] back past [`Names::MAX`], and its entry is refused.
#[derive(Debug)]
pub struct Names {
    inner: RwLock<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    ids: HashMap<Arc<str>, NameId>,
    names: Vec<Arc<str>>,
}

impl Default for Names {
    fn default() -> Self {
        Self { inner: RwLock::new(Inner { ids: HashMap::new(), names: vec!["".into()] }) }
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
        if let Some(id) = self.inner.read().ids.get(name) {
            return *id;
        }
        let mut inner = self.inner.write();
        if let Some(id) = inner.ids.get(name) {
            return *id;
        }
        if inner.names.len() >= Self::MAX {
            return NameId::NONE;
        }
        let id = NameId(inner.names.len() as u32);
        let name: Arc<str> = name.into();
        inner.names.push(name.clone());
        inner.ids.insert(name, id);
        id
    }

    /// The pin of a client that was moved to a server and may go back to its first one: `server<first`, as one name. To
    /// an instance that does not know of such pins it is a server that its configuration does not have. Without room
    /// for one more name the way back is forgotten.
    pub fn moved(&self, server: NameId, home: NameId) -> NameId {
        let pin = self.intern(&format!("{}{HOME}{}", self.name(server), self.name(home)));
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
        self.inner.read().ids.get(name).copied()
    }

    /// The name behind an id; empty for [`NameId::NONE`].
    pub fn name(&self, id: NameId) -> Arc<str> {
        let inner = self.inner.read();
        inner.names.get(id.0 as usize).unwrap_or(&inner.names[0]).clone()
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
    fn a_restarted_node_keeps_its_name_but_not_its_id() {
        let (first, second) = (NodeId::new("lb1", 1), NodeId::new("lb1", 2));
        assert!(first.same_name(second));
        assert_ne!(first, second);
        assert!(!first.same_name(NodeId::new("lb2", 1)));
    }
}
