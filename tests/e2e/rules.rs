//! Rules on requests and answers: what servers and clients see of them.
use lb_tests::origin::Reply;
use lb_tests::{Answer, Client, Instance, Origin, eventually};

/// A frontend with these lines, and a backend `app` with those.
fn config(origin: &Origin, frontend: &str, backend: &str) -> String {
    format!(
        "[table.clients]\ntype = \"string\"\nstore = [\"http_req_cnt\"]\n[frontend.web]\nlisten = [LISTEN]\nbackend = \"app\"\n\
         {frontend}\n[backend.app]\n{backend}\nserver = [{{ name = \"node1\", addr = \"{}\" }}]\n",
        origin.addr
    )
}

/// Answers with the request's head as the body.
fn mirror() -> Origin {
    Origin::answering(|seen| Reply::With("X-Powered-By: php\r\nCache-Control: max-age=5\r\n".into(), seen.head.clone()))
}

fn head(client: &mut Client, target: &str, fields: &str) -> Answer {
    client.send(format!("HEAD {target} HTTP/1.1\r\nHost: test\r\n{fields}\r\n"));
    client.answer_to(true).expect("a proper answer")
}

#[test]
fn routes_ask_for_paths_methods_headers_queries_cookies_sources_and_counters() {
    let origins =
        ["exact", "regex", "post", "agent", "query", "cookie", "source", "busy", "not", "rest"].map(Origin::named);
    let conditions = [
        "{ path = \"/exact\" }",
        "{ path_regex = '^/u/\\d+$', host_regex = '^TEST$' }, websocket = true",
        "{ method = [\"POST\", \"PUT\"] }",
        "{ header_regex = { User-Agent = \"(?i)bot/[0-9]\" } }",
        "{ query = { v = \"2\" } }",
        "{ cookie = { canary = \"yes\" } }",
        "{ src = \"10.0.0.0/8\", header = \"X-Forwarded-For\" }",
        "{ key = \"header(X-Key)\", table = \"clients\", when = \"http_req_cnt > 2\" }",
        "{ path_prefix = \"/not\", not = [{ header = \"X-A\" }, { tls = true }] }",
    ];
    let name = |i: usize| format!("b{i}");
    let routes: Vec<_> =
        conditions.iter().enumerate().map(|(i, c)| format!("{{ if = {c}, backend = \"{}\" }}", name(i))).collect();
    let backends: Vec<_> = origins
        .iter()
        .enumerate()
        .map(|(i, o)| format!("[backend.{}]\nserver = [{{ name = \"n\", addr = \"{}\" }}]\n", name(i), o.addr))
        .collect();
    let lb = Instance::start(&format!(
        "[table.clients]\ntype = \"string\"\nstore = [\"http_req_cnt\"]\n[frontend.web]\nlisten = [LISTEN]\n\
         backend = \"b9\"\ntrusted_proxies = \"127.0.0.0/8\"\n\
         limit = [{{ key = \"header(X-Key)\", table = \"clients\" }}]\nroutes = [{}]\n{}",
        routes.join(", ").replace("'^TEST$' }, websocket = true", "'^test$' }"),
        backends.concat()
    ));
    let mut client = lb.client();
    let mut get = |target: &str, fields: &str| client.get(target, fields).text();
    assert_eq!(
        (get("/exact", ""), get("/exact?q", ""), get("/exactly", "")),
        ("exact".into(), "exact".into(), "rest".into())
    );
    assert_eq!((get("/u/12", ""), get("/u/12/x", "")), ("regex".into(), "rest".into()));
    assert_eq!(get("/", "User-Agent: SomeBot/2\r\n"), "agent");
    assert_eq!((get("/?a&v=2", ""), get("/?v=22", "")), ("query".into(), "rest".into()));
    assert_eq!(
        (get("/", "Cookie: a=b; canary=yes\r\n"), get("/", "Cookie: canary=no\r\n")),
        ("cookie".into(), "rest".into())
    );
    let from = |ip: &str| format!("X-Forwarded-For: {ip}\r\n");
    assert_eq!((get("/", &from("10.1.2.3")), get("/", &from("11.1.2.3"))), ("source".into(), "rest".into()));
    let keyed: Vec<_> = (0..4).map(|_| get("/", "X-Key: ann\r\n")).collect();
    assert_eq!(keyed, ["rest", "rest", "busy", "busy"]);
    assert_eq!((get("/not", ""), get("/not", "X-A: 1\r\n")), ("not".into(), "rest".into()));
    client.send("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 1\r\n\r\nx");
    assert_eq!(client.answer().map(|a| a.text()).as_deref(), Some("post"));
}

