//! One immutable compiled view of a configuration. A reload builds a whole new one, reusing live state by identity,
//! or changes nothing.
use crate::addresses::Addresses;
use crate::balance::Rotation;
use crate::budget::Budget;
use crate::config::{self, Config};
use crate::cookie;
use crate::edge::Handshakes;
use crate::hlc::Clock;
use crate::id::{NameId, Names};
use crate::limit;
use crate::server::{Count, ServerState};
use crate::table::StickTable;
use crate::tcp;
use crate::time::Timestamp;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

mod names;
mod ruled;
pub use ruled::{Done, Ruled};

/// What all snapshots of a process share.
#[derive(Debug)]
pub struct Base {
    /// Names of servers, in tables and here.
    pub names: Arc<Names>,
    /// This node's clock.
    pub clock: Arc<Clock>,
    /// Seed of the tables' hashes.
    pub seed: u64,
    /// Worker threads.
    pub workers: usize,
    next_uid: AtomicU32,
    living: names::Living,
}

impl Base {
    /// A base.
    pub fn new(names: Arc<Names>, clock: Arc<Clock>, seed: u64, workers: usize) -> Self {
        Self { names, clock, seed, workers, next_uid: AtomicU32::new(0), living: Default::default() }
    }
}

/// A compiled configuration.
#[derive(Debug)]
pub struct Snapshot {
    /// What it was made of.
    pub config: Arc<Config>,
    /// 1 for the first, one more for each reload.
    pub generation: u64,
    /// As in the configuration.
    pub frontends: Vec<Frontend>,
    /// As in the configuration.
    pub backends: Vec<Backend>,
    /// By name.
    pub tables: HashMap<String, Arc<StickTable>>,
    /// Names of servers, in tables and here.
    pub names: Arc<Names>,
    /// Whether a server is told of clients by the PROXY protocol.
    pub sends_proxy: bool,
}

/// A frontend with its routes resolved.
#[derive(Debug)]
pub struct Frontend {
    /// Its configuration.
    pub config: Arc<config::Frontend>,
    /// For each route its backend's index.
    pub routes: Vec<usize>,
    /// Whether the TLS hello of a client is read before its connection is passed on.
    pub inspect: bool,
    /// Index of the backend where no route matches.
    pub backend: Option<usize>,
    /// Its rules on what tables count, in order.
    pub limits: Vec<Limit>,
    /// What its other rules have done.
    pub ruled: Ruled,
    /// Live counts; survive reloads.
    pub state: Arc<FrontendState>,
}

/// A rule of a frontend with its table.
#[derive(Debug)]
pub struct Limit {
    /// As in the configuration.
    pub rule: limit::Limit,
    /// Where it counts and looks.
    pub table: Arc<StickTable>,
    /// How often it did what it does, one slot a worker; survives reloads that leave the rule as it is.
    pub done: Arc<[Slot]>,
}

/// A worker's count on a cache line of its own.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Slot(pub Count);

impl Limit {
    /// How often it did what it does.
    pub fn times(&self) -> u64 {
        self.done.iter().map(|slot| slot.0.get()).sum()
    }
}

/// Live counts of a frontend.
#[derive(Debug)]
pub struct FrontendState {
    /// Name.
    pub name: String,
    /// One slot a worker.
    pub counters: Box<[FrontendCounters]>,
    /// How many connections each client address has open, where that is bounded.
    pub addresses: Arc<Addresses>,
}

