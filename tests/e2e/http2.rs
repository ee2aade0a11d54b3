//! HTTP/2: with clients, with servers, and what must not come through it.
mod conformance;
mod downgrade;
mod floods;
mod foreign;
mod requests;
mod servers;
mod websocket;
