//! A server's live state: what workers, checks and admin share. All atomics; it survives reloads by `Arc`.
use crate::agent::Report;
use crate::config::SlowStart;
use crate::id::NameId;
use crate::time::{Timestamp, millis};
use gate::Gate;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};

mod gate;

/// What the operator wants of a server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum AdminState {
    /// Takes everybody.
    #[default]
    Ready = 0,
    /// Takes only clients that are pinned to it.
    Drain = 1,
    /// Takes nobody, is not checked.
    Maint = 2,
}

/// What checks and connects found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum Health {
    /// Answers.
    #[default]
    Up = 0,
    /// Does not.
    Down = 1,
}

/// As [`ServerState::came_up`] of a time that nobody knows yet.
const SOON: u64 = u64::MAX;

/// As [`ServerState::elsewhere`]: not known.
const UNTOLD: u64 = u64::MAX;

/// All of the configured weight.
const FULL_SHARE: u32 = 100;

/// Live state of one server of one backend.
#[derive(Debug)]
pub struct ServerState {
    /// Backend name.
    pub backend: String,
    /// Server name.
    pub name: String,
    /// The name in tables.
    pub id: NameId,
    /// Unique in this process; keys the workers' pools.
    pub uid: u32,
    gate: Gate,
    /// Weight set by the operator; `u32::MAX`: the configured one holds.
    weight: AtomicU32,
    /// Share of the configured weight that its agent asks for, in percent.
    share: AtomicU32,
    /// Requests and tunnels now on it.
    in_flight: AtomicU32,
    /// Requests that wait for a place on it.
    queued: AtomicU32,
    bounds: Mutex<Bounds>,
    /// What [`Bounds`] come to, for the request path; `u32::MAX`: no bound.
    limit: AtomicU32,
    /// What the other instances have on it; [`UNTOLD`]: they have not all told.
    elsewhere: AtomicU64,
    /// Its sockets are being closed: nobody stays.
    closing: AtomicBool,
    /// Connects that failed in a row.
    connect_failures: AtomicU32,
    /// Requests that it failed in a row.
    failures: AtomicU32,
    /// They were too many, and the control thread has not looked yet.
    tripped: AtomicBool,
    /// Until when it is out for that, in milliseconds; 0: it is not.
    ejected_until: AtomicU64,
    /// Unix milliseconds of the last change of health.
    changed: AtomicU64,
    /// When it began to take clients again, in milliseconds; 0: long ago; [`SOON`]: at the first look.
    risen: AtomicU64,
    /// While it starts slowly: the moment from which one more may come, in microseconds.
    next_start: AtomicU64,
    /// Counters, one slot a worker.
    pub counters: Box<[ServerCounters]>,
    /// What the control thread counts.
    pub control: ControlCounters,
}

/// What the control thread counts for one server.
#[derive(Debug, Default)]
pub struct ControlCounters {
    /// Checks that passed.
    pub checks_passed: Count,
    /// Checks that failed.
    pub checks_failed: Count,
    /// Times that its agent could not be heard.
    pub agent_errors: Count,
    /// Times that it was taken out because it failed too many requests.
    pub ejections: Count,
}

/// How many requests a server takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bounds {
    /// From this instance; `None`: no bound.
    pub instance: Option<u32>,
    /// The same as its agent says, which holds over it; `None`: it said nothing.
    pub agent: Option<u32>,
    /// From all instances together; `None`: no bound.
    pub cluster: Option<u32>,
    /// This instance's part of that; `None`: it stands alone, and has all of it.
    pub allowance: Option<u32>,
    /// What the other instances have, as far as they told.
    pub elsewhere: u32,
}

impl Bounds {
    fn limit(&self) -> Option<u32> {
        let part = self.cluster.map(|cluster| self.allowance.map_or(cluster, |allowed| allowed.min(cluster)));
        self.agent.or(self.instance).into_iter().chain(part).min()
    }
}

/// What one worker counts for one server. Only that worker writes it, so no locked instruction is needed; on its own
/// cache line.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct ServerCounters {
    /// Requests sent.
    pub requests: Count,
    /// Connections opened.
    pub connects: Count,
    /// Connects that failed or timed out.
    pub connect_errors: Count,
    /// Answers that never came, or came broken.
    pub response_errors: Count,
    /// Bytes from clients.
    pub bytes_in: Count,
    /// Bytes to clients.
    pub bytes_out: Count,
    /// Open WebSocket and other upgraded tunnels.
    pub tunnels: Count,
    /// Those of them that nobody has told to end yet, and other tunnels as well.
    pub unclosed: Count,
    /// WebSocket messages from clients and to them.
    pub messages: [Count; 2],
    /// Requests that it failed, where `outlier` counts them.
    pub failures: Count,
    /// Requests and tunnels closed because it went down.
    pub closed: Count,
    /// Answers by class: 1xx … 5xx.
    pub responses: [Count; 5],
}

