//! The only place that waits: moves values between the replicator (which decides), the transport and the tables.
use crate::names;
use crate::replicator::{Input, Inspect, Inspected, LinkId, Now, Output, Replicator};
use crate::transport::{Event, Transport};
use crate::wire::generated as pb;
use lb_core::config::PeerAddr;
use lb_core::time::{Steady, Timestamp};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How long a closed stream may take to bring out what was sent on it.
const LINGER: Duration = Duration::from_millis(500);
/// Events taken in before what they led to is done.
const AT_ONCE: usize = 64;

/// What the driver shares with the public face.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) replicator: Mutex<Replicator>,
    pub(crate) time: Steady,
    pub(crate) pulled: watch::Sender<bool>,
    pub(crate) decided: watch::Sender<u64>,
    pub(crate) allowed: watch::Sender<u64>,
}

impl Shared {
    pub(crate) fn now(&self) -> Now {
        now(&self.time)
    }
}

/// The time: since the start, steady, and as the wall clock has it.
pub(crate) fn now(time: &Steady) -> Now {
    let (instant, wall) = (Instant::now().into_std(), SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default());
    Now { at: time.since(instant), wall: time.at(instant), clock: Timestamp(lb_core::time::millis(wall)) }
}

/// What the public face asks of the driver.
#[derive(Debug)]
pub(crate) enum Command {
    Ask { table: String, key: Vec<u8>, done: oneshot::Sender<()> },
    Inspect { peer: String, table: String, what: Inspect, found: mpsc::UnboundedSender<Inspected> },
    Tell(Input),
}

/// A stream at hand.
struct Pipe {
    frames: mpsc::Sender<pb::Frame>,
    cancel: CancellationToken,
}

/// See the module.
pub(crate) struct Driver {
    pub(crate) shared: Arc<Shared>,
    pub(crate) transport: Transport,
    pub(crate) events: mpsc::Receiver<Event>,
    pub(crate) commands: mpsc::UnboundedReceiver<Command>,
    pub(crate) changed: Arc<Notify>,
    links: HashMap<LinkId, Pipe>,
    asks: HashMap<u64, oneshot::Sender<()>>,
    inspections: HashMap<u64, mpsc::UnboundedSender<Inspected>>,
    last_ask: u64,
    stopped: bool,
}

impl Driver {
    pub(crate) fn new(
        shared: Arc<Shared>,
        transport: Transport,
        events: mpsc::Receiver<Event>,
        commands: mpsc::UnboundedReceiver<Command>,
        changed: Arc<Notify>,
    ) -> Self {
        let (links, asks, inspections) = (HashMap::new(), HashMap::new(), HashMap::new());
        let (last_ask, stopped) = (0, false);
        Self { shared, transport, events, commands, changed, links, asks, inspections, last_ask, stopped }
    }

    /// Runs until it is told to stop.
    pub(crate) async fn run(mut self) {
        loop {
            let wait = self.turn();
            if self.stopped {
                break;
            }
            if wait.is_zero() {
                // There is more to do at once; the streams' tasks have their turn first.
                tokio::task::yield_now().await;
            }
            tokio::select! {
                Some(event) = self.events.recv() => self.take_events(event),
                Some(command) = self.commands.recv() => self.command(command),
                () = self.changed.notified() => self.handle(Input::Changed),
                () = tokio::time::sleep(wait) => self.handle(Input::Tick),
            }
        }
        // What was said at last is on its way out.
        self.transport.tasks.close();
        let _ = tokio::time::timeout(LINGER, self.transport.tasks.wait()).await;
    }

    fn handle(&self, input: Input) {
        let now = self.shared.now();
        self.shared.replicator.lock().handle(now, input);
    }

