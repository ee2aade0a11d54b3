//! The shape of the file, third part: what rules ask (`if`) and do. See [`super::file`].
use super::file::{Key, Kind, Shape, key};

/// What routes ask without an `if`, too.
pub(super) const HOST: Key = key(
    "host",
    Kind::Many(&Kind::Text),
    "[\"shop.example.com\", \"*.example.org\"]",
    "Host names, without port; `*.` before a name matches everything under it.",
)
.also(&["hosts", "server_name", "domain"]);
pub(super) const PATH_PREFIX: Key = key(
    "path_prefix",
    Kind::Many(&Kind::Text),
    "\"/ws\"",
    "Path prefixes, at segment borders: `/ws` matches `/ws` and `/ws/x`, not `/wsx`.",
)
.also(&["path_beg", "prefix", "location", "path_dir"]);
pub(super) const HEADER: Key = key(
    "header",
    Kind::Either(&[Kind::Text, Kind::Pairs]),
    "{ X-Tenant = \"blue\" }",
    "Headers that must be there: `{ X-Tenant = \"blue\" }` with that value, `\"X-Tenant\"` with any.",
)
.also(&["headers", "hdr"]);
pub(super) const WEBSOCKET: Key =
    key("websocket", Kind::Flag, "true", "Whether the request asks for a WebSocket.").also(&["ws", "upgrade"]);

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
        HOST,
        key("host_regex", Kind::Many(&Kind::Text), "\"^shop[0-9]+\\\\.\"", "The host, in lower case, by pattern.")
            .also(&["host_reg"]),
        key("path", Kind::Many(&Kind::Text), "[\"/\", \"/index.html\"]", "Whole paths, without the query."),
        PATH_PREFIX,
        key("path_regex", Kind::Many(&Kind::Text), "\"\\\\.php$\"", "The path, without the query, by pattern.")
            .also(&["path_reg", "path_end", "path_suffix"]),
        key("method", Kind::Many(&Kind::Text), "[\"GET\", \"HEAD\"]", "Methods.").also(&["methods", "verb"]),
        HEADER,
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
        WEBSOCKET,
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

const SET: Key = key(
    "set_header",
    Kind::Pairs,
    "{ X-Src = \"%{src}\" }",
    "Fields that get this value and no other. `%{src}`, `%{host}`, `%{path}`, `%{query}`, `%{method}`, `%{scheme}`, \
     `%{id}`, `%{user}`, `%{frontend}`, `%{backend}`, `%{server}` (in answers), `%{sni}`, `%{tls_version}`, \
     `%{tls_cipher}`, `%{client_name}`, `%{client_subject}`, `%{client_issuer}`, `%{client_serial}`, \
     `%{client_fingerprint}` (SHA-256), `%{client_cert}` (Base64), `%{header(X)}`, `%{cookie(X)}`, `%{query(X)}` stand for \
     what the request has.",
);
const ADD: Key = key("add_header", Kind::Pairs, "{ X-Via = \"lb\" }", "Fields more, values as of `set_header`.");
const REMOVE: Key =
    key("remove_header", Kind::Many(&Kind::Text), "[\"X-Internal\"]", "Fields that are taken out, by name.");

const REPLACE: Key = key(
    "replace_header",
    Kind::Named(&REPLACEMENT),
    "{ Location = { regex = \"^http://\", to = \"https://\" } }",
    "Fields in whose values everything that is like a pattern becomes something else.",
);

static REPLACEMENT: Shape = Shape {
    doc: "What becomes of a field's value.",
    keys: &[
        key("regex", Kind::Text, "\"^http://\"", "A pattern: everything like it becomes `to`, in each field of that name.")
            .required()
            .also(&["pattern", "match", "from"]),
        key(
            "to",
            Kind::Text,
            "\"https://\"",
            "What it becomes: a value as of `set_header`, in which `$1` is what the pattern's first group found. Default: \
             nothing, it is taken out.",
        )
        .also(&["replace", "with", "value"]),
    ],
};

