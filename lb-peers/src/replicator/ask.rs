//! Questions for single keys that wait for peers' answers.
use super::LinkId;
use std::collections::BTreeMap;
use std::time::Duration;

/// Questions waiting at most; one more is answered at once, with nothing.
const MAX: usize = 16_384;

#[derive(Debug)]
struct Question {
    waiting: Vec<LinkId>,
    until: Duration,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Asks {
    open: BTreeMap<u64, Question>,
}

impl Asks {
    /// A question was sent to some peers. False: it can't wait.
    pub(super) fn open(&mut self, id: u64, waiting: Vec<LinkId>, until: Duration) -> bool {
        let fits = !waiting.is_empty() && self.open.len() < MAX;
        if fits {
            self.open.insert(id, Question { waiting, until });
        }
        fits
    }

    /// A peer answered; true when that ends the question.
    pub(super) fn answered(&mut self, id: u64, link: LinkId, found: bool) -> bool {
        let Some(question) = self.open.get_mut(&id) else { return false };
        question.waiting.retain(|l| *l != link);
        let ends = found || question.waiting.is_empty();
        if ends {
            self.open.remove(&id);
        }
        ends
    }

    /// A link is gone; returns the questions that wait for nobody now.
    pub(super) fn gone(&mut self, link: LinkId) -> Vec<u64> {
        self.end(|q| {
            q.waiting.retain(|l| *l != link);
            q.waiting.is_empty()
        })
    }

    /// Questions whose time is up.
    pub(super) fn expired(&mut self, now: Duration) -> Vec<u64> {
        self.end(|q| q.until <= now)
    }

    fn end(&mut self, mut ends: impl FnMut(&mut Question) -> bool) -> Vec<u64> {
        self.open.extract_if(.., |_, q| ends(q)).map(|(id, _)| id).collect()
    }

    /// When the next question's time is up.
    pub(super) fn timeout(&self) -> Option<Duration> {
        self.open.values().map(|q| q.until).min()
    }
}
