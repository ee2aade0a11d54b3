//! What a backend makes of failures.
use super::super::faults::{Faults, Outlier, RetryBudget, RetryOn};
use super::super::reader::{Item, Section};
use super::super::suggest;
use std::time::Duration;

pub(super) fn faults(section: &Section<'_>) -> Faults {
    Faults {
        retry_on: section.get("retry_on").map_or_else(RetryOn::default, |item| retry_on(&item)),
        retry_budget: budget(section),
        outlier: section.get("outlier").and_then(|item| outlier(&item.section()?)),
        panic_threshold: percent(section, "panic_threshold", 0),
        queue_first: section.word("queue_first").unwrap_or_default(),
        on_marked_down: section.word("on_marked_down").unwrap_or_default(),
    }
}

const CONDITIONS: [&str; 4] = ["connect-failure", "empty-response", "response-timeout", "junk-response"];

fn retry_on(item: &Item<'_>) -> RetryOn {
    let mut on = RetryOn { connect_failure: false, ..RetryOn::default() };
    for item in item.elements() {
        let Some(value) = item.either() else { continue };
        if value.is_number() {
            on.statuses.extend(value.whole().and_then(|n| u16::try_from(n).ok()).map(|n| (n, n)));
            continue;
        }
        let Some(text) = value.text() else { continue };
        match text.as_str() {
            "connect-failure" => on.connect_failure = true,
            "empty-response" => on.empty_response = true,
            "response-timeout" => on.response_timeout = true,
            "junk-response" => on.junk_response = true,
            _ => match range(&text) {
                Some(range) => on.statuses.push(range),
                None => {
                    let meant = match text.as_str() {
                        "conn-failure" | "refused" | "error" => Some("connect-failure"),
                        "timeout" => Some("response-timeout"),
                        text => suggest::nearest(text, CONDITIONS.into_iter()),
                    };
                    let help = meant.map_or_else(
                        || {
                            format!(
                                "write one of \"{}\", a status as 503, \"502-504\" or \"5xx\"",
                                CONDITIONS.join("\", \"")
                            )
                        },
                        |meant| format!("did you mean \"{meant}\"?"),
                    );
                    item.bad(format!("\"{text}\" is nothing to retry on"), help);
                }
            },
        }
    }
    on
}

/// `"502-504"` or `"5xx"`
fn range(text: &str) -> Option<(u16, u16)> {
    match text {
        "4xx" => return Some((400, 499)),
        "5xx" => return Some((500, 599)),
        _ => {}
    }
    let (from, to) = text.split_once('-').unwrap_or((text, text));
    let (from, to) = (from.trim().parse().ok()?, to.trim().parse().ok()?);
    ((400..=599).contains(&from) && (from..=599).contains(&to)).then_some((from, to))
}

fn budget(section: &Section<'_>) -> Option<RetryBudget> {
    let min = section.whole("retry_min", 10);
    match (section.get("retry_budget"), section.get("retry_min")) {
        (Some(item), _) => Some(RetryBudget { percent: share(&item)?, min }),
        (None, Some(item)) => {
            let message = "`retry_min` is a part of a budget that is not there";
            item.cx.bad(item.word.clone(), &item.path, message, "add `retry_budget = \"20%\"`, or remove it");
            None
        }
        (None, None) => None,
    }
}

fn outlier(section: &Section<'_>) -> Option<Outlier> {
    let outlier = Outlier {
        on: section.word("on").unwrap_or_default(),
        consecutive: section.whole("consecutive", 5),
        failure_rate: percent(section, "failure_rate", 0),
        min_requests: section.whole("min_requests", 20),
        interval: section.duration("interval", Duration::from_secs(10)),
        eject: section.duration("eject", Duration::from_secs(30)),
        max_eject: section.duration("max_eject", Duration::from_secs(300)),
        max_ejected: percent(section, "max_ejected", 50),
    };
    if let Some(item) = section.get("consecutive").filter(|_| outlier.consecutive == 0 && outlier.failure_rate == 0) {
        item.bad("nothing takes a server out here", "write `consecutive = 5`, or add `failure_rate = \"50%\"`");
    }
    if section.get("failure_rate").is_none() && !section.misspelt("failure_rate") {
        let help = "add `failure_rate = \"50%\"`, or remove it";
        section.useless(&["min_requests", "interval"], "without `failure_rate`", help);
    }
    if let Some(item) = section.get("max_eject").filter(|_| outlier.max_eject < outlier.eject) {
        item.bad("the longest time out is shorter than the first", "write at least what `eject` says");
    }
    Some(outlier)
}

fn percent(section: &Section<'_>, name: &'static str, default: u32) -> u32 {
    section.get(name).and_then(|item| share(&item)).unwrap_or(default)
}

/// `"20%"`
fn share(item: &Item<'_>) -> Option<u32> {
    let text = item.text()?;
    let share = text.strip_suffix('%').and_then(|n| n.trim().parse().ok()).filter(|n| (1..=100).contains(n));
    if share.is_none() {
        item.bad(format!("\"{text}\" is no share: it goes from \"1%\" to \"100%\""), item.example());
    }
    share
}