static RETURN: Shape = Shape {
    doc: "An answer of the configuration's own.",
    keys: &[
        key("status", Kind::Whole(200, 599), "200", "Its status. Default 200.").also(&["code"]),
        key(
            "content_type",
            Kind::Text,
            "\"application/json\"",
            "What it is. Default: by the file's ending, else plain text.",
        )
        .also(&["type", "content-type", "Content-Type", "mime"]),
        key(
            "text",
            Kind::Text,
            "\"ok\\n\"",
            "Its body, with variables as of `set_header`; what a client sent is quoted as HTML, XML, JSON and JavaScript want \
             it. Default: no body.",
        )
        .also(&["string", "lf-string", "body", "content", "message"]),
        key("file", Kind::Text, "\"robots.txt\"", "A file that is the body as it is, read with the configuration.")
            .also(&["lf-file", "page", "path", "errorfile"]),
        key("headers", Kind::Pairs, "{ Cache-Control = \"max-age=60\" }", "Fields more, values as of `set_header`.")
            .also(&["hdr", "header", "set_header", "add_header"]),
    ],
};

static REQUEST_RULES: Kind = Kind::Section(&REQUEST_RULE);

static REQUEST_RULE: Shape = Shape {
    doc: "One rule on requests: what must hold, and one thing that is done.",
    keys: &[
        key("if", Kind::Section(&IF), "{ path_prefix = \"/admin\" }", "What must hold. Default: always.")
            .also(&["when", "unless", "match"]),
        SET.also(&["set-header", "header", "headers"]),
        ADD.also(&["add-header"]),
        REMOVE.also(&["del_header", "del-header"]),
        REPLACE.also(&["replace-header", "replace_value", "replace-value"]),
        key("deny", Kind::Whole(400, 599), "403", "Our answer, with this status.").also(&["reject", "block", "status"]),
        key(
            "return",
            Kind::Section(&RETURN),
            "{ status = 200, text = \"ok\\n\" }",
            "Answers by itself, without a server: a status, a content type, a body that stands here or in a file, headers.",
        )
        .also(&["respond", "answer", "fixed_response", "static_response", "direct_response", "text", "file"]),
        key("allow", Kind::Flag, "true", "Passes over the rest of this list.").also(&["accept", "pass"]),
        key(
            "redirect",
            Kind::Section(&REDIRECT),
            "{ scheme = \"https\" }",
            "Sends the client elsewhere; path and query stay. Passed over where the request is there already.",
        )
        .also(&["location"]),
        key(
            "rewrite",
            Kind::Section(&REWRITE),
            "{ prefix = \"/api\", to = \"/\" }",
            "Another path; the query stays. Later rules, routes and the server see the new one.",
        )
        .also(&["set_path", "replace_path", "strip_prefix"]),
        key(
            "set_priority_class",
            Kind::Signed(-2047, 2047),
            "-10",
            "The request's class in queues: a server's next place is for the lowest one that waits. Default 0.",
        )
        .also(&["priority", "priority_class", "set-priority-class"]),
        key("auth", Kind::Text, "\"admins\"", "Asks for name and password (Basic) of this `[auth.NAME]`.").also(&[
            "auth_basic",
            "basic_auth",
            "basicauth",
        ]),
    ],
};

static RESPONSE_RULES: Kind = Kind::Section(&RESPONSE_RULE);

const STATUS: Key = key(
    "status",
    Kind::Many(&Kind::Either(&[Kind::Whole(100, 599), Kind::Text])),
    "[404, \"5xx\"]",
    "Statuses of the answers that it is for: 404, \"500-504\", \"5xx\". Default: all.",
);
const ANSWER_HEADER: Key = key(
    "header",
    Kind::Either(&[Kind::Text, Kind::Pairs]),
    "{ Content-Type = \"text/html\" }",
    "Fields that the answer must have, as it came: `{ Content-Type = \"text/html\" }` with that value, \
     `\"Set-Cookie\"` with any. Default: whatever it has.",
);
const ANSWER_HEADER_REGEX: Key = key(
    "header_regex",
    Kind::Pairs,
    "{ Content-Type = \"^text/\" }",
    "Fields of the answer whose value is like a pattern.",
);

static NOT_ANSWER: Shape = Shape {
    doc: "What may not hold of an answer: all the keys given together.",
    keys: &[
        STATUS.also(&["code"]),
        ANSWER_HEADER.also(&["headers"]),
        ANSWER_HEADER_REGEX.also(&["hdr_reg", "header_reg"]),
    ],
};
static NOT_ANSWERS: Kind = Kind::Section(&NOT_ANSWER);

