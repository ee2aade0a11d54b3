//! What tables count, over one instance and several, and what limits make of it.
use crate::servers;
use lb_tests::origin::Reply;
use lb_tests::{Answer, Client, Instance, Origin, eventually};
use std::time::{Duration, Instant};

const STORE: &str = "\"conn_cur\", \"conn_cnt\", \"http_req_cnt\", \"http_req_rate(1m)\", \"http_err_cnt\", \
                     \"http_fail_cnt\", \"bytes_in_cnt\", \"bytes_out_rate(1m)\", \"gpc(0)\", \"gpt(0)\"";

/// One frontend with these rules, each `when` and `then` of the key `X-Key` in the table `clients`.
fn config(origins: &[&Origin], rules: &[&str]) -> String {
    let rule = |rule: &&str| format!("{{ key = \"header(X-Key)\", table = \"clients\"{rule} }}");
    let rules: Vec<_> = rules.iter().map(rule).collect();
    format!(
        "[table.clients]\ntype = \"string\"\nstore = [{STORE}]\n[frontend.web]\nlisten = [LISTEN]\nbackend = \"app\"\n\
         limit = [{}]\n[backend.app]\n{}\n",
        rules.join(", "),
        servers(origins)
    )
}

const FIVE: &str = ", when = \"http_req_rate > 5\", then = \"deny 429\"";

fn ask(client: &mut Client, key: &str) -> Answer {
    client.get("/", &format!("X-Key: {key}\r\n"))
}

fn status(lb: &Instance, key: &str) -> u16 {
    ask(&mut lb.client(), key).status
}

#[test]
fn a_client_over_its_rate_gets_429_on_a_connection_that_stays_open_and_others_are_served() {
    let a = Origin::named("a");
    let lb = Instance::start(&config(&[&a], &[FIVE]));
    let mut client = lb.client();
    let statuses: Vec<_> = (0..8).map(|_| ask(&mut client, "ann").status).collect();
    assert_eq!(statuses, [200, 200, 200, 200, 200, 429, 429, 429]);
    let denied = ask(&mut client, "ann");
    assert_eq!(denied.value("Retry-After"), Some("60"), "{}", denied.head);
    assert_eq!(denied.text(), "429 Too Many Requests: limit[0]\n");
    assert_eq!(ask(&mut client, "bob").status, 200, "the control: another key on the same connection");
    assert_eq!(client.get("/", "").status, 200, "and a request without the key");
    assert_eq!(a.seen().len(), 7, "what is denied reaches no server");
    // Denied requests count as requests, and their answers as errors.
    let read = |counter| lb.counter("clients", "ann", counter);
    eventually("all are counted", || read("http_err_cnt") == 4);
    assert_eq!((read("http_req_cnt"), read("conn_cnt"), read("conn_cur")), (9, 1, 1));
    eventually("the access log names the rule", || {
        lb.access().contains("\"why\":\"limit[0]\"") && lb.access().contains("\"end\":\"limit\"")
    });
    let metric = "lb_limit_total{frontend=\"web\",rule=\"0\",action=\"deny\"} 4";
    assert!(lb.admin_text("/metrics").contains(metric), "{}", lb.admin_text("/metrics"));
}

#[test]
fn a_limit_holds_over_all_instances_together_and_without_peers_it_would_not() {
    let a = Origin::named("a");
    let config = config(&[&a], &[FIVE]);
    let cluster = Instance::cluster(2, &config);
    let (one, two) = (&cluster[0], &cluster[1]);
    assert!((0..5).all(|_| status(one, "ann") == 200), "under the limit");
    let told = Instant::now();
    eventually("the other has heard", || two.counter("clients", "ann", "http_req_cnt") == 5);
    assert!(told.elapsed() < Duration::from_secs(1), "within a second, not {:?}", told.elapsed());
    assert_eq!(status(two, "ann"), 429, "the sixth of both together");
    assert_eq!(status(two, "bob"), 200, "the control: another key");
    let (one, two) = (Instance::start(&config), Instance::start(&config));
    assert!((0..5).all(|_| status(&one, "ann") == 200 && status(&two, "ann") == 200), "the control: alone");
}

