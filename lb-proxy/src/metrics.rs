//! Every metric of the proxy: name, kind, labels and help in one table, and how a scrape is answered.
//!
//! The data plane counts in slots of its own ([`lb_core::server::Count`]); a scrape sums them. They are written out
//! here, family by family, rather than mirrored into the process's recorder: what the configuration no longer has is
//! then gone from the next scrape, and two instances in one process (tests) do not mix. The recorder holds what other
//! crates record through the `metrics` facade.
use lb_core::server::{AdminState, Health};
use lb_core::snapshot::{Backend, DURATION_BUCKETS, Ruled, Server, Snapshot};
use lb_core::status::{NameStatus, PeersStatus};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use std::sync::OnceLock;
use std::time::Duration;
use text::Text;

mod peers;
mod text;
mod tls;
mod websocket;

/// How a value behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts by upper bound.
    Histogram,
}

/// One metric.
#[derive(Clone, Copy, Debug)]
pub struct Family {
    /// Name.
    pub name: &'static str,
    /// Kind.
    pub kind: Kind,
    /// Labels, in order.
    pub labels: &'static [&'static str],
    /// What it is.
    pub help: &'static str,
}

macro_rules! families {
    ($($id:ident $kind:ident $name:literal [$($label:literal)*] $help:literal;)*) => {
        $(const $id: Family = Family { name: $name, kind: Kind::$kind, labels: &[$($label),*], help: $help };)*
        /// All of them, for guards and docs.
        pub const FAMILIES: &[Family] = &[$($id),*];
    };
}