static RESPONSE_RULE: Shape = Shape {
    doc: "One rule on answers: what must hold, and one thing that is done.",
    keys: &[
        key(
            "if",
            Kind::Section(&IF),
            "{ path_prefix = \"/static\" }",
            "What must hold of the request. Default: always.",
        )
        .also(&["when", "unless", "match"]),
        STATUS.also(&["code"]),
        ANSWER_HEADER.also(&["res_hdr"]),
        ANSWER_HEADER_REGEX.also(&["hdr_reg", "header_reg"]),
        key(
            "not",
            Kind::Many(&NOT_ANSWERS),
            "{ header = \"Cache-Control\" }",
            "None of these may hold of the answer; each has `status`, `header`, `header_regex`.",
        )
        .also(&["none"]),
        SET.also(&["set-header", "headers"]),
        ADD.also(&["add-header"]),
        REMOVE.also(&["del_header", "del-header", "hide_header"]),
        REPLACE.also(&["replace-header", "replace_value", "replace-value", "proxy_redirect", "proxy_cookie_flags"]),
    ],
};

static REDIRECT: Shape = Shape {
    doc: "Where a client is sent.",
    keys: &[
        key("scheme", Kind::Word(&["https", "http"]), "\"https\"", "To this scheme, at its usual port."),
        key("host", Kind::Text, "\"www.example.com\"", "To this host, which may have a port; as `\"%{host}:8443\"`."),
        key("path", Kind::Text, "\"/new\"", "To this path."),
        key("prefix", Kind::Text, "\"/old\"", "To the path with another prefix: this one becomes `to`.")
            .also(&["from"]),
        key("regex", Kind::Text, "\"^/u/([0-9]+)$\"", "To the path with what is like this pattern replaced by `to`."),
        key("to", Kind::Text, "\"/user/$1\"", "What `prefix` or `regex` becomes.").also(&["replace", "with"]),
        key(
            "status",
            Kind::Whole(301, 308),
            "301",
            "301 or 308 (for ever), 302, 303 or 307 (for now); 307 and 308 keep the method. Default 302.",
        )
        .also(&["code"]),
    ],
};

static REWRITE: Shape = Shape {
    doc: "Another path: `path`, or `prefix` and `to`, or `regex` and `to`.",
    keys: &[
        key("path", Kind::Text, "\"/index.html\"", "This path, whatever it was."),
        key("prefix", Kind::Text, "\"/api\"", "A prefix, at a segment border, that becomes `to`.").also(&["from"]),
        key("regex", Kind::Text, "\"^/u/([0-9]+)$\"", "A pattern: the first thing like it becomes `to`."),
        key("to", Kind::Text, "\"/\"", "What it becomes; of a pattern, `$1` is what its first group found.")
            .also(&["replace", "with"]),
    ],
};

static MAINTENANCE_KINDS: [Kind; 2] = [Kind::Flag, Kind::Section(&MAINTENANCE)];

static MAINTENANCE: Shape = Shape {
    doc: "Nobody is served but those exempt.",
    keys: &[
        key("enabled", Kind::Flag, "true", "Default true.").also(&["on", "active"]),
        key("page", Kind::Text, "\"maintenance.html\"", "File that the others see. Default: as `error_pages` says."),
        key("retry_after", Kind::Span, "\"5m\"", "When they may come back. Default 1m."),
        key("exempt", Kind::Many(&Kind::Text), "[\"10.0.0.0/8\"]", "Networks of those who are served.")
            .also(&["allow", "except", "src"]),
    ],
};

static REQUEST_ID_KINDS: [Kind; 2] = [Kind::Flag, Kind::Section(&REQUEST_ID)];

static REQUEST_ID: Shape = Shape {
    doc: "Ids of requests.",
    keys: &[
        key("header", Kind::Text, "\"X-Request-ID\"", "The field that carries it. Default X-Request-ID."),
        key("answer", Kind::Flag, "true", "Whether the client gets it, too. Default false.").also(&["response"]),
    ],
};

static COMPRESSION_KINDS: [Kind; 2] = [Kind::Flag, Kind::Section(&COMPRESSION)];

