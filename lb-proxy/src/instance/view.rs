//! The status views, made from the running state.
use super::Control;
use crate::health::Heard;
use crate::shared::now;
use crate::tls::certificates::Chain;
use crate::tls::terminate::Termination;
use crate::tls::watch::Health;
use lb_core::config::{self, Balance, CookieValue, StickAction, Sticky};
use lb_core::counters::Counter;
use lb_core::id::NodeId;
use lb_core::matcher::Matcher;
use lb_core::server::Bounds;
use lb_core::snapshot::{Backend, Frontend, Server, Snapshot};
use lb_core::status::{
    AgentStatus, BackendStatus, CertificateStatus, CertificatesStatus, DecisionStatus, EntryStatus, FrontendStatus,
    MaxconnStatus, PeersStatus, ServerStatus, Status, TableStatus,
};
use lb_core::table::{CountedKey, StickKey, StickTable, Update};
use lb_core::tcp::Mode;
use std::collections::BTreeMap;
use std::sync::Arc;

impl Control {
    /// The whole instance.
    pub fn status(&self) -> Status {
        let snapshot = self.snapshot();
        Status {
            name: snapshot.config.instance.name.clone(),
            version: env!("CARGO_PKG_VERSION").into(),
            pid: std::process::id(),
            phase: self.phase().as_str().into(),
            uptime: self.started.instant.elapsed().as_secs(),
            generation: snapshot.generation,
            workers: self.shared.base.workers,
            admin: self.admin_addr().map(|a| a.to_string()),
            frontends: snapshot.frontends.iter().map(|f| self.frontend(f)).collect(),
            certificates: self.certificates(),
            backends: snapshot.backends.iter().map(|b| self.backend(b)).collect(),
            tables: self.tables(),
            names: self.discovery.status(),
            state: self.state.status(&snapshot),
            peers: self.peers_status(),
        }
    }

    /// Certificates that clients are shown.
    fn certificates(&self) -> Option<CertificatesStatus> {
        let edges = self.shared.edges.load();
        let of = |(frontend, addr, tls): (&str, &config::ListenAddr, &Termination)| {
            let (frontend, listen, serving) = (frontend.to_owned(), addr.to_string(), tls.serving());
            let of = |chain: &Chain| CertificateStatus {
                frontend: frontend.clone(),
                listen: listen.clone(),
                file: chain.file.display().to_string(),
                names: chain.names.clone(),
                not_after: chain.life.until.max(0).unsigned_abs() * 1000,
                ocsp_until: chain.stapled().map(|told| told.until.max(0).unsigned_abs() * 1000),
            };
            serving.certificates.chains.iter().map(of).collect::<Vec<_>>()
        };
        let shown: Vec<_> = edges.with_tls().flat_map(of).collect();
        let Health { error, errors } = self.certificates.health();
        (!shown.is_empty()).then_some(CertificatesStatus { shown, error, errors })
    }

    /// Holds tables against the peers'.
    pub(crate) fn verifier(&self) -> Option<lb_peers::Verifier> {
        self.peers.read().as_ref().map(lb_peers::Peers::verifier)
    }

    /// Replication.
    pub fn peers_status(&self) -> Option<PeersStatus> {
        self.peers.read().as_ref().map(lb_peers::Peers::status)
    }

    /// All servers.
    pub fn servers(&self) -> Vec<ServerStatus> {
        self.snapshot()
            .backends
            .iter()
            .flat_map(|b| b.servers.iter().map(|s| self.server(s)).collect::<Vec<_>>())
            .collect()
    }

    /// All tables.
    pub fn tables(&self) -> Vec<TableStatus> {
        let snapshot = self.snapshot();
        let of_config = snapshot.config.tables.iter();
        let table = |spec: &Arc<config::Table>| {
            let state = self.state.table(&snapshot, &spec.name);
            Some(TableStatus { state, ..table(spec, snapshot.tables.get(&spec.name)?) })
        };
        of_config.filter_map(table).collect()
    }

