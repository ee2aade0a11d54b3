//! `[backend.NAME]`
use super::super::reader::{Item, Section};
use super::super::{
    Agent, Backend, Balance, Check, CookieMode, Maxconn, OnDown, Origin, PeerAddr, Persist, Proto, ProxyVersion,
    Server, ServerAddr, ServerTls, SlowStart, Sticky, WebSocket,
};
use super::{
    Defaults, Side, Unique, balance, check, cookie, discovery, faults, listen, rules, rules::Known, sticky,
    table::Tables, tcp, value, websocket,
};
use crate::rules::Rules;
use crate::tcp::Mode;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

pub(super) fn backend(
    name: &str,
    at: &Range<usize>,
    section: &Section<'_>,
    mode: Mode,
    known: &Known<'_>,
    defaults: &Defaults,
) -> Option<Arc<Backend>> {
    tcp::backend(section, mode);
    let good = value::check_name(section.cx, "backend", name, at, &section.path);
    let slow_start = section.get("slow_start").and_then(|item| balance::slow_start(&item));
    let sticky = stickies(section, mode, known.tables);
    let prefixed = sticky.iter().any(|rule| matches!(rule, Sticky::Cookie(c) if c.mode == CookieMode::Prefix));
    let proto = section.word("proto").unwrap_or_default();
    let spoken = (mode == Mode::Http).then_some(proto);
    let tls = listen::server_tls(section, None, spoken);
    let send_proxy = section.get("send_proxy").and_then(|item| listen::send_proxy(&item, None));
    let way = check::Way { tls: tls.as_ref(), send_proxy };
    let check = section.get("check").map(|item| check::check(&item.section()?, &way));
    let agent = section.get("agent").map(|item| check::agent(&item.section()?).map(Arc::new));
    let checked = check.as_ref().and_then(|check| Some(check.as_ref()?.of(&way)));
    let inherited = Inherited { slow_start, tls, send_proxy, proto, spoken, check, agent };
    let templates = discovery::templates(section, &inherited);
    let on_down = section.word("on_down").unwrap_or_default();
    if section.get("sticky").is_none() && !section.misspelt("sticky") {
        let help = "add `sticky = [{ cookie = \"SERVERID\", insert = true }]`, or remove it";
        section.useless(&["force_persist", "ignore_persist"], "without `sticky`: nobody is pinned", help);
        if on_down == OnDown::Fail {
            section.useless(&["on_down"], "without `sticky`: nobody is pinned", help);
        }
    }
    let servers = servers(section, &inherited, section.get("server_template").is_some(), prefixed);
    let algorithm = section
        .get("balance")
        .map_or(Some(Balance::RoundRobin), |item| tcp::balance(&item, balance::algorithm(&item), mode));
    let backend = Backend {
        name: name.to_owned(),
        mode,
        spread: balance::spread(section, algorithm.as_ref(), &servers),
        balance: algorithm.unwrap_or(Balance::RoundRobin),
        persist: Persist {
            force: sticky::any_of(section, "force_persist", known.tables),
            ignore: sticky::any_of(section, "ignore_persist", known.tables),
            fail_back: cookie::fail_back(section, &sticky),
        },
        sticky,
        on_down,
        drain: section.word("drain").unwrap_or_default(),
        check: checked,
        agent: inherited.agent.flatten(),
        retries: section.whole("retries", defaults.retries),
        faults: faults::faults(section),
        retry_after: section.duration("retry_after", Duration::from_secs(5)),
        max_queue: section.size("max_queue", 1000),
        real_ip: section.flag("real_ip", false),
        max_idle: section.size("max_idle", 64),
        max_body: section.get("max_body").and_then(|item| item.whole()),
        timeout: defaults.timeouts(section, Side::Backend),
        websocket: super::section(section, "websocket").map_or_else(WebSocket::default, |s| websocket::websocket(&s)),
        rules: Rules { compression: rules::compression(section), ..rules::rules(section, known) },
        resolver: discovery::resolver(section, defaults.resolver),
        templates,
        proto: inherited.proto,
        servers,
    };
    good.then(|| Arc::new(backend))
}

fn stickies(section: &Section<'_>, mode: Mode, tables: &Tables) -> Vec<Sticky> {
    let mut cookie_line = None;
    let mut rules = Vec::new();
    for item in section.get("sticky").map_or(Vec::new(), |item| item.elements()) {
        let Some(rule) = item.section() else {
            continue;
        };
        if let Some(cookie) = rule.get("cookie") {
            match cookie_line {
                Some(line) => cookie.bad(
                    format!("`{}` has two cookies, the other in line {line}", section.path),
                    "a backend has one: remove one of the two rules",
                ),
                None => cookie_line = Some(section.cx.line(&cookie.at())),
            }
        }
        let read = sticky::rule(&rule, tables);
        tcp::sticky(&rule, read.as_ref(), mode);
        rules.extend(read);
    }
    rules
}

/// What servers have from their backend.
pub(super) struct Inherited {
    slow_start: Option<SlowStart>,
    tls: Option<Arc<ServerTls>>,
    send_proxy: Option<ProxyVersion>,
    proto: Proto,
    /// As [`Self::proto`]; `None`: connections are passed on as they are.
    spoken: Option<Proto>,
    /// `None`: nothing is said; inside: what is said is wrong.
    check: Option<Option<check::Written>>,
    agent: Option<Option<Arc<Agent>>>,
}

/// How a server is reached, and gets its clients.
pub(super) struct Reached {
    pub(super) slow_start: Option<SlowStart>,
    pub(super) tls: Option<Arc<ServerTls>>,
    pub(super) send_proxy: Option<ProxyVersion>,
}

