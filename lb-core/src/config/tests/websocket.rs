//! `backend.websocket` and `instance.close_pace`.
use super::super::websocket::{Idle, Ping, PingTo, Refuse, WebSocket};
use super::mistakes::{all, each};
use super::*;
use std::time::Duration;

fn with(more: &str) -> String {
    format!("[backend.app]\nserver = [{{ name = \"a\", addr = \"127.0.0.1:9001\" }}]\nwebsocket = {{ {more} }}\n")
}

fn websocket(more: &str) -> WebSocket {
    let file = format!("{}[frontend.web]\nlisten = \"127.0.0.1:8080\"\nbackend = \"app\"\n", with(more));
    valid(&file).backends[0].websocket.clone()
}

#[test]
fn every_key_is_read() {
    assert_eq!(websocket(""), WebSocket::default());
    let ping = Ping { every: Duration::from_secs(30), timeout: Duration::from_secs(10), to: PingTo::Both };
    assert_eq!(websocket("ping = \"30s\""), WebSocket { ping: Some(ping), ..WebSocket::default() });
    let given = "ping = \"1m\", pong_timeout = \"2s\", ping_to = \"client\", close_timeout = \"1s\", idle = \"data\", \
                 max_frame = \"64KiB\", strict = true, verify_accept = false, refuse = \"close\"";
    let expected = WebSocket {
        ping: Some(Ping { every: Duration::from_secs(60), timeout: Duration::from_secs(2), to: PingTo::Client }),
        close_timeout: Duration::from_secs(1),
        idle: Idle::Data,
        max_frame: Some(65536),
        strict: true,
        verify_accept: false,
        refuse: Refuse::Close,
    };
    assert_eq!(websocket(given), expected);
}

#[test]
fn what_cannot_be_meant_is_refused() {
    all(
        with,
        &[
            ("¦pings = \"30s\"", "unknown key `pings`", "did you mean `ping`?"),
            ("ping = ¦\"1ms\"", "helps nobody", "100ms"),
            ("pong_timeout = ¦\"1s\"", "`pong_timeout` without `ping` means nothing", "add `ping = \"30s\"`"),
            ("ping_to = ¦\"server\"", "`ping_to` without `ping`", "add `ping"),
            ("ping = \"30s\", ping_to = ¦\"clients\"", "\"clients\" is no value", "client"),
            ("close_timeout = ¦\"0s\"", "`backend.app.websocket.close_timeout` is zero", "3s"),
            ("max_frame = ¦100", "125", "1_048_576"),
            ("idle = ¦\"pings\"", "\"pings\" is no value", "frames"),
            ("refuse = ¦\"1013\"", "\"1013\" is no value", "close"),
            ("strict = ¦\"yes\"", "true or false", "strict = true"),
        ],
    );
    each(&[
        ("[instance]\nclose_pace = ¦\"50\"", "\"50\" is no pace", "\"50/s\""),
        ("[instance]\nclose_pace = ¦\"0/s\"", "\"0/s\" is no pace", "\"30/m\""),
        ("[instance]\nclose_pace = ¦50", "must be a text", "close_pace = \"50/s\""),
    ]);
}