families! {
    BUILD_INFO Gauge "lb_build_info" ["version"] "1; the release is in the label.";
    START_TIME Gauge "process_start_time_seconds" [] "Start of this instance, Unix seconds.";
    READY Gauge "lb_ready" [] "1 when /readyz says so: tables pulled, not draining.";
    GENERATION Gauge "lb_config_generation" [] "Generation of the running configuration; one more for each reload.";
    RELOADS Counter "lb_reloads_total" ["result"] "Reloads asked for, by result (ok, refused).";
    ACCESS_DROPPED Counter "lb_access_log_dropped_total" [] "Access log lines dropped because the writer could not keep up, or could not write.";
    STATE_ERRORS Counter "lb_state_write_errors_total" [] "Times that instance.state could not be used.";
    STATE_SAVED Gauge "lb_state_last_success_timestamp_seconds" [] "When tables and decisions were last written to instance.state, Unix seconds; none before the first time.";
    STATE_TOOK Gauge "lb_state_write_duration_seconds" [] "How long the last writing to instance.state took.";
    STATE_DAMAGED Counter "lb_state_files_set_aside_total" [] "State files set aside because they could not be used.";
    FRONTEND_ACTIVE Gauge "lb_frontend_connections_active" ["frontend"] "Client connections open now.";
    FRONTEND_TOTAL Counter "lb_frontend_connections_total" ["frontend"] "Client connections accepted.";
    FRONTEND_REFUSED Counter "lb_frontend_connections_refused_total" ["frontend"] "Client connections refused by maxconn.";
    REFUSED_ADDRESS Counter "lb_frontend_connections_refused_per_address_total" ["frontend"] "Client connections refused by maxconn_per_address.";
    ACCEPT_ERRORS Counter "lb_frontend_accept_errors_total" ["frontend"] "Times that a client connection could not be accepted: no descriptor or memory was left. Those who wait are tried again.";
    SLOW Counter "lb_http_slow_clients_total" ["frontend" "direction"] "Requests given up because the client sent its body (in), or took its answer (out), more slowly than min_rate.";
    TCP Counter "lb_tcp_connections_total" ["frontend" "result"] "Connections of frontends with mode = \"tcp\": passed on to a server, denied by a rule, failed (no route, no server, a wrong or late TLS hello).";
    LIMIT Counter "lb_limit_total" ["frontend" "rule" "action"] "Times a limit rule (by its number, from 0) did what it says.";
    RULES Counter "lb_rule_total" ["frontend" "backend" "list" "rule" "action"] "Times a rule of a frontend or of a backend (by its number in request or response, from 0) did what it says.";
    TARPITTED Gauge "lb_tarpit_active" ["frontend"] "Requests that a tarpit holds now.";
    TARPIT_FULL Counter "lb_tarpit_full_total" ["frontend"] "Requests denied at once because the tarpit was full.";
    REQUESTS Counter "lb_http_requests_total" ["frontend" "code"] "Requests finished, by class of their answer.";
    OWN_ANSWERS Counter "lb_http_own_answers_total" ["frontend"] "Requests answered by lb itself (errors), not by a server.";
    DURATION Histogram "lb_http_request_duration_seconds" ["frontend"] "From a request's first byte to the end of its answer.";
    HTTP2_ACTIVE Gauge "lb_http2_connections_active" ["frontend"] "Client connections of HTTP/2 open now.";
    HTTP2_CLOSED Counter "lb_http2_connections_closed_total" ["frontend" "reason"] "Client connections of HTTP/2 closed for a flood of frames (flood), or for breaking the protocol (error).";
    HTTP2_RESETS Counter "lb_http2_resets_total" ["frontend" "by"] "Streams of HTTP/2 reset by clients (client) and by us (lb), counted when their connection ends.";
    SERVER_UP Gauge "lb_server_up" ["backend" "server"] "1 when checks and connects find the server up.";
    SERVER_STATE Gauge "lb_server_state" ["backend" "server" "state"] "1 for the state that the operator wants (ready, drain, maint).";
    SERVER_WEIGHT Gauge "lb_server_weight" ["backend" "server"] "Weight that holds now.";
    SERVER_ACTIVE Gauge "lb_server_connections_active" ["backend" "server"] "Requests and tunnels on the server now.";
    WEBSOCKETS Gauge "lb_websocket_connections_active" ["backend" "server"] "Open WebSockets and other upgraded tunnels.";
    WS_CLOSES Counter "lb_websocket_closes_total" ["backend" "code" "by"] "WebSockets that ended, by the first Close frame's code (3xxx and 4xxx together; 1005: it had none; none: there was no such frame) and by who ended it first (client, server, lb).";
    WS_ERRORS Counter "lb_websocket_errors_total" ["backend" "kind" "by"] "WebSockets whose client or server broke the protocol, by how it did first: reserved bits, an unknown opcode, a wrong mask, a bad control frame, a bad length, fragments out of order.";
    WS_MESSAGES Counter "lb_websocket_messages_total" ["backend" "server" "direction"] "WebSocket messages from clients (in) and to clients (out).";
    SERVER_REQUESTS Counter "lb_server_requests_total" ["backend" "server"] "Requests sent to the server.";
    SERVER_CONNECTS Counter "lb_server_connects_total" ["backend" "server"] "Connections opened to the server.";
    SERVER_ERRORS Counter "lb_server_errors_total" ["backend" "server" "kind"] "Failed connects (connect), and answers that never came or came broken (response).";
    SERVER_BYTES Counter "lb_server_bytes_total" ["backend" "server" "direction"] "Body and tunnel bytes from clients (in) and to clients (out).";
    SERVER_RESPONSES Counter "lb_server_responses_total" ["backend" "server" "code"] "Answers of the server, by class.";
    SERVER_CHECKS Counter "lb_server_checks_total" ["backend" "server" "result"] "Health checks, by result (passed, failed).";
    AGENT_ERRORS Counter "lb_server_agent_errors_total" ["backend" "server"] "Times that the server's agent could not be heard.";
    SERVER_EJECTED Gauge "lb_server_ejected" ["backend" "server"] "1 while the server is out because it failed too many requests (outlier).";
    SERVER_EJECTIONS Counter "lb_server_ejections_total" ["backend" "server"] "Times that the server was taken out because it failed too many requests.";
    SERVER_CLOSED Counter "lb_server_closed_total" ["backend" "server"] "Requests and tunnels closed because the server went down (on_marked_down).";
    SERVER_QUEUED Gauge "lb_server_queued" ["backend" "server"] "Requests that wait for a place on the server.";
    PANIC Gauge "lb_backend_panic" ["backend"] "1 while health is ignored, because too few servers are up.";
    OVER_BUDGET Counter "lb_backend_retries_over_budget_total" ["backend"] "Retries that were not made, because the retry budget was spent.";
    NAME_UP Gauge "lb_dns_up" ["backend" "name"] "1 when the last look-up of this name of servers found something.";
    NAME_ERRORS Counter "lb_dns_errors_total" ["backend" "name"] "Look-ups of the name that failed.";
    NAME_SERVERS Gauge "lb_dns_servers" ["backend" "name"] "Servers made of the name.";
    NAME_LEFT_OUT Gauge "lb_dns_servers_left_out" ["backend" "name"] "Servers left out, because the template has no more slots.";
    AFFINITY Counter "lb_affinity_total" ["backend" "result"] "Why requests went to their server: cookie, table, new, redispatched, returned.";
    RETRIES Counter "lb_backend_retries_total" ["backend"] "Attempts after the first: connects, and requests sent again.";
    NO_SERVER Counter "lb_backend_no_server_total" ["backend"] "Requests that no server could take.";
    QUEUED Counter "lb_backend_queued_total" ["backend"] "Requests that waited for a server with maxconn.";
    QUEUE_DROPPED Counter "lb_backend_queue_dropped_total" ["backend"] "Requests that waited too long or found the queue full.";
    HANDSHAKES_ACTIVE Gauge "lb_tls_handshakes_active" ["frontend"] "TLS handshakes with clients going on now.";
    HANDSHAKES Counter "lb_tls_handshakes_total" ["frontend" "kind"] "TLS handshakes with clients: full, or resumed from a former session.";
    HANDSHAKE_FAILURES Counter "lb_tls_handshake_failures_total" ["frontend" "reason"] "TLS handshakes that came to nothing: shed, timeout, closed, not-tls, incompatible, no-certificate, client-certificate, alert, other.";
    PROXY_ERRORS Counter "lb_proxy_protocol_errors_total" ["frontend"] "Connections closed because they did not begin with a PROXY header, where one was due.";
    CERT_EXPIRY Gauge "lb_tls_certificate_expiry_seconds" ["frontend" "certificate"] "End of a certificate that clients are shown, by its file, Unix seconds.";
    OCSP_EXPIRY Gauge "lb_tls_ocsp_expiry_seconds" ["frontend" "certificate"] "End of what clients are told of a certificate by its CA (OCSP), by the certificate's file, Unix seconds.";
    CERT_ERRORS Counter "lb_tls_certificate_reload_errors_total" [] "Times that changed files of certificates could not be used.";
    TABLE_ENTRIES Gauge "lb_table_entries" ["table"] "Live entries.";
    TABLE_COUNTED Gauge "lb_table_counted_keys" ["table"] "Keys that are counted, pinned or not.";
    TABLE_SIZE Gauge "lb_table_size" ["table"] "Greatest number of entries.";
    TABLE_TOMBSTONES Gauge "lb_table_tombstones" ["table"] "Cleared entries, kept until every peer must have heard.";
    TABLE_MEMORY Gauge "lb_table_memory_bytes" ["table"] "Memory of the table.";
    TABLE_STORES Counter "lb_table_stores_total" ["table"] "Pins written on this instance.";
    TABLE_HITS Counter "lb_table_hits_total" ["table"] "Look-ups that found a pin.";
    TABLE_MISSES Counter "lb_table_misses_total" ["table"] "Look-ups that found none.";
    TABLE_EVICTIONS Counter "lb_table_evictions_total" ["table"] "Entries that went because the table was full.";
    TABLE_REFUSED Counter "lb_table_refused_total" ["table"] "New keys refused because the table was full.";
    TABLE_OVER_PACE Counter "lb_table_new_keys_refused_total" ["table"] "New keys that were not pinned because their client's address made too many (max_new_keys).";
    TABLE_EXPIRED Counter "lb_table_expired_total" ["table"] "Entries that reached their deadline.";
    TABLE_MERGED Counter "lb_table_merged_total" ["table"] "Updates from peers that changed something.";
    TABLE_MERGE_REFUSED Counter "lb_table_merge_refused_total" ["table"] "Updates from peers refused: absurd stamp, wrong key, no room.";
    TABLE_CONFLICTS Counter "lb_table_conflicts_total" ["table"] "Updates whose stamp is known here with another value: a node reuses stamps.";
    PEER_UP Gauge "lb_peer_up" ["peer"] "1 while the link to the peer is up; a peer that was never met goes by its address.";
    PEER_IN_SYNC Gauge "lb_peer_in_sync" ["peer"] "1 when the last comparisons found its tables equal to ours, but for what is on its way.";
    PEER_LAG Gauge "lb_peer_lag_seconds" ["peer"] "How long the oldest batch sent to it waits for its acknowledgement.";
    PEER_BACKLOG Gauge "lb_peer_backlog_entries" ["peer"] "Entries changed here that it was not sent yet.";
    PEER_OFFSET Gauge "lb_peer_clock_offset_seconds" ["peer"] "Its wall clock minus ours.";
    PEER_RTT Gauge "lb_peer_round_trip_seconds" ["peer"] "Round trip of the last heartbeat.";
    PEER_SENT Counter "lb_peer_sent_total" ["peer"] "Entries sent to it in live updates.";
    PEER_RECEIVED Counter "lb_peer_received_total" ["peer"] "Entries received from it in live updates.";
    PEER_REFUSED Counter "lb_peer_refused_total" ["peer"] "Entries of it that found no room here, or could not be taken.";
    PEER_REFUSED_BY Counter "lb_peer_refused_by_total" ["peer"] "Entries sent that it could not take.";
    PEER_COMPARED Counter "lb_peer_digest_rounds_total" ["peer"] "Comparisons of tables that it answered.";
    PEER_REPAIRED Counter "lb_peer_repaired_total" ["peer"] "Entries that differed and were pulled from it.";
    PEER_DNS_UP Gauge "lb_peer_dns_up" ["name"] "1 when the last look-up of this name of peers.join found something.";
    PEER_DNS_ERRORS Counter "lb_peer_dns_errors_total" ["name"] "Look-ups of the name that failed.";
    PEER_CERT_EXPIRY Gauge "lb_peer_certificate_expiry_seconds" [] "End of this instance's certificate for peers, Unix seconds.";
    PEER_CERT_ERRORS Counter "lb_peer_certificate_reload_errors_total" [] "Times that changed files of the certificate could not be used.";
    PEERS_REFUSED Gauge "lb_peers_refused" ["reason"] "Peers, names and strangers that are refused now, or refuse us, or (dns) cannot be looked up.";
}

