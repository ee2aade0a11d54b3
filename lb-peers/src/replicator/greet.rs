//! Greetings: who may speak to us, and which stream of a pair stays.
use super::peer::Peer;
use super::{DECISIONS_A_FRAME, End, LinkId, Memory, Now, Output, Replicator, Side, loads};
use crate::cursor::Progress;
use crate::session::Session;
use crate::tables::{Common, Local};
use crate::wire::{Frame, Goodbye, Hello, MIN_PROTOCOL, PROTOCOL, Refusal, RefuseCode};
use lb_core::id::NodeId;
use std::net::SocketAddr;
use std::time::Duration;

/// Peers remembered at most, and how long one that is gone.
const PEERS: usize = 256;
const GONE: Duration = Duration::from_secs(600);

/// What comes of a greeting.
enum Verdict {
    Ourselves,
    Refused(Refusal),
    Welcome(Common),
}

fn refused(code: RefuseCode, text: String) -> Verdict {
    Verdict::Refused(Refusal { code, text })
}

impl Replicator {
    /// A peer says who it is.
    pub(super) fn greeted(&mut self, now: Now, link: LinkId, hello: Hello) {
        let Some(session) = self.sessions.get_mut(&link) else { return };
        let listen = listen_of(&hello, session.remote);
        session.greeted_as = Some((hello.node.clone(), listen));
        match self.judge(&hello, &self.sessions[&link]) {
            Verdict::Ourselves => {
                self.targets.found_self(link);
                self.outputs.push_back(Output::Send { link, frame: Frame::Goodbye(Goodbye::SelfDialled) });
                self.end(now, link, End::Needless);
            }
            Verdict::Refused(refusal) => self.refuse(now, link, refusal),
            Verdict::Welcome(common) => self.welcome(now, link, (hello, listen), common),
        }
    }

    /// The texts speak of both nodes by name, in order of the names: both sides show the same one.
    fn judge(&self, hello: &Hello, session: &Session) -> Verdict {
        let (us, them) = (&self.setup.settings, &hello.node);
        let node = &us.node;
        if hello.incarnation == us.incarnation && them == node {
            return Verdict::Ourselves;
        }
        if hello.protocol < MIN_PROTOCOL || hello.min_protocol > PROTOCOL {
            let speaks = |(least, newest)| format!("the peer protocols {least} to {newest}");
            let pair = both((node, (MIN_PROTOCOL, PROTOCOL)), (them, (hello.min_protocol, hello.protocol)), speaks);
            return refused(RefuseCode::Protocol, format!("{pair}: upgrade by one release at a time"));
        }
        if hello.cluster != us.config.cluster {
            let pair = both((node, &us.config.cluster), (them, &hello.cluster), |c| format!("cluster \"{c}\""));
            let text = format!("{pair}: give both the same peers.cluster, or take the address out of peers.join");
            return refused(RefuseCode::Cluster, text);
        }
        if them == node {
            let mut at = [self.setup.listen, listen_of(hello, session.remote)];
            at.sort();
            let [one, other] = at;
            let text = format!(
                "two running instances are called \"{node}\" ({one} and {other}): give each its own instance.name"
            );
            return refused(RefuseCode::Name, text);
        }
        if NodeId::new(them, 0).same_name(NodeId::new(node, 0)) {
            let (one, other) = if node < them { (node, them) } else { (them, node) };
            let text = format!("the names \"{one}\" and \"{other}\" share a short hash: change one instance.name");
            return refused(RefuseCode::Name, text);
        }
        if let Some(names) =
            session.certificate.as_ref().filter(|names| !names.iter().any(|n| n.eq_ignore_ascii_case(them)))
        {
            let text = format!(
                "the certificate of {them} is for \"{}\": a peer's certificate must have its instance.name as DNS name",
                names.join("\", \"")
            );
            return refused(RefuseCode::Certificate, text);
        }
        match self.tables.matched(node, them, &hello.tables) {
            Ok(common) => Verdict::Welcome(common),
            Err(refusal) => Verdict::Refused(refusal),
        }
    }

    /// Tells a peer why we do not speak to it, and ends the link.
    pub(super) fn refuse(&mut self, now: Now, link: LinkId, refusal: Refusal) {
        self.outputs.push_back(Output::Send { link, frame: Frame::Refuse(refusal.clone()) });
        self.end(now, link, End::Refused(refusal));
    }

