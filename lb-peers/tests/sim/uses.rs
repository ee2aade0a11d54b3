//! What clients and operators do on a node of the simulated cluster, noted in the model; and what they see there.
use super::model::{Held, Place, View};
use super::node::{Node, Socket, name, text};
use super::world::World;
use lb_core::decisions::Decision;
use lb_core::id::NameId;
use lb_core::table::{Cursor, Merged, StickTable, Update};
use lb_core::time::Timestamp;
use lb_peers::replicator::Input;

impl World {
    /// Works on a table of a node, and notes what that wrote.
    fn work(&mut self, node: usize, table: usize, work: impl FnOnce(&Node, &StickTable, Timestamp)) {
        let (now, at) = (self.now(node).wall, self.at());
        let Some(it) = self.nodes[node].as_ref() else { return };
        let Some(used) = it.tables.get(table).cloned() else { return };
        let before: Vec<u64> = (0..used.shards()).map(|shard| used.newest(shard)).collect();
        work(it, &used, now);
        let mut written = Vec::new();
        for (shard, seq) in before.into_iter().enumerate() {
            let mut cursor = Cursor::default();
            cursor.seq = seq;
            used.changes(shard, &mut cursor, usize::MAX, now, &mut written);
        }
        for update in written {
            let (place, held) = seen(it, table, update);
            self.model.wrote((at, it.life), place, held);
        }
        self.after(node);
    }

    pub(crate) fn pin(&mut self, node: usize, key: &str, server: &str) {
        self.pin_in(node, 0, key, server);
    }

    pub(crate) fn pin_in(&mut self, node: usize, table: usize, key: &str, server: &str) {
        self.work(node, table, |it, t, now| _ = t.store(&text(key), it.names.intern(server), now));
        self.touched(node, table, key);
    }

    /// A request with a key comes.
    pub(crate) fn touch(&mut self, node: usize, table: usize, key: &str) {
        self.work(node, table, |_, t, now| _ = t.lookup(&text(key), now));
        self.touched(node, table, key);
    }

    /// A key that is there now was used a moment ago.
    fn touched(&mut self, node: usize, table: usize, key: &str) {
        let (now, at) = (self.now(node).wall, self.at());
        let Some(it) = self.nodes[node].as_ref() else { return };
        if it.tables.get(table).is_some_and(|t| t.peek(&text(key), now).is_some()) {
            self.model.touched((at, it.life), (table, key.to_owned()));
        }
    }

    /// A node has a pin that its peers are never told: an update that was lost.
    pub(crate) fn lose(&mut self, node: usize, key: &str, server: &str) {
        let now = self.now(node).wall;
        let it = self.node(node);
        let (stamp, server) = (it.clock.stamp(now), it.names.intern(server));
        let left = std::time::Duration::from_secs(7200);
        let update = Update { key: text(key).bytes().into(), server, stamp, left, holders: Vec::new() };
        assert_eq!(it.table.merge(&update, now), Merged::Applied);
    }

    pub(crate) fn clear(&mut self, node: usize, table: usize, key: &str) {
        self.work(node, table, |_, t, now| _ = t.clear(&text(key), now));
    }

    /// Clears all entries, or those of a server.
    pub(crate) fn clear_all(&mut self, node: usize, table: usize, server: Option<&str>) {
        self.work(node, table, |it, t, now| _ = t.clear_all(server.map(|s| it.names.intern(s)), now));
    }

    /// A socket opens on a key.
    pub(crate) fn open_socket(&mut self, node: usize, table: usize, key: &str) {
        let now = self.now(node).wall;
        let Some(it) = &mut self.nodes[node] else { return };
        let Some(used) = it.tables.get(table) else { return };
        let (place, hold) = ((table, key.to_owned()), used.hold(&text(key), now));
        it.sockets.push(Socket { place, hold, pinned: false });
        self.look_at_sockets(node);
        self.after(node);
    }

