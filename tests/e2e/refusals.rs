//! Configurations that nobody can run: `lb check` and `lb run` say where and why, and a reload with one changes nothing.
use crate::servers;
use lb_tests::dns::Dns;
use lb_tests::instance::free_port;
use lb_tests::pki::Pki;
use lb_tests::{Instance, Origin, lb};
use std::net::TcpListener;
use std::process::Command;

/// What a case is about: text for the frontend's and the backend's place and behind both, with the key at a `¦`.
struct Case {
    listen: &'static str,
    backend: &'static str,
    top: &'static str,
    message: &'static str,
}

/// A listener with TLS.
const TLS: &str = "[{ addr = LISTEN, tls = { cert = \"DIR/site.pem\" } }]";

/// What is wrong with files and words: `lb check` sees it.
const FILES: [Case; 13] = [
    Case {
        listen: "[{ addr = LISTEN, tls = { cert = ¦\"DIR/gone.pem\" } }]",
        message: "gone.pem cannot be read",
        ..PLAIN
    },
    Case {
        listen: "[{ addr = LISTEN, tls = { cert = ¦[\"DIR/site.pem\", \"DIR/ca.txt\"] } }]",
        message: "ca.txt holds no PEM certificate",
        ..PLAIN
    },
    Case {
        listen: "[{ addr = LISTEN, tls = { cert = ¦\"DIR/mixed.pem\" } }]",
        message: "private key does not fit it",
        ..PLAIN
    },
    Case {
        listen: "[{ addr = LISTEN, tls = { cert = \"DIR/site.pem\", key = ¦\"DIR/gone.key\" } }]",
        message: "gone.key cannot be read",
        ..PLAIN
    },
    Case {
        listen: "[{ addr = LISTEN, tls = { cert = \"DIR/site.pem\", client_ca = ¦\"DIR/gone.pem\" } }]",
        message: "client_ca: ",
        ..PLAIN
    },
    Case {
        listen: "[{ addr = LISTEN, tls = { cert = \"DIR/site.pem\", min_version = ¦\"1.1\" } }]",
        message: "\"1.1\" is no value",
        ..PLAIN
    },
    Case {
        listen: "[{ addr = LISTEN, tls = { cert = \"DIR/site.pem\" }, alpn = ¦\"spdy\" }]",
        message: "\"spdy\" is no protocol",
        ..PLAIN
    },
    Case { listen: TLS, top: "[tls]\nticket_keys = ¦\"DIR/gone.key\"", message: "tls.ticket_keys: ", ..PLAIN },
    Case { backend: "tls = { ca = ¦\"DIR/gone.pem\" }\nSERVERS", message: "backend \"app\": tls: ca: ", ..PLAIN },
    Case {
        backend: "server = [{ name = \"a\", addr = \"127.0.0.1:1\", tls = { ca = ¦\"DIR/gone.pem\" } }]",
        message: "tls: ca: ",
        ..PLAIN
    },
    Case {
        backend: "check = { tcp = true, tls = { ca = ¦\"DIR/gone.pem\" } }\nSERVERS",
        message: "check.tls.ca",
        ..PLAIN
    },
    Case {
        backend: "sticky = [{ cookie = \"S\", insert = true, value = \"sealed\", keys = [¦\"file:DIR/gone.key\"] }]\nSERVERS",
        message: "gone.key\" cannot be read",
        ..PLAIN
    },
    Case {
        top: "[jwt]\nkeys = [\"file:DIR/token.key\", ¦\"file:DIR/gone.pem\"]",
        message: "gone.pem\" cannot be read",
        ..PLAIN
    },
];

/// What only this machine and this network know: a start and a reload see it.
const PLACES: [Case; 4] = [
    Case { listen: "[LISTEN, ¦\"127.0.0.1:TAKEN\"]", message: "Somebody listens there already", ..PLAIN },
    Case { listen: "[LISTEN, ¦\"unix:/nowhere/web.sock\"]", message: "The directory /nowhere must be there", ..PLAIN },
    Case { listen: "[LISTEN, ¦\"192.0.2.1:80\"]", message: "This machine has no address 192.0.2.1", ..PLAIN },
    Case {
        backend: "resolver = \"DNS\"\nserver = [{ name = \"a\", addr = ¦\"nobody.test:80\" }]",
        message: "nobody.test:80 has no address",
        ..PLAIN
    },
];

const PLAIN: Case = Case { listen: "[LISTEN]", backend: "SERVERS", top: "", message: "" };

/// Files, a port that is taken, a name server that knows nothing, and a server.
struct World {
    pki: Pki,
    origin: Origin,
    taken: TcpListener,
    dns: Dns,
}

impl World {
    fn new() -> Self {
        let pki = Pki::new();
        pki.issue("site.pem", &["shop.example"]);
        pki.issue("other.pem", &["other.example"]);
        let read = |file: &str| std::fs::read_to_string(pki.path(file)).expect("a file");
        let split = |text: &str| text.find("-----BEGIN PRIVATE").expect("a key");
        let (site, other) = (read("site.pem"), read("other.pem"));
        pki.write("mixed.pem", &format!("{}{}", &site[..split(&site)], &other[split(&other)..]));
        pki.write("ca.txt", "no certificate\n");
        pki.write("token.key", "a shared secret for tokens\n");
        let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
        Self { pki, origin: Origin::named("a"), taken, dns: Dns::start(Vec::new()) }
    }

