//! The shape of the file, second half: frontends and backends. See [`super::file`].
use super::file::{Kind, Shape, TIMEOUT, key};
use super::file_edge::{LISTEN, SEND_PROXY, SERVER_TLS};
use super::file_http2::HTTP2;
use super::file_rules;
use super::file_websocket::WEBSOCKET;

pub(super) static FRONTEND: Shape = Shape {
    doc: "Where clients arrive.",
    keys: &[
        key(
            "listen",
            Kind::Many(&Kind::Either(&[Kind::Text, Kind::Section(&LISTEN)])),
            "[\"0.0.0.0:80\"]",
            "Addresses, as `\"0.0.0.0:80\"` or `{ addr = \"[::]:443\", tls = { cert = \"site.pem\" } }`.",
        )
        .required()
        .also(&["bind", "addr", "address"]),
        key(
            "mode",
            Kind::Word(&["http", "tcp"]),
            "\"tcp\"",
            "`tcp`: connections are passed on as they are, whatever they speak. Default http.",
        ),
        key(
            "inspect_delay",
            Kind::Span,
            "\"5s\"",
            "With `mode = \"tcp\"`: how long the TLS hello of a client may take, where a route or a rule looks at it. \
             Default 5s.",
        )
        .also(&["inspect-delay", "preread_timeout"]),
        key("backend", Kind::Text, "\"app\"", "Backend where no route matches. Default: such requests get 404.")
            .also(&["default_backend", "proxy_pass"]),
        key(
            "routes",
            Kind::List(&Kind::Section(&ROUTE)),
            "[{ path_prefix = \"/ws\", backend = \"ws\" }]",
            "Tried in order; the first that matches decides.",
        )
        .also(&["route", "locations", "location", "use_backend", "acl"]),
        key(
            "timeout",
            Kind::Section(&TIMEOUT),
            "{ client = \"30s\" }",
            "Timeouts; those not given come from `[defaults.timeout]`.",
        )
        .also(&["timeouts"]),
        key("maxconn", Kind::Size(1, 100_000_000), "10_000", "Connections at a time. Default: the instance's.")
            .also(&["max_connections", "max_conn"]),
        key(
            "maxconn_per_address",
            Kind::Size(0, 100_000_000),
            "100",
            "Connections at a time from one client address (from the first 64 bits of one of IPv6), on this instance. \
             Behind `accept_proxy` the address is the client's that the PROXY header names; `trusted_proxies` are no \
             clients. 0: no bound. Default 0.",
        )
        .also(&["conn_per_ip", "max_conn_per_ip", "maxconn_per_ip", "maxconn_per_client"]),
        key("forwarded", Kind::Flag, "true", "`X-Forwarded-For` and `X-Forwarded-Proto` to the servers. Default true.")
            .also(&["forwardfor"]),
        key(
            "trusted_proxies",
            Kind::Many(&Kind::Text),
            "[\"10.0.0.0/8\"]",
            "Networks whose `X-Forwarded-For` is believed: `src` is then the last address it \
             names that is not trusted itself. Default: none.",
        )
        .also(&["set_real_ip_from", "trusted"]),
        key(
            "max_head",
            Kind::Size(1024, 1_048_576),
            "16384",
            "Greatest size of a request's head in bytes. Default 16 KiB.",
        )
        .also(&["bufsize", "client_header_buffer_size"]),
        key("max_headers", Kind::Whole(1, 1000), "100", "Greatest number of header fields. Default 100.")
            .also(&["maxhdr"]),
        key(
            "min_rate",
            Kind::Size(0, 1_000_000_000),
            "240",
            "Bytes a second with which a client must send a request's body, and take its answer, while it is waited for; \
             it may be `timeout.client` behind. Streams of HTTP/2 without a length (gRPC) are passed over while they \
             send. 0: no bound. Default 240.",
        )
        .also(&["min_body_rate", "minrate", "min_bytes_per_second"]),
        key(
            "limit",
            Kind::List(&Kind::Section(&LIMIT)),
            "[{ key = \"src\", table = \"clients\", when = \"http_req_rate > 100\", then = \"deny 429\" }]",
            "Rules on what tables count, tried in order for each request, before its route.",
        )
        .also(&["limits", "rate_limit", "limit_req", "limit_conn"]),
        key(
            "max_tarpit",
            Kind::Size(0, 1_000_000),
            "1000",
            "Requests that `tarpit` rules hold at a time, in each worker; past it they are denied at once. \
             Default 1,000.",
        ),
        file_rules::REQUEST,
        file_rules::RESPONSE,
        file_rules::ERROR_PAGES,
        file_rules::MAINTENANCE_KEY,
        file_rules::REQUEST_ID_KEY,
        key("http2", Kind::Section(&HTTP2), "{ max_streams = 100 }", "What one client connection of HTTP/2 may hold.")
            .also(&["h2"]),
    ],
};