#[test]
fn headers_are_set_added_and_removed_both_ways_in_the_order_of_the_rules() {
    let a = mirror();
    let frontend = r#"
request = [
  { set_header = { X-Src = "%{src}", X-What = "%{method} %{host}%{path}?%{query} %{scheme}" } },
  { set_header = { X-Copy = "<%{header(X-In)}|%{cookie(c)}|%{query(q)}>" } },
  { add_header = { X-Many = "one" } },
  { add_header = { X-Many = "two" } },
  { remove_header = ["X-Secret", "Cookie"] },
  { if = { path = "/hidden" }, remove_header = "X-Src" },
  { set_header = { Host = "inside.example:81", X-Forwarded-Proto = "https" } },
]
response = [
  { set_header = { Cache-Control = "no-store" } },
  { if = { path = "/hidden" }, add_header = { X-Path = "%{path}" } },
  { status = "400-599", set_header = { X-Bad = "yes" } },
]"#;
    let backend = "request = [{ set_header = { X-Backend = \"%{backend} of %{frontend}\" } }]\nresponse = [{ remove_header = \
                   \"x-powered-by\" }, { set_header = { X-Server = \"%{server}.\", Cache-Control = \"private\" } }]";
    let lb = Instance::start(&config(&a, frontend, backend));
    let mut client = lb.client();
    let answer = client.get(
        "/a?q=7",
        "X-In: in\r\nCookie: c=1\r\nX-SECRET: s\r\nX-Src: 6.6.6.6\r\nX-Many: zero\r\nX-Forwarded-Proto: http\r\n",
    );
    let seen = a.seen().remove(0).head;
    let has = |line: &str| seen.lines().filter(|l| *l == line).count();
    for line in [
        "Host: inside.example:81",
        "X-Src: 127.0.0.1",
        "X-What: GET test/a?q=7 http",
        "X-Copy: <in|1|7>",
        "X-Many: zero",
        "X-Many: one",
        "X-Many: two",
        "X-Forwarded-Proto: https",
        "X-Forwarded-For: 127.0.0.1",
        "X-Backend: app of web",
    ] {
        assert_eq!(has(line), 1, "{line}\n{seen}");
    }
    for gone in ["Cookie", "X-Secret", "6.6.6.6", "Host: test", "Proto: http\n"] {
        assert!(!seen.contains(gone), "{gone}\n{seen}");
    }
    assert_eq!((answer.value("X-Powered-By"), answer.value("X-Server")), (None, Some("node1.")));
    assert_eq!(answer.value("Cache-Control"), Some("no-store"), "the frontend's list comes after the backend's");
    assert_eq!(answer.head.matches("Cache-Control").count(), 1);
    assert_eq!((answer.value("X-Path"), answer.value("X-Bad")), (None, None));
    let hidden = client.get("/hidden", "");
    assert_eq!(hidden.value("X-Path"), Some("/hidden"));
    assert!(!a.seen()[1].head.contains("X-Src"));
    let upgraded = lb.client().upgrade("/hidden", "");
    assert_eq!(
        (upgraded.status, upgraded.value("X-Path"), upgraded.value("X-Server")),
        (101, Some("/hidden"), Some("node1."))
    );
    eventually("each is counted", || {
        let text = lb.admin_text("/metrics");
        text.contains(
            "lb_rule_total{frontend=\"web\",backend=\"\",list=\"request\",rule=\"5\",action=\"remove_header\"} 2",
        ) && text.contains(
            "lb_rule_total{frontend=\"\",backend=\"app\",list=\"response\",rule=\"1\",action=\"set_header\"} 3",
        )
    });
}

/// Answers as the path says: its status, and whether there is a page.
fn varied() -> Origin {
    Origin::answering(|seen| {
        let status = if seen.head.contains("/gone") { "404 Not Found" } else { "200 OK" };
        let fields = match seen.head.contains("/page") {
            true => "Content-Type: text/html; charset=utf-8\r\nX-Kind: page\r\n",
            false => "Content-Type: image/png\r\nCache-Control: max-age=60\r\n",
        };
        Reply::Keep(format!("HTTP/1.1 {status}\r\n{fields}Content-Length: 0\r\n\r\n").into_bytes())
    })
}

