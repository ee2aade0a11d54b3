//! The demo's instances: real `lb run` processes of this very program, each with a configuration of its own in a
//! directory that goes when the demo does. It knows nothing of the clients.
use super::config::{self, Place};
use anyhow::{Context as _, bail};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Bytes;
use hyper::{Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use rustix::process::{Pid, Signal, kill_process};
use std::net::{SocketAddr, TcpListener};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

/// How long an instance may take until it is ready.
const READY: Duration = Duration::from_secs(20);
/// How long it may take to stop before it is killed. Longer than the `drain` of its configuration.
const STOP: Duration = Duration::from_secs(4);
/// How long an answer of its admin may take.
const ADMIN: Duration = Duration::from_secs(2);
/// Lines of a failed instance's log that are shown from its beginning, and from its end.
const WORDS: usize = 10;

/// All instances, and the directory that holds what they need.
pub(super) struct Cluster {
    /// The instances.
    pub(super) instances: Vec<Instance>,
    // Dropped after the instances: a field's place is its turn.
    _dir: TempDir,
}

/// An instance.
pub(super) struct Instance {
    /// Where it is.
    pub(super) place: Place,
    child: Option<Child>,
}

impl Cluster {
    /// Writes the configurations and starts an instance for each name, ready to serve.
    pub(super) async fn start(names: &[&str], servers: &[(String, SocketAddr)]) -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new()
            .prefix("lb-demo-")
            .tempdir()
            .context("cannot make a directory for the demo; name one that can be written to in TMPDIR")?;
        let places = places(names, &dir)?;
        let mut instances = Vec::new();
        for place in &places {
            let text = config::toml(place, &places, servers);
            std::fs::write(&place.file, text).with_context(|| format!("cannot write {}", place.file.display()))?;
            instances.push(Instance { place: place.clone(), child: None });
        }
        let mut cluster = Self { instances, _dir: dir };
        for instance in &mut cluster.instances {
            instance.spawn()?;
        }
        for instance in &mut cluster.instances {
            instance.ready().await?;
        }
        Ok(cluster)
    }

    /// An error when an instance that should run does not.
    pub(super) fn check(&mut self) -> anyhow::Result<()> {
        self.instances.iter_mut().try_for_each(Instance::check)
    }

    /// Ends every instance, politely first.
    pub(super) async fn stop(mut self) {
        for instance in &self.instances {
            instance.terminate();
        }
        let deadline = Instant::now() + STOP;
        for instance in &mut self.instances {
            instance.gone(deadline).await;
        }
    }
}

impl Instance {
    /// Process id, while it runs.
    pub(super) fn pid(&self) -> Option<u32> {
        self.child.as_ref().and_then(Child::id)
    }

    /// Starts the process.
    pub(super) fn spawn(&mut self) -> anyhow::Result<()> {
        let program = std::env::current_exe().context("this program does not know where it lies")?;
        let log = std::fs::File::options().create(true).append(true).open(&self.place.log);
        let log = log.with_context(|| format!("cannot write {}", self.place.log.display()))?;
        let mut command = Command::new(&program);
        command.arg("run").arg("-c").arg(&self.place.file).arg("--name").arg(&self.place.name);
        command.env_remove("NOTIFY_SOCKET").env_remove("LISTEN_FDS").env_remove("LISTEN_PID");
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        // A group of its own: Ctrl-C on the terminal is the conductor's to hear, who then ends them in order.
        command.process_group(0).kill_on_drop(true);
        let child = command.spawn().with_context(|| format!("cannot start {} run", program.display()))?;
        self.child = Some(child);
        Ok(())
    }

    /// Waits until it says that it is ready; how long that took.
    pub(super) async fn ready(&mut self) -> anyhow::Result<Duration> {
        let start = Instant::now();
        while start.elapsed() < READY {
            self.check()?;
            if matches!(self.get("/readyz").await, Ok((StatusCode::OK, _))) {
                return Ok(start.elapsed());
            }
            sleep(Duration::from_millis(20)).await;
        }
        bail!("{} was not ready within {READY:?}; it said:\n{}", self.place.name, self.last_words())
    }

