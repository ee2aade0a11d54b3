//! The shape of the file: every section, every key, what a value may be, in one table.
//!
//! The reader refuses what is not in it and suggests from it, [`super::schema`] makes the JSON Schema of it, and a test
//! demands that `deploy/lb.toml` shows every key of it. So there is one place to add a key; what the key comes to mean
//! is written in [`super::lower`].

/// A section: its keys.
#[derive(Debug)]
pub struct Shape {
    /// What it is about.
    pub doc: &'static str,
    /// Its keys, in the order in which documents list them.
    pub keys: &'static [Key],
}

/// One key of a section.
#[derive(Debug)]
pub struct Key {
    /// As the file writes it.
    pub name: &'static str,
    /// What a value may be.
    pub kind: Kind,
    /// An example of a value, in TOML.
    pub eg: &'static str,
    /// What it does, and its default.
    pub doc: &'static str,
    /// Whether its section must have it.
    pub required: bool,
    /// Words that users of other balancers would write: a suggestion names the key.
    pub also: &'static [&'static str],
}

/// What a value may be.
#[derive(Debug)]
pub enum Kind {
    /// A text, not empty.
    Text,
    /// `true` or `false`.
    Flag,
    /// A whole number within bounds.
    Whole(u64, u64),
    /// A whole number within bounds, which may be below zero.
    Signed(i64, i64),
    /// A whole number within bounds, or a text as `"100k"`.
    Size(u64, u64),
    /// A duration, not zero.
    Span,
    /// A duration; zero means "not at all".
    SpanOrZero,
    /// One of a few words.
    Word(&'static [&'static str]),
    /// A table of texts under free keys.
    Pairs,
    /// A section.
    Section(&'static Shape),
    /// Sections under free names.
    Named(&'static Shape),
    /// A list.
    List(&'static Kind),
    /// One value, or a list of them.
    Many(&'static Kind),
    /// Any of these.
    Either(&'static [Kind]),
}

pub(super) const fn key(name: &'static str, kind: Kind, eg: &'static str, doc: &'static str) -> Key {
    Key { name, kind, eg, doc, required: false, also: &[] }
}

impl Key {
    pub(super) const fn required(mut self) -> Self {
        self.required = true;
        self
    }

    pub(super) const fn also(mut self, words: &'static [&'static str]) -> Self {
        self.also = words;
        self
    }
}

impl Shape {
    /// The key of that name.
    pub fn key(&self, name: &str) -> Option<&'static Key> {
        self.keys.iter().find(|k| k.name == name)
    }

    /// The keys that it must have, as messages list them.
    pub(super) fn needs(&self) -> String {
        let keys: Vec<_> =
            self.keys.iter().filter(|k| k.required).map(|k| format!("`{} = {}`", k.name, k.eg)).collect();
        keys.join(", ")
    }
}

/// The whole file.
pub static ROOT: Shape =
    Shape {
        doc: "Configuration of lb.",
        keys: &[
            key("instance", Kind::Section(&INSTANCE), "{ name = \"lb1\" }", "This instance.")
                .also(&["global", "state"]),
            key(
                "admin",
                Kind::Section(&ADMIN),
                "{ listen = \"127.0.0.1:8404\" }",
                "Dashboard, REST API, metrics, CLI socket.",
            )
            .also(&["stats"]),
            key(
                "peers",
                Kind::Section(&PEERS),
                "{ cluster = \"shop\", listen = \"10.0.0.1:8405\" }",
                "The cluster that shares the stick tables. Without it this instance stands alone.",
            )
            .also(&["cluster", "peer"]),
            key("log", Kind::Section(&LOG), "{ level = \"info\" }", "What is logged, where.").also(&["logging"]),
            key(
                "tls",
                Kind::Section(&super::file_edge::TLS),
                "{ ticket_keys = \"/etc/lb/ticket.key\" }",
                "TLS with clients, for all listeners.",
            )
            .also(&["ssl"]),
            key(
                "defaults",
                Kind::Section(&DEFAULTS),
                "{ retries = 3 }",
                "Values for frontends and backends that do not set their own.",
            )
            .also(&["default"]),
            super::file_affinity::JWT,
            key("table", Kind::Named(&TABLE), "{ sessions = { type = \"string\" } }", "Stick tables, by name.")
                .also(&["tables", "stick-table", "stick_table"]),
            key(
                "auth",
                Kind::Named(&super::file_rules::AUTH),
                "{ admins = { file = \"admins.htpasswd\" } }",
                "Users and passwords that rules ask for, by name.",
            )
            .also(&["users", "userlist", "user"]),
            key(
                "frontend",
                Kind::Named(&super::file_traffic::FRONTEND),
                "{ web = { listen = \"0.0.0.0:80\", backend = \"app\" } }",
                "Where clients arrive, by name.",
            )
            .also(&["frontends", "listen", "server"]),
            key(
                "backend",
                Kind::Named(&super::file_traffic::BACKEND),
                "{ app = { server = [{ name = \"node1\", addr = \"10.0.1.10:8080\" }] } }",
                "Where requests go, by name.",
            )
            .also(&["backends", "upstream", "upstreams", "target_group"]),
        ],
    };

static INSTANCE: Shape = Shape {
    doc: "This instance.",
    keys: &[
        key(
            "name",
            Kind::Text,
            "\"lb1\"",
            "Name of this node in its cluster, different on each. Default: the host name; `lb run \
             --name` decides over both.",
        ),
        key("workers", Kind::Whole(1, 1024), "2", "Worker threads. Default: one for each core.").also(&[
            "nbthread",
            "threads",
            "worker_processes",
        ]),
        key("drain", Kind::SpanOrZero, "\"30s\"", "How long a stop waits for open requests and tunnels. Default 30s.")
            .also(&["hard_stop_after"]),
        key(
            "maxconn",
            Kind::Size(1, 100_000_000),
            "100_000",
            "Connections accepted at a time, over all frontends. Default 100,000.",
        )
        .also(&["max_connections", "worker_connections", "max_conn"]),
        key(
            "state",
            Kind::Text,
            "\"/var/lib/lb\"",
            "Directory in which tables and operators' decisions outlive a restart of every instance. Instances may \
             share it: each keeps its files under its name. Default: none, nothing is written.",
        )
        .also(&["state_dir", "state_file", "server_state_file", "data_dir"]),
        key(
            "state_interval",
            Kind::Span,
            "\"60s\"",
            "How often the tables are written to `state`; a graceful stop writes them, too. Default 60s.",
        ),
        key(
            "close_pace",
            Kind::Text,
            "\"50/s\"",
            "How many sockets are closed in a second (`50/s`) or minute (`30/m`) by a stop, by maintenance and by \
             moves; a stop is faster where its time demands it. Default 50/s.",
        )
        .also(&["pace"]),
    ],
};

static ADMIN: Shape = Shape {
    doc: "Dashboard, REST API, metrics, CLI socket.",
    keys: &[
        key(
            "listen",
            Kind::Text,
            "\"127.0.0.1:8404\"",
            "HTTP address: dashboard, API, /metrics, /healthz, /readyz. Default 127.0.0.1:8404, \
             or none where `socket` is given.",
        )
        .also(&["addr", "address", "bind"]),
        key("socket", Kind::Text, "\"/run/lb/lb1.sock\"", "Unix socket of the local command line. Default: none.")
            .also(&["path", "stats_socket"]),
        key(
            "token",
            Kind::Text,
            "\"${LB_TOKEN}\"",
            "Token asked of those who change something over HTTP; `\"file:/etc/lb/token\"` is what that file holds. \
             Without one the HTTP address is read-only.",
        )
        .also(&["password", "auth", "key"]),
    ],
};

static PEERS: Shape = Shape {
    doc: "The cluster that shares the stick tables.",
    keys: &[
        key("cluster", Kind::Text, "\"shop\"", "Only instances with the same cluster name speak to each other.")
            .required()
            .also(&["name"]),
        key("listen", Kind::Text, "\"10.0.0.1:8405\"", "Where this instance listens for peers.")
            .required()
            .also(&["addr", "address", "bind"]),
        key(
            "join",
            Kind::Many(&Kind::Text),
            "[\"10.0.0.2:8405\"]",
            "Peers to dial: addresses, host names, `dns:NAME:PORT` for every address a name has, or \
             `srv:_SERVICE._tcp.NAME` for the hosts and ports of its SRV records. Names are looked up again and again. \
             May hold this instance itself.",
        )
        .also(&["peers", "peer", "servers", "members", "seeds"]),
        key(
            "resolver",
            Kind::Text,
            "\"127.0.0.1:53\"",
            "DNS server that is asked for the names in `join`. Default: as the system does it (/etc/hosts, \
             /etc/resolv.conf).",
        )
        .also(&["dns", "nameserver", "resolvers"]),
        key(
            "tls",
            Kind::Section(&PEER_TLS),
            "{ ca = \"ca.pem\", cert = \"lb1.pem\", key = \"lb1.key\" }",
            "Mutual TLS between peers. Required off loopback, \
             unless `insecure = true`.",
        ),
        key(
            "insecure",
            Kind::Flag,
            "false",
            "Allows peers without TLS off loopback. Anybody who reaches the port can then read \
             and write the tables. Default false.",
        ),
        key(
            "join_timeout",
            Kind::SpanOrZero,
            "\"10s\"",
            "How long a starting instance waits for a peer to pull the tables from, before it \
             serves alone. Default 10s.",
        ),
        key(
            "ask_timeout",
            Kind::SpanOrZero,
            "\"1s\"",
            "How long a miss waits for the peers' word while the tables are not pulled yet. \
             Default 1s.",
        ),
        key(
            "heartbeat",
            Kind::Span,
            "\"1s\"",
            "How often a silent link is probed; a peer counts as dead after three. Default 1s.",
        ),
        key(
            "anti_entropy",
            Kind::Span,
            "\"10s\"",
            "How often two peers compare their tables, and pull what differs for longer than news \
             takes to travel. Default 10s.",
        ),
        key(
            "max_clock_ahead",
            Kind::Span,
            "\"24h\"",
            "Updates from a clock further ahead than this are refused. Default 24h.",
        ),
    ],
};

static PEER_TLS: Shape = Shape {
    doc: "Mutual TLS between peers.",
    keys: &[
        key("ca", Kind::Text, "\"ca.pem\"", "PEM of the cluster's CA.").required().also(&["ca_file", "cafile"]),
        key("cert", Kind::Text, "\"lb1.pem\"", "PEM of this node's certificate chain.")
            .required()
            .also(&["crt", "certificate"]),
        key("key", Kind::Text, "\"lb1.key\"", "PEM of this node's private key.").required(),
    ],
};

static LOG: Shape = Shape {
    doc: "What is logged, where.",
    keys: &[
        key(
            "level",
            Kind::Text,
            "\"info\"",
            "`error`, `warn`, `info`, `debug` or `trace`; for parts as `\"lb_peers=debug,info\"`. \
             Default info.",
        ),
        key(
            "format",
            Kind::Word(&["auto", "text", "json"]),
            "\"auto\"",
            "`text` for people, `json` for machines; `auto`: text on a terminal, JSON elsewhere. \
             Default auto.",
        ),
        key(
            "access",
            Kind::Either(&[Kind::Flag, Kind::Text]),
            "true",
            "A line for each request and tunnel: `true` to standard output, or the path of a \
             file. Default false.",
        ),
    ],
};

static DEFAULTS: Shape = Shape {
    doc: "Values for frontends and backends that do not set their own.",
    keys: &[
        key("timeout", Kind::Section(&TIMEOUT), "{ connect = \"5s\", tunnel = \"1h\" }", "Timeouts.")
            .also(&["timeouts"]),
        key(
            "retries",
            Kind::Whole(0, 100),
            "3",
            "Connection attempts after the first, all servers together. Default 3.",
        ),
        super::file_discovery::RESOLVER,
    ],
};

/// `timeout`, in three places.
pub(super) static TIMEOUT: Shape = Shape {
    doc: "Timeouts.",
    keys: &[
        key("connect", Kind::Span, "\"5s\"", "Connecting to a server. Default 5s."),
        key(
            "client",
            Kind::Span,
            "\"30s\"",
            "Silence of a client in the middle of a request body, or while it reads an answer. \
             Default 30s.",
        ),
        key("server", Kind::Span, "\"30s\"", "Silence of a server that owes an answer. Default 30s."),
        key("tunnel", Kind::Span, "\"1h\"", "Silence of both sides of a WebSocket or other tunnel. Default 1h."),
        key("http_request", Kind::Span, "\"10s\"", "From the first byte of a request's head to its last. Default 10s.")
            .also(&["http-request"]),
        key("http_keep_alive", Kind::Span, "\"60s\"", "A client connection between two requests. Default 60s.")
            .also(&["http-keep-alive", "keepalive"]),
        key(
            "queue",
            Kind::Span,
            "\"5s\"",
            "Waiting for a server that has its `maxconn` connections. Default: as `connect`.",
        ),
        key("check", Kind::Span, "\"2s\"", "A health check. Default 2s."),
        key("tls_handshake", Kind::Span, "\"10s\"", "A TLS handshake with a client. Default 10s.")
            .also(&["handshake", "ssl_handshake"]),
    ],
};

static TABLE: Shape = Shape {
    doc: "A stick table: which client is pinned to which server.",
    keys: &[
        key("type", Kind::Word(&["ip", "ipv6", "integer", "string", "binary"]), "\"string\"", "Type of the keys.")
            .required(),
        key(
            "len",
            Kind::Whole(1, 1024),
            "64",
            "Greatest length of a string or binary key in bytes; longer ones are cut. Default 64.",
        )
        .also(&["length"]),
        key("size", Kind::Size(1, 100_000_000), "100_000", "Greatest number of entries. Default 100,000."),
        key("expire", Kind::Span, "\"30m\"", "Life of an entry that nobody uses. Default 30m.")
            .also(&["ttl", "timeout"]),
        super::file_affinity::MAX_LIFE,
        key(
            "max_new_keys",
            Kind::Text,
            "\"20/s\"",
            "How many new keys one client address (the first 64 bits of one of IPv6) may pin here, in a second (`20/s`) or \
             minute (`60/m`), on each instance. Past it the client is served without a pin. Clients behind one proxy are \
             one, unless `trusted_proxies` or `accept_proxy` tell them apart. Default: no bound.",
        )
        .also(&["max_new", "new_keys", "key_rate"]),
        key(
            "when_full",
            Kind::Word(&["evict", "refuse"]),
            "\"evict\"",
            "A new key in a full table takes the place of the entry nearest its end (`evict`), or \
             is not stored (`refuse`). Default evict.",
        )
        .also(&["nopurge"]),
        key("replicate", Kind::Flag, "true", "Whether the peers get it. Default true.").also(&["peers"]),
        key(
            "store",
            Kind::List(&Kind::Text),
            "[\"conn_cur\", \"http_req_rate(10s)\"]",
            "What is counted for each key, summed over the cluster: `conn_cur`, `conn_cnt`, `conn_rate(10s)`, \
             `http_req_cnt`, `http_req_rate(10s)`, `http_err_rate(1m)`, `http_fail_rate(1m)`, `bytes_in_rate(1m)`, \
             `bytes_out_rate(1m)`, `gpc(0)`, `gpc_rate(0,10s)`, `gpt(0)`, and `_cnt` of each rate. Default: nothing.",
        )
        .also(&["counters", "data", "track"]),
    ],
};
