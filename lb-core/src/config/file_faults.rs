//! The shapes of what a backend makes of failures.
use super::file::{Key, Kind, Shape, key};

pub(super) const RETRY_ON: Key = key(
    "retry_on",
    Kind::Many(&Kind::Either(&[Kind::Whole(400, 599), Kind::Text])),
    "[\"connect-failure\", \"empty-response\", 503]",
    "What is tried again, `retries` times: `connect-failure`; and for idempotent requests whose body is not longer than a \
     few kilobytes `empty-response` (the server closed without a word), `response-timeout`, `junk-response` (no HTTP), \
     statuses as 503, \"502-504\" or \"5xx\". Clients that are pinned keep their server: for them statuses and time-outs stand. \
     Default: connect-failure.",
)
.also(&["retry-on", "proxy_next_upstream"]);

pub(super) const RETRY_BUDGET: Key = key(
    "retry_budget",
    Kind::Text,
    "\"20%\"",
    "Retries for each hundred requests of the backend, over the last ten seconds, from this instance. Past it failures \
     stand. Default: no bound but `retries`.",
)
.also(&["budget"]);

pub(super) const RETRY_MIN: Key = key(
    "retry_min",
    Kind::Whole(0, 1_000_000),
    "10",
    "Retries a second that `retry_budget` always allows. Default 10.",
)
.also(&["min_retries"]);

pub(super) const OUTLIER: Key = key(
    "outlier",
    Kind::Section(&OUTLIER_SHAPE),
    "{ consecutive = 5 }",
    "Takes servers out for a while whose answers are failures, whatever their check says. Default: none.",
)
.also(&["outlier_detection", "observe", "passive_health", "circuit_breaker"]);

pub(super) const PANIC_THRESHOLD: Key = key(
    "panic_threshold",
    Kind::Text,
    "\"30%\"",
    "With fewer of the servers up, health is ignored: all that are not in maintenance get their share. Default: never.",
)
.also(&["panic", "healthy_panic_threshold"]);

pub(super) const QUEUE_FIRST: Key = key(
    "queue_first",
    Kind::Word(&["arrived", "pinned"]),
    "\"arrived\"",
    "Who gets the next place on a server with `maxconn`: who came first, or clients that are pinned to it before all \
     others. Default arrived.",
)
.also(&["priority", "queue_priority"]);

pub(super) const ON_MARKED_DOWN: Key = key(
    "on_marked_down",
    Kind::Word(&["stay", "close"]),
    "\"stay\"",
    "What becomes of open requests and tunnels on a server that goes down: they go on, or are closed at once, so that \
     clients come back elsewhere. Default stay.",
)
.also(&["on-marked-down"]);

static OUTLIER_SHAPE: Shape = Shape {
    doc: "Takes servers out whose answers are failures. Failed connects and answers that never come count, too.",
    keys: &[
        key(
            "on",
            Kind::Word(&["5xx", "gateway"]),
            "\"5xx\"",
            "Statuses that are failures: `5xx`, or `gateway` for 502, 503, 504 alone. Default 5xx.",
        ),
        key(
            "consecutive",
            Kind::Whole(0, 1_000_000),
            "5",
            "Failures in a row that take a server out; 0: none do. Default 5.",
        )
        .also(&["consecutive_5xx", "error_limit", "max_fails"]),
        key(
            "failure_rate",
            Kind::Text,
            "\"50%\"",
            "Share of failures in `interval` that takes a server out. Default: none does.",
        )
        .also(&["success_rate"]),
        key(
            "min_requests",
            Kind::Whole(1, 1_000_000),
            "20",
            "Requests in `interval` that `failure_rate` needs to mean something. Default 20.",
        )
        .also(&["request_volume"]),
        key("interval", Kind::Span, "\"10s\"", "Over which `failure_rate` is taken. Default 10s."),
        key(
            "eject",
            Kind::Span,
            "\"30s\"",
            "How long a server is out the first time; the second time twice that, and so on. Default 30s.",
        )
        .also(&["base_ejection_time"]),
        key("max_eject", Kind::Span, "\"5m\"", "The longest that it is out. Default 5m.").also(&["max_ejection_time"]),
        key("max_ejected", Kind::Text, "\"50%\"", "Share of the backend's servers that may be out. Default 50%.")
            .also(&["max_ejection_percent"]),
    ],
};