    fn frontend(&self, frontend: &Frontend) -> FrontendStatus {
        let name = &frontend.config.name;
        let ours = self.listening().into_iter().filter(|l| l.wanted.frontend == *name);
        let mut routes: Vec<_> = frontend.config.routes.iter().map(route).collect();
        let tcp = frontend.config.tcp.iter().flat_map(|tcp| &tcp.routes);
        routes.extend(tcp.map(|route| route.to_string().replace(" to ", " → ")));
        routes.extend(frontend.config.backend.as_ref().map(|b| format!("any → {b}")));
        FrontendStatus {
            name: name.clone(),
            mode: frontend.config.tcp.as_ref().map_or(Mode::Http, |_| Mode::Tcp).to_string(),
            listen: ours.map(|l| l.real.to_string()).collect(),
            routes,
            open: frontend.state.sum(|c| &c.open),
            accepted: frontend.state.sum(|c| &c.accepted),
            requests: (0..5).map(|i| frontend.state.sum(|c| &c.responses[i])).sum(),
        }
    }

    fn backend(&self, backend: &Backend) -> BackendStatus {
        BackendStatus {
            name: backend.config.name.clone(),
            balance: balance(&backend.config.balance),
            sticky: backend.config.sticky.iter().map(sticky).collect(),
            panic: backend.servers.iter().any(|s| s.state.panics()),
            servers: backend.servers.iter().map(|s| self.server(s)).collect(),
        }
    }

    fn server(&self, server: &Server) -> ServerStatus {
        let state = &server.state;
        ServerStatus {
            backend: state.backend.clone(),
            name: server.config.name.clone(),
            addr: server.config.addr.to_string(),
            state: state.admin(),
            health: state.health(),
            reason: self.checks.reason(state),
            weight: server.weight(),
            active: state.in_flight(),
            elsewhere: if self.peers.read().is_some() { state.elsewhere() } else { Some(0) },
            tunnels: state.sum(|c| &c.tunnels),
            requests: state.sum(|c| &c.requests),
            errors: state.sum(|c| &c.connect_errors) + state.sum(|c| &c.response_errors),
            decision: self.decision(&state.backend, &state.name).map(|(d, local)| DecisionStatus {
                node: d.node,
                author: d.author,
                reason: d.reason,
                at: d.at,
                local,
            }),
            maxconn: maxconn(state.bounds()),
            ejected: state.ejected_until().map(|at| at.saturating_sub(now().0).div_ceil(1000)),
            queued: state.queued(),
            backup: server.config.backup,
            gone: state.gone(),
            host: match &server.config.origin {
                config::Origin::Named(name) => Some(name.to_string()),
                _ => None,
            },
            agent: self.checks.heard(state).map(|Heard { said, error }| AgentStatus { said, error }),
        }
    }
}

fn maxconn(bounds: Bounds) -> Option<MaxconnStatus> {
    let Bounds { instance, agent, cluster, allowance, elsewhere } = bounds;
    let instance = agent.or(instance);
    // Alone, all of it is this instance's.
    let allowance = cluster.map(|cluster| allowance.unwrap_or(cluster));
    (instance.is_some() || cluster.is_some()).then_some(MaxconnStatus { instance, cluster, allowance, elsewhere })
}

fn table(spec: &config::Table, table: &StickTable) -> TableStatus {
    let stats = table.stats();
    TableStatus {
        name: spec.name.clone(),
        kind: spec.kind,
        entries: stats.entries,
        size: spec.size as u64,
        expire: spec.expire.as_secs_f64(),
        when_full: spec.when_full,
        replicate: spec.replicate,
        store: spec.store.iter().map(ToString::to_string).collect(),
        counted: stats.counted,
        stores: stats.stores,
        hits: stats.hits,
        misses: stats.misses,
        evictions: stats.evictions,
        memory: stats.memory,
        state: None,
    }
}

