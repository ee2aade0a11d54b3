//! The shape of the file, third part: the edges of connections, listeners and TLS. See [`super::file`].
use super::file::{Key, Kind, Shape, key};

pub(super) static TLS: Shape = Shape {
    doc: "TLS with clients, for all listeners.",
    keys: &[
        key(
            "ticket_keys",
            Kind::Many(&Kind::Text),
            "[\"/etc/lb/ticket.key\"]",
            "Files with secrets of 32 bytes or more, the same on every instance: a session begun on one is then resumed on \
             another. The first encrypts, all decrypt: to change one, put the new one first and drop the last later. \
             Default: a secret that only this process knows.",
        )
        .also(&["ticket_key", "tls_ticket_keys", "ssl_session_ticket_key", "session_ticket_keys"]),
        key(
            "max_handshakes",
            Kind::Size(1, 1_000_000),
            "10_000",
            "Handshakes at a time in each worker, once the client has said hello; past it newcomers are reset. Default \
             10,000.",
        )
        .also(&["maxsslconn"]),
        key(
            "max_handshake_rate",
            Kind::Size(0, 1_000_000),
            "0",
            "Handshakes that each worker begins in a second; past it newcomers are reset. 0: no bound. Default 0.",
        )
        .also(&["maxsslrate"]),
    ],
};

pub(super) static LISTEN: Shape = Shape {
    doc: "One address of a frontend.",
    keys: &[
        key(
            "addr",
            Kind::Text,
            "\"0.0.0.0:80\"",
            "IP address and port, port 0 takes a free one; `unix:/run/lb/web.sock`; `fd@web` or `fd@3`, a socket that the \
             service manager opened (systemd's socket activation), by name or number.",
        )
            .required()
            .also(&["address", "listen", "bind"]),
        key("tls", Kind::Section(&LISTEN_TLS), "{ cert = \"site.pem\" }", "TLS with clients. Default: none.")
            .also(&["ssl", "https"]),
        key(
            "alpn",
            Kind::Many(&Kind::Text),
            "[\"http/1.1\"]",
            "Protocols offered in the TLS handshake, those we like better first: \"h2\", \"http/1.1\". Default: both; \
             none in mode \"tcp\", where any name may stand.",
        )
        .also(&["protocols", "proto"]),
        key(
            "accept_proxy",
            Kind::Either(&[Kind::Flag, Kind::Text, Kind::List(&Kind::Text)]),
            "[\"10.0.0.0/8\"]",
            "Connections from these networks begin with a PROXY protocol header, version 1 or 2, which says who the client \
             is, and what TLS agreed on where it ended there; others come without. `true`: from `trusted_proxies`, on a Unix socket from everybody. Default false.",
        )
        .also(&["proxy_protocol"]),
        key("v6only", Kind::Flag, "false", "An IPv6 address takes no IPv4 clients. Default false.").also(&["ipv6only"]),
        key("mode", Kind::Text, "\"0660\"", "Permissions of a Unix socket, in octal. Default: as the umask says."),
        key("user", Kind::Text, "\"lb\"", "Owner of a Unix socket, by name or number. Default: who runs lb.")
            .also(&["owner", "uid"]),
        key("group", Kind::Text, "\"www-data\"", "Its group, by name or number. Default: that of who runs lb.")
            .also(&["gid"]),
        key(
            "h2c",
            Kind::Flag,
            "true",
            "Clients may begin with HTTP/2 without TLS (prior knowledge) beside HTTP/1.1. Default false.",
        )
        .also(&["http2", "h2"]),
    ],
};

const CERT: Key = key(
    "cert",
    Kind::Many(&Kind::Text),
    "\"site.pem\"",
    "PEM files of certificate chains, the server's own certificate first, and directories of such files. The private key \
     is in the same file, in one of `key`, or beside it (`site.key` for `site.pem`). Which certificate a client sees goes \
     by the name that it asks for; the first one is for all others. What the CA says of one (OCSP) is shown to clients \
     from the file `site.pem.ocsp` beside `site.pem`. Files that change are read anew.",
);