#[test]
fn open_websockets_count_on_all_instances_until_they_close_or_their_instance_starts_anew() {
    let a = Origin::named("a");
    let rules = [", when = \"conn_cur > 3\", then = \"deny 429\""];
    let mut cluster = Instance::cluster(2, &config(&[&a], &rules));
    let open = |lb: &Instance| {
        let mut client = lb.client();
        let status = client.upgrade("/ws", "X-Key: ann\r\n").status;
        (client, status)
    };
    let current = |lb: &Instance| lb.counter("clients", "ann", "conn_cur");
    let mut sockets = Vec::new();
    for at in [0, 1, 1] {
        let (client, status) = open(&cluster[at]);
        assert_eq!(status, 101);
        sockets.push(client);
    }
    for lb in &cluster {
        eventually("three are open", || current(lb) == 3);
    }
    assert_eq!(open(&cluster[0]).1, 429, "the fourth");
    drop(sockets.remove(0));
    for lb in &cluster {
        eventually("one has closed", || current(lb) == 2);
    }
    assert_eq!(open(&cluster[0]).1, 101, "there is room again");
    eventually("that one is gone", || current(&cluster[0]) == 2);
    // Those of an instance that is dead end with its lease, or with the first word of its next life.
    cluster[1].kill();
    cluster[1].restart();
    cluster[1].wait_ready();
    assert_eq!(status(&cluster[1], "ann"), 200);
    eventually("those of the dead instance are gone", || current(&cluster[0]) == 0);
}

#[test]
fn bytes_of_bodies_and_of_open_tunnels_are_counted() {
    let a = Origin::answering(|seen| match seen.value("Upgrade") {
        Some(_) => Reply::Body(String::new()),
        None => Reply::Body("x".repeat(10_000)),
    });
    let rules = ["", ", when = \"bytes_out_rate > 25k\", then = \"deny\""];
    let lb = Instance::start(&config(&[&a], &rules));
    let mut client = lb.client();
    client.send("POST / HTTP/1.1\r\nHost: t\r\nX-Key: ann\r\nContent-Length: 1234\r\n\r\n");
    client.send([b'x'; 1234]);
    assert_eq!(client.answer().map(|a| a.status), Some(200));
    assert_eq!(ask(&mut client, "ann").status, 200);
    eventually("the bodies are counted", || {
        lb.counter("clients", "ann", "bytes_in_cnt") == 1234
            && lb.counter("clients", "ann", "bytes_out_rate(1m)") == 20_000
    });
    // A tunnel's while it is open.
    let echo = Origin::named("echo");
    let lb = Instance::start(&config(&[&echo], &rules));
    let mut tunnel = lb.client();
    assert_eq!(tunnel.upgrade("/ws", "X-Key: ann\r\n").status, 101);
    tunnel.send([b'x'; 30_000]);
    assert!(tunnel.read(30_000).is_some());
    eventually("the tunnel's bytes are counted", || lb.counter("clients", "ann", "bytes_in_cnt") == 30_000);
    eventually("both ways", || lb.counter("clients", "ann", "bytes_out_rate(1m)") == 30_000);
    assert_eq!(status(&lb, "ann"), 403);
    assert_eq!(status(&lb, "bob"), 200);
}

#[test]
fn rules_count_and_tag_and_later_rules_look_at_that() {
    let a = Origin::answering(|seen| Reply::Body(seen.head.lines().next().unwrap_or("").into()));
    let rules = [
        ", when = \"http_req_cnt > 2\", then = \"inc gpc(0)\"",
        ", when = \"gpc(0) >= 2\", then = \"set gpt(0) 7\"",
        ", when = \"gpt(0) == 7 and http_req_cnt < 6\", then = \"deny 503\"",
    ];
    let lb = Instance::start(&config(&[&a], &rules));
    let mut client = lb.client();
    let statuses: Vec<_> = (0..6).map(|_| ask(&mut client, "ann").status).collect();
    assert_eq!(statuses, [200, 200, 200, 503, 503, 200]);
    let read = |counter| lb.counter("clients", "ann", counter);
    assert_eq!((read("gpc(0)"), read("gpt(0)"), read("http_req_cnt")), (4, 7, 6), "one count for three rules");
    eventually("what failed is counted", || read("http_fail_cnt") == 2);
    // What the operator sees, and an unpinned key is seen at all.
    let rows = lb.json(&["table", "show", "clients"]);
    assert_eq!((&rows[0]["key"], &rows[0]["server"]), (&"ann".into(), &"".into()), "{rows}");
    assert_eq!(rows[0]["counters"]["gpt(0)"], 7);
    let shown = String::from_utf8(lb.cli(&["table", "show", "clients"]).stdout).expect("text");
    assert!(
        shown.contains("HTTP_REQ_RATE(1M)") && shown.lines().nth(1).is_some_and(|l| l.trim_start().starts_with("ann")),
        "{shown}"
    );
    let shown = |when: &str| lb.json(&["table", "show", "clients", "--when", when]).as_array().map(Vec::len);
    assert_eq!((shown("http_req_rate >= 6 and gpt(0) == 7"), shown("http_req_rate > 6")), (Some(1), Some(0)));
    let wrong = lb.cli(&["table", "show", "clients", "--when", "http_rate > 6"]);
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("no counter \"http_rate\""), "{wrong:?}");
    let listed = String::from_utf8(lb.cli(&["table", "list"]).stdout).expect("text");
    assert!(listed.contains("conn_cur conn_cnt http_req_cnt"), "{listed}");
    lb.json(&["table", "clear", "clients", "--key", "ann"]);
    assert_eq!(read("http_req_cnt"), 0, "cleared");
}

