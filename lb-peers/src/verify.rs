//! Holding our tables against the peers' now, because somebody asks: which keys differ.
//!
//! It asks through the driver, as anybody could, and changes nothing: what a peer lists is compared and not merged.
//!
//! # What counts as a difference
//!
//! Where digests are equal, nothing differs. Where not, the entries of the buckets that differ are listed, and once
//! more a second later: what changed in between was on its way. A key differs that has two versions, or that only one
//! side has. Life left is no version; and an entry that only one side has is no difference when it has no more than an
//! eighth of the table's expiry to live: by so much the other may have known less of its life, and dropped it a moment
//! before the rest was told.
use crate::driver::{Command, Shared};
use crate::replicator::{Inspect, Inspected};
use crate::tables::Local;
use lb_core::id::{Names, NodeId};
use lb_core::status::{DifferingKey, HeldStatus, PeerStatus, Verified, VerifiedTable};
use lb_core::table::{StickKey, StickTable, Update};
use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// Between the two comparisons: what is on its way arrives.
const PAUSE: Duration = Duration::from_secs(1);
/// A peer that says nothing for this long is given up.
const SILENT: Duration = Duration::from_secs(10);
/// Buckets listed at a time: what was seen of them is remembered meanwhile.
const GROUP: usize = 128;
/// Keys named for each table of a peer.
const NAMED: usize = 1000;
/// Entries looked at before others have their turn.
const STEP: usize = 512;
/// Clocks of sweeps and the way of a message, on top of the eighth of the expiry.
const SLACK: Duration = Duration::from_secs(2);

/// See [`crate::Peers::verifier`].
#[derive(Clone, Debug)]
pub struct Verifier {
    pub(crate) commands: mpsc::UnboundedSender<Command>,
    pub(crate) shared: Arc<Shared>,
}

/// There is no table, or no peer, of that name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unknown(String);

/// One of our tables, and the peer that has it, too.
#[derive(Clone)]
struct Pair {
    verifier: Verifier,
    peer: String,
    table: Arc<Local>,
    names: Arc<Names>,
}

/// A key, as both sides hold it.
struct Difference {
    here: Option<Update>,
    there: Option<Update>,
}

/// How many keys differ, and the first of them.
type Found = Result<(u64, Vec<Difference>), String>;

impl Verifier {
    /// Compares all tables, or one, with all peers, or one. `node` tells the names of nodes.
    ///
    /// # Errors
    /// A table or a peer that there is not.
    pub async fn verify(
        &self,
        table: Option<&str>,
        peer: Option<&str>,
        node: impl Fn(NodeId) -> String,
    ) -> Result<Verified, Unknown> {
        let tables = self.tables(table)?;
        let (me, names) = self.shared.replicator.lock().identity();
        let (mut comparing, mut found) = (JoinSet::new(), Vec::new());
        for (peer, trouble) in self.peers(peer)? {
            for table in &tables {
                let (verifier, peer, names) = (self.clone(), peer.clone(), names.clone());
                let pair = Pair { verifier, peer, table: table.clone(), names };
                match trouble.clone() {
                    Some(trouble) => found.push((pair, Err(trouble))),
                    None => drop(comparing.spawn(async move {
                        let found = pair.compare().await;
                        (pair, found)
                    })),
                }
            }
        }
        while let Some(compared) = comparing.join_next().await {
            found.extend(compared.ok());
        }
        let mut comparisons: Vec<_> = found.iter().map(|(pair, found)| pair.show(found, &node)).collect();
        comparisons.sort_by(|a, b| (&a.peer, &a.table).cmp(&(&b.peer, &b.table)));
        let equal = comparisons.iter().all(|c| c.equal == Some(true));
        let entries = tables.iter().map(|t| t.table.stats().entries).sum();
        Ok(Verified { node: me, equal, entries, tables: tables.iter().map(|t| t.name.clone()).collect(), comparisons })
    }

