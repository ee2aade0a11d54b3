//! From a request to a backend: the first route of the frontend whose conditions all hold.
use crate::config::Route;
use crate::snapshot::Frontend;

/// What routes look at.
pub trait Asked {
    /// Host without port, as sent.
    fn host(&self) -> &[u8];
    /// Path without query.
    fn path(&self) -> &[u8];
    /// First value of a header field, by lower-case name.
    fn header(&self, name: &str) -> Option<&[u8]>;
    /// Whether it asks for a WebSocket.
    fn websocket(&self) -> bool;
}

/// Index of the backend that takes the request; `None`: no route matches and there is no default.
pub fn route(frontend: &Frontend, asked: &impl Asked) -> Option<usize> {
    let matched = frontend.config.routes.iter().position(|r| matches(r, asked));
    matched.map(|i| frontend.routes[i]).or(frontend.backend)
}

fn matches(route: &Route, asked: &impl Asked) -> bool {
    route.websocket.is_none_or(|wanted| wanted == asked.websocket())
        && (route.host.is_empty() || route.host.iter().any(|h| host_matches(h, asked.host())))
        && (route.path_prefix.is_empty() || route.path_prefix.iter().any(|p| path_matches(p, asked.path())))
        && route.header.iter().all(|(name, value)| match (asked.header(name), value) {
            (Some(found), Some(wanted)) => found == wanted.as_bytes(),
            (found, None) => found.is_some(),
            (None, Some(_)) => false,
        })
}

fn host_matches(pattern: &str, host: &[u8]) -> bool {
    // "shop.example." and "shop.example" are one name.
    let host = host.strip_suffix(b".").unwrap_or(host);
    match pattern.strip_prefix('*') {
        Some(suffix) => {
            host.len() > suffix.len() && host[host.len() - suffix.len()..].eq_ignore_ascii_case(suffix.as_bytes())
        }
        None => host.eq_ignore_ascii_case(pattern.as_bytes()),
    }
}

fn path_matches(prefix: &str, path: &[u8]) -> bool {
    path.strip_prefix(prefix.as_bytes()).is_some_and(|rest| rest.is_empty() || prefix.ends_with('/') || rest[0] == b'/')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_prefix_ends_at_a_segment_border() {
        assert!(path_matches("/ws", b"/ws"));
        assert!(path_matches("/ws", b"/ws/room"));
        assert!(!path_matches("/ws", b"/wsx"));
        assert!(path_matches("/ws/", b"/ws/room"));
        assert!(path_matches("/", b"/anything"));
    }

    #[test]
    fn a_host_matches_without_regard_to_case_and_by_wildcard() {
        assert!(host_matches("shop.example", b"Shop.Example"));
        assert!(host_matches("shop.example", b"shop.example."));
        assert!(host_matches("*.example", b"a.b.example"));
        assert!(!host_matches("*.example", b"example"));
        assert!(!host_matches("*.example", b"badexample"));
    }
}
