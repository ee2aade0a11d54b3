//! Other people's WebSocket servers and clients: Node's `ws`, Python's `websockets`. `tests/run` installs them.
use lb_tests::Instance;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

pub(crate) struct Server {
    pub(crate) child: Child,
    pub(crate) port: u16,
}

impl Server {
    /// A line on its input.
    pub(crate) fn say(&mut self, line: &str) {
        writeln!(self.child.stdin.as_mut().expect("piped"), "{line}").expect("it listens");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

pub(crate) fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

pub(crate) fn python(script: &str) -> Command {
    let mut command = Command::new(here("../target/foreign/venv/bin/python"));
    command.arg(here("foreign").join(script));
    command
}

pub(crate) fn node(script: &str) -> Command {
    let mut command = Command::new("node");
    command.arg(here("foreign").join(script)).env("NODE_PATH", here("../target/foreign/node_modules"));
    command
}

pub(crate) fn server(mut command: Command, name: &str) -> Server {
    let mut child =
        command.arg(name).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("installed by tests/run");
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("its port");
    Server { child, port: line.trim().parse().expect("its port") }
}

#[test]
fn node_and_python_clients_keep_their_node_and_python_servers_through_two_instances() {
    let servers = [server(python("server.py"), "py"), server(node("server.js"), "js")];
    let list: Vec<_> =
        servers.iter().map(|s| format!("{{ name = \"n{0}\", addr = \"127.0.0.1:{0}\" }}", s.port)).collect();
    let cluster = Instance::cluster(
        2,
        &format!(
            "[table.sessions]\ntype = \"string\"\n[frontend.web]\nlisten = [LISTEN]\nbackend = \"app\"\n[backend.app]\nbalance = \"leastconn\"\n\
             sticky = [{{ on = \"header(X-Session-ID)\", table = \"sessions\" }}]\nserver = [{}]\n",
            list.join(", ")
        ),
    );
    for mut client in [python("client.py"), node("client.js")] {
        let output =
            client.args(cluster.iter().map(|lb| lb.addr.port().to_string())).output().expect("installed by tests/run");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let used = cluster[0].api("/api/tables");
    assert_eq!(used[0]["entries"], 40);
}
