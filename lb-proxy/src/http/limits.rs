//! What tables count of requests and connections, and what a frontend's rules do about it before a request is routed.
//!
//! Rules are tried in order. A rule that is reached counts the request for its key, once for one key and table however
//! many rules name it, and then looks. So a request that is denied counts, its answer as an error, too; what stands
//! behind the rule that denied it does not hear of it.
//!
//! Where no rule and no table counts, this costs nothing: [`Counting`] and [`Opened`] have no memory until then.
use super::account;
use super::looked::Looked;
use crate::io::{Elapsed, Timer};
use crate::shared::now;
use crate::stream::Stream;
use crate::worker::Local;
use lb_core::counters::{Counter, Event};
use lb_core::limit::Action;
use lb_core::snapshot::{Frontend, FrontendState, Limit};
use lb_core::stick::KeyExpr;
use lb_core::table::{Counted, StickKey, StickTable};
use smallvec::SmallVec;
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Keys that one connection holds open at most. Past it the one named first counts as closed: a proxy's connection that
/// brings ever new keys must not hold them all.
const OPENED: usize = 64;
/// How often bytes are counted while they flow.
const FLOW: Duration = Duration::from_secs(1);
/// How often a held request looks whether its client has gone or the instance is leaving.
const LOOK: Duration = Duration::from_secs(1);

/// A table and a key that is counted in it.
type Place = (Arc<StickTable>, StickKey);

fn same(place: &Place, table: &Arc<StickTable>, key: &StickKey) -> bool {
    Arc::ptr_eq(&place.0, table) && place.1 == *key
}

/// What a connection's requests have named: each key has one connection more until this, and every clone of it, is dropped.
#[derive(Clone, Default)]
pub(crate) struct Opened(Option<Rc<RefCell<Vec<Named>>>>);

/// A key, and the connection more that it has.
type Named = (Place, Option<Counted>);

impl Opened {
    /// For the many requests of a connection that go on at the same time: each gets a clone.
    pub(crate) fn shared() -> Self {
        Self(Some(Rc::default()))
    }

    fn meet(&mut self, table: &Arc<StickTable>, key: &StickKey) {
        let mut named = self.0.get_or_insert_default().borrow_mut();
        if named.iter().any(|(place, _)| same(place, table, key)) {
            return;
        }
        if named.len() == OPENED {
            named.remove(0);
        }
        named.push(((table.clone(), key.clone()), table.open(key, now())));
    }
}

/// Where a request is counted, and which of its bytes are.
pub(crate) struct Counting {
    places: SmallVec<[Place; 2]>,
    /// Bytes from the client and to it that the tables know of.
    told: (u64, u64),
    /// When they were told.
    at: Instant,
}

impl Counting {
    pub(crate) fn new() -> Self {
        Self { places: SmallVec::new(), told: (0, 0), at: Instant::now() }
    }

    /// The request names a key: it is counted, if it was not yet.
    pub(crate) fn meet(&mut self, opened: &mut Opened, table: &Arc<StickTable>, key: &StickKey) {
        if self.join(opened, table, key) {
            table.count(key, &[Event::Request], now());
        }
    }

    /// As [`Self::meet`], for a connection of which no request is known; false: the key was named already.
    pub(crate) fn join(&mut self, opened: &mut Opened, table: &Arc<StickTable>, key: &StickKey) -> bool {
        let new = !self.places.iter().any(|place| same(place, table, key));
        if new {
            opened.meet(table, key);
            self.places.push((table.clone(), key.clone()));
        }
        new
    }

    /// So many bytes have passed in all; they are counted if that is due.
    pub(crate) fn flowed(&mut self, bytes: (u64, u64)) {
        if self.at.elapsed() >= FLOW {
            self.tell(bytes, None);
        }
    }

    /// When bytes that have passed and are not counted are due.
    pub(crate) fn due(&self, bytes: (u64, u64)) -> Option<Instant> {
        (bytes != self.told).then(|| self.at + FLOW)
    }

    /// The request, or the tunnel that it became, has ended: with this answer, after so many bytes.
    pub(crate) fn ended(&mut self, status: u16, bytes: (u64, u64)) {
        let outcome = match status {
            400..=499 => Some(Event::Error),
            500..=599 => Some(Event::Failure),
            _ => None,
        };
        self.tell(bytes, outcome);
    }

    fn tell(&mut self, bytes: (u64, u64), outcome: Option<Event>) {
        let (up, down) = (bytes.0.saturating_sub(self.told.0), bytes.1.saturating_sub(self.told.1));
        let mut events: SmallVec<[Event; 3]> = outcome.into_iter().collect();
        events.extend((up > 0).then_some(Event::BytesIn(up)));
        events.extend((down > 0).then_some(Event::BytesOut(down)));
        (self.told, self.at) = (bytes, Instant::now());
        if !events.is_empty() {
            self.places.iter().for_each(|(table, key)| table.count(key, &events, now()));
        }
    }
}