    /// The socket that was opened first closes.
    pub(crate) fn close_socket(&mut self, node: usize) {
        self.look_at_sockets(node);
        let now = self.now(node).wall;
        let Some(it) = &mut self.nodes[node] else { return };
        if !it.sockets.is_empty() {
            it.sockets.remove(0).hold.release(now);
            self.after(node);
        }
    }

    /// Open sockets use their entries, which must not go away meanwhile, unless they are cleared.
    pub(crate) fn look_at_sockets(&mut self, node: usize) {
        let (now, at) = (self.now(node).wall, self.at());
        let Some(it) = &mut self.nodes[node] else { return };
        let (mut used, mut gone) = (Vec::new(), Vec::new());
        for socket in &mut it.sockets {
            let pinned = it.tables[socket.place.0].peek(&text(&socket.place.1), now).is_some();
            if pinned {
                used.push(socket.place.clone());
            } else if socket.pinned {
                gone.push(socket.place.clone());
            }
            socket.pinned = pinned;
        }
        let life = it.life;
        used.into_iter().for_each(|place| self.model.touched((at, life), place));
        if !gone.is_empty() {
            let view = self.view(node);
            let lost = gone.into_iter().find(|place| !view.held.contains_key(place));
            let wrong = lost.map(|place| format!("at {at:?} {place:?} is gone from lb{node} under an open socket"));
            self.wrong = self.wrong.take().or(wrong);
        }
    }

    pub(crate) fn decide(&mut self, node: usize, server: &str) {
        let wall = self.now(node).wall;
        let it = self.node(node);
        let decision = Decision {
            server: ("web".into(), server.into()),
            state: None,
            weight: Some(7),
            closing: None,
            stamp: it.clock.stamp(wall),
            node: name(node),
            author: String::new(),
            reason: String::new(),
            at: wall.0,
        };
        it.decisions.merge(decision.clone(), Timestamp(0));
        self.model.decided(&decision);
        self.input(node, Input::Decided(Box::new(decision)));
    }

    /// Asks the peers for a key of the first table.
    pub(crate) fn ask(&mut self, node: usize, key: &str) {
        let Some(it) = &mut self.nodes[node] else { return };
        it.asked += 1;
        let (id, table, key) = (it.asked, "sessions".to_owned(), key.as_bytes().to_vec());
        self.input(node, Input::Ask { id, table, key });
    }

    pub(crate) fn server_of(&self, node: usize, key: &str) -> Option<String> {
        let it = self.nodes[node].as_ref()?;
        let pin = it.table.peek(&text(key), self.now(node).wall)?;
        Some(it.names.name(pin.server).to_string())
    }

    pub(crate) fn alive(&self) -> Vec<usize> {
        (0..self.nodes.len()).filter(|n| self.nodes[*n].is_some()).collect()
    }

    pub(crate) fn node(&self, node: usize) -> &Node {
        self.nodes[node].as_ref().expect("alive")
    }

    /// Names of the peers that are up for a node.
    pub(crate) fn ups(&self, node: usize) -> Vec<String> {
        let peers = self.node(node).replicator.status(self.now(node)).peers;
        peers.into_iter().filter(|p| p.state == "up").map(|p| p.name).collect()
    }

    /// All that the tables of a node hold, tombstones included.
    pub(crate) fn view(&self, node: usize) -> View {
        let (it, now) = (self.node(node), self.now(node).wall);
        let mut held = std::collections::BTreeMap::new();
        for (n, table) in it.tables.iter().enumerate() {
            let mut updates = Vec::new();
            for shard in 0..table.shards() {
                let mut from = Some(0);
                while let Some(slot) = from {
                    from = table.scan(shard, slot, 10_000, now, &mut updates);
                }
            }
            held.extend(updates.into_iter().map(|update| seen(it, n, update)));
        }
        View { node, life: it.life, born: it.born, tables: it.tables.len(), held }
    }
}

/// An update as the model sees it.
fn seen(node: &Node, table: usize, update: Update) -> (Place, Held) {
    let key = String::from_utf8_lossy(&update.key).into_owned();
    let server = (update.server != NameId::NONE).then(|| node.names.name(update.server).to_string());
    ((table, key), Held { stamp: update.stamp, server, left: update.left })
}
