//! The proxies under test, configured alike: two servers, affinity by an inserted cookie where they have it.
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A child process on one core, killed when dropped.
pub(crate) struct Pinned(Child);

impl Pinned {
    /// Starts a command on a core.
    pub(crate) fn start(core: usize, command: &[&str]) -> Result<Self, String> {
        let child = Command::new("taskset")
            .args(["-c", &core.to_string()])
            .args(command)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|e| format!("cannot start {}: {e}", command[0]))?;
        Ok(Self(child))
    }

    pub(crate) fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// The server on core 1.
pub(crate) fn backend(port: u16) -> Result<Pinned, String> {
    let me = std::env::current_exe().map_err(|e| e.to_string())?;
    let pinned = Pinned::start(1, &[&me.to_string_lossy(), "backend", &port.to_string()])?;
    listening(port)?;
    Ok(pinned)
}

/// A proxy on core 0.
pub(crate) struct Proxy {
    pub(crate) name: String,
    pub(crate) port: u16,
    process: Pinned,
}

impl Proxy {
    /// CPU time of all its threads so far, in nanoseconds (the first number of `schedstat`).
    pub(crate) fn cpu(&self) -> u64 {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.process.pid()));
        let of = |task: std::fs::DirEntry| {
            let text = std::fs::read_to_string(task.path().join("schedstat")).ok()?;
            text.split(' ').next()?.parse::<u64>().ok()
        };
        tasks.into_iter().flatten().flatten().filter_map(of).sum()
    }

    /// Anonymous memory in bytes.
    pub(crate) fn memory(&self) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.process.pid())).unwrap_or_default();
        let line = text.lines().find_map(|l| l.strip_prefix("RssAnon:")).unwrap_or("0 kB");
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap_or(0) * 1024
    }
}

/// Starts `lb`, HAProxy and nginx, each between its own port and the server's.
pub(crate) fn all(dir: &Path, backend: u16) -> Result<Vec<Proxy>, String> {
    let mut proxies = vec![lb(dir, backend)?];
    let haproxy = std::env::var("HAPROXY").unwrap_or_else(|_| "haproxy".into());
    if installed(&haproxy) {
        proxies.push(self::haproxy(dir, backend, &haproxy)?);
    }
    if installed("nginx") {
        proxies.push(nginx(dir, backend)?);
    }
    if proxies.len() == 1 {
        return Err("neither haproxy nor nginx is here to compare with: apt-get install haproxy nginx-light wrk".into());
    }
    Ok(proxies)
}

/// Whether a program can be started.
pub(crate) fn installed(program: &str) -> bool {
    Command::new(program).arg("-v").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
}

pub(crate) fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).map_or(0, |a| a.port())
}

fn listening(port: u16) -> Result<(), String> {
    let deadline = Instant::now() + Duration::from_secs(10);
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        if Instant::now() > deadline {
            return Err(format!("nobody listens on port {port}"));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

fn start(name: &str, port: u16, command: &[&str], config: &Path, text: &str) -> Result<Proxy, String> {
    std::fs::write(config, text).map_err(|e| e.to_string())?;
    let process = Pinned::start(0, command)?;
    listening(port).map_err(|e| format!("{name}: {e}"))?;
    Ok(Proxy { name: name.into(), port, process })
}

fn lb(dir: &Path, backend: u16) -> Result<Proxy, String> {
    // Beside this program, in target/release.
    let lb: PathBuf = std::env::current_exe().map_err(|e| e.to_string())?.with_file_name("lb");
    if !lb.exists() {
        return Err("lb is not built: cargo build --release".into());
    }
    let (port, admin, config) = (free_port(), free_port(), dir.join("lb.toml"));
    let text = format!(
        "[instance]\nworkers = 1\nmaxconn = 8000\n[admin]\nlisten = \"127.0.0.1:{admin}\"\n\
         [frontend.web]\nlisten = [\"127.0.0.1:{port}\"]\nbackend = \"app\"\n\
         [backend.app]\nbalance = \"leastconn\"\n\
         sticky = [{{ cookie = \"SERVERID\", insert = true, indirect = true, nocache = true }}]\n\
         check = {{ tcp = true, interval = \"1s\" }}\n\
         server = [{{ name = \"n1\", addr = \"127.0.0.1:{backend}\" }}, {{ name = \"n2\", addr = \"127.0.0.1:{backend}\" }}]\n"
    );
    start("lb", port, &[&lb.to_string_lossy(), "run", "-c", &config.to_string_lossy()], &config, &text)
}

fn haproxy(dir: &Path, backend: u16, program: &str) -> Result<Proxy, String> {
    let (port, config) = (free_port(), dir.join("haproxy.cfg"));
    let text = format!(
        "global\n nbthread 1\n maxconn 8000\ndefaults\n mode http\n timeout connect 5s\n timeout client 30s\n timeout server 30s\n timeout tunnel 1h\n\
         frontend web\n bind 127.0.0.1:{port}\n default_backend app\n\
         backend app\n balance leastconn\n cookie SERVERID insert indirect nocache\n option forwardfor\n http-reuse always\n\
         server n1 127.0.0.1:{backend} cookie n1 check inter 1s\n server n2 127.0.0.1:{backend} cookie n2 check inter 1s\n"
    );
    start("haproxy", port, &[program, "-db", "-f", &config.to_string_lossy()], &config, &text)
}

fn nginx(dir: &Path, backend: u16) -> Result<Proxy, String> {
    let (port, config) = (free_port(), dir.join("nginx.conf"));
    let text = format!(
        "worker_processes 1;\nmaster_process off;\ndaemon off;\nerror_log /dev/null;\npid {0}/nginx.pid;\n\
         events {{ worker_connections 8192; }}\n\
         http {{ access_log off; keepalive_requests 100000000; keepalive_timeout 600s;\n\
         client_body_temp_path {0}/b; proxy_temp_path {0}/p; fastcgi_temp_path {0}/f; uwsgi_temp_path {0}/u; scgi_temp_path {0}/s;\n\
         upstream app {{ server 127.0.0.1:{backend}; keepalive 128; keepalive_requests 100000000; }}\n\
         server {{ listen 127.0.0.1:{port} backlog=4096;\n\
         location / {{ proxy_pass http://app; proxy_http_version 1.1; proxy_set_header Connection \"\"; \
         proxy_set_header X-Forwarded-For $remote_addr; }} }} }}\n",
        dir.display()
    );
    start("nginx", port, &["nginx", "-c", &config.to_string_lossy()], &config, &text)
}
