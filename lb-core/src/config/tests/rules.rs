//! What rules ask and do: what it means, and each mistake.
use super::mistakes::{all, each};
use super::*;

const TABLES: &str =
    "[table.clients]\ntype = \"ip\"\nstore = [\"conn_cur\", \"gpc(0)\"]\n[table.plain]\ntype = \"ip\"\n";
const APP: &str = "[backend.app]\nserver = [{ name = \"a\", addr = \"127.0.0.1:9001\" }]\n";

/// A route with this condition.
fn with_if(asked: &str) -> String {
    format!(
        "{TABLES}[frontend.web]\nlisten = \"127.0.0.1:8080\"\nbackend = \"app\"\n\
         routes = [{{ if = {asked}, backend = \"app\" }}]\n{APP}"
    )
}

#[test]
fn conditions_are_read_whole() {
    for (asked, shown) in [
        ("{ src = [\"10.0.0.0/8\", \"::1\"] }", "src 10.0.0.0/8|::1/128"),
        ("{ host = \"A.b\", host_regex = '^a\\d' }", "host a.b and host like /^a\\d/"),
        ("{ path = [\"/\", \"/x\"] }", "path is /|/x"),
        ("{ path_prefix = \"/x\", path_regex = [\"y$\", \"z$\"] }", "path /x and path like /y$/|/z$/"),
        ("{ method = [\"GET\", \"M-SEARCH\"] }", "method GET|M-SEARCH"),
        ("{ header = \"X-A\" }", "x-a: any"),
        ("{ header = { X-A = \"1\" }, header_regex = { X-B = \"^b\" } }", "x-a: \"1\" and x-b: like /^b/"),
        ("{ query = \"a[]\", cookie = { c = \"1\" } }", "query a[]: any and cookie c: \"1\""),
        ("{ websocket = false, tls = true, client_cert = false }", "no websocket and tls and no client certificate"),
        ("{ sni = \"*.A.b\", client_name = \"ann\" }", "sni *.a.b and client certificate of ann"),
        (
            "{ key = \"src\", table = \"clients\", when = \"gpc(0) > 1 and conn_cur < 3\" }",
            "src in clients has gpc(0) > 1 and conn_cur < 3",
        ),
        ("{ not = { tls = true } }", "not (tls)"),
        ("{ not = [{ tls = true, path = \"/\" }, { src = \"::1\" }] }", "not (path is / and tls) nor (src ::1/128)"),
    ] {
        let config = valid(&with_if(asked));
        assert_eq!(config.frontends[0].routes[0].when.to_string(), shown, "{asked}");
    }
}

#[test]
fn a_route_may_say_the_short_keys_and_more() {
    let text = with_if("{ method = \"GET\" }, path_prefix = \"/x\"");
    assert_eq!(valid(&text).frontends[0].routes[0].when.to_string(), "path /x and method GET");
}

