//! Each mistake: where it is found, what is said, what is offered instead.
use super::*;

/// A file with one mistake, at the `¦`; what it lacks of a frontend and a backend is added behind.
fn file(marked: &str) -> (String, usize, usize) {
    let at = marked.find('¦').unwrap_or_else(|| panic!("no mark in {marked}"));
    let line = marked[..at].matches('\n').count() + 1;
    let column = marked[..at].chars().rev().take_while(|c| *c != '\n').count() + 1;
    let mut text = marked.replacen('¦', "", 1);
    if !text.contains("[frontend") {
        text.push_str("\n[frontend.web]\nlisten = \"127.0.0.1:8080\"\nbackend = \"app\"\n");
    }
    if !text.contains("[backend") {
        text.push_str("\n[backend.app]\nserver = [{ name = \"a\", addr = \"127.0.0.1:9001\" }]\n");
    }
    (text, line, column)
}

/// Each case: the marked file, a part of the message, a part of the help. One mistake gives one report.
pub(super) fn each(cases: &[(&str, &str, &str)]) {
    for (marked, message, help) in cases {
        let (text, line, column) = file(marked);
        let found = read(&text).expect_err(marked);
        let [one] = found.as_slice() else { panic!("{} reports\n{}\n{text}", found.len(), lines(&found)) };
        assert_eq!((one.line, one.column), (line, column), "{marked}\n{one}");
        assert!(one.message.contains(message), "{marked}\nno {message:?} in the message\n{one}");
        assert!(one.help.contains(help), "{marked}\nno {help:?} in the help\n{one}");
    }
}

/// Servers of `[backend.app]`.
fn with_servers(servers: &str) -> String {
    format!("[backend.app]\nserver = [{servers}]\n")
}

/// `[backend.app]` with something more, two tables beside it.
fn with(more: &str) -> String {
    format!(
        "[table.texts]\ntype = \"string\"\n[table.ips]\ntype = \"ip\"\n[table.bytes]\ntype = \"binary\"\n\
         [backend.app]\nserver = [{{ name = \"a\", addr = \"127.0.0.1:9001\" }}]\n{more}\n"
    )
}

pub(super) fn all(wrap: fn(&str) -> String, cases: &[(&str, &str, &str)]) {
    for (inner, message, help) in cases {
        each(&[(&wrap(inner), message, help)]);
    }
}

#[test]
fn what_people_write_at_the_edge_out_of_habit() {
    let frontend = |more: &str| format!("[frontend.web]\nbackend = \"app\"\n{more}\n");
    for (more, message, help) in [
        ("listen = \"127.0.0.1:1\"\n¦tls = { cert = \"a.pem\" }", "unknown key `tls`", "`tls` belongs under `listen`"),
        ("listen = ¦\"/run/web.sock\"", "is no address", "write \"unix:/run/web.sock\""),
        ("listen = ¦\"10.0.0.1:80-89\"", "no ranges of ports", "[\"10.0.0.1:80\", …, \"10.0.0.1:89\"]"),
        (
            "mode = \"tcp\"\nlisten = { addr = \"127.0.0.1:1\", accept_proxy = ¦true }",
            "no proxy is trusted",
            "accept_proxy = [\"10.0.0.0/8\"]`",
        ),
    ] {
        each(&[(&frontend(more), message, help)]);
    }
}

#[test]
fn unknown_keys_are_refused_with_the_one_that_was_meant() {
    each(&[
        ("[instance]\n¦nmae = \"a\"", "unknown key `nmae` in `instance`", "did you mean `name`?"),
        ("[instance]\n¦nbthread = 4", "unknown key", "did you mean `workers`?"),
        ("[log]\n¦colour = true", "unknown key `colour` in `log`", "the keys here are `level`, `format`, `access`"),
        ("¦[tables.x]\ntype = \"ip\"".replace("¦[", "[¦").as_str(), "unknown key `tables` at the top", "`table`"),
        ("[table.t]\ntype = \"ip\"\n¦exprie = \"1m\"", "unknown key `exprie` in `table.t`", "did you mean `expire`?"),
        (
            "[frontend.web]\nlisten = [{ addr = \"127.0.0.1:1\", ¦ssl = {} }]\nbackend = \"app\"",
            "unknown key `ssl` in `frontend.web.listen[0]`",
            "did you mean `tls`?",
        ),
        (
            "[frontend.web]\n¦bind = \":80\"\nbackend = \"app\"",
            "unknown key `bind` in `frontend.web`",
            "did you mean `listen`?",
        ),
        (
            "[backend.app]\nserver = [\n  { name = \"a\", addr = \"127.0.0.1:1\" },\n  { name = \"b\", ¦adress = \"127.0.0.1:2\" },\n]",
            "unknown key `adress` in `backend.app.server[1]`",
            "did you mean `addr`?",
        ),
    ]);
}

