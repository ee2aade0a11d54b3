//! From a request to a backend: the first route of the frontend that matches it.
pub use crate::matcher::Asked;
use crate::snapshot::Frontend;

/// Index of the backend that takes the request; `None`: no route matches and there is no default.
pub fn route(frontend: &Frontend, asked: &impl Asked) -> Option<usize> {
    let matched = frontend.config.routes.iter().position(|r| r.when.matches(asked));
    matched.map(|i| frontend.routes[i]).or(frontend.backend)
}