#[test]
fn conditions_that_ask_nothing_or_nonsense_are_told() {
    all(
        with_if,
        &[
            ("¦{ }", "`frontend.web.routes[0].if` asks nothing", "path_prefix = \"/admin\""),
            ("{ ¦path_reg = \"x\" }", "unknown key `path_reg`", "did you mean `path_regex`?"),
            ("{ src = ¦\"10.0.0.0/33\" }", "is no network", "10.0.0.0/8"),
            ("{ src = ¦[] }", "lists nothing", "10.0.0.0/8"),
            ("{ host = ¦\"a:80\" }", "is no host name", "write \"a\""),
            ("{ path = ¦\"x\" }", "\"x\" is no path", "write \"/x\""),
            ("{ path_regex = ¦\"a(b\" }", "is no pattern: unclosed group", "regular expression"),
            ("{ path_regex = ¦\"(a{1000}){1000}\" }", "is no pattern: it is too large", "regular expression"),
            ("{ method = ¦\"get\" }", "\"get\" is no method", "write \"GET\""),
            ("{ method = ¦\"G T\" }", "\"G T\" is no method", "[\"GET\", \"HEAD\"]"),
            ("{ header = ¦\"X A\" }", "is no header name", "no colon, no spaces"),
            ("{ header = { X-A = ¦\" a\" } }", "cannot stand in a header", "spaces around it"),
            ("{ header_regex = { X-A = ¦\"*\" } }", "is no pattern", "regular expression"),
            ("{ query = ¦\"a=b\" }", "is no name of a query parameter", "no `=`"),
            ("{ cookie = { ¦\"a b\" = \"1\" } }", "is no cookie name", "letters"),
            ("{ tls = ¦\"yes\" }", "must be true or false", "tls = true"),
            ("¦{ key = \"src\", table = \"clients\" }", "has no `when`", "when = "),
            ("¦{ when = \"gpc(0) > 1\", table = \"clients\" }", "has no `key`", "key = \"src\""),
            ("{ key = \"src\", table = ¦\"clinets\", when = \"gpc(0) > 1\" }", "no table", "did you mean \"clients\"?"),
            ("{ key = \"src\", table = ¦\"plain\", when = \"gpc(0) > 1\" }", "counts nothing", "`[table.plain]`"),
            ("{ key = \"src\", table = \"clients\", when = ¦\"gpc(1) > 1\" }", "does not store", "`store`"),
            ("{ key = ¦\"path\", table = \"clients\", when = \"gpc(0) > 1\" }", "never a key", "\"string\""),
            ("{ not = ¦{ } }", "`frontend.web.routes[0].if.not` asks nothing", "path_prefix"),
            ("{ not = ¦[] }", "lists nothing", "not = "),
            ("{ not = { not = { ¦paht = \"/\" } } }", "unknown key `paht`", "did you mean `path`?"),
        ],
    );
    each(&[(
        "[frontend.web]\nlisten = \"127.0.0.1:1\"\nroutes = [{ if = ¦3, backend = \"app\" }]",
        "a section",
        "if = ",
    )]);
}

const HASH: &str = "$2b$10$HPRXZ3GdBOunRC.gz6bbluw5MSsXUGyPc2AXRuZN4X.72cw3GAf9i";

/// A frontend with these lines, and users.
fn frontend(lines: &str) -> String {
    format!(
        "{TABLES}[auth.admins]\nusers = {{ ann = \"{HASH}\" }}\n[frontend.web]\nlisten = \"127.0.0.1:8080\"\n\
         backend = \"app\"\n{lines}\n{APP}"
    )
}

fn request(rule: &str) -> String {
    frontend(&format!("request = [{rule}]"))
}

fn response(rule: &str) -> String {
    frontend(&format!("response = [{rule}]"))
}

#[test]
fn rules_do_one_thing_each() {
    for (rule, shown) in [
        ("{ deny = 403 }", "deny 403"),
        ("{ if = { path = \"/x\" }, allow = true }", "if path is /x allow"),
        ("{ set_header = { X-B = \"%{src} b\", X-A = \"\\\\\" } }", "set X-B: \"%{src} b\", set X-A: \"\\\\\""),
        ("{ add_header = { X-B = \"%%{src}\" } }", "add X-B: \"%{src}\""),
        ("{ remove_header = [\"X-A\", \"X-B\"] }", "remove X-A, remove X-B"),
        ("{ redirect = { scheme = \"https\" } }", "redirect 302 to https"),
        ("{ redirect = { host = \"%{host}:8443\", status = 308 } }", "redirect 308 to \"%{host}:8443\""),
        ("{ redirect = { prefix = \"/a\", to = \"/b\" } }", "redirect 302 /a by \"/b\""),
        ("{ rewrite = { path = \"/x?a=%{src}\" } }", "rewrite \"/x?a=%{src}\""),
        ("{ rewrite = { regex = '^/(\\d)', to = '/$1$$' } }", "rewrite /^/(\\d)/ by \"/$1$\""),
        ("{ auth = \"admins\" }", "auth admins"),
        ("{ return = {} }", "return 200"),
        (
            "{ return = { status = 418, text = \"a %{src}\\n\", headers = { X-A = \"%{id}\" } } }",
            "return 418 text/plain; charset=utf-8 \"a %{src}\\n\", X-A: \"%{id}\"",
        ),
        ("{ return = { text = \"{}\", content_type = \"application/json\" } }", "return 200 application/json \"{}\""),
        (
            "{ replace_header = { X-A = { regex = '^(a)', to = \"$1%{src} \" }, X-B = { regex = \"b\" } } }",
            "replace X-A: /^(a)/ by \"$1%{src} \", replace X-B: /b/ by \"\"",
        ),
    ] {
        let config = valid(&request(rule));
        let [read] = config.frontends[0].rules.request.as_slice() else { panic!("{rule}") };
        assert_eq!(read.to_string(), shown, "{rule}");
    }
    let config = valid(&response("{ status = [404, \"500-599\"], set_header = { X-A = \"%{server}\" } }"));
    assert_eq!(config.frontends[0].rules.response[0].to_string(), "of 404-404|500-599 set X-A: \"%{server}\"");
}

