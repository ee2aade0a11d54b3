//! Which names of servers are still used: servers come and go, and the names of those that are gone must not pile up.
use super::Base;
use crate::id::NameId;
use crate::server::ServerState;
use crate::table::StickTable;
use parking_lot::Mutex;
use std::collections::HashSet;
use std::sync::{Arc, Weak};

/// Every server that somebody still has: of this configuration or of one before.
#[derive(Debug, Default)]
pub(super) struct Living(Mutex<Vec<Weak<ServerState>>>);

impl Living {
    pub(super) fn add(&self, server: &Arc<ServerState>) {
        let mut all = self.0.lock();
        // Before it grows: what is gone makes room.
        if all.len() == all.capacity() {
            all.retain(|server| server.strong_count() > 0);
        }
        all.push(Arc::downgrade(server));
    }

    fn ids(&self) -> HashSet<NameId> {
        let all = self.0.lock();
        all.iter().filter_map(Weak::upgrade).map(|server| server.id).collect()
    }
}

impl Base {
    /// Forgets the names of servers that are gone, and that no pin of these tables names; how many. To be called now and
    /// then, with all tables there are.
    pub fn forget_names<'a>(&self, tables: impl Iterator<Item = &'a Arc<StickTable>>) -> usize {
        let mut used = self.living.ids();
        tables.for_each(|table| table.names_used(&mut used));
        self.names.forget(&used)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::KeyKind;
    use crate::hlc::Clock;
    use crate::id::{Names, NodeId};
    use crate::server::AdminState;
    use crate::table::{StickKey, tests};
    use crate::time::Timestamp;
    use std::time::Duration;

    fn base() -> Base {
        let clock = Clock::new(NodeId::new("lb1", 1), Duration::from_secs(86_400));
        Base::new(Arc::default(), Arc::new(clock), 1, 1)
    }

    fn pod(base: &Base, n: u32) -> Arc<ServerState> {
        let name = format!("pod-10.{}.{}.{}:8080", n >> 16, (n >> 8) & 255, n & 255);
        let id = base.names.intern(&name);
        assert!(!id.is_none(), "there is room for {name}, with {} names", base.names.len());
        let server = Arc::new(ServerState::new("app", &name, id, n, 1, AdminState::Ready));
        base.living.add(&server);
        server
    }

    #[test]
    fn a_hundred_thousand_generations_of_pods_leave_room_for_the_next_and_every_pin_its_name() {
        let base = base();
        let table = tests::node_table("a", &base.names, tests::spec(500));
        let key = |n: u32| StickKey::from_canonical(KeyKind::Binary, 64, &n.to_le_bytes()).unwrap();
        let (mut living, mut now) = (Vec::new(), Timestamp(1_700_000_000_000));
        // One that a request of long ago still has, and one that only its pin remembers.
        let old = pod(&base, 1 << 24);
        table.store(&key(0), pod(&base, (1 << 24) + 1).id, now);
        let mut most = 0;
        for n in 1..=100_000_u32 {
            living.push(pod(&base, n));
            now = now.plus(Duration::from_millis(1));
            table.store(&key(1 + n % 400), living[living.len() - 1].id, now);
            if living.len() > 20 {
                // Its clients were moved, and may come back.
                let (gone, next) = (living.remove(0), living[5].id);
                table.store(&key(401 + n % 50), base.names.moved(next, gone.id), now);
            }
            if n % 1000 == 0 {
                table.lookup(&key(0), now);
                base.forget_names([&table].into_iter());
                most = most.max(base.names.len());
            }
        }
        assert!(most < 10_000, "{most} names at a time");
        assert!(!base.names.name(old.id).is_empty());
        let mut used = HashSet::new();
        table.names_used(&mut used);
        assert!(used.len() > 400);
        for id in used.into_iter().filter(|id| !id.is_none()) {
            let name = base.names.name(id);
            assert!(name.starts_with("pod-"), "a pin has lost its server's name");
            assert_eq!(name.contains('<'), base.names.parted(id).is_some(), "{name}");
        }
    }

    #[test]
    fn without_forgetting_they_would_not_fit() {
        let names = Names::default();
        let full = (0..=Names::MAX).map(|n| names.intern(&format!("pod-{n}"))).filter(|id| id.is_none()).count();
        assert_eq!(full, 1);
        names.forget(&HashSet::new());
        assert!(names.intern("next").is_none(), "all of them were asked for just now");
        names.forget(&HashSet::new());
        assert!(!names.intern("next").is_none());
    }
}
