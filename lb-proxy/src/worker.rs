//! One data-plane thread: its runtime, its listeners, its connections. It shares nothing with the other workers but
//! what [`Shared`] holds.
use crate::bind::{Listener, Wanted};
use crate::clock;
use crate::closing::Watches;
use crate::http::head::Field;
use crate::http::ids::Ids;
use crate::http::passwords::Passwords;
use crate::http2::serve::Runners;
use crate::http2::servers::Servers;
use crate::io::Buffers;
use crate::listener::{self, Accepting, Listening};
use crate::shared::Shared;
use crate::sockets::{self, Sockets};
use crate::tls::handshake;
use crate::upstream::Pool;
use crate::websocket::close::Why;
use arc_swap::{ArcSwap, Cache};
use lb_core::balance::Turn;
use lb_core::snapshot::{Server, Snapshot};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Waker;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::{Notify, mpsc};
use tokio::task::{AbortHandle, LocalSet};

/// How often the log is told that the TLS of one server fails.
const COMPLAIN: Duration = Duration::from_secs(10);

/// What a worker can be told.
#[derive(Debug)]
pub enum Command {
    /// Accept on a listening, non-blocking socket for a frontend.
    Listen {
        /// Its identity.
        wanted: Wanted,
        /// The socket.
        listener: Listener,
    },
    /// Stop accepting there and close the socket.
    Unlisten {
        /// Its identity.
        wanted: Wanted,
    },
    /// Close what is open on a server, where its backend says so: it went down.
    CloseOn {
        /// [`lb_core::server::ServerState::uid`]
        server: u32,
    },
    /// Stop accepting, close idle connections, let the others finish; the thread ends with the last.
    Drain,
    /// Tell open sockets to end.
    Close(Close),
    /// Close everything; the thread ends.
    Abort,
}

/// Sockets that are to end.
#[derive(Clone, Copy, Debug)]
pub struct Close {
    /// Those on the server with this [`uid`](lb_core::server::ServerState::uid); `None`: all WebSockets.
    pub(crate) server: Option<u32>,
    /// So many of them.
    pub(crate) count: usize,
    pub(crate) why: Why,
}

/// A running worker.
#[derive(Debug)]
pub struct Worker {
    commands: mpsc::UnboundedSender<Command>,
    thread: JoinHandle<()>,
}

impl Worker {
    /// Starts worker number `id` (its slot in all counters) on a thread of its own.
    ///
    /// # Errors
    /// The thread or its runtime cannot be made.
    pub fn start(id: usize, shared: Arc<Shared>) -> std::io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        // Few and small: starts, reloads, the end. Never on a request's path.
        let (commands, inbox) = mpsc::unbounded_channel();
        let thread = std::thread::Builder::new().name(format!("worker-{id}")).spawn(move || {
            let local = Rc::new(Local::new(id, shared));
            LocalSet::new().block_on(&runtime, clock::ticking(run(local, inbox)));
        })?;
        Ok(Self { commands, thread })
    }

    /// Tells it something. Commands are carried out in order.
    pub fn tell(&self, command: Command) {
        // A worker that has ended needs to be told nothing.
        let _ = self.commands.send(command);
    }

    /// Whether the thread has ended.
    pub fn ended(&self) -> bool {
        self.thread.is_finished()
    }
}

/// A client's connection, as far as others than its own task need it: how to wake it between two requests.
pub(crate) struct Client {
    pub(crate) id: u64,
    waker: RefCell<Option<Waker>>,
}

impl Client {
    /// The task that is to be woken when the worker drains.
    pub(crate) fn wake_on_drain(&self, waker: &Waker) {
        let mut mine = self.waker.borrow_mut();
        if !mine.as_ref().is_some_and(|w| w.will_wake(waker)) {
            *mine = Some(waker.clone());
        }
    }
}

/// A snapshot as the requests of one thread hold it: they count references on a pointer of their own, so that workers
/// do not fight for one cache line.
pub(crate) type Pinned = Rc<Arc<Snapshot>>;

/// What the tasks of one worker share.
pub(crate) struct Local {
    /// The worker's number.
    pub(crate) id: usize,
    pub(crate) shared: Arc<Shared>,
    pub(crate) buffers: Rc<Buffers>,
    pub(crate) fields: SpareFields,
    pub(crate) pool: Pool,
    pub(crate) sockets: Sockets,
    pub(crate) ids: Ids,
    pub(crate) passwords: Passwords,
    pub(crate) watches: Rc<Watches>,
    pub(crate) handshakes: handshake::Bounds,
    /// Servers whose TLS failed, and when the log was last told.
    complaints: RefCell<HashMap<u32, Instant>>,
    pub(crate) h2: Servers,
    pub(crate) runners: Runners,
    /// Looks whether there is a newer snapshot, by one comparison.
    newest: RefCell<Cache<Arc<ArcSwap<Snapshot>>, Arc<Snapshot>>>,
    snapshot: RefCell<Pinned>,
    clients: RefCell<HashMap<u64, Rc<Client>>>,
    next_id: Cell<u64>,
    open: Cell<usize>,
    draining: Cell<bool>,
    empty: Notify,
    /// State of the random numbers.
    dice: Cell<u64>,
}

/// Spare lists of header fields.
#[derive(Default)]
pub(crate) struct SpareFields(RefCell<Vec<Vec<Field>>>);

impl SpareFields {
    pub(crate) fn take(&self) -> Vec<Field> {
        self.0.borrow_mut().pop().unwrap_or_default()
    }

    pub(crate) fn give(&self, fields: Vec<Field>) {
        let mut spare = self.0.borrow_mut();
        if spare.len() < 64 {
            spare.push(fields);
        }
    }
}