#[test]
fn rules_that_do_nothing_or_too_much_are_told() {
    all(
        request,
        &[
            ("¦{ }", "`frontend.web.request[0]` does nothing", "add one of `set_header`"),
            ("¦{ if = { path = \"/\" } }", "does nothing", "`redirect`, `rewrite`, `auth`"),
            ("{ deny = 403, ¦allow = true }", "several things: `deny` and `allow`", "a rule of its own"),
            ("{ ¦dney = 403 }", "unknown key `dney`", "did you mean `deny`?"),
            ("{ ¦when = { path = \"/\" }, deny = 403 }", "unknown key `when`", "did you mean `if`?"),
            ("{ deny = ¦200 }", "from 400 to 599, not 200", "deny = 403"),
            ("{ allow = ¦false }", "`allow = false` does nothing", "deny = 403"),
            ("{ set_header = ¦{} }", "names no field", "X-Src"),
            ("{ set_header = { ¦\"X A\" = \"1\" } }", "is no header name", "no colon"),
            ("{ set_header = { X-A = ¦\"a\\nb\" } }", "cannot stand in a header", "one line"),
            ("{ set_header = { X-A = ¦\"%{banana}\" } }", "no variable %{banana}", "src, host"),
            ("{ set_header = { X-A = ¦\"%{ssl_sni}\" } }", "no variable", "write %{sni}"),
            ("{ set_header = { X-A = ¦\"%{server}\" } }", "before its server is chosen", "under `response`"),
            ("{ set_header = { ¦Content-Length = \"0\" } }", "no rule may touch `Content-Length`", "remove it"),
            ("{ add_header = { ¦transfer-encoding = \"x\" } }", "no rule may touch `transfer-encoding`", "remove it"),
            ("{ remove_header = ¦\"Connection\" }", "no rule may touch `Connection`", "remove it"),
            ("{ remove_header = ¦\"Host\" }", "must have its `Host`", "set_header = { Host"),
            ("{ add_header = { ¦Host = \"a\" } }", "has one `Host`", "`set_header`"),
            ("{ return = ¦\"ok\" }", "must be a section", "return = {"),
            ("{ return = { status = ¦100 } }", "from 200 to 599, not 100", "status = 200"),
            ("{ return = { status = ¦301 } }", "301 sends the client elsewhere", "write `redirect = "),
            ("{ return = { text = \"a\", ¦file = \"b\" } }", "has `text` already", "remove one"),
            ("{ return = { status = 204, ¦text = \"a\" } }", "an answer 204 has no body", "write 200"),
            ("{ return = { ¦content_type = \"text/html\" } }", "no meaning without a body", "add `text`"),
            ("{ return = { text = \"a\", content_type = ¦\"html\" } }", "is no content type", "text/html; charset"),
            ("{ return = { text = ¦\"%{server}\" } }", "before its server is chosen", "under `response`"),
            ("{ return = { text = ¦\"$remote_addr\" } }", "no variable here", "write %{src}"),
            ("{ return = { ¦body = \"a\" } }", "unknown key `body`", "did you mean `text`?"),
            ("{ return = { headers = { ¦Content-Type = \"a\" } } }", "a key of its own", "write `content_type`"),
            ("{ return = { headers = { ¦Content-Length = \"1\" } } }", "where an answer ends", "remove it"),
            ("{ return = { headers = { X-A = ¦\"a\\nb\" } } }", "cannot stand in a header", "one line"),
            ("{ ¦respond = { text = \"a\" } }", "unknown key `respond`", "did you mean `return`?"),
            ("{ replace_header = ¦{} }", "names no field", "Location"),
            ("{ replace_header = { X-A = ¦\"b\" } }", "must be a section", "write `X-A = { … }` with `regex = "),
            ("{ replace_header = { ¦X-A = { to = \"b\" } } }", "has no `regex`", "add `regex = "),
            ("{ replace_header = { X-A = { regex = ¦\"a(\" } } }", "is no pattern", "regular expression"),
            ("{ replace_header = { X-A = { regex = \"a\", to = ¦\"$1\" } } }", "no group $1", "the pattern has 0"),
            (
                "{ replace_header = { X-A = { regex = \"a\", to = ¦\"a\\nb\" } } }",
                "cannot stand in a header",
                "one line",
            ),
            (
                "{ replace_header = { X-A = { regex = \"a\", to = ¦\"%{server}\" } } }",
                "before its server",
                "`response`",
            ),
            ("{ replace_header = { ¦\"X A\" = { regex = \"a\" } } }", "is no header name", "no colon"),
            ("{ replace_header = { ¦Content-Length = { regex = \"a\" } } }", "no rule may touch", "remove it"),
            ("{ replace_header = { ¦X-Forwarded-For = { regex = \"a\" } } }", "lb writes it anew", "`set_header`"),
            ("{ redirect = ¦{} }", "`frontend.web.request[0].redirect` leads nowhere", "scheme = \"https\""),
            ("{ redirect = ¦\"/x\" }", "must be a section", "redirect = { scheme"),
            ("{ redirect = { scheme = ¦\"ftp\" } }", "is no value of", "\"https\", \"http\""),
            ("{ redirect = { host = ¦\"https://a/\" } }", "cannot stand in a host", "no scheme, no path"),
            ("{ redirect = { path = \"/x\", status = ¦304 } }", "304 is no redirect", "301 or 308"),
            ("{ redirect = { path = ¦\"x\" } }", "\"x\" is no path", "write \"/x\""),
            ("{ redirect = { path = ¦\"/a b\" } }", "cannot stand in a path", "%20"),
            ("{ redirect = ¦{ prefix = \"/a\" } }", "has no `to`", "to = "),
            ("{ redirect = { path = \"/\", ¦to = \"/a\" } }", "all of the new path", "remove `to`"),
            ("{ redirect = { ¦to = \"/a\" } }", "nothing says what `to` stands for", "add `prefix`"),
            ("{ rewrite = ¦{} }", "rewrites nothing", "add `path`"),
            ("{ rewrite = { path = \"/\", ¦regex = \"a\", to = \"b\" } }", "several new paths", "one of"),
            ("{ rewrite = { regex = ¦\"a(\", to = \"b\" } }", "is no pattern", "regular expression"),
            ("{ rewrite = { regex = \"a(b)\", to = ¦\"$2\" } }", "no group $2", "the pattern has 1"),
            ("{ rewrite = { regex = \"a\", to = ¦\"/$x\" } }", "lone `$`", "$1 to $9"),
            ("{ auth = ¦\"admin\" }", "there is no `[auth.admin]`", "did you mean \"admins\"?"),
            ("{ if = ¦{}, deny = 403 }", "asks nothing", "leave it out"),
        ],
    );
    all(
        response,
        &[
            ("¦{ status = 404 }", "does nothing", "`set_header`, `add_header`, `remove_header`"),
            ("{ status = ¦\"4x\", remove_header = \"A\" }", "is no range of statuses", "200-399"),
            (
                "{ ¦deny = 403, remove_header = \"A\" }",
                "unknown key `deny`",
                "`deny` belongs under `frontend.NAME.request`",
            ),
            ("{ remove_header = ¦\"Content-Length\" }", "where an answer ends", "remove it"),
        ],
    );
}

