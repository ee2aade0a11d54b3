//! From TOML text to a [`Config`].
use super::*;
use crate::time::parse_duration;
use toml::{Table as T, Value as V};

/// One error.
#[derive(Clone, Debug)]
pub struct Diagnostic {
    /// What is wrong.
    pub message: String,
}

impl std::fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

fn err<X>(m: impl Into<String>) -> Result<X, Vec<Diagnostic>> {
    Err(vec![Diagnostic { message: m.into() }])
}
type R<X> = Result<X, Vec<Diagnostic>>;

fn s(t: &T, k: &str) -> Option<String> {
    t.get(k).and_then(V::as_str).map(str::to_owned)
}
fn b(t: &T, k: &str, d: bool) -> bool {
    t.get(k).and_then(V::as_bool).unwrap_or(d)
}
fn n(t: &T, k: &str, d: usize) -> usize {
    t.get(k).and_then(V::as_integer).map_or(d, |i| i as usize)
}
fn dur(t: &T, k: &str, d: Duration) -> R<Duration> {
    s(t, k).map_or(Ok(d), |x| parse_duration(&x).or_else(|e| err(format!("{k}: {e}"))))
}
fn addr(x: &str) -> R<SocketAddr> {
    x.parse().or_else(|_| err(format!("bad address {x}")))
}
fn tbl<'a>(t: &'a T, k: &str) -> Option<&'a T> {
    t.get(k).and_then(V::as_table)
}
fn arr<'a>(t: &'a T, k: &str) -> Vec<&'a V> {
    match t.get(k) {
        Some(V::Array(a)) => a.iter().collect(),
        Some(v) => vec![v],
        None => vec![],
    }
}
fn timeouts(d: Timeouts, t: Option<&T>) -> R<Timeouts> {
    let Some(t) = t else { return Ok(d) };
    Ok(Timeouts {
        connect: dur(t, "connect", d.connect)?,
        client: dur(t, "client", d.client)?,
        server: dur(t, "server", d.server)?,
        tunnel: dur(t, "tunnel", d.tunnel)?,
        http_request: dur(t, "http_request", d.http_request)?,
        http_keep_alive: dur(t, "http_keep_alive", d.http_keep_alive)?,
        queue: dur(t, "queue", d.queue)?,
        check: dur(t, "check", d.check)?,
    })
}

