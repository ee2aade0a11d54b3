//! A running `lb` process.
use crate::{Client, eventually};
use serde_json::Value;
use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tempfile::TempDir;

/// The `lb` binary of this build, built if it was not.
///
/// # Panics
/// It cannot be built.
pub fn lb() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        let status = Command::new(env!("CARGO")).args(["build", "--quiet", "-p", "lb-cli", "--bin", "lb"]).status();
        assert!(status.expect("cargo runs").success(), "lb does not build");
        // target/debug/deps/e2e-… → target/debug/lb
        let test = std::env::current_exe().expect("this program's path");
        test.parent().and_then(Path::parent).expect("target/debug").join("lb")
    })
}

/// A running instance. Killed when dropped; its log is printed when the test fails.
pub struct Instance {
    /// Its name.
    pub name: String,
    /// The first address of its first frontend.
    pub addr: SocketAddr,
    /// Address of its admin.
    pub admin: SocketAddr,
    /// Address for peers; nobody listens there without `[peers]`.
    pub peers: SocketAddr,
    child: Child,
    dir: TempDir,
    host: Host,
}

/// What an instance runs on.
#[derive(Clone, Debug)]
pub struct Host {
    /// Its address.
    pub ip: Ipv4Addr,
    /// The network namespace that it has for itself.
    pub namespace: Option<String>,
    /// Environment variables.
    pub env: Vec<(&'static str, String)>,
    /// Most open files that it may have.
    pub files: Option<u32>,
}

impl Default for Host {
    fn default() -> Self {
        Self { ip: Ipv4Addr::LOCALHOST, namespace: None, env: Vec::new(), files: None }
    }
}

/// A port that was free a moment ago; not one of those that the system gives to outgoing connections, which would take it
/// before whoever is to listen there has started.
///
/// # Panics
/// None is free.
pub fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    // Runs that go on beside this one begin elsewhere.
    let start = std::process::id().wrapping_mul(97);
    let port = |n: u32| 10_000 + u16::try_from(start.wrapping_add(n) % 20_000).expect("it is small");
    let free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    let mut ports = std::iter::repeat_with(|| port(NEXT.fetch_add(1, Ordering::Relaxed)));
    ports.by_ref().take(20_000).find(free).expect("a free port")
}

impl Instance {
    /// Starts an instance of its own with this configuration, to which `[instance]`, `[admin]` and the frontend `web` on a free
    /// port are added; waits until it is ready.
    pub fn start(config: &str) -> Self {
        let instance = Self::spawn("lb1", free_port(), config);
        instance.wait_ready();
        instance
    }

    /// Starts a cluster of so many instances; waits until all are ready and linked.
    pub fn cluster(size: usize, config: &str) -> Vec<Self> {
        Self::cluster_on(&vec![Host::default(); size], config)
    }

    /// As [`Self::cluster`], an instance on each of these hosts.
    pub fn cluster_on(hosts: &[Host], config: &str) -> Vec<Self> {
        let at: Vec<_> = hosts.iter().map(|h| SocketAddr::from((h.ip, free_port()))).collect();
        let join: Vec<String> = at.iter().map(|addr| format!("\"{addr}\"")).collect();
        let start = |(i, (addr, host)): (usize, (&SocketAddr, &Host))| {
            let insecure = if addr.ip().is_loopback() { "" } else { "insecure = true\n" };
            let peers = format!(
                "[peers]\ncluster = \"test\"\nlisten = \"{addr}\"\njoin = [{}]\n{insecure}{config}",
                join.join(", ")
            );
            Self::spawn_on(host.clone(), &format!("lb{}", i + 1), addr.port(), &peers)
        };
        let instances: Vec<_> = at.iter().zip(hosts).enumerate().map(start).collect();
        for instance in &instances {
            instance.wait_ready();
            eventually("all peers are up", || instance.peers_up() == hosts.len() - 1);
        }
        instances
    }

    /// As [`Self::start`], with so many open files at most.
    pub fn start_with_files(files: u32, config: &str) -> Self {
        let host = Host { files: Some(files), ..Host::default() };
        let instance = Self::spawn_on(host, "lb1", free_port(), config);
        instance.wait_ready();
        instance
    }

