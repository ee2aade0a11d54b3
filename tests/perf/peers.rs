//! Replication: `lb` beside HAProxy's peers, where HAProxy has the same.
//!
//! Times of different things at different moments on a shared machine say little: each figure comes with its rival's of
//! the same run, in turns.
mod cluster;
mod delay;
mod frozen;
mod load;
mod pull;
mod quiet;

pub(crate) use delay::run as delay;
pub(crate) use frozen::run as frozen;
pub(crate) use pull::run as pull;
pub(crate) use quiet::run as quiet;