static COMPRESSION: Shape = Shape {
    doc: "Which answers are compressed.",
    keys: &[
        key(
            "types",
            Kind::Many(&Kind::Text),
            "[\"text/*\", \"application/json\"]",
            "Content types. Default: text, JSON, JavaScript, XML, SVG, WebAssembly, fonts that are not compressed yet.",
        )
        .also(&["type", "mime_types", "gzip_types"]),
        key("min_size", Kind::Size(0, 1 << 30), "1024", "Answers known to be smaller are left alone. Default 1 KiB.")
            .also(&["min_length", "gzip_min_length"]),
        key(
            "level",
            Kind::Whole(1, 9),
            "5",
            "1 (fast) to 9 (small), as each encoding counts it; Brotli stops at its 6. Default 5.",
        )
        .also(&["gzip_comp_level", "brotli_comp_level", "quality"]),
        key(
            "encodings",
            Kind::Many(&Kind::Word(&["zstd", "br", "gzip"])),
            "[\"zstd\", \"br\", \"gzip\"]",
            "What it is done with. Of those that a client likes equally, the first is taken. Default: all, in this order.",
        )
        .also(&["encoding", "algo", "algorithm", "algorithms", "codings", "formats"]),
    ],
};

/// `[auth.NAME]`
pub(super) static AUTH: Shape = Shape {
    doc: "Who may pass with a password.",
    keys: &[
        key("realm", Kind::Text, "\"Administration\"", "What browsers show. Default: the section's name."),
        key(
            "users",
            Kind::Pairs,
            "{ ann = \"$2b$10$…\" }",
            "Names and hashes of passwords, as `lb hash-password` prints them: bcrypt, or SHA-512 and SHA-256 of crypt.",
        )
        .also(&["user", "userlist"]),
        key("file", Kind::Text, "\"admins.htpasswd\"", "File with a line `NAME:HASH` for each user more.")
            .also(&["htpasswd", "auth_basic_user_file", "users_file"]),
    ],
};

/// `request` of frontends and backends.
pub(super) const REQUEST: Key = key(
    "request",
    Kind::List(&REQUEST_RULES),
    "[{ if = { path_prefix = \"/admin\" }, deny = 403 }]",
    "Rules on requests, tried in order: a frontend's after its limits and before its routes, a backend's after that.",
)
.also(&["rules", "http_request", "http-request", "middlewares"]);

/// `response` of frontends and backends.
pub(super) const RESPONSE: Key = key(
    "response",
    Kind::List(&RESPONSE_RULES),
    "[{ set_header = { X-Frame-Options = \"DENY\" } }]",
    "Rules on answers, tried in order, the backend's first; our own answers are answers, too.",
)
.also(&["http_response", "http-response", "headers", "add_header"]);

/// `error_pages` of frontends and backends.
pub(super) const ERROR_PAGES: Key = key(
    "error_pages",
    Kind::Pairs,
    "{ 503 = \"503.html\" }",
    "Files that are sent as our own answers: by status (`503`), class (`5xx`) or reason (`no-server`). A backend's come \
     before a frontend's.",
)
.also(&["errorfile", "errorfiles", "error_page", "errors"]);

/// `maintenance` of frontends and backends.
pub(super) const MAINTENANCE_KEY: Key = key(
    "maintenance",
    Kind::Either(&MAINTENANCE_KINDS),
    "{ page = \"maintenance.html\" }",
    "Answers 503 to everybody but the networks exempt. Default false.",
);

/// `request_id` of frontends.
pub(super) const REQUEST_ID_KEY: Key = key(
    "request_id",
    Kind::Either(&REQUEST_ID_KINDS),
    "{ answer = true }",
    "Each request has an id, in the access log and to the server: that of a trusted proxy, else a new one. \
     Default false.",
)
.also(&["unique_id", "unique_id_header"]);

/// `compression` of backends.
pub(super) const COMPRESSION_KEY: Key = key(
    "compression",
    Kind::Either(&COMPRESSION_KINDS),
    "true",
    "Compresses answers (zstd, Brotli, gzip) for clients that take it. Not for pages that show secrets beside what a stranger can \
     choose: their length would tell. Default false.",
)
.also(&["gzip", "brotli", "zstd", "compress", "encode"]);
