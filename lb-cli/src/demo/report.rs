//! What the demo says: where things are, how it goes, how it went. Text for people, JSON for scripts.
use super::cluster::Cluster;
use super::ledger::Tally;
use super::server::Server;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{IsTerminal as _, Write as _};

/// The end of it: `lb demo --json`. Field names are stable.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Summary {
    /// What the clients saw.
    #[serde(flatten)]
    pub(super) tally: Tally,
    /// Sessions on each server.
    pub(super) servers: BTreeMap<String, usize>,
    /// Whether an instance was killed.
    pub(super) killed: bool,
    /// What the killed instance did when it came back.
    pub(super) restarted: Option<Restarted>,
    /// The first surprises, in words.
    pub(super) notes: Vec<String>,
}

/// What a restarted instance did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Restarted {
    /// Entries that it pulled from its peer.
    pub(super) pulled_entries: u64,
    /// How long the pull took.
    pub(super) pull_ms: u64,
    /// From its start until it was ready.
    pub(super) ready_ms: u64,
}

impl Summary {
    /// The sums, and what the servers hold.
    pub(super) fn new(tally: Tally, servers: &[Server], notes: Vec<String>) -> Self {
        Self {
            tally,
            servers: servers.iter().map(|server| (server.name.clone(), server.sessions())).collect(),
            killed: false,
            restarted: None,
            notes,
        }
    }

    /// Whether the demo showed what it is there to show: every client kept its server. In a demo that was broken off
    /// (not `whole`) some may not have come to it yet.
    pub(super) fn good(&self, whole: bool) -> bool {
        self.tally.moved == 0 && self.tally.kept > 0 && (self.tally.kept == self.tally.clients || !whole)
    }

    /// For people.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        let Tally { clients, kept, moved, reconnects, requests, failures, .. } = &self.tally;
        let held: Vec<String> = self.servers.iter().map(|(name, count)| format!("{name} {count}")).collect();
        let _ = writeln!(text, "{kept} of {clients} clients kept their server, {moved} moved");
        let _ = writeln!(text, "  {reconnects} reconnects, {requests} requests and messages, {failures} failures");
        let _ = writeln!(text, "  sessions: {}", held.join(", "));
        let unheard = clients.saturating_sub(kept + moved);
        if unheard > 0 {
            let _ = writeln!(text, "  {unheard} clients were never answered");
        }
        if self.killed {
            let _ = writeln!(text, "  {} connections went down with the killed instance", self.tally.interrupted);
        }
        for note in &self.notes {
            let _ = writeln!(text, "  ! {note}");
        }
        text
    }
}

/// What runs where, and what to try.
pub(super) fn opening(cluster: &Cluster, servers: &[Server], clients: usize) -> String {
    let mut text = String::from("A cluster of two instances, three servers behind them\n\n");
    for instance in &cluster.instances {
        let place = &instance.place;
        let pid = instance.pid().map_or_else(|| "-".to_owned(), |pid| pid.to_string());
        let _ = writeln!(text, "  {}    http://{}  pid {pid}", place.name, place.frontend);
        let _ = writeln!(text, "         dashboard http://{}", place.admin);
        let _ = writeln!(text, "         socket    {}", place.socket.display());
    }
    for server in servers {
        let _ = writeln!(text, "  {}  http://{}", server.name, server.addr);
    }
    let _ = writeln!(text, "\n{clients} clients reconnect through both, pinned by cookie, header or query parameter.");
    if let Some(first) = cluster.instances.first() {
        let socket = first.place.socket.display();
        let front = first.place.frontend;
        let _ = write!(
            text,
            "\nTry in another terminal:\n\n  \
             lb status --socket {socket}\n  \
             lb peers --socket {socket}\n  \
             lb table show sessions --socket {socket}\n  \
             lb server drain header/node1 --socket {socket}\n  \
             curl -H 'X-Session-ID: me' http://{front}/header\n\n\
             Ctrl-C ends all of it.\n\n"
        );
    }
    text
}

/// The line that is written over and over.
pub(super) fn progress(tally: &Tally, seconds: u64) -> String {
    let Tally { clients, kept, moved, reconnects, requests, failures, .. } = tally;
    format!(
        "{seconds:>4}s  {kept}/{clients} clients kept their server, {moved} moved, {reconnects} reconnects, \
         {requests} requests, {failures} failures"
    )
}

/// The terminal, or what stands in for it.
pub(super) struct Screen {
    quiet: bool,
    live: bool,
    dirty: bool,
}

impl Screen {
    /// With `--json`, nothing is said but the summary.
    pub(super) fn new(json: bool) -> Self {
        Self { quiet: json, live: !json && std::io::stdout().is_terminal(), dirty: false }
    }

    /// Something to read, in whole lines.
    pub(super) fn say(&mut self, text: &str) {
        if !self.quiet {
            let clear = if std::mem::take(&mut self.dirty) { "\r\x1b[2K" } else { "" };
            out(&format!("{clear}{text}"));
        }
    }

    /// How it goes: one line, in place, on a terminal only.
    pub(super) fn progress(&mut self, line: impl FnOnce() -> String) {
        if self.live {
            self.dirty = true;
            out(&format!("\r\x1b[2K{}", line()));
        }
    }
}

/// Writes to standard output. That nobody reads it any more (`lb demo | head -3`) is no reason to leave a cluster
/// running half-way: the demo goes on to its orderly end.
pub(super) fn out(text: &str) {
    let mut stdout = std::io::stdout().lock();
    let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary(kept: usize, moved: usize) -> Summary {
        Summary::new(Tally { clients: kept + moved, kept, moved, ..Tally::default() }, &[], Vec::new())
    }

    #[test]
    fn one_moved_client_or_no_client_at_all_is_a_failure() {
        assert!(summary(24, 0).good(true));
        for whole in [true, false] {
            assert!(!summary(23, 1).good(whole));
            assert!(!summary(0, 0).good(whole));
        }
    }

    #[test]
    fn a_client_that_was_never_answered_is_a_failure_unless_the_demo_was_broken_off() {
        let mut unheard = summary(23, 0);
        unheard.tally.clients = 24;
        assert!(!unheard.good(true));
        assert!(unheard.good(false));
        assert!(unheard.text().contains("1 clients were never answered"), "{}", unheard.text());
    }

    #[test]
    fn the_json_names_what_scripts_read() {
        let json = serde_json::to_value(summary(2, 1)).unwrap();
        for (name, value) in [("clients", 3), ("kept", 2), ("moved", 1), ("reconnects", 0)] {
            assert_eq!(json[name], value, "{name}");
        }
        assert!(json["restarted"].is_null());
    }
}
