//! Which server a request goes to, and what must be remembered of it: cookie, then tables, then the algorithm.
//!
//! Reads the table, never the peers.
use super::head::{Field, Known, first_value};
use super::looked::Looked;
use super::reason::Reason;
use lb_core::balance::{self, Turn};
use lb_core::config::{Balance, DrainMode, FailBack, KeyKind, OnDown, StickAction};
use lb_core::cookie::{self, rule::Found};
use lb_core::hash;
use lb_core::id::NameId;
use lb_core::matcher::{Asked, Matcher};
use lb_core::server::AdminState;
use lb_core::snapshot::Backend;
use lb_core::stick::KeyExpr;
use lb_core::table::{Assigned, StickKey, StickTable, Tentative};
use lb_core::time::Timestamp;
use smallvec::SmallVec;
use std::net::IpAddr;
use std::sync::Arc;

mod back;
mod connection;
mod cookies;
/// Why a server was chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    Cookie,
    /// By this rule of the backend.
    Table(usize),
    New,
    /// The pinned server was out.
    Redispatched,
    /// It is the client's first server, which is back.
    Returned,
}

/// A key of the request under one of the backend's rules.
struct Keyed {
    rule: usize,
    key: StickKey,
    /// The pin that was found.
    found: Option<NameId>,
    /// The client's first server, when it was moved from there and may go back.
    home: Option<NameId>,
    /// It is neither looked at nor written: its pin names a server that this configuration does not know, or it is new
    /// and its client makes too many.
    left_alone: bool,
    /// The pin names a server that was found by name, and is found no more.
    lost: bool,
}

impl Keyed {
    fn new(rule: usize, key: StickKey) -> Self {
        Self { rule, key, found: None, home: None, left_alone: false, lost: false }
    }

    /// What the pin is to be once this server has answered.
    fn pin(&self, backend: &Backend, server: NameId) -> NameId {
        match self.home {
            Some(home) if home != server && backend.config.persist.fail_back != FailBack::Never => {
                backend.names.moved(server, home)
            }
            _ => server,
        }
    }
}

/// What the request brings, and what was made of it.
pub(crate) struct Plan {
    /// What its cookie says.
    cookie: Option<Found>,
    /// Who makes new keys.
    src: IpAddr,
    /// The cookie's rule does not hold for this request: it is neither looked at nor set.
    no_cookie: bool,
    keys: SmallVec<[Keyed; 2]>,
    /// Rules that store what the answer gives out, as far as they hold for this request.
    learns: SmallVec<[usize; 2]>,
    /// What leads instances to the same choice.
    hash: Option<u64>,
    tentative: Option<(usize, Tentative)>,
    pinned: bool,
    /// Its server is taken though it is down.
    forced: bool,
    pub(crate) why: Why,
}

impl Plan {
    /// Takes cookie and keys out of a request.
    pub(crate) fn read(backend: &Backend, looked: &Looked<'_>, now: Timestamp) -> Self {
        let holds = |all: &[Matcher]| all.iter().any(|when| when.matches(looked));
        let persist = &backend.config.persist;
        let mut plan = Self::new(looked.src, holds(&persist.force));
        let ignored = holds(&persist.ignore);
        for (rule, (stick, table)) in backend.stick.iter().enumerate() {
            if ignored || !stick.when.matches(looked) {
                continue;
            }
            match stick.action {
                StickAction::StoreResponse => plan.learns.push(rule),
                _ => plan.keys.extend(looked.key(&stick.key, table).map(|key| Keyed::new(rule, key))),
            }
        }
        plan.hash = match &backend.config.balance {
            Balance::Hash(KeyExpr::Src) => Some(hash_ip(looked.src)),
            Balance::Hash(expr) => {
                Some(looked.value(expr).map_or_else(|| hash_ip(looked.src), |value| hash::stable(&value)))
            }
            _ => plan.key_hash(),
        };
        if let Some(rule) = &backend.cookie {
            plan.no_cookie = ignored || !rule.config.when.matches(looked);
            if !plan.no_cookie {
                plan.cookie = looked.cookie(&rule.config.name).and_then(|value| rule.read(value, now));
            }
        }
        plan
    }

    fn new(src: IpAddr, forced: bool) -> Self {
        let (keys, learns) = (SmallVec::new(), SmallVec::new());
        let (cookie, no_cookie, hash, tentative, pinned) = (None, false, None, None, false);
        Self { cookie, src, no_cookie, keys, learns, hash, tentative, pinned, forced, why: Why::New }
    }

    /// Of the first key.
    fn key_hash(&self) -> Option<u64> {
        self.keys.first().map(|k| hash::stable(k.key.bytes()))
    }