/// What a scrape tells of the instance itself.
#[derive(Clone, Copy, Debug)]
pub struct Process {
    /// Unix seconds of the start.
    pub started: f64,
    /// Whether `/readyz` says so.
    pub ready: bool,
    /// Reloads that took effect.
    pub reloads_ok: u64,
    /// Reloads that changed nothing.
    pub reloads_refused: u64,
    /// Access log lines dropped.
    pub access_dropped: u64,
    /// What is kept on disk.
    pub state: StateFigures,
}

/// What a scrape tells of `instance.state`.
#[derive(Clone, Copy, Debug, Default)]
pub struct StateFigures {
    /// When everything was last written, Unix milliseconds.
    pub saved: Option<u64>,
    /// How long that took.
    pub took: Duration,
    /// Times that it could not be done.
    pub errors: u64,
    /// Files set aside.
    pub set_aside: u64,
}

const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// The process's recorder, installed by the first call. Where somebody else installed one, what crates record goes
/// there, and this one stays empty.
pub fn recorder() -> PrometheusHandle {
    static RECORDER: OnceLock<PrometheusHandle> = OnceLock::new();
    RECORDER
        .get_or_init(|| {
            let recorder = PrometheusBuilder::new().build_recorder();
            let handle = recorder.handle();
            if metrics::set_global_recorder(recorder).is_err() {
                tracing::debug!("a metrics recorder is installed already");
            }
            handle
        })
        .clone()
}