/// What one worker counts for one frontend.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct FrontendCounters {
    /// Connections accepted.
    pub accepted: Count,
    /// Connections open now.
    pub open: Count,
    /// Connections refused by a bound on all of them.
    pub refused: Count,
    /// Times that a connection could not be accepted.
    pub accept_errors: Count,
    /// Connections refused because their address has as many as it may.
    pub refused_address: Count,
    /// Connections passed on as they are.
    pub passed: Count,
    /// … not passed on because a rule says so.
    pub denied: Count,
    /// … not passed on for want of a route, a server or a right hello.
    pub failed: Count,
    /// Requests that a tarpit holds now.
    pub tarpitted: Count,
    /// Requests denied at once because the tarpit was full.
    pub tarpit_full: Count,
    /// Requests by class of their final answer: 1xx (101) … 5xx.
    pub responses: [Count; 5],
    /// Requests given up because the client sent its body too slowly.
    pub slow_in: Count,
    /// … because it took its answer too slowly.
    pub slow_out: Count,
    /// Requests answered by us (errors) rather than by a server.
    pub own_answers: Count,
    /// Request durations; bucket `i` counts those up to [`DURATION_BUCKETS`]`[i]` and over the one before; the last is +Inf.
    pub durations: [Count; DURATION_BUCKETS.len() + 1],
    /// Sum of request durations in microseconds.
    pub duration_us: Count,
    /// TLS handshakes.
    pub handshakes: Handshakes,
    /// Connections closed because their PROXY header was none.
    pub proxy_errors: Count,
    /// Client connections of HTTP/2 open now.
    pub h2_open: Count,
    /// Those closed because they flooded us with frames.
    pub h2_floods: Count,
    /// Those closed because they broke the protocol.
    pub h2_errors: Count,
    /// Streams that clients reset; counted when their connection ends.
    pub h2_resets_in: Count,
    /// Streams that we reset; as those.
    pub h2_resets_out: Count,
}

/// Upper bounds of the duration buckets, in microseconds.
pub const DURATION_BUCKETS: [u64; 14] = [
    250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 5_000_000, 30_000_000,
];

/// Codes of Close frames, as they are counted: as they are where they are known, else by their class; 1005: without a code;
/// `none`: the connection ended without a Close frame.
pub const CLOSE_CODES: [&str; 17] = [
    "1000", "1001", "1002", "1003", "1005", "1007", "1008", "1009", "1010", "1011", "1012", "1013", "1014", "3xxx",
    "4xxx", "other", "none",
];

/// Who ended a WebSocket first.
pub const CLOSED_BY: [&str; 3] = ["client", "server", "lb"];

/// What frames do that break the protocol.
pub const FRAME_FLAWS: [&str; 6] = ["reserved", "opcode", "mask", "control", "length", "order"];

/// A backend, compiled.
#[derive(Debug)]
pub struct Backend {
    /// Its configuration.
    pub config: Arc<config::Backend>,
    /// As in the configuration.
    pub servers: Vec<Server>,
    /// The sticky rules on tables, in order, with their tables.
    pub stick: Vec<(config::TableRule, Arc<StickTable>)>,
    /// Those of [`Self::stick`] whose table counts.
    pub counting: Vec<usize>,
    /// The cookie rule, if there is one.
    pub cookie: Option<cookie::rule::Rule>,
    /// What its rules have done.
    pub ruled: Ruled,
    /// How many requests may be tried again; `None`: no bound over all.
    pub budget: Option<Arc<Budget>>,
    /// Live state; survives reloads.
    pub state: Arc<BackendState>,
    /// Smooth weighted round robin, one a worker, so that workers do not share a lock; survives no reload.
    pub rotation: Box<[Rotation]>,
    /// Names of servers, in tables and here.
    pub names: Arc<Names>,
    /// The other backends that pin in its tables.
    pub sharing: Vec<Arc<config::Backend>>,
    /// Whether some server is a backup.
    pub backups: bool,
    /// Whether some server starts at a pace.
    pub paced: bool,
}

/// Live counts of a backend.
#[derive(Debug)]
pub struct BackendState {
    /// Name.
    pub name: String,
    /// One slot a worker.
    pub counters: Box<[BackendCounters]>,
}

/// What one worker counts for one backend.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct BackendCounters {
    /// Requests whose server was named by the cookie.
    pub by_cookie: Count,
    /// … by a table.
    pub by_table: Count,
    /// … by the algorithm, for a new client.
    pub new: Count,
    /// … by the algorithm, because the pinned server was out.
    pub redispatched: Count,
    /// … by what the pin said of the client's first server, which was back.
    pub returned: Count,
    /// Connection attempts after the first.
    pub retries: Count,
    /// Retries that the budget did not allow.
    pub over_budget: Count,
    /// Requests that found no server.
    pub no_server: Count,
    /// Requests that waited for a server with `maxconn`.
    pub queued: Count,
    /// Requests that waited too long, or found the queue full.
    pub queue_dropped: Count,
    /// WebSockets that ended, by [`CLOSE_CODES`] and [`CLOSED_BY`].
    pub closes: [[Count; CLOSED_BY.len()]; CLOSE_CODES.len()],
    /// WebSockets whose client or server broke the protocol, by [`FRAME_FLAWS`]: how it did first.
    pub flaws: [[Count; 2]; FRAME_FLAWS.len()],
}

