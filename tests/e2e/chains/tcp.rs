//! TCP mode between neighbours, and cookies that a neighbour sets.
use super::{ask, at, server};
use crate::servers;
use crate::tcp::{from, greeter, read, tcp};
use lb_tests::instance::free_port;
use lb_tests::origin::Reply;
use lb_tests::pki::Pki;
use lb_tests::{Instance, Neighbour, Origin, eventually};
use std::io::{Read, Write};
use std::net::Shutdown;

#[test]
fn a_connection_passes_haproxy_lb_and_haproxy_and_each_side_can_end_first() {
    let a = greeter("220 ready\r\n");
    let [front, back] = [(); 2].map(|()| free_port());
    let lb = Instance::start(&tcp(&[], "", "").replace("server = []", &server("inner", at(back), "")));
    let _haproxy = Neighbour::haproxy(
        &format!(
            "listen before\n mode tcp\n bind 127.0.0.1:{front}\n server lb {}\n\
             listen behind\n mode tcp\n bind 127.0.0.1:{back}\n server a {}\n",
            lb.addr, a.addr
        ),
        &[front, back],
    );
    let mut client = from([127, 0, 0, 1], at(front));
    assert_eq!(read(&mut client, 11), "220 ready\r\n");
    // Much at once, then an end; all of it comes back, and then theirs.
    let much = "x".repeat(3_000_000);
    let mut writing = client.try_clone().expect("a second handle");
    let sent = much.clone();
    let write = std::thread::spawn(move || {
        writing.write_all(sent.as_bytes()).expect("it is open");
        writing.shutdown(Shutdown::Write).expect("it is open");
    });
    let mut back = String::new();
    client.read_to_string(&mut back).expect("an end in order");
    write.join().expect("all was sent");
    assert!(back == much, "{} of {} bytes", back.len(), much.len());
}

#[test]
fn lb_routes_by_name_tls_that_nginx_ends() {
    let pki = Pki::new();
    let [a, b] = ["a", "b"].map(|name| {
        let (port, file) = (free_port(), format!("{name}.pem"));
        pki.issue(&file, &[&format!("{name}.example")]);
        let site = pki.text(&file);
        let http = format!(
            "server {{ listen 127.0.0.1:{port} ssl http2; ssl_certificate {site}; ssl_certificate_key {site}; \
             location / {{ return 200 \"{name} $ssl_server_name $server_protocol\"; }} }}"
        );
        (Neighbour::nginx(&http, &[port]), port)
    });
    let lb = Instance::start(&format!(
        "[table.names]\ntype = \"string\"\n[frontend.web]\nmode = \"tcp\"\nlisten = LISTEN\n\
         routes = [{{ sni = \"a.example\", backend = \"a\" }}, {{ sni = \"*.example\", backend = \"b\" }}]\n\
         [backend.a]\nsticky = [{{ on = \"sni\", table = \"names\" }}]\n{}\n[backend.b]\n{}\n",
        server("a", at(a.1), ""),
        server("b", at(b.1), "")
    ));
    let port = lb.addr.port();
    let ask = |name: &str, more: &[&str]| {
        let (resolve, url) = (format!("{name}:{port}:127.0.0.1"), format!("https://{name}:{port}/"));
        pki.curl(&[&["--resolve", &resolve, &url], more].concat())
    };
    assert!(ask("a.example", &["--http2"]).1.ends_with("a a.example HTTP/2.0"));
    assert!(ask("b.example", &[]).1.ends_with("b b.example HTTP/1.1"));
    assert_eq!(lb.pins("names"), [("a.example".to_owned(), "a".to_owned())]);
    assert!(!ask("other.test", &[]).0, "nobody is there for it");
}

