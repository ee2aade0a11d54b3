//! A worker's clock: the time at which this turn of its event loop began, which is one reading for many requests.
//!
//! For deadlines and for what is kept a while, where a millisecond more or less is nothing. What is measured, and what stamps
//! an entry of a table, goes by the clock itself. It must not know what it is asked for.
use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::pin;
use tokio::time::Instant;

thread_local! {
    static TURN: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// When this turn began; outside of a worker's thread, now.
pub(crate) fn turn() -> Instant {
    TURN.get().unwrap_or_else(Instant::now)
}

/// Runs a worker's first future, which is polled at the beginning of each turn.
pub(crate) async fn ticking<F: Future>(future: F) -> F::Output {
    struct Stop;
    impl Drop for Stop {
        fn drop(&mut self) {
            TURN.set(None);
        }
    }
    let _stop = Stop;
    let mut future = pin!(future);
    poll_fn(|cx| {
        TURN.set(Some(Instant::now()));
        future.as_mut().poll(cx)
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tokio::task::{LocalSet, spawn_local};

    #[tokio::test]
    async fn each_turn_of_the_loop_has_its_own_time_and_all_its_tasks_have_the_same() {
        let tasks = LocalSet::new();
        tasks
            .run_until(ticking(async {
                let began = turn();
                let task = spawn_local(async move {
                    assert_eq!(turn(), began);
                    tokio::time::sleep(Duration::from_millis(5)).await;
                    turn()
                });
                let later = task.await.expect("it has a time");
                assert!(later - began >= Duration::from_millis(5), "{later:?}");
            }))
            .await;
        let now = Instant::now();
        assert!(turn() >= now, "nothing ticks any more");
    }
}
