//! Agents: processes beside the servers that say how they are. A task for each asks again and again.
//!
//! An agent that cannot be heard changes nothing: what it said last holds. What it says never outlives an operator's
//! decision; that is [`ServerState`]'s part.
use super::Reasons;
use super::probe::{Failed, connect_error};
use bytes::BytesMut;
use lb_core::agent::{MAX_LINE, Report};
use lb_core::config;
use lb_core::server::ServerState;
use lb_core::snapshot::Snapshot;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::AbortHandle;

/// All agents of an instance. Dropping it ends the tasks.
#[derive(Debug, Default)]
pub(super) struct Agents {
    running: Mutex<HashMap<u32, Running>>,
    heard: Arc<Mutex<HashMap<u32, Heard>>>,
}

/// What was last heard of an agent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// Its last line.
    pub said: String,
    /// Why it could not be heard since.
    pub error: Option<String>,
}

#[derive(Debug)]
struct Running {
    spec: Spec,
    server: Arc<ServerState>,
    task: AbortHandle,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[derive(Clone, Debug, PartialEq)]
struct Spec {
    agent: Arc<config::Agent>,
    timeout: Duration,
    addr: SocketAddr,
}

impl Agents {
    /// Asks the agents of this configuration from now on.
    pub(super) fn apply(&self, snapshot: &Snapshot, reasons: &Arc<Reasons>) {
        let mut running = self.running.lock();
        let mut before = std::mem::take(&mut *running);
        for backend in &snapshot.backends {
            for server in &backend.servers {
                let Some(agent) = &server.config.agent else { continue };
                let Some(addr) = agent.place(&server.config.addr) else { continue };
                let spec = Spec { agent: agent.clone(), timeout: backend.config.timeout.check, addr };
                let task = match before.remove(&server.state.uid) {
                    Some(old) if old.spec == spec => old,
                    _ => self.start(spec, server.state.clone(), reasons.clone()),
                };
                running.insert(server.state.uid, task);
            }
        }
        let mut heard = self.heard.lock();
        for (uid, gone) in before {
            // Asked elsewhere now, or not at all: then nothing that it said holds.
            if !running.contains_key(&uid) {
                gone.server.forget_agent();
                heard.remove(&uid);
            }
        }
    }

    pub(super) fn stop(&self) {
        self.running.lock().clear();
    }

    pub(super) fn heard(&self, uid: u32) -> Option<Heard> {
        self.heard.lock().get(&uid).cloned()
    }

    fn start(&self, spec: Spec, server: Arc<ServerState>, reasons: Arc<Reasons>) -> Running {
        let asking = Asking { spec: spec.clone(), server: server.clone(), heard: self.heard.clone(), reasons };
        Running { spec, server, task: tokio::spawn(asking.run()).abort_handle() }
    }
}

struct Asking {
    spec: Spec,
    server: Arc<ServerState>,
    heard: Arc<Mutex<HashMap<u32, Heard>>>,
    reasons: Arc<Reasons>,
}

impl Asking {
    async fn run(self) {
        loop {
            let line = tokio::time::timeout(self.spec.timeout, ask(&self.spec)).await;
            match line.unwrap_or_else(|_| Err("no answer in time".into())) {
                Ok(line) => self.heard(&line),
                Err(why) => self.unheard(why),
            }
            tokio::time::sleep(super::jittered(self.spec.agent.interval)).await;
        }
    }

    fn heard(&self, line: &[u8]) {
        let end = line.iter().position(|b| matches!(b, b'\n' | b'\r')).unwrap_or(line.len());
        let said = String::from_utf8_lossy(&line[..end]).trim().to_owned();
        let report = Report::read(line);
        let before = self.heard.lock().insert(self.server.uid, Heard { said: said.clone(), error: None });
        let name = format!("{}/{}", self.server.backend, self.server.name);
        if !report.unknown.is_empty() && before.is_none_or(|b| b.said != said) {
            tracing::warn!(server = %name, said, unknown = ?report.unknown, "the agent says what means nothing");
        }
        if self.server.agent_reports(&report, crate::shared::now().0) {
            tracing::info!(server = %name, said, health = ?self.server.health(), state = ?self.server.admin(), "the agent says");
            self.reasons.changed.notify_one();
        }
    }

    fn unheard(&self, why: String) {
        self.server.control.agent_errors.bump();
        let mut all = self.heard.lock();
        let heard = all.entry(self.server.uid).or_default();
        if heard.error.is_none() {
            let name = format!("{}/{}", self.server.backend, self.server.name);
            tracing::warn!(server = %name, reason = why, "the agent cannot be heard: what it said holds");
        }
        heard.error = Some(why);
    }
}

/// Its line, or as much as fits into one.
async fn ask(spec: &Spec) -> Result<BytesMut, String> {
    let connected = TcpStream::connect(spec.addr).await;
    let mut stream = connected.map_err(|e| match connect_error(&e) {
        Failed::Server(why) | Failed::Local(why) => why,
    })?;
    stream.write_all(&spec.agent.send).await.map_err(|e| format!("cannot send: {e}"))?;
    let mut line = BytesMut::new();
    while line.len() < MAX_LINE && !line.iter().any(|b| matches!(b, b'\n' | b'\r')) {
        match stream.read_buf(&mut line).await {
            Ok(0) => break,
            Ok(_) => {}
            Err(e) => return Err(format!("the connection broke: {e}")),
        }
    }
    if line.is_empty() { Err("it said nothing".into()) } else { Ok(line) }
}