    /// The case as text, its mark still in it.
    fn text(&self, case: &Case) -> String {
        let port = self.taken.local_addr().expect("bound").port();
        format!(
            "[frontend.web]\nlisten = {}\nbackend = \"app\"\n[backend.app]\n{}\n{}\n",
            case.listen, case.backend, case.top
        )
        .replace("SERVERS", &servers(&[&self.origin]))
        .replace("DIR", &self.pki.text(""))
        .replace("TAKEN", &port.to_string())
        .replace("DNS", &self.dns.addr.to_string())
    }
}

/// The text without its mark, and where that stood as an error says it.
fn unmarked(text: &str) -> (String, String) {
    let (before, after) = text.split_once('¦').expect("a mark");
    let line = before.matches('\n').count() + 1;
    let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
    (format!("{before}{after}"), format!("lb.toml:{line}:{column}: error: "))
}

/// What `lb check` or `lb run` says of this file, which it refuses.
fn refused(world: &World, command: &str, text: &str) -> String {
    let admin = format!("[admin]\nlisten = \"127.0.0.1:{}\"\n", free_port());
    world.pki.write("lb.toml", &format!("{text}{admin}"));
    let output = Command::new(lb()).args([command, "-c", &world.pki.text("lb.toml")]).output().expect("lb runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{command} of\n{text}\n{said}");
    said
}

fn says(said: &str, place: &str, case: &Case) {
    let line = said.lines().find(|line| line.contains(place)).unwrap_or_else(|| panic!("no {place} in\n{said}"));
    assert!(line.contains(case.message), "no {:?} in\n{said}", case.message);
    assert_eq!(said.matches(": error: ").count(), 1, "{said}");
}

#[test]
fn a_file_or_word_that_is_of_no_use_is_told_by_check_and_run_with_line_and_column() {
    let world = World::new();
    let peers = Case {
        top: "[peers]\ncluster = \"c\"\nlisten = \"127.0.0.1:0\"\n\
              tls = { ca = ¦\"DIR/gone.pem\", cert = \"DIR/site.pem\", key = \"DIR/site.pem\" }",
        message: "peers.tls: ca: ",
        ..PLAIN
    };
    for case in FILES.iter().chain([&peers]) {
        let listen = format!("\"127.0.0.1:{}\"", free_port());
        let (text, place) = unmarked(&world.text(case).replace("LISTEN", &listen));
        for command in ["check", "run"] {
            says(&refused(&world, command, &text), &place, case);
        }
    }
}

#[test]
fn an_address_or_name_that_cannot_be_had_is_told_by_run_with_line_and_column() {
    let world = World::new();
    for case in &PLACES {
        let listen = format!("\"127.0.0.1:{}\"", free_port());
        let (text, place) = unmarked(&world.text(case).replace("LISTEN", &listen));
        says(&refused(&world, "run", &text), &place, case);
    }
    let log = Case { message: "/nowhere/access.log", ..PLAIN };
    let text = format!(
        "[log]\naccess = ¦\"/nowhere/access.log\"\n{}",
        world.text(&PLAIN).replace("LISTEN", "\"127.0.0.1:0\"")
    );
    let (text, place) = unmarked(&text);
    says(&refused(&world, "run", &text), &place, &log);
}

#[test]
fn a_reload_with_any_of_them_says_the_same_and_swaps_nothing() {
    let world = World::new();
    let lb = Instance::start(&world.text(&PLAIN));
    let listen = format!("\"{}\"", lb.addr);
    let generation = || lb.api("/api/status")["generation"].as_u64().expect("a generation");
    let before = generation();
    for case in FILES.iter().chain(&PLACES) {
        let mut place = String::new();
        lb.edit(|text| {
            let prelude = &text[..text.find("[frontend.web]").expect("the frontend")];
            let (text, at) = unmarked(&format!("{prelude}{}", world.text(case).replace("LISTEN", &listen)));
            place = at;
            text
        });
        let output = lb.cli(&["reload"]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{said}");
        let line = said.lines().find(|line| line.contains(&place)).unwrap_or_else(|| panic!("no {place} in\n{said}"));
        assert!(line.contains(case.message), "no {:?} in\n{said}", case.message);
        assert_eq!((generation(), lb.client().get("/", "").text().as_str()), (before, "a"));
    }
    lb.edit(|text| {
        let prelude = &text[..text.find("[frontend.web]").expect("the frontend")];
        format!("{prelude}{}", world.text(&PLAIN).replace("LISTEN", &listen))
    });
    assert!(lb.cli(&["reload"]).status.success(), "what is right again is taken on");
    assert_eq!(generation(), before + 1);
}

#[test]
fn check_warns_of_sections_that_nothing_names() {
    let world = World::new();
    let text = world.text(&PLAIN).replace("LISTEN", "\"127.0.0.1:1\"");
    world.pki.write("lb.toml", &format!("{text}[table.idle]\ntype = \"ip\"\n"));
    let output = Command::new(lb()).args(["check", "-c", &world.pki.text("lb.toml")]).output().expect("lb runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let line = text.matches('\n').count() + 1;
    assert_eq!(output.status.code(), Some(0), "it is no mistake: {said}");
    assert!(said.contains(&format!("lb.toml:{line}:8: `table.idle` is not used")), "{said}");
}
