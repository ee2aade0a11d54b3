//! Which server a request goes to, and what must be remembered of it: cookie, then tables, then the algorithm.
//!
//! Reads the table, never the peers.
use super::head::{Field, Known, Request, first_value};
use super::reason::Reason;
use lb_core::balance::{self, Turn};
use lb_core::config::{Balance, DrainMode, KeyKind, OnDown, StickAction};
use lb_core::id::NameId;
use lb_core::server::AdminState;
use lb_core::snapshot::Backend;
use lb_core::stick::KeyExpr;
use lb_core::table::{Assigned, StickKey, StickTable, Tentative};
use lb_core::time::Timestamp;
use lb_core::{cookie, hash};
use smallvec::SmallVec;
use std::net::IpAddr;
use std::sync::Arc;

mod connection;

/// Why a server was chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    Cookie,
    /// By this rule of the backend.
    Table(usize),
    New,
    /// The pinned server was out.
    Redispatched,
}

/// A key of the request under one of the backend's rules.
struct Keyed {
    rule: usize,
    key: StickKey,
    /// The pin that was found.
    found: Option<NameId>,
    /// The pin names a server that this configuration does not know: it is left alone.
    foreign: bool,
}

/// What the request brings, and what was made of it.
pub(crate) struct Plan {
    /// Server named by the cookie, when it was first set, whether it must be set again.
    cookie: Option<(usize, u64, bool)>,
    keys: SmallVec<[Keyed; 2]>,
    /// What leads instances to the same choice.
    hash: Option<u64>,
    tentative: Option<(usize, Tentative)>,
    pinned: bool,
    pub(crate) why: Why,
}

