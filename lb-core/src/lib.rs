//! The pure logic of `lb`: configuration, routing, balancing, stick tables, health.
//!
//! **What this crate refuses to do.** It opens no socket, reads no clock, no environment and no file, starts no
//! thread and asks the system for no randomness. `now`, seeds and bytes come in as arguments, so that everything in
//! here can be tested, simulated and fuzzed as plain functions.
//!
//! | module | for |
//! | --- | --- |
//! | [`config`] | what the user wrote ([`mod@config::file`]), and the checked form everything else uses |
//! | [`snapshot`] | one immutable compiled view of a configuration; a reload builds a whole new one |
//! | [`matcher`] | what a rule asks of a request: `if`, wherever there is one |
//! | [`route`], [`stick`], [`cookie`] | from a request to a backend, to stick keys, to a server named by a cookie |
//! | [`addresses`] | how many connections each client address has |
//! | [`budget`] | how many requests may be tried again |
//! | [`jwt`] | claims of bearer tokens as stick keys |
//! | [`life`] | from when until when a certificate holds |
//! | [`secret`] | texts that are used and never shown |
//! | [`balance`] | which server takes a client that no pin binds |
//! | [`server`] | a server's live state, shared by workers, checks and admin |
//! | [`pace`] | how fast sockets are closed, and when |
//! | [`shares`] | how instances share a server's `maxconn` |
//! | [`discovery`] | which servers names stand for |
//! | [`health`], [`agent`] | the rise/fall machine; what a server's agent says |
//! | [`rules`] | rules of frontends and backends on requests and answers: headers, redirects, passwords, pages |
//! | [`limit`] | rules of a frontend on what tables have counted |
//! | [`table`] | stick tables: entries that merge, expiry, change log, digests |
//! | [`counters`] | what tables count for a key, by name |
//! | [`hlc`], [`id`], [`time`], [`hash`] | clock stamps, identities, time values, the hashes that never change |
//! | [`status`] | the views that admin API and command line share |
#![forbid(unsafe_code)]

pub mod addresses;
pub mod agent;
pub mod balance;
pub mod budget;
pub mod config;
pub mod cookie;
pub mod counters;
pub mod decisions;
pub mod discovery;
pub mod edge;
pub mod hash;
pub mod health;
pub mod hlc;
pub mod id;
pub mod jwt;
pub mod life;
pub mod limit;
pub mod matcher;
pub mod pace;
pub mod route;
pub mod rules;
pub mod secret;
pub mod server;
pub mod shares;
pub mod snapshot;
pub mod status;
pub mod stick;
pub mod table;
pub mod tcp;
pub mod time;