/// A rule's no.
pub(crate) struct Denied {
    /// Number of the rule, from 0, as the configuration's messages count.
    pub(crate) rule: usize,
    pub(crate) status: u16,
    /// How long the answer is held.
    hold: Option<Duration>,
    /// Seconds after which it is worth another try.
    pub(crate) retry_after: Option<u64>,
}

/// Counts a request for the keys of the frontend's rules, and does what they say.
pub(crate) fn check(
    frontend: &Frontend,
    looked: &Looked<'_>,
    opened: &mut Opened,
    account: &mut account::Request,
) -> Option<Denied> {
    apply(frontend, opened, account, true, |key, table| looked.key(key, table))
}

/// As [`check`], for whatever has keys; `requests`: it counts as a request, too.
pub(crate) fn apply(
    frontend: &Frontend,
    opened: &mut Opened,
    account: &mut account::Request,
    requests: bool,
    key: impl Fn(&KeyExpr, &StickTable) -> Option<StickKey>,
) -> Option<Denied> {
    for (number, limit) in frontend.limits.iter().enumerate() {
        let Limit { rule, table, .. } = limit;
        let Some(key) = key(&rule.key, table) else { continue };
        match requests {
            true => account.counting().meet(opened, table, &key),
            false => _ = account.counting().join(opened, table, &key),
        }
        if !rule.when.iter().all(|condition| condition.holds(table.counter(&key, condition.counter, now()))) {
            continue;
        }
        let retry_after = || rule.period().map(|period| period.as_millis().div_ceil(1000) as u64);
        let denied = |status: u16, hold| {
            let retry_after = if status == 429 { retry_after() } else { None };
            Some(Denied { rule: number, status, hold, retry_after })
        };
        account.limited(number, limit);
        match rule.then {
            Action::Track => {}
            Action::Inc(n) => table.count(&key, &[Event::Gpc(n, 1)], now()),
            // Set once: a tag that is set again is news to every peer.
            Action::Set(n, value) if table.counter(&key, Counter::Gpt(n), now()) == value => {}
            Action::Set(n, value) => table.count(&key, &[Event::Tag(n, value)], now()),
            Action::Deny(status) => return denied(status, None),
            Action::Tarpit(hold, status) => return denied(status, Some(hold)),
        }
    }
    None
}

/// A request's place in the tarpit; given back when dropped.
struct Held {
    local: Rc<Local>,
    frontend: Arc<FrontendState>,
}

impl Held {
    /// `None`: it is full.
    fn enter(local: &Rc<Local>, frontend: &Frontend) -> Option<Self> {
        let counters = &frontend.state.counters[local.id];
        if counters.tarpitted.get() >= frontend.config.max_tarpit as u64 {
            counters.tarpit_full.bump();
            return None;
        }
        counters.tarpitted.bump();
        Some(Self { local: local.clone(), frontend: frontend.state.clone() })
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.frontend.counters[self.local.id].tarpitted.drop_one();
    }
}

impl Denied {
    /// Holds the answer for as long as the rule says, unless the tarpit is full or the instance is leaving. False: the
    /// client has gone meanwhile.
    pub(crate) async fn hold(
        &self,
        local: &Rc<Local>,
        timer: &mut Timer,
        client: &Stream,
        frontend: &Frontend,
    ) -> bool {
        let Some(hold) = self.hold else { return true };
        let Some(_held) = Held::enter(local, frontend) else { return true };
        let until = Instant::now() + hold;
        while !local.draining() {
            let step = until.min(Instant::now() + LOOK);
            match timer.until(step, client.readable()).await {
                Err(Elapsed) => {}
                Ok(Ok(false)) => {
                    // The client has more to say, which waits; its end is still seen.
                    tokio::time::sleep_until(step).await;
                }
                Ok(_) => return false,
            }
            if step == until {
                break;
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;
    use lb_core::hlc::Clock;
    use lb_core::id::{Names, NodeId};

    #[test]
    fn a_connection_that_brings_ever_new_keys_holds_so_many_of_them() {
        let spec = lb_core::config::Table { store: vec![Counter::ConnCur], ..fixture::table("clients") };
        let clock = Arc::new(Clock::new(NodeId::new("lb1", 1), Duration::from_secs(86_400)));
        let table = Arc::new(StickTable::new(Arc::new(spec), Arc::new(Names::default()), clock, 7));
        let key = |n: usize| StickKey::parse(table.kind(), table.key_len(), &n.to_string()).unwrap();
        let open = |n: usize| table.counter(&key(n), Counter::ConnCur, now());
        let mut opened = Opened::default();
        for n in (0..OPENED).chain(0..OPENED) {
            opened.meet(&table, &key(n));
        }
        assert!((0..OPENED).all(|n| open(n) == 1), "each once");
        opened.meet(&table, &key(OPENED));
        assert_eq!((open(0), open(1), open(OPENED)), (0, 1, 1));
        drop(opened);
        assert!((0..=OPENED).all(|n| open(n) == 0));
    }
}
