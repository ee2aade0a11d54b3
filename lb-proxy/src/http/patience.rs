//! How long a client is waited for that sends a body or takes an answer: it may be silent for `timeout.client`, and must
//! not be slower than `min_rate` in the long run.
//!
//! Waiting takes from its time, each byte gives back what it takes at that rate, and never more than the whole: what a
//! socket's buffer swallows at once buys no time for later. Only waiting counts, so that neither a slow server nor an
//! answer that comes in drops is the client's fault; and a client that is never waited for costs no look at a clock.
use crate::io::Timer;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::Instant;

/// What the log says of a client that took its answer too slowly.
pub(crate) const TOO_SLOW: &str = "client-too-slow";

/// One direction of one request.
pub(crate) struct Patience {
    most: Duration,
    left: Duration,
    /// Bytes a second; 0: silence alone counts.
    rate: u64,
}

/// It is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lost {
    /// Nothing moved for the whole time.
    Silent,
    /// Something did, too little.
    Slow,
}

impl Patience {
    pub(crate) fn new(most: Duration, rate: u64) -> Self {
        Self { most, left: most, rate }
    }

    /// Waits for something that the client does.
    pub(crate) fn wait<'a, F: Future>(&'a mut self, timer: &'a mut Timer, future: F) -> Watched<'a, F, fn() -> u64> {
        self.watch(timer, (|| 0) as fn() -> u64, future)
    }

    /// As [`Self::wait`], while `moved` grows by the bytes that the client has taken.
    pub(crate) fn watch<'a, F: Future, M: Fn() -> u64>(
        &'a mut self,
        timer: &'a mut Timer,
        moved: M,
        future: F,
    ) -> Watched<'a, F, M> {
        let (fresh, seen) = (self.left == self.most, moved());
        Watched { patience: self, timer, moved, seen, since: None, fresh, future }
    }

    fn waited(&mut self, time: Duration) {
        self.left = self.left.saturating_sub(time);
    }

    /// The client has sent or taken so many bytes.
    pub(crate) fn moved(&mut self, bytes: u64) {
        if self.left < self.most {
            let gained = match self.rate {
                0 => self.most,
                rate => Duration::from_micros(bytes.saturating_mul(1_000_000) / rate),
            };
            self.left = self.most.min(self.left.saturating_add(gained));
        }
    }
}

pin_project_lite::pin_project! {
    /// See [`Patience::watch`]. Not an `async fn`, as [`crate::io::Bounded`] is none.
    pub(crate) struct Watched<'a, F, M> {
        patience: &'a mut Patience,
        timer: &'a mut Timer,
        moved: M,
        // What `moved` said last.
        seen: u64,
        // When it was last looked at; `None`: nothing was waited for yet.
        since: Option<Instant>,
        // Nothing moved since the client had all its time.
        fresh: bool,
        #[pin]
        future: F,
    }
}

impl<F: Future, M: Fn() -> u64> Future for Watched<'_, F, M> {
    type Output = Result<F::Output, Lost>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let polled = this.future.poll(cx);
        let gone = (this.moved)() - *this.seen;
        if this.since.is_none() && polled.is_ready() {
            this.patience.moved(gone);
            return polled.map(Ok);
        }
        let now = Instant::now();
        this.patience.waited(this.since.map_or(Duration::ZERO, |since| now - since));
        *this.since = Some(now);
        if gone > 0 {
            *this.fresh = false;
            *this.seen += gone;
            this.patience.moved(gone);
        }
        match polled {
            Poll::Ready(output) => Poll::Ready(Ok(output)),
            Poll::Pending => {
                let lost = if *this.fresh { Lost::Silent } else { Lost::Slow };
                this.timer.poll_until(now + this.patience.left, cx).map(|()| Err(lost))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::future::pending;

    const SECOND: Duration = Duration::from_secs(1);

    /// So many bytes each second for an hour; after how many seconds it is over.
    fn drip(bytes: u64, rate: u64) -> Option<u64> {
        let mut patience = Patience::new(30 * SECOND, rate);
        (0..3600).find(|_| {
            patience.waited(SECOND);
            let over = patience.left.is_zero();
            patience.moved(bytes);
            over
        })
    }

    #[test]
    fn who_keeps_to_the_rate_has_all_the_time_and_who_does_not_is_lost_when_his_is_spent() {
        assert_eq!(drip(300, 240), None);
        assert_eq!(drip(240, 240), None);
        assert!(drip(120, 240).is_some_and(|after| (57..=61).contains(&after)), "half the rate, twice the time");
        assert!(drip(1, 240).is_some_and(|after| after <= 30));
        assert_eq!(drip(1, 0), None, "without a rate only silence counts");
    }

    #[test]
    fn a_burst_buys_no_time_for_later() {
        let mut patience = Patience::new(30 * SECOND, 240);
        patience.waited(SECOND);
        patience.moved(u64::MAX);
        assert_eq!(patience.left, 30 * SECOND);
        patience.waited(31 * SECOND);
        assert_eq!(patience.left, Duration::ZERO);
    }

    #[tokio::test]
    async fn silence_is_told_from_slowness() {
        let most = Duration::from_millis(20);
        let mut timer = Timer::new();
        assert_eq!(Patience::new(most, 240).wait(&mut timer, pending::<()>()).await, Err(Lost::Silent));
        let mut patience = Patience::new(most, 240);
        assert_eq!(patience.wait(&mut timer, tokio::time::sleep(most / 20)).await, Ok(()));
        assert_eq!(patience.wait(&mut timer, pending::<()>()).await, Err(Lost::Slow));
    }

    #[tokio::test]
    async fn a_client_that_is_not_waited_for_spends_nothing() {
        let mut patience = Patience::new(30 * SECOND, 240);
        for _ in 0..3 {
            tokio::time::sleep(Duration::from_millis(2)).await;
            assert_eq!(patience.wait(&mut Timer::new(), std::future::ready(())).await, Ok(()));
        }
        assert_eq!(patience.left, 30 * SECOND);
        // What is taken without a wait makes up for the waits before.
        patience.waited(20 * SECOND);
        let taken = Cell::new(0);
        let taking = async { taken.set(2400) };
        assert_eq!(patience.watch(&mut Timer::new(), || taken.get(), taking).await, Ok(()));
        assert_eq!(patience.left, 20 * SECOND);
    }
}
