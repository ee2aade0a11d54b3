//! Our own answers and what goes with them: pages, maintenance, passwords, ids of requests; answers compressed.
use crate::app;
use lb_tests::origin::Reply;
use lb_tests::{Answer, Instance, Origin, eventually, lb};
use std::io::{Read, Write};
use std::net::Shutdown;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tempfile::TempDir;

fn with_frontend(origins: &[&Origin], frontend: &str, backend: &str) -> String {
    app(origins, backend).replacen("backend = \"app\"\n", &format!("backend = \"app\"\n{frontend}\n"), 1)
}

fn write(dir: &TempDir, name: &str, text: &str) -> String {
    let path = dir.path().join(name);
    std::fs::write(&path, text).expect("a file");
    path.display().to_string()
}

fn head(lb: &Instance, target: &str) -> Answer {
    let mut client = lb.client();
    client.send(format!("HEAD {target} HTTP/1.1\r\nHost: test\r\n\r\n"));
    client.answer_to(true).expect("a proper answer")
}

fn curl(args: &[&str]) -> String {
    let output = Command::new("curl").args(["-s", "-m", "20"]).args(args).output().expect("curl runs");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn our_own_answers_are_pages_of_the_configuration() {
    let dir = TempDir::new().expect("a directory");
    let page = |name: &str, text: &str| write(&dir, name, text);
    let (down, class, json) =
        (page("down.html", "<p>down"), page("5xx.html", "<p>5xx"), page("404.json", "{\"no\":1}"));
    let bad = page("bad.txt", "bad");
    let a = Origin::raw(|stream| drop(stream.shutdown(Shutdown::Both)));
    let config = with_frontend(
        &[&a],
        &format!("error_pages = {{ 5xx = \"{class}\", 404 = \"{json}\", bad-host = \"{bad}\" }}\nroutes = [{{ host = \"x\", backend = \"app\" }}, {{ host = \"dead\", backend = \"dead\" }}]"),
        "",
    )
    .replacen("backend = \"app\"\nerror", "error", 1);
    let free = lb_tests::instance::free_port();
    let dead = format!(
        "[backend.dead]\nretries = 0\nerror_pages = {{ connect-failed = \"{down}\" }}\n\
         server = [{{ name = \"n\", addr = \"127.0.0.1:{free}\" }}]\n"
    );
    let lb = Instance::start(&(config + &dead));
    let ask = |host: &str| {
        let mut client = lb.client();
        client.send(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        let answer = client.answer().expect("an answer");
        (answer.status, answer.value("Content-Type").unwrap_or("").to_owned(), answer.text())
    };
    assert_eq!(ask("nobody"), (404, "application/json".into(), "{\"no\":1}".into()));
    assert_eq!(ask("x"), (502, "text/html; charset=utf-8".into(), "<p>5xx".into()));
    assert_eq!(ask("dead"), (503, "text/html; charset=utf-8".into(), "<p>down".into()));
    assert_eq!(ask("a b"), (400, "text/plain; charset=utf-8".into(), "bad".into()), "before any rule");
    let answer = head(&lb, "/");
    assert_eq!((answer.status, answer.value("Content-Length")), (404, Some("8")));
    // A page that changes counts from the next reload on; one that is missing changes nothing.
    std::fs::write(&json, "{}").expect("written");
    assert!(lb.cli(&["reload"]).status.success());
    assert_eq!(ask("nobody").2, "{}");
    std::fs::remove_file(&class).expect("removed");
    let refused = lb.cli(&["reload"]);
    let why = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && why.contains("5xx.html\" cannot be read"), "{why}");
    assert_eq!(ask("x").2, "<p>5xx", "what was read is still sent");
}

#[test]
fn a_missing_file_is_found_by_lb_check_with_its_place() {
    let dir = TempDir::new().expect("a directory");
    let text = "[frontend.web]\nlisten = \"127.0.0.1:1\"\nbackend = \"app\"\nerror_pages = { 503 = \"none.html\" }\n\
                [backend.app]\nserver = [{ name = \"a\", addr = \"127.0.0.1:2\" }]\n";
    let path = write(&dir, "lb.toml", text);
    let check = |at: &Path| -> Output {
        Command::new(lb()).args(["check", "-c", &path]).current_dir(at).output().expect("lb runs")
    };
    let wrong = check(dir.path());
    let said = String::from_utf8_lossy(&wrong.stderr).into_owned();
    assert!(
        wrong.status.code() == Some(1) && said.contains("lb.toml:4:23: error: \"none.html\" cannot be read"),
        "{said}"
    );
    write(&dir, "none.html", "now");
    assert!(check(dir.path()).status.success());
}

#[test]
fn maintenance_answers_everybody_but_those_exempt() {
    let dir = TempDir::new().expect("a directory");
    let page = write(&dir, "m.html", "<p>soon");
    let a = Origin::named("a");
    let frontend = format!(
        "trusted_proxies = \"127.0.0.0/8\"\nmaintenance = {{ page = \"{page}\", retry_after = \"90s\", exempt = \"10.0.0.0/8\" }}"
    );
    let lb = Instance::start(&with_frontend(&[&a], &frontend, "maintenance = false"));
    let mut client = lb.client();
    let answer = client.get("/", "");
    assert_eq!((answer.status, answer.value("Retry-After"), answer.text().as_str()), (503, Some("90"), "<p>soon"));
    assert_eq!((head(&lb, "/").status, head(&lb, "/").value("Content-Length")), (503, Some("7")));
    assert_eq!(client.get("/", "X-Forwarded-For: 10.0.0.9\r\n").text(), "a");
    lb.edit(|text| {
        text.replace("{ page", "{ enabled = false, page").replace("maintenance = false", "maintenance = true")
    });
    assert!(lb.cli(&["reload"]).status.success());
    let answer = client.get("/", "");
    assert_eq!(
        (answer.status, answer.text().as_str()),
        (503, "503 Service Unavailable: maintenance\n"),
        "the backend's"
    );
    lb.edit(|text| text.replace("maintenance = true", "maintenance = false"));
    assert!(lb.cli(&["reload"]).status.success());
    assert_eq!(client.get("/", "").text(), "a");
    eventually("the log has the reason", || lb.access().contains("\"end\":\"maintenance\""));
}

/// What `lb hash-password` makes of a password.
fn hash(password: &str) -> String {
    let mut child = Command::new(lb())
        .args(["hash-password", "--cost", "5"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("lb runs");
    child.stdin.take().expect("a pipe").write_all(format!("{password}\n").as_bytes()).expect("written");
    let output = child.wait_with_output().expect("it ends");
    assert!(output.status.success());
    String::from_utf8(output.stdout).expect("text").trim().to_owned()
}

#[test]
fn a_password_is_asked_for_and_whoever_has_it_is_named_to_the_server() {
    let dir = TempDir::new().expect("a directory");
    let users = write(
        &dir,
        "users",
        "carl:$6$saltstring$svn8UoSVapNtMuq1ukKS4tPQd8iKwSMHWjl/O817G3uBnIFNjnQJuesI68u4OTLiBFdcbYEdFCoEOfaS35inz1\n",
    );
    let a =
        Origin::answering(|seen| Reply::Body(format!("{:?} {:?}", seen.value("X-User"), seen.value("Authorization"))));
    let frontend = "request = [{ if = { path_prefix = \"/admin\" }, auth = \"admins\" }, { set_header = { X-User = \"%{user}\" } \
                    }, { remove_header = \"Authorization\" }]";
    let auth = format!(
        "[auth.admins]\nrealm = \"The back\"\nusers = {{ ann = \"{}\" }}\nfile = \"{users}\"\n",
        hash("p:ss w\u{f6}rd")
    );
    let lb = Instance::start(&(auth + &with_frontend(&[&a], frontend, "")));
    let url = |path: &str| format!("http://{}{path}", lb.addr);
    let asked = lb.client().get("/admin", "");
    assert_eq!(
        (asked.status, asked.value("WWW-Authenticate")),
        (401, Some("Basic realm=\"The back\", charset=\"UTF-8\""))
    );
    assert_eq!((head(&lb, "/admin").status, head(&lb, "/admin").value("WWW-Authenticate").is_some()), (401, true));
    let code = |user: &str| curl(&["-o", "/dev/null", "-w", "%{http_code}", "-u", user, &url("/admin")]);
    assert_eq!(curl(&["-u", "ann:p:ss w\u{f6}rd", &url("/admin")]), "Some(\"ann\") None");
    assert_eq!(curl(&["-u", "carl:Hello world!", &url("/admin")]), "Some(\"carl\") None");
    assert_eq!([code("ann:wrong"), code("bob:wrong"), code("ann:")], ["401", "401", "401"]);
    assert_eq!(lb.client().get("/", "X-User: ann\r\n").text(), "Some(\"\") None", "nobody names himself");
    let seen = a.seen().len();
    assert_eq!(seen, 3, "nobody without a password reaches the server");
    eventually("the log has user and rule", || {
        let log = lb.access();
        log.contains("\"user\":\"carl\"") && log.contains("\"why\":\"request[0]\"") && log.contains("\"end\":\"auth\"")
    });
    // What was right is not computed again: the second hundred costs next to nothing.
    let mut client = lb.client();
    let right = "Authorization: Basic YW5uOnA6c3Mgd8O2cmQ=\r\n";
    assert_eq!(client.get("/admin", right).status, 200);
    let before = lb.cpu();
    assert!((0..100).all(|_| client.get("/admin", right).status == 200));
    assert!(lb.cpu() - before < Duration::from_secs(2), "{:?}", lb.cpu() - before);
}

#[test]
fn hashes_that_are_computed_hold_nobody_else_up() {
    let a = Origin::named("a");
    // A cost at which one takes tens of milliseconds even where the hash is fast.
    let slow = "$2y$12$iroNLbvHQpUa6IXzK1W2bOkRSOUK0zEppKHWHJ.o9FmzIux7uyIUm";
    let auth = format!("[auth.admins]\nusers = {{ ann = \"{slow}\" }}\n");
    let frontend = "request = [{ if = { path = \"/admin\" }, auth = \"admins\" }]";
    let lb = Instance::start(&(auth + &with_frontend(&[&a], frontend, "")));
    let mut asking: Vec<_> = (0..20).map(|_| lb.client()).collect();
    for (i, client) in asking.iter_mut().enumerate() {
        let wrong = ["YW5uOng=", "YW5uOnk="][i % 2];
        client.send(format!("GET /admin HTTP/1.1\r\nHost: t\r\nAuthorization: Basic {wrong}\r\n\r\n"));
    }
    let mut others: Vec<_> = (0..4).map(|_| lb.client()).collect();
    let began = Instant::now();
    for _ in 0..5 {
        assert!(others.iter_mut().all(|client| client.get("/", "").status == 200));
    }
    let took = began.elapsed();
    assert!(asking.iter_mut().all(|client| client.answer().is_some_and(|a| a.status == 401)));
    assert!(took < began.elapsed() / 2, "the others took {took:?} of {:?}", began.elapsed());
}

#[test]
fn a_request_has_one_id_for_the_log_the_server_and_the_client() {
    let a = Origin::answering(|seen| Reply::Body(seen.value("X-Trace").unwrap_or("none").into()));
    let frontend = "trusted_proxies = \"127.0.0.0/8\"\nrequest_id = { header = \"X-Trace\", answer = true }\n\
                    request = [{ if = { path = \"/no\" }, deny = 404 }, { set_header = { X-Copy = \"%{id}\" } }]";
    let lb = Instance::start(&with_frontend(&[&a], frontend, ""));
    let mut client = lb.client();
    let (one, two) = (client.get("/", ""), client.get("/", ""));
    assert_eq!((one.value("X-Trace"), one.text().len()), (Some(one.text().as_str()), 36));
    assert_ne!(one.text(), two.text());
    assert_eq!(a.seen()[0].value("X-Copy"), one.value("X-Trace"));
    eventually("it is in the log", || lb.access().contains(&format!("\"id\":\"{}\"", one.text())));
    assert_eq!(client.get("/", "X-Trace: from-the-edge.1\r\n").text(), "from-the-edge.1");
    assert_eq!(client.get("/", "X-Trace: a b\r\n").text().len(), 36, "what may not stand in a log is no id");
    assert_eq!(client.get("/no", "X-Trace: t1\r\n").value("X-Trace"), Some("t1"), "our own answers have it, too");
    lb.edit(|text| text.replace("trusted_proxies = \"127.0.0.0/8\"", "").replace(", answer = true", ""));
    assert!(lb.cli(&["reload"]).status.success());
    let strangers = client.get("/", "X-Trace: mine\r\n");
    assert_eq!((strangers.text().len(), strangers.value("X-Trace")), (36, None), "a stranger's id is not taken");
    assert_eq!(a.seen().last().map(|s| s.head.matches("X-Trace").count()), Some(1));
}

#[test]
fn answers_are_compressed_for_those_who_take_it_and_stay_what_they_are() {
    let text = "the same words again and again. ".repeat(2000);
    let body = text.clone();
    let a = Origin::answering(move |seen| {
        let fields = "Content-Type: text/plain\r\nETag: \"v1\"\r\nAccept-Ranges: bytes\r\n";
        let path = seen.head.split(' ').nth(1).unwrap_or("");
        let chunk =
            |out: &mut Vec<u8>, part: &str| out.extend_from_slice(format!("{:x}\r\n{part}\r\n", part.len()).as_bytes());
        match path {
            "/chunked" => {
                let mut out = format!("HTTP/1.1 200 OK\r\n{fields}Transfer-Encoding: chunked\r\n\r\n").into_bytes();
                body.as_bytes().chunks(1000).for_each(|part| chunk(&mut out, std::str::from_utf8(part).unwrap_or("")));
                out.extend_from_slice(b"0\r\n\r\n");
                Reply::Keep(out)
            }
            "/close" => Reply::Raw(format!("HTTP/1.1 200 OK\r\n{fields}\r\n{body}").into_bytes()),
            "/empty" => Reply::With(fields.into(), String::new()),
            "/304" => Reply::Keep(format!("HTTP/1.1 304 Not Modified\r\n{fields}\r\n").into_bytes()),
            "/part" => Reply::Keep(
                format!(
                    "HTTP/1.1 206 Partial Content\r\n{fields}Content-Range: bytes 0-1/9\r\nContent-Length: 2\r\n\r\nab"
                )
                .into_bytes(),
            ),
            "/br" => Reply::With(format!("{fields}Content-Encoding: br\r\n"), body.clone()),
            "/png" => Reply::With("Content-Type: image/png\r\n".into(), body.clone()),
            "/small" => Reply::With(fields.into(), "small".into()),
            "/as-is" => Reply::With(format!("{fields}Cache-Control: no-transform\r\n"), body.clone()),
            _ if seen.head.starts_with("HEAD") => {
                Reply::Keep(format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: {}\r\n\r\n", body.len()).into_bytes())
            }
            _ => Reply::With(fields.into(), body.clone()),
        }
    });
    let lb = Instance::start(&app(&[&a], "compression = true\nresponse = [{ set_header = { X-Rule = \"1\" } }]"));
    let mut client = lb.client();
    let gzip = "Accept-Encoding: br;q=0.5, gzip\r\n";
    for path in ["/", "/chunked", "/close"] {
        let answer = client.get(path, gzip);
        assert_eq!(
            (answer.value("Content-Encoding"), answer.value("Vary")),
            (Some("gzip"), Some("Accept-Encoding")),
            "{path}"
        );
        assert_eq!((answer.value("ETag"), answer.value("Content-Length")), (Some("W/\"v1\""), None), "{path}");
        assert_eq!((answer.value("Accept-Ranges"), answer.value("X-Rule")), (None, Some("1")), "{path}");
        assert!(answer.body.len() < text.len() / 20, "{} bytes", answer.body.len());
        // Somebody else reads it.
        let read = curl(&["--compressed", &format!("http://{}{path}", lb.addr)]);
        assert!(read == text, "{path}: {} of {} bytes", read.len(), text.len());
    }
    for (path, vary) in [
        ("/empty", true),
        ("/304", false),
        ("/part", false),
        ("/br", false),
        ("/png", false),
        ("/small", false),
        ("/as-is", false),
    ] {
        let answer = client.get(path, gzip);
        assert_ne!(answer.value("Content-Encoding"), Some("gzip"), "{path}");
        assert_eq!(answer.value("Vary").is_some(), vary, "{path}");
    }
    let plain = client.get("/", "Accept-Encoding: gzip;q=0, identity\r\n");
    assert_eq!(
        (plain.value("Content-Encoding"), plain.value("Vary"), plain.value("ETag")),
        (None, Some("Accept-Encoding"), Some("\"v1\""))
    );
    assert_eq!(plain.text(), text);
    let answer = {
        client.send(format!("HEAD / HTTP/1.1\r\nHost: t\r\n{gzip}\r\n"));
        client.answer_to(true).expect("an answer")
    };
    assert_eq!((answer.value("Content-Encoding"), answer.value("Vary")), (None, Some("Accept-Encoding")));
    client.send(format!("GET / HTTP/1.0\r\nHost: t\r\n{gzip}\r\n"));
    assert_eq!(client.answer().map(|a| a.text() == text), Some(true), "HTTP/1.0 has no chunks");
}

#[test]
fn clients_and_the_operator_choose_between_zstd_brotli_and_gzip() {
    let text = "the same words again and again. ".repeat(2000);
    let body = text.clone();
    let a = Origin::answering(move |_| Reply::With("Content-Type: text/plain\r\n".into(), body.clone()));
    let config = app(&[&a], "compression = true").replace("[LISTEN]", "[{ addr = LISTEN, h2c = true }]");
    let lb = Instance::start(&config);
    let url = format!("http://{}/", lb.addr);
    let dir = TempDir::new().expect("a directory");
    let heads = dir.path().join("heads").display().to_string();
    // What curl says that it takes, what it then gets, and whether it reads that as the server meant it.
    let chosen = |version: &str, accepts: &str| {
        let field = format!("Accept-Encoding: {accepts}");
        let read = curl(&[version, "--compressed", "-H", &field, "-D", &heads, &url]);
        assert!(read == text, "{version} {accepts}: {} of {} bytes", read.len(), text.len());
        let head = std::fs::read_to_string(&heads).expect("heads").to_ascii_lowercase();
        let line = head.lines().find_map(|line| line.strip_prefix("content-encoding: "));
        assert!(head.contains("vary: accept-encoding"), "{head}");
        line.unwrap_or("plain").to_owned()
    };
    let versions = ["--http1.1", "--http2-prior-knowledge"];
    for version in versions {
        for (accepts, encoding) in [
            ("gzip, deflate, br, zstd", "zstd"),
            ("gzip, deflate, br", "br"),
            ("gzip, deflate", "gzip"),
            ("deflate", "plain"),
            ("zstd;q=0.1, br;q=0.2, gzip;q=0.3", "gzip"),
            ("zstd;q=0, *;q=0.5", "br"),
            ("identity, br;q=0.9", "plain"),
        ] {
            assert_eq!(chosen(version, accepts), encoding, "{version} {accepts}");
        }
    }
    // The browser's own words, with the operator's order.
    lb.edit(|text| text.replace("compression = true", "compression = { encodings = [\"br\", \"gzip\"], level = 9 }"));
    assert!(lb.cli(&["reload"]).status.success());
    for version in versions {
        assert_eq!(chosen(version, "gzip, deflate, br, zstd"), "br", "{version}");
        assert_eq!(chosen(version, "zstd"), "plain", "{version}");
    }
}

#[test]
fn node_reads_brotli_and_gzip() {
    let text = "the same words again and again. ".repeat(2000);
    let body = text.clone();
    let a = Origin::answering(move |_| Reply::With("Content-Type: application/json\r\n".into(), body.clone()));
    for encoding in ["gzip", "br"] {
        let lb = Instance::start(&app(&[&a], &format!("compression = {{ encodings = \"{encoding}\" }}")));
        let script = "fetch(process.argv[1], { headers: { 'accept-encoding': process.argv[2] } }).then(async r => \
                      process.stdout.write(r.headers.get('content-encoding') + ' ' + await r.text()))";
        let url = format!("http://{}/", lb.addr);
        let output = Command::new("node").args(["-e", script, &url, encoding]).output().expect("node");
        let read = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(read == format!("{encoding} {text}"), "{encoding}: {} bytes", read.len());
    }
}

#[test]
fn rules_and_compression_are_the_same_over_http2() {
    let text = "the same words again and again. ".repeat(2000);
    let body = text.clone();
    let a = Origin::answering(move |_| Reply::With("Content-Type: text/plain\r\n".into(), body.clone()));
    let frontend = "request_id = { answer = true }\nrequest = [{ if = { path = \"/no\" }, deny = 403 }, { if = { path = \
                    \"/old\" }, redirect = { path = \"/new\" } }, { set_header = { X-Src = \"%{src}\" } }]\n\
                    response = [{ set_header = { X-Rule = \"%{path}\" } }]";
    let config = with_frontend(&[&a], frontend, "compression = true");
    let lb = Instance::start(&config.replace("[LISTEN]", "[{ addr = LISTEN, h2c = true }]"));
    let h2 = |args: &[&str], path: &str| {
        let url = format!("http://{}{path}", lb.addr);
        curl(&[&["--http2-prior-knowledge"], args, &[&url]].concat())
    };
    assert!(h2(&["--compressed"], "/x") == text);
    assert!(h2(&[], "/x") == text, "plain for those who do not ask");
    let head = h2(&["--compressed", "-o", "/dev/null", "-D", "-"], "/x");
    for line in ["HTTP/2 200", "content-encoding: zstd", "vary: Accept-Encoding", "x-rule: /x", "x-request-id: "] {
        assert!(head.to_lowercase().contains(&line.to_lowercase()), "{line}\n{head}");
    }
    assert_eq!(a.seen()[0].value("X-Src"), Some("127.0.0.1"));
    let (denied, moved) = (h2(&["-i"], "/no"), h2(&["-I"], "/old"));
    assert!(denied.starts_with("HTTP/2 403") && denied.ends_with("403 Forbidden: deny\n"), "{denied}");
    assert!(moved.starts_with("HTTP/2 302") && moved.contains("location: /new\r\n"), "{moved}");
}

#[test]
fn an_event_stream_that_is_compressed_is_not_held_back() {
    ["zstd", "br", "gzip"].into_iter().for_each(streamed);
}

fn streamed(encoding: &str) {
    let (go, gate) = mpsc::channel::<()>();
    let gate = Arc::new(Mutex::new(gate));
    let a = Origin::raw(move |mut stream| {
        let mut buf = [0; 4096];
        drop(stream.read(&mut buf));
        drop(
            stream
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"),
        );
        while gate.lock().is_ok_and(|gate| gate.recv().is_ok()) {
            let event = "data: tick\n\n";
            drop(stream.write_all(format!("{:x}\r\n{event}\r\n", event.len()).as_bytes()));
        }
        drop(stream.write_all(b"0\r\n\r\n"));
    });
    let lb = Instance::start(&app(&[&a], "compression = true"));
    let field = format!("Accept-Encoding: {encoding}");
    let mut curl = Command::new("curl")
        .args(["-sN", "--compressed", "-H", &field, &format!("http://{}/", lb.addr)])
        .stdout(Stdio::piped())
        .spawn()
        .expect("curl runs");
    let mut out = curl.stdout.take().expect("a pipe");
    for _ in 0..3 {
        go.send(()).expect("the server waits");
        // Each event comes while the next is not sent yet.
        let mut event = [0; 12];
        out.read_exact(&mut event).expect(encoding);
        assert_eq!(&event, b"data: tick\n\n");
    }
    drop(go);
    assert_eq!(out.read(&mut [0; 1]).ok(), Some(0), "and the end is an end");
    assert!(curl.wait().is_ok_and(|status| status.success()));
}

#[test]
fn answers_that_are_being_compressed_hold_little_memory_at_any_level() {
    // A text that nothing in it makes short, and then silence.
    let mut seed = 7u32;
    let text: Vec<u8> = (0..400_000)
        .map(|_| {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            b' ' + (seed >> 24) as u8 % 64
        })
        .collect();
    let a = Origin::raw(move |mut stream| {
        drop(stream.read(&mut [0; 4096]));
        let head = format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n", text.len() + 1);
        drop(stream.write_all(head.as_bytes()));
        drop(stream.write_all(&text));
        drop(stream.read(&mut [0; 1]));
    });
    for (encoding, most) in [("gzip", 2), ("zstd", 5), ("br", 12)] {
        let compression = format!("compression = {{ encodings = \"{encoding}\", level = 9 }}");
        let lb = Instance::start(&app(&[&a], &compression));
        let before = lb.memory();
        let clients: Vec<_> = (0..20)
            .map(|_| {
                let mut client = lb.client();
                client.send(format!("GET / HTTP/1.1\r\nHost: t\r\nAccept-Encoding: {encoding}\r\n\r\n"));
                // Nearly all of it has come: 64 signs are 6 of 8 bits.
                assert!(client.read(290_000).is_some(), "{encoding}");
                client
            })
            .collect();
        let held = lb.memory().saturating_sub(before) / clients.len();
        assert!(held < most << 20, "{encoding}: {held} bytes for each answer");
    }
}

#[test]
fn a_compressed_answer_that_breaks_off_is_not_taken_for_whole() {
    let a = Origin::raw(|mut stream| {
        let mut buf = [0; 4096];
        drop(stream.read(&mut buf));
        drop(stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5000\r\n\r\nhalf"));
        drop(stream.shutdown(Shutdown::Both));
    });
    let lb = Instance::start(&app(&[&a], "compression = true"));
    for encoding in ["zstd", "br", "gzip"] {
        let mut client = lb.client();
        client.send(format!("GET / HTTP/1.1\r\nHost: t\r\nAccept-Encoding: {encoding}\r\n\r\n"));
        assert!(client.answer().is_none());
        assert!(client.closed());
    }
}