#[test]
fn users_have_hashes_and_no_message_shows_one() {
    let user = |user: &str| format!("[auth.admins]\nusers = {{ {user} }}\n");
    for (inner, message, help) in [
        ("ann = ¦\"hunter2\"", "this is no hash of a password", "lb hash-password"),
        ("ann = ¦\"$apr1$a$b\"", "MD5 hashes", "lb hash-password"),
        (
            "¦\"a:b\" = \"$2b$10$HPRXZ3GdBOunRC.gz6bbluw5MSsXUGyPc2AXRuZN4X.72cw3GAf9i\"",
            "is no name of a user",
            "no colon",
        ),
    ] {
        each(&[(&user(inner), message, help)]);
        let found = read(&(user(inner).replace('¦', "") + SMALL)).expect_err("wrong");
        assert!(!lines(&found).contains("hunter2"));
    }
    each(&[
        ("[auth.¦admins]\nrealm = \"x\"", "`auth.admins` has no users", "lb hash-password"),
        ("[auth.admins]\nfile = \"x\"\nrealm = ¦\"a\\\"b\"", "cannot hold quotes", "realm = "),
    ]);
}

#[test]
fn pages_are_for_answers_that_lb_gives() {
    all(
        frontend,
        &[
            ("error_pages = { ¦200 = \"x\" }", "\"200\" is none of our answers", "a class as 5xx"),
            ("error_pages = { ¦no-servers = \"x\" }", "none of our answers", "did you mean `no-server`?"),
            ("error_pages = ¦\"x\"", "must be a table of texts", "503.html"),
            ("maintenance = ¦\"yes\"", "must be true or false, or a section", "maintenance = "),
            ("maintenance = { exempt = ¦\"x\" }", "is no network", "10.0.0.0/8"),
            ("maintenance = { retry_after = ¦\"0s\" }", "is zero", "5m"),
            ("request_id = { header = ¦\"Connection\" }", "no rule may touch", "remove it"),
            ("request_id = { header = ¦\"a b\" }", "no header name", "no spaces"),
            ("¦compression = true", "unknown key `compression`", "`compression` belongs under `backend.NAME`"),
        ],
    );
    let backend =
        |line: &str| format!("[backend.app]\nserver = [{{ name = \"a\", addr = \"127.0.0.1:1\" }}]\n{line}\n");
    each(&[
        (&backend("compression = { types = ¦\"html\" }"), "is no content type", "text/*"),
        (&backend("compression = { level = ¦10 }"), "from 1 to 9", "level = 5"),
        (
            &backend("compression = { encodings = ¦\"brotli\" }"),
            "\"brotli\" is no value of",
            "write one of \"zstd\", \"br\", \"gzip\"",
        ),
        (&backend("compression = { encodings = [\"br\", ¦\"br\"] }"), "is in the list already", "remove one"),
        (&backend("compression = { encodings = ¦[] }"), "is empty", "compression = false"),
    ]);
}