/// A server, compiled.
#[derive(Debug, Clone)]
pub struct Server {
    /// Its configuration.
    pub config: Arc<config::Server>,
    /// Its name in tables.
    pub id: NameId,
    /// [`crate::hash::stable`] of its name: its identity under rendezvous.
    pub hash: u64,
    /// Live state; survives reloads.
    pub state: Arc<ServerState>,
}

impl Server {
    /// The weight that holds now: the operator's, else the share of the configured one that its agent asks for.
    pub fn weight(&self) -> u32 {
        self.state.weight().unwrap_or_else(|| match self.state.share() {
            100 => self.config.weight,
            // A share of something is something.
            share => (self.config.weight * share).div_ceil(100).min(256),
        })
    }

    /// As much of [`Self::weight`] as counts now, in parts of [`ServerState::FULL`].
    pub(crate) fn share(&self, now: Timestamp) -> u64 {
        let grown = self.config.slow_start.as_ref().map_or(ServerState::FULL, |slow| self.state.grown(slow, now));
        u64::from(self.weight()) * grown
    }

    /// Whether it may get one more new client at its pace.
    pub fn may_start(&self, now: Timestamp) -> bool {
        self.config.slow_start.as_ref().is_none_or(|slow| self.state.may_start(slow, now))
    }

    /// It gets one more new client.
    pub fn started(&self, now: Timestamp) {
        if let Some(slow) = &self.config.slow_start {
            self.state.started(slow, now);
        }
    }
}

/// A pin older than this to a server that is not there is one to a server that is gone: names are looked up more often,
/// and a new configuration is given to one instance after the other.
const LOST_AFTER: u64 = 60_000;

impl Backend {
    /// The server of that name.
    pub fn by_id(&self, id: NameId) -> Option<usize> {
        self.servers.iter().position(|s| s.id == id)
    }

    /// Whether a pin that was written at this time, to a server that is not here, is to one that was found by name and is
    /// found no more, or that the file no longer has. A younger one may be known to another instance already, and to this
    /// one in a moment; one of a backend that pins in the same table is its own.
    pub fn has_lost(&self, pin: NameId, written: Timestamp, now: Timestamp) -> bool {
        if now.0.saturating_sub(written.0) < LOST_AFTER {
            return false;
        }
        let name = self.names.name(self.names.parted(pin).map_or(pin, |(server, _)| server));
        let could_make = |b: &config::Backend| {
            let rest = |prefix: &str| name.strip_prefix(prefix).is_some_and(|rest| rest.starts_with('-'));
            b.templates.iter().any(|template| rest(&template.name))
        };
        let has = |b: &config::Backend| b.servers.iter().any(|s| *s.name == *name) || could_make(b);
        could_make(&self.config) || !self.sharing.iter().any(|b| has(b))
    }

    /// The server that a pin names, and the first server of a client that was moved.
    pub fn placed(&self, pin: NameId) -> (Option<usize>, Option<NameId>) {
        match self.by_id(pin) {
            Some(server) => (Some(server), None),
            None => match self.names.parted(pin) {
                Some((server, home)) => (self.by_id(server), Some(home)),
                None => (None, None),
            },
        }
    }
}