    /// Does what the replicator wants; returns how long it can wait.
    fn turn(&mut self) -> Duration {
        loop {
            let now = self.shared.now();
            let mut replicator = self.shared.replicator.lock();
            let Some(first) = replicator.poll_output() else {
                let at = replicator.poll_timeout(now);
                return at.map_or(Duration::from_secs(1), |at| at.saturating_sub(now.at));
            };
            let mut outputs = vec![first];
            outputs.extend(std::iter::from_fn(|| replicator.poll_output()));
            drop(replicator);
            outputs.into_iter().for_each(|output| self.act(output));
        }
    }

    fn act(&mut self, output: Output) {
        match output {
            Output::LookUp { name, resolver } => self.look_up(name, resolver),
            Output::Dial { link, addr } => self.transport.dial(link, addr),
            Output::Send { link, frame } => self.send(link, frame),
            Output::Close { link } => self.close(link),
            Output::Answered { id } => {
                if let Some(done) = self.asks.remove(&id) {
                    let _ = done.send(());
                }
            }
            Output::Inspected { id, found } => self.inspected(id, found),
            Output::Pulled => drop(self.shared.pulled.send_replace(true)),
            Output::AllowanceGrew => self.shared.allowed.send_modify(|n| *n += 1),
            Output::DecisionsChanged => self.shared.decided.send_modify(|n| *n += 1),
            Output::Stopped => self.stopped = true,
        }
    }

    fn inspected(&mut self, id: u64, found: Inspected) {
        let more = matches!(found, Inspected::Entries(_));
        if let Some(asked) = self.inspections.get(&id)
            && (asked.send(found).is_err() || !more)
        {
            self.inspections.remove(&id);
        }
    }

    fn send(&mut self, link: LinkId, frame: crate::wire::Frame) {
        let Some(pipe) = self.links.get(&link) else { return };
        if let Err(mpsc::error::TrySendError::Full(_)) = pipe.frames.try_send(frame.into()) {
            // By the protocol's windows there can't be so many: this peer sends, and reads no answers.
            pipe.cancel.cancel();
            self.links.remove(&link);
            self.handle(Input::Closed { link, error: "it does not read what it is sent".into() });
        }
    }

    /// Ends our half; the rest ends when the peer has read it, or a little later.
    fn close(&mut self, link: LinkId) {
        let Some(pipe) = self.links.remove(&link) else { return };
        drop(pipe.frames);
        let cancel = pipe.cancel;
        self.transport.tasks.spawn(async move {
            let _ = tokio::time::timeout(LINGER, cancel.cancelled()).await;
            cancel.cancel();
        });
    }

    fn look_up(&self, name: PeerAddr, resolver: Option<SocketAddr>) {
        let transport = self.transport.clone();
        self.transport.tasks.spawn(async move {
            let found = async {
                let result = names::look_up(&name, resolver).await;
                let _ = transport.events.send(Event::Input(Input::LookedUp { name, result })).await;
            };
            transport.cancel.run_until_cancelled(found).await;
        });
    }

    fn take_events(&mut self, first: Event) {
        self.event(first);
        for _ in 1..AT_ONCE {
            let Ok(event) = self.events.try_recv() else { break };
            self.event(event);
        }
    }

    fn event(&mut self, event: Event) {
        match event {
            Event::Input(input) => self.handle(input),
            Event::Opened { link, side, remote, frames } => {
                self.links.insert(link, Pipe { frames, cancel: remote.cancel });
                let (remote, certificate) = (remote.addr, remote.certificate);
                self.handle(Input::Opened { link, side, remote, certificate });
            }
        }
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Tell(input) => self.handle(input),
            Command::Ask { table, key, done } => {
                self.last_ask += 1;
                self.asks.insert(self.last_ask, done);
                self.handle(Input::Ask { id: self.last_ask, table, key });
            }
            Command::Inspect { peer, table, what, found } => {
                self.last_ask += 1;
                self.inspections.insert(self.last_ask, found);
                self.handle(Input::Inspect { id: self.last_ask, peer, table, what });
            }
        }
    }
}
