//! The shape of the file: how clients are spread and how they stay. See [`super::file`].
use super::file::{Key, Kind, Shape, key};
use super::file_rules::IF;

pub(super) const LOAD_BOUND: Key = key(
    "load_bound",
    Kind::Whole(101, 65_535),
    "150",
    "Of hashing: how much of its even part of the load a server has at most, in percent; keys past it go to the next \
     server in their order. Default: no bound.",
)
.also(&["hash_balance_factor", "hash-balance-factor", "balance_factor"]);

pub(super) const ALL_BACKUPS: Key = key(
    "all_backups",
    Kind::Flag,
    "true",
    "All backups share the clients when no other server is left; else the first of them takes all. Default false.",
)
.also(&["allbackups"]);

pub(super) const BACKUP: Key =
    key("backup", Kind::Flag, "true", "Takes new clients only when no other server is left. Default false.");

static SLOW: Shape = Shape {
    doc: "How a server that comes up gets its clients.",
    keys: &[
        key("time", Kind::Span, "\"30s\"", "Its weight grows from a hundredth to the whole in this time.").required(),
        key(
            "pace",
            Kind::Text,
            "\"50/s\"",
            "Meanwhile it gets at most so many new clients a second from this instance, unless nobody else can take \
             them. Default: no bound.",
        )
        .also(&["rate", "max"]),
    ],
};

static SLOW_KINDS: [Kind; 2] = [Kind::Span, Kind::Section(&SLOW)];
static SERVER_SLOW_KINDS: [Kind; 2] = [Kind::SpanOrZero, Kind::Section(&SLOW)];

pub(super) const SLOW_START: Key = key(
    "slow_start",
    Kind::Either(&SLOW_KINDS),
    "\"30s\"",
    "A server that comes up gets its part of new clients little by little: over this time, or \
     `{ time = \"30s\", pace = \"50/s\" }`, never faster than that. Default: all at once.",
)
.also(&["slowstart", "warmup"]);

pub(super) const SERVER_SLOW_START: Key = key(
    "slow_start",
    Kind::Either(&SERVER_SLOW_KINDS),
    "\"30s\"",
    "As the backend's, for this server; \"0s\": all at once. Default: the backend's.",
)
.also(&["slowstart", "warmup"]);

pub(super) const REWRITE: Key =
    key("rewrite", Kind::Flag, "true", "The cookie is set by the server; lb puts its own value into it.");

pub(super) const PREFIX: Key = key(
    "prefix",
    Kind::Flag,
    "true",
    "The cookie is set by the server; lb puts its own value and `~` before the server's, and takes them off again.",
);

pub(super) const PASSIVE: Key = key(
    "passive",
    Kind::Flag,
    "true",
    "The cookie is set by the server, with the value that names it here; lb only looks at it.",
);

pub(super) const VALUE: Key = key(
    "value",
    Kind::Word(&["name", "dynamic", "sealed"]),
    "\"sealed\"",
    "What it says of the server: its cookie name (`name`), a keyed hash of its address and port (`dynamic`), or its \
     cookie name, encrypted and authenticated (`sealed`). Default name.",
);

pub(super) const KEYS: Key = key(
    "keys",
    Kind::Many(&Kind::Text),
    "[\"${COOKIE_KEY}\"]",
    "Keys of `dynamic` and `sealed` values, at least 16 characters each, the same on every instance; \
     `\"file:/etc/lb/cookie.key\"` is what that file holds, read with the configuration. The first writes, all are read.",
)
.also(&["key", "dynamic_cookie_key", "dynamic-cookie-key", "secret"]);

pub(super) const ATTR: Key = key(
    "attr",
    Kind::Many(&Kind::Text),
    "[\"Partitioned\"]",
    "More attributes of the cookie, as they are to be written. Default: none.",
)
.also(&["attrs", "attributes", "attribute"]);

pub(super) const STICKY_IF: Key =
    key("if", Kind::Section(&IF), "{ path_prefix = \"/app\" }", "Of which requests. Default: all.")
        .also(&["when", "unless", "acl"]);

pub(super) const FAIL_BACK: Key = key(
    "fail_back",
    Kind::Word(&["never", "idle", "now"]),
    "\"never\"",
    "When the first server of a redispatched client is back: the client stays (`never`), goes back when it was idle for \
     a quarter of `expire` or `maxidle` (`idle`), or at its next request (`now`). Default never.",
)
.also(&["failback", "fallback"]);

static CONDITION: Kind = Kind::Section(&IF);

pub(super) const FORCE_PERSIST: Key = key(
    "force_persist",
    Kind::Many(&CONDITION),
    "{ src = \"10.0.0.0/8\" }",
    "Requests that go to their pinned server though it is down or in maintenance; any of these. Default: none.",
)
.also(&["force-persist"]);

pub(super) const IGNORE_PERSIST: Key = key(
    "ignore_persist",
    Kind::Many(&CONDITION),
    "{ path_prefix = \"/static\" }",
    "Requests without affinity: nothing is looked up, stored or set for them; any of these. Default: none.",
)
.also(&["ignore-persist"]);

pub(super) const GENERATION: Key = key(
    "generation",
    Kind::Size(0, i64::MAX as u64),
    "1",
    "Which life of this server: another number, and dynamic and sealed cookies no longer name it. Default 0.",
)
.also(&["incarnation", "version"]);

static JWT_SHAPE: Shape = Shape {
    doc: "What the tokens of `jwt(CLAIM)` keys are believed by.",
    keys: &[
        key(
            "keys",
            Kind::Many(&Kind::Text),
            "[\"${JWT_KEY}\"]",
            "A token is believed that one of these keys signed: the text of a public key in PEM (RSA, EC, Ed25519), or a \
             shared secret (HS256, HS384, HS512) of 16 characters or more; `\"file:jwt.pem\"` is what that file holds.",
        )
        .also(&["key", "secret", "public_key", "public_keys"]),
        key(
            "unverified",
            Kind::Flag,
            "true",
            "Every token is believed, signed or not: a client can choose its key. Default false.",
        )
        .also(&["insecure", "no_verify"]),
    ],
};

pub(super) const JWT: Key = key(
    "jwt",
    Kind::Section(&JWT_SHAPE),
    "{ keys = \"${JWT_KEY}\" }",
    "What the tokens of `jwt(CLAIM)` keys are believed by.",
);

pub(super) const MAX_LIFE: Key = key(
    "max_life",
    Kind::Span,
    "\"8h\"",
    "A pin ends this long after it was made, used or not; the next request of its client is a new client's. By the \
     instances' clocks. Default: no bound.",
)
.also(&["maxlife", "max_age"]);
