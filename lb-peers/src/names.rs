//! Looks up names, of peers and of servers: hosts as the system does it, SRV records by DNS, and both by one server where
//! the configuration names it.
//!
//! It must not know what becomes of the answers. It keeps nothing: a changed `resolv.conf` holds at once, and an answer
//! is asked for again when its time is over.
use crate::replicator::Found;
use futures_util::future::join_all;
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolveHosts, ResolverConfig};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::RData;
use lb_core::config::PeerAddr;
use lb_core::discovery::Record;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::time::timeout;

/// How long one look-up may take, all servers and attempts together.
const PATIENCE: Duration = Duration::from_secs(15);
/// How long one question to a server may take.
const ANSWER: Duration = Duration::from_secs(2);
/// Records of one name that are looked at.
const MAX_RECORDS: usize = 64;

/// What a name stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Records {
    /// All of it.
    pub all: Vec<Record>,
    /// How long it holds; `None`: nobody said.
    pub ttl: Option<Duration>,
    /// Why there may be more.
    pub missing: Option<String>,
}

/// Looks up a name of the join list.
pub(crate) async fn look_up(name: &PeerAddr, server: Option<SocketAddr>) -> Result<Found, String> {
    let Records { all, ttl, missing } = records(name, server).await?;
    Ok(Found { addrs: all.into_iter().map(|record| record.addr).collect(), ttl, missing })
}

/// Looks up a name at this DNS server, or as the system does it.
///
/// # Errors
/// A sentence that says why it stands for nothing.
pub async fn records(name: &PeerAddr, server: Option<SocketAddr>) -> Result<Records, String> {
    let found = async {
        match name {
            PeerAddr::Socket(addr) => {
                let record = Record { host: addr.ip().to_string(), addr: *addr, priority: 0, weight: 0 };
                Ok(Records { all: vec![record], ttl: None, missing: None })
            }
            PeerAddr::Name { host, port } => host_addrs(host, *port, server).await,
            PeerAddr::Service(service) => service_addrs(service, server).await,
        }
    };
    let found = timeout(PATIENCE, found).await.unwrap_or_else(|_| Err("nobody answers".into()));
    let at = server.map(|addr| format!(" at {addr}")).unwrap_or_default();
    found.map_err(|error| format!("it cannot be looked up{at}: {error}"))
}

async fn host_addrs(host: &str, port: u16, server: Option<SocketAddr>) -> Result<Records, String> {
    let (addrs, ttl): (Vec<_>, _) = match server {
        None => {
            let found = tokio::net::lookup_host((host, port)).await.map_err(|e| e.to_string())?;
            (found.collect(), None)
        }
        Some(_) => {
            let found = resolver(server)?.lookup_ip(host).await.map_err(|e| explain(&e))?;
            (found.iter().map(|ip| SocketAddr::new(ip, port)).collect(), Some(left(found.valid_until())))
        }
    };
    match addrs.is_empty() {
        true => Err("it has no addresses".into()),
        false => {
            let record =
                |addr| Record { host: host.trim_end_matches('.').to_lowercase(), addr, priority: 0, weight: 0 };
            Ok(Records { all: addrs.into_iter().map(record).collect(), ttl, missing: None })
        }
    }
}

/// The addresses of every SRV record.
async fn service_addrs(service: &str, server: Option<SocketAddr>) -> Result<Records, String> {
    let records = resolver(server)?.srv_lookup(service).await.map_err(|e| explain(&e))?;
    let srv = records.answers().iter().filter_map(|record| match &record.data {
        // RFC 2782: the root as a target means that the service is not there.
        RData::SRV(srv) if !srv.target.is_root() => Some((srv.target.to_string(), srv.port, srv.priority, srv.weight)),
        _ => None,
    });
    let targets: Vec<_> = srv.take(MAX_RECORDS).collect();
    let hosts = targets.iter().map(|(host, port, priority, weight)| async move {
        // Not every system's own look-up takes the final dot, in /etc/hosts for one.
        let asked = if server.is_some() { host } else { host.trim_end_matches('.') };
        let found = host_addrs(asked, *port, server).await.map_err(|error| format!("its host {asked}: {error}"))?;
        let record = |record| Record { priority: *priority, weight: *weight, ..record };
        Ok(Records { all: found.all.into_iter().map(record).collect(), ..found })
    });
    let (mut all, mut ttl) = (Records { all: Vec::new(), ttl: None, missing: None }, left(records.valid_until()));
    for found in join_all(hosts).await {
        match found {
            Ok(found) => {
                all.all.extend(found.all);
                ttl = found.ttl.map_or(ttl, |t| t.min(ttl));
            }
            Err::<_, String>(error) => all.missing = Some(error),
        }
    }
    all.ttl = Some(ttl);
    match (all.all.is_empty(), all.missing) {
        (true, missing) => Err(missing.unwrap_or_else(|| "it has no SRV records".into())),
        (false, missing) => {
            all.missing = missing.map(|error| format!("it can be looked up in part: {error}"));
            Ok(all)
        }
    }
}

fn left(until: Instant) -> Duration {
    until.saturating_duration_since(Instant::now())
}

fn resolver(server: Option<SocketAddr>) -> Result<TokioResolver, String> {
    let mut builder = match server {
        None => TokioResolver::builder_tokio().map_err(|e| format!("/etc/resolv.conf cannot be used: {e}"))?,
        Some(addr) => {
            let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
                connection.port = addr.port();
                connection
            });
            let server = NameServerConfig::new(addr.ip(), true, connections.into());
            let config = ResolverConfig::from_parts(None, Vec::new(), vec![server]);
            let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
            builder.options_mut().use_hosts_file = ResolveHosts::Never;
            builder
        }
    };
    let options = builder.options_mut();
    options.timeout = ANSWER;
    options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
    builder.build().map_err(|e| e.to_string())
}

fn explain(error: &NetError) -> String {
    match error {
        NetError::Timeout => "nobody answers".into(),
        NetError::NoConnections => "no DNS server can be reached".into(),
        e if e.is_nx_domain() => "there is no such name".into(),
        e if e.is_no_records_found() => "it has no such records".into(),
        e => e.to_string(),
    }
}
