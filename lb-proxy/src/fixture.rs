//! Small valid configurations for unit tests.
use lb_core::config::{
    AccessLog, Admin, Backend, Balance, Config, DrainMode, Frontend, Instance, KeyKind, Listen, ListenTls, Log,
    LogFormat, Maxconn, OnDown, Persist, Server, Spread, Table, Timeouts, TlsVersion,
};
use lb_core::hlc::Clock;
use lb_core::id::{Names, NodeId};
use lb_core::rules::Rules;
use lb_core::server::AdminState;
use lb_core::snapshot::{Base, Snapshot};
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// An instance with nothing in it.
pub(crate) fn config() -> Config {
    Config {
        instance: Instance {
            name: "lb1".into(),
            workers: Some(2),
            drain: Duration::from_secs(1),
            maxconn: 1000,
            state: None,
            state_interval: Duration::from_secs(60),
            close_pace: Default::default(),
        },
        admin: Admin { listen: None, socket: None, token: None },
        peers: None,
        log: Log { level: "info".into(), format: LogFormat::Text, access: AccessLog::Off },
        jwt: None,
        auth: Vec::new(),
        tls: Default::default(),
        tables: Vec::new(),
        frontends: Vec::new(),
        backends: Vec::new(),
    }
}

pub(crate) fn server(name: &str, addr: SocketAddr) -> Server {
    Server {
        name: name.into(),
        addr: addr.into(),
        origin: lb_core::config::Origin::Written,
        host: None,
        weight: 1,
        maxconn: Maxconn::default(),
        backup: false,
        slow_start: None,
        cookie: name.into(),
        generation: 0,
        tls: None,
        send_proxy: None,
        check: None,
        agent: None,
        state: AdminState::Ready,
    }
}

pub(crate) fn backend(name: &str, servers: &[(&str, SocketAddr)]) -> Backend {
    Backend {
        name: name.into(),
        mode: lb_core::tcp::Mode::Http,
        balance: Balance::RoundRobin,
        spread: Spread::default(),
        sticky: Vec::new(),
        persist: Persist::default(),
        on_down: OnDown::Redispatch,
        drain: DrainMode::Stay,
        check: None,
        agent: None,
        retries: 3,
        faults: lb_core::config::Faults::default(),
        retry_after: Duration::from_secs(5),
        max_queue: 1000,
        real_ip: false,
        max_idle: 64,
        max_body: None,
        timeout: Timeouts::default(),
        websocket: Default::default(),
        rules: Rules::default(),
        resolver: None,
        templates: Vec::new(),
        proto: Default::default(),
        servers: servers.iter().map(|(name, addr)| Arc::new(server(name, *addr))).collect(),
    }
}

pub(crate) fn base() -> Base {
    let clock = Clock::new(NodeId::new("lb1", 1), Duration::from_secs(86_400));
    Base::new(Arc::new(Names::default()), Arc::new(clock), 1, 2)
}

pub(crate) fn snapshot(config: Config) -> Snapshot {
    Snapshot::build(Arc::new(config), &base(), None)
}

pub(crate) fn frontend(name: &str, listen: &[SocketAddr]) -> Frontend {
    Frontend {
        name: name.into(),
        tcp: None,
        listen: listen
            .iter()
            .map(|addr| Listen {
                addr: (*addr).into(),
                socket: Default::default(),
                accept_proxy: Vec::new(),
                tls: None,
                alpn: Vec::new(),
                h2c: false,
            })
            .collect(),
        routes: Vec::new(),
        backend: None,
        timeout: Timeouts::default(),
        maxconn: 1000,
        maxconn_per_address: 0,
        forwarded: true,
        trusted_proxies: Vec::new(),
        max_head: 16 * 1024,
        max_headers: 100,
        min_rate: 240,
        limit: Vec::new(),
        max_tarpit: 1000,
        rules: Rules::default(),
        http2: Default::default(),
    }
}

pub(crate) fn table(name: &str) -> Table {
    Table::new(name, KeyKind::String)
}

/// TLS with a certificate for `shop.example`, read from a file that lasts as long as the process.
pub(crate) fn listen_tls() -> ListenTls {
    static DIR: OnceLock<tempfile::TempDir> = OnceLock::new();
    let dir = DIR.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        let key = rcgen::KeyPair::generate().unwrap();
        let cert = rcgen::CertificateParams::new(vec!["shop.example".into()]).unwrap().self_signed(&key).unwrap();
        std::fs::write(dir.path().join("site.pem"), cert.pem() + &key.serialize_pem()).unwrap();
        dir
    });
    ListenTls {
        cert: vec![dir.path().join("site.pem")],
        key: Vec::new(),
        min_version: TlsVersion::V12,
        strict_sni: false,
        check_host: false,
        client: None,
    }
}
