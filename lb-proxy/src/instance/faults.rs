//! What keeps a configuration from running that its text does not show: files, addresses, host names. Each with the key
//! that it is about, so that a start and a reload say where it stands, as they do of mistakes in the text.
use super::StartError;
use crate::edge::Edges;
use crate::reload::ReloadError;
use crate::tls::TlsError;
use crate::tls::tickets::Secret;
use lb_core::config::{Config, Fault, ListenAddr};
use std::time::SystemTime;

/// Reads every file that a configuration names for TLS, as a start would. What comes back are warnings: it would start.
///
/// # Errors
/// What would keep it from starting.
pub fn check(config: &Config) -> Result<Vec<String>, TlsError> {
    let own = Secret::random()?;
    let edges = Edges::build(config, &own);
    let peers = config.peers.as_ref().and_then(|peers| peers.tls.as_ref());
    let peers = peers.and_then(|files| lb_peers::check(files, &config.instance.name).err());
    let faults: Vec<_> = peers.iter().map(of_peers).collect();
    match edges {
        Ok(edges) if faults.is_empty() => Ok(edges.warnings(SystemTime::now())),
        Ok(_) => Err(TlsError(faults)),
        Err(TlsError(more)) => Err(TlsError(faults.into_iter().chain(more).collect())),
    }
}

impl StartError {
    /// The keys that it is about; none where it is about none.
    pub fn faults(&self, config: &Config) -> Vec<Fault> {
        let one = |key: String| vec![Fault::new(key, self.to_string())];
        match self {
            Self::Bind(why) => one(listener(config, &why.frontend, &why.addr)),
            Self::Name(why) => one(why.key(config)),
            Self::Tls(TlsError(faults)) => faults.clone(),
            Self::Admin(why) => one(why.key().into()),
            Self::Peers(why) => vec![of_peers(why)],
            Self::Access(_) => one("log.access".into()),
            Self::Level(_) => one("log.level".into()),
            Self::Thread(_) | Self::WorkerEnded => Vec::new(),
        }
    }
}

impl ReloadError {
    /// As [`StartError::faults`].
    pub(crate) fn faults(&self, config: &Config) -> Vec<Fault> {
        let one = |key: String| vec![Fault::new(key, self.to_string())];
        match self {
            Self::Bind(why) => one(listener(config, &why.frontend, &why.addr)),
            Self::Name(why) => one(why.key(config)),
            Self::Tls(TlsError(faults)) => faults.clone(),
            Self::Access(_) => one("log.access".into()),
            Self::Level(_) => one("log.level".into()),
            Self::Stopping | Self::Read { .. } | Self::Invalid(_) | Self::NeedsRestart(_) => Vec::new(),
        }
    }
}

fn of_peers(why: &lb_peers::StartError) -> Fault {
    let key = match why {
        lb_peers::StartError::Listen { .. } => "peers.listen".to_owned(),
        // The reason begins with the key that it is about.
        lb_peers::StartError::Tls(text) => format!("peers.tls.{}", text.split(':').next().unwrap_or_default()),
    };
    Fault::new(key, why.to_string())
}

/// The key of a frontend's address.
fn listener(config: &Config, frontend: &str, addr: &ListenAddr) -> String {
    let found = config.frontends.iter().find(|f| f.name == frontend);
    let number = found.and_then(|f| f.listen.iter().position(|l| l.addr == *addr)).unwrap_or_default();
    format!("frontend.{frontend}.listen[{number}]")
}
