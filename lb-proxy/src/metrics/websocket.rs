//! How WebSockets end, and what went wrong in them: rows only for what has happened, because the labels are many.
use super::text::Text;
use super::{Family, WS_CLOSES, WS_ERRORS, WS_MESSAGES};
use lb_core::snapshot::{CLOSE_CODES, CLOSED_BY, FRAME_FLAWS, Snapshot};

pub(super) fn write(out: &mut Text, snapshot: &Snapshot) {
    let mut each =
        |family: &Family, labels: &[(&str, &str)], count: &dyn Fn(&lb_core::snapshot::BackendState, usize) -> u64| {
            let mut rows = out.family(family);
            for backend in &snapshot.backends {
                for (i, (first, second)) in labels.iter().enumerate() {
                    let n = count(&backend.state, i);
                    if n > 0 {
                        rows = rows.row(&[&backend.config.name, first, second], n);
                    }
                }
            }
        };
    let product = |a: &[&'static str], b: &[&'static str]| -> Vec<(&'static str, &'static str)> {
        a.iter().flat_map(|a| b.iter().map(|b| (*a, *b))).collect()
    };
    let by = CLOSED_BY.len();
    each(&WS_CLOSES, &product(&CLOSE_CODES, &CLOSED_BY), &|state, i| state.sum(|c| &c.closes[i / by][i % by]));
    each(&WS_ERRORS, &product(&FRAME_FLAWS, &CLOSED_BY[..2]), &|state, i| state.sum(|c| &c.flaws[i / 2][i % 2]));
    let mut rows = out.family(&WS_MESSAGES);
    for backend in &snapshot.backends {
        for server in &backend.servers {
            for (i, direction) in ["in", "out"].into_iter().enumerate() {
                let n = server.state.sum(|c| &c.messages[i]);
                rows = rows.row(&[&backend.config.name, &server.config.name, direction], n);
            }
        }
    }
}