/// The answer to a scrape, in Prometheus' text format 0.0.4.
pub fn render(
    snapshot: &Snapshot,
    process: Process,
    replication: Option<&PeersStatus>,
    names: &[NameStatus],
    recorder: &PrometheusHandle,
) -> String {
    let mut out = Text::default();
    instance(&mut out, snapshot, process);
    frontends(&mut out, snapshot);
    http2(&mut out, snapshot);
    servers(&mut out, snapshot);
    backends(&mut out, snapshot);
    websocket::write(&mut out, snapshot);
    rules(&mut out, snapshot);
    self::names(&mut out, names);
    tables(&mut out, snapshot);
    if let Some(replication) = replication {
        peers::write(&mut out, replication);
    }
    let mut out = out.finish();
    out.push_str(&recorder.render());
    out
}

pub(crate) use tls::write as tls;

fn instance(out: &mut Text, snapshot: &Snapshot, process: Process) {
    out.family(&BUILD_INFO).row(&[env!("CARGO_PKG_VERSION")], 1);
    out.family(&START_TIME).row(&[], process.started);
    out.family(&READY).row(&[], u8::from(process.ready));
    out.family(&GENERATION).row(&[], snapshot.generation);
    out.family(&RELOADS).row(&["ok"], process.reloads_ok).row(&["refused"], process.reloads_refused);
    out.family(&ACCESS_DROPPED).row(&[], process.access_dropped);
    let state = process.state;
    out.family(&STATE_ERRORS).row(&[], state.errors);
    out.family(&STATE_DAMAGED).row(&[], state.set_aside);
    let (saved, took) = (out.family(&STATE_SAVED), state.took.as_secs_f64());
    if let Some(at) = state.saved {
        saved.row(&[], at as f64 / 1000.0);
        out.family(&STATE_TOOK).row(&[], took);
    }
}

