//! Connections that are passed on as they are: what a frontend with `mode = "tcp"` knows of one, and which backend takes
//! it. Where the bytes come from is not known here.
use crate::matcher::host_matches;
use crate::stick::KeyExpr;
use ipnet::IpNet;
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

/// What a frontend or backend understands of its connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Requests and answers.
    #[default]
    Http,
    /// Bytes.
    Tcp,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Http => "http",
            Self::Tcp => "tcp",
        })
    }
}

/// What a frontend with `mode = "tcp"` has of its own.
#[derive(Clone, Debug, PartialEq)]
pub struct Tcp {
    /// Tried in order; the first that matches decides.
    pub routes: Vec<Route>,
    /// How long a client's TLS hello may take, where a route or a rule looks at it. Default 5s.
    pub inspect_delay: Duration,
}

/// One route: all the conditions given must hold.
#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    /// Server names of TLS in lower case; `*.example.com` matches everything under it. Empty: any, or none.
    pub sni: Vec<String>,
    /// Protocols of which the client must offer one, as `h2`. Empty: any, or none.
    pub alpn: Vec<String>,
    /// Networks of the client. Empty: any.
    pub src: Vec<IpNet>,
    /// Where it goes.
    pub backend: String,
}

/// What is known of a connection before it is passed on.
pub trait Opening {
    /// The client.
    fn src(&self) -> IpAddr;
    /// The server name that it asks TLS for, as sent.
    fn sni(&self) -> Option<&str>;
    /// Whether it offers this protocol by ALPN.
    fn offers(&self, protocol: &str) -> bool;
}

impl Route {
    /// Whether it takes the connection.
    pub fn takes(&self, opening: &impl Opening) -> bool {
        let sni =
            || opening.sni().is_some_and(|name| self.sni.iter().any(|pattern| host_matches(pattern, name.as_bytes())));
        let src = opening.src().to_canonical();
        (self.sni.is_empty() || sni())
            && (self.alpn.is_empty() || self.alpn.iter().any(|protocol| opening.offers(protocol)))
            && (self.src.is_empty() || self.src.iter().any(|net| net.contains(&src)))
    }

    /// Whether it looks at the TLS hello.
    pub fn looks_inside(&self) -> bool {
        !self.sni.is_empty() || !self.alpn.is_empty()
    }
}

/// Whether a key is found in the TLS hello.
pub fn is_inside(key: &KeyExpr) -> bool {
    matches!(key, KeyExpr::Sni | KeyExpr::TlsSessionId)
}

/// `sni a.example|b.example and alpn h2 and src 10.0.0.0/8 to app`
impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { sni, alpn, src, backend } = self;
        let nets: Vec<_> = src.iter().map(ToString::to_string).collect();
        let all = [("sni", sni), ("alpn", alpn), ("src", &nets)];
        let words: Vec<_> = all
            .iter()
            .filter(|(_, values)| !values.is_empty())
            .map(|(word, values)| format!("{word} {}", values.join("|")))
            .collect();
        write!(f, "{} to {backend}", words.join(" and "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Client(&'static str, Option<&'static str>, &'static [&'static str]);

    impl Opening for Client {
        fn src(&self) -> IpAddr {
            self.0.parse().expect("an address")
        }
        fn sni(&self) -> Option<&str> {
            self.1
        }
        fn offers(&self, protocol: &str) -> bool {
            self.2.contains(&protocol)
        }
    }

    fn route(sni: &[&str], alpn: &[&str], src: &[&str]) -> Route {
        let texts = |of: &[&str]| of.iter().map(ToString::to_string).collect();
        let src = src.iter().map(|net| net.parse().expect("a network")).collect();
        Route { sni: texts(sni), alpn: texts(alpn), src, backend: "app".into() }
    }

    #[test]
    fn all_conditions_of_a_route_must_hold_and_one_value_of_each_is_enough() {
        let both = route(&["a.example", "*.b.example"], &["h2", "imap"], &["10.0.0.0/8"]);
        assert!(both.takes(&Client("10.1.1.1", Some("A.Example"), &["h2"])));
        assert!(both.takes(&Client("10.1.1.1", Some("x.y.b.example"), &["http/1.1", "imap"])));
        assert!(!both.takes(&Client("10.1.1.1", Some("b.example"), &["h2"])), "only what is under it");
        assert!(!both.takes(&Client("10.1.1.1", Some("a.example"), &["http/1.1"])));
        assert!(!both.takes(&Client("11.1.1.1", Some("a.example"), &["h2"])));
        assert!(!both.takes(&Client("10.1.1.1", None, &["h2"])), "no name is no name that matches");
    }

    #[test]
    fn a_name_is_one_with_its_final_dot_and_an_address_in_either_family() {
        assert!(route(&["a.example"], &[], &[]).takes(&Client("::1", Some("a.example."), &[])));
        assert!(route(&[], &[], &["10.0.0.0/8"]).takes(&Client("::ffff:10.2.3.4", None, &[])));
        assert!(!route(&["*.example"], &[], &[]).takes(&Client("::1", Some("badexample"), &[])));
        assert!(!route(&["*.example"], &[], &[]).takes(&Client("::1", Some(".example"), &[])));
    }

    #[test]
    fn routes_are_shown_as_they_are_read() {
        let shown = route(&["a.example", "*.b.example"], &["h2"], &["10.0.0.0/8"]).to_string();
        assert_eq!(shown, "sni a.example|*.b.example and alpn h2 and src 10.0.0.0/8 to app");
    }
}