static LISTEN_TLS: Shape = Shape {
    doc: "TLS with clients.",
    keys: &[
        CERT.required().also(&["crt", "certificate", "certificates", "certs", "ssl_certificate"]),
        key(
            "key",
            Kind::Many(&Kind::Text),
            "\"site.key\"",
            "PEM files of private keys; each certificate finds its own.",
        )
        .also(&["keys", "ssl_certificate_key"]),
        key("min_version", Kind::Word(&["1.2", "1.3"]), "\"1.2\"", "Oldest version of TLS spoken. Default 1.2.")
            .also(&["ssl_min_ver", "protocols", "minversion"]),
        key(
            "strict_sni",
            Kind::Flag,
            "false",
            "Refuses clients that ask for no name, or for one that no certificate is for. Default false.",
        ),
        key(
            "check_host",
            Kind::Flag,
            "false",
            "Answers 421 where a request's `Host` belongs to another certificate than the handshake's. Default false.",
        ),
        key(
            "client_ca",
            Kind::Many(&Kind::Text),
            "\"clients-ca.pem\"",
            "PEM files of the CAs whose certificates clients must show. Default: clients are not asked.",
        )
        .also(&["ca", "ca_file", "ssl_client_certificate"]),
        key(
            "client_cert",
            Kind::Word(&["required", "optional"]),
            "\"required\"",
            "Whether clients may come without a certificate. Default required, where `client_ca` is given.",
        )
        .also(&["verify", "ssl_verify_client", "client_auth"]),
        key(
            "client_crl",
            Kind::Many(&Kind::Text),
            "\"clients.crl\"",
            "PEM files of certificates that the CAs have revoked. Default: none.",
        )
        .also(&["crl", "crl_file", "ssl_crl"]),
    ],
};

static SERVER_TLS_KINDS: [Kind; 2] = [Kind::Flag, Kind::Section(&SERVER_TLS_KEYS)];

/// `tls` of a backend or server.
pub(super) const SERVER_TLS: Key = key(
    "tls",
    Kind::Either(&SERVER_TLS_KINDS),
    "{ ca = \"ca.pem\", sni = \"app.internal\" }",
    "TLS to the servers. `true`: certificates that the system trusts, for the server's host name or address. Of a \
     server: what it does not say is as in its backend's. Default false.",
)
.also(&["ssl"]);

/// `send_proxy` of a backend or server.
pub(super) const SEND_PROXY: Key = key(
    "send_proxy",
    Kind::Either(&[Kind::Flag, Kind::Word(&["v1", "v2"])]),
    "\"v2\"",
    "Connections to the servers begin with a PROXY protocol header that names the client; `v2` also says what TLS agreed \
     on. Such connections serve one request, or one tunnel. Of a server: over its backend's. Default false.",
)
.also(&["send-proxy", "proxy_protocol", "send_proxy_v2"]);

/// `alpn` of a server's `tls`.
const SERVER_ALPN: Key = key(
    "alpn",
    Kind::List(&Kind::Text),
    "[\"mqtt\"]",
    "Protocols that are offered in the handshake, the better liked first; `[]`: none. Default: what is spoken, \"http/1.1\" or \
     \"h2\"; in TCP mode none.",
);

pub(super) static SERVER_TLS_KEYS: Shape = Shape {
    doc: "TLS to servers.",
    keys: &[
        key(
            "ca",
            Kind::Many(&Kind::Text),
            "\"ca.pem\"",
            "PEM files of the CAs that sign the server's certificate, or \"system\": those that the system trusts. Default \
             \"system\".",
        )
        .also(&["ca_file", "cafile", "proxy_ssl_trusted_certificate"]),
        key(
            "verify",
            Kind::Flag,
            "true",
            "Whether the certificate is looked at; without, anybody on the way can be the server. Default true.",
        ),
        key(
            "sni",
            Kind::Text,
            "\"app.internal\"",
            "The name that the server is asked for, and that its certificate must be for. Default: the host \
             name that it was found by, else its IP address.",
        )
        .also(&["server_name", "proxy_ssl_name", "verifyhost"]),
        key("cert", Kind::Text, "\"lb.pem\"", "PEM of a certificate chain to show to the server. Default: none.")
            .also(&["crt", "certificate"]),
        key("key", Kind::Text, "\"lb.key\"", "PEM of its private key. Default: it is in `cert`."),
        key("min_version", Kind::Word(&["1.2", "1.3"]), "\"1.2\"", "Oldest version of TLS spoken. Default 1.2."),
        SERVER_ALPN,
    ],
};
