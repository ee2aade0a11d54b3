//! What the configuration says of HTTP/2.

/// `http2` of a frontend: what one client connection may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Http2 {
    /// Requests at a time. Default 100.
    pub max_streams: u32,
    /// Bytes of a request's body that a client may send before a server takes them. Default 64 KiB.
    pub window: u32,
}

impl Default for Http2 {
    fn default() -> Self {
        Self { max_streams: 100, window: 64 * 1024 }
    }
}

/// `backend.proto`: what the servers speak.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Proto {
    /// HTTP/1.1.
    #[default]
    H1,
    /// HTTP/2, with prior knowledge where there is no TLS.
    H2,
}

impl Proto {
    /// Its name in TLS.
    pub fn alpn(self) -> &'static str {
        match self {
            Self::H1 => "http/1.1",
            Self::H2 => "h2",
        }
    }
}