#[test]
fn what_people_write_at_another_place_out_of_habit() {
    let backend =
        |more: &str| format!("[backend.app]\nserver = [{{ name = \"a\", addr = \"127.0.0.1:1\" }}]\n{more}\n");
    let server = |more: &str| with_servers(&format!("{{ name = \"a\", addr = \"127.0.0.1:1\", {more} }}"));
    let template = |more: &str| {
        format!("[backend.app]\nserver_template = {{ name = \"a\", addr = \"dns:app.test:80\", {more} }}\n")
    };
    each(&[
        (&server("¦inter = \"2s\""), "unknown key `inter`", "`interval` is it here, and belongs under `check`"),
        (&server("¦fastinter = \"2s\""), "unknown key", "`fast_interval` is it here, and belongs under `check`"),
        (&server("¦observe = \"layer7\""), "unknown key", "`outlier` is it here, and belongs under `backend.NAME`"),
        (
            &server("¦on-marked-down = \"x\""),
            "unknown key",
            "`on_marked_down` is it here, and belongs under `backend.NAME`",
        ),
        (&server("¦maxqueue = 5"), "unknown key", "`max_queue` is it here, and belongs under `backend.NAME`"),
        (&server("¦agent-port = 5"), "unknown key", "`port` is it here, and belongs under `agent`"),
        (&server("¦resolvers = \"dns\""), "unknown key", "`resolver` is it here, and belongs under"),
        (&template("¦inter = \"2s\""), "unknown key", "`interval` is it here, and belongs under `check`"),
        (&template("¦resolvers = \"dns\""), "unknown key", "`resolver` is it here, and belongs under"),
        (&template("¦hold_valid = \"9s\""), "unknown key", "did you mean `hold`?"),
        (
            "¦[resolvers.dns]\nnameserver = \"127.0.0.1:53\"".replace("¦[", "[¦").as_str(),
            "unknown key `resolvers`",
            "`resolver` is it here",
        ),
        (&backend("¦fall = 3"), "unknown key `fall`", "`fall` belongs under `check`"),
        (&backend("¦error-limit = 3"), "unknown key", "`consecutive` is it here, and belongs under `outlier`"),
        (&backend("¦tcp-check = \"connect\""), "unknown key", "did you mean `check`?"),
        (&backend("¦option_httpchk = \"GET /\""), "unknown key", "did you mean `check`?"),
        (&backend("¦hash-type = \"consistent\""), "unknown key", "did you mean `balance`?"),
        (
            &backend("check = { tcp = true, ¦timeout = \"1s\" }"),
            "unknown key `timeout`",
            "`timeout = { check = \"2s\" }` of the backend",
        ),
        (&backend("resolver = ¦\"127.0.0.1\""), "the port is missing", "write \"127.0.0.1:53\""),
        (
            "[frontend.web]\nlisten = \"127.0.0.1:1\"\nbackend = \"app\"\n¦websocket = { ping = \"30s\" }",
            "unknown key `websocket`",
            "`websocket` belongs under `backend.NAME`",
        ),
    ]);
}

#[test]
fn values_of_a_wrong_type_are_told_the_right_one() {
    each(&[
        ("[instance]\nworkers = ¦\"two\"", "must be a whole number from 1 to 1_024, not a text", "write `workers = 2`"),
        ("[instance]\nworkers = ¦2.5", "not a decimal number", "write `workers = 2`"),
        ("[instance]\nworkers = ¦0", "from 1 to 1_024, not 0", "write `workers = 2`"),
        ("[instance]\nworkers = ¦-3", "from 1 to 1_024, not -3", "write `workers = 2`"),
        ("[instance]\nmaxconn = ¦99999999999999999999999999999999999999999999", "from 1 to 100_000_000", "100_000"),
        ("[instance]\nmaxconn = ¦\"lots\"", "a text as \"100k\"", "100_000"),
        ("[instance]\nname = ¦1", "must be a text in quotes, not a number", "write `name = \"lb1\"`"),
        ("[instance]\nname = ¦\"\"", "`instance.name` is empty", "\"lb1\""),
        ("[instance]\ndrain = ¦30", "a duration in quotes", "write `drain = \"30s\"`"),
        ("[instance]\ndrain = ¦\"30 seconds\"", "\"30 seconds\" is not a duration", "write `drain = \"30s\"`"),
        ("[instance]\ndrain = ¦\"99999d\"", "longer than ten years", "\"30s\""),
        ("[defaults.timeout]\nconnect = ¦\"0s\"", "`defaults.timeout.connect` is zero", "leave it out"),
        ("[log]\nformat = ¦\"yaml\"", "\"yaml\" is no value of `log.format`", "\"auto\", \"text\", \"json\""),
        ("[log]\nformat = ¦\"jsn\"", "\"jsn\" is no value", "did you mean \"json\"?"),
        ("[log]\naccess = ¦1", "true or false, or a text in quotes", "write `access = true`"),
        ("[log]\nlevel = ¦\"inof\"", "\"inof\" is no log level", "did you mean \"info\"?"),
        ("instance = ¦3", "`instance` must be a section", "{ name = \"lb1\" }"),
        ("table.t = ¦3", "`table.t` must be a section", "write `[table.t]`"),
        ("table = ¦[]", "`table` must be sections with names, not a list", "sessions"),
        ("[table.t]\ntype = \"ip\"\nsize = ¦0", "`table.t.size` must be a whole number from 1", "100_000"),
        ("[table.t]\ntype = ¦\"str\"", "\"str\" is no value of `table.t.type`", "\"string\""),
        ("[table.t]\ntype = \"ip\"\nlen = ¦4", "`len` is for string and binary keys", "leave `len` out"),
        ("[table.t]\ntype = \"ip\"\nreplicate = ¦\"yes\"", "must be true or false, not a text", "replicate = true"),
        ("[table.¦\"a b\"]\ntype = \"ip\"", "\"a b\" is no name of a table", "write \"a-b\""),
    ]);
}

