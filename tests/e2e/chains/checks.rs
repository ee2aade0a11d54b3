//! Health, asked by others of lb and by lb of others.
use super::{ask, at, server};
use crate::app;
use lb_tests::instance::free_port;
use lb_tests::pki::Pki;
use lb_tests::{Instance, Neighbour, Origin, eventually};

/// Whether HAProxy takes this server for up, by its statistics.
fn up(haproxy: u16, server: &str) -> bool {
    let table = ask([127, 0, 0, 1], haproxy, "/stats;csv", "").text();
    let row = table.lines().find(|line| line.starts_with(&format!("in,{server},"))).unwrap_or_default();
    row.split(',').nth(17).is_some_and(|status| status.starts_with("UP"))
}

#[test]
fn haproxy_sends_nobody_to_an_instance_that_leaves_and_nobody_notices() {
    let origin = Origin::named("a");
    let mut lbs = [(); 2].map(|()| Instance::start(&app(&[&origin], "")));
    let front = free_port();
    let _haproxy = Neighbour::haproxy(
        &format!(
            "listen in\n bind 127.0.0.1:{front}\n stats enable\n stats uri /stats\n balance roundrobin\n \
             option httpchk GET /readyz\n http-check expect status 200\n option redispatch 1\n \
             retry-on all-retryable-errors\n default-server inter 100ms fall 1 rise 1\n \
             server lb0 {} check port {}\n server lb1 {} check port {}\n",
            lbs[0].addr,
            lbs[0].admin.port(),
            lbs[1].addr,
            lbs[1].admin.port()
        ),
        &[front],
    );
    eventually("both are up", || up(front, "lb0") && up(front, "lb1"));
    // Something that is open keeps the first alive through its drain.
    let mut open = lb_tests::Client::connect(lbs[0].addr);
    assert_eq!(open.upgrade("/ws", "").status, 101);
    for _ in 0..10 {
        assert_eq!(ask([127, 0, 0, 1], front, "/", "").status, 200);
    }
    eventually("both had their share", || lbs.iter().all(|lb| lb.access().contains("\"status\":200")));
    lbs[0].signal("-TERM");
    // The process lives, and is not ready.
    eventually("it is leaving", || lbs[0].admin_status("/readyz") == Some(503));
    assert_eq!(lbs[0].admin_status("/healthz"), Some(200));
    eventually("it is out, and everybody is served meanwhile", || {
        assert_eq!(ask([127, 0, 0, 1], front, "/", "").status, 200);
        !up(front, "lb0")
    });
    assert!(up(front, "lb1"));
    drop(open);
    assert_eq!(lbs[0].wait_end(), Some(0));
    lbs[0].restart();
    eventually("it is in again", || {
        assert_eq!(ask([127, 0, 0, 1], front, "/", "").status, 200);
        up(front, "lb0")
    });
}

#[test]
fn lb_asks_nginx_and_haproxy_over_tls_and_hears_when_they_are_not_well() {
    let pki = Pki::new();
    pki.issue("site.pem", &["inner.example"]);
    let (site, ca) = (pki.text("site.pem"), pki.text("ca.pem"));
    let [nginx, haproxy] = [(); 2].map(|()| free_port());
    let page = pki.path("well");
    let _nginx = Neighbour::nginx(
        &format!(
            "server {{ listen 127.0.0.1:{nginx} ssl; ssl_certificate {site}; ssl_certificate_key {site}; \
             location /health {{ if (!-f {}) {{ return 503; }} return 200 \"well\"; }} }}",
            page.display()
        ),
        &[nginx],
    );
    // Its own word for "no server of mine is up".
    let _haproxy = Neighbour::haproxy(
        &format!(
            "frontend in\n bind 127.0.0.1:{haproxy} ssl crt {site}\n acl none nbsrv(app) lt 1\n monitor-uri /health\n \
             monitor fail if none\n default_backend app\nbackend app\n server nginx 127.0.0.1:{nginx} ssl verify none \
             check inter 100ms fall 1 rise 1\n option httpchk GET /health\n"
        ),
        &[haproxy],
    );
    std::fs::write(&page, "").expect("a file");
    let start = |port: u16, sni: &str| {
        let check = format!(
            "check = {{ http = \"GET /health\", expect = 200, headers = {{ Host = \"inner.example\" }}, interval = \"50ms\", fall = 1, \
             rise = 1, tls = {{ ca = {ca:?}, sni = \"{sni}\" }} }}"
        );
        Instance::start(&app(&[], &check).replace("server = []", &server("inner", at(port), "")))
    };
    let lbs = [start(nginx, "inner.example"), start(haproxy, "inner.example")];
    let row = |lb: &Instance| lb.api("/api/servers")[0].clone();
    let all = |health: &str| lbs.iter().all(|lb| row(lb)["health"] == health);
    eventually("both are up", || all("up"));
    std::fs::remove_file(&page).expect("a file");
    eventually("both are down", || all("down"));
    for lb in &lbs {
        assert_eq!(row(lb)["reason"], "answered 503, expected 200");
    }
    std::fs::write(&page, "").expect("a file");
    eventually("both are up again", || all("up"));
    let misled = start(nginx, "other.example");
    eventually("another name is another server", || row(&misled)["health"] == "down");
    assert!(row(&misled)["reason"].as_str().is_some_and(|why| why.starts_with("no TLS:")), "{}", row(&misled));
}
