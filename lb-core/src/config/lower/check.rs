//! `check` and `agent` of a backend and of a server
use super::super::reader::{Item, Section};
use super::super::{Agent, Check, Expected, Probe, ProxyVersion, ServerAddr, ServerTls, Step};
use super::{listen, value};
use crate::stick::is_token;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// The ways to ask, and the keys that each of them has for itself.
const WAYS: [(&str, &[&str]); 4] =
    [("tcp", &[]), ("http", &["headers", "expect", "expect_body"]), ("websocket", &["headers"]), ("grpc", &[])];
const HELP: &str = "`tcp = true`, `http = \"GET /health\"`, `websocket = \"/path\"` or `grpc = true`";

/// A check as it is written, before it is known which server it is for.
pub(super) struct Written {
    check: Check,
    /// What it says of TLS; `None`: nothing.
    tls: Option<Option<Arc<ServerTls>>>,
    /// What it says of PROXY headers; `None`: nothing.
    send_proxy: Option<Option<ProxyVersion>>,
    /// Whether it names an address, and a port, right or wrong.
    placed: (bool, bool),
}

/// How requests reach a server.
pub(super) struct Way<'a> {
    pub(super) tls: Option<&'a Arc<ServerTls>>,
    pub(super) send_proxy: Option<ProxyVersion>,
}

impl Written {
    /// For a server that requests reach in this way. A check goes as they do, unless it says another, or goes elsewhere.
    pub(super) fn of(&self, way: &Way<'_>) -> Arc<Check> {
        let elsewhere = self.check.port.is_some() || self.check.addr.is_some();
        let tls = self.tls.clone().unwrap_or_else(|| way.tls.filter(|_| !elsewhere).cloned());
        let send_proxy = self.send_proxy.unwrap_or(way.send_proxy.filter(|_| !elsewhere));
        Arc::new(Check { tls, send_proxy, ..self.check.clone() })
    }

    /// With what one server says of its own.
    fn but(&self, section: &Section<'_>, way: &Way<'_>) -> Self {
        let (base, own) = (&self.check, terms(section, way));
        let check = Check {
            addr: section.get("addr").map_or(base.addr, |item| ip(&item)),
            port: section.get("port").map_or(base.port, |item| port(&item)),
            interval: section.duration("interval", base.interval),
            fast_interval: section.duration("fast_interval", base.fast_interval),
            down_interval: section.duration("down_interval", base.down_interval),
            fall: section.whole("fall", base.fall),
            rise: section.whole("rise", base.rise),
            ..base.clone()
        };
        let placed = placed(section);
        Self {
            check,
            tls: own.0.or_else(|| self.tls.clone()),
            send_proxy: own.1.or(self.send_proxy),
            placed: (self.placed.0 || placed.0, self.placed.1 || placed.1),
        }
    }
}

fn placed(section: &Section<'_>) -> (bool, bool) {
    (section.get("addr").is_some(), section.get("port").is_some())
}

/// What a check says of TLS and of PROXY headers.
type Terms = (Option<Option<Arc<ServerTls>>>, Option<Option<ProxyVersion>>);

fn terms(section: &Section<'_>, way: &Way<'_>) -> Terms {
    let tls = section.get("tls").map(|_| listen::server_tls(section, way.tls, None));
    (tls, section.get("send_proxy").map(|item| listen::send_proxy(&item, way.send_proxy)))
}

/// `backend.check`
pub(super) fn check(section: &Section<'_>, way: &Way<'_>) -> Option<Written> {
    let probe = probe(section);
    let (tls, send_proxy) = terms(section, way);
    let interval = section.duration("interval", Duration::from_secs(2));
    let check = Check {
        addr: section.get("addr").and_then(|item| ip(&item)),
        port: section.get("port").and_then(|item| port(&item)),
        interval,
        fast_interval: section.duration("fast_interval", interval),
        down_interval: section.duration("down_interval", interval),
        fall: section.whole("fall", 3),
        rise: section.whole("rise", 2),
        ..Check::new(Probe::Tcp { steps: Vec::new() })
    };
    Some(Written { check: Check { probe: probe?, ..check }, tls, send_proxy, placed: placed(section) })
}

/// What a backend says, for all its servers: nothing, or something that may be wrong.
pub(super) type OfBackend<'a, T> = Option<Option<&'a T>>;

