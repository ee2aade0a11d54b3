//! Things that happen at the same time: reloads under load, a pull that is not done, servers that close as we write.
use crate::app;
use lb_tests::origin::Reply;
use lb_tests::{Client, Instance, Origin, eventually, lb};
use std::collections::HashMap;
use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

const TABLE: &str = "[table.sessions]\ntype = \"string\"\nsize = 200000\n";
const RULE: &str = "sticky = [{ on = \"header(X-Key)\", table = \"sessions\" }]";

#[test]
fn no_request_and_no_tunnel_notices_twenty_reloads_under_load() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let lb = Instance::start(&format!("{TABLE}{}", app(&[&a, &b], RULE)));
    let (stop, served) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for number in 0..4 {
            let (lb, stop, served) = (&lb, &stop, &served);
            scope.spawn(move || {
                let (mut kept, mut tunnel) = (lb.client(), lb.client());
                let key = format!("X-Key: k{number}\r\n");
                let first = kept.get("/", &key).text();
                assert_eq!(tunnel.upgrade("/ws", &key).status, 101);
                while !stop.load(Ordering::SeqCst) {
                    assert_eq!(kept.get("/", &key).text(), first, "a kept connection");
                    assert_eq!(lb.client().get("/", &key).text(), first, "a new connection");
                    assert!(tunnel.send("x") && tunnel.read(1).is_some(), "a tunnel");
                    served.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        for round in 0..20 {
            let before = served.load(Ordering::SeqCst);
            lb.edit(|text| text.replace(&format!("# round {round}\n"), "") + &format!("# round {}\n", round + 1));
            assert_eq!(lb.cli(&["reload"]).status.code(), Some(0));
            eventually("clients are served", || served.load(Ordering::SeqCst) > before + 4);
        }
        stop.store(true, Ordering::SeqCst);
    });
    assert_eq!(lb.api("/api/status")["generation"], 21);
}

#[test]
fn a_starting_instance_sends_nobody_elsewhere_before_it_has_the_table() {
    let (a, b, c) = (Origin::named("a"), Origin::named("b"), Origin::named("c"));
    let mut cluster = Instance::cluster(2, &format!("{TABLE}{}", app(&[&a, &b, &c], RULE)));
    assert_eq!(cluster[0].client().get("/", "X-Key: k0\r\n").status, 200);
    // Many entries, so that the pull takes a while, all at one server, so that a guess is wrong two times in three.
    let line = String::from_utf8(cluster[0].cli(&["table", "dump", "sessions"]).stdout).expect("text");
    let server = cluster[0].pin("sessions", "k0").expect("a pin");
    let lines: String = (0..30_000)
        .map(|i| line.replace("\"k0\"", &format!("\"k{i}\"")).replace(&format!("\"{server}\""), "\"node3\""))
        .collect();
    let mut load = Command::new(lb())
        .args(["table", "load", "sessions", "--socket"])
        .arg(cluster[0].socket())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("lb runs");
    load.stdin.take().expect("piped").write_all(lines.as_bytes()).expect("it reads");
    assert!(load.wait().expect("it ends").success());
    assert_eq!(cluster[0].api("/api/tables")[0]["entries"], 30_000);
    let second = &mut cluster[1];
    second.kill();
    second.restart();
    let mut asked = 0;
    let mut early = 0;
    eventually("it is ready", || {
        let ready = second.ready();
        // A load balancer in front of us that does not look at /readyz.
        for _ in 0..20 {
            let key = (asked * 7919) % 30_000;
            if std::net::TcpStream::connect(second.addr).is_err() {
                break;
            }
            asked += 1;
            early += usize::from(!ready);
            assert_eq!(second.client().get("/", &format!("X-Key: k{key}\r\n")).text(), "c", "k{key}, request {asked}");
        }
        ready
    });
    assert_eq!(second.api("/api/tables")[0]["entries"], 30_000);
    assert!(early > 0, "none of {asked} requests came before it was ready");
}

#[test]
fn a_post_is_never_sent_twice_whatever_its_server_does() {
    // Closes each connection right after the answer, without a word: the next request may be on its way already.
    let a = Origin::answering(|seen| {
        let id = seen.value("X-Id").unwrap_or("").to_owned();
        Reply::Raw(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{id}", id.len()).into_bytes())
    });
    let lb = Instance::start(&app(&[&a], ""));
    let (mut client, mut served) = (lb.client(), 0);
    for i in 0..300 {
        client.send(format!("POST / HTTP/1.1\r\nHost: t\r\nX-Id: {i}\r\nContent-Length: 2\r\n\r\nhi"));
        let answer = client.answer().expect("an answer");
        match answer.status {
            200 => {
                assert_eq!(answer.text(), i.to_string());
                served += 1;
            }
            502 => {}
            other => panic!("{other}"),
        }
        if answer.value("Connection") == Some("close") {
            client = lb.client();
        }
    }
    let mut times: HashMap<String, usize> = HashMap::new();
    for seen in a.seen() {
        *times.entry(seen.value("X-Id").unwrap_or("").to_owned()).or_default() += 1;
    }
    assert!(times.values().all(|n| *n == 1), "sent twice: {times:?}");
    assert!(served >= 200, "only {served} of 300 were served");
}

#[test]
fn the_tunnels_of_a_dead_server_end_and_the_next_ones_go_elsewhere() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let lb = Instance::start(&format!("{TABLE}{}", app(&[&a, &b], RULE)));
    lb.json(&["table", "set", "sessions", "k", "node1"]);
    let mut tunnels: Vec<Client> = (0..20)
        .map(|_| {
            let mut client = lb.client();
            assert_eq!(client.upgrade("/ws", "X-Key: k\r\n").status, 101);
            client
        })
        .collect();
    eventually("all are counted", || lb.api("/api/servers")[0]["tunnels"] == 20);
    a.die();
    assert!(tunnels.iter_mut().all(Client::closed), "all are told");
    assert_eq!(lb.client().upgrade("/ws", "X-Key: k\r\n").status, 101);
    eventually("it is at the other", || lb.pin("sessions", "k").as_deref() == Some("node2"));
    // Half-closed until then: a client may have something left to say.
    drop(tunnels);
    eventually("no place is lost", || {
        let servers = lb.api("/api/servers");
        servers[0]["active"] == 0 && servers[0]["tunnels"] == 0
    });
}

#[test]
fn a_moving_drain_takes_the_pinned_along_and_preserve_leaves_the_servers_own_cookie() {
    let own = |name: &'static str| {
        Origin::answering(move |seen| match seen.value("X-Own") {
            Some(_) => Reply::With("Set-Cookie: S=mine; Path=/own\r\n".into(), name.into()),
            None => Reply::Body(name.into()),
        })
    };
    let (a, b) = (own("a"), own("b"));
    let rule = "drain = \"move\"\nsticky = [{ cookie = \"S\", insert = true, indirect = true, preserve = true }]";
    let lb = Instance::start(&app(&[&a, &b], rule));
    assert_eq!(lb.client().get("/", "Cookie: S=node1\r\n").text(), "a");
    lb.json(&["server", "drain", "app/node1"]);
    let moved = lb.client().get("/", "Cookie: S=node1\r\n");
    assert_eq!((moved.text().as_str(), moved.value("Set-Cookie")), ("b", Some("S=node2; Path=/")));
    let kept = lb.client().get("/", "X-Own: 1\r\n");
    let cookies: Vec<_> = kept.head.lines().filter(|l| l.to_ascii_lowercase().starts_with("set-cookie:")).collect();
    assert_eq!(cookies, ["Set-Cookie: S=mine; Path=/own"]);
}
