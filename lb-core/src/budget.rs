//! A backend's retry budget: how many requests of the last ten seconds may be tried again, so that a backend that fails is
//! not asked twice as much as one that works.
//!
//! Each worker counts in a window of its own; only a retry looks at all of them.
use crate::config::faults::RetryBudget;
use crate::time::Timestamp;
use parking_lot::Mutex;

/// Seconds that count.
const SECONDS: usize = 10;

/// The budget of one backend.
#[derive(Debug)]
pub struct Budget {
    of: RetryBudget,
    windows: Box<[Mutex<Window>]>,
}

/// What one worker counted, a slot a second.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Window([Slot; SECONDS]);

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    second: u64,
    requests: u64,
    retries: u64,
}

impl Window {
    fn at(&mut self, second: u64) -> &mut Slot {
        let slot = &mut self.0[(second % SECONDS as u64) as usize];
        if slot.second != second {
            *slot = Slot { second, ..Slot::default() };
        }
        slot
    }

    /// Requests and retries of the last seconds.
    fn sums(&self, second: u64) -> (u64, u64) {
        let live = self.0.iter().filter(|s| s.second <= second && s.second + SECONDS as u64 > second);
        live.fold((0, 0), |(requests, retries), s| (requests + s.requests, retries + s.retries))
    }
}

impl Budget {
    /// An empty one.
    pub fn new(of: RetryBudget, workers: usize) -> Self {
        Self { of, windows: (0..workers).map(|_| Mutex::default()).collect() }
    }

    /// What it was made of.
    pub fn of(&self) -> RetryBudget {
        self.of
    }

    /// A worker forwards a request.
    pub fn request(&self, worker: usize, now: Timestamp) {
        if let Some(window) = self.windows.get(worker) {
            window.lock().at(now.0 / 1000).requests += 1;
        }
    }

    /// Whether a worker may try a request again; then it is counted.
    ///
    /// Race window: two workers that ask in one instant may both get the last one.
    pub fn retry(&self, worker: usize, now: Timestamp) -> bool {
        let second = now.0 / 1000;
        let sums = self.windows.iter().map(|w| w.lock().sums(second));
        let (requests, retries) = sums.fold((0, 0), |(a, b), (c, d)| (a + c, b + d));
        let allowed = requests * u64::from(self.of.percent) / 100 + u64::from(self.of.min) * SECONDS as u64;
        let may = retries < allowed;
        if let (true, Some(window)) = (may, self.windows.get(worker)) {
            window.lock().at(second).retries += 1;
        }
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: u64) -> Timestamp {
        Timestamp(1_000_000_000 + second * 1000)
    }

    fn budget(percent: u32, min: u32) -> Budget {
        Budget::new(RetryBudget { percent, min }, 2)
    }

    fn spend(budget: &Budget, worker: usize, now: Timestamp) -> usize {
        (0..1000).take_while(|_| budget.retry(worker, now)).count()
    }

    #[test]
    fn a_share_of_all_workers_requests_may_be_tried_again_by_any_of_them() {
        let budget = budget(20, 0);
        (0..50).for_each(|i| budget.request(i % 2, at(0)));
        assert_eq!(spend(&budget, 1, at(0)), 10);
        assert_eq!(spend(&budget, 0, at(9)), 0, "spent");
    }

    #[test]
    fn what_is_older_than_ten_seconds_counts_no_more() {
        let budget = budget(50, 0);
        (0..10).for_each(|_| budget.request(0, at(0)));
        assert_eq!(spend(&budget, 0, at(3)), 5);
        (0..4).for_each(|_| budget.request(0, at(9)));
        assert_eq!(spend(&budget, 0, at(9)), 2);
        // The ten of second 0 are forgotten, the five retries of second 3 are not.
        assert_eq!(spend(&budget, 0, at(10)), 0);
        assert_eq!(spend(&budget, 0, at(13)), 0, "four requests allow two, and two were made");
        assert_eq!(spend(&budget, 0, at(30)), 0, "without requests there is nothing to try again");
    }

    #[test]
    fn a_few_are_always_free() {
        let budget = budget(1, 3);
        assert_eq!(spend(&budget, 0, at(0)), 30);
        assert_eq!(spend(&budget, 1, at(5)), 0);
        assert_eq!(spend(&budget, 1, at(10)), 30);
    }

    #[test]
    fn a_clock_that_jumps_back_breaks_nothing() {
        let budget = budget(100, 0);
        budget.request(0, at(100));
        assert_eq!(spend(&budget, 0, at(50)), 0);
        budget.request(0, at(50));
        assert_eq!(spend(&budget, 0, at(50)), 1);
    }
}