#[test]
fn rules_on_answers_go_by_their_status_and_fields_and_by_what_is_not_there() {
    let a = varied();
    let frontend = r#"
request = [{ if = { path = "/denied" }, deny = 403 }]
response = [
  { status = 404, set_header = { X-Missing = "yes" } },
  { status = "4xx", header_regex = { Content-Type = "^text/" }, set_header = { X-Page = "%{path}" } },
  { header = { X-Kind = "page" }, remove_header = "X-Kind" },
  { header = "X-Kind", set_header = { X-Frame-Options = "DENY" } },
  { not = { header = "Cache-Control" }, set_header = { Cache-Control = "no-cache" } },
]"#;
    let lb =
        Instance::start(&config(&a, frontend, "response = [{ status = \"2xx\", set_header = { X-Kind = \"page\" } }]"));
    let get = |path: &str| {
        let output = std::process::Command::new("curl")
            .args(["-sS", "-i", &format!("http://{}{path}", lb.addr)])
            .output()
            .expect("curl, installed by tests/run");
        String::from_utf8_lossy(&output.stdout).to_lowercase()
    };
    let has = |answer: &str, fields: [bool; 5]| {
        let lines = ["x-missing: yes", "x-page: ", "x-kind: ", "x-frame-options: deny", "cache-control: no-cache"];
        for (line, wanted) in lines.iter().zip(fields) {
            assert_eq!(answer.contains(line), wanted, "{line}\n{answer}");
        }
    };
    has(&get("/page"), [false, false, false, true, true]);
    has(&get("/gone/page"), [true, true, false, true, true]);
    has(&get("/gone/picture"), [true, false, false, false, false]);
    // The fields are asked for as they came: what another rule made of them is not seen.
    has(&get("/picture"), [false, false, true, false, false]);
    // An answer of ours has fields, too.
    has(&get("/denied"), [false, true, false, false, false]);
}

#[test]
fn no_variable_breaks_a_head_and_no_request_is_smuggled_through_one() {
    let a = mirror();
    let frontend = "request = [{ set_header = { X-Copy = \"%{header(X-In)}%{query(q)}%{cookie(c)}\" } }, \
                    { if = { query = \"h\" }, set_header = { Host = \"%{query(h)}\" } }, \
                    { if = { query = \"p\" }, rewrite = { path = \"/x/%{query(p)}\" } }]\n\
                    response = [{ set_header = { X-Echo = \"%{header(X-In)}\" } }]";
    let lb = Instance::start(&config(&a, frontend, ""));
    let mut client = lb.client();
    let answer = client.get("/?q=a%0d%0aX-Evil:%201", "X-In: \ta b\u{7f}\u{e9} \r\nCookie: c=\"x\r\n");
    assert_eq!(answer.status, 400, "control bytes in a head are refused before any rule");
    let mut client = lb.client();
    let answer = client.get("/?q=a%0d%0aX-Evil:%201", "X-In:  a  b \r\n");
    assert_eq!(answer.value("X-Echo"), Some("a  b"));
    assert!(a.seen()[0].head.contains("X-Copy: a  ba%0d%0aX-Evil:%201\r\n"), "{}", a.seen()[0].head);
    assert_eq!(client.get("/?p=a%20HTTP/1.1%0d%0aX:", "").status, 200);
    assert!(a.seen()[1].head.starts_with("GET /x/a%2520HTTP/1.1%250d%250aX%3A?p="), "{}", a.seen()[1].head);
    for bad in ["a/b", "a%20b", "", "a:x", "a@b"] {
        assert_eq!(lb.client().get(&format!("/?h={bad}"), "").status, if bad == "a%20b" { 200 } else { 400 }, "{bad}");
    }
}

