//! The values of a configuration's parts by key, for people. Equal texts must mean equal values.
//!
//! Each function takes its struct apart without `..`, so that a new field cannot be forgotten here.
use super::super::{
    AccessLog, Admin, Backend, Balance, Cookie, CookieValue, Frontend, Http2, Instance, Log, Maxconn, Origin, PeerAddr,
    PeerTls, Peers, Persist, Route, Server, SlowStart, Spread, StickAction, Sticky, Table, TableRule, Template,
    Timeouts, WebSocket, websocket::Ping,
};
use super::checks;
use crate::jwt::Keys;
use crate::matcher::Matcher;
use crate::rules::{Auth, Rules};
use crate::secret::Secret;
use crate::tcp::Mode;
use crate::time::format_duration;
pub(super) use edge::{listener, tls};
use std::fmt::{Debug, Display};
use std::time::Duration;

pub(super) mod edge;

/// Keys and values, in one order for one kind of thing.
pub(super) type Fields = Vec<(&'static str, String)>;

pub(super) fn instance(of: &Instance) -> Fields {
    let Instance { name, workers, drain, maxconn, state, state_interval, close_pace } = of;
    let workers = workers.map_or_else(|| "one for each core".into(), |n| n.to_string());
    vec![
        ("name", name.clone()),
        ("workers", workers),
        ("drain", time(drain)),
        ("maxconn", maxconn.to_string()),
        ("state", or_none(state.as_ref().map(|path| path.display()))),
        ("state_interval", time(state_interval)),
        ("close_pace", close_pace.to_string()),
    ]
}

/// Without the token, which is a secret.
pub(super) fn admin(of: &Admin) -> Fields {
    let Admin { listen, socket, token: _ } = of;
    let socket = socket.as_ref().map(|path| path.display());
    vec![("listen", or_none(listen.as_ref())), ("socket", or_none(socket))]
}

pub(super) fn peers(of: &Peers) -> Fields {
    let Peers {
        cluster,
        listen,
        join,
        resolver,
        tls,
        join_timeout,
        ask_timeout,
        heartbeat,
        anti_entropy,
        max_clock_ahead,
    } = of;
    let tls = tls
        .as_ref()
        .map(|PeerTls { ca, cert, key }| format!("{}, {}, {}", ca.display(), cert.display(), key.display()));
    vec![
        ("cluster", cluster.clone()),
        ("listen", listen.to_string()),
        ("join", list(join, ToString::to_string)),
        ("resolver", or_none(resolver.as_ref())),
        ("tls", or_none(tls)),
        ("join_timeout", time(join_timeout)),
        ("ask_timeout", time(ask_timeout)),
        ("heartbeat", time(heartbeat)),
        ("anti_entropy", time(anti_entropy)),
        ("max_clock_ahead", time(max_clock_ahead)),
    ]
}

pub(super) fn log(of: &Log) -> Fields {
    let Log { level, format, access } = of;
    let access = match access {
        AccessLog::Off => "false".into(),
        AccessLog::Stdout => "true".into(),
        AccessLog::File(path) => format!("{:?}", path.display().to_string()),
    };
    vec![("level", level.clone()), ("format", word(format)), ("access", access)]
}

/// Without the keys, which are secret.
pub(super) fn jwt(of: Option<&Keys>) -> Fields {
    vec![("unverified", of.is_some_and(|keys| !keys.verifies()).to_string())]
}

/// The hashes are secrets: only whether they changed is shown.
pub(super) fn auth(of: &Auth) -> Fields {
    let Auth { name: _, realm, users } = of;
    let all: String = users.iter().map(|(user, hash)| format!("{user}:{hash}\n")).collect();
    let digest = crate::hash::stable(all.as_bytes()) as u32;
    vec![("realm", realm.clone()), ("users", format!("{} users ({digest:08x})", users.len()))]
}

fn rules(of: &Rules) -> Fields {
    let Rules { request, response, pages, maintenance, request_id, compression } = of;
    vec![
        ("request", list(request, ToString::to_string)),
        ("response", list(response, ToString::to_string)),
        ("error_pages", list(pages, |(kind, page)| format!("{kind}: {page}"))),
        ("maintenance", or_none(maintenance.as_ref())),
        ("request_id", or_none(request_id.as_ref())),
        ("compression", or_none(compression.as_ref())),
    ]
}

pub(super) fn table(of: &Table) -> Fields {
    let Table { name: _, kind, len, size, expire, max_life, max_new_keys, when_full, replicate, store } = of;
    vec![
        ("type", word(kind)),
        ("len", len.to_string()),
        ("size", size.to_string()),
        ("expire", time(expire)),
        ("max_life", or_none(max_life.as_ref().map(time))),
        ("max_new_keys", or_none(max_new_keys.as_ref())),
        ("when_full", word(when_full)),
        ("replicate", replicate.to_string()),
        ("store", list(store, ToString::to_string)),
    ]
}

/// Without the listeners, which are compared one by one.
pub(super) fn frontend(of: &Frontend) -> Fields {
    let Frontend {
        name: _,
        tcp,
        listen: _,
        routes,
        backend,
        timeout,
        maxconn,
        maxconn_per_address,
        forwarded,
        trusted_proxies,
        max_head,
        max_headers,
        min_rate,
        limit,
        max_tarpit,
        rules,
        http2: Http2 { max_streams, window },
    } = of;
    let mut fields = vec![
        ("backend", or_none(backend.as_ref())),
        ("mode", tcp.as_ref().map_or(Mode::Http, |_| Mode::Tcp).to_string()),
        ("routes", tcp.as_ref().map_or_else(|| list(routes, route), |tcp| list(&tcp.routes, ToString::to_string))),
        ("inspect_delay", or_none(tcp.as_ref().map(|tcp| time(&tcp.inspect_delay)))),
        ("maxconn", maxconn.to_string()),
        ("maxconn_per_address", maxconn_per_address.to_string()),
        ("forwarded", forwarded.to_string()),
        ("trusted_proxies", list(trusted_proxies, ToString::to_string)),
        ("max_head", max_head.to_string()),
        ("max_headers", max_headers.to_string()),
        ("min_rate", min_rate.to_string()),
        ("limit", list(limit, ToString::to_string)),
        ("max_tarpit", max_tarpit.to_string()),
        ("http2.max_streams", max_streams.to_string()),
        ("http2.window", window.to_string()),
    ];
    fields.extend(timeouts(timeout));
    fields.extend(self::rules(rules));
    fields
}

/// Without the address, by which it is known.
fn route(of: &Route) -> String {
    let Route { when, backend } = of;
    format!("{when} to {backend}")
}

/// Without the servers, which are compared one by one.
pub(super) fn backend(of: &Backend) -> Fields {
    let Backend {
        name: _,
        mode,
        balance,
        spread: Spread { load_bound, all_backups },
        sticky,
        persist: Persist { force, ignore, fail_back },
        on_down,
        drain,
        check,
        agent,
        retries,
        faults,
        retry_after,
        max_queue,
        real_ip,
        max_idle,
        max_body,
        timeout,
        websocket,
        rules,
        resolver,
        templates,
        proto,
        servers: _,
    } = of;
    let balance = match balance {
        Balance::RoundRobin => "roundrobin".into(),
        Balance::LeastConn => "leastconn".into(),
        Balance::Random(draws) => format!("random({draws})"),
        Balance::First => "first".into(),
        Balance::Hash(key) => format!("hash({key})"),
    };
    let mut fields = vec![
        ("mode", mode.to_string()),
        ("balance", balance),
        ("load_bound", or_none(load_bound.as_ref())),
        ("all_backups", all_backups.to_string()),
        ("sticky", list(sticky, self::sticky)),
        ("fail_back", word(fail_back)),
        ("force_persist", list(force, ToString::to_string)),
        ("ignore_persist", list(ignore, ToString::to_string)),
        ("on_down", word(on_down)),
        ("drain", word(drain)),
        ("check", or_none(check.as_deref().map(checks::check))),
        ("agent", or_none(agent.as_deref().map(checks::agent))),
        ("retries", retries.to_string()),
        ("retry_after", time(retry_after)),
        ("max_queue", max_queue.to_string()),
        ("real_ip", real_ip.to_string()),
        ("max_idle", max_idle.to_string()),
        ("max_body", or_none(max_body.as_ref())),
        ("websocket", self::websocket(websocket)),
        ("resolver", or_none(resolver.as_ref())),
        ("server_template", list(templates, |of| template(of))),
        ("proto", word(proto)),
    ];
    fields.extend(super::faults::faults(faults));
    fields.extend(timeouts(timeout));
    fields.extend(self::rules(rules));
    fields
}

fn websocket(of: &WebSocket) -> String {
    let WebSocket { ping, close_timeout, idle, max_frame, strict, verify_accept, refuse } = of;
    let ping = ping.map(|Ping { every, timeout, to }| {
        format!("every {}, pong within {}, to {}", time(&every), time(&timeout), word(&to))
    });
    format!(
        "ping {}, close_timeout {}, idle {}, max_frame {}, strict {strict}, verify_accept {verify_accept}, refuse {}",
        or_none(ping),
        time(close_timeout),
        word(idle),
        or_none(*max_frame),
        word(refuse),
    )
}

fn sticky(of: &Sticky) -> String {
    match of {
        Sticky::Cookie(of) => cookie(of),
        Sticky::Table(TableRule { action, key, table, when }) => {
            let action = match action {
                StickAction::On => "on",
                StickAction::Match => "match",
                StickAction::StoreRequest => "store_request",
                StickAction::StoreResponse => "store_response",
            };
            format!("{action} {key} in {table}{}", only(when))
        }
    }
}

/// The keys of cookies.
pub(super) fn secrets(of: &Backend) -> Vec<&[Secret]> {
    fn keys(rule: &Sticky) -> Option<&[Secret]> {
        if let Sticky::Cookie(Cookie { keys, .. }) = rule { Some(keys) } else { None }
    }
    of.sticky.iter().filter_map(keys).collect()
}

/// The condition of a sticky rule.
fn only(when: &Matcher) -> String {
    if when.0.is_empty() { String::new() } else { format!(" if {when}") }
}

/// Without the keys, which are secret.
fn cookie(of: &Cookie) -> String {
    let Cookie {
        name,
        mode,
        value,
        keys,
        when,
        indirect,
        nocache,
        httponly,
        secure,
        samesite,
        domain,
        path,
        preserve,
        max_idle,
        max_life,
        attr,
    } = of;
    let flags = [
        (*indirect, "indirect"),
        (*nocache, "nocache"),
        (*httponly, "httponly"),
        (*secure, "secure"),
        (*preserve, "preserve"),
    ];
    let mut words = vec![format!("cookie {name}"), word(mode)];
    if *value != CookieValue::Name {
        words.push(format!("{} by {} keys", word(value), keys.len()));
    }
    words.extend(flags.iter().filter(|(set, _)| *set).map(|(_, flag)| (*flag).to_owned()));
    words.extend(samesite.as_ref().map(|s| format!("samesite {}", word(s))));
    words.extend(domain.as_ref().map(|d| format!("domain {d}")));
    words.push(format!("path {path}"));
    words.extend(max_idle.as_ref().map(|d| format!("maxidle {}", time(d))));
    words.extend(max_life.as_ref().map(|d| format!("maxlife {}", time(d))));
    words.extend(attr.iter().map(|attr| format!("attr {attr:?}")));
    words.join(" ") + &only(when)
}

/// `backend`: whose it is; what it has from there is told of that.
pub(super) fn server(backend: &Backend, of: &Server) -> Fields {
    let Server {
        name: _,
        addr,
        origin,
        // Of its name.
        host: _,
        weight,
        maxconn,
        backup,
        slow_start,
        cookie,
        generation,
        tls,
        send_proxy,
        check,
        agent,
        state,
    } = of;
    let own = |same: bool, text: Option<String>| if same { "as the backend's".into() } else { or_none(text) };
    vec![
        ("addr", if let Origin::Named(name) = origin { name.to_string() } else { addr.to_string() }),
        ("weight", weight.to_string()),
        ("maxconn", self::maxconn(*maxconn)),
        ("backup", backup.to_string()),
        ("slow_start", or_none(slow_start.as_ref().map(self::slow_start))),
        ("cookie", cookie.clone()),
        ("generation", generation.to_string()),
        ("tls", or_none(tls.as_deref().map(edge::server_tls))),
        ("send_proxy", or_none(send_proxy.as_ref().map(word))),
        ("check", own(*check == backend.check, check.as_deref().map(checks::check))),
        ("agent", own(*agent == backend.agent, agent.as_deref().map(checks::agent))),
        ("state", word(state)),
    ]
}

fn template(of: &Template) -> String {
    let Template {
        name,
        addr,
        slots,
        identity,
        hold,
        weight,
        maxconn,
        backup,
        slow_start,
        tls,
        send_proxy,
        check,
        agent,
    } = of;
    let addr = match addr {
        PeerAddr::Name { .. } => format!("dns:{addr}"),
        _ => addr.to_string(),
    };
    let more = [
        ("slow_start", slow_start.as_ref().map(self::slow_start)),
        ("tls", tls.as_deref().map(edge::server_tls)),
        ("send_proxy", send_proxy.as_ref().map(word)),
        ("check", check.as_deref().map(checks::check)),
        ("agent", agent.as_deref().map(checks::agent)),
    ];
    let more: String = more.into_iter().filter_map(|(key, value)| Some(format!(" {key} {}", value?))).collect();
    format!(
        "{name} from {addr} in {slots} slots by {} held {} weight {weight} maxconn {}{}{more}",
        word(identity),
        time(hold),
        self::maxconn(*maxconn),
        if *backup { " backup" } else { "" },
    )
}

fn maxconn(of: Maxconn) -> String {
    let Maxconn { instance, cluster } = of;
    if cluster == 0 { instance.to_string() } else { format!("{{ instance = {instance}, cluster = {cluster} }}") }
}

fn slow_start(of: &SlowStart) -> String {
    let SlowStart { time, pace } = of;
    let pace = pace.map_or(String::new(), |pace| format!(" at {pace}/s"));
    format!("{}{pace}", self::time(time))
}

fn timeouts(of: &Timeouts) -> Fields {
    let Timeouts { connect, client, server, tunnel, http_request, http_keep_alive, queue, check, tls_handshake } = of;
    vec![
        ("timeout.connect", time(connect)),
        ("timeout.client", time(client)),
        ("timeout.server", time(server)),
        ("timeout.tunnel", time(tunnel)),
        ("timeout.http_request", time(http_request)),
        ("timeout.http_keep_alive", time(http_keep_alive)),
        ("timeout.queue", time(queue)),
        ("timeout.check", time(check)),
        ("timeout.tls_handshake", time(tls_handshake)),
    ]
}

pub(super) fn time(of: &Duration) -> String {
    format_duration(*of)
}

/// A variant as the file writes it.
pub(super) fn word(of: &impl Debug) -> String {
    format!("{of:?}").to_lowercase()
}

pub(super) fn or_none(of: Option<impl Display>) -> String {
    of.map_or_else(|| "none".into(), |value| value.to_string())
}

pub(super) fn list<T>(of: &[T], show: impl Fn(&T) -> String) -> String {
    format!("[{}]", of.iter().map(show).collect::<Vec<_>>().join(", "))
}