    fn tables(&self, only: Option<&str>) -> Result<Vec<Arc<Local>>, Unknown> {
        let all = self.shared.replicator.lock().replicated();
        let wanted: Vec<_> = all.iter().filter(|t| only.is_none_or(|name| name == t.name)).cloned().collect();
        let known = || all.iter().map(|t| t.name.as_str()).collect::<Vec<_>>().join(", ");
        match only.filter(|_| wanted.is_empty()) {
            Some(name) => Err(Unknown(format!("no table \"{name}\" is replicated; those that are: {}", known()))),
            None => Ok(wanted),
        }
    }

    /// The peers, and why one can't be compared with.
    fn peers(&self, only: Option<&str>) -> Result<Vec<(String, Option<String>)>, Unknown> {
        let now = self.shared.now();
        let mut peers = self.shared.replicator.lock().status(now).peers;
        peers.retain(|p| !p.stranger && p.reason.as_deref() != Some("dns"));
        let known = peers.iter().map(|p| p.name.as_str()).collect::<Vec<_>>().join(", ");
        peers.retain(|p| only.is_none_or(|name| name == p.name || name == p.addr));
        if let Some(name) = only.filter(|_| peers.is_empty()) {
            return Err(Unknown(format!("there is no peer \"{name}\"; peers: {known}")));
        }
        let trouble = |p: &PeerStatus| match (p.state.as_str(), &p.error) {
            ("up", _) => None,
            (state, None) => Some(state.to_owned()),
            (state, Some(error)) => Some(format!("{state}: {error}")),
        };
        Ok(peers.into_iter().map(|p| (p.name.clone(), trouble(&p))).collect())
    }
}

impl Pair {
    async fn compare(&self) -> Found {
        let mut buckets = self.differ().await?;
        if !buckets.is_empty() {
            tokio::time::sleep(PAUSE).await;
            let again = self.differ().await?;
            buckets.retain(|bucket| again.contains(bucket));
        }
        let (mut first, mut in_buckets) = (HashSet::new(), BTreeSet::new());
        self.list(&buckets, |difference| {
            first.insert(difference.signature());
            in_buckets.insert(StickTable::bucket(difference.key()));
        })
        .await?;
        let (mut count, mut named) = (0, Vec::new());
        if !first.is_empty() {
            tokio::time::sleep(PAUSE).await;
            let buckets: Vec<usize> = in_buckets.into_iter().collect();
            self.list(&buckets, |difference| {
                if first.contains(&difference.signature()) {
                    count += 1;
                    named.extend((named.len() < NAMED).then_some(difference));
                }
            })
            .await?;
        }
        named.sort_by(|a, b| a.key().cmp(b.key()));
        Ok((count, named))
    }

    fn inspect(&self, what: Inspect) -> mpsc::UnboundedReceiver<Inspected> {
        let (found, answer) = mpsc::unbounded_channel();
        let (peer, table) = (self.peer.clone(), self.table.name.clone());
        // It fails only when the replication has ended; then the answer ends, too.
        let _ = self.verifier.commands.send(Command::Inspect { peer, table, what, found });
        answer
    }

    /// The buckets that differ.
    async fn differ(&self) -> Result<Vec<usize>, String> {
        match next(&mut self.inspect(Inspect::Compare)).await? {
            Inspected::Differ(buckets) => Ok(buckets),
            _ => Err("it answers something else".into()),
        }
    }

    /// Tells `differs` of every key in these buckets that differs.
    async fn list(&self, buckets: &[usize], mut differs: impl FnMut(Difference)) -> Result<(), String> {
        let margin = self.table.table.spec().expire / 8 + SLACK;
        let mut judge = |here: Option<Update>, there: Option<Update>| {
            let difference = Difference { here, there };
            if difference.counts(margin) {
                differs(difference);
            }
        };
        for group in buckets.chunks(GROUP) {
            let mut seen = HashSet::new();
            self.theirs(group, |theirs| {
                seen.insert(lb_core::hash::stable(&theirs.key));
                judge(self.table.table.entry(&theirs.key, self.verifier.shared.now().wall), Some(theirs));
            })
            .await?;
            let is_missing_there = |ours: &Update| !seen.contains(&lb_core::hash::stable(&ours.key));
            self.ours(group, |ours| {
                if is_missing_there(&ours) {
                    judge(Some(ours), None);
                }
            })
            .await;
        }
        Ok(())
    }

