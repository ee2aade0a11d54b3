//! What the sample clients saw: which server each found first, and whether it ever found another. It only keeps
//! the books; it knows neither sockets nor processes.
use super::server::Answer;
use std::sync::{Mutex, PoisonError};

/// Surprises kept for the report; more would not be read.
const NOTES: usize = 20;

/// The books of all clients.
pub(super) struct Ledger {
    books: Mutex<Books>,
}

#[derive(Default)]
struct Books {
    clients: Vec<Record>,
    notes: Vec<String>,
    /// Set while an instance is down on purpose: connections that break then are no failures.
    excused: bool,
}

#[derive(Clone, Default)]
struct Record {
    home: Option<(String, u64)>,
    moved: bool,
    connections: u64,
    answers: u64,
    broken: u64,
    failures: u64,
}

/// The sums.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub(super) struct Tally {
    /// Sample clients.
    pub(super) clients: usize,
    /// Those that were answered and never by another server than their first.
    pub(super) kept: usize,
    /// Those that found themselves on another server, or with their session lost.
    pub(super) moved: usize,
    /// Connections after each client's first.
    pub(super) reconnects: u64,
    /// Requests and messages answered.
    pub(super) requests: u64,
    /// Connections that a killed instance took with it.
    pub(super) interrupted: u64,
    /// Connections that failed for no such reason.
    pub(super) failures: u64,
}

impl Ledger {
    /// Empty books for this many clients.
    pub(super) fn new(clients: usize) -> Self {
        let books = Books { clients: vec![Record::default(); clients], ..Books::default() };
        Self { books: Mutex::new(books) }
    }

    fn with<T>(&self, change: impl FnOnce(&mut Books) -> T) -> T {
        change(&mut self.books.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// From now on a broken connection is (not) the demo's own doing.
    pub(super) fn excuse(&self, excused: bool) {
        self.with(|books| books.excused = excused);
    }

    /// A client is connected.
    pub(super) fn connected(&self, client: usize) {
        self.with(|books| books.clients[client].connections += 1);
    }

    /// A client's connection broke or was refused midway.
    pub(super) fn broken(&self, client: usize, why: &str) {
        self.with(|books| match books.excused {
            true => books.clients[client].broken += 1,
            false => books.fail(client, why),
        });
    }

    /// A client found nobody to connect to.
    pub(super) fn failed(&self, client: usize, why: &str) {
        self.with(|books| books.fail(client, why));
    }

    /// A client was answered.
    pub(super) fn answered(&self, client: usize, answer: &Answer) {
        self.with(|books| {
            let record = &mut books.clients[client];
            record.answers += 1;
            let last = record.home.replace((answer.server.clone(), answer.count));
            let Some((server, count)) = last else { return };
            // An answer that a killed instance took with it was counted by the server: the count may skip, not fall.
            if server != answer.server || answer.count <= count {
                record.moved = true;
                let Answer { server: now, session, count: counted } = answer;
                books.note(format!("{session} was on {server} at {count} and is on {now} at {counted}"));
            }
        });
    }

    /// The sums as of now.
    pub(super) fn tally(&self) -> Tally {
        self.with(|books| {
            let mut tally = Tally { clients: books.clients.len(), ..Tally::default() };
            for record in &books.clients {
                tally.kept += usize::from(record.home.is_some() && !record.moved);
                tally.moved += usize::from(record.moved);
                tally.reconnects += record.connections.saturating_sub(1);
                tally.requests += record.answers;
                tally.interrupted += record.broken;
                tally.failures += record.failures;
            }
            tally
        })
    }

    /// The first surprises, in words.
    pub(super) fn notes(&self) -> Vec<String> {
        self.with(|books| books.notes.clone())
    }
}

impl Books {
    fn fail(&mut self, client: usize, why: &str) {
        self.clients[client].failures += 1;
        self.note(why.to_owned());
    }

    fn note(&mut self, note: String) {
        if self.notes.len() < NOTES {
            self.notes.push(note);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(server: &str, count: u64) -> Answer {
        Answer { server: server.to_owned(), session: "s".to_owned(), count }
    }

    #[test]
    fn a_session_whose_count_starts_again_was_lost_even_on_the_same_server() {
        let ledger = Ledger::new(2);
        ledger.answered(0, &answer("node1", 3));
        ledger.answered(0, &answer("node1", 5));
        assert_eq!((ledger.tally().kept, ledger.tally().moved), (1, 0));
        ledger.answered(0, &answer("node1", 1));
        assert_eq!((ledger.tally().kept, ledger.tally().moved), (0, 1));
    }

    #[test]
    fn a_connection_that_the_demo_broke_itself_is_no_failure() {
        let ledger = Ledger::new(1);
        ledger.excuse(true);
        ledger.broken(0, "reset");
        ledger.excuse(false);
        ledger.broken(0, "reset");
        let tally = ledger.tally();
        assert_eq!((tally.interrupted, tally.failures), (1, 1));
    }
}
