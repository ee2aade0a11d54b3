//! What the health of servers comes to for their backends: panic where too few are up, and what is open on a server that
//! went down and is to be closed.
use lb_core::config::faults::OnMarkedDown;
use lb_core::server::{AdminState, Health, ServerState};
use lb_core::snapshot::{Backend, Snapshot};
use std::collections::HashSet;

/// What was found the last time.
#[derive(Debug, Default)]
pub struct Standing {
    down: HashSet<u32>,
}

impl Standing {
    /// Looks at every backend once; the servers whose requests and tunnels are to be closed now.
    pub fn poll(&mut self, snapshot: &Snapshot) -> Vec<u32> {
        let mut down = HashSet::with_capacity(self.down.len());
        let mut close = Vec::new();
        for backend in &snapshot.backends {
            panic(backend);
            for server in backend.servers.iter().map(|s| &s.state).filter(|s| s.health() == Health::Down) {
                down.insert(server.uid);
                let closes = backend.config.faults.on_marked_down == OnMarkedDown::Close && !server.panics();
                if closes && !self.down.contains(&server.uid) {
                    close.push(server.uid);
                }
            }
        }
        self.down = down;
        close
    }
}

/// Ignores the health of a backend's servers where too few are up.
fn panic(backend: &Backend) {
    let states = || backend.servers.iter().map(|s| &s.state);
    let counts = |s: &&std::sync::Arc<ServerState>| s.admin() != AdminState::Maint && !s.gone();
    let all = states().filter(counts).count();
    let up = states().filter(counts).filter(|s| s.health() == Health::Up && !s.ejected()).count();
    let panics = up * 100 < all * backend.config.faults.panic_threshold as usize;
    let news = states().fold(false, |news, s| s.set_panics(panics) | news);
    match (news, panics) {
        (true, true) => tracing::warn!(
            backend = backend.config.name,
            "{up} of {all} servers are up, fewer than panic_threshold: health is ignored"
        ),
        (true, false) => {
            tracing::info!(backend = backend.config.name, "{up} of {all} servers are up: health counts again")
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;
    use std::sync::Arc;

    fn snapshot(change: impl FnOnce(&mut lb_core::config::Backend)) -> Snapshot {
        let servers = ["a", "b", "c", "d"].map(|n| (n, ([127, 0, 0, 1], 1).into()));
        let mut backend = fixture::backend("app", &servers);
        change(&mut backend);
        let mut config = fixture::config();
        config.backends = vec![Arc::new(backend)];
        fixture::snapshot(config)
    }

    fn taking(snapshot: &Snapshot) -> usize {
        snapshot.servers().filter(|s| s.takes_new()).count()
    }

    #[test]
    fn with_too_few_servers_up_health_is_ignored_until_enough_are() {
        let snapshot = snapshot(|b| b.faults.panic_threshold = 50);
        let (servers, mut standing): (Vec<_>, _) = (snapshot.servers().collect(), Standing::default());
        servers[0].set_health(Health::Down, 1);
        servers[1].eject(Some(1));
        standing.poll(&snapshot);
        assert_eq!(taking(&snapshot), 2, "half are up");
        servers[2].set_health(Health::Down, 1);
        standing.poll(&snapshot);
        assert_eq!(taking(&snapshot), 4);
        servers[0].set_admin(AdminState::Maint);
        servers[1].set_admin(AdminState::Maint);
        standing.poll(&snapshot);
        assert_eq!(taking(&snapshot), 1, "of two that count one is up");
        let never = self::snapshot(|_| ());
        never.servers().for_each(|s| s.set_health(Health::Down, 1));
        standing.poll(&never);
        assert_eq!(taking(&never), 0, "off where nobody asked for it");
    }

    #[test]
    fn a_server_that_goes_down_is_closed_once_where_the_backend_says_so() {
        let closing = snapshot(|b| b.faults.on_marked_down = OnMarkedDown::Close);
        let (server, mut standing) = (closing.servers().next().unwrap(), Standing::default());
        assert!(standing.poll(&closing).is_empty());
        server.set_health(Health::Down, 1);
        assert_eq!(standing.poll(&closing), [server.uid]);
        assert!(standing.poll(&closing).is_empty(), "once");
        server.set_health(Health::Up, 2);
        standing.poll(&closing);
        server.set_health(Health::Down, 3);
        assert_eq!(standing.poll(&closing), [server.uid], "and again when it went down again");
        let staying = snapshot(|_| ());
        staying.servers().for_each(|s| s.set_health(Health::Down, 1));
        assert!(Standing::default().poll(&staying).is_empty());
    }
}