impl Local {
    fn new(id: usize, shared: Arc<Shared>) -> Self {
        let mut newest = Cache::new(shared.snapshot.clone());
        let snapshot = RefCell::new(Rc::new(newest.load().clone()));
        Self {
            dice: Cell::new(shared.base.seed.wrapping_add(id as u64)),
            id,
            shared,
            buffers: Rc::default(),
            fields: SpareFields::default(),
            pool: Pool::default(),
            sockets: Sockets::default(),
            ids: Ids::default(),
            passwords: Passwords::new(),
            watches: Rc::default(),
            handshakes: handshake::Bounds::default(),
            complaints: RefCell::default(),
            h2: Servers::default(),
            runners: Runners::default(),
            newest: RefCell::new(newest),
            snapshot,
            clients: RefCell::default(),
            next_id: Cell::new(0),
            open: Cell::new(0),
            draining: Cell::new(false),
            empty: Notify::new(),
        }
    }

    /// Tells the log that a server's TLS fails: somebody must do something. Not at every attempt.
    pub(crate) fn complain(&self, server: &Server, error: &std::io::Error) {
        let mut told = self.complaints.borrow_mut();
        let uid = server.state.uid;
        if told.get(&uid).is_none_or(|at| at.elapsed() > COMPLAIN) {
            told.insert(uid, Instant::now());
            let (backend, server) = (&server.state.backend, &server.config.name);
            tracing::warn!(backend, server, %error, "the TLS handshake with a server failed");
        }
    }

    /// The configuration that holds now.
    pub(crate) fn snapshot(&self) -> Pinned {
        let mut seen = self.newest.borrow_mut();
        let newest = seen.load();
        let mut mine = self.snapshot.borrow_mut();
        if !Arc::ptr_eq(newest, &mine) {
            *mine = Rc::new(newest.clone());
        }
        mine.clone()
    }

    /// What the next choice of a server is made by; `excluded` have failed already.
    pub(crate) fn turn<'a>(&self, excluded: &'a [usize]) -> Turn<'a> {
        Turn { worker: self.id, key: None, random: self.random(), now: crate::shared::at(clock::turn()), excluded }
    }

    /// A random number that nobody's safety depends on (SplitMix64).
    pub(crate) fn random(&self) -> u64 {
        self.dice.set(self.dice.get().wrapping_add(0x9e37_79b9_7f4a_7c15));
        let x = self.dice.get();
        let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    /// Whether the instance is leaving.
    pub(crate) fn draining(&self) -> bool {
        self.draining.get() || self.shared.draining.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// Enters a new connection among those that a drain wakes.
    pub(crate) fn remember(&self) -> Rc<Client> {
        self.next_id.set(self.next_id.get() + 1);
        let client = Rc::new(Client { id: self.next_id.get(), waker: RefCell::new(None) });
        self.clients.borrow_mut().insert(client.id, client.clone());
        client
    }

    pub(crate) fn forget(&self, client: &Client) {
        self.clients.borrow_mut().remove(&client.id);
    }

    pub(crate) fn opened(&self) {
        self.open.set(self.open.get() + 1);
    }

    pub(crate) fn closed(&self) {
        self.open.set(self.open.get() - 1);
        if self.open.get() == 0 {
            self.empty.notify_one();
        }
    }

    /// Wakes the connections, so that those between two requests see that they are to end.
    fn wake_clients(&self) {
        for client in self.clients.borrow().values() {
            if let Some(waker) = client.waker.borrow().as_ref() {
                waker.wake_by_ref();
            }
        }
    }
}

type Listeners = HashMap<Wanted, AbortHandle>;

async fn run(local: Rc<Local>, mut inbox: mpsc::UnboundedReceiver<Command>) {
    let mut listeners = Listeners::new();
    let mut sweep = tokio::time::interval(Duration::from_secs(5));
    loop {
        tokio::select! {
            command = inbox.recv() => match command {
                Some(Command::Listen { wanted, listener }) => listen(&local, &mut listeners, wanted, listener),
                Some(Command::Unlisten { wanted }) => {
                    if let Some(task) = listeners.remove(&wanted) {
                        task.abort();
                    }
                }
                Some(Command::CloseOn { server }) => local.watches.close(server),
                Some(Command::Drain) => {
                    listeners.drain().for_each(|(_, task)| task.abort());
                    local.draining.set(true);
                    local.pool.clear();
                    local.h2.clear();
                    local.wake_clients();
                    if local.open.get() == 0 {
                        return;
                    }
                }
                Some(Command::Close(Close { server, count, why })) => sockets::close(&local, server, why, count),
                Some(Command::Abort) | None => return,
            },
            _ = sweep.tick() => {
                let snap = local.snapshot();
                local.pool.sweep(&snap.backends);
                local.h2.sweep(&snap.backends);
                local.shared.queues.sweep(&snap.backends);
                local.complaints.borrow_mut().retain(|_, at| at.elapsed() < COMPLAIN);
            }
            () = local.empty.notified() => {
                if local.draining.get() && local.open.get() == 0 {
                    return;
                }
            }
        }
    }
}

fn listen(local: &Rc<Local>, listeners: &mut Listeners, wanted: Wanted, listener: Listener) {
    let Wanted { frontend, addr, .. } = &wanted;
    let listening = Listening::new(&local.snapshot(), frontend, addr);
    match (Accepting::new(listener), listening) {
        (Ok(listener), Some(listening)) => {
            let task = tokio::task::spawn_local(listener::run(local.clone(), Rc::new(listening), listener));
            listeners.insert(wanted, task.abort_handle());
        }
        (Err(error), _) => tracing::error!(frontend, %addr, %error, "cannot listen"),
        (_, None) => tracing::error!(frontend, %addr, "no such frontend"),
    }
}