/// The check of a server at this address.
pub(super) fn of_server(
    section: &Section<'_>,
    backend: OfBackend<'_, Written>,
    way: &Way<'_>,
    addr: &ServerAddr,
) -> Option<Arc<Check>> {
    let own = section.get("check");
    let value = own.as_ref().and_then(Item::either);
    if value.as_ref().is_some_and(|v| v.is_flag() && v.flag() == Some(false)) {
        return None;
    }
    if let (Some(item), None) = (&own, backend) {
        let message = "the backend has no `check` that says how this server is asked";
        item.cx.bad(
            item.word.clone(),
            &item.path,
            message,
            "add `check = { tcp = true }` to the backend, or remove it",
        );
    }
    let keys = value.as_ref().filter(|v| !v.is_flag()).and_then(Item::section);
    let own_check = keys.as_ref().and_then(|keys| Some(backend??.but(keys, way)));
    let check = own_check.as_ref().or(backend.flatten())?;
    if matches!(addr, ServerAddr::Unix(_)) && check.placed.0 != check.placed.1 {
        let (at, path) = own.map_or((section.at.clone(), section.path.clone()), |item| (item.word.clone(), item.path));
        let help = "give the check both `addr` and `port`, or neither of them";
        section.cx.bad(at, &path, "a check of a Unix socket has no port, and no address but the socket's", help);
    }
    Some(check.of(way))
}

/// `backend.agent`
pub(super) fn agent(section: &Section<'_>) -> Option<Agent> {
    let port = section.need("port").and_then(|item| port(&item));
    let addr = section.get("addr").and_then(|item| ip(&item));
    let send = section.text("send").unwrap_or_default().into_bytes();
    let interval = section.duration("interval", Duration::from_secs(2));
    Some(Agent { port: port?, addr, send, interval })
}

/// The agent of a server at this address.
pub(super) fn agent_of_server(
    section: &Section<'_>,
    backend: OfBackend<'_, Arc<Agent>>,
    addr: &ServerAddr,
) -> Option<Arc<Agent>> {
    let own = section.get("agent");
    let value = own.as_ref().and_then(Item::either);
    if value.as_ref().is_some_and(|v| v.is_flag() && v.flag() == Some(false)) {
        return None;
    }
    if let (Some(item), None) = (&own, backend) {
        let message = "the backend has no `agent` that this server could have";
        item.cx.bad(
            item.word.clone(),
            &item.path,
            message,
            "add `agent = { port = 9999 }` to the backend, or remove it",
        );
    }
    let base = backend.flatten()?;
    let keys = value.as_ref().filter(|v| !v.is_flag()).and_then(Item::section);
    let named = keys.as_ref().is_some_and(|keys| keys.get("addr").is_some());
    let agent = match keys {
        None => base.clone(),
        Some(keys) => Arc::new(Agent {
            port: keys.get("port").map_or(Some(base.port), |item| port(&item))?,
            addr: keys.get("addr").map_or(base.addr, |item| ip(&item)),
            send: keys.text("send").map_or_else(|| base.send.clone(), String::into_bytes),
            interval: base.interval,
        }),
    };
    if agent.place(addr).is_none() && !named {
        let (at, path) = own.map_or((section.at.clone(), section.path.clone()), |item| (item.word.clone(), item.path));
        let help = "add `agent = { addr = \"127.0.0.1\" }` to the server, or `agent = false`";
        section.cx.bad(at, &path, "the agent of a server on a Unix socket needs an address of its own", help);
    }
    Some(agent)
}

/// The one way in which this check asks.
fn probe(section: &Section<'_>) -> Option<Probe> {
    let ways: Vec<_> = WAYS.iter().filter_map(|(way, own)| Some((*way, *own, section.get(way)?))).collect();
    let [(way, own, item)] = ways.as_slice() else {
        match ways.get(1) {
            Some((_, _, second)) => {
                let message = format!("a check asks in one way, this one has `{}` already", ways[0].0);
                second.cx.bad(second.word.clone(), &second.path, message, format!("write one of {HELP}"));
            }
            None => {
                let message = "this check does not say how to ask";
                section.lacks(message, format!("add {HELP}"));
            }
        }
        return None;
    };
    for name in ["headers", "expect", "expect_body"].into_iter().filter(|name| !own.contains(name)) {
        if let Some(item) = section.get(name) {
            let message = format!("a check by `{way}` has no `{name}`");
            item.cx.bad(item.word.clone(), &item.path, message, unfit(way, name));
        }
    }
    match *way {
        "tcp" => tcp(item),
        "http" => http(item, section),
        "websocket" => websocket(item, section),
        _ => grpc(item),
    }
}