#[test]
fn what_is_missing_is_reported_at_its_section() {
    each(&[
        ("[table.¦t]\nsize = 1", "`table.t` has no `type`", "add `type = \"string\"`"),
        ("[peers]\ncluster = \"c\"".replace("[p", "¦[p").as_str(), "`peers` has no `listen`", "add `listen = "),
        ("[frontend.¦web]\nbackend = \"app\"", "`frontend.web` has no `listen`", "add `listen = "),
        ("[frontend.¦web]\nlisten = \"127.0.0.1:1\"", "`frontend.web` leads to no backend", "add `backend = \"app\"`"),
        ("[frontend.web]\nlisten = ¦[]\nbackend = \"app\"", "listens nowhere", "0.0.0.0:80"),
        ("[backend.¦app]\nbalance = \"leastconn\"", "`backend.app` has no `server`", "add `server = ["),
        ("[backend.app]\nserver = ¦[]", "`backend.app` has no server", "write `server = ["),
        (
            &with_servers("¦{ addr = \"127.0.0.1:1\" }"),
            "`backend.app.server[0]` has no `name`",
            "add `name = \"node1\"`",
        ),
        (&with_servers("¦{ name = \"a\" }"), "`backend.app.server[0]` has no `addr`", "add `addr = "),
        (
            "[backend.app]\n[[backend.app.server]]\nname = \"a\"\naddr = \"127.0.0.1:1\"\n¦[[backend.app.server]]\nname = \"b\"",
            "`backend.app.server[1]` has no `addr`",
            "add `addr = ",
        ),
    ]);
    let found = read("").expect_err("empty");
    assert_eq!(found.len(), 1, "{}", lines(&found));
    assert!(found[0].message.contains("no frontend") && found[0].help.contains("[frontend.web]"), "{}", found[0]);
}

#[test]
fn addresses_are_told_what_they_lack() {
    all(
        |addr| with_servers(&format!("{{ name = \"a\", addr = {addr} }}")),
        &[
            ("¦\"10.0.0.1\"", "the port is missing", "\"10.0.0.1:8080\""),
            ("¦\":80\"", "the IP address is missing", "\"0.0.0.0:80\""),
            ("¦\"dns:node1.internal:80\"", "may be several servers", "write \"node1.internal:80\""),
            ("¦\"srv:_http._tcp.a\"", "may be several servers", "`server_template`"),
            ("¦\"10.0.0.1:99999\"", "a number from 0 to 65535", "10.0.1.10:8080"),
            ("¦\"http://10.0.0.1:80/\"", "it is a URL", "write \"10.0.0.1:80\""),
            ("¦\"fe80::1:80:x:80\"", "stands in brackets", "[fe80::1:80:x]:80"),
            ("¦\"10.0.0.1:0\"", "port 0", "10.0.1.10:8080"),
            ("¦80", "must be a text in quotes, not a number", "10.0.1.10:8080"),
        ],
    );
    each(&[
        ("[admin]\nlisten = ¦\"localhost:80\"", "a name stands where an IP address must", "\"127.0.0.1:80\""),
        ("[admin]\nlisten = ¦\"node1.internal:80\"", "names are not resolved", "127.0.0.1:8404"),
        ("[admin]\nlisten = ¦\"*:8404\"", "the IP address is missing", "\"0.0.0.0:8404\""),
        (
            "[frontend.a]\nlisten = \"127.0.0.1:1\"\nbackend = \"app\"\n[frontend.b]\nlisten = [¦\"127.0.0.1:1\"]\nbackend = \"app\"",
            "127.0.0.1:1 is taken by `frontend.a.listen in line 2`",
            "an address of its own",
        ),
        (
            "[admin]\nlisten = \"127.0.0.1:1\"\n[frontend.b]\nlisten = ¦\"127.0.0.1:1\"\nbackend = \"app\"",
            "taken by `admin.listen in line 2`",
            "an address of its own",
        ),
    ]);
}

