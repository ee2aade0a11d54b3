//! Other people's proxies beside `lb`: HAProxy and nginx, each a process with a configuration of its own.
use crate::eventually;
use std::fs::File;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

/// A running neighbour. Killed when dropped; its log is printed when the test fails.
pub struct Neighbour {
    child: Child,
    dir: TempDir,
}

impl Neighbour {
    /// HAProxy with these sections, which may name a frontend and a backend each in a few lines; waits until it listens on
    /// all of these ports.
    ///
    /// # Panics
    /// It does not start.
    pub fn haproxy(sections: &str, ports: &[u16]) -> Self {
        let text = format!(
            "global\n log stdout format raw local0\n tune.ssl.default-dh-param 2048\ndefaults\n log global\n mode http\n \
             timeout connect 5s\n timeout client 20s\n timeout server 20s\n timeout tunnel 60s\n{sections}"
        );
        Self::start("haproxy", &text, ports, |dir, command| {
            command.args(["-db", "-f"]).arg(dir.join("conf"));
        })
    }

    /// nginx with these lines in its `http` section; as [`Self::haproxy`].
    pub fn nginx(http: &str, ports: &[u16]) -> Self {
        let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
        let temporary: Vec<_> = temporary.iter().map(|kind| format!("{kind}_temp_path {kind};")).collect();
        let map = "map $http_upgrade $upgrading { default upgrade; '' ''; }";
        Self::nginx_of(&format!("http {{\naccess_log access;\n{}\n{map}\n{http}\n}}", temporary.join(" ")), ports)
    }

    /// nginx with these lines in its `stream` section: connections of TCP; as [`Self::haproxy`].
    pub fn nginx_stream(stream: &str, ports: &[u16]) -> Self {
        Self::nginx_of(&format!("stream {{\n{stream}\n}}"), ports)
    }

    fn nginx_of(section: &str, ports: &[u16]) -> Self {
        // A module of its own, or part of the program.
        let module = Path::new("/usr/lib/nginx/modules/ngx_stream_module.so");
        let load = if module.exists() { format!("load_module {};\n", module.display()) } else { String::new() };
        let text = format!("daemon off;\nmaster_process off;\npid pid;\n{load}events {{}}\n{section}\n");
        Self::start("nginx", &text, ports, |dir, command| {
            command.arg("-p").arg(dir).args(["-e", "stderr", "-c"]).arg(dir.join("conf"));
        })
    }

    fn start(program: &str, text: &str, ports: &[u16], arguments: impl FnOnce(&Path, &mut Command)) -> Self {
        let dir = TempDir::new().expect("a directory");
        std::fs::write(dir.path().join("conf"), text).expect("a configuration");
        let log = File::create(dir.path().join("log")).expect("a log");
        let mut command = Command::new(program);
        arguments(dir.path(), &mut command);
        let child = command
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a log"))
            .stderr(log)
            .spawn()
            .expect("installed by tests/run");
        let mut neighbour = Self { child, dir };
        for port in ports {
            eventually("a neighbour listens", || {
                let ended = neighbour.child.try_wait().expect("a child");
                assert!(ended.is_none(), "{program} ended: {ended:?}\n{}", neighbour.log());
                TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], *port))).is_ok()
            });
        }
        neighbour
    }

    /// What it printed.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
        if std::thread::panicking() {
            eprintln!("--- log of a neighbour:\n{}", self.log());
        }
    }
}
