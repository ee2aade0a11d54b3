//! Counters: those that `store` of a table lists, and those that rules write.
use super::super::reader::{Item, Section};
use super::super::{Table, suggest};
use crate::counters::{Counter, CounterError};

/// Numbers of `gpc`, `gpc_rate` and `gpt` go up to this.
const LAST: u8 = 15;

/// `store = ["conn_cur", "http_req_rate(10s)"]`; `None`: it has mistakes.
pub(super) fn store(section: &Section<'_>) -> Option<Vec<Counter>> {
    let Some(list) = section.get("store") else { return Some(Vec::new()) };
    let (mut all, mut good) = (Vec::new(), list.is_list());
    for item in list.elements() {
        match counter(&item) {
            Some(counter) if all.contains(&counter) => {
                item.bad(format!("`{counter}` is stored twice"), "remove one of the two");
                good = false;
            }
            Some(counter) => all.push(counter),
            None => good = false,
        }
    }
    good.then_some(all)
}

fn counter(item: &Item<'_>) -> Option<Counter> {
    let text = item.text()?;
    match text.parse() {
        Ok(Counter::Gpc(n) | Counter::Gpt(n) | Counter::GpcRate(n, _)) if n > LAST => {
            out_of_range(item, &text);
            None
        }
        Ok(counter) => Some(counter),
        Err(CounterError::Form { wrote, write }) => {
            let long = wrote.split_once('(').is_some_and(|(name, n)| {
                matches!(name, "gpc" | "gpt" | "gpc_rate")
                    && n.split([',', ')']).next().and_then(|n| n.trim().parse::<u64>().ok()).is_some_and(|n| n > 255)
            });
            if long {
                out_of_range(item, &wrote);
            } else {
                let zero = wrote.contains("(0") && write.contains('s');
                let help = format!("write \"{write}\"{}", if zero { ", a period longer than nothing" } else { "" });
                item.bad(format!("\"{wrote}\" is not how this counter is written"), help);
            }
            None
        }
        Err(CounterError::Unknown(name)) => {
            item.bad(format!("there is no counter \"{name}\""), meant(&name));
            None
        }
    }
}

fn out_of_range(item: &Item<'_>, text: &str) {
    let name = text.split('(').next().unwrap_or(text);
    item.bad(format!("\"{text}\" is out of range"), format!("the numbers of `{name}` go from 0 to {LAST}"));
}

/// Help for a name that no counter has.
fn meant(name: &str) -> String {
    let plain: String = name.chars().filter(|c| !c.is_ascii_digit()).collect();
    let word = |example: &&'static str| example.split('(').next().unwrap_or(example);
    let names = || Counter::EXAMPLES.iter().map(word);
    let near = names().find(|n| *n == plain).or_else(|| suggest::nearest(name, names()));
    match near.and_then(|near| Counter::EXAMPLES.iter().find(|e| word(e) == near)) {
        Some(example) => format!("did you mean \"{example}\"?"),
        None => format!("write one of {}", Counter::EXAMPLES.map(|e| format!("\"{e}\"")).join(", ")),
    }
}

/// The number in `gpc(0)` or `gpt(0)`, as a rule's action names it.
pub(super) fn general(item: &Item<'_>, text: &str, which: &str, spec: &Table) -> Option<u8> {
    let inner = text.strip_prefix(which).and_then(|rest| rest.strip_prefix('(')?.strip_suffix(')'));
    let Some(number) = inner.and_then(|n| n.trim().parse::<u64>().ok()) else {
        let verb = if which == "gpc" { "inc gpc(0)" } else { "set gpt(0) 1" };
        item.bad(
            format!("\"{text}\" is nothing that a rule writes, in table \"{}\"", spec.name),
            format!("write \"{verb}\""),
        );
        return None;
    };
    match u8::try_from(number) {
        Ok(n) if n <= LAST => Some(n),
        _ => {
            out_of_range(item, text);
            None
        }
    }
}

/// Whether the table stores `gpc(n)` or a rate of it.
pub(super) fn has_gpc(spec: &Table, n: u8) -> bool {
    spec.store.iter().any(|c| matches!(c, Counter::Gpc(own) | Counter::GpcRate(own, _) if *own == n))
}

/// Whether the table stores `gpt(n)`.
pub(super) fn has_gpt(spec: &Table, n: u8) -> bool {
    spec.store.contains(&Counter::Gpt(n))
}
