//! The process around one instance: its log, its limits, its runtime, its signals.
use super::{ConfigSource, Control, Instance, StartError};
use crate::logging;
use lb_core::config::Config;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Runs an instance until it is told to stop: by SIGTERM or SIGINT (drain; a second one closes at once), or through
/// its admin. SIGHUP reloads. Signals that other proxies know by another meaning change nothing, and are told. Sets up this
/// process's log.
///
/// # Errors
/// [`StartError`]
pub fn run(config: Config, source: ConfigSource) -> Result<(), StartError> {
    logging::init(&config.log)?;
    raise_open_files(config.instance.maxconn);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(StartError::Thread)?;
    let ended = runtime.block_on(async {
        // Before the instance: a signal that comes while it starts must not kill it half-way.
        let signals = Signals::new().map_err(StartError::Thread)?;
        let instance = Instance::start(config, source).await?;
        let listening = tokio::spawn(signals.listen(instance.control().clone()));
        let ended = instance.run().await;
        listening.abort();
        ended
    });
    // A name that the system still looks up, or a disk that does not answer, holds up no end.
    runtime.shutdown_timeout(Duration::from_secs(1));
    ended
}

struct Signals {
    term: Signal,
    int: Signal,
    hup: Signal,
    usr1: Signal,
    usr2: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            term: signal(SignalKind::terminate())?,
            int: signal(SignalKind::interrupt())?,
            hup: signal(SignalKind::hangup())?,
            usr1: signal(SignalKind::user_defined1())?,
            usr2: signal(SignalKind::user_defined2())?,
        })
    }

    async fn listen(mut self, control: Arc<Control>) {
        let mut stopping = false;
        loop {
            tokio::select! {
                Some(()) = self.term.recv() => stop(&control, &mut stopping),
                Some(()) = self.int.recv() => stop(&control, &mut stopping),
                Some(()) = self.hup.recv() => {
                    // Its own task: a slow reload must not keep a stop waiting. It logs how it went.
                    let control = control.clone();
                    tokio::spawn(async move { control.reload().await.ok() });
                }
                // A script of another proxy (new log files, a new binary) must not end this one, as they would unheard.
                Some(()) = self.usr1.recv() => meaningless("SIGUSR1"),
                Some(()) = self.usr2.recv() => meaningless("SIGUSR2"),
                else => return,
            }
        }
    }
}

fn meaningless(signal: &str) {
    tracing::warn!("{signal} means nothing here: SIGHUP reloads and opens the access log anew, SIGTERM stops");
}

fn stop(control: &Control, stopping: &mut bool) {
    if std::mem::replace(stopping, true) {
        tracing::warn!("second signal: closing at once");
        return control.stop_now();
    }
    tracing::info!("stopping: draining connections; a second signal closes them at once");
    control.stop(None);
}

/// A proxied connection takes two descriptors; the usual soft limit of 1,024 is a relic that programs with `select`
/// need, and this is none.
fn raise_open_files(maxconn: usize) {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(e) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(error = %e, "the limit of open files could not be raised");
    }
    let needed = 2 * maxconn as u64;
    if let Some(current) = getrlimit(Resource::Nofile).current.filter(|current| *current < needed) {
        tracing::warn!(
            "{current} open files are allowed, instance.maxconn = {maxconn} may need {needed}: raise the hard limit \
             (`LimitNOFILE=` in systemd) or lower maxconn"
        );
    }
}