/// Reads with these files.
fn with_files(text: &str, files: &[(&str, &str)]) -> Result<Config, Vec<Diagnostic>> {
    let read = |path: &std::path::Path| {
        let found = files.iter().find(|(name, _)| path == std::path::Path::new(name));
        found.map(|(_, text)| text.as_bytes().to_vec()).ok_or_else(|| std::io::ErrorKind::NotFound.into())
    };
    load_with(text, "host1", None, &env, Some(&read))
}

#[test]
fn files_are_read_with_the_configuration_and_a_missing_one_is_an_error_with_its_place() {
    let text =
        frontend("error_pages = { 503 = \"503.html\", no-route = \"x.json\" }\nmaintenance = { page = \"m.txt\" }");
    let files = [("503.html", "<p>"), ("x.json", "{}"), ("m.txt", "soon")];
    let config = with_files(&text, &files).expect("valid");
    let rules = &config.frontends[0].rules;
    let page = rules.page(503, "no-server").expect("a page");
    assert_eq!((&page.body[..], page.kind), (&b"<p>"[..], "text/html; charset=utf-8"));
    assert_eq!(rules.page(404, "no-route").map(|p| p.kind), Some("application/json"));
    let found = with_files(&text, &files[..2]).expect_err("one is missing");
    assert_eq!(found.len(), 1, "{}", lines(&found));
    assert!(found[0].message.contains("\"m.txt\" cannot be read") && found[0].line == 12, "{}", found[0]);
    let large = "x".repeat((1 << 20) + 1);
    let found = with_files(&text, &[files[0], files[1], ("m.txt", &large)]).expect_err("too large");
    assert!(found[0].message.contains("1048577 bytes") && found[0].help.contains("1 MiB"), "{}", found[0]);
}

