//! The shapes of servers that are found by name.
use super::file::{Key, Kind, Shape, key};

pub(super) const SERVER_TEMPLATE: Key = key(
    "server_template",
    Kind::Many(&EACH),
    "{ name = \"node\", addr = \"dns:app.internal:8080\", slots = 10 }",
    "Servers made of DNS: one for each address of a name, or for each SRV record. One that vanishes from the answers \
     drains: what is open stays, nobody new comes.",
)
.also(&["server-template", "discovery", "dns"]);

pub(super) const RESOLVER: Key = key(
    "resolver",
    Kind::Text,
    "\"127.0.0.1:53\"",
    "DNS server that is asked for the names of servers. Default: `[defaults]`, else as the system does it (/etc/hosts, \
     /etc/resolv.conf).",
)
.also(&["resolvers", "nameserver"]);

static EACH: Kind = Kind::Section(&TEMPLATE);

static TEMPLATE: Shape = Shape {
    doc: "Servers made of DNS.",
    keys: &[
        key("name", Kind::Text, "\"node\"", "What the servers' names begin with: `node-10.0.1.10:8080`.")
            .required()
            .also(&["prefix"]),
        key(
            "addr",
            Kind::Text,
            "\"dns:app.internal:8080\"",
            "`dns:NAME:PORT` for every address of a name, `srv:_SERVICE._tcp.NAME` for the hosts, ports and weights of its \
             SRV records (those of a higher priority value are backups).",
        )
        .required()
        .also(&["address", "fqdn", "host"]),
        key("slots", Kind::Whole(1, 1000), "10", "Most servers that are made of it. Default 10.")
            .also(&["count", "num", "max"]),
        key(
            "identity",
            Kind::Word(&["address", "name"]),
            "\"address\"",
            "What makes a server the same in the next answer, and with it pins in tables and cookies: its address and port, \
             or the host and port that its SRV record names. Default address.",
        )
        .also(&["srvkey", "key"]),
        key(
            "hold",
            Kind::SpanOrZero,
            "\"30s\"",
            "How long a server stays that an answer names no more. A name that cannot be looked up takes none away. Default \
             0s.",
        )
        .also(&["hold_obsolete", "hold_valid"]),
        key("weight", Kind::Whole(0, 256), "1", "Weight of each, where SRV records give none. Default 1."),
        key(
            "maxconn",
            Kind::Either(&[Kind::Size(0, 100_000_000), Kind::Section(&super::file_traffic::MAXCONN)]),
            "200",
            "As of a server, for each.",
        ),
        key(
            "backup",
            Kind::Flag,
            "true",
            "New clients only when no other server is left. Default false: SRV records of a higher priority value alone.",
        ),
        super::file_affinity::SERVER_SLOW_START,
        super::file_edge::SERVER_TLS,
        super::file_edge::SEND_PROXY,
        super::file_check::SERVER_CHECK,
        super::file_check::SERVER_AGENT,
    ],
};