/// A counter that one thread writes and any thread reads.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// Adds one.
    pub fn bump(&self) {
        self.add(1);
    }
    /// Adds `n`.
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(n), Relaxed);
    }
    /// Takes one away (for counts of what is open now).
    pub fn drop_one(&self) {
        self.0.store(self.0.load(Relaxed).wrapping_sub(1), Relaxed);
    }
    /// Reads.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

impl ServerState {
    /// A new state for `workers` workers.
    pub fn new(backend: &str, name: &str, id: NameId, uid: u32, workers: usize, admin: AdminState) -> Self {
        Self {
            backend: backend.into(),
            name: name.into(),
            id,
            uid,
            gate: Gate::new(admin),
            weight: AtomicU32::new(u32::MAX),
            share: AtomicU32::new(FULL_SHARE),
            in_flight: AtomicU32::new(0),
            queued: AtomicU32::new(0),
            bounds: Mutex::default(),
            limit: AtomicU32::new(u32::MAX),
            elsewhere: AtomicU64::new(UNTOLD),
            closing: AtomicBool::new(false),
            connect_failures: AtomicU32::new(0),
            failures: AtomicU32::new(0),
            tripped: AtomicBool::new(false),
            ejected_until: AtomicU64::new(0),
            changed: AtomicU64::new(0),
            risen: AtomicU64::new(0),
            next_start: AtomicU64::new(0),
            counters: (0..workers).map(|_| ServerCounters::default()).collect(),
            control: ControlCounters::default(),
        }
    }

    /// What the operator wants, or where none decided, its agent, or the configuration.
    pub fn admin(&self) -> AdminState {
        self.gate.admin()
    }

    /// Sets what the configuration wants.
    pub fn set_admin(&self, state: AdminState) {
        self.gate.want(state, false);
    }

    /// Sets state and weight as an operator decided them, or with `None` as configured. True: that is news.
    pub fn decide(&self, state: Option<AdminState>, configured: AdminState, weight: Option<u32>) -> bool {
        let state = self.gate.want(state.unwrap_or(configured), state.is_some());
        let weight = weight.unwrap_or(u32::MAX);
        (self.weight.swap(weight, Relaxed) != weight) | state
    }

    /// What checks, connects and its agent found.
    pub fn health(&self) -> Health {
        self.gate.health()
    }

    /// What checks and connects found, whatever its agent says.
    pub fn checked(&self) -> Health {
        self.gate.checked()
    }

    /// Sets what checks found; `now` in Unix milliseconds is kept as the time of the change.
    pub fn set_health(&self, health: Health, now: u64) {
        if self.gate.set_checked(health) {
            self.changed.store(now, Relaxed);
            if health == Health::Up {
                self.came_up(now);
            }
        }
        if health == Health::Up {
            self.connect_failures.store(0, Relaxed);
        }
    }

    /// Takes in what its agent says; what that does not name stays. True: something changed.
    pub fn agent_reports(&self, report: &Report, now: u64) -> bool {
        let down = report.health.is_some_and(|health| {
            let news = self.gate.set_agent_down(health == Health::Down);
            if news {
                self.changed.store(now, Relaxed);
            }
            if news && health == Health::Up {
                self.came_up(now);
            }
            news
        });
        let state = report.state.is_some_and(|state| self.gate.agent_wants(Some(state)));
        let share = report.share.is_some_and(|share| self.share.swap(share, Relaxed) != share);
        let bound = report.maxconn.is_some_and(|n| {
            let before = self.bounds();
            self.change_bounds(|bounds| bounds.agent = Some(n).filter(|n| *n > 0));
            before != self.bounds()
        });
        down | state | share | bound
    }

    /// It has no agent any more: nothing it said holds.
    pub fn forget_agent(&self) {
        self.gate.set_agent_down(false);
        self.gate.agent_wants(None);
        self.share.store(FULL_SHARE, Relaxed);
        self.change_bounds(|bounds| bounds.agent = None);
    }

    /// Whether its agent says that it is down.
    pub fn agent_down(&self) -> bool {
        self.gate.agent_down()
    }

    /// Share of its configured weight that its agent asks for, in percent.
    pub fn share(&self) -> u32 {
        self.share.load(Relaxed)
    }

    /// Whether it is out because it failed too many requests.
    pub fn ejected(&self) -> bool {
        self.gate.ejected()
    }

    /// When its time out ends, in milliseconds; `None`: it is in.
    pub fn ejected_until(&self) -> Option<u64> {
        Some(self.ejected_until.load(Relaxed)).filter(|at| *at > 0)
    }