static LIMIT: Shape = Shape {
    doc: "One rule: counts the request for a key, then looks at what is counted of it.",
    keys: &[
        key("key", Kind::Text, "\"src\"", "Whose: a key expression. A request without the key is passed over.")
            .required()
            .also(&["on", "by", "track"]),
        key("table", Kind::Text, "\"clients\"", "The table that counts, which has a `store`.")
            .required()
            .also(&["zone"]),
        key(
            "when",
            Kind::Text,
            "\"http_req_rate > 100\"",
            "A counter of the table, `>`, `>=`, `<`, `<=` or `==`, a number; several joined by \" and \". \
             Default: always.",
        )
        .also(&["if", "condition"]),
        key(
            "then",
            Kind::Text,
            "\"deny 429\"",
            "`deny` (403) or `deny STATUS`; `tarpit`, `tarpit 10s 429`: hold, then answer; `inc gpc(0)`; \
             `set gpt(0) 1`; `track`: only count. Default track.",
        )
        .also(&["action", "do"]),
    ],
};

static ROUTE: Shape = Shape {
    doc: "One route: all the conditions given must hold.",
    keys: &[
        file_rules::HOST,
        file_rules::PATH_PREFIX.also(&["path_beg", "prefix", "location"]),
        file_rules::HEADER,
        file_rules::WEBSOCKET,
        key(
            "if",
            Kind::Section(&file_rules::IF),
            "{ method = \"GET\" }",
            "What else must hold: path by pattern, method, query, cookie, source, TLS, counters, `not`.",
        )
        .also(&["when", "unless", "acl"]),
        key(
            "sni",
            Kind::Many(&Kind::Text),
            "[\"mail.example.com\", \"*.example.org\"]",
            "With `mode = \"tcp\"`: server names that a TLS client asks for; TLS itself goes on to the server.",
        )
        .also(&["server_name", "ssl_preread_server_name", "req_ssl_sni"]),
        key(
            "alpn",
            Kind::Many(&Kind::Text),
            "\"h2\"",
            "With `mode = \"tcp\"`: protocols of which a TLS client offers one.",
        )
        .also(&["req_ssl_alpn", "ssl_preread_alpn_protocols"]),
        key("src", Kind::Many(&Kind::Text), "\"10.0.0.0/8\"", "With `mode = \"tcp\"`: networks of the client.")
            .also(&["source", "network", "from"]),
        key("backend", Kind::Text, "\"ws\"", "Where it goes.").required().also(&["use_backend", "to", "target"]),
    ],
};