#[test]
fn cookies_of_neighbours_pass_lb_as_they_are_and_its_own_stays_its_own() {
    // A server with a session of its own, and one behind HAProxy, which sets cookies for it.
    let session = |name: &'static str| {
        Origin::answering(move |seen| {
            let told = seen.value("cookie").unwrap_or("none").to_owned();
            Reply::With("Set-Cookie: SESSION=s1; Path=/\r\n".into(), format!("{name} {told}"))
        })
    };
    let (a, b) = (session("a"), session("b"));
    let [back, front] = [(); 2].map(|()| free_port());
    let lb = Instance::start(&format!(
        "[frontend.web]\nlisten = LISTEN\nbackend = \"app\"\n[backend.app]\n\
         sticky = [{{ cookie = \"LB\", insert = true, indirect = true, preserve = true }}]\n{}\n",
        server("inner", at(back), "")
    ));
    let _haproxy = Neighbour::haproxy(
        &format!(
            "listen before\n bind 127.0.0.1:{front}\n cookie FRONT insert indirect nocache\n server lb {} cookie one\n\
             listen behind\n bind 127.0.0.1:{back}\n cookie BACK insert\n server a {} cookie a\n server b {} cookie b\n",
            lb.addr, a.addr, b.addr
        ),
        &[back, front],
    );
    let first = ask([127, 0, 0, 1], front, "/", "");
    let cookies = |head: &str| {
        let lines =
            head.lines().filter_map(|line| line.strip_prefix("Set-Cookie: ").or(line.strip_prefix("set-cookie: ")));
        let mut cookies: Vec<_> = lines.filter_map(|line| line.split(';').next().map(str::to_owned)).collect();
        cookies.sort();
        cookies
    };
    let set = cookies(&first.head);
    assert_eq!(set.len(), 4, "{}", first.head);
    let server = first.text().split(' ').next().expect("a name").to_owned();
    assert_eq!(set, [&format!("BACK={server}"), "FRONT=one", "LB=inner", "SESSION=s1"]);
    // The client comes back with all of them: each takes off its own, HAProxy behind leaves its own to the server.
    let all = format!("Cookie: {}\r\n", set.join("; "));
    for _ in 0..4 {
        let again = ask([127, 0, 0, 1], front, "/", &all);
        assert_eq!(again.text(), format!("{server} BACK={server}; SESSION=s1"));
        assert_eq!(cookies(&again.head), ["SESSION=s1"]);
    }
}

#[test]
fn with_preserve_a_neighbours_cookie_of_our_name_stands_and_without_it_ours() {
    let a = Origin::named("a");
    let back = free_port();
    let _haproxy = Neighbour::haproxy(
        &format!(
            "listen behind\n bind 127.0.0.1:{back}\n http-response set-header Set-Cookie \"SRV=theirs; Path=/\"\n server a {}\n",
            a.addr
        ),
        &[back],
    );
    for (preserve, value) in [(true, "SRV=theirs"), (false, "SRV=inner")] {
        let lb = Instance::start(&format!(
            "[frontend.web]\nlisten = LISTEN\nbackend = \"app\"\n[backend.app]\n\
             sticky = [{{ cookie = \"SRV\", insert = true, preserve = {preserve} }}]\n{}\n",
            server("inner", at(back), "")
        ));
        let answer = lb.client().get("/", "");
        assert_eq!(answer.head.matches("SRV=").count(), 1, "{}", answer.head);
        assert!(answer.head.contains(value), "{}", answer.head);
    }
}

/// The body that curl gets for this host.
fn body(pki: &Pki, lb: &Instance, name: &str, more: &[&str]) -> String {
    let port = lb.addr.port();
    let (resolve, url) = (format!("{name}:{port}:127.0.0.1"), format!("https://{name}:{port}/"));
    let (fine, text) = pki.curl(&[&["--resolve", &resolve, &url], more].concat());
    assert!(fine, "{text}");
    text.rsplit("\r\n\r\n").next().unwrap_or_default().to_owned()
}

