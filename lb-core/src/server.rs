//! A server's live state: what workers, checks and admin share. All atomics; it survives reloads by `Arc`.
use crate::id::NameId;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed};

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
    admin: AtomicU8,
    health: AtomicU8,
    /// Weight set by the operator; `u32::MAX`: the configured one holds.
    weight: AtomicU32,
    /// Requests and tunnels now on it.
    in_flight: AtomicU32,
    /// Requests that wait for a place on it.
    queued: AtomicU32,
    bounds: Mutex<Bounds>,
    /// What [`Bounds`] come to, for the request path; `u32::MAX`: no bound.
    limit: AtomicU32,
    /// Its sockets are being closed: nobody stays.
    closing: AtomicBool,
    /// Connects that failed in a row.
    connect_failures: AtomicU32,
    /// Unix milliseconds of the last change of health.
    changed: AtomicU64,
    /// Counters, one slot a worker.
    pub counters: Box<[ServerCounters]>,
}

/// How many requests a server takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bounds {
    /// From this instance; `None`: no bound.
    pub instance: Option<u32>,
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
        self.instance.into_iter().chain(part).min()
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
            admin: AtomicU8::new(admin as u8),
            health: AtomicU8::new(Health::Up as u8),
            weight: AtomicU32::new(u32::MAX),
            in_flight: AtomicU32::new(0),
            queued: AtomicU32::new(0),
            bounds: Mutex::default(),
            limit: AtomicU32::new(u32::MAX),
            closing: AtomicBool::new(false),
            connect_failures: AtomicU32::new(0),
            changed: AtomicU64::new(0),
            counters: (0..workers).map(|_| ServerCounters::default()).collect(),
        }
    }

    /// What the operator wants.
    pub fn admin(&self) -> AdminState {
        match self.admin.load(Relaxed) {
            1 => AdminState::Drain,
            2 => AdminState::Maint,
            _ => AdminState::Ready,
        }
    }

    /// Sets what the operator wants.
    pub fn set_admin(&self, state: AdminState) {
        self.admin.store(state as u8, Relaxed);
    }

    /// What checks found.
    pub fn health(&self) -> Health {
        if self.health.load(Relaxed) == 0 { Health::Up } else { Health::Down }
    }

    /// Sets what checks found; `now` in Unix milliseconds is kept as the time of the change.
    pub fn set_health(&self, health: Health, now: u64) {
        if self.health.swap(health as u8, Relaxed) != health as u8 {
            self.changed.store(now, Relaxed);
        }
        if health == Health::Up {
            self.connect_failures.store(0, Relaxed);
        }
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
        self.health.load(Relaxed) == Health::Up as u8
            && self.admin.load(Relaxed) != AdminState::Maint as u8
            && !self.closing()
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
        self.health.load(Relaxed) == Health::Up as u8 && self.admin.load(Relaxed) == AdminState::Ready as u8
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
