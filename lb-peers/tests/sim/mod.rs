//! A cluster that is simulated: the real replicator and tables, a virtual network and clock.
mod agenda;
pub(crate) mod model;
mod net;
pub(crate) mod node;
pub(crate) mod random;
mod uses;
pub(crate) mod world;