#[test]
fn where_lb_ends_tls_connections_stick_by_the_name_that_they_ask_for() {
    let (pki, a, b) = (Pki::new(), Origin::named("a"), Origin::named("b"));
    pki.issue("site.pem", &["*.shop.example"]);
    let lbs = Instance::cluster(
        2,
        &format!(
            "[table.names]\ntype = \"string\"\n[frontend.web]\nmode = \"tcp\"\nbackend = \"app\"\n\
             listen = {{ addr = LISTEN, tls = {{ cert = {:?} }} }}\n\
             [backend.app]\nsticky = [{{ on = \"sni\", table = \"names\" }}]\n{}\n",
            pki.text("site.pem"),
            servers(&[&a, &b])
        ),
    );
    let names = ["one.shop.example", "two.shop.example", "three.shop.example", "four.shop.example"];
    let had = names.map(|name| body(&pki, &lbs[0], name, &[]));
    eventually("the other instance knows", || lbs[1].pins("names").len() == 4);
    for _ in 0..3 {
        assert_eq!(names.map(|name| body(&pki, &lbs[1], name, &[])), had);
    }
    assert!(["a", "b"].iter().all(|name| had.iter().any(|server| server == name)), "{had:?}");
}

#[test]
fn clients_are_routed_and_kept_by_the_certificate_that_they_show() {
    let (pki, a, b) = (Pki::new(), Origin::named("a"), Origin::named("b"));
    pki.issue("site.pem", &["shop.example"]);
    for name in ["ann", "ben"] {
        pki.issue(&format!("{name}.pem"), &[name]);
    }
    let (site, ca) = (pki.text("site.pem"), pki.text("ca.pem"));
    let lbs = Instance::cluster(
        2,
        &format!(
            "[table.names]\ntype = \"string\"\n[frontend.web]\nbackend = \"others\"\n\
             listen = {{ addr = LISTEN, tls = {{ cert = {site:?}, client_ca = {ca:?}, client_cert = \"optional\" }} }}\n\
             routes = [{{ if = {{ client_name = \"ann\" }}, backend = \"ann\" }}]\n\
             [backend.others]\nsticky = [{{ on = \"query(id)\", table = \"names\", if = {{ client_cert = true }} }}]\n{0}\n\
             [backend.ann]\nsticky = [{{ on = \"const(ann)\", table = \"names\" }}]\n{0}\n",
            servers(&[&a, &b])
        ),
    );
    let ask = |lb: &Instance, query: &str, certificate: Option<&str>| {
        let (port, file) = (lb.addr.port(), certificate.map(|name| pki.text(&format!("{name}.pem"))));
        let (resolve, url) =
            (format!("shop.example:{port}:127.0.0.1"), format!("https://shop.example:{port}/?{query}"));
        let shown: Vec<&str> = file.iter().flat_map(|file| ["--cert", file.as_str()]).collect();
        let (fine, text) = pki.curl(&[&["--resolve", resolve.as_str(), &url], &shown[..]].concat());
        assert!(fine, "{text}");
        text.rsplit("\r\n\r\n").next().unwrap_or_default().to_owned()
    };
    let (ann, ben) = (ask(&lbs[0], "", Some("ann")), ask(&lbs[0], "id=b", Some("ben")));
    eventually("the other instance knows", || lbs[1].pins("names").len() == 2);
    for i in 0..6 {
        assert_eq!(ask(&lbs[i % 2], "id=x", Some("ann")), ann);
        assert_eq!(ask(&lbs[i % 2], "id=b", Some("ben")), ben);
    }
    // Nobody's certificate: nobody's pin.
    let strangers: Vec<_> = (0..4).map(|_| ask(&lbs[1], "id=b", None)).collect();
    assert!(strangers.contains(&"a".to_owned()) && strangers.contains(&"b".to_owned()), "{strangers:?}");
    let keys: Vec<_> = lbs[1].pins("names").into_iter().map(|(key, _)| key).collect();
    assert_eq!(keys, ["ann", "b"]);
}