    /// Starts an instance without waiting.
    pub fn spawn(name: &str, peers: u16, config: &str) -> Self {
        Self::spawn_on(Host::default(), name, peers, config)
    }

    /// As [`Self::spawn`], on this host.
    ///
    /// # Panics
    /// It does not start.
    pub fn spawn_on(host: Host, name: &str, peers: u16, config: &str) -> Self {
        let dir = TempDir::new().expect("a directory");
        let (web, admin, ip) = (free_port(), free_port(), host.ip);
        let text = format!(
            "[instance]\nname = \"{name}\"\nworkers = 2\ndrain = \"5s\"\nmaxconn = 5000\n\
             [admin]\nlisten = \"{ip}:{admin}\"\nsocket = \"{}/lb.sock\"\n[log]\nlevel = \"debug\"\naccess = true\n{}",
            dir.path().display(),
            config.replace("LISTEN", &format!("\"{ip}:{web}\""))
        );
        std::fs::write(dir.path().join("lb.toml"), text).expect("a configuration");
        let at = |port| SocketAddr::from((ip, port));
        let child = run(&dir, &host);
        Self { name: name.into(), addr: at(web), admin: at(admin), peers: at(peers), child, dir, host }
    }

    /// Waits until `/readyz` says yes.
    pub fn wait_ready(&self) {
        eventually("the instance is ready", || self.ready());
    }

    /// Whether `/readyz` says yes.
    pub fn ready(&self) -> bool {
        self.admin_status("/readyz") == Some(200)
    }

    /// Status of an admin path; `None` when nobody answers.
    pub fn admin_status(&self, path: &str) -> Option<u16> {
        std::net::TcpStream::connect(self.admin).ok()?;
        let mut client = Client::connect(self.admin);
        client.send(format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n"));
        client.answer().map(|a| a.status)
    }

    /// Body of an admin path as JSON.
    pub fn api(&self, path: &str) -> Value {
        serde_json::from_str(&self.admin_text(path)).unwrap_or(Value::Null)
    }

    /// Body of an admin path.
    pub fn admin_text(&self, path: &str) -> String {
        Client::connect(self.admin).get(path, "Connection: close\r\n").text()
    }

    /// A connection to the first frontend.
    pub fn client(&self) -> Client {
        Client::connect(self.addr)
    }

    /// Its admin socket.
    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("lb.sock")
    }

    /// Runs a command of `lb` against it.
    ///
    /// # Panics
    /// It cannot be run.
    pub fn cli(&self, args: &[&str]) -> Output {
        let socket = self.socket();
        Command::new(lb()).args(args).arg("--socket").arg(socket).output().expect("lb runs")
    }

