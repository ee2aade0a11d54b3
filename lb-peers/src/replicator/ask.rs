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
        let ended = self.open.extract_if(.., |_, q| {
            q.waiting.retain(|l| *l != link);
            q.waiting.is_empty()
        });
        ended.map(|(id, _)| id).collect()
    }

    /// Questions whose time is up. They all wait equally long, so that the oldest is the next.
    pub(super) fn expired(&mut self, now: Duration) -> Vec<u64> {
        let mut ended = Vec::new();
        while let Some(oldest) = self.open.first_entry().filter(|oldest| oldest.get().until <= now) {
            ended.push(oldest.remove_entry().0);
        }
        ended
    }

    /// When the next question's time is up.
    pub(super) fn timeout(&self) -> Option<Duration> {
        self.open.first_key_value().map(|(_, q)| q.until)
    }
}
