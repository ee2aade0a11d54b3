//! The shape of the file, third part: what rules ask (`if`) and do. See [`super::file`].
use super::file::{Kind, Shape, key};

/// `if`, wherever a rule has one; it holds itself under `not`.
pub(super) static IF: Shape = Shape {
    doc: "What must hold of a request: all the keys given, each for one of its values.",
    keys: &[
        key(
            "src",
            Kind::Many(&Kind::Text),
            "[\"10.0.0.0/8\"]",
            "Networks of the client; behind `trusted_proxies`, of whom they name.",
        )
        .also(&["source", "ip", "remote_addr", "network", "networks"]),
        key(
            "host",
            Kind::Many(&Kind::Text),
            "[\"shop.example.com\", \"*.example.org\"]",
            "Host names, without port; `*.` before a name matches everything under it.",
        )
        .also(&["hosts", "hdr", "server_name", "domain"]),
        key("host_regex", Kind::Many(&Kind::Text), "\"^shop[0-9]+\\\\.\"", "The host, in lower case, by pattern.")
            .also(&["host_reg"]),
        key("path", Kind::Many(&Kind::Text), "[\"/\", \"/index.html\"]", "Whole paths, without the query."),
        key(
            "path_prefix",
            Kind::Many(&Kind::Text),
            "\"/ws\"",
            "Path prefixes, at segment borders: `/ws` matches `/ws` and `/ws/x`, not `/wsx`.",
        )
        .also(&["path_beg", "prefix", "location", "path_dir"]),
        key("path_regex", Kind::Many(&Kind::Text), "\"\\\\.php$\"", "The path, without the query, by pattern.")
            .also(&["path_reg", "path_end", "path_suffix"]),
        key("method", Kind::Many(&Kind::Text), "[\"GET\", \"HEAD\"]", "Methods.").also(&["methods", "verb"]),
        key(
            "header",
            Kind::Either(&[Kind::Text, Kind::Pairs]),
            "{ X-Tenant = \"blue\" }",
            "Headers that must be there: `{ X-Tenant = \"blue\" }` with that value, `\"X-Tenant\"` with any.",
        )
        .also(&["headers"]),
        key("header_regex", Kind::Pairs, "{ User-Agent = \"(?i)bot\" }", "Headers whose value is like a pattern.")
            .also(&["hdr_reg", "header_reg"]),
        key(
            "query",
            Kind::Either(&[Kind::Text, Kind::Pairs]),
            "{ version = \"2\" }",
            "Query parameters, as `header`; their values as they are sent.",
        )
        .also(&["url_param", "urlp", "args", "arg", "param"]),
        key("cookie", Kind::Either(&[Kind::Text, Kind::Pairs]), "{ canary = \"yes\" }", "Cookies, as `header`.")
            .also(&["cookies", "cook"]),
        key("websocket", Kind::Flag, "true", "Whether the request asks for a WebSocket.").also(&["ws", "upgrade"]),
        key("tls", Kind::Flag, "true", "Whether the client's connection is TLS.").also(&["ssl", "ssl_fc", "https"]),
        key("sni", Kind::Many(&Kind::Text), "\"shop.example.com\"", "Server names that TLS asked for, as `host`.")
            .also(&["ssl_fc_sni", "ssl_sni"]),
        key("client_cert", Kind::Flag, "true", "Whether the client showed a certificate that was verified.")
            .also(&["ssl_c_used", "mtls"]),
        key(
            "client_name",
            Kind::Many(&Kind::Text),
            "\"billing.internal\"",
            "Names in the client's verified certificate: its common name, or an alternative name.",
        )
        .also(&["client_cn", "ssl_c_s_dn", "cn"]),
        key("key", Kind::Text, "\"src\"", "Whose counts `when` looks at: a key expression.").also(&["by", "track"]),
        key("table", Kind::Text, "\"clients\"", "The table that counts them; `limit` rules and sticky rules do.")
            .also(&["zone"]),
        key(
            "when",
            Kind::Text,
            "\"gpc(0) > 0\"",
            "A counter of the table, `>`, `>=`, `<`, `<=` or `==`, a number; several joined by \" and \".",
        )
        .also(&["condition"]),
        key(
            "not",
            Kind::Many(&Kind::Section(&IF)),
            "{ src = \"10.0.0.0/8\" }",
            "None of these may hold; each as `if` itself.",
        )
        .also(&["unless", "none"]),
    ],
};