pub(super) static BACKEND: Shape = Shape {
    doc: "Where requests go: servers, how one is chosen, how a client stays with it.",
    keys: &[
        key(
            "mode",
            Kind::Word(&["http", "tcp"]),
            "\"tcp\"",
            "`http` or `tcp`; a backend has one. Default: that of the frontends that lead to it.",
        ),
        key(
            "balance",
            Kind::Text,
            "\"roundrobin\"",
            "For clients that no pin binds: `roundrobin`, `leastconn`, `random(2)`, `first`, or a consistent \
             hash: `source`, `uri`, `hash(header(X-Tenant))`. Default roundrobin.",
        )
        .also(&["algorithm", "lb_policy", "policy", "method", "hash_type"]),
        super::file_affinity::LOAD_BOUND,
        super::file_affinity::ALL_BACKUPS,
        super::file_affinity::SLOW_START,
        key(
            "sticky",
            Kind::List(&Kind::Section(&STICKY)),
            "[{ cookie = \"SERVERID\", insert = true }]",
            "Affinity: cookies first, then tables in the order given.",
        )
        .also(&["stick", "stick_rules", "stick_on", "stick_table", "cookie", "app_cookie", "stickiness", "affinity"]),
        super::file_affinity::FAIL_BACK,
        super::file_affinity::FORCE_PERSIST,
        super::file_affinity::IGNORE_PERSIST,
        key(
            "on_down",
            Kind::Word(&["redispatch", "fail"]),
            "\"redispatch\"",
            "What a client gets whose server is down: another server, and the pin moves \
             (`redispatch`), or 503 while the pin stays (`fail`). Default redispatch.",
        )
        .also(&["redispatch", "option_redispatch"]),
        key(
            "drain",
            Kind::Word(&["stay", "move"]),
            "\"stay\"",
            "Whether a draining server's pinned clients still come, or go elsewhere at their next \
             request. Default stay.",
        ),
        key(
            "check",
            Kind::Section(&super::file_check::CHECK),
            "{ http = \"GET /health\", expect = 200 }",
            "Health check. Default: none, servers are up until connecting fails.",
        )
        .also(&["health_check", "healthcheck", "httpchk", "option", "option_httpchk", "tcp_check", "http_check"]),
        key(
            "agent",
            Kind::Section(&super::file_check::AGENT),
            "{ port = 9999 }",
            "A process beside each server that says how it is, in HAProxy's agent-check protocol: `up`, `down`, `drain`, \
             `maint`, `ready`, `75%`, `maxconn:30`. Operators' decisions hold over it. Default: none.",
        )
        .also(&["agent_check", "agent-check"]),
        key(
            "retries",
            Kind::Whole(0, 100),
            "3",
            "Connection attempts after the first, all servers together. Default: `[defaults]`, \
             else 3.",
        ),
        key(
            "retry_after",
            Kind::Span,
            "\"5s\"",
            "Without a check: how long until a server that refused connections is tried again. \
             Default 5s.",
        )
        .also(&["fail_timeout"]),
        super::file_faults::RETRY_ON,
        super::file_faults::RETRY_BUDGET,
        super::file_faults::RETRY_MIN,
        super::file_faults::OUTLIER,
        super::file_faults::PANIC_THRESHOLD,
        super::file_faults::ON_MARKED_DOWN,
        super::file_faults::QUEUE_FIRST,
        key(
            "max_queue",
            Kind::Size(0, 100_000_000),
            "1000",
            "Requests that may wait for one server with `maxconn`. Default 1,000.",
        )
        .also(&["maxqueue"]),
        SERVER_TLS,
        SEND_PROXY,
        key("real_ip", Kind::Flag, "false", "`X-Real-IP` to the servers. Default false."),
        key("max_idle", Kind::Whole(0, 100_000), "64", "Idle connections a worker keeps for each server. Default 64.")
            .also(&["keepalive", "pool_max_conn", "http_reuse"]),
        key(
            "max_body",
            Kind::Size(1, 1 << 50),
            "10_485_760",
            "Longest body of a request; one that is longer, or turns out to be, gets 413. Default: no bound.",
        )
        .also(&["client_max_body_size", "max_body_size", "request_body", "body_limit", "max_request_body"]),
        key(
            "timeout",
            Kind::Section(&TIMEOUT),
            "{ connect = \"5s\" }",
            "Timeouts; those not given come from `[defaults.timeout]`.",
        )
        .also(&["timeouts"]),
        super::file_discovery::SERVER_TEMPLATE,
        super::file_discovery::RESOLVER,
        key(
            "websocket",
            Kind::Section(&WEBSOCKET),
            "{ ping = \"30s\" }",
            "What WebSockets get beyond being passed on: pings, bounds, how they are closed.",
        )
        .also(&["ws", "websockets"]),
        key(
            "proto",
            Kind::Word(&["h1", "h2"]),
            "\"h2\"",
            "What the servers speak: HTTP/1.1, or HTTP/2 (with prior knowledge), as gRPC needs it. Default h1.",
        )
        .also(&["protocol", "http2", "h2", "grpc"]),
        key(
            "server",
            Kind::List(&Kind::Section(&SERVER)),
            "[{ name = \"node1\", addr = \"10.0.1.10:8080\" }]",
            "Servers, at least one where no `server_template` makes them.",
        )
        .also(&["servers", "targets", "endpoints"]),
        file_rules::REQUEST,
        file_rules::RESPONSE,
        file_rules::ERROR_PAGES,
        file_rules::MAINTENANCE_KEY,
        file_rules::COMPRESSION_KEY,
    ],
};