#[test]
fn what_rules_deny_gets_their_status_and_the_connection_stays() {
    let a = mirror();
    let frontend = r#"
trusted_proxies = "127.0.0.0/8"
request = [
  { if = { path_prefix = "/admin", src = "10.0.0.0/8" }, allow = true },
  { if = { path_prefix = "/admin" }, deny = 403 },
  { if = { method = "TRACE" }, deny = 405 },
]"#;
    let lb = Instance::start(&config(&a, frontend, "request = [{ if = { header = \"X-No\" }, deny = 410 }]"));
    let mut client = lb.client();
    let denied = client.get("/admin/x", "");
    assert_eq!((denied.status, denied.text().as_str()), (403, "403 Forbidden: deny\n"));
    let denied = head(&mut client, "/admin", "");
    assert_eq!((denied.status, denied.value("Content-Length")), (403, Some("20")));
    assert_eq!(client.get("/admin", "X-Forwarded-For: 10.1.1.1\r\n").status, 200);
    client.send("TRACE / HTTP/1.1\r\nHost: test\r\n\r\n");
    assert_eq!(client.answer().map(|a| a.status), Some(405));
    assert_eq!(client.get("/", "X-No: 1\r\n").status, 410);
    client.send("POST /admin HTTP/1.1\r\nHost: test\r\nContent-Length: 3\r\n\r\nabc");
    assert_eq!(client.answer().map(|a| (a.status, a.value("Connection") == Some("close"))), Some((403, true)));
    assert_eq!(a.seen().len(), 1, "what is denied reaches no server");
    eventually("the log names the rules", || {
        let log = lb.access();
        log.contains("\"why\":\"request[1]\"")
            && log.contains("\"why\":\"app.request[0]\"")
            && log.contains("\"end\":\"deny\"")
    });
    let metric = "lb_rule_total{frontend=\"web\",backend=\"\",list=\"request\",rule=\"1\",action=\"deny\"} 3";
    assert!(lb.admin_text("/metrics").contains(metric), "{}", lb.admin_text("/metrics"));
}