    fn welcome(&mut self, now: Now, link: LinkId, (hello, listen): (Hello, SocketAddr), common: Common) {
        let name = hello.node.clone();
        self.targets.up(link, &name);
        self.targets.met(listen, &name);
        if let Some(before) = self.peers.get(&name).and_then(|p| p.link)
            && !self.settle_double(now, link, before, &hello)
        {
            return;
        }
        let mut memory = self.remember(now, link, &hello, listen);
        if !hello.pulled {
            memory.progress.extend(common.tables().iter().map(|local| (local.clone(), self.least(local))));
        }
        let Some(session) = self.sessions.get_mut(&link) else { return };
        self.strangers.forgive(&name, [listen, session.remote]);
        tracing::info!(peer = name, addr = %listen, release = hello.release, "peer is up");
        session.accept(now, hello, common, memory);
        if session.up.as_ref().is_some_and(|up| up.protocol >= loads::PROTOCOL) {
            self.loads.up(now, &name, link);
        }
        if self.plan.is_done() && !session.said_pulled {
            session.out.push_back(Frame::Pulled);
        }
        let all = self.decisions.all(now.wall);
        session.out.extend(all.chunks(DECISIONS_A_FRAME).map(|part| Frame::Decisions(part.to_vec())));
    }

    /// Where a peer that pulls begins in our changes: at the newest as of now, before any scan of its pull, so that
    /// nothing falls between; but at what another peer has not acknowledged yet, because it may pull from that one, and
    /// while digests would find a pin that it misses so, they say nothing of lives.
    fn least(&self, local: &Local) -> Progress {
        let linked = self.sessions.values().filter_map(|s| s.up.as_ref()).map(|up| &up.teacher.memory);
        let memories = linked.chain(self.peers.values().map(|p| &p.memory));
        let mut least = Progress::from_newest(&local.table);
        for (_, progress) in memories.flat_map(|m| &m.progress).filter(|(table, _)| table.id == local.id) {
            least.go_back_to(progress);
        }
        least
    }

    /// Two streams of one pair: one of them ends. Both ends decide alike. True: the new one stays.
    ///
    /// Of two that different sides dialled, the one dialled by the node with the smaller name stays; of two that one
    /// side dialled, the newer; and a peer in a new life has no use for a stream of its former one.
    fn settle_double(&mut self, now: Now, new: LinkId, old: LinkId, hello: &Hello) -> bool {
        let sides = |link: LinkId| self.sessions.get(&link).map(|s| s.side);
        let (old_side, new_side) = (sides(old), sides(new));
        let reborn = self.peers.get(&hello.node).is_some_and(|p| p.incarnation != hello.incarnation);
        let ours_stays = self.setup.settings.node < hello.node;
        let old_stays = !reborn && old_side != new_side && (old_side == Some(Side::Dialler)) == ours_stays;
        let (ends, frame) = match (old_stays, reborn) {
            (true, _) => (new, Frame::Goodbye(Goodbye::Double)),
            (false, false) => (old, Frame::Goodbye(Goodbye::Double)),
            // If the former life still reads this, there are two of one name.
            (false, true) => {
                let text = format!(
                    "another instance called \"{}\" has taken this one's place at {}: give each its own instance.name",
                    hello.node, self.setup.settings.node
                );
                (old, Frame::Refuse(Refusal { code: RefuseCode::Name, text }))
            }
        };
        self.outputs.push_back(Output::Send { link: ends, frame });
        let why = if reborn { End::Lost("it was restarted".into()) } else { End::Needless };
        self.end(now, ends, why);
        !old_stays
    }

    /// Notes that a peer is up; gives back what was known of it in this life.
    fn remember(&mut self, now: Now, link: LinkId, hello: &Hello, addr: SocketAddr) -> Memory {
        let fresh = || Peer {
            incarnation: hello.incarnation,
            link: Some(link),
            addr,
            since: now.at,
            error: None,
            memory: Memory::default(),
            pulled: None,
        };
        self.peers.retain(|_, p| p.link.is_some() || now.at < p.since + GONE);
        if self.peers.len() >= PEERS && !self.peers.contains_key(&hello.node) {
            let gone = self.peers.iter().filter(|(_, p)| p.link.is_none()).min_by_key(|(_, p)| p.since);
            gone.map(|(name, _)| name.clone()).map(|name| self.peers.remove(&name));
        }
        let peer = self.peers.entry(hello.node.clone()).or_insert_with(fresh);
        if peer.incarnation != hello.incarnation {
            *peer = fresh();
        }
        (peer.link, peer.addr, peer.since, peer.error) = (Some(link), addr, now.at, None);
        std::mem::take(&mut peer.memory)
    }
}

/// "a has X, b has Y".
fn both<T>(one: (&String, T), other: (&String, T), shown: impl Fn(T) -> String) -> String {
    let (first, second) = if one.0 < other.0 { (one, other) } else { (other, one) };
    format!("{} has {}, {} has {}", first.0, shown(first.1), second.0, shown(second.1))
}

/// Where a peer listens, as seen from here.
fn listen_of(hello: &Hello, remote: SocketAddr) -> SocketAddr {
    match hello.listen.parse::<SocketAddr>() {
        Ok(addr) if addr.ip().is_unspecified() => SocketAddr::new(remote.ip(), addr.port()),
        Ok(addr) => addr,
        Err(_) => remote,
    }
}