#[test]
fn peers_off_loopback_need_tls() {
    let peers = |rest: &str| format!("[peers]\ncluster = \"c\"\n{rest}\n");
    for (rest, message, help) in [
        ("listen = ¦\"10.0.0.1:1\"", "without TLS at 10.0.0.1:1", "insecure = true"),
        ("listen = ¦\"0.0.0.0:1\"\njoin = \"10.0.0.1:2\"", "without TLS at 0.0.0.0:1", "tls = { ca"),
        ("listen = \"127.0.0.1:1\"\njoin = [\"127.0.0.1:2\", ¦\"10.0.0.1:2\"]", "without TLS", "insecure = true"),
        ("listen = \"127.0.0.1:1\"\njoin = ¦\"dns:peers:2\"", "without TLS", "insecure = true"),
        ("listen = \"127.0.0.1:1\"\njoin = [¦\"10.0.0.2\"]", "\"10.0.0.2\" is no peer", "\"10.0.0.2:8405\""),
        ("listen = \"127.0.0.1:1\"\njoin = [¦\"a b:1\"]", "is no peer", "\"lb2.internal:8405\""),
        ("listen = \"127.0.0.1:1\"\njoin = ¦\"srv:_a._tcp.b\"", "without TLS", "insecure = true"),
        ("listen = \"127.0.0.1:1\"\njoin = [¦\"srv:_a._tcp.b:8405\"]", ":8405 must go", "\"srv:_a._tcp.b\""),
        ("listen = \"127.0.0.1:1\"\njoin = [¦\"srv:b.c:8405\"]", "no service", "\"srv:_lb-peers._tcp.b.c\""),
        ("listen = \"127.0.0.1:1\"\njoin = [¦\"srv:b.c\"]", "needs a service", "\"srv:_lb-peers._tcp.shop.internal\""),
        ("listen = \"127.0.0.1:1\"\njoin = [¦\"_a._tcp.b\"]", "is no peer", "\"srv:_a._tcp.b\""),
        ("listen = \"127.0.0.1:1\"\nresolver = ¦\"127.0.0.1\"", "the port is missing", "127.0.0.1:"),
        ("listen = \"127.0.0.1:1\"\nresolver = ¦\"127.0.0.1:0\"", "port 0", "127.0.0.1:53"),
        ("listen = \"10.0.0.1:1\"\ntls = ¦{ ca = \"a\", cert = \"b\" }", "`peers.tls` has no `key`", "lb1.key"),
        ("listen = \"127.0.0.1:1\"\nheartbeat = ¦\"0s\"", "is zero", "leave it out"),
    ] {
        each(&[(&peers(rest), message, help)]);
    }
    each(&[("[peers]\ncluster = ¦\"a b\"\nlisten = \"127.0.0.1:1\"", "no name of a cluster", "write \"a-b\"")]);
}

#[test]
fn routes_are_checked_piece_by_piece() {
    let route = |inner: &str| format!("[frontend.web]\nlisten = \"127.0.0.1:1\"\nroutes = [{inner}]\n");
    for (inner, message, help) in [
        ("{ path_prefix = \"/x\", backend = ¦\"ap\" }", "there is no backend \"ap\"", "did you mean \"app\"?"),
        ("{ path_prefix = \"/x\", backend = ¦\"zzz\" }", "there is no backend \"zzz\"", "add `[backend.zzz]`"),
        ("¦{ backend = \"app\" }", "no condition", "what no route takes goes to"),
        ("¦{ websocket = true }", "`frontend.web.routes[0]` has no `backend`", "add `backend = \"ws\"`"),
        ("{ path_prefix = ¦\"ws\", backend = \"app\" }", "\"ws\" is no path prefix", "write \"/ws\""),
        ("{ path_prefix = [\"/a\", ¦\"/a b\"], backend = \"app\" }", "\"/a b\" is no path prefix", "%20"),
        ("{ host = ¦\"http://a.b:80/x\", backend = \"app\" }", "is no host name", "write \"a.b\": no scheme"),
        ("{ host = ¦\"a.*.b\", backend = \"app\" }", "is no host name", "*.example.com"),
        ("{ header = ¦\"X Y\", backend = \"app\" }", "\"X Y\" is no header name", "no spaces"),
        ("{ header = { ¦\"X:\" = \"1\" }, backend = \"app\" }", "\"X:\" is no header name", "no colon"),
        ("{ header = { X = ¦\"a\\nb\" }, backend = \"app\" }", "cannot stand in a header", "on one line"),
        ("{ header = { X = ¦1 }, backend = \"app\" }", "must be a text in quotes, not a number", "X-Tenant"),
    ] {
        each(&[(&route(inner), message, help)]);
    }
    each(&[
        (
            "[frontend.web]\nlisten = \"127.0.0.1:1\"\nbackend = \"app\"\ntrusted_proxies = [¦\"10.0.0.0/99\"]",
            "is no network",
            "10.0.0.0/8",
        ),
        (
            "[frontend.web]\nlisten = \"127.0.0.1:1\"\nbackend = \"app\"\nmax_head = ¦100",
            "from 1_024 to 1_048_576, or a text as \"100k\", not 100",
            "16384",
        ),
        ("[frontend.web]\nlisten = \"127.0.0.1:1\"\nroutes = ¦{}\n", "a list in brackets", "write `routes = ["),
    ]);
}