    /// As [`Self::cli`], its standard output as JSON.
    ///
    /// # Panics
    /// It failed, or said something else.
    pub fn json(&self, args: &[&str]) -> Value {
        let output = self.cli(&[args, &["--json"]].concat());
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).expect("JSON")
    }

    /// As [`Self::cli`], its standard output as it is.
    ///
    /// # Panics
    /// It failed.
    pub fn text(&self, args: &[&str]) -> String {
        let output = self.cli(args);
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// The value of one row of `/metrics`, by its name and labels as they stand there; 0 when it is not there.
    pub fn metric(&self, row: &str) -> f64 {
        let text = self.admin_text("/metrics");
        let value = text.lines().find_map(|line| line.strip_prefix(row)?.strip_prefix(' ')?.parse().ok());
        value.unwrap_or(0.0)
    }

    /// How many peers are up.
    pub fn peers_up(&self) -> usize {
        let peers = self.api("/api/peers");
        peers["peers"].as_array().map_or(0, |p| p.iter().filter(|p| p["state"] == "up").count())
    }

    /// The server that a key of a table is pinned to.
    pub fn pin(&self, table: &str, key: &str) -> Option<String> {
        let entry = self.api(&format!("/api/tables/{table}/entry?key={key}"));
        entry["server"].as_str().filter(|server| !server.is_empty()).map(str::to_owned)
    }

    /// What a counter of a key reads, by the name that the table stores it under.
    pub fn counter(&self, table: &str, key: &str, counter: &str) -> u64 {
        let entry = self.api(&format!("/api/tables/{table}/entry?key={key}"));
        entry["counters"][counter].as_u64().unwrap_or(0)
    }

    /// All pins of a table: keys and servers, in order.
    pub fn pins(&self, table: &str) -> Vec<(String, String)> {
        let all = self.api(&format!("/api/tables/{table}/entries?limit=10000"));
        let text = |v: &Value, name: &str| v[name].as_str().unwrap_or_default().to_owned();
        let all = all.as_array().into_iter().flatten();
        let mut pins: Vec<_> = all.map(|e| (text(e, "key"), text(e, "server"))).collect();
        pins.sort();
        pins
    }

    /// Its configuration, to be changed.
    pub fn edit(&self, change: impl FnOnce(String) -> String) {
        let path = self.dir.path().join("lb.toml");
        let text = std::fs::read_to_string(&path).expect("the configuration");
        std::fs::write(path, change(text)).expect("the configuration");
    }

    /// Anonymous memory in bytes.
    ///
    /// # Panics
    /// It does not run.
    pub fn memory(&self) -> usize {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("it runs");
        let line = text.lines().find_map(|l| l.strip_prefix("RssAnon:")).expect("RssAnon");
        line.trim().trim_end_matches(" kB").parse::<usize>().expect("a number") * 1024
    }

    /// Open files and sockets.
    ///
    /// # Panics
    /// It does not run.
    pub fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.child.id())).expect("it runs").count()
    }

    /// Processor time that it has used.
    pub fn cpu(&self) -> Duration {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.child.id()));
        let of = |task: std::fs::DirEntry| {
            let text = std::fs::read_to_string(task.path().join("schedstat")).ok()?;
            text.split(' ').next()?.parse::<u64>().ok()
        };
        Duration::from_nanos(tasks.into_iter().flatten().flatten().filter_map(of).sum())
    }

    /// Sends a signal, as `-HUP`.
    pub fn signal(&self, signal: &str) {
        let status = Command::new("kill").args([signal, &self.child.id().to_string()]).status();
        assert!(status.expect("kill runs").success());
    }

    /// Kills it with SIGKILL.
    pub fn kill(&mut self) {
        self.child.kill().expect("it can be killed");
        self.child.wait().expect("it ends");
    }

    /// Starts it again with the same configuration, without waiting.
    pub fn restart(&mut self) {
        self.child = run(&self.dir, &self.host);
    }

    /// Waits until the process has ended; its exit code.
    pub fn wait_end(&mut self) -> Option<i32> {
        let mut status = None;
        eventually("the process ends", || {
            status = self.child.try_wait().ok().flatten();
            status.is_some()
        });
        status.and_then(|s| s.code())
    }

    /// What it logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// What it wrote to standard output: the access log.
    pub fn access(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("access")).unwrap_or_default()
    }
}

fn run(dir: &TempDir, host: &Host) -> Child {
    let append = |name: &str| File::options().create(true).append(true).open(dir.path().join(name)).expect("a log");
    // Each of these becomes the next, under the same process id.
    let mut words: Vec<String> = Vec::new();
    if let Some(namespace) = &host.namespace {
        words.extend(["ip", "netns", "exec", namespace].map(String::from));
    }
    if let Some(files) = host.files {
        words.extend(["prlimit".into(), format!("--nofile={files}")]);
    }
    words.push(lb().display().to_string());
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]).envs(host.env.iter().map(|(name, value)| (name, value)));
    command
        .args(["run", "-c"])
        .arg(dir.path().join("lb.toml"))
        .stdin(Stdio::null())
        .stdout(append("access"))
        .stderr(append("log"))
        .spawn()
        .expect("lb starts")
}

/// Its last lines: enough to see what went wrong.
fn tail(text: &str) -> String {
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(40)..].join("\n")
}

impl Drop for Instance {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
        if std::thread::panicking() {
            eprintln!("--- log of {}:\n{}\n{}", self.name, tail(&self.log()), tail(&self.access()));
        }
    }
}
