//! Metrics of how connections begin: the PROXY protocol and TLS with clients; none where no listener has them.
use super::text::Text;
use super::*;
use crate::edge::Edges;
use crate::tls::watch::Health as Reading;
use lb_core::edge::{HandshakeFailure, Handshakes};
use lb_core::server::Count;
use std::collections::BTreeMap;

/// All of them.
pub(crate) fn write(snapshot: &Snapshot, edges: &Edges, reading: Reading) -> String {
    let mut out = Text::default();
    let mut due =
        snapshot.frontends.iter().filter(|f| f.config.listen.iter().any(|l| !l.accept_proxy.is_empty())).peekable();
    if due.peek().is_some() {
        let mut rows = out.family(&PROXY_ERRORS);
        for f in due {
            rows = rows.row(&[&f.config.name], f.state.sum(|c| &c.proxy_errors));
        }
    }
    let frontends: Vec<_> =
        snapshot.frontends.iter().filter(|f| f.config.listen.iter().any(|l| l.tls.is_some())).collect();
    if frontends.is_empty() {
        return out.finish();
    }
    let sum = |f: &lb_core::snapshot::Frontend, of: fn(&Handshakes) -> &Count| f.state.sum(|c| of(&c.handshakes));
    let mut rows = out.family(&HANDSHAKES_ACTIVE);
    for f in &frontends {
        rows = rows.row(&[&f.config.name], sum(f, |h| &h.active));
    }
    let mut rows = out.family(&HANDSHAKES);
    for f in &frontends {
        rows = rows.row(&[&f.config.name, "full"], sum(f, |h| &h.full));
        rows = rows.row(&[&f.config.name, "resumed"], sum(f, |h| &h.resumed));
    }
    let mut rows = out.family(&HANDSHAKE_FAILURES);
    for f in &frontends {
        for why in HandshakeFailure::ALL {
            let times = f.state.sum(|c| &c.handshakes.failed[why as usize]);
            rows = rows.row(&[&f.config.name, why.as_str()], times);
        }
    }
    // Two listeners of a frontend may show the same file.
    let (mut ends, mut stapled) = (BTreeMap::new(), BTreeMap::new());
    for (frontend, _, tls) in edges.with_tls() {
        for chain in &tls.serving().certificates.chains {
            let file = chain.file.display().to_string();
            stapled.extend(chain.stapled().map(|told| ((frontend, file.clone()), told.until)));
            ends.insert((frontend, file), chain.life.until);
        }
    }
    for (family, ends) in [(&CERT_EXPIRY, ends), (&OCSP_EXPIRY, stapled)] {
        let mut rows = out.family(family);
        for ((frontend, file), until) in ends {
            rows = rows.row(&[frontend, &file], until as f64);
        }
    }
    out.family(&CERT_ERRORS).row(&[], reading.errors);
    out.finish()
}
