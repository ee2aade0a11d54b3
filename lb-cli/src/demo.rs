//! `lb demo`: a whole cluster on this machine in one command. The conductor: it starts servers, instances and
//! clients, kills an instance if asked, and says how it went. What each part does is in its own file.
use anyhow::Context as _;
use cluster::Cluster;
use ledger::Ledger;
use report::{Restarted, Screen, Summary};
use server::Server;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

mod client;
mod cluster;
mod config;
mod ledger;
mod report;
mod server;

/// The instances; the last is the one that `kill` kills.
const INSTANCES: [&str; 2] = ["lb1", "lb2"];
/// The servers behind them.
const SERVERS: [&str; 3] = ["node1", "node2", "node3"];
/// When the kill comes in a demo that has no end of its own.
const KILL_AFTER: Duration = Duration::from_secs(10);
/// How long the killed instance stays away.
const AWAY: Duration = Duration::from_secs(2);
/// How long the clients come through the restarted instance before the end, at least.
const AFTER: Duration = Duration::from_secs(2);
/// How often the line of progress is written.
const TICK: Duration = Duration::from_millis(250);

/// What the command line asks for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Options {
    /// Ends by itself after this; else Ctrl-C ends it.
    pub(crate) length: Option<Duration>,
    /// Kills an instance midway and restarts it.
    pub(crate) kill: bool,
    /// Only the summary, as JSON.
    pub(crate) json: bool,
    /// Sample clients.
    pub(crate) clients: usize,
}

/// Runs the demo. Exit code 1 if a client did not keep its server.
///
/// # Errors
/// When a part of the demo cannot be started, or an instance ends that should not.
pub(crate) async fn run(options: Options) -> anyhow::Result<ExitCode> {
    let mut stop = Stop::new()?;
    let mut servers = Vec::new();
    for name in SERVERS {
        servers.push(Server::start(name).await?);
    }
    let named = config::named(&servers);
    let cluster = tokio::select! {
        cluster = Cluster::start(&INSTANCES, &named) => cluster?,
        () = stop.asked() => return Ok(ExitCode::FAILURE),
    };
    let mut demo = Demo {
        screen: Screen::new(options.json),
        ledger: Arc::new(Ledger::new(options.clients)),
        start: Instant::now(),
        killed: false,
        restarted: None,
        cluster,
    };
    demo.screen.say(&report::opening(&demo.cluster, &servers, options.clients));
    let played = demo.play(options, &mut stop).await;
    let mut summary = Summary::new(demo.ledger.tally(), &servers, demo.ledger.notes());
    (summary.killed, summary.restarted) = (demo.killed, demo.restarted);
    demo.cluster.stop().await;
    let whole = played?;
    if options.json {
        report::out(&format!("{}\n", serde_json::to_string_pretty(&summary)?));
    } else {
        demo.screen.say(&summary.text());
    }
    Ok(if summary.good(whole) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

struct Demo {
    screen: Screen,
    ledger: Arc<Ledger>,
    start: Instant,
    killed: bool,
    restarted: Option<Restarted>,
    cluster: Cluster,
}

impl Demo {
    /// From the first client to the last; whether it came to its own end. The clients are gone when it returns.
    async fn play(&mut self, options: Options, stop: &mut Stop) -> anyhow::Result<bool> {
        let mut fronts = self.cluster.instances.iter().map(|instance| instance.place.frontend);
        let fronts = fronts.next().zip(fronts.next()).context("the demo has two instances")?;
        let mut clients = JoinSet::new();
        for index in 0..options.clients {
            clients.spawn(client::Client::new(index, fronts.into(), Arc::clone(&self.ledger)).run());
        }
        let end = options.length.map(|length| self.start + length);
        let played = tokio::select! {
            played = self.scenes(options, end) => played.map(|()| true),
            () = stop.asked() => Ok(false),
        };
        clients.shutdown().await;
        played
    }

    async fn scenes(&mut self, options: Options, end: Option<Instant>) -> anyhow::Result<()> {
        if !options.kill {
            return self.watch(end).await;
        }
        let kill = self.start + options.length.map_or(KILL_AFTER, |length| length / 2);
        self.watch(Some(kill)).await?;
        self.kill().await?;
        self.watch(Some(Instant::now() + AWAY)).await?;
        self.restart().await?;
        let least = Instant::now() + AFTER;
        self.watch(end.map(|end| end.max(least))).await
    }

    /// Looks on, until then or for ever.
    async fn watch(&mut self, until: Option<Instant>) -> anyhow::Result<()> {
        while until.is_none_or(|until| Instant::now() < until) {
            self.cluster.check()?;
            let (ledger, seconds) = (&self.ledger, self.start.elapsed().as_secs());
            self.screen.progress(|| report::progress(&ledger.tally(), seconds));
            let next = Instant::now() + TICK;
            sleep_until(until.map_or(next, |until| until.min(next))).await;
        }
        Ok(())
    }

    async fn kill(&mut self) -> anyhow::Result<()> {
        let victim = self.cluster.instances.last_mut().context("the demo has two instances")?;
        self.ledger.excuse(true);
        let pid = victim.pid().unwrap_or_default();
        victim.kill().await?;
        self.killed = true;
        let name = &victim.place.name;
        self.screen.say(&format!("{name} (pid {pid}) is killed: SIGKILL. Its clients come back through the other.\n"));
        Ok(())
    }

    async fn restart(&mut self) -> anyhow::Result<()> {
        let victim = self.cluster.instances.last_mut().context("the demo has two instances")?;
        self.ledger.excuse(false);
        victim.spawn()?;
        let ready = victim.ready().await?;
        let (_, body) = victim.get("/api/peers").await?;
        let status: lb_core::status::PeersStatus =
            serde_json::from_slice(&body).context("GET /api/peers gave something else than the peers")?;
        let (name, pid) = (&victim.place.name, victim.pid().unwrap_or_default());
        let text = match status.peers.iter().find_map(|peer| Some((&peer.name, peer.pulled?))) {
            Some((from, (pulled_entries, pull_ms))) => {
                let ready_ms = u64::try_from(ready.as_millis()).unwrap_or(u64::MAX);
                self.restarted = Some(Restarted { pulled_entries, pull_ms, ready_ms });
                format!(
                    "{name} (pid {pid}) is back: it pulled {pulled_entries} entries from {from} in {pull_ms} ms \
                     and was ready after {ready_ms} ms.\n"
                )
            }
            None => format!("{name} (pid {pid}) is back, but pulled from nobody: {}.\n", status.pull),
        };
        self.screen.say(&text);
        Ok(())
    }
}

/// Ctrl-C, and its kin.
struct Stop([Signal; 3]);

impl Stop {
    fn new() -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).context("cannot listen for signals");
        Ok(Self([listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?, listen(SignalKind::hangup())?]))
    }

    /// Comes back when somebody wants the end.
    async fn asked(&mut self) {
        let [one, two, three] = &mut self.0;
        tokio::select! {
            _ = one.recv() => {}
            _ = two.recv() => {}
            _ = three.recv() => {}
        }
    }
}
