//! Sockets that somebody else opened: `systemd-socket-activate` starts lb as systemd does, when the first client comes.
use super::{ask, passes, server};
use lb_tests::instance::free_port;
use lb_tests::{Origin, eventually, lb};
use std::fs::File;
use std::net::TcpStream;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use tempfile::TempDir;

/// lb under systemd's launcher, and what the service manager hears of it.
struct Launched {
    child: Child,
    dir: TempDir,
    port: u16,
    manager: UnixDatagram,
}

impl Launched {
    /// With sockets of these names: the first a port, the second a path.
    fn start(names: &str, listen: &str, origin: &Origin) -> Self {
        let (dir, port) = (TempDir::new().expect("a directory"), free_port());
        let at = |name: &str| dir.path().join(name);
        let text = format!(
            "[instance]\nname = \"lb1\"\nworkers = 2\n[admin]\nsocket = {:?}\n[log]\nlevel = \"debug\"\naccess = true\n\
             [frontend.web]\nlisten = {listen}\nbackend = \"app\"\n[backend.app]\n{}\n",
            at("lb.sock"),
            server("node1", origin.addr, "")
        );
        std::fs::write(at("lb.toml"), text).expect("a configuration");
        let manager = UnixDatagram::bind(at("notify")).expect("a socket");
        manager.set_read_timeout(Some(lb_tests::PATIENCE)).expect("a socket");
        let mut command = Command::new("systemd-socket-activate");
        if !names.is_empty() {
            command.arg(format!("--fdname={names}"));
        }
        let child = command
            .args(["-l", &format!("127.0.0.1:{port}"), "-l", &at("web.sock").display().to_string()])
            .args(["-E", &format!("NOTIFY_SOCKET={}", at("notify").display())])
            .arg(lb())
            .args(["run", "-c"])
            .arg(at("lb.toml"))
            .stdin(Stdio::null())
            .stdout(File::create(at("access")).expect("a log"))
            .stderr(File::create(at("log")).expect("a log"))
            .spawn()
            .expect("installed by tests/run");
        eventually("the launcher listens", || {
            std::fs::read_to_string(at("log")).is_ok_and(|log| log.contains("web.sock"))
        });
        Self { child, dir, port, manager }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    fn cli(&self, args: &[&str]) -> Output {
        Command::new(lb()).args(args).arg("--socket").arg(self.path("lb.sock")).output().expect("lb runs")
    }

    /// Waits for a word to the service manager.
    fn hears(&self, word: &str) {
        let mut said = [0; 1024];
        loop {
            let n =
                self.manager.recv(&mut said).unwrap_or_else(|e| panic!("{word} was never said: {e}\n{}", self.log()));
            if String::from_utf8_lossy(&said[..n]).lines().any(|line| line == word) {
                return;
            }
        }
    }

    fn edit(&self, from: &str, to: &str) {
        let text = std::fs::read_to_string(self.path("lb.toml")).expect("the configuration");
        assert!(text.contains(from), "{text}");
        std::fs::write(self.path("lb.toml"), text.replace(from, to)).expect("the configuration");
    }

    fn over_unix(&self) -> String {
        passes(
            Command::new("curl").args(["-sS", "-m", "10", "http://shop/", "--unix-socket"]).arg(self.path("web.sock")),
        )
    }
}

impl Drop for Launched {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
        if std::thread::panicking() {
            eprintln!("--- log:\n{}", self.log());
        }
    }
}

#[test]
fn the_first_client_starts_it_and_the_manager_hears_of_its_life() {
    let origin = Origin::named("a");
    let mut launched = Launched::start("web:local", "[\"fd@web\", \"fd@local\"]", &origin);
    assert!(!launched.path("lb.sock").exists(), "nobody has come");
    // This client waits in the socket's queue while lb starts.
    assert_eq!(ask([127, 0, 0, 9], launched.port, "/", "").text(), "a");
    assert_eq!(origin.seen()[0].value("x-forwarded-for"), Some("127.0.0.9"));
    launched.hears("READY=1");
    assert_eq!(launched.over_unix(), "a");
    // The sockets outlive reloads: one that a reload gives back is there for the next.
    launched.edit("[\"fd@web\", \"fd@local\"]", "[\"fd@web\"]");
    assert!(launched.cli(&["reload"]).status.success(), "{}", launched.log());
    launched.hears("RELOADING=1");
    launched.hears("READY=1");
    launched.edit("[\"fd@web\"]", "[\"fd@local\", \"fd@3\"]");
    assert!(launched.cli(&["reload"]).status.success(), "{}", launched.log());
    launched.hears("READY=1");
    assert_eq!(launched.over_unix(), "a");
    assert_eq!(ask([127, 0, 0, 9], launched.port, "/", "").text(), "a");
    // One that nobody opened changes nothing.
    launched.edit("\"fd@3\"", "\"fd@3\", \"fd@other\"");
    let refused = launched.cli(&["reload"]);
    let why = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && why.contains("2 sockets were passed, from fd@3 on: web, local"), "{why}");
    launched.hears("READY=1");
    assert_eq!(launched.over_unix(), "a");
    assert!(launched.cli(&["stop"]).status.success());
    launched.hears("STOPPING=1");
    assert!(launched.child.wait().expect("it ends").success());
}

#[test]
fn sockets_without_names_go_by_number_and_a_missing_one_is_said_before_anything_starts() {
    let origin = Origin::named("a");
    let launched = Launched::start("", "[\"fd@3\", \"fd@4\"]", &origin);
    assert_eq!(launched.over_unix(), "a");
    launched.hears("READY=1");
    assert_eq!(ask([127, 0, 0, 9], launched.port, "/", "").text(), "a");
    let mut missing = Launched::start("web:local", "[\"fd@web\", \"fd@5\"]", &origin);
    drop(TcpStream::connect(("127.0.0.1", missing.port)));
    assert_eq!(missing.child.wait().expect("it ends").code(), Some(1));
    let log = missing.log();
    assert!(log.contains("cannot listen on fd@5") && log.contains("2 sockets were passed"), "{log}");
}