    /// Takes it out until then (in milliseconds), or with `None` back in. True: that is news.
    pub fn eject(&self, until: Option<u64>) -> bool {
        self.ejected_until.store(until.unwrap_or(0), Relaxed);
        if until.is_none() {
            self.failures.store(0, Relaxed);
            self.tripped.store(false, Relaxed);
        }
        self.gate.set_ejected(until.is_some())
    }

    /// It answered a request well.
    pub fn succeeded(&self) {
        if self.failures.load(Relaxed) != 0 {
            self.failures.store(0, Relaxed);
        }
    }

    /// It failed a request of this worker; `bound` in a row are too many (0: they never are). The control thread makes
    /// an ejection of it.
    pub fn failed(&self, worker: usize, bound: u32) {
        if let Some(counters) = self.counters.get(worker) {
            counters.failures.bump();
        }
        let failures = self.failures.fetch_add(1, Relaxed) + 1;
        if bound > 0 && failures >= bound {
            self.tripped.store(true, Relaxed);
        }
    }

    /// Whether it failed too many requests in a row since the last time that somebody asked.
    pub fn tripped(&self) -> bool {
        self.tripped.load(Relaxed) && self.tripped.swap(false, Relaxed)
    }

    /// Whether discovery knows it no more: what is open stays, nobody comes.
    pub fn gone(&self) -> bool {
        self.gate.gone()
    }

    /// Sets whether discovery knows it no more. True: that is news.
    pub fn set_gone(&self, gone: bool) -> bool {
        self.gate.set_gone(gone)
    }

    /// Whether its health is ignored, because too few servers of its backend are up.
    pub fn panics(&self) -> bool {
        self.gate.panics()
    }

    /// Sets whether its health is ignored. True: that is news.
    pub fn set_panics(&self, panics: bool) -> bool {
        self.gate.set_panics(panics)
    }

    /// Unix milliseconds of the last change of health; 0: never.
    pub fn changed(&self) -> u64 {
        self.changed.load(Relaxed)
    }

    /// The operator's weight, if one was set.
    pub fn weight(&self) -> Option<u32> {
        Some(self.weight.load(Relaxed)).filter(|w| *w != u32::MAX)
    }

    /// Sets or, with `None`, takes back the operator's weight.
    pub fn set_weight(&self, weight: Option<u32>) {
        self.weight.store(weight.unwrap_or(u32::MAX), Relaxed);
    }

    /// Whether a pinned client may go there.
    pub fn takes_pinned(&self) -> bool {
        self.gate.takes_pinned() && !self.closing()
    }

    /// Whether its sockets are being closed, so that no client stays with it any longer.
    pub fn closing(&self) -> bool {
        self.closing.load(Relaxed)
    }

    /// Sets that.
    pub fn set_closing(&self, closing: bool) {
        self.closing.store(closing, Relaxed);
    }

    /// Whether a new client may go there.
    pub fn takes_new(&self) -> bool {
        self.gate.takes_new()
    }

    /// All of a weight.
    pub const FULL: u64 = 1024;

    /// It takes clients again, or for the first time, since `now` (in milliseconds).
    pub fn came_up(&self, now: u64) {
        self.risen.store(now.clamp(1, SOON - 1), Relaxed);
    }

    /// As [`Self::came_up`], from the moment at which somebody looks.
    pub fn comes_up_soon(&self) {
        self.risen.store(SOON, Relaxed);
    }

    /// When it came up, in milliseconds; 0: it has its whole weight.
    fn risen(&self, now: Timestamp) -> u64 {
        match self.risen.load(Relaxed) {
            SOON => {
                self.came_up(now.0);
                now.0
            }
            risen => risen,
        }
    }

    /// How much of its weight counts, in parts of [`Self::FULL`]: from a hundredth, growing with the time since it
    /// came up.
    pub fn grown(&self, slow: &SlowStart, now: Timestamp) -> u64 {
        let risen = self.risen(now);
        if risen == 0 {
            return Self::FULL;
        }
        let (since, all) = (now.0.saturating_sub(risen), millis(slow.time));
        if since >= all {
            // Another that came up meanwhile begins anew.
            let _ = self.risen.compare_exchange(risen, 0, Relaxed, Relaxed);
            return Self::FULL;
        }
        (since * Self::FULL / all).max(Self::FULL / 100)
    }

    /// Whether it may get one more new client at its pace.
    pub fn may_start(&self, slow: &SlowStart, now: Timestamp) -> bool {
        slow.pace.is_none()
            || self.grown(slow, now) == Self::FULL
            || self.next_start.load(Relaxed) <= now.0.saturating_mul(1000)
    }

    /// It gets one more new client.
    pub fn started(&self, slow: &SlowStart, now: Timestamp) {
        let Some(pace) = slow.pace.filter(|_| self.risen.load(Relaxed) != 0) else { return };
        let (now, step) = (now.0.saturating_mul(1000), 1_000_000 / u64::from(pace.get()));
        // Up to a tenth of a second's worth may come at once, so that a coarse clock does not slow it down.
        let next = |at: u64| Some(at.max(now.saturating_sub(100_000)) + step);
        let _ = self.next_start.fetch_update(Relaxed, Relaxed, next);
    }