#[test]
fn a_file_of_users_is_read_line_by_line() {
    let text = format!("[auth.a]\nfile = \"users\"\nusers = {{ ann = \"{HASH}\" }}\n{SMALL}");
    let config = with_files(&text, &[("users", &format!("# all\n\nbob:{HASH}\n"))]).expect("valid");
    assert_eq!(config.auth[0].users.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["ann", "bob"]);
    assert_eq!(config.auth[0].realm, "a");
    for (wrong, message) in [
        ("bob", "line 1: this is no user"),
        ("\nbob:hunter2", "line 2: this is no hash"),
        (&format!("ann:{HASH}"), "line 1: the user \"ann\" is there already"),
        (&format!("bob:{HASH}\nbob:{HASH}"), "line 2: the user \"bob\" is there already"),
    ] {
        let found = with_files(&text, &[("users", wrong)]).expect_err(wrong);
        assert!(found[0].message.contains(message) && !found[0].message.contains("hunter2"), "{}", found[0]);
    }
}

#[test]
fn connections_that_are_not_understood_have_no_rules() {
    let tcp = |frontend: &str, backend: &str| {
        format!(
            "[frontend.web]\nlisten = \"127.0.0.1:1\"\nmode = \"tcp\"\nbackend = \"app\"\n{frontend}\n[backend.app]\n\
             server = [{{ name = \"a\", addr = \"127.0.0.1:2\" }}]\n{backend}\n"
        )
    };
    for key in ["request = ¦[]", "response = ¦[]", "maintenance = ¦true", "error_pages = ¦{ 503 = \"x\" }"] {
        let key = format!("¦{}", key.replace('¦', ""));
        each(&[(&tcp(&key, ""), "is of HTTP", "remove it"), (&tcp("", &key), "is of HTTP", "remove it")]);
    }
}

/// A frontend with this rule on answers.
fn with_answer_rule(rule: &str) -> String {
    format!("[frontend.web]\nlisten = \"127.0.0.1:8080\"\nbackend = \"app\"\nresponse = [{{ {rule} }}]\n{APP}")
}

#[test]
fn rules_on_answers_ask_for_their_status_and_their_fields() {
    for (rule, shown) in [
        ("status = [404, \"5xx\", \"200-204\"]", "of 404-404|500-599|200-204 remove X"),
        (
            "header = \"Age\", header_regex = { Content-Type = \"^text/\" }",
            "of age: any and content-type: like /^text// remove X",
        ),
        ("not = { status = 304, header = { A = \"b\" } }", "of not (304-304 and a: \"b\") remove X"),
        (
            "status = \"1xx\", not = [{ header = \"A\" }, { header = \"B\" }]",
            "of 100-199 and not (a: any) nor (b: any) remove X",
        ),
        ("if = { tls = true }, header = \"A\"", "if tls of a: any remove X"),
    ] {
        let config = valid(&with_answer_rule(&format!("{rule}, remove_header = \"X\"")));
        assert_eq!(config.frontends[0].rules.response[0].to_string(), shown, "{rule}");
    }
    all(
        with_answer_rule,
        &[
            ("status = ¦\"6xx\", remove_header = \"X\"", "no range of statuses", "\"5xx\""),
            ("status = ¦[], remove_header = \"X\"", "lists nothing", "404"),
            ("header = { ¦\"A:\" = \"1\" }, remove_header = \"X\"", "no header name", "no colon"),
            ("header_regex = { A = ¦\"(\" }, remove_header = \"X\"", "is no pattern", "regular expression"),
            ("not = ¦{ }, remove_header = \"X\"", "asks nothing", "write what must not hold"),
            ("not = { ¦path = \"/\" }, remove_header = \"X\"", "unknown key `path`", "`status`, `header`"),
            ("¦headers = { A = \"1\" }", "unknown key `headers`", "did you mean `set_header`?"),
        ],
    );
}

#[test]
fn no_request_is_asked_for_the_session_id_of_tls() {
    let text = "[table.b]\ntype = \"binary\"\nstore = [\"gpc(0)\"]\n[frontend.web]\nlisten = \"127.0.0.1:8080\"\nbackend = \"app\"\n\
                request = [{ if = { key = ¦\"tls_session_id\", table = \"b\", when = \"gpc(0) > 0\" }, deny = 403 }]\n";
    each(&[(&format!("{text}{APP}"), "no request has a `tls_session_id`", "write `sni`")]);
}
