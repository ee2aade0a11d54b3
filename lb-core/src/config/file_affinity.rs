//! The shape of the file: how clients are spread and how they stay. See [`super::file`].
use super::file::{Key, Kind, Shape, key};

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