    /// What the peer has in these buckets.
    async fn theirs(&self, buckets: &[usize], mut each: impl FnMut(Update)) -> Result<(), String> {
        let mut bits = vec![0u8; StickTable::BUCKETS / 8];
        buckets.iter().for_each(|bucket| bits[bucket / 8] |= 1 << (bucket % 8));
        let mut answer = self.inspect(Inspect::List(bits));
        while let Inspected::Entries(entries) = next(&mut answer).await? {
            entries.unpack(&self.names).0.iter().for_each(|update| each(update.to_owned()));
        }
        Ok(())
    }

    /// What we have in them.
    async fn ours(&self, buckets: &[usize], mut each: impl FnMut(Update)) {
        let table = &self.table.table;
        for shard in 0..table.shards() {
            let mut from = Some(0);
            while let Some(slot) = from {
                let mut some: Vec<Update> = Vec::new();
                let wanted = |key: &[u8]| buckets.binary_search(&StickTable::bucket(key)).is_ok();
                from = table.scan_where(shard, slot, STEP, self.verifier.shared.now().wall, wanted, &mut some);
                some.into_iter().for_each(&mut each);
                tokio::task::yield_now().await;
            }
        }
    }

    fn show(&self, found: &Found, node: &impl Fn(NodeId) -> String) -> VerifiedTable {
        let held = |update: &Update| HeldStatus {
            server: (!update.server.is_none()).then(|| self.names.name(update.server).to_string()),
            node: node(update.stamp.node),
            written: update.stamp.time().0,
            expires: update.left.as_secs_f64(),
        };
        let key = |d: &Difference| DifferingKey {
            key: StickKey::show(self.table.table.kind(), d.key()),
            here: d.here.as_ref().map(held),
            there: d.there.as_ref().map(held),
        };
        let (equal, error, differing, keys) = match found {
            Ok((count, keys)) => (Some(*count == 0), None, *count, keys.iter().map(key).collect()),
            Err(error) => (None, Some(error.clone()), 0, Vec::new()),
        };
        VerifiedTable { peer: self.peer.clone(), table: self.table.name.clone(), equal, error, differing, keys }
    }
}

impl Difference {
    fn key(&self) -> &[u8] {
        self.here.as_ref().or(self.there.as_ref()).map_or(&[], |update| &update.key)
    }

    fn counts(&self, margin: Duration) -> bool {
        match (&self.here, &self.there) {
            (Some(here), Some(there)) => here.stamp != there.stamp || here.server != there.server,
            (Some(one), None) | (None, Some(one)) => one.left > margin,
            (None, None) => false,
        }
    }

    /// The same for the same difference.
    fn signature(&self) -> u64 {
        let version = |update: &Option<Update>| update.as_ref().map_or((0, 0), |u| (u.stamp.clock(), u.stamp.node.0));
        let mut hash = lb_core::hash::stable(self.key());
        for (clock, node) in [version(&self.here), version(&self.there)] {
            hash = lb_core::hash::stable_seeded(&clock.to_le_bytes(), hash ^ u64::from(node));
        }
        hash
    }
}

async fn next(answer: &mut mpsc::UnboundedReceiver<Inspected>) -> Result<Inspected, String> {
    match tokio::time::timeout(SILENT, answer.recv()).await {
        Ok(Some(Inspected::Failed(why))) => Err(why),
        Ok(Some(found)) => Ok(found),
        Ok(None) => Err("replication has ended".into()),
        Err(_) => Err(format!("it did not answer within {} s", SILENT.as_secs())),
    }
}
