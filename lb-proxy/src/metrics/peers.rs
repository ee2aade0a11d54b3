//! Metrics of replication, made from the same rows that `lb peers` shows: what is in the list is there from the start.
//! Labels hold names of peers that were greeted and addresses of the list, never what a stranger calls itself.
use super::text::Text;
use super::*;
use lb_core::status::{PeerName, PeerStatus, PeersStatus};

/// Peers that have metrics.
const PEERS: usize = 64;
/// Reasons of refusals; any other counts as the last.
const REASONS: [&str; 8] = ["cluster", "name", "table", "certificate", "protocol", "malformed", "dns", "other"];

pub(super) fn write(out: &mut Text, status: &PeersStatus) {
    let PeersStatus { peers, names, tls, .. } = status;
    let is_peer = |p: &&PeerStatus| !p.stranger && names.iter().all(|n| n.name != p.name);
    let shown: Vec<&PeerStatus> = peers.iter().filter(is_peer).take(PEERS).collect();
    let mut each = |family: &Family, value: &dyn Fn(&PeerStatus) -> f64| {
        let mut rows = out.family(family);
        for peer in &shown {
            rows = rows.row(&[&peer.name], value(peer));
        }
    };
    let yes = |is: bool| f64::from(u8::from(is));
    each(&PEER_UP, &|p| yes(p.state == "up"));
    each(&PEER_IN_SYNC, &|p| yes(p.in_sync == Some(true)));
    each(&PEER_LAG, &|p| p.lag_ms / 1000.0);
    each(&PEER_BACKLOG, &|p| p.backlog as f64);
    each(&PEER_OFFSET, &|p| p.clock_offset_ms.unwrap_or_default() / 1000.0);
    each(&PEER_RTT, &|p| p.rtt_ms.unwrap_or_default() / 1000.0);
    each(&PEER_SENT, &|p| p.sent as f64);
    each(&PEER_RECEIVED, &|p| p.received as f64);
    each(&PEER_REFUSED, &|p| p.refused as f64);
    each(&PEER_REFUSED_BY, &|p| p.refused_by as f64);
    each(&PEER_COMPARED, &|p| p.compared as f64);
    each(&PEER_REPAIRED, &|p| p.repaired as f64);
    let mut each = |family: &Family, value: &dyn Fn(&PeerName) -> f64| {
        let mut rows = out.family(family);
        for name in names {
            rows = rows.row(&[&name.name], value(name));
        }
    };
    each(&PEER_DNS_UP, &|n| yes(n.found));
    each(&PEER_DNS_ERRORS, &|n| n.errors as f64);
    if let Some(tls) = tls {
        out.family(&PEER_CERT_EXPIRY).row(&[], tls.not_after as f64 / 1000.0);
        out.family(&PEER_CERT_ERRORS).row(&[], tls.errors as f64);
    }
    let mut rows = out.family(&PEERS_REFUSED);
    for reason in REASONS {
        rows = rows.row(&[reason], peers.iter().filter(|p| refusal(p) == Some(reason)).count());
    }
}

/// Why a peer is refused, in one of the words.
fn refusal(peer: &PeerStatus) -> Option<&'static str> {
    let reason = peer.reason.as_deref()?;
    let refused = ["refused", "unresolved"].contains(&peer.state.as_str());
    refused.then(|| REASONS.into_iter().find(|known| *known == reason).unwrap_or("other"))
}
