//! Rules that answer by themselves, rules that replace a part of a field's value, and bodies that are too long.
use lb_tests::origin::Reply;
use lb_tests::{Instance, Origin, eventually};
use std::process::Command;
use tempfile::TempDir;

/// A frontend that takes HTTP/1.1 and HTTP/2 with these lines, and a backend `app` with those.
fn config(origin: &Origin, frontend: &str, backend: &str) -> String {
    format!(
        "[frontend.web]\nlisten = [{{ addr = LISTEN, h2c = true }}]\nbackend = \"app\"\n{frontend}\n\
         [backend.app]\n{backend}\nserver = [{{ name = \"node1\", addr = \"{}\" }}]\n",
        origin.addr
    )
}

fn curl(args: &[&str]) -> String {
    let output =
        Command::new("curl").args(["-s", "-m", "20"]).args(args).output().expect("curl, installed by tests/run");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

const VERSIONS: [&str; 2] = ["--http1.1", "--http2-prior-knowledge"];

#[test]
fn a_rule_answers_by_itself_over_both_versions_of_http() {
    let dir = TempDir::new().expect("a directory");
    let file = dir.path().join("robots.txt");
    std::fs::write(&file, "User-agent: *\n%{src} <stays>\n").expect("written");
    let a = Origin::named("a");
    let frontend = format!(
        r#"
request = [
  {{ if = {{ path = "/ping" }}, return = {{ text = "pong\n" }} }},
  {{ if = {{ path = "/me" }}, return = {{ content_type = "application/json", text = '{{"ip":"%{{src}}","ua":"%{{header(User-Agent)}}"}}', headers = {{ Cache-Control = "no-store", X-Path = "%{{path}}" }} }} }},
  {{ if = {{ path = "/page" }}, return = {{ status = 404, content_type = "text/html", text = "<p>%{{header(X-Q)}}</p>" }} }},
  {{ if = {{ path = "/robots.txt" }}, return = {{ file = "{}" }} }},
  {{ if = {{ path = "/none" }}, return = {{ status = 204 }} }},
]
response = [{{ set_header = {{ X-Rule = "1" }} }}]"#,
        file.display()
    );
    let backend = "request = [{ if = { path = \"/soon\" }, return = { status = 503, text = \"soon\", headers = { Retry-After = \"7\" } } }]";
    let lb = Instance::start(&config(&a, &frontend, backend));
    let url = |path: &str| format!("http://{}{path}", lb.addr);
    for version in VERSIONS {
        assert_eq!(curl(&[version, &url("/ping")]), "pong\n", "{version}");
        let head = curl(&[version, "-D", "-", "-o", "/dev/null", &url("/ping")]).to_lowercase();
        for line in [" 200", "content-type: text/plain; charset=utf-8", "content-length: 5", "x-rule: 1"] {
            assert!(head.contains(line), "{line}\n{head}");
        }
        assert!(!head.contains("cache-control"), "{head}");
        let me = curl(&[version, "-A", "a\"b\\c", "-D", "-", &url("/me")]);
        let (head, body) = me.split_once("\r\n\r\n").expect("a head");
        let body: serde_json::Value = serde_json::from_str(body).expect(body);
        assert_eq!(body, serde_json::json!({ "ip": "127.0.0.1", "ua": "a\"b\\c" }));
        let head = head.to_lowercase();
        assert!(head.contains("cache-control: no-store") && head.contains("x-path: /me"), "{head}");
        assert_eq!(curl(&[version, "-H", "X-Q: <b>", "-w", "%{http_code}", &url("/page")]), "<p>&lt;b&gt;</p>404");
        assert_eq!(curl(&[version, &url("/robots.txt")]), "User-agent: *\n%{src} <stays>\n");
        let none = curl(&[version, "-i", &url("/none")]).to_lowercase();
        assert!(none.contains(" 204") && !none.contains("content-"), "{none}");
        let soon = curl(&[version, "-i", &url("/soon")]).to_lowercase();
        assert!(soon.contains(" 503") && soon.contains("retry-after: 7\r\n") && soon.ends_with("soon"), "{soon}");
        let head = curl(&[version, "-I", &url("/robots.txt")]).to_lowercase();
        assert!(head.contains("content-length: 29") && head.contains("text/plain"), "{head}");
        assert_eq!(curl(&[version, &url("/other")]), "a");
    }
    assert_eq!(a.seen().len(), 2, "what is answered here reaches no server");
    // The connection goes on; a request whose body was not read ends it.
    let mut client = lb.client();
    assert_eq!((client.get("/ping", "").status, client.get("/none", "").status), (200, 204));
    assert_eq!(client.get("/ping", "").text(), "pong\n");
    client.send("POST /ping HTTP/1.1\r\nHost: t\r\nContent-Length: 3\r\n\r\n");
    assert_eq!(client.answer().map(|a| (a.status, a.value("Connection") == Some("close"))), Some((200, true)));
    eventually("the log and the metrics have the rules", || {
        let (log, metrics) = (lb.access(), lb.admin_text("/metrics"));
        log.contains("\"end\":\"return\"")
            && log.contains("\"why\":\"app.request[0]\"")
            && metrics.contains("list=\"request\",rule=\"0\",action=\"return\"} 7")
    });
    // A file that changes counts from the next reload on.
    std::fs::write(&file, "new").expect("written");
    assert!(curl(&[&url("/robots.txt")]).starts_with("User-agent"));
    assert!(lb.cli(&["reload"]).status.success());
    assert_eq!(curl(&[&url("/robots.txt")]), "new");
}

#[test]
fn a_large_file_is_returned_whole() {
    let dir = TempDir::new().expect("a directory");
    let file = dir.path().join("large.bin");
    let body: Vec<u8> = (0..1u32 << 20).map(|n| (n * 7 % 251) as u8).collect();
    std::fs::write(&file, &body).expect("written");
    let a = Origin::named("a");
    let lb =
        Instance::start(&config(&a, &format!("request = [{{ return = {{ file = \"{}\" }} }}]", file.display()), ""));
    for version in VERSIONS {
        let url = format!("http://{}/", lb.addr);
        let output = Command::new("curl").args(["-s", "-m", "20", version, &url]).output().expect("curl");
        assert!(output.stdout == body, "{version}: {} bytes", output.stdout.len());
        let kind = curl(&["-I", version, &url]).to_lowercase();
        assert!(kind.contains("content-type: application/octet-stream"), "{kind}");
    }
}

#[test]
fn parts_of_values_are_replaced_both_ways() {
    let a = Origin::answering(|seen| {
        let fields = "Location: http://node1.internal:8080/x\r\nSet-Cookie: a=1; Path=/; HttpOnly\r\nSet-Cookie: b=2; \
                      Path=/app\r\nSet-Cookie: SERVERID=forged\r\nVary: Origin, Accept\r\nX-Same: same\r\n";
        Reply::With(fields.into(), seen.head.clone())
    });
    let frontend = r#"
request = [
  { replace_header = { User-Agent = { regex = '^(\w+)/.*$', to = "$1 from %{src}" } } },
  { set_header = { X-Set = "one two" } },
  { replace_header = { X-Set = { regex = "o", to = "0" }, X-Many = { regex = '\b192\.168\.' , to = "172.16." } } },
  { replace_header = { Cookie = { regex = "session=[^;]*", to = "session=gone" }, Host = { regex = '^old\.', to = "new." } } },
  { replace_header = { Referer = { regex = '[?].*' } } },
]
response = [{ replace_header = { Location = { regex = "^http://[^/]*", to = "https://%{host}" }, X-Same = { regex = "other", to = "x" } } }]"#;
    let backend = r#"sticky = [{ cookie = "SERVERID", insert = true, indirect = true }]
response = [{ replace_header = { Set-Cookie = { regex = "$", to = "; Secure; From=%{server}" }, Vary = { regex = ",.*" } } }]"#;
    let lb = Instance::start(&config(&a, frontend, backend));
    let url = format!("http://{}/", lb.addr);
    for version in VERSIONS {
        let answer = curl(&[
            version,
            "-i",
            "-A",
            "curl/7 (x)",
            "-e",
            "http://a/b?secret=1",
            "-H",
            "Host: old.example",
            "-H",
            "X-Many: 192.168.0.1, 10.0.0.1, 192.168.0.2",
            "-H",
            "X-Many: 192.168.0.3",
            "-b",
            "a=1; SERVERID=node1; session=abc; z=2",
            &url,
        ]);
        for line in [
            "User-Agent: curl from 127.0.0.1",
            "X-Set: 0ne tw0",
            "X-Many: 172.16.0.1, 10.0.0.1, 172.16.0.2",
            "X-Many: 172.16.0.3",
            "Cookie: a=1; session=gone; z=2",
            "Host: new.example",
            "Referer: http://a/b",
            "location: https://old.example/x",
            "set-cookie: a=1; Path=/; HttpOnly; Secure; From=node1",
            "set-cookie: b=2; Path=/app; Secure; From=node1",
            "vary: Origin",
            "x-same: same",
        ] {
            let found = answer.lines().filter(|l| l.eq_ignore_ascii_case(line)).count();
            assert_eq!(found, 1, "{version} {line}\n{answer}");
        }
        for gone in ["forged", "192.168", "session=abc", "SERVERID", "secret"] {
            assert!(!answer.contains(gone), "{version} {gone}\n{answer}");
        }
    }
    // What lb sets itself is not what the server sent.
    let fresh = curl(&["-i", &url]);
    let line = fresh.lines().find(|l| l.to_lowercase().starts_with("set-cookie: serverid=node1")).expect(&fresh);
    assert!(!line.contains("From"), "{line}");
}

#[test]
fn a_host_that_a_replacement_makes_is_a_host() {
    let a = Origin::answering(|seen| Reply::Body(seen.value("Host").unwrap_or("").to_owned()));
    let frontend = "request = [{ replace_header = { Host = { regex = '^(.*)$', to = \"%{query(h)}$1\" } } }]";
    let lb = Instance::start(&config(&a, frontend, ""));
    let url = |path: &str| format!("http://{}{path}", lb.addr);
    assert_eq!(curl(&["-H", "Host: a.example", &url("/?h=x.")]), "x.a.example");
    assert_eq!(curl(&["-o", "/dev/null", "-w", "%{http_code}", "-H", "Host: a", &url("/?h=x/")]), "400");
    assert_eq!(a.seen().len(), 1);
}

#[test]
fn a_body_that_is_longer_than_it_may_be_gets_413_and_never_reaches_the_server_whole() {
    let a = Origin::answering(|seen| Reply::Body(seen.body.len().to_string()));
    let frontend = "routes = [{ path_prefix = \"/upload\", backend = \"upload\" }]";
    let text = format!(
        "{}[backend.upload]\nserver = [{{ name = \"n\", addr = \"{}\" }}]\n",
        config(&a, frontend, "max_body = 100_000"),
        a.addr
    );
    let lb = Instance::start(&text);
    let dir = TempDir::new().expect("a directory");
    let body = |bytes: usize| {
        let file = dir.path().join(bytes.to_string());
        std::fs::write(&file, vec![b'x'; bytes]).expect("written");
        format!("@{}", file.display())
    };
    let (fits, more, twice, much) = (body(100_000), body(100_001), body(200_000), body(1_000_000));
    let post = |version: &str, path: &str, body: &str, fields: &[&str]| {
        let url = format!("http://{}{path}", lb.addr);
        let fields = fields.iter().flat_map(|field| ["-H", field]);
        let args: Vec<_> = [version, "-w", " %{http_code}", "--data-binary", body].into_iter().chain(fields).collect();
        curl(&[&args[..], &[&url]].concat())
    };
    let refused = "413 Payload Too Large: body-too-large\n";
    for version in VERSIONS {
        for framing in [&["Expect:"][..], &["Expect:", "Transfer-Encoding: chunked"], &[]] {
            let tell = format!("{version} {framing:?}");
            assert_eq!(post(version, "/", &fits, framing), "100000 200", "{tell}");
            assert_eq!(post(version, "/upload", &much, framing), "1000000 200", "{tell}");
            // A curl that is refused before it has sent all of a body over HTTP/2 does not show the answer.
            for long in [&more, &twice].into_iter().filter(|_| version == "--http1.1") {
                assert_eq!(post(version, "/", long, framing), format!("{refused} 413"), "{tell}");
            }
        }
    }
    for bytes in ["100001", "1000000"] {
        for length in [&["length"][..], &[]] {
            let port = lb.addr.port().to_string();
            let args = [&["foreign/h2_upload.py", &port, "/", bytes], length].concat();
            let python = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/foreign/venv/bin/python");
            let output = Command::new(python).args(args).output().expect("python, installed by tests/run");
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            assert_eq!(
                said,
                format!("413 {refused}"),
                "{bytes} {length:?} {}",
                String::from_utf8_lossy(&output.stderr)
            );
        }
    }
    let whole = |bytes: usize| a.seen().iter().filter(|seen| seen.body.len() == bytes).count();
    assert_eq!((whole(100_000), whole(1_000_000), whole(100_001)), (6, 6, 0));
    eventually("the log has the reason", || lb.access().contains("\"end\":\"body-too-large\""));
    assert_eq!(lb.client().get("/", "").text(), "0");
}