#[test]
fn servers_differ_in_name_and_cookie() {
    all(
        with_servers,
        &[
            (
                "{ name = \"a\", addr = \"127.0.0.1:1\" },\n{ name = ¦\"a\", addr = \"127.0.0.1:2\" }",
                "the name \"a\" is taken in line 2",
                "a name of its own",
            ),
            (
                "{ name = \"a\", cookie = \"x\", addr = \"127.0.0.1:1\" },\n{ name = \"b\", cookie = ¦\"x\", addr = \"127.0.0.1:2\" }",
                "the cookie value \"x\" is taken in line 2",
                "a cookie value of its own",
            ),
            (
                "{ name = \"a\", addr = \"127.0.0.1:1\" },\n{ name = \"b\", cookie = ¦\"a\", addr = \"127.0.0.1:2\" }",
                "the cookie value \"a\" is taken in line 2",
                "a cookie value of its own",
            ),
            (
                "{ name = \"a\", cookie = ¦\"x;y\", addr = \"127.0.0.1:1\" }",
                "cannot be the value of a cookie",
                "semicolons",
            ),
            ("{ name = ¦\"a/b\", addr = \"127.0.0.1:1\" }", "\"a/b\" is no name of a server", "write \"a-b\""),
            ("{ name = \"a\", addr = \"127.0.0.1:1\", weight = ¦257 }", "from 0 to 256, not 257", "weight = 1"),
            ("{ name = \"a\", addr = \"127.0.0.1:1\", state = ¦\"down\" }", "\"down\" is no value", "\"maint\""),
        ],
    );
}

#[test]
fn balance_knows_its_algorithms() {
    all(
        with,
        &[
            ("balance = ¦\"least_conn\"", "is no balancing algorithm", "did you mean \"leastconn\"?"),
            ("balance = ¦\"ip_hash\"", "is no balancing algorithm", "did you mean \"source\"?"),
            ("balance = ¦\"magic\"", "is no balancing algorithm", "\"hash(header(X-Tenant))\""),
            ("balance = ¦\"hash(hdr(X))\"", "\"hdr(X)\" is no key expression", "write `header(NAME)`"),
            ("balance = ¦\"header(X\"", "no closing parenthesis", "header(NAME)"),
        ],
    );
}

#[test]
fn sticky_rules_are_checked_against_tables_and_directions() {
    all(
        with,
        &[
            ("sticky = [{ cookie = ¦\"S\" }]", "does not say who sets it", "store_response = \"cookie(NAME)\""),
            (
                "sticky = [\n{ cookie = \"S\", insert = true },\n{ cookie = ¦\"T\", insert = true }]",
                "has two cookies, the other in line 10",
                "remove one",
            ),
            ("sticky = [{ cookie = ¦\"a b\", insert = true }]", "\"a b\" is no cookie name", "SERVERID"),
            (
                "sticky = [{ cookie = \"S\", insert = true, ¦table = \"texts\" }]",
                "a cookie needs no table",
                "remove it",
            ),
            (
                "sticky = [{ cookie = \"S\", insert = true, domain = ¦\"a;b\" }]",
                "cannot stand in a cookie's `domain`",
                "example",
            ),
            (
                "sticky = [{ cookie = \"S\", insert = true, path = ¦\"x\" }]",
                "cannot stand in a cookie's `path`",
                "\"/app\"",
            ),
            ("sticky = [{ cookie = \"S\", insert = true, maxidle = ¦\"0s\" }]", "is zero", "leave it out"),
            (
                "sticky = [{ cookie = \"S\", insert = true, samesite = ¦\"none\" }]",
                "SameSite=None",
                "add `secure = true`",
            ),
            ("sticky = [¦{}]", "neither a cookie nor a key", "`on`"),
            (
                "sticky = [¦{ on = \"src\", match = \"src\", table = \"ips\" }]",
                "several things at once",
                "a rule of its own",
            ),
            ("sticky = [¦{ on = \"src\" }]", "`backend.app.sticky[0]` has no `table`", "add `table = \"sessions\"`"),
            ("sticky = [{ on = \"src\", table = ¦\"ip\" }]", "there is no table \"ip\"", "did you mean \"ips\"?"),
            ("sticky = [{ on = \"src\", ¦secure = true, table = \"ips\" }]", "this is for a cookie", "remove it"),
            ("sticky = [{ on = ¦\"heder(X)\", table = \"texts\" }]", "did you mean \"header\"?", "header(NAME)"),
            ("sticky = [{ on = ¦\"jwt\", table = \"texts\" }]", "\"jwt\" needs an argument", "cookie(NAME)"),
            ("sticky = [{ store_response = ¦\"src\", table = \"ips\" }]", "an answer has none", "store_request"),
            ("sticky = [{ store_response = ¦\"query(a)\", table = \"texts\" }]", "an answer has none", "header(NAME)"),
            ("sticky = [{ store_response = ¦\"path\", table = \"texts\" }]", "an answer has none", "header(NAME)"),
            ("sticky = [{ match = ¦\"src\", table = \"bytes\" }]", "never a key of table \"bytes\"", "\"ipv6\""),
            ("sticky = [{ match = ¦\"path\", table = \"ips\" }]", "never a key of table \"ips\"", "\"string\""),
            ("sticky = [{ match = ¦\"const(x)\", table = \"ips\" }]", "never a key of table \"ips\"", "\"string\""),
        ],
    );
}

