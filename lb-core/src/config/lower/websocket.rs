//! `backend.websocket`
use super::super::reader::Section;
use super::super::websocket::{Ping, WebSocket};
use std::time::Duration;

/// Shorter pings are noise.
const SHORTEST: Duration = Duration::from_millis(100);

pub(super) fn websocket(section: &Section<'_>) -> WebSocket {
    let default = WebSocket::default();
    WebSocket {
        ping: ping(section),
        close_timeout: section.duration("close_timeout", default.close_timeout),
        idle: section.word("idle").unwrap_or_default(),
        max_frame: section.get("max_frame").and_then(|item| item.whole()),
        strict: section.flag("strict", default.strict),
        verify_accept: section.flag("verify_accept", default.verify_accept),
        refuse: section.word("refuse").unwrap_or_default(),
    }
}

fn ping(section: &Section<'_>) -> Option<Ping> {
    let timeout = section.duration("pong_timeout", Duration::from_secs(10));
    let to = section.word("ping_to").unwrap_or_default();
    let Some(item) = section.get("ping") else {
        for name in ["pong_timeout", "ping_to"] {
            if let Some(item) = section.get(name) {
                let message = format!("`{name}` without `ping` means nothing");
                item.bad(message, "add `ping = \"30s\"`, or remove it");
            }
        }
        return None;
    };
    let every = item.duration()?;
    if every < SHORTEST {
        item.bad("a ping every time a moment passes helps nobody", "write \"30s\", or any time from \"100ms\" on");
        return None;
    }
    Some(Ping { every, timeout, to })
}
