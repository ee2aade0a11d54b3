//! The client's address behind proxies that write `X-Forwarded-For`: stick rules, rules and logs go by it.
use super::{ask, at};
use crate::servers;
use lb_tests::instance::free_port;
use lb_tests::{Instance, Neighbour, Origin, eventually};

/// A cluster that pins clients by their address, and believes proxies at 127.0.0.1 and 127.0.0.2.
fn cluster(origins: &[&Origin]) -> Vec<Instance> {
    Instance::cluster(
        2,
        &format!(
            "[table.clients]\ntype = \"ip\"\n[frontend.web]\nlisten = LISTEN\nbackend = \"app\"\n\
             trusted_proxies = [\"127.0.0.1\", \"127.0.0.2\"]\n\
             request = [{{ if = {{ src = \"127.0.0.66\" }}, deny = 403 }}]\n\
             [backend.app]\nreal_ip = true\nsticky = [{{ on = \"src\", table = \"clients\" }}]\n{}\n",
            servers(origins)
        ),
    )
}

#[test]
fn behind_nginx_and_haproxy_and_both_clients_keep_their_server_by_their_own_address() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let lbs = cluster(&[&a, &b]);
    let [haproxy, nginx, both] = [(); 3].map(|()| free_port());
    let [first, second] = [lbs[0].addr, lbs[1].addr];
    let _haproxy = Neighbour::haproxy(
        &format!(
            "listen in\n bind 127.0.0.1:{haproxy}\n option forwardfor\n http-request set-header X-Forwarded-Proto https\n \
             server lb {first}\n",
        ),
        &[haproxy],
    );
    let forward = "proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; proxy_set_header Host $host;";
    let _nginx = Neighbour::nginx(
        &format!(
            "server {{ listen 127.0.0.1:{nginx}; location / {{ proxy_pass http://{second}; {forward} }} }}\n\
             server {{ listen 127.0.0.1:{both}; location / {{ proxy_pass http://127.0.0.1:{haproxy}; proxy_bind 127.0.0.2; {forward} }} }}",
        ),
        &[nginx, both],
    );
    let clients: Vec<[u8; 4]> = (40..46).map(|i| [127, 0, 0, i]).collect();
    let had: Vec<_> = clients.iter().map(|ip| ask(*ip, haproxy, "/", "").text()).collect();
    assert!(had.contains(&"a".to_owned()) && had.contains(&"b".to_owned()), "{had:?}");
    let key = |ip: &[u8; 4]| std::net::Ipv4Addr::from(*ip).to_string();
    eventually("both instances know them", || {
        lbs.iter().all(|lb| clients.iter().all(|ip| lb.pin("clients", &key(ip)).is_some()))
    });
    // By another way, with a lie in the header: proxies add the truth behind it.
    for (ip, had) in clients.iter().zip(&had) {
        for port in [nginx, both, haproxy] {
            assert_eq!(ask(*ip, port, "/", "X-Forwarded-For: 127.0.0.66\r\n").text(), *had, "{ip:?} at {port}");
        }
    }
    for lb in &lbs {
        let keys: Vec<_> = lb.pins("clients").into_iter().map(|(key, _)| key).collect();
        assert_eq!(keys, clients.iter().map(key).collect::<Vec<_>>());
    }
    let seen: Vec<_> = [a.seen(), b.seen()].concat();
    assert!(seen.iter().all(|s| s.value("x-real-ip").is_some_and(|ip| ip.starts_with("127.0.0.4"))));
    // HAProxy says that clients came by TLS; nginx alone does not.
    let secure = seen.iter().filter(|s| s.value("x-forwarded-proto") == Some("https")).count();
    assert_eq!((secure, seen.len()), (18, 24));
    eventually("the log names the client", || lbs[1].access().contains("\"src\":\"127.0.0.4"));
    // A rule on the address goes by it as well.
    assert_eq!(ask([127, 0, 0, 66], nginx, "/", "").status, 403);
}

#[test]
fn who_is_no_trusted_proxy_is_not_believed() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let lbs = cluster(&[&a, &b]);
    let lie = "X-Forwarded-For: 192.0.2.1\r\nX-Forwarded-Proto: https\r\n";
    assert_eq!(ask([127, 0, 0, 9], lbs[0].addr.port(), "/", lie).status, 200);
    assert_eq!(lbs[0].pins("clients")[0].0, "127.0.0.9");
    let seen = [a.seen(), b.seen()].concat();
    assert_eq!(seen[0].value("x-forwarded-for"), Some("127.0.0.9"));
    assert_eq!(seen[0].value("x-forwarded-proto"), Some("http"));
    // A proxy at an address that nobody trusts is the client itself.
    let nginx = free_port();
    let _nginx = Neighbour::nginx(
        &format!(
            "server {{ listen 127.0.0.1:{nginx}; location / {{ proxy_pass http://{}; proxy_bind 127.0.0.3; \
             proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; }} }}",
            lbs[1].addr
        ),
        &[nginx],
    );
    assert_eq!(ask([127, 0, 0, 50], at(nginx).port(), "/", "").status, 200);
    assert!(lbs[1].pin("clients", "127.0.0.3").is_some() && lbs[1].pin("clients", "127.0.0.50").is_none());
}