#[test]
fn checks_say_how_to_ask() {
    all(
        with,
        &[
            ("check = ¦{ fall = 2 }", "does not say how to ask", "add `tcp = true`"),
            ("check = { ¦tcp = false }", "does not say how to ask", "remove the check"),
            ("check = { tcp = true, ¦http = \"GET /\" }", "has `tcp` already", "write one of"),
            ("check = { tcp = true, ¦expect = 200 }", "by `tcp` has no `expect`", "http = \"GET /health\""),
            ("check = { tcp = ¦[] }", "has no step", "write `tcp = true`"),
            ("check = { tcp = [¦{ }] }", "this step does nothing", "add `send"),
            ("check = { tcp = [{ send = \"a\", ¦send_hex = \"61\" }] }", "`send` and `send_hex`", "two steps"),
            ("check = { tcp = [{ expect_hex = ¦\"616\" }] }", "is not hexadecimal", "two digits for each byte"),
            ("check = { tcp = [{ expect_regex = ¦\"a(\" }] }", "unclosed group", "write `expect_regex"),
            ("check = { websocket = ¦\"GET /ws\" }", "is no path", "write \"/ws\""),
            ("check = { websocket = \"/ws\", ¦expect_body = \"x\" }", "has no `expect_body`", "remove it"),
            ("check = { grpc = ¦7 }", "must be true or false", "write `grpc"),
            ("check = { tcp = true, tls = { sni = ¦\"a b\" } }", "is no host name", "write the name"),
            ("check = { tcp = true, ¦ssl = true }", "unknown key `ssl`", "did you mean `tls`?"),
            (
                "check = { tcp = true, addr = ¦\"10.0.0.1:80\" }",
                "is no IP address",
                "`addr = \"10.0.0.1\"` and `port = 80`",
            ),
            ("check = { tcp = true, ¦fastinter = \"1s\" }", "unknown key", "did you mean `fast_interval`?"),
            ("agent = ¦{ interval = \"1s\" }", "`backend.app.agent` has no `port`", "add `port = 9999`"),
            ("agent = { port = ¦0 }", "from 1 to 65_535, not 0", "write `port = 9999`"),
            ("check = { http = ¦\"/health\" }", "is no request", "write \"GET /health\""),
            ("check = { http = ¦\"get /health\" }", "methods are in capitals", "write \"GET /health\""),
            ("check = { http = ¦\"GET /a b\" }", "is no request", "\"GET /health\""),
            ("check = { http = \"GET /\", expect = [200, ¦600] }", "from 100 to 599, not 600", "write `expect = 200`"),
            ("check = { http = \"GET /\", expect = ¦\"399-200\" }", "is no range of statuses", "\"200-399\""),
            ("check = { http = \"GET /\", headers = { ¦Content-Length = \"5\" } }", "frames the message", "remove it"),
            ("check = { tcp = true, fall = ¦0 }", "from 1 to 1_000, not 0", "fall = 3"),
            ("check = { tcp = true, interval = ¦\"0s\" }", "is zero", "leave it out"),
            ("check = { tcp = true, send_proxy = ¦true }", "does not say which version", "write \"v2\""),
            ("check = { tcp = true, send_proxy = ¦\"v3\" }", "is no value", "\"v1\", \"v2\""),
            ("send_proxy = ¦true", "does not say which version", "write \"v2\""),
            ("tls = { alpn = [¦\"h2\"] }", "not what is spoken", "write `proto = \"h2\"`"),
            (
                "proto = \"h2\"\ntls = { alpn = [\"h2\", ¦\"http/1.1\"] }",
                "not what is spoken",
                "write `alpn = [\"h2\"]`",
            ),
            ("request = [{ set_priority_class = ¦2048 }]", "from -2047 to 2047", "write `set_priority_class = -10`"),
            ("request = [{ ¦set-priority-class = 1 }]", "unknown key", "did you mean `set_priority_class`?"),
            ("on_down = ¦\"503\"", "is no value of `backend.app.on_down`", "\"redispatch\", \"fail\""),
        ],
    );
}

#[test]
fn what_is_said_about_failures_is_checked_piece_by_piece() {
    all(
        with,
        &[
            ("retry_on = [¦\"conn-failure\"]", "is nothing to retry on", "did you mean \"connect-failure\"?"),
            ("retry_on = ¦\"empty-reponse\"", "is nothing to retry on", "did you mean \"empty-response\"?"),
            ("retry_on = [503, ¦200]", "from 400 to 599, not 200", "write `retry_on"),
            ("retry_on = ¦\"504-502\"", "is nothing to retry on", "\"502-504\""),
            ("retry_budget = ¦\"0.2\"", "is no share", "write `retry_budget = \"20%\"`"),
            ("retry_budget = ¦\"120%\"", "from \"1%\" to \"100%\"", "write `retry_budget"),
            ("¦retry_min = 3", "a budget that is not there", "add `retry_budget"),
            ("outlier = { consecutive = ¦0 }", "nothing takes a server out", "failure_rate"),
            ("outlier = { eject = \"10m\", max_eject = ¦\"1m\" }", "shorter than the first", "what `eject` says"),
            ("outlier = { on = ¦\"4xx\" }", "is no value", "\"5xx\", \"gateway\""),
            ("panic_threshold = ¦30", "must be a text", "write `panic_threshold = \"30%\"`"),
            ("on_marked_down = ¦\"shutdown-sessions\"", "is no value", "\"stay\", \"close\""),
            ("¦priority = \"pinned\"", "unknown key", "did you mean `queue_first`?"),
        ],
    );
}