/// Names of the nodes that may have written a pin.
#[derive(Clone, Debug)]
pub(crate) struct Nodes(Vec<(NodeId, String)>);

impl Nodes {
    /// This node and the peers known now.
    pub(crate) fn of(control: &Control) -> Self {
        let mut names = vec![control.snapshot().config.instance.name.clone()];
        names.extend(control.peers_status().into_iter().flat_map(|p| p.peers).map(|p| p.name));
        Self(names.into_iter().map(|name| (NodeId::new(&name, 0), name)).collect())
    }

    pub(crate) fn name(&self, id: NodeId) -> String {
        let known = self.0.iter().find(|(node, _)| node.same_name(id));
        known.map_or_else(|| format!("{:08x}", id.0), |(_, name)| name.clone())
    }
}

/// One pinned entry; `None` for a tombstone.
pub(crate) fn entry(table: &StickTable, update: &Update, snapshot: &Snapshot, nodes: &Nodes) -> Option<EntryStatus> {
    let key = || StickKey::from_canonical(table.kind(), table.key_len(), &update.key);
    (!update.server.is_none()).then(|| EntryStatus {
        key: StickKey::show(table.kind(), &update.key),
        server: snapshot.names.name(update.server).to_string(),
        expires: update.left.as_secs_f64(),
        node: nodes.name(update.stamp.node),
        written: update.stamp.time().0,
        counters: key().and_then(|key| table.counters(&key, now())).map(sums).unwrap_or_default(),
    })
}

/// A key that is counted and not pinned.
pub(crate) fn counted(table: &StickTable, key: CountedKey) -> EntryStatus {
    EntryStatus {
        key: StickKey::show(table.kind(), &key.key),
        server: String::new(),
        expires: key.left.as_secs_f64(),
        node: String::new(),
        written: 0,
        counters: sums(key.sums),
    }
}

fn sums(of: Vec<(Counter, u64)>) -> BTreeMap<String, u64> {
    of.into_iter().map(|(counter, sum)| (counter.to_string(), sum)).collect()
}

fn route(route: &config::Route) -> String {
    format!("{} → {}", route.when, route.backend)
}

fn balance(balance: &Balance) -> String {
    match balance {
        Balance::RoundRobin => "roundrobin".into(),
        Balance::LeastConn => "leastconn".into(),
        Balance::Random(draws) => format!("random {draws}"),
        Balance::First => "first".into(),
        Balance::Hash(key) => format!("hash {key}"),
    }
}

fn sticky(rule: &Sticky) -> String {
    match rule {
        Sticky::Cookie(cookie) => {
            let flags = [
                ("indirect", cookie.indirect),
                ("nocache", cookie.nocache),
                ("httponly", cookie.httponly),
                ("secure", cookie.secure),
                ("preserve", cookie.preserve),
            ];
            let flags: String = flags.iter().filter(|(_, on)| *on).map(|(flag, _)| format!(" {flag}")).collect();
            let mode = format!("{:?}", cookie.mode).to_lowercase();
            let value = match cookie.value {
                CookieValue::Name => "",
                CookieValue::Dynamic => " dynamic",
                CookieValue::Sealed => " sealed",
            };
            format!("cookie {} {mode}{value}{flags}{}", cookie.name, only(&cookie.when))
        }
        Sticky::Table(rule) => {
            let action = match rule.action {
                StickAction::On => "on",
                StickAction::Match => "match",
                StickAction::StoreRequest => "store_request",
                StickAction::StoreResponse => "store_response",
            };
            format!("{action} {} in {}{}", rule.key, rule.table, only(&rule.when))
        }
    }
}

/// The condition of a sticky rule.
fn only(when: &Matcher) -> String {
    if when.0.is_empty() { String::new() } else { format!(" if {when}") }
}