impl Snapshot {
    /// Compiles a configuration, taking over from `previous` the live state of what has the same identity: servers by
    /// backend, name and address; tables by name and type. Cannot fail: a [`Config`] is valid.
    pub fn build(config: Arc<Config>, base: &Base, previous: Option<&Snapshot>) -> Self {
        let tables: HashMap<String, Arc<StickTable>> =
            config.tables.iter().map(|spec| (spec.name.clone(), table(spec, base, previous))).collect();
        let backends: Vec<_> = config.backends.iter().map(|b| backend(b, &config, base, previous, &tables)).collect();
        let index = |name: &String| backends.iter().position(|b: &Backend| b.config.name == *name);
        let frontends = config
            .frontends
            .iter()
            .map(|f| {
                let old = previous.and_then(|p| p.frontends.iter().find(|old| old.config.name == f.name));
                let fresh = || Arc::new(FrontendState::new(&f.name, base));
                Frontend {
                    config: f.clone(),
                    routes: targets(f).filter_map(index).collect(),
                    inspect: inspects(f, &config.backends),
                    backend: f.backend.as_ref().and_then(index),
                    limits: f.limit.iter().filter_map(|rule| limit(rule, base, old, &tables)).collect(),
                    ruled: Ruled::new(&f.rules, base.workers, old.map(|old| (&old.config.rules, &old.ruled))),
                    state: old.map_or_else(fresh, |old| old.state.clone()),
                }
            })
            .collect();
        let mut servers = config.backends.iter().flat_map(|b| &b.servers);
        let sends_proxy = servers.any(|s| s.send_proxy.is_some());
        let generation = previous.map_or(1, |p| p.generation + 1);
        Self { config, generation, frontends, backends, tables, names: base.names.clone(), sends_proxy }
    }

    /// The state of every server.
    pub fn servers(&self) -> impl Iterator<Item = Arc<ServerState>> {
        self.backends.iter().flat_map(|b| &b.servers).map(|s| s.state.clone())
    }

    /// The server `backend/name`.
    pub fn server(&self, backend: &str, name: &str) -> Option<&Server> {
        self.backends.iter().find(|b| b.config.name == backend)?.servers.iter().find(|s| s.config.name == name)
    }
}

/// Where the routes of a frontend lead.
fn targets(frontend: &config::Frontend) -> impl Iterator<Item = &String> {
    let tcp = frontend.tcp.iter().flat_map(|tcp| &tcp.routes).map(|r| &r.backend);
    frontend.routes.iter().map(|r| &r.backend).chain(tcp)
}

/// Whether what is known of a server, and its idle connections, hold for another configuration of it.
fn same_server(old: &config::Server, new: &config::Server) -> bool {
    (&old.name, &old.addr, &old.tls, old.send_proxy) == (&new.name, &new.addr, &new.tls, new.send_proxy)
}

/// Whether anything that decides over a connection looks at its TLS hello.
fn inspects(frontend: &config::Frontend, backends: &[Arc<config::Backend>]) -> bool {
    let Some(tcp) = &frontend.tcp else { return false };
    let of_backend = |b: &config::Backend| {
        let rule = |rule: &config::Sticky| match rule {
            config::Sticky::Table(rule) => {
                rule.action != config::StickAction::StoreResponse && tcp::is_inside(&rule.key)
            }
            config::Sticky::Cookie(_) => false,
        };
        matches!(&b.balance, config::Balance::Hash(key) if tcp::is_inside(key)) || b.sticky.iter().any(rule)
    };
    let led_to = |b: &config::Backend| targets(frontend).chain(&frontend.backend).any(|name| *name == b.name);
    tcp.routes.iter().any(tcp::Route::looks_inside)
        || frontend.limit.iter().any(|rule| tcp::is_inside(&rule.key))
        || backends.iter().any(|b| led_to(b) && of_backend(b))
}

impl FrontendState {
    fn new(name: &str, base: &Base) -> Self {
        let counters = (0..base.workers).map(|_| FrontendCounters::default()).collect();
        Self { name: name.into(), counters, addresses: Arc::new(Addresses::new(base.seed)) }
    }

    /// Sum of one counter over the workers.
    pub fn sum(&self, of: impl Fn(&FrontendCounters) -> &Count) -> u64 {
        self.counters.iter().fold(0, |sum, c| sum.wrapping_add(of(c).get()))
    }
}

impl BackendState {
    /// Sum of one counter over the workers.
    pub fn sum(&self, of: impl Fn(&BackendCounters) -> &Count) -> u64 {
        self.counters.iter().fold(0, |sum, c| sum.wrapping_add(of(c).get()))
    }
}

fn table(spec: &Arc<config::Table>, base: &Base, previous: Option<&Snapshot>) -> Arc<StickTable> {
    let old = previous
        .and_then(|p| p.tables.get(&spec.name))
        .filter(|t| t.spec().kind == spec.kind && t.spec().len == spec.len && t.spec().replicate == spec.replicate);
    match old {
        Some(old) => {
            old.reconfigure(spec.clone());
            old.clone()
        }
        None => Arc::new(StickTable::new(spec.clone(), base.names.clone(), base.clock.clone(), base.seed)),
    }
}