fn frontends(out: &mut Text, snapshot: &Snapshot) {
    let mut each = |family: &Family, value: &dyn Fn(&lb_core::snapshot::FrontendState) -> u64| {
        let mut rows = out.family(family);
        for f in &snapshot.frontends {
            rows = rows.row(&[&f.config.name], value(&f.state));
        }
    };
    each(&FRONTEND_ACTIVE, &|f| f.sum(|c| &c.open));
    each(&FRONTEND_TOTAL, &|f| f.sum(|c| &c.accepted));
    each(&FRONTEND_REFUSED, &|f| f.sum(|c| &c.refused));
    each(&REFUSED_ADDRESS, &|f| f.sum(|c| &c.refused_address));
    each(&ACCEPT_ERRORS, &|f| f.sum(|c| &c.accept_errors));
    each(&OWN_ANSWERS, &|f| f.sum(|c| &c.own_answers));
    each(&TARPITTED, &|f| f.sum(|c| &c.tarpitted));
    each(&TARPIT_FULL, &|f| f.sum(|c| &c.tarpit_full));
    let mut rows = out.family(&SLOW);
    for f in &snapshot.frontends {
        let name = &f.config.name;
        rows = rows.row(&[name, "in"], f.state.sum(|c| &c.slow_in)).row(&[name, "out"], f.state.sum(|c| &c.slow_out));
    }
    let mut rows = out.family(&TCP);
    for f in snapshot.frontends.iter().filter(|f| f.config.tcp.is_some()) {
        let name = &f.config.name;
        rows = rows
            .row(&[name, "passed"], f.state.sum(|c| &c.passed))
            .row(&[name, "denied"], f.state.sum(|c| &c.denied))
            .row(&[name, "failed"], f.state.sum(|c| &c.failed));
    }
    let mut rows = out.family(&LIMIT);
    for f in &snapshot.frontends {
        for (number, limit) in f.limits.iter().enumerate() {
            rows = rows.row(&[&f.config.name, &number.to_string(), limit.rule.then.word()], limit.times());
        }
    }
    let mut rows = out.family(&REQUESTS);
    for f in &snapshot.frontends {
        for (i, class) in CLASSES.iter().enumerate() {
            rows = rows.row(&[&f.config.name, class], f.state.sum(|c| &c.responses[i]));
        }
    }
    let mut rows = out.family(&DURATION);
    for f in &snapshot.frontends {
        let counts: Vec<u64> = (0..=DURATION_BUCKETS.len()).map(|i| f.state.sum(|c| &c.durations[i])).collect();
        let bounds = DURATION_BUCKETS.map(|us| us as f64 / 1e6);
        rows = rows.histogram(&[&f.config.name], &bounds, &counts, f.state.sum(|c| &c.duration_us) as f64 / 1e6);
    }
}