fn unfit(way: &str, key: &str) -> &'static str {
    match (way, key) {
        ("tcp", "expect" | "expect_body") => {
            "remove it, write `http = \"GET /health\"`, or a dialogue: `tcp = [{ send = \"PING\\r\\n\", expect = \"+PONG\" }]`"
        }
        _ => "remove it, or write `http = \"GET /health\"`",
    }
}

/// `true`, or a dialogue.
fn tcp(item: &Item<'_>) -> Option<Probe> {
    let value = item.either()?;
    if value.is_flag() {
        return on(item, &value).then_some(Probe::Tcp { steps: Vec::new() });
    }
    let items = value.elements();
    if items.is_empty() {
        item.bad("this check has no step", "write `tcp = true`, or at least one step");
    }
    let steps = items.iter().filter_map(|item| step(&item.section()?)).collect();
    Some(Probe::Tcp { steps })
}

/// Whether a way that is given as a flag is on; off is no way.
fn on(item: &Item<'_>, value: &Item<'_>) -> bool {
    match value.flag() {
        Some(false) => {
            let help = format!("write one of {HELP}, or remove the check");
            item.cx.bad(item.word.clone(), &item.path, "this check does not say how to ask", help);
            false
        }
        flag => flag.is_some(),
    }
}

fn step(section: &Section<'_>) -> Option<Step> {
    let one_of = |names: &[&'static str]| {
        let mut given = names.iter().filter_map(|name| Some((*name, section.get(name)?)));
        let first = given.next();
        if let (Some((name, _)), Some((second, item))) = (&first, given.next()) {
            let message = format!("this step has `{name}` and `{second}`");
            item.cx.bad(item.word.clone(), &item.path, message, "write two steps, or remove one of them");
        }
        first
    };
    let send = one_of(&["send", "send_hex"]);
    let expect = one_of(&["expect", "expect_regex", "expect_hex"]);
    if send.is_none() && expect.is_none() {
        let message = "this step does nothing";
        section.cx.missing(
            section.at.clone(),
            &section.path,
            message,
            "add `send = \"PING\\r\\n\"` or `expect = \"+PONG\"`",
        );
    }
    let send = match send {
        Some(("send_hex", item)) => hex(&item)?,
        Some((_, item)) => item.text()?.into_bytes(),
        None => Vec::new(),
    };
    let expect = match expect {
        Some(("expect_hex", item)) => Some(Expected::Bytes(hex(&item)?)),
        Some(("expect_regex", item)) => Some(Expected::Pattern(pattern(&item)?)),
        Some((_, item)) => Some(Expected::Bytes(item.text()?.into_bytes())),
        None => None,
    };
    Some(Step { send, expect })
}

/// `"16 03 01"`
fn hex(item: &Item<'_>) -> Option<Vec<u8>> {
    let text = item.text()?;
    let digits: Option<Vec<u8>> = text
        .chars()
        .filter(|c| !c.is_whitespace())
        .map(|c| c.to_digit(16).and_then(|d| u8::try_from(d).ok()))
        .collect();
    match digits {
        Some(digits) if digits.len().is_multiple_of(2) && !digits.is_empty() => {
            Some(digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect())
        }
        _ => {
            item.bad(format!("\"{text}\" is not hexadecimal"), "write two digits for each byte, as \"16 03 01\"");
            None
        }
    }
}

fn pattern(item: &Item<'_>) -> Option<regex::bytes::Regex> {
    let text = item.text()?;
    let built = regex::bytes::RegexBuilder::new(&text).size_limit(1 << 20).build();
    match built {
        Ok(pattern) => Some(pattern),
        Err(why) => {
            let why = why.to_string();
            let why = why.lines().last().unwrap_or("").trim_start_matches("error: ").to_owned();
            item.bad(format!("\"{text}\" is no regular expression: {why}"), item.example());
            None
        }
    }
}

fn ip(item: &Item<'_>) -> Option<IpAddr> {
    let text = item.text()?;
    let ip = text.parse().ok();
    if ip.is_none() {
        let help = match text.parse::<std::net::SocketAddr>() {
            Ok(addr) => format!("write `addr = \"{}\"` and `port = {}`", addr.ip(), addr.port()),
            Err(_) => item.example(),
        };
        item.bad(format!("\"{text}\" is no IP address"), help);
    }
    ip
}

