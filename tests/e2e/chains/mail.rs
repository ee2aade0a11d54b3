//! A protocol whose servers speak first: SMTP, with Python's client, which comes back from the same address.
use super::passes;
use crate::foreign::{Server, python, server as run};
use lb_tests::instance::free_port;
use lb_tests::{Instance, Neighbour, eventually};

fn config(servers: &[Server], listen: &str) -> String {
    let list: Vec<_> = servers
        .iter()
        .enumerate()
        .map(|(i, s)| format!("{{ name = \"mail{i}\", addr = \"127.0.0.1:{}\" }}", s.port))
        .collect();
    format!(
        "[table.clients]\ntype = \"ip\"\n[frontend.web]\nmode = \"tcp\"\nlisten = {listen}\nbackend = \"mail\"\n\
         [backend.mail]\nsticky = [{{ on = \"src\", table = \"clients\" }}]\n\
         check = {{ tcp = [{{ expect_regex = \"^220 \" }}, {{ send = \"QUIT\\r\\n\", expect = \"221\" }}], interval = \"100ms\" }}\n\
         server = [{}]\n",
        list.join(", ")
    )
}

fn sends(source: &str, ports: &[u16]) -> Vec<String> {
    let mut client = python("smtp_client.py");
    client.arg(source).args(ports.iter().map(u16::to_string));
    passes(&mut client).split_whitespace().map(str::to_owned).collect()
}

#[test]
fn mail_of_a_client_goes_to_one_server_through_two_instances_until_it_dies() {
    let mut servers = ["0", "1", "2"].map(|name| run(python("smtp_server.py"), name));
    let lbs = Instance::cluster(2, &config(&servers, "LISTEN"));
    let ports: Vec<_> = lbs.iter().map(|lb| lb.addr.port()).collect();
    let both = [ports[0], ports[1], ports[0], ports[1]];
    let mut had = Vec::new();
    for i in 0..6 {
        let source = format!("127.0.0.{}", 70 + i);
        let first = sends(&source, &ports[i % 2..=i % 2]).remove(0);
        eventually("both know", || lbs.iter().all(|lb| lb.pin("clients", &source) == Some(format!("mail{first}"))));
        assert_eq!(sends(&source, &both), vec![first.clone(); 4], "{source}");
        had.push((source, first));
    }
    // The first client's server dies.
    let dead = had[0].1.clone();
    let at: usize = dead.parse().expect("its number");
    servers[at].child.kill().expect("it runs");
    let down = |lb: &Instance| {
        let all = lb.api("/api/servers");
        all.as_array()
            .is_some_and(|all| all.iter().any(|s| s["name"] == format!("mail{dead}") && s["health"] == "down"))
    };
    eventually("it is missed", || lbs.iter().all(down));
    for (source, had) in &had {
        let has = sends(source, &ports[..1]).remove(0);
        assert_eq!(has == *had, *had != dead, "{source}: {had}, then {has}");
        eventually("both know", || lbs.iter().all(|lb| lb.pin("clients", source) == Some(format!("mail{has}"))));
        assert_eq!(sends(source, &ports[1..]), [has]);
    }
}

#[test]
fn haproxys_header_comes_before_the_greeting_and_pins_the_client_behind_it() {
    let servers = ["0", "1"].map(|name| run(python("smtp_server.py"), name));
    let lb = Instance::start(&config(&servers, "{ addr = LISTEN, accept_proxy = [\"127.0.0.1\"] }"));
    let front = free_port();
    let _haproxy = Neighbour::haproxy(
        &format!("listen in\n mode tcp\n bind 127.0.0.1:{front}\n server lb {} send-proxy\n", lb.addr),
        &[front],
    );
    for source in ["127.0.0.80", "127.0.0.81"] {
        let names = sends(source, &[front; 3]);
        assert!(names.iter().all(|name| *name == names[0]), "{names:?}");
        assert_eq!(lb.pin("clients", source), Some(format!("mail{}", names[0])));
    }
}
