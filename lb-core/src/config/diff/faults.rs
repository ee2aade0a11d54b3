//! What a backend makes of failures, for people. Equal texts must mean equal values: structs are taken apart without `..`.
use super::super::faults::{Faults, Outlier, RetryBudget, RetryOn};
use super::fields::{Fields, or_none, time, word};

pub(super) fn faults(of: &Faults) -> Fields {
    let Faults { retry_on, retry_budget, outlier, panic_threshold, queue_first, on_marked_down } = of;
    let (budget, min) = retry_budget.map(|RetryBudget { percent, min }| (format!("{percent}%"), min)).unzip();
    vec![
        ("retry_on", self::retry_on(retry_on)),
        ("retry_budget", or_none(budget)),
        ("retry_min", or_none(min)),
        ("outlier", or_none(outlier.as_ref().map(self::outlier))),
        ("panic_threshold", format!("{panic_threshold}%")),
        ("queue_first", word(queue_first)),
        ("on_marked_down", word(on_marked_down)),
    ]
}

fn retry_on(of: &RetryOn) -> String {
    let RetryOn { connect_failure, empty_response, response_timeout, junk_response, statuses } = of;
    let named = [
        (connect_failure, "connect-failure"),
        (empty_response, "empty-response"),
        (response_timeout, "response-timeout"),
        (junk_response, "junk-response"),
    ];
    let mut words: Vec<_> = named.iter().filter(|(on, _)| **on).map(|(_, name)| (*name).to_owned()).collect();
    words.extend(statuses.iter().map(|(from, to)| if from == to { from.to_string() } else { format!("{from}-{to}") }));
    format!("[{}]", words.join(", "))
}

fn outlier(of: &Outlier) -> String {
    let Outlier { on, consecutive, failure_rate, min_requests, interval, eject, max_eject, max_ejected } = of;
    format!(
        "{consecutive} {} in a row or {failure_rate}% of {min_requests} in {}, out for {} to {}, {max_ejected}% at most",
        on.word(),
        time(interval),
        time(eject),
        time(max_eject),
    )
}