impl Plan {
    /// Takes cookie and keys out of a request.
    pub(crate) fn read(backend: &Backend, request: &Request, buf: &[u8], src: IpAddr, now: Timestamp) -> Self {
        let mut keys = SmallVec::new();
        for (rule, (stick, table)) in backend.stick.iter().enumerate() {
            if stick.action != StickAction::StoreResponse
                && let Some(key) = key(&stick.key, table, src, request, buf)
            {
                keys.push(Keyed { rule, key, found: None, foreign: false });
            }
        }
        let hash = match &backend.config.balance {
            Balance::Hash(KeyExpr::Src) => Some(hash_ip(src)),
            Balance::Hash(expr) => Some(value(expr, request, buf).map_or_else(|| hash_ip(src), hash::stable)),
            Balance::RoundRobin | Balance::LeastConn | Balance::Random(_) | Balance::First => {
                keys.first().map(|k: &Keyed| hash::stable(k.key.bytes()))
            }
        };
        let cookie = backend.cookie.as_ref().and_then(|rule| {
            let fields = request.fields.iter().filter(|f| f.known == Known::Cookie);
            let text = fields.filter_map(|f| cookie::find(f.value.get(buf), &rule.name)).next()?;
            let seen = cookie::read(rule, text, now)?;
            let server = backend.servers.iter().position(|s| s.config.cookie.as_bytes() == seen.server)?;
            Some((server, seen.first, seen.renew))
        });
        Self { cookie, keys, hash, tentative: None, pinned: false, why: Why::New }
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

    /// The first choice.
    pub(crate) fn choose(&mut self, backend: &Backend, turn: &Turn<'_>) -> Result<usize, Reason> {
        let (mut moved, mut lost) = (false, false);
        if let Some((server, ..)) = self.cookie {
            if usable(backend, server) {
                self.pinned = true;
                self.why = Why::Cookie;
                return Ok(server);
            }
            lost |= backend.servers[server].state.gone();
            moved = true;
        }
        for keyed in &mut self.keys {
            let (rule, table) = &backend.stick[keyed.rule];
            if rule.action == StickAction::StoreRequest {
                continue;
            }
            let Some(pin) = table.lookup(&keyed.key, turn.now) else { continue };
            keyed.found = Some(pin.server);
            match backend.by_id(pin.server) {
                Some(server) if usable(backend, server) => {
                    self.pinned = true;
                    self.why = Why::Table(keyed.rule);
                    return Ok(server);
                }
                Some(server) => {
                    lost |= backend.servers[server].state.gone();
                    moved = true;
                }
                None if backend.has_lost(pin.server, pin.stamp.time(), turn.now) => (moved, lost) = (true, true),
                None => keyed.foreign = true,
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

    /// For a new client: with a key, its tentative pin, so that all first requests with it go to one server.
    fn assign(&mut self, backend: &Backend, turn: &Turn<'_>) -> Result<usize, Reason> {
        let first =
            self.keys.iter().find(|k| !k.foreign && backend.stick[k.rule].0.action != StickAction::StoreRequest);
        let Some(keyed) = first else { return self.pick(backend, turn) };
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
        match backend.by_id(server) {
            Some(server) if usable(backend, server) => Ok(server),
            _ => self.pick(backend, &turn),
        }
    }

    /// The next choice, after `failed` (all whom the turn excludes failed this request).
    pub(crate) fn again(&mut self, backend: &Backend, failed: usize, turn: &Turn<'_>) -> Result<usize, Reason> {
        if self.pinned {
            if backend.config.on_down == OnDown::Fail {
                return Err(Reason::PINNED_DOWN);
            }
            self.pinned = false;
            self.why = Why::Redispatched;
        }
        if let Some((_, tentative)) = &mut self.tentative {
            let turn = Turn { key: self.hash, ..*turn };
            let choose = || balance::pick(backend, &turn).map(|i| backend.servers[i].id);
            let next = tentative.replace(backend.servers[failed].id, choose).ok_or(Reason::NO_SERVER)?;
            if let Some(next) = backend.by_id(next).filter(|i| !turn.excluded.contains(i) && usable(backend, *i)) {
                return Ok(next);
            }
        }
        self.pick(backend, turn)
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
        for (rule, (stick, table)) in backend.stick.iter().enumerate() {
            if stick.action == StickAction::StoreResponse
                && let Some(key) = answer_key(&stick.key, table, fields, buf)
            {
                table.store(&key, id, now);
                self.keys.push(Keyed { rule, key, found: Some(id), foreign: false });
            }
        }
    }

    /// Pins the keys that the request brought.
    fn pin(&mut self, backend: &Backend, id: NameId, now: Timestamp) {
        let mut tentative = self.tentative.take();
        for keyed in &self.keys {
            let (rule, table) = &backend.stick[keyed.rule];
            if keyed.foreign || !matches!(rule.action, StickAction::On | StickAction::StoreRequest) {
                continue;
            }
            match tentative.take_if(|(rule, t)| *rule == keyed.rule && t.server() == id) {
                Some((_, tentative)) => {
                    tentative.confirm(now);
                }
                None if keyed.found == Some(id) => {}
                None => {
                    table.store(&keyed.key, id, now);
                }
            }
        }
    }

    /// `Set-Cookie` value for the answer, if one is due.
    pub(crate) fn set_cookie(&self, backend: &Backend, server: usize, now: Timestamp) -> Option<String> {
        let rule = backend.cookie.as_ref()?;
        let first = match self.cookie {
            Some((named, _, false)) if named == server => return None,
            Some((named, first, true)) if named == server => first,
            _ => 0,
        };
        let mut text = String::with_capacity(64);
        cookie::write(rule, &backend.servers[server].config.cookie, first, now, &mut text);
        Some(text)
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

fn usable(backend: &Backend, server: usize) -> bool {
    let state = &backend.servers[server].state;
    state.takes_pinned() && !(backend.config.drain == DrainMode::Move && state.admin() == AdminState::Drain)
}

fn hash_ip(ip: IpAddr) -> u64 {
    match ip.to_canonical() {
        IpAddr::V4(v4) => hash::stable(&v4.octets()),
        IpAddr::V6(v6) => hash::stable(&v6.octets()),
    }
}

/// The key that an expression finds in a request, for a table.
pub(crate) fn key(expr: &KeyExpr, table: &StickTable, src: IpAddr, request: &Request, buf: &[u8]) -> Option<StickKey> {
    let (kind, len) = (table.kind(), table.key_len());
    match expr {
        KeyExpr::Src => StickKey::from_ip(kind, len, src),
        _ => StickKey::from_value(kind, len, value(expr, request, buf)?),
    }
}

/// The bytes that an expression names in a request; `None` for the source address, which is no bytes of it.
fn value<'a>(expr: &'a KeyExpr, request: &Request, buf: &'a [u8]) -> Option<&'a [u8]> {
    match expr {
        // Without TLS of our own there is neither a name nor a session.
        KeyExpr::Src | KeyExpr::Sni | KeyExpr::TlsSessionId => None,
        KeyExpr::Header(name) => request.value(buf, name),
        KeyExpr::Cookie(name) => {
            let fields = request.fields.iter().filter(|f| f.known == Known::Cookie);
            fields.filter_map(|f| cookie::find(f.value.get(buf), name)).next()
        }
        KeyExpr::Query(name) => {
            let pairs = request.query.get(buf).split(|b| *b == b'&');
            pairs.filter_map(|p| p.strip_prefix(name.as_bytes())?.strip_prefix(b"=")).next()
        }
        KeyExpr::Path => Some(request.path.get(buf)),
        KeyExpr::Const(text) => Some(text.as_bytes()),
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
        KeyExpr::Src | KeyExpr::Query(_) | KeyExpr::Path | KeyExpr::Sni | KeyExpr::TlsSessionId => return None,
    };
    StickKey::from_value(kind, len, found)
}