#[test]
fn redirects_keep_what_they_do_not_change() {
    let a = mirror();
    let frontend = r#"
request = [
  { if = { path_prefix = "/secure" }, redirect = { scheme = "https" } },
  { if = { host = "old.example" }, redirect = { host = "new.example", status = 308 } },
  { if = { path_prefix = "/old" }, redirect = { prefix = "/old", to = "/new", status = 301 } },
  { redirect = { regex = '^/user/(\d+)$', to = "/u?id=$1", status = 303 } },
  { redirect = { host = "%{host}" } },
]
response = [{ set_header = { X-Frame-Options = "DENY" } }]"#;
    let lb = Instance::start(&config(&a, frontend, ""));
    let mut client = lb.client();
    let mut location = |target: &str, host: &str| {
        client.send(format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        let answer = client.answer().expect("an answer");
        (answer.status, answer.value("Location").map(str::to_owned))
    };
    let to = |status, location: &str| (status, Some(location.to_owned()));
    assert_eq!(location("/secure/x?a=1", "test:8080"), to(302, "https://test/secure/x?a=1"));
    assert_eq!(location("/x?a=1", "old.example"), to(308, "http://new.example/x?a=1"));
    assert_eq!(location("/old/x?a=1", "test"), to(301, "/new/x?a=1"));
    assert_eq!(location("/old//evil.example", "test"), to(301, "/new//evil.example"));
    assert_eq!(location("/user/7?b=2", "test"), to(303, "/u?id=7&b=2"));
    assert_eq!(location("/user/x", "test"), (200, None), "nothing like it");
    assert_eq!(location("/x", "test:81"), to(302, "http://test/x"), "and nobody is sent where he is already");
    let answer = head(&mut lb.client(), "/old", "");
    assert_eq!(
        (answer.status, answer.value("Location"), answer.value("X-Frame-Options")),
        (301, Some("/new"), Some("DENY"))
    );
    assert_eq!(answer.value("Cache-Control"), None);
    let mut old = lb.client();
    old.send("GET /secure HTTP/1.0\r\n\r\n");
    let answer = old.answer().expect("an answer");
    assert_eq!((answer.status, answer.value("Location")), (302, Some("/secure")), "no host is known");
}

#[test]
fn a_path_is_rewritten_for_rules_routes_and_the_server() {
    let (a, api) = (mirror(), mirror());
    let frontend = "request = [{ rewrite = { prefix = \"/v1\", to = \"/api\" } }, { rewrite = { regex = '/(\\d+)$', to = \
                    '/id-$1?n=$1' } }, { if = { path = \"/api/id-7\" }, set_header = { X-Rewritten = \"%{path}\" } }]\n\
                    routes = [{ path_prefix = \"/api\", backend = \"api\" }]";
    let text = format!(
        "{}[backend.api]\nrequest = [{{ rewrite = {{ prefix = \"/api\", to = \"/\" }} }}]\nserver = [{{ name = \"n\", addr = \
         \"{}\" }}]\n",
        config(&a, frontend, ""),
        api.addr
    );
    let lb = Instance::start(&text);
    let mut client = lb.client();
    assert!(client.get("/v1/7?x=1", "").text().starts_with("GET /id-7?n=7&x=1 HTTP/1.1\r\n"));
    assert_eq!(api.seen()[0].value("X-Rewritten"), Some("/api/id-7"));
    assert!(client.get("/v1", "").text().starts_with("GET / HTTP/1.1\r\n"));
    assert!(client.get("/v2/x?%20", "").text().starts_with("GET /v2/x?%20 HTTP/1.1\r\n"), "untouched");
    assert_eq!(a.seen().len(), 1);
    eventually("the log has the target as it was sent", || lb.access().contains("\"target\":\"/v1/7?x=1\""));
}

#[test]
fn no_other_spelling_of_a_path_slips_by_a_rule() {
    let origin = mirror();
    let lb = Instance::start(&config(
        &origin,
        "request = [{ if = { path_prefix = [\"/internal\", \"/käse\"] }, deny = 403 }, { if = { not = { path_regex = '^/(public/|other|$)' } }, deny = 404 }]",
        "request = [{ if = { path = \"/public/a%20b\" }, deny = 410 }]",
    ));
    let mut client = lb.client();
    for path in [
        "/internal",
        "/internal/x",
        "//internal",
        "/%69nternal/x",
        "/./internal",
        "/public/../internal/x",
        "/public/%2e%2E/internal",
        "/public%2f..%2finternal",
        "/internal%2Fx",
        "/k%c3%a4se",
    ] {
        assert_eq!(client.get(path, "").status, 403, "{path}");
    }
    assert_eq!((client.get("/internalx", "").status, client.get("/publi%63/a%20b", "").status), (404, 410));
    // The server gets what the client sent.
    let seen = client.get("/public/./%61%2Fb//c?d=/../e", "").text();
    assert!(seen.starts_with("GET /public/./%61%2Fb//c?d=/../e HTTP/1.1\r\n"), "{seen}");
}

#[test]
fn rewrites_and_redirects_find_a_path_however_it_is_spelt() {
    let origin = mirror();
    let lb = Instance::start(&config(
        &origin,
        "request = [{ redirect = { prefix = \"/old\", to = \"/new\" } }, { rewrite = { regex = '^/internal(/|$)', to = \"/public/\" } \
         }, { if = { path_prefix = \"/public\" }, set_header = { X-Public = \"%{path}\" } }]",
        "request = [{ rewrite = { prefix = \"/api\", to = \"/v2\" } }]",
    ));
    let mut client = lb.client();
    for (path, to) in [
        ("/old/x", "/new/x"),
        ("//old/x", "/new/x"),
        ("/%6Fld/a%2Fb%20c", "/new/a%2Fb%20c"),
        ("/x/../old/y", "/new/y"),
        ("/old/%2e%2e/old/y?q=%2e", "/new/y?q=%2e"),
    ] {
        let answer = client.get(path, "");
        assert_eq!((answer.status, answer.value("Location")), (302, Some(to)), "{path}");
    }
    let mut server = |path: &str| client.get(path, "").text().lines().next().unwrap_or("").to_owned();
    for path in ["/internal/x", "/%69nternal/x", "//internal/x", "/./internal/x", "/y/..%2Finternal/x"] {
        assert_eq!(server(path), "GET /public/x HTTP/1.1", "{path}");
    }
    for (path, sent) in [
        ("/api/@scope%2Fname", "/v2/@scope%2Fname"),
        ("/%61pi/@scope%2Fname", "/v2/@scope%2Fname"),
        ("/api/a//b", "/v2/a//b"),
        ("/api/../x", "/api/../x"),
        ("/apix", "/apix"),
    ] {
        assert_eq!(server(path), format!("GET {sent} HTTP/1.1"), "{path}");
    }
}