#[test]
fn servers_on_unix_sockets_and_what_differs_for_one_server_are_looked_at() {
    all(
        |inner| {
            let (lines, server) = inner.split_once('|').unwrap_or(("", inner));
            format!("[backend.app]\n{lines}\nserver = [{server}]\n")
        },
        &[
            ("{ name = \"a\", addr = ¦\"/run/a.sock\" }", "is no address", "write \"unix:/run/a.sock\""),
            ("{ name = \"a\", addr = ¦\"unix:\" }", "it ends too early", "write \"unix:/run/app.sock\""),
            (
                "tls = true|¦{ name = \"a\", addr = \"unix:/a\" }",
                "no name that a certificate could be for",
                "add `tls = { sni",
            ),
            (
                "check = { tcp = true, port = 81 }|¦{ name = \"a\", addr = \"unix:/a\" }",
                "no port, and no address",
                "both `addr` and `port`",
            ),
            (
                "check = { tcp = true }|{ name = \"a\", addr = \"unix:/a\", ¦check = { addr = \"10.0.0.1\" } }",
                "no port, and no address",
                "both `addr` and `port`",
            ),
            (
                "{ name = \"a\", addr = \"10.0.0.1:1\", ¦check = { port = 81 } }",
                "the backend has no `check`",
                "add `check = { tcp = true }`",
            ),
            (
                "{ name = \"a\", addr = \"10.0.0.1:1\", ¦agent = { port = 81 } }",
                "the backend has no `agent`",
                "add `agent = { port = 9999 }`",
            ),
            (
                "agent = { port = 9 }|¦{ name = \"a\", addr = \"unix:/a\" }",
                "needs an address of its own",
                "`agent = false`",
            ),
            (
                "check = { tcp = true }|{ name = \"a\", addr = \"10.0.0.1:1\", check = { ¦http = \"GET /\" } }",
                "unknown key `http`",
                "belongs under `backend.NAME.check`",
            ),
        ],
    );
}

#[test]
fn templates_say_what_to_look_up() {
    all(
        |inner| format!("[backend.app]\nserver_template = {{ {inner} }}\n"),
        &[
            ("name = \"n\", addr = ¦\"app.test:80\"", "nothing to look servers up by", "write \"dns:app.test:80\""),
            ("name = \"n\", addr = ¦\"10.0.0.1:80\"", "nothing to look servers up by", "write `server = ["),
            ("name = \"n\", addr = ¦\"dns:app.test\"", "nothing to look servers up by", "\"dns:app.internal:8080\""),
            ("name = \"n\", addr = ¦\"srv:app.test\"", "is no name of SRV records", "_tcp"),
            ("name = \"n\", addr = \"dns:a.b:80\", identity = ¦\"name\"", "have one name", "\"address\""),
            ("name = \"n\", addr = \"dns:a.b:80\", slots = ¦0", "from 1 to 1_000, not 0", "slots = 10"),
            (
                "name = \"n\", addr = \"dns:a.b:80\", ¦check = { port = 1 }",
                "has no `check` that says",
                "to the backend",
            ),
            ("name = \"n\", addr = \"dns:a.b:80\", ¦agent = { port = 1 }", "has no `agent`", "to the backend"),
            ("name = \"n\", addr = \"dns:a.b:80\", send_proxy = ¦true", "does not say which version", "\"v2\""),
            ("name = \"n\", addr = \"dns:a.b:80\", ¦srvkey = \"name\"", "unknown key", "did you mean `identity`?"),
        ],
    );
    each(&[
        (
            "[¦backend.app]\nbalance = \"leastconn\"".replace("[¦backend.", "[backend.¦").as_str(),
            "has no `server`",
            "add `server",
        ),
        (
            "[backend.app]\nresolver = ¦\"dns.test\"\nserver = [{ name = \"a\", addr = \"a.b:80\" }]",
            "is no address",
            "write",
        ),
    ]);
}

#[test]
fn a_bound_is_a_number_or_names_the_cluster() {
    let server = |maxconn: &str| {
        read(&format!("{SMALL}[backend.b]\nserver = [{{ name = \"b\", addr = \"127.0.0.1:1\", maxconn = {maxconn} }}]"))
    };
    for (text, bound) in [
        ("7", (7, 0)),
        ("\"2k\"", (2000, 0)),
        ("{ cluster = 300 }", (0, 300)),
        ("{ instance = 100, cluster = \"1k\" }", (100, 1000)),
    ] {
        let maxconn = server(text).expect(text).backends[1].servers[0].maxconn;
        assert_eq!((maxconn.instance, maxconn.cluster), bound, "{text}");
    }
    for (text, message) in
        [("{ instance = 5 }", "has no `cluster`"), ("{ cluster = 0 }", "from 1"), ("true", "must be a whole number")]
    {
        let found = server(text).expect_err(text);
        assert!(found.len() == 1 && found[0].message.contains(message), "{text}: {}", lines(&found));
    }
}