fn port(item: &Item<'_>) -> Option<u16> {
    item.whole().and_then(|n| u16::try_from(n).ok())
}

fn websocket(item: &Item<'_>, section: &Section<'_>) -> Option<Probe> {
    let path = item.text()?;
    let headers = section.get("headers").map_or(Vec::new(), |item| headers(&item));
    if !legal(&path) {
        let bare = path.strip_prefix("GET ").filter(|p| legal(p));
        let help = bare.map_or_else(|| item.example(), |p| format!("write \"{p}\""));
        item.bad(format!("\"{path}\" is no path"), help);
        return None;
    }
    Some(Probe::WebSocket { path, headers })
}

fn grpc(item: &Item<'_>) -> Option<Probe> {
    let value = item.either()?;
    if value.is_flag() {
        return on(item, &value).then(|| Probe::Grpc { service: String::new() });
    }
    Some(Probe::Grpc { service: value.text()? })
}

/// A path that may stand in a request.
fn legal(path: &str) -> bool {
    path.starts_with('/') && path.bytes().all(|b| b.is_ascii_graphic() && b != b'#')
}

fn http(item: &Item<'_>, section: &Section<'_>) -> Option<Probe> {
    let request = item.text().and_then(|text| request(item, &text));
    let headers = section.get("headers").map_or(Vec::new(), |item| headers(&item));
    let expect: Vec<_> =
        section.get("expect").iter().flat_map(Item::elements).filter_map(|item| status(&item)).collect();
    let expect = if expect.is_empty() { vec![(200, 399)] } else { expect };
    let expect_body = section.text("expect_body");
    let (method, path) = request?;
    Some(Probe::Http { method, path, headers, expect, expect_body })
}

/// `GET /health`
fn request(item: &Item<'_>, text: &str) -> Option<(String, String)> {
    if let Some((method, path)) = text.split_once(' ')
        && !method.is_empty()
        && method.bytes().all(is_token)
        && legal(path)
    {
        let upper = method.to_ascii_uppercase();
        if method != upper {
            item.bad(
                format!("\"{method}\" is no method: methods are in capitals"),
                format!("write \"{upper} {path}\""),
            );
            return None;
        }
        return Some((upper, path.to_owned()));
    }
    let help = match legal(text) {
        true => format!("write \"GET {text}\""),
        false => "write a method, a space and a path: \"GET /health\"".into(),
    };
    item.bad(format!("\"{text}\" is no request"), help);
    None
}

fn headers(item: &Item<'_>) -> Vec<(String, String)> {
    let framing = [
        "content-length",
        "transfer-encoding",
        "connection",
        "upgrade",
        "expect",
        "sec-websocket-key",
        "sec-websocket-version",
        "sec-websocket-extensions",
    ];
    let read = |(name, item): (String, Item<'_>)| {
        let named = value::header_name(item.cx, &name, item.word.clone(), &item.path);
        if framing.contains(&name.to_ascii_lowercase().as_str()) {
            let message = format!("`{name}` is the check's own: it frames the message");
            item.cx.bad(item.word.clone(), &item.path, message, "remove it");
        }
        let text = value::header_value(&item)?;
        named.then_some((name, text))
    };
    item.pairs().into_iter().filter_map(read).collect()
}

/// `200`, `"200-399"` or `"5xx"`
pub(super) fn status(item: &Item<'_>) -> Option<(u16, u16)> {
    let value = item.either()?;
    if item.is_number() {
        let status = u16::try_from(value.whole()?).ok()?;
        return Some((status, status));
    }
    let text = value.text()?;
    if let Some(class) = text.strip_suffix("xx").and_then(|n| n.parse::<u16>().ok()).filter(|n| (1..=5).contains(n)) {
        return Some((class * 100, class * 100 + 99));
    }
    let (from, to) = text.split_once('-').unwrap_or((&text, &text));
    match (from.trim().parse::<u16>(), to.trim().parse::<u16>()) {
        (Ok(from), Ok(to)) if (100..=599).contains(&from) && (from..=599).contains(&to) => Some((from, to)),
        _ => {
            let message = format!("\"{text}\" is no range of statuses");
            item.bad(message, "write 200, \"200-399\", \"5xx\", or a list of these; statuses are 100 to 599");
            None
        }
    }
}