fn http2(out: &mut Text, snapshot: &Snapshot) {
    let mut rows = out.family(&HTTP2_ACTIVE);
    for f in &snapshot.frontends {
        rows = rows.row(&[&f.config.name], f.state.sum(|c| &c.h2_open));
    }
    let mut rows = out.family(&HTTP2_CLOSED);
    for f in &snapshot.frontends {
        let (name, state) = (&f.config.name, &f.state);
        rows =
            rows.row(&[name, "flood"], state.sum(|c| &c.h2_floods)).row(&[name, "error"], state.sum(|c| &c.h2_errors));
    }
    let mut rows = out.family(&HTTP2_RESETS);
    for f in &snapshot.frontends {
        let (name, state) = (&f.config.name, &f.state);
        rows = rows
            .row(&[name, "client"], state.sum(|c| &c.h2_resets_in))
            .row(&[name, "lb"], state.sum(|c| &c.h2_resets_out));
    }
}

fn rules(out: &mut Text, snapshot: &Snapshot) {
    let mut rows = out.family(&RULES);
    let frontends = snapshot.frontends.iter().map(|f| ([&*f.config.name, ""], &f.config.rules, &f.ruled));
    let backends = snapshot.backends.iter().map(|b| (["", &*b.config.name], &b.config.rules, &b.ruled));
    for ([frontend, backend], rules, ruled) in frontends.chain(backends) {
        let request = rules.request.iter().map(|rule| rule.then.word()).zip(&ruled.request);
        let response = rules.response.iter().map(|rule| rule.word()).zip(&ruled.response);
        let request = request.enumerate().map(|all| ("request", all));
        for (list, (number, (action, done))) in request.chain(response.enumerate().map(|all| ("response", all))) {
            rows = rows.row(&[frontend, backend, list, &number.to_string(), action], Ruled::times(done));
        }
    }
}

fn servers(out: &mut Text, snapshot: &Snapshot) {
    let all = || snapshot.backends.iter().flat_map(|b| b.servers.iter().map(move |s| (b, s)));
    let mut each = |family: &Family, value: &dyn Fn(&Server) -> u64| {
        let mut rows = out.family(family);
        for (b, s) in all() {
            rows = rows.row(&[&b.config.name, &s.config.name], value(s));
        }
    };
    each(&SERVER_UP, &|s| u64::from(s.state.health() == Health::Up));
    each(&SERVER_WEIGHT, &|s| s.weight().into());
    each(&SERVER_ACTIVE, &|s| s.state.in_flight().into());
    each(&WEBSOCKETS, &|s| s.state.sum(|c| &c.tunnels));
    each(&SERVER_REQUESTS, &|s| s.state.sum(|c| &c.requests));
    each(&SERVER_CONNECTS, &|s| s.state.sum(|c| &c.connects));
    each(&SERVER_EJECTED, &|s| s.state.ejected().into());
    each(&SERVER_EJECTIONS, &|s| s.state.control.ejections.get());
    each(&SERVER_CLOSED, &|s| s.state.sum(|c| &c.closed));
    each(&SERVER_QUEUED, &|s| s.state.queued().into());
    each(&AGENT_ERRORS, &|s| s.state.control.agent_errors.get());
    // The last label takes several values for each server.
    let mut split = |family: &Family, values: &dyn Fn(&Server) -> Vec<(&'static str, u64)>| {
        let mut rows = out.family(family);
        for (b, s) in all() {
            for (label, value) in values(s) {
                rows = rows.row(&[&b.config.name, &s.config.name, label], value);
            }
        }
    };
    split(&SERVER_STATE, &|s| {
        let is = |state| u64::from(s.state.admin() == state);
        vec![("ready", is(AdminState::Ready)), ("drain", is(AdminState::Drain)), ("maint", is(AdminState::Maint))]
    });
    split(&SERVER_CHECKS, &|s| {
        let control = &s.state.control;
        vec![("passed", control.checks_passed.get()), ("failed", control.checks_failed.get())]
    });
    split(&SERVER_ERRORS, &|s| {
        vec![("connect", s.state.sum(|c| &c.connect_errors)), ("response", s.state.sum(|c| &c.response_errors))]
    });
    split(&SERVER_BYTES, &|s| vec![("in", s.state.sum(|c| &c.bytes_in)), ("out", s.state.sum(|c| &c.bytes_out))]);
    split(&SERVER_RESPONSES, &|s| {
        CLASSES.iter().enumerate().map(|(i, class)| (*class, s.state.sum(|c| &c.responses[i]))).collect()
    });
}