static STICKY: Shape = Shape {
    doc: "One sticky rule: a cookie, or a table.",
    keys: &[
        key(
            "cookie",
            Kind::Text,
            "\"SERVERID\"",
            "A cookie that names the server: its name. Needs one of `insert`, `rewrite`, `prefix`, `passive`.",
        )
        .also(&["lb_cookie"]),
        key("insert", Kind::Flag, "true", "The cookie is set by lb."),
        super::file_affinity::REWRITE,
        super::file_affinity::PREFIX,
        super::file_affinity::PASSIVE,
        super::file_affinity::VALUE,
        super::file_affinity::KEYS,
        key(
            "indirect",
            Kind::Flag,
            "true",
            "The server does not see the cookie, and a client that has a right one is not sent it \
             again. Default false.",
        ),
        key("nocache", Kind::Flag, "true", "`Cache-Control: private` where the cookie is set. Default false."),
        key("httponly", Kind::Flag, "true", "Scripts in the page do not see the cookie. Default false.")
            .also(&["http_only"]),
        key("secure", Kind::Flag, "true", "Only over HTTPS. Default false."),
        key(
            "samesite",
            Kind::Word(&["strict", "lax", "none"]),
            "\"lax\"",
            "`SameSite`; `none` needs `secure = true`. Default: not said.",
        )
        .also(&["same_site"]),
        key("domain", Kind::Text, "\"example.com\"", "`Domain`. Default: the host alone."),
        key("path", Kind::Text, "\"/\"", "`Path`. Default /."),
        key(
            "preserve",
            Kind::Flag,
            "true",
            "A cookie of that name that the server itself sets is left as it is. Default false.",
        ),
        key(
            "maxidle",
            Kind::Span,
            "\"30m\"",
            "The cookie is ignored when it was not used for this long. Default: no bound.",
        )
        .also(&["max_idle"]),
        key(
            "maxlife",
            Kind::Span,
            "\"8h\"",
            "The cookie is ignored this long after it was first set. Default: no bound.",
        )
        .also(&["max_life", "max_age"]),
        super::file_affinity::ATTR,
        key("on", Kind::Text, "\"src\"", "Look up this key in the table, and store it on the request.")
            .also(&["stick_on"]),
        key("match", Kind::Text, "\"header(X-Session-ID)\"", "Look up this key in the table.")
            .also(&["lookup", "stick_match"]),
        key("store_request", Kind::Text, "\"query(room)\"", "Store this key of the request in the table.")
            .also(&["store", "store-request"]),
        key("store_response", Kind::Text, "\"cookie(JSESSIONID)\"", "Store this key of the answer in the table.")
            .also(&["learn", "app_cookie", "store-response"]),
        key("table", Kind::Text, "\"sessions\"", "The table of `on`, `match`, `store_request`, `store_response`."),
        super::file_affinity::STICKY_IF,
    ],
};

pub(super) static MAXCONN: Shape = Shape {
    doc: "Requests and tunnels at a time on a server.",
    keys: &[
        key("instance", Kind::Size(0, 100_000_000), "100", "From this instance. 0: no bound of its own. Default 0."),
        key("cluster", Kind::Size(1, 100_000_000), "300", "From all instances of the cluster together.").required(),
    ],
};

static SERVER: Shape = Shape {
    doc: "One server of a backend.",
    keys: &[
        key("name", Kind::Text, "\"node1\"", "Unique in the backend: its identity in tables.").required().also(&["id"]),
        key(
            "addr",
            Kind::Text,
            "\"10.0.1.10:8080\"",
            "IP address and port; host name and port: the name is looked up again and again; or \"unix:/run/app.sock\".",
        )
        .required()
        .also(&["address", "host", "url"]),
        key("weight", Kind::Whole(0, 256), "1", "Share of new clients, 0 to 256; 0: pinned clients only. Default 1."),
        key(
            "maxconn",
            Kind::Either(&[Kind::Size(0, 100_000_000), Kind::Section(&MAXCONN)]),
            "200",
            "Requests and tunnels at a time, from this instance; the rest waits. 0: no bound. Or for all instances \
             together: `{ cluster = 300 }`. Default 0.",
        )
        .also(&["max_connections", "max_conn", "max_conns"]),
        super::file_affinity::BACKUP,
        super::file_affinity::SERVER_SLOW_START,
        key("cookie", Kind::Text, "\"n1\"", "Its value in the cookie. Default: its name."),
        super::file_affinity::GENERATION,
        SERVER_TLS,
        SEND_PROXY,
        super::file_check::SERVER_CHECK,
        super::file_check::SERVER_AGENT,
        key(
            "state",
            Kind::Word(&["ready", "drain", "maint"]),
            "\"ready\"",
            "State it starts in: `ready`, `drain` (pinned clients only), `maint` (nobody). \
             Default ready.",
        )
        .also(&["disabled", "down"]),
    ],
};