#[test]
fn the_environment_is_named_where_it_fails() {
    each(&[
        ("[instance]\nname = ¦\"${NOBODY}\"", "`NOBODY` is not set", "set `NOBODY`"),
        ("[instance]\nworkers = ¦\"${NOBODY}\"", "`NOBODY` is not set", "${NOBODY:-"),
        ("[instance]\nname = ¦\"${NOBODY\"", "without its `}`", "${NAME}"),
        ("[instance]\nworkers = ¦\"${LB_PORT}\"", "from 1 to 1_024, not 8080", "workers = 2"),
    ]);
}

#[test]
fn what_has_no_meaning_where_it_stands_is_told() {
    each(&[
        ("[instance]\n¦state_interval = \"10s\"", "no meaning without `state`", "add `state"),
        ("[admin]\nsocket = \"/tmp/x.sock\"\n¦token = \"t\"", "no meaning without `listen`", "add `listen"),
        (
            "[peers]\ncluster = \"c\"\nlisten = \"127.0.0.1:1\"\ntls = { ca = \"a\", cert = \"b\", key = \"c\" }\n¦insecure = true",
            "no meaning with `tls`",
            "remove `insecure`",
        ),
        (&with("¦on_down = \"fail\""), "no meaning without `sticky`", "sticky = ["),
        (&with("¦force_persist = { src = \"10.0.0.0/8\" }"), "no meaning without `sticky`", "remove it"),
        (&with("outlier = { ¦min_requests = 5 }"), "no meaning without `failure_rate`", "add `failure_rate"),
        (
            "[backend.app]\nsend_proxy = \"v1\"\nproto = \"h2\"\nserver_template = ¦{ name = \"n\", addr = \"dns:a.b:80\" }",
            "a PROXY header is for one client's connection",
            "remove `send_proxy`",
        ),
    ]);
}

#[test]
fn a_slip_brings_no_report_about_what_it_seems_to_lack() {
    each(&[
        ("[table.t]\n¦tpye = \"ip\"", "unknown key `tpye`", "did you mean `type`?"),
        (&with("websocket = { ¦pingg = \"5s\", pong_timeout = \"1s\" }"), "unknown key `pingg`", "`ping`"),
        (&with("chekc = { tcp = true }").replace("chekc", "¦chekc"), "unknown key `chekc`", "`check`"),
    ]);
    // What is wrong with its value is told as well.
    let found = read(&file(&with("¦max_ilde = 1\nretires = 999")).0).expect_err("two slips");
    assert_eq!(found.len(), 3, "{}", lines(&found));
    assert!(found[2].message.contains("`backend.app.retries` must be a whole number"), "{}", found[2]);
}

#[test]
fn text_that_is_no_toml_is_reported_with_the_rest() {
    each(&[
        ("[instance]\ndrain = ¦30m", "must be quoted", "write `\"30m\"`"),
        ("[log]\nformat = ¦text # as it was", "`text` is no value: texts stand in quotes", "write `\"text\"`"),
        ("[log]\naccess = ¦ture", "`ture` is no value", "write `true`"),
        (
            "[backend.app]\nserver = [{ name = \"a\", addr = ¦127.0.0.1:80 }]",
            "`127.0.0.1:80` is no value: texts stand in quotes",
            "write `\"127.0.0.1:80\"`",
        ),
        ("[instance]\nname = \"a\"\n¦name = \"b\"", "duplicate key", "remove one of the two"),
        ("[instance]\nname = ¦", "no value", "write a value after the `=`"),
    ]);
    let found = read("[instance]\ndrain = 30m\nworkers = 0\nnmae = \"a\nmaxconn = 0\n").expect_err("wrong");
    let places: Vec<_> = found.iter().map(|d| d.line).collect();
    assert_eq!(places, [2, 3, 4, 5], "{}", lines(&found));
}

#[test]
fn a_bracket_left_open_brings_no_reports_about_what_it_swallowed() {
    let found =
        read("[frontend.web]\nlisten = [\"127.0.0.1:1\"\nbackend = \"app\"\n[backend.app]\nx = 1\n").expect_err("open");
    assert!(found.iter().all(|d| d.path.is_empty()), "{}", lines(&found));
    assert!(!found.is_empty());
}

#[test]
fn a_wrong_name_from_outside_is_reported_too() {
    let found = load(SMALL, "host1", Some("a b"), &env).expect_err("name");
    assert!(found[0].message.contains("given with --name"), "{}", found[0]);
    let found = load(SMALL, "", None, &env).expect_err("name");
    assert!(found[0].help.contains("under `[instance]`"), "{}", found[0]);
}

#[test]
fn mistakes_come_in_the_order_of_the_text() {
    let found = read("[log]\nlevel = \"x\"\n[backend.b]\n[admin]\nlisten = \"x\"\n[table.t]\n").expect_err("wrong");
    let places: Vec<_> = found.iter().map(|d| (d.line, d.column)).collect();
    assert!(places.is_sorted(), "{places:?}");
    assert_eq!(found.len(), 5, "{}", lines(&found));
}