impl Inherited {
    /// What a server, or a template of servers, says of its own, over what its backend says.
    pub(super) fn way(&self, section: &Section<'_>) -> Reached {
        let slow_start = section.get("slow_start").map_or(self.slow_start, |item| balance::slow_start(&item));
        let tls = listen::server_tls(section, self.tls.as_ref(), self.spoken);
        let send_proxy = match section.get("send_proxy") {
            Some(item) => listen::send_proxy(&item, self.send_proxy),
            None => self.send_proxy,
        };
        if send_proxy.is_some() && self.proto == Proto::H2 {
            let message = "a PROXY header is for one client's connection, with HTTP/2 clients share it";
            section.cx.bad(section.at.clone(), &section.path, message, "remove `send_proxy`, or `proto = \"h2\"`");
        }
        Reached { slow_start, tls, send_proxy }
    }

    /// The check of a server at this address.
    pub(super) fn check(&self, section: &Section<'_>, reached: &Reached, at: &ServerAddr) -> Option<Arc<Check>> {
        let way = check::Way { tls: reached.tls.as_ref(), send_proxy: reached.send_proxy };
        check::of_server(section, self.check.as_ref().map(Option::as_ref), &way, at)
    }

    /// Its agent.
    pub(super) fn agent(&self, section: &Section<'_>, at: &ServerAddr) -> Option<Arc<Agent>> {
        check::agent_of_server(section, self.agent.as_ref().map(Option::as_ref), at)
    }
}

/// `found`: a template makes servers, so that none need be listed. `prefixed`: a cookie has their values as its prefix.
fn servers(section: &Section<'_>, inherited: &Inherited, found: bool, prefixed: bool) -> Vec<Arc<Server>> {
    let list = if found { section.get("server") } else { section.need("server") };
    let Some(list) = list else {
        return Vec::new();
    };
    let items = list.elements();
    if items.is_empty() && list.is_list() {
        list.bad(format!("`{}` has no server", section.path), list.example());
    }
    let (mut names, mut cookies) = (Unique::default(), Unique::default());
    let read = |item: &Item<'_>| {
        let section = item.section()?;
        let server = server(&section, inherited, &mut names, &mut cookies)?;
        if let Some(item) = section.get("cookie").filter(|_| prefixed && server.cookie.contains('~')) {
            let help = "write it without `~`, which ends the prefix";
            item.bad(format!("\"{}\" cannot be the prefix of a cookie", server.cookie), help);
        }
        Some(Arc::new(server))
    };
    items.iter().filter_map(read).collect()
}

fn server(section: &Section<'_>, inherited: &Inherited, names: &mut Unique, cookies: &mut Unique) -> Option<Server> {
    let cx = section.cx;
    let name_item = section.need("name");
    let name = name_item.as_ref().and_then(|item| {
        let name = item.text()?;
        let good = value::check_name(cx, "server", &name, &item.at(), &item.path);
        if let Some(line) = names.taken(cx, &name, &item.at()) {
            let help = "give each server of a backend a name of its own: tables know servers by name";
            item.bad(format!("the name \"{name}\" is taken in line {line}"), help);
            return None;
        }
        good.then_some(name)
    });
    let addr = section.need("addr").and_then(|item| discovery::place(&item));
    let cookie_item = section.get("cookie");
    let cookie = cookie_item.as_ref().and_then(sticky::cookie_value).or_else(|| name.clone());
    // The cookie's value is the name where none is given: two servers collide either way.
    if let (Some(value), Some(item)) = (&cookie, cookie_item.as_ref().or(name_item.as_ref()))
        && let Some(line) = cookies.taken(cx, value, &item.at())
    {
        let help = "give each server of a backend a cookie value of its own";
        item.bad(format!("the cookie value \"{value}\" is taken in line {line}"), help);
    }
    let weight = section.whole("weight", 1);
    let maxconn = section.get("maxconn").and_then(|item| maxconn(&item)).unwrap_or_default();
    let backup = section.flag("backup", false);
    let generation = section.get("generation").and_then(|item| item.whole()).unwrap_or(0);
    let reached = inherited.way(section);
    let state = section.word("state").unwrap_or_default();
    // Read although something else is wrong: all mistakes are told at once.
    let anywhere = ServerAddr::Tcp(ANYWHERE);
    let at = addr.as_ref().map_or(&anywhere, |(addr, _)| addr);
    let check = inherited.check(section, &reached, at);
    let agent = inherited.agent(section, at);
    let Reached { slow_start, tls, send_proxy } = reached;
    if matches!(at, ServerAddr::Unix(_)) && tls.as_ref().is_some_and(|tls| tls.verify && tls.sni.is_none()) {
        let help = "add `tls = { sni = \"app.internal\" }` with the name in the certificate, or `verify = false`";
        section.cx.bad(
            section.at.clone(),
            &section.path,
            "a Unix socket has no name that a certificate could be for",
            help,
        );
    }
    let (name, cookie, (addr, origin)) = (name?, cookie?, addr?);
    let host = match &origin {
        Origin::Named(PeerAddr::Name { host, .. }) => Some(host.clone()),
        _ => None,
    };
    Some(Server {
        name,
        addr,
        origin,
        host,
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
    })
}

/// Stands in for an address that cannot be read.
pub(super) const ANYWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

/// A number is for this instance; a section may bound all together.
pub(super) fn maxconn(item: &Item<'_>) -> Option<Maxconn> {
    let value = item.either()?;
    if !value.is_section() {
        return Some(Maxconn { instance: value.whole().and_then(|n| usize::try_from(n).ok())?, cluster: 0 });
    }
    let section = value.section()?;
    section.need("cluster");
    Some(Maxconn { instance: section.size("instance", 0), cluster: section.size("cluster", 0) })
}