    /// An error when it should run and does not.
    fn check(&mut self) -> anyhow::Result<()> {
        let Some(child) = &mut self.child else { return Ok(()) };
        let ended: Option<ExitStatus> = child.try_wait()?;
        match ended {
            None => Ok(()),
            Some(status) => bail!("{} ended ({status}); it said:\n{}", self.place.name, self.last_words()),
        }
    }

    /// `GET path` of its admin.
    pub(super) async fn get(&self, path: &str) -> anyhow::Result<(StatusCode, Bytes)> {
        timeout(ADMIN, get(self.place.admin, path)).await.context("no answer in time")?
    }

    /// SIGKILL, and nothing else.
    pub(super) async fn kill(&mut self) -> anyhow::Result<()> {
        if let Some(mut child) = self.child.take() {
            child.kill().await.with_context(|| format!("cannot kill {}", self.place.name))?;
        }
        Ok(())
    }

    fn terminate(&self) {
        let pid = self.pid().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
        if let Some(pid) = pid {
            // It may have ended by itself just now.
            let _ = kill_process(pid, Signal::TERM);
        }
    }

    async fn gone(&mut self, deadline: Instant) {
        let Some(mut child) = self.child.take() else { return };
        if tokio::time::timeout_at(deadline, child.wait()).await.is_err() {
            let _ = child.kill().await;
        }
    }

    /// Its log, without the middle when it is long: what went wrong stands at one end.
    fn last_words(&self) -> String {
        let log = std::fs::read(&self.place.log).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = log.lines().collect();
        let left_out = lines.len().saturating_sub(2 * WORDS);
        let kept = lines.iter().enumerate().filter(|(at, _)| *at < WORDS || *at >= WORDS + left_out);
        match lines.len() {
            0 => "  (nothing)".to_owned(),
            _ => kept.map(|(_, line)| format!("  {line}\n")).collect(),
        }
    }
}

fn places(names: &[&str], dir: &TempDir) -> anyhow::Result<Vec<Place>> {
    // All are held until each is known, so that no two are the same.
    let ports: Vec<TcpListener> = (0..names.len() * 3)
        .map(|_| TcpListener::bind(("127.0.0.1", 0)))
        .collect::<Result<_, _>>()
        .context("no free loopback ports")?;
    let addrs: Vec<SocketAddr> = ports.iter().map(TcpListener::local_addr).collect::<Result<_, _>>()?;
    let file = |name: &str, end: &str| dir.path().join(format!("{name}.{end}"));
    let place = |(name, addrs): (&&str, &[SocketAddr])| Place {
        name: (*name).to_owned(),
        frontend: addrs[0],
        admin: addrs[1],
        peers: addrs[2],
        socket: file(name, "sock"),
        file: file(name, "toml"),
        log: file(name, "log"),
    };
    Ok(names.iter().zip(addrs.chunks_exact(3)).map(place).collect())
}

async fn get(addr: SocketAddr, path: &str) -> anyhow::Result<(StatusCode, Bytes)> {
    let stream = TcpStream::connect(addr).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let _ends_with_us = tokio_util::task::AbortOnDropHandle::new(tokio::spawn(connection));
    let request = Request::get(path).header(header::HOST, addr.to_string()).body(Empty::<Bytes>::new())?;
    let response = sender.send_request(request).await?;
    let status = response.status();
    Ok((status, response.into_body().collect().await?.to_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_instance_has_places_of_its_own() {
        let dir = TempDir::new().unwrap();
        let places = places(&["lb1", "lb2"], &dir).unwrap();
        let addrs: std::collections::HashSet<SocketAddr> =
            places.iter().flat_map(|place| [place.frontend, place.admin, place.peers]).collect();
        assert_eq!(addrs.len(), 6);
        assert_ne!(places[0].socket, places[1].socket);
    }
}