    /// Whether it takes one more without a queue.
    pub fn has_room(&self) -> bool {
        self.in_flight.load(Relaxed) < self.limit.load(Relaxed)
    }

    /// Requests and tunnels now on it.
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Relaxed)
    }

    /// Counts one request or tunnel in; out again when the guard drops.
    pub fn enter(self: &Arc<Self>) -> InFlight {
        self.in_flight.fetch_add(1, Relaxed);
        InFlight(self.clone())
    }

    /// As [`Self::enter`], unless as many are in as may be.
    pub fn try_enter(self: &Arc<Self>) -> Option<InFlight> {
        let limit = self.limit.load(Relaxed);
        if limit == u32::MAX {
            return Some(self.enter());
        }
        self.in_flight.fetch_update(Relaxed, Relaxed, |n| (n < limit).then_some(n + 1)).ok()?;
        Some(InFlight(self.clone()))
    }

    /// Whether there is a bound.
    pub fn is_bounded(&self) -> bool {
        self.limit.load(Relaxed) != u32::MAX
    }

    /// Whether more are in than may be: the bound was lowered meanwhile.
    pub fn is_over(&self) -> bool {
        self.in_flight.load(Relaxed) > self.limit.load(Relaxed)
    }

    /// Requests that wait for a place on it.
    pub fn queued(&self) -> u32 {
        self.queued.load(Relaxed)
    }

    /// Counts one that waits; out again when the guard drops.
    pub fn wait(self: &Arc<Self>) -> Waiting {
        self.queued.fetch_add(1, Relaxed);
        Waiting(self.clone())
    }

    /// The bounds that hold.
    pub fn bounds(&self) -> Bounds {
        *self.bounds.lock()
    }

    /// The bound for all instances together.
    pub fn cluster_bound(&self) -> Option<u32> {
        self.bounds.lock().cluster
    }

    /// Sets the bounds that the configuration gives.
    pub fn set_bounds(&self, instance: Option<u32>, cluster: Option<u32>) {
        self.change_bounds(|bounds| {
            if cluster.is_none() {
                bounds.allowance = None;
            }
            (bounds.instance, bounds.cluster) = (instance, cluster);
        });
    }

    /// Sets this instance's part of the bound for all, and what the others have. True: it grew.
    pub fn set_allowance(&self, allowance: u32, elsewhere: u32) -> bool {
        self.change_bounds(|bounds| (bounds.allowance, bounds.elsewhere) = (Some(allowance), elsewhere))
    }

    /// Requests and tunnels that the other instances have on it, where they tell each other of it: of servers with a bound
    /// for all, and of those that drain. `None`: not all have told.
    pub fn elsewhere(&self) -> Option<u32> {
        u32::try_from(self.elsewhere.load(Relaxed)).ok()
    }

    /// Sets that.
    pub fn set_elsewhere(&self, elsewhere: Option<u32>) {
        self.elsewhere.store(elsewhere.map_or(UNTOLD, u64::from), Relaxed);
    }

    fn change_bounds(&self, change: impl FnOnce(&mut Bounds)) -> bool {
        let mut bounds = self.bounds.lock();
        change(&mut bounds);
        let limit = bounds.limit().unwrap_or(u32::MAX);
        self.limit.swap(limit, Relaxed) < limit
    }

    /// A connect succeeded.
    pub fn connected(&self) {
        if self.connect_failures.load(Relaxed) != 0 {
            self.connect_failures.store(0, Relaxed);
        }
    }

    /// A connect failed; returns how many in a row by now. The control thread turns them into a change of health.
    pub fn connect_failed(&self) -> u32 {
        self.connect_failures.fetch_add(1, Relaxed) + 1
    }

    /// Failed connects in a row.
    pub fn connect_failures(&self) -> u32 {
        self.connect_failures.load(Relaxed)
    }

    /// Sum of one counter over the workers.
    pub fn sum(&self, of: impl Fn(&ServerCounters) -> &Count) -> u64 {
        self.counters.iter().fold(0, |sum, c| sum.wrapping_add(of(c).get()))
    }
}

/// One request that waits for a place on a server, counted out when dropped.
#[derive(Debug)]
pub struct Waiting(Arc<ServerState>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.queued.fetch_sub(1, Relaxed);
    }
}

/// One request or tunnel on a server, counted out when dropped.
#[derive(Debug)]
pub struct InFlight(Arc<ServerState>);

impl InFlight {
    /// The server it counts on.
    pub fn server(&self) -> &Arc<ServerState> {
        &self.0
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Relaxed);
    }
}
