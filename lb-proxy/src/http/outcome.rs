//! What the end of an exchange says of its server, for backends that take servers out by their answers (`outlier`).
use super::answer::{Answered, Fault};
use super::reason::Reason;
use lb_core::snapshot::Backend;

/// Counts the outcome for the server. `status` is that of the answer the client got.
pub(crate) fn count(backend: &Backend, server: usize, worker: usize, answered: &Result<Answered, Fault>, status: u16) {
    let Some(outlier) = &backend.config.faults.outlier else { return };
    let failed = match answered {
        Ok(_) => outlier.on.is_failure(status),
        Err(Fault::Dropped(status)) => outlier.on.is_failure(*status),
        Err(Fault::Nothing(reason) | Fault::Before(reason)) if reason.is_servers() => true,
        Err(Fault::Unprocessed | Fault::Before(Reason::CONNECT_FAILED)) => true,
        Err(Fault::Cut(code)) => {
            let servers = [Reason::SERVER_CLOSED, Reason::SERVER_TIMEOUT, Reason::BAD_ANSWER];
            servers.iter().any(|reason| reason.code == *code)
        }
        // The client's doing, or ours.
        Err(Fault::Nothing(_) | Fault::Before(_)) => return,
    };
    let state = &backend.servers[server].state;
    match failed {
        true => state.failed(worker, outlier.consecutive),
        false => state.succeeded(),
    }
}