    /// Tables and keys under which a look-up could miss for want of news from the peers.
    pub(crate) fn lookups<'a>(
        &'a self,
        backend: &'a Backend,
    ) -> impl Iterator<Item = (&'a Arc<StickTable>, &'a StickKey)> {
        let cookie = self.cookie.is_some();
        self.keys
            .iter()
            .map(|k| (&backend.stick[k.rule], &k.key))
            .filter(move |((rule, table), _)| {
                !cookie && rule.action != StickAction::StoreRequest && table.spec().replicate
            })
            .map(|((_, table), key)| (table, key))
    }

    /// Whether the server was given by a pin, so that it is worth a second try.
    pub(crate) fn pinned(&self) -> bool {
        self.pinned
    }

    /// Whether it goes to its server whatever that's state.
    pub(crate) fn forced(&self) -> bool {
        self.forced && self.pinned
    }

    /// The first choice.
    pub(crate) fn choose(&mut self, backend: &Backend, turn: &Turn<'_>) -> Result<usize, Reason> {
        let (mut moved, mut lost) = (false, false);
        if let Some(found) = self.cookie {
            if let Some(home) = self.cookie_home(backend, &found, turn) {
                return Ok(self.stays(home, Why::Returned));
            }
            if self.usable(backend, found.server) {
                return Ok(self.stays(found.server, Why::Cookie));
            }
            lost |= backend.servers[found.server].state.gone();
            moved = true;
        }
        for i in 0..self.keys.len() {
            if let Some(home) = self.look_up(backend, i, turn) {
                return Ok(self.stays(home, Why::Returned));
            }
            let Some(pin) = self.keys[i].found else { continue };
            match backend.placed(pin).0 {
                Some(server) if self.usable(backend, server) => {
                    let rule = self.keys[i].rule;
                    return Ok(self.stays(server, Why::Table(rule)));
                }
                Some(server) => {
                    lost |= backend.servers[server].state.gone();
                    moved = true;
                    self.keys[i].home.get_or_insert(backend.servers[server].id);
                }
                None if self.keys[i].lost => (moved, lost) = (true, true),
                None => self.keys[i].left_alone = true,
            }
        }
        if moved {
            // Who is found no more does not come back as one that is down does: there is nobody to wait for.
            if backend.config.on_down == OnDown::Fail && !lost {
                return Err(Reason::PINNED_DOWN);
            }
            self.why = Why::Redispatched;
            return self.pick(backend, turn);
        }
        self.assign(backend, turn)
    }

    /// A pin or the cookie gave this server.
    fn stays(&mut self, server: usize, why: Why) -> usize {
        self.pinned = true;
        self.why = why;
        server
    }

    /// For a new client: with a key, its tentative pin, so that all first requests with it go to one server.
    fn assign(&mut self, backend: &Backend, turn: &Turn<'_>) -> Result<usize, Reason> {
        let mine = |k: &&mut Keyed| !k.left_alone && backend.stick[k.rule].0.action != StickAction::StoreRequest;
        let Some(keyed) = self.keys.iter_mut().find(mine) else { return self.pick(backend, turn) };
        if !backend.stick[keyed.rule].1.may_pin(&keyed.key, self.src, turn.now) {
            keyed.left_alone = true;
            return self.pick(backend, turn);
        }
        let (rule, turn) = (keyed.rule, Turn { key: self.hash, ..*turn });
        let choose = || balance::pick(backend, &turn).map(|i| backend.servers[i].id);
        let assigned = backend.stick[rule].1.assign(&keyed.key, turn.now, choose).ok_or(Reason::NO_SERVER)?;
        let server = match assigned {
            Assigned::Pinned(pin) => {
                self.pinned = true;
                self.why = Why::Table(rule);
                pin.server
            }
            Assigned::Tentative(tentative) => {
                let server = tentative.server();
                self.tentative = Some((rule, tentative));
                server
            }
        };
        match backend.placed(server).0 {
            Some(server) if self.usable(backend, server) => Ok(server),
            _ => self.pick(backend, &turn),
        }
    }

    /// The next choice, after `failed` (all whom the turn excludes failed this request).
    pub(crate) fn again(&mut self, backend: &Backend, failed: usize, turn: &Turn<'_>) -> Result<usize, Reason> {
        if self.pinned {
            if backend.config.on_down == OnDown::Fail && !backend.servers[failed].state.gone() {
                return Err(Reason::PINNED_DOWN);
            }
            self.pinned = false;
            self.forced = false;
            self.why = Why::Redispatched;
            let id = backend.servers[failed].id;
            for keyed in self.keys.iter_mut().filter(|keyed| keyed.found.is_some()) {
                keyed.home.get_or_insert(id);
            }
        }
        if let Some((_, tentative)) = &mut self.tentative {
            let turn = Turn { key: self.hash, ..*turn };
            let choose = || balance::pick(backend, &turn).map(|i| backend.servers[i].id);
            let next = tentative.replace(backend.servers[failed].id, choose).ok_or(Reason::NO_SERVER)?;
            if let Some(next) =
                backend.placed(next).0.filter(|i| !turn.excluded.contains(i) && self.usable(backend, *i))
            {
                return Ok(next);
            }
        }
        self.pick(backend, turn)
    }

    fn usable(&self, backend: &Backend, server: usize) -> bool {
        let state = &backend.servers[server].state;
        let leaves = backend.config.drain == DrainMode::Move && state.admin() == AdminState::Drain;
        self.forced || (state.takes_pinned() && !leaves)
    }

    fn pick(&self, backend: &Backend, turn: &Turn<'_>) -> Result<usize, Reason> {
        // The clients of a lost server are spread by hash whatever the algorithm: several requests of one client, and
        // several instances, then choose alike.
        let picked = match (self.why, self.hash) {
            (Why::Redispatched, Some(hash)) => balance::redispatch(backend, turn, hash),
            _ => balance::pick(backend, &Turn { key: self.hash, ..*turn }),
        };
        picked.ok_or(Reason::NO_SERVER)
    }

    /// The server answered: pins what the rules say.
    pub(crate) fn answered(&mut self, backend: &Backend, server: usize, fields: &[Field], buf: &[u8], now: Timestamp) {
        let id = backend.servers[server].id;
        self.pin(backend, id, now);
        for rule in std::mem::take(&mut self.learns) {
            let (stick, table) = &backend.stick[rule];
            let key = answer_key(&stick.key, table, fields, buf);
            if let Some(key) = key.filter(|key| table.may_pin(key, self.src, now)) {
                table.store(&key, id, now);
                self.keys.push(Keyed { found: Some(id), ..Keyed::new(rule, key) });
            }
        }
    }

    /// Pins the keys that the request brought.
    fn pin(&mut self, backend: &Backend, id: NameId, now: Timestamp) {
        let mut tentative = self.tentative.take();
        for keyed in &self.keys {
            let (rule, table) = &backend.stick[keyed.rule];
            if keyed.left_alone || !matches!(rule.action, StickAction::On | StickAction::StoreRequest) {
                continue;
            }
            let pin = keyed.pin(backend, id);
            match tentative.take_if(|(rule, t)| *rule == keyed.rule && t.server() == id) {
                Some((_, tentative)) => {
                    tentative.confirm(now);
                }
                None if keyed.found == Some(pin) => {}
                None if table.may_pin(&keyed.key, self.src, now) => {
                    table.store(&keyed.key, pin, now);
                }
                None => {}
            }
        }
    }

    /// Tables that count, and the request's keys in them.
    pub(crate) fn counted<'a>(
        &'a self,
        backend: &'a Backend,
    ) -> impl Iterator<Item = (&'a Arc<StickTable>, &'a StickKey)> {
        let counts = |k: &&Keyed| backend.counting.contains(&k.rule);
        self.keys.iter().filter(counts).map(|k| (&backend.stick[k.rule].1, &k.key))
    }

    /// Tables and keys that an open tunnel holds alive.
    pub(crate) fn held<'a>(
        &'a self,
        backend: &'a Backend,
    ) -> impl Iterator<Item = (&'a Arc<StickTable>, &'a StickKey)> {
        self.keys.iter().map(|k| (&backend.stick[k.rule].1, &k.key))
    }
}

fn hash_ip(ip: IpAddr) -> u64 {
    match ip.to_canonical() {
        IpAddr::V4(v4) => hash::stable(&v4.octets()),
        IpAddr::V6(v6) => hash::stable(&v6.octets()),
    }
}

/// The key that a store-response rule finds in an answer.
fn answer_key(expr: &KeyExpr, table: &StickTable, fields: &[Field], buf: &[u8]) -> Option<StickKey> {
    let (kind, len): (KeyKind, usize) = (table.spec().kind, table.spec().len);
    let found = match expr {
        KeyExpr::Header(name) => first_value(fields, buf, name)?,
        KeyExpr::Cookie(name) => {
            let set = fields.iter().filter(|f| f.known == Known::SetCookie);
            set.filter_map(|f| cookie::set_pair(f.value.get(buf))).find(|(n, _)| *n == name.as_bytes())?.1
        }
        KeyExpr::Const(text) => text.as_bytes(),
        _ => return None,
    };
    StickKey::from_value(kind, len, found)
}