/// Loads.
pub fn load(text: &str, host: &str, name: Option<&str>, env: &dyn Fn(&str) -> Option<String>) -> R<Config> {
    let _ = env;
    let t: T = text.parse().or_else(|e: toml::de::Error| err(e.to_string()))?;
    let empty = T::new();
    let sec = |k: &str| tbl(&t, k).unwrap_or(&empty);
    let i = sec("instance");
    let secs = Duration::from_secs;
    let maxconn = n(i, "maxconn", 100_000);
    let base = timeouts(Timeouts::default(), tbl(sec("defaults"), "timeout"))?;
    let a = sec("admin");
    let peers = match tbl(&t, "peers") {
        None => None,
        Some(p) => Some(Peers {
            cluster: s(p, "cluster").unwrap_or_default(),
            listen: addr(&s(p, "listen").unwrap_or_default())?,
            join: arr(p, "join")
                .into_iter()
                .filter_map(V::as_str)
                .map(|x| addr(x).map(PeerAddr::Socket))
                .collect::<R<_>>()?,
            tls: None,
            join_timeout: dur(p, "join_timeout", secs(10))?,
            ask_timeout: dur(p, "ask_timeout", secs(1))?,
            heartbeat: dur(p, "heartbeat", secs(1))?,
            max_clock_ahead: dur(p, "max_clock_ahead", secs(86400))?,
        }),
    };
    let mut tables = vec![];
    for (k, v) in sec("table") {
        let v = v.as_table().unwrap_or(&empty);
        tables.push(Arc::new(Table {
            name: k.clone(),
            kind: serde_json::from_value(serde_json::json!(s(v, "type").unwrap_or("string".into())))
                .or_else(|e| err(e.to_string()))?,
            len: n(v, "len", 64),
            size: n(v, "size", 100_000),
            expire: dur(v, "expire", secs(1800))?,
            when_full: Default::default(),
            replicate: b(v, "replicate", true),
        }));
    }
    let mut frontends = vec![];
    for (k, v) in sec("frontend") {
        let v = v.as_table().unwrap_or(&empty);
        let strs = |t: &T, k: &str| arr(t, k).into_iter().filter_map(V::as_str).map(str::to_owned).collect::<Vec<_>>();
        frontends.push(Arc::new(Frontend {
            name: k.clone(),
            listen: arr(v, "listen")
                .into_iter()
                .filter_map(|l| l.as_str().map(str::to_owned).or_else(|| s(l.as_table()?, "addr")))
                .map(|x| addr(&x).map(|addr| Listen { addr }))
                .collect::<R<_>>()?,
            routes: arr(v, "routes")
                .into_iter()
                .filter_map(V::as_table)
                .map(|r| Route {
                    host: strs(r, "host"),
                    path_prefix: strs(r, "path_prefix"),
                    header: vec![],
                    websocket: r.get("websocket").and_then(V::as_bool),
                    backend: s(r, "backend").unwrap_or_default(),
                })
                .collect(),
            backend: s(v, "backend"),
            timeout: timeouts(base, tbl(v, "timeout"))?,
            maxconn: n(v, "maxconn", maxconn),
            forwarded: b(v, "forwarded", true),
            trusted_proxies: vec![],
            max_head: n(v, "max_head", 16384),
            max_headers: n(v, "max_headers", 100),
        }));
    }
    let mut backends = vec![];
    for (k, v) in sec("backend") {
        let v = v.as_table().unwrap_or(&empty);
        let mut sticky = vec![];
        for r in arr(v, "sticky").into_iter().filter_map(V::as_table) {
            if let Some(name) = s(r, "cookie") {
                sticky.push(Sticky::Cookie(Cookie {
                    name,
                    indirect: b(r, "indirect", false),
                    nocache: b(r, "nocache", false),
                    httponly: b(r, "httponly", false),
                    path: "/".into(),
                    ..Default::default()
                }));
                continue;
            }
            for (key, action) in [
                ("on", StickAction::On),
                ("match", StickAction::Match),
                ("store_request", StickAction::StoreRequest),
                ("store_response", StickAction::StoreResponse),
            ] {
                if let Some(e) = s(r, key) {
                    sticky.push(Sticky::Table(TableRule {
                        action,
                        key: e.parse().or_else(|e: crate::stick::KeyExprError| err(e.0))?,
                        table: s(r, "table").unwrap_or_default(),
                    }));
                }
            }
        }
        let check = match tbl(v, "check") {
            None => None,
            Some(c) => Some(Check {
                probe: match s(c, "http") {
                    None => Probe::Tcp,
                    Some(h) => Probe::Http {
                        method: h.split(' ').next().unwrap_or("GET").into(),
                        path: h.split(' ').nth(1).unwrap_or("/").into(),
                        headers: vec![],
                        expect: vec![(200, 399)],
                        expect_body: None,
                    },
                },
                interval: dur(c, "interval", secs(2))?,
                fall: n(c, "fall", 3) as u32,
                rise: n(c, "rise", 2) as u32,
            }),
        };
        let servers = arr(v, "server")
            .into_iter()
            .filter_map(V::as_table)
            .map(|x| {
                let name = s(x, "name").unwrap_or_default();
                Ok(Arc::new(Server {
                    addr: addr(&s(x, "addr").unwrap_or_default())?,
                    weight: n(x, "weight", 1) as u32,
                    maxconn: n(x, "maxconn", 0),
                    cookie: s(x, "cookie").unwrap_or(name.clone()),
                    state: Default::default(),
                    name,
                }))
            })
            .collect::<R<_>>()?;
        backends.push(Arc::new(Backend {
            name: k.clone(),
            balance: match s(v, "balance").as_deref() {
                None | Some("roundrobin") => Balance::RoundRobin,
                Some("leastconn") => Balance::LeastConn,
                Some(_) => Balance::Hash(KeyExpr::Src),
            },
            sticky,
            on_down: if s(v, "on_down").as_deref() == Some("fail") { OnDown::Fail } else { OnDown::Redispatch },
            drain: if s(v, "drain").as_deref() == Some("move") { DrainMode::Move } else { DrainMode::Stay },
            check,
            retries: n(v, "retries", 3) as u32,
            retry_after: dur(v, "retry_after", secs(5))?,
            max_queue: n(v, "max_queue", 1000),
            real_ip: b(v, "real_ip", false),
            max_idle: n(v, "max_idle", 64),
            timeout: timeouts(base, tbl(v, "timeout"))?,
            servers,
        }));
    }
    Ok(Config {
        instance: Instance {
            name: name.map(str::to_owned).or_else(|| s(i, "name")).unwrap_or(host.into()),
            workers: i.get("workers").and_then(V::as_integer).map(|x| x as usize),
            drain: dur(i, "drain", secs(30))?,
            maxconn,
        },
        admin: Admin {
            listen: s(a, "listen").map(|x| addr(&x)).transpose()?,
            socket: s(a, "socket").map(Into::into),
            token: s(a, "token"),
        },
        peers,
        log: Log {
            level: s(sec("log"), "level").unwrap_or("info".into()),
            format: LogFormat::Auto,
            access: if b(sec("log"), "access", false) { AccessLog::Stdout } else { AccessLog::Off },
        },
        tables,
        frontends,
        backends,
    })
}
