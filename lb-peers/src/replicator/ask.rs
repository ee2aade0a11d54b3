//! Questions for single keys that wait for peers' answers.
//!
//! A question is asked while this instance does not know the tables yet, so "nobody is up to be asked" is no answer: it
//! waits, and is put to every peer that comes up. A peer that is not whole itself can say yes, but its no means nothing.
use super::LinkId;
use std::collections::BTreeMap;
use std::time::Duration;

/// Questions waiting at most; one more is answered at once, with nothing.
const MAX: usize = 16_384;

#[derive(Debug)]
struct Question {
    table: String,
    key: Vec<u8>,
    asked: Vec<LinkId>,
    /// Those of them that have not answered.
    waiting: Vec<LinkId>,
    /// A peer that is whole has said no.
    denied: bool,
    until: Duration,
}

impl Question {
    fn ends(&self) -> bool {
        self.denied && self.waiting.is_empty()
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Asks {
    open: BTreeMap<u64, Question>,
}

impl Asks {
    /// Takes in a question. False: it can't wait.
    pub(super) fn open(&mut self, id: u64, table: &str, key: Vec<u8>, until: Duration) -> bool {
        let fits = self.open.len() < MAX;
        if fits {
            let (table, asked, waiting) = (table.to_owned(), Vec::new(), Vec::new());
            self.open.insert(id, Question { table, key, asked, waiting, denied: false, until });
        }
        fits
    }

    /// Whether any question waits.
    pub(super) fn any(&self) -> bool {
        !self.open.is_empty()
    }

    /// The questions that a peer was not asked yet and can be, by `table` (its number for a table's name): now it is
    /// asked. Number of the question, table, key.
    pub(super) fn put_to(&mut self, link: LinkId, table: impl Fn(&str) -> Option<u32>) -> Vec<(u64, u32, Vec<u8>)> {
        let mut put = Vec::new();
        for (id, question) in self.open.iter_mut().filter(|(_, q)| !q.asked.contains(&link)) {
            if let Some(table) = table(&question.table) {
                question.asked.push(link);
                question.waiting.push(link);
                put.push((*id, table, question.key.clone()));
            }
        }
        put
    }

    /// A peer answered, which is `whole` itself or not; true when that ends the question.
    pub(super) fn answered(&mut self, id: u64, link: LinkId, found: bool, whole: bool) -> bool {
        let Some(question) = self.open.get_mut(&id) else { return false };
        question.waiting.retain(|l| *l != link);
        question.denied |= whole;
        let ends = found || question.ends();
        if ends {
            self.open.remove(&id);
        }
        ends
    }

    /// A link is gone; returns the questions that have their answer without it.
    pub(super) fn gone(&mut self, link: LinkId) -> Vec<u64> {
        self.end(|q| {
            q.waiting.retain(|l| *l != link);
            q.ends()
        })
    }

    /// Questions whose time is up.
    pub(super) fn expired(&mut self, now: Duration) -> Vec<u64> {
        self.end(|q| q.until <= now)
    }

    /// The tables are whole: what peers could say is in them. Returns the questions that end by that.
    pub(super) fn whole(&mut self) -> Vec<u64> {
        self.end(|q| q.waiting.is_empty())
    }

    fn end(&mut self, mut ends: impl FnMut(&mut Question) -> bool) -> Vec<u64> {
        self.open.extract_if(.., |_, q| ends(q)).map(|(id, _)| id).collect()
    }

    /// When the next question's time is up.
    pub(super) fn timeout(&self) -> Option<Duration> {
        self.open.values().map(|q| q.until).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: [u64; 0] = [];

    fn peer() -> LinkId {
        LinkId::accepted(1)
    }

    fn asked() -> Asks {
        let mut asks = Asks::default();
        assert!(asks.open(7, "sessions", b"k".to_vec(), Duration::from_secs(1)));
        asks
    }

    #[test]
    fn a_question_waits_for_the_first_peer_that_comes_up() {
        let mut asks = asked();
        assert_eq!(asks.put_to(peer(), |_| Some(3)), [(7, 3, b"k".to_vec())]);
        assert_eq!(asks.put_to(peer(), |_| Some(3)), [], "it is asked once");
        assert!(asks.answered(7, peer(), true, false));
        assert!(!asks.any());
    }

    #[test]
    fn the_no_of_a_peer_that_is_not_whole_ends_nothing() {
        let mut asks = asked();
        asks.put_to(peer(), |_| Some(3));
        assert!(!asks.answered(7, peer(), false, false));
        assert_eq!(asks.expired(Duration::from_millis(999)), NONE);
        assert_eq!(asks.expired(Duration::from_secs(1)), [7]);
    }

    #[test]
    fn a_question_ends_when_the_tables_are_whole() {
        let mut asks = asked();
        asks.put_to(peer(), |_| Some(3));
        assert_eq!(asks.whole(), NONE, "a peer still owes its answer");
        assert_eq!(asks.gone(peer()), NONE);
        assert_eq!(asks.whole(), [7]);
    }
}