#[test]
fn a_tarpit_holds_its_client_and_nobody_else_and_has_a_bound() {
    let a = Origin::named("a");
    let rules = [
        ", when = \"http_req_rate > 2\", then = \"tarpit 60s\"",
        ", when = \"http_req_rate > 1\", then = \"tarpit 2s 403\"",
    ];
    let config = config(&[&a], &rules).replace("backend = \"app\"\nlimit", "backend = \"app\"\nmax_tarpit = 1\nlimit");
    let lb = Instance::start(&config);
    let mut held = lb.client();
    assert_eq!(ask(&mut held, "ann").status, 200);
    let began = Instant::now();
    held.send("GET / HTTP/1.1\r\nHost: t\r\nX-Key: ann\r\n\r\n");
    let active = |lb: &Instance| metric(lb, "lb_tarpit_active{frontend=\"web\"}");
    eventually("it is held", || active(&lb) == 1);
    assert_eq!(status(&lb, "bob"), 200);
    assert_eq!(held.answer().map(|a| a.status), Some(403));
    assert!(began.elapsed() >= Duration::from_millis(1990), "{:?}", began.elapsed());
    assert_eq!(ask(&mut held, "cat").status, 200, "the connection goes on");
    // The bound is of each of the two workers; past it the answer comes at once.
    let mut crowd: Vec<_> = (0..12).map(|_| lb.client()).collect();
    for client in &mut crowd {
        client.send("GET / HTTP/1.1\r\nHost: t\r\nX-Key: ann\r\n\r\n");
    }
    eventually("those past the bound are told at once", || metric(&lb, "lb_tarpit_full_total{frontend=\"web\"}") >= 10);
    assert!(active(&lb) <= 2);
    drop(crowd);
    eventually("who leaves is not held", || active(&lb) == 0);
}

fn metric(lb: &Instance, name: &str) -> u64 {
    let text = lb.admin_text("/metrics");
    let value = text.lines().find_map(|l| l.strip_prefix(name)).unwrap_or_else(|| panic!("no {name} in\n{text}"));
    value.trim().parse().expect("a number")
}

#[test]
fn counters_survive_a_reload_and_new_limits_hold_at_once() {
    let a = Origin::named("a");
    let lb = Instance::start(&config(&[&a], &[FIVE]));
    let mut client = lb.client();
    assert!((0..4).all(|_| ask(&mut client, "ann").status == 200));
    lb.edit(|text| text.replace("http_req_rate > 5", "http_req_rate > 3"));
    lb.json(&["reload"]);
    assert_eq!(lb.counter("clients", "ann", "http_req_cnt"), 4);
    assert_eq!(ask(&mut client, "ann").status, 429, "on a connection of before, too");
    lb.edit(|text| text.replace("\"gpt(0)\"", "\"gpt(0)\", \"gpt(1)\"").replace("http_req_rate > 3", "gpt(1) > 0"));
    lb.json(&["reload"]);
    assert_eq!(ask(&mut client, "ann").status, 200);
    assert_eq!(lb.counter("clients", "ann", "http_req_cnt"), 6);
}

#[test]
fn a_sticky_table_that_counts_counts_its_keys_once() {
    let a = Origin::named("a");
    let config = config(&[&a], &[""]) + "sticky = [{ on = \"header(X-Key)\", table = \"clients\" }]\n";
    let lb = Instance::start(&config);
    let mut client = lb.client();
    assert_eq!((ask(&mut client, "ann").status, ask(&mut client, "ann").status), (200, 200));
    assert_eq!(lb.counter("clients", "ann", "http_req_cnt"), 2, "a limit and a sticky rule name it");
    assert_eq!(lb.pin("clients", "ann").as_deref(), Some("node1"));
    lb.edit(|text| text.replace("limit = [{ key = \"header(X-Key)\", table = \"clients\" }]", ""));
    lb.json(&["reload"]);
    assert_eq!(ask(&mut client, "ann").status, 200);
    assert_eq!(lb.counter("clients", "ann", "http_req_cnt"), 3, "the sticky rule alone counts, too");
    drop(client);
    eventually("its connection is closed", || lb.counter("clients", "ann", "conn_cur") == 0);
    let rows = lb.json(&["table", "show", "clients"]);
    assert_eq!((rows.as_array().map(Vec::len), &rows[0]["server"]), (Some(1), &"node1".into()), "{rows}");
}