fn backends(out: &mut Text, snapshot: &Snapshot) {
    let mut rows = out.family(&AFFINITY);
    for b in &snapshot.backends {
        let (name, state) = (&b.config.name, &b.state);
        rows = rows
            .row(&[name, "cookie"], state.sum(|c| &c.by_cookie))
            .row(&[name, "table"], state.sum(|c| &c.by_table))
            .row(&[name, "new"], state.sum(|c| &c.new))
            .row(&[name, "redispatched"], state.sum(|c| &c.redispatched))
            .row(&[name, "returned"], state.sum(|c| &c.returned));
    }
    let mut each = |family: &Family, value: &dyn Fn(&Backend) -> u64| {
        let mut rows = out.family(family);
        for b in &snapshot.backends {
            rows = rows.row(&[&b.config.name], value(b));
        }
    };
    each(&RETRIES, &|b| b.state.sum(|c| &c.retries));
    each(&OVER_BUDGET, &|b| b.state.sum(|c| &c.over_budget));
    each(&PANIC, &|b| b.servers.iter().any(|s| s.state.panics()).into());
    each(&NO_SERVER, &|b| b.state.sum(|c| &c.no_server));
    each(&QUEUED, &|b| b.state.sum(|c| &c.queued));
    each(&QUEUE_DROPPED, &|b| b.state.sum(|c| &c.queue_dropped));
}

fn names(out: &mut Text, names: &[NameStatus]) {
    let mut each = |family: &Family, value: &dyn Fn(&NameStatus) -> u64| {
        let mut rows = out.family(family);
        for name in names {
            rows = rows.row(&[&name.backend, &name.name], value(name));
        }
    };
    each(&NAME_UP, &|name| name.found.into());
    each(&NAME_ERRORS, &|name| name.errors);
    each(&NAME_SERVERS, &|name| name.servers as u64);
    each(&NAME_LEFT_OUT, &|name| name.left_out as u64);
}

fn tables(out: &mut Text, snapshot: &Snapshot) {
    let all: Vec<_> = snapshot
        .config
        .tables
        .iter()
        .filter_map(|spec| Some((spec, snapshot.tables.get(&spec.name)?.stats())))
        .collect();
    let mut each = |family: &Family, value: &dyn Fn(&lb_core::table::TableStats) -> u64| {
        let mut rows = out.family(family);
        for (spec, stats) in &all {
            rows = rows.row(&[&spec.name], value(stats));
        }
    };
    each(&TABLE_ENTRIES, &|s| s.entries);
    each(&TABLE_COUNTED, &|s| s.counted);
    each(&TABLE_TOMBSTONES, &|s| s.tombstones);
    each(&TABLE_MEMORY, &|s| s.memory);
    each(&TABLE_STORES, &|s| s.stores);
    each(&TABLE_HITS, &|s| s.hits);
    each(&TABLE_MISSES, &|s| s.misses);
    each(&TABLE_EVICTIONS, &|s| s.evictions);
    each(&TABLE_REFUSED, &|s| s.refused);
    each(&TABLE_OVER_PACE, &|s| s.over_pace);
    each(&TABLE_EXPIRED, &|s| s.expired);
    each(&TABLE_MERGED, &|s| s.merged);
    each(&TABLE_MERGE_REFUSED, &|s| s.merge_refused);
    each(&TABLE_CONFLICTS, &|s| s.conflicts);
    let mut rows = out.family(&TABLE_SIZE);
    for (spec, _) in &all {
        rows = rows.row(&[&spec.name], spec.size);
    }
}

#[cfg(test)]
mod tests;
