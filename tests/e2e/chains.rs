//! lb in a chain of other people's proxies, HAProxy and nginx before and behind it, and started by other people's launchers.
//! What one says of the client must reach the last, whoever stands between.
use lb_tests::{Answer, Client};
use std::net::SocketAddr;
use std::process::Command;

mod checks;
mod clients;
mod forwarded;
mod http2;
mod launcher;
mod mail;
mod proxy_protocol;
mod tcp;
mod tls;
mod websocket;

/// The answer to a GET, asked from this address of the loopback network at this port; fields end in CRLF each.
fn ask(ip: [u8; 4], port: u16, target: &str, fields: &str) -> Answer {
    Client::of(crate::tcp::from(ip, at(port))).get(target, fields)
}

fn at(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// A server's entry.
fn server(name: &str, addr: impl std::fmt::Display, more: &str) -> String {
    format!("server = [{{ name = \"{name}\", addr = \"{addr}\"{more} }}]")
}

/// What a program says that has to succeed.
fn passes(command: &mut Command) -> String {
    let output = command.output().expect("installed by tests/run");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}\n{out}{err}");
    out.into_owned()
}
