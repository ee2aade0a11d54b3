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
