//! Other people's WebSocket servers, clients and cases: Node's `ws`, Python's `websockets`, Autobahn's cases as `kosoku`
//! runs them. `tests/run` installs them.
use lb_tests::{Instance, eventually};
use std::collections::BTreeMap;
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

/// The backend `app` of these servers.
fn backend(servers: &[&Server]) -> String {
    let one = |s: &&Server| format!("{{ name = \"n{0}\", addr = \"127.0.0.1:{0}\" }}", s.port);
    let list: Vec<_> = servers.iter().map(one).collect();
    format!("[frontend.web]\nlisten = [LISTEN]\nbackend = \"app\"\n[backend.app]\nserver = [{}]\n", list.join(", "))
}

#[test]
fn in_a_drain_other_peoples_clients_lose_no_answer_and_read_why() {
    for (server_command, client) in [
        (node("echo.js"), python("drained.py")),
        (python("echo.py"), node("drained.js")),
        (node("echo.js"), node("drained.js")),
        (python("echo.py"), python("drained.py")),
    ] {
        let echo = server(server_command, "echo");
        let lb = Instance::start(&backend(&[&echo]));
        let (mut client, count) = (client, 10);
        let mut child = client
            .args([lb.addr.port().to_string(), count.to_string()])
            .stdout(Stdio::piped())
            .spawn()
            .expect("installed by tests/run");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines().map_while(Result::ok);
        assert_eq!(lines.next().as_deref(), Some("open"));
        eventually("all are open", || lb.api("/api/servers")[0]["tunnels"] == count);
        let name = format!("app/n{}", echo.port);
        lb.json(&["server", "drain", &name, "--deadline", "300ms", "--pace", "50/s", "--wait"]);
        assert_eq!(lines.next().as_deref(), Some("closed"));
        assert!(child.wait().expect("it ends").success());
        let row = format!("lb_websocket_closes_total{{backend=\"app\",code=\"1012\",by=\"lb\"}} {count}");
        assert!(lb.admin_text("/metrics").contains(&row));
    }
}

/// Autobahn's cases.
const ALL: [&str; 10] = ["1.*", "2.*", "3.*", "4.*", "5.*", "6.*", "7.*", "10.*", "12.1.1", "13.1.1"];

/// Verdicts of these cases, worse ones greater: of what was exchanged and of how it was closed.
fn verdicts(addr: &str, dir: &Path, cases: &[&str]) -> BTreeMap<String, (usize, usize)> {
    let mut command = Command::new(here("../target/foreign/venv/bin/python"));
    command
        .arg(here("../target/foreign/venv/bin/kosoku"))
        .args(["-p", if cases.len() == ALL.len() { "8" } else { "1" }, "-o"])
        .arg(dir)
        .args(cases.iter().flat_map(|case| ["-i", case]))
        .arg(addr);
    command.output().expect("installed by tests/run");
    let index = std::fs::read_to_string(dir.join("index.json")).expect("a report");
    let index: serde_json::Value = serde_json::from_str(&index).expect("JSON");
    let agent = index.as_object().and_then(|o| o.values().next()).and_then(|v| v.as_object()).expect("an agent");
    let order = ["OK", "NON-STRICT", "INFORMATIONAL", "UNIMPLEMENTED", "UNCLEAN", "WRONG CODE", "FAILED BY CLIENT"];
    let rank = |v: &serde_json::Value| order.iter().position(|o| v == o).unwrap_or(order.len());
    agent.iter().map(|(case, v)| (case.clone(), (rank(&v["behavior"]), rank(&v["behaviorClose"])))).collect()
}

#[test]
fn no_case_of_autobahn_has_a_worse_verdict_than_without_lb() {
    for command in [node("echo.js"), python("echo.py")] {
        let echo = server(command, "echo");
        let lb = Instance::start(&backend(&[&echo]));
        let run = |addr: &str, cases: &[&str]| {
            let dir = tempfile::TempDir::new().expect("a directory");
            verdicts(addr, dir.path(), cases)
        };
        let direct = run(&format!("127.0.0.1:{}", echo.port), &ALL);
        assert!(direct.len() >= 247, "{} cases", direct.len());
        let mut worse: Vec<&str> = ALL.to_vec();
        let mut through = BTreeMap::new();
        // A server that is told nonsense right behind a message may fail the connection before its echo has gone: whether
        // it does is chance, with and without us. So what is worse is asked again.
        for _ in 0..8 {
            through = run(&lb.addr.to_string(), &worse);
            let known = direct.iter().filter(|(case, _)| worse == ALL || worse.contains(&case.as_str()));
            let is_worse = |case: &str, before: &(usize, usize)| {
                through.get(case).is_none_or(|after| after.0 > before.0 || after.1 > before.1)
            };
            worse = known.filter(|(case, before)| is_worse(case, before)).map(|(case, _)| case.as_str()).collect();
            if worse.is_empty() {
                break;
            }
        }
        let told: Vec<_> = worse.iter().map(|case| (case, direct.get(*case), through.get(*case))).collect();
        assert!(told.is_empty(), "{told:?}");
    }
}