fn limit(
    rule: &limit::Limit,
    base: &Base,
    old: Option<&Frontend>,
    tables: &HashMap<String, Arc<StickTable>>,
) -> Option<Limit> {
    let done = old.and_then(|f| f.limits.iter().find(|l| l.rule == *rule)).map(|l| l.done.clone());
    let fresh = || (0..base.workers).map(|_| Slot::default()).collect();
    Some(Limit { rule: rule.clone(), table: tables.get(&rule.table)?.clone(), done: done.unwrap_or_else(fresh) })
}

/// Whether two backends pin in one table.
fn share_a_table(a: &config::Backend, b: &config::Backend) -> bool {
    let mut tables = a.sticky.iter().filter_map(config::Sticky::table);
    tables.any(|table| b.sticky.iter().filter_map(config::Sticky::table).any(|other| other == table))
}

fn backend(
    config: &Arc<config::Backend>,
    all: &Config,
    base: &Base,
    previous: Option<&Snapshot>,
    tables: &HashMap<String, Arc<StickTable>>,
) -> Backend {
    let old = previous.and_then(|p| p.backends.iter().find(|b| b.config.name == config.name));
    let servers: Vec<_> = config
        .servers
        .iter()
        .map(|s| {
            let state = old.and_then(|b| b.servers.iter().find(|o| same_server(&o.config, s))).map(|o| o.state.clone());
            // A server that joins a backend that serves already.
            let joins = old.is_some() && state.is_none() && s.slow_start.is_some();
            let server = server(config, s, base, state);
            if joins {
                server.state.comes_up_soon();
            }
            server
        })
        .collect();
    let mut stick = Vec::new();
    let mut rule_of_cookie = None;
    for rule in &config.sticky {
        match rule {
            config::Sticky::Cookie(c) => rule_of_cookie = Some(cookie::rule::Rule::new(c.clone(), &config.servers)),
            config::Sticky::Table(rule) => {
                if let Some(table) = tables.get(&rule.table) {
                    stick.push((rule.clone(), table.clone()));
                }
            }
        }
    }
    Backend {
        config: config.clone(),
        rotation: (0..base.workers).map(|_| Rotation::new(servers.len())).collect(),
        names: base.names.clone(),
        sharing: all.backends.iter().filter(|b| b.name != config.name && share_a_table(b, config)).cloned().collect(),
        backups: servers.iter().any(|s| s.config.backup),
        paced: servers.iter().any(|s| s.config.slow_start.is_some_and(|slow| slow.pace.is_some())),
        servers,
        counting: (0..stick.len()).filter(|rule| !stick[*rule].1.spec().store.is_empty()).collect(),
        stick,
        cookie: rule_of_cookie,
        ruled: Ruled::new(&config.rules, base.workers, old.map(|old| (&old.config.rules, &old.ruled))),
        budget: config.faults.retry_budget.map(|of| {
            let same = old.and_then(|b| b.budget.clone()).filter(|b| b.of() == of);
            same.unwrap_or_else(|| Arc::new(Budget::new(of, base.workers)))
        }),
        state: old.map_or_else(
            || {
                Arc::new(BackendState {
                    name: config.name.clone(),
                    counters: (0..base.workers).map(|_| BackendCounters::default()).collect(),
                })
            },
            |b| b.state.clone(),
        ),
    }
}

fn server(
    backend: &config::Backend,
    config: &Arc<config::Server>,
    base: &Base,
    state: Option<Arc<ServerState>>,
) -> Server {
    let id = base.names.intern(&config.name);
    let state = state.unwrap_or_else(|| {
        let uid = base.next_uid.fetch_add(1, Ordering::Relaxed);
        let state = ServerState::new(&backend.name, &config.name, id, uid, base.workers, config.state);
        let state = Arc::new(state);
        base.living.add(&state);
        state
    });
    let bound = |n: usize| u32::try_from(n).ok().filter(|n| *n > 0);
    state.set_bounds(bound(config.maxconn.instance), bound(config.maxconn.cluster));
    Server { config: config.clone(), id, hash: crate::hash::stable(config.name.as_bytes()), state }
}
