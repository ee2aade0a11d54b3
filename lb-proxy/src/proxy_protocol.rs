//! The PROXY protocol, both ways: who the client is, said before its first byte by a proxy that stands before us, and by
//! us to servers. <https://www.haproxy.org/download/3.2/doc/proxy-protocol.txt>
//!
//! A header that comes is read without a byte more, because what follows is somebody else's: a handshake's or a request's.
use crate::arrival::{Arrival, ClientCertificate, TlsFacts};
use lb_core::config::ProxyVersion;
use ppp::v2::{self, Command, Protocol, Type, Version};
use ppp::{v1, v2::Addresses};
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use tokio::io::{AsyncRead, AsyncReadExt};

/// What version 2 begins with.
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// The longest line of version 1.
const LONGEST_LINE: usize = 107;
/// Bytes that may follow the fixed part of version 2: addresses, and what else is said.
const LONGEST_REST: usize = 4096;

/// What else may be said that is of interest here: `PP2_TYPE_*`, and `PP2_SUBTYPE_SSL_*` within the last.
const ALPN: u8 = 0x01;
const AUTHORITY: u8 = 0x02;
const SSL: u8 = 0x20;
const SSL_VERSION: u8 = 0x21;
const SSL_COMMON_NAME: u8 = 0x22;
const SSL_CIPHER: u8 = 0x23;
/// Flags of `PP2_TYPE_SSL`: the client came over TLS, and showed a certificate in this connection or in its session.
const OVER_TLS: u8 = 1;
const CERTIFICATE: u8 = 2 | 4;
const KNOWN_VERSIONS: [&str; 4] = ["TLSv1.3", "TLSv1.2", "TLSv1.1", "TLSv1"];

/// What a header says.
#[derive(Debug)]
pub(crate) struct Told {
    /// The client.
    pub(crate) client: SocketAddr,
    /// The address that it came to.
    pub(crate) to: SocketAddr,
    /// What TLS agreed on, where it ended at the proxy.
    pub(crate) tls: Option<Box<TlsFacts>>,
}

/// Whom a header speaks of. `None`: nobody, the connection is the proxy's own.
pub(crate) type Said = Option<Told>;

/// Reads a header.
///
/// # Errors
/// The connection ended, or what came is no header.
pub(crate) async fn read(from: &mut (impl AsyncRead + Unpin)) -> io::Result<Said> {
    let mut head = Vec::with_capacity(64);
    head.resize(SIGNATURE.len(), 0);
    from.read_exact(&mut head).await?;
    if head == SIGNATURE {
        head.resize(16, 0);
        from.read_exact(&mut head[SIGNATURE.len()..]).await?;
        let rest = usize::from(u16::from_be_bytes([head[14], head[15]]));
        if rest > LONGEST_REST {
            return Err(bad("it is too long"));
        }
        head.resize(16 + rest, 0);
        from.read_exact(&mut head[16..]).await?;
        return binary(&head);
    }
    if !head.starts_with(b"PROXY ") {
        return Err(bad("no PROXY header"));
    }
    while !head.ends_with(b"\r\n") {
        if head.len() == LONGEST_LINE {
            return Err(bad("its line is too long"));
        }
        head.push(from.read_u8().await?);
    }
    line(&head)
}

fn bad(why: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

fn line(head: &[u8]) -> io::Result<Said> {
    let header = v1::Header::try_from(head).map_err(|e| bad(e.to_string()))?;
    let addresses: Option<(SocketAddr, SocketAddr)> = match header.addresses {
        v1::Addresses::Unknown => None,
        v1::Addresses::Tcp4(a) => {
            Some(((a.source_address, a.source_port).into(), (a.destination_address, a.destination_port).into()))
        }
        v1::Addresses::Tcp6(a) => {
            Some(((a.source_address, a.source_port).into(), (a.destination_address, a.destination_port).into()))
        }
    };
    Ok(addresses.map(|(client, to)| Told { client, to, tls: None }))
}

fn binary(head: &[u8]) -> io::Result<Said> {
    let header = v2::Header::try_from(head).map_err(|e| bad(e.to_string()))?;
    if header.command == Command::Local {
        return Ok(None);
    }
    if header.protocol == Protocol::Datagram {
        return Err(bad("it speaks of datagrams"));
    }
    let addresses: Option<(SocketAddr, SocketAddr)> = match header.addresses {
        Addresses::IPv4(a) => {
            Some(((a.source_address, a.source_port).into(), (a.destination_address, a.destination_port).into()))
        }
        Addresses::IPv6(a) => {
            Some(((a.source_address, a.source_port).into(), (a.destination_address, a.destination_port).into()))
        }
        Addresses::Unspecified | Addresses::Unix(_) => None,
    };
    let Some((client, to)) = addresses else { return Ok(None) };
    Ok(Some(Told { client, to, tls: tls(&header)? }))
}

/// What TLS agreed on at the proxy: `None` where it does not say that TLS ended there.
fn tls(header: &v2::Header<'_>) -> io::Result<Option<Box<TlsFacts>>> {
    let (mut ssl, mut sni, mut alpn) = (None, None, None);
    for tlv in header.tlvs() {
        let tlv = tlv.map_err(|e| bad(e.to_string()))?;
        match tlv.kind {
            ALPN => alpn = Some(tlv.value.as_ref().into()),
            AUTHORITY => sni = text(&tlv.value).map(Into::into),
            SSL => ssl = Some(tlv.value),
            _ => {}
        }
    }
    let Some(ssl) = ssl else { return Ok(None) };
    let (&[flags, verified @ ..], mut parts) =
        ssl.split_first_chunk::<5>().ok_or_else(|| bad("its part on TLS is short"))?;
    if flags & OVER_TLS == 0 {
        return Ok(None);
    }
    let (mut version, mut cipher, mut name) = ("TLS", "-".to_owned(), None);
    while !parts.is_empty() {
        let (&[kind, high, low], rest) = parts.split_first_chunk().ok_or_else(|| bad("its part on TLS is cut"))?;
        let length = usize::from(u16::from_be_bytes([high, low]));
        let (value, rest) = rest.split_at_checked(length).ok_or_else(|| bad("its part on TLS is cut"))?;
        parts = rest;
        match kind {
            SSL_VERSION => {
                version = KNOWN_VERSIONS.into_iter().find(|known| known.as_bytes() == value).unwrap_or("TLS")
            }
            SSL_COMMON_NAME => name = text(value),
            SSL_CIPHER => cipher = text(value).unwrap_or(cipher),
            _ => {}
        }
    }
    // All zeros: the proxy found it good, and nobody else's word is worth a name.
    let shown = flags & CERTIFICATE != 0 && verified == [0; 4];
    let names = name.iter().cloned().collect();
    let certificate = shown.then(|| Box::new(ClientCertificate { names, common_name: name, ..Default::default() }));
    let cipher = cipher.into();
    Ok(Some(Box::new(TlsFacts { version, cipher, resumed: false, sni, alpn, certificate, hosts: None })))
}

fn text(bytes: &[u8]) -> Option<String> {
    std::str::from_utf8(bytes).ok().map(str::to_owned)
}

/// A header that tells a server of this client.
///
/// # Errors
/// What TLS agreed on is too long to be said.
pub(crate) fn header(version: ProxyVersion, arrival: &Arrival) -> io::Result<Vec<u8>> {
    let client = arrival.client;
    let (source, destination) = same_family(client, arrival.local.as_deref().copied().unwrap_or(unknown(client)));
    match version {
        ProxyVersion::V1 => {
            let family = if source.is_ipv4() { "TCP4" } else { "TCP6" };
            let (from, to) = ((source.ip(), source.port()), (destination.ip(), destination.port()));
            Ok(format!("PROXY {family} {} {} {} {}\r\n", from.0, to.0, from.1, to.1).into_bytes())
        }
        ProxyVersion::V2 => {
            let command = Version::Two | Command::Proxy;
            let mut builder = v2::Builder::with_addresses(command, Protocol::Stream, (source, destination));
            if let Some(tls) = &arrival.tls {
                if let Some(alpn) = &tls.alpn {
                    builder = builder.write_tlv(Type::ALPN, alpn)?;
                }
                if let Some(sni) = &tls.sni {
                    builder = builder.write_tlv(Type::Authority, sni.as_bytes())?;
                }
                builder = builder.write_tlv(Type::SSL, &ssl(tls))?;
            }
            builder.build()
        }
    }
}

/// A header that names nobody: the connection is our own, a check.
pub(crate) fn own(version: ProxyVersion) -> &'static [u8] {
    match version {
        ProxyVersion::V1 => b"PROXY UNKNOWN\r\n",
        ProxyVersion::V2 => b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0",
    }
}

/// The value of `PP2_TYPE_SSL`: flags, whether the client's certificate was verified, and parts of the same form as all.
fn ssl(tls: &TlsFacts) -> Vec<u8> {
    let flags = OVER_TLS | tls.certificate.as_ref().map_or(0, |_| CERTIFICATE);
    // Nobody comes in whose certificate was not found good.
    let mut value = vec![flags, 0, 0, 0, 0];
    let mut part = |kind: u8, text: &str| {
        let bytes = &text.as_bytes()[..text.len().min(255)];
        value.extend([kind, 0, bytes.len() as u8]);
        value.extend(bytes);
    };
    part(SSL_VERSION, tls.version);
    if let Some(name) = tls.certificate.as_ref().and_then(|c| c.common_name.as_ref()) {
        part(SSL_COMMON_NAME, name);
    }
    part(SSL_CIPHER, &tls.cipher);
    value
}

/// Nowhere, in the family of an address.
fn unknown(like: SocketAddr) -> SocketAddr {
    let ip = if like.is_ipv4() { IpAddr::from([0, 0, 0, 0]) } else { Ipv6Addr::UNSPECIFIED.into() };
    SocketAddr::new(ip, 0)
}

/// Both as IPv4 where both are, else both as IPv6.
fn same_family(a: SocketAddr, b: SocketAddr) -> (SocketAddr, SocketAddr) {
    let plain = |of: SocketAddr| SocketAddr::new(of.ip().to_canonical(), of.port());
    let (a, b) = (plain(a), plain(b));
    if a.is_ipv4() == b.is_ipv4() {
        return (a, b);
    }
    let wide = |of: SocketAddr| match of.ip() {
        IpAddr::V4(ip) => SocketAddr::new(ip.to_ipv6_mapped().into(), of.port()),
        IpAddr::V6(_) => of,
    };
    (wide(a), wide(b))
}

#[cfg(test)]
mod tests {
    use super::*;
    use lb_core::rules::CertificatePart;

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
    }

    fn read_all(bytes: &[u8]) -> (io::Result<Said>, Vec<u8>) {
        let mut rest = bytes;
        let said = block_on(read(&mut rest));
        (said, rest.to_vec())
    }

    fn arrival(client: &str, local: &str) -> Arrival {
        Arrival { client: client.parse().unwrap(), local: Some(Box::new(local.parse().unwrap())), tls: None }
    }

    #[test]
    fn what_we_say_is_what_is_read_in_both_versions_and_families_and_not_a_byte_more() {
        for (client, local) in [("192.0.2.7:4711", "198.51.100.1:443"), ("[2001:db8::7]:4711", "[2001:db8::1]:443")] {
            for version in [ProxyVersion::V1, ProxyVersion::V2] {
                let mut bytes = header(version, &arrival(client, local)).unwrap();
                bytes.extend(b"GET / HTTP/1.1\r\n");
                let (said, rest) = read_all(&bytes);
                let told = said.unwrap().unwrap();
                assert_eq!((told.client, told.to), (client.parse().unwrap(), local.parse().unwrap()));
                assert!(told.tls.is_none());
                assert_eq!(rest, b"GET / HTTP/1.1\r\n");
            }
        }
    }

    #[test]
    fn two_families_are_told_in_one() {
        let text = header(ProxyVersion::V1, &arrival("[::ffff:192.0.2.7]:1", "192.0.2.1:2")).unwrap();
        assert_eq!(String::from_utf8(text).unwrap(), "PROXY TCP4 192.0.2.7 192.0.2.1 1 2\r\n");
        let text = header(ProxyVersion::V1, &arrival("[2001:db8::7]:1", "192.0.2.1:2")).unwrap();
        assert_eq!(String::from_utf8(text).unwrap(), "PROXY TCP6 2001:db8::7 ::ffff:192.0.2.1 1 2\r\n");
    }

    #[test]
    fn version_2_says_what_tls_agreed_on() {
        let mut arrival = arrival("192.0.2.7:4711", "198.51.100.1:443");
        arrival.tls = Some(Box::new(TlsFacts {
            version: "TLSv1.3",
            cipher: "TLS_AES_128_GCM_SHA256".into(),
            resumed: false,
            sni: Some("shop.example".into()),
            alpn: Some(b"h2".as_slice().into()),
            certificate: Some(Box::new(ClientCertificate {
                common_name: Some("alice".into()),
                names: vec!["alice".into(), "alice.example".into()],
                der: b"whole".as_slice().into(),
            })),
            hosts: None,
        }));
        let bytes = header(ProxyVersion::V2, &arrival).unwrap();
        let parsed = v2::Header::try_from(bytes.as_slice()).unwrap();
        let tlvs: Vec<_> = parsed.tlvs().map(|tlv| tlv.unwrap()).map(|tlv| (tlv.kind, tlv.value.to_vec())).collect();
        assert_eq!(tlvs[0], (1, b"h2".to_vec()));
        assert_eq!(tlvs[1], (2, b"shop.example".to_vec()));
        assert_eq!((tlvs[2].0, &tlvs[2].1[..8]), (0x20, &[7, 0, 0, 0, 0, 0x21, 0, 7][..]));
        let told = read_all(&bytes).0.unwrap().unwrap().tls.unwrap();
        assert_eq!((told.version, &*told.cipher), ("TLSv1.3", "TLS_AES_128_GCM_SHA256"));
        assert_eq!((told.sni.as_deref(), told.alpn.as_deref()), (Some("shop.example"), Some(&b"h2"[..])));
        let certificate = told.certificate.unwrap();
        assert_eq!((certificate.common_name.as_deref(), certificate.names.len()), (Some("alice"), 1));
        let mut out = Vec::new();
        certificate.say(CertificatePart::Fingerprint, &mut out);
        assert!(out.is_empty(), "there is no certificate to make it of");
    }

    /// The header of a client over IPv4, with these parts more.
    fn with(parts: &[u8]) -> Vec<u8> {
        let length = u16::try_from(12 + parts.len()).unwrap().to_be_bytes();
        [SIGNATURE, b"\x21\x11", &length, &[192, 0, 2, 7, 192, 0, 2, 1, 0x12, 0x67, 0, 80], parts].concat()
    }

    #[test]
    fn a_certificate_counts_only_where_the_proxy_found_it_good() {
        let tls = |flags: u8, verified: u8| {
            let parts = [SSL, 0, 13, flags, 0, 0, 0, verified, SSL_COMMON_NAME, 0, 5, b'a', b'l', b'i', b'c', b'e'];
            read_all(&with(&parts)).0.unwrap().unwrap().tls
        };
        let name = |flags, verified| tls(flags, verified).unwrap().certificate.and_then(|c| c.common_name);
        assert_eq!(name(1 | 2, 0).as_deref(), Some("alice"));
        assert_eq!(name(1 | 4, 0).as_deref(), Some("alice"), "shown when the session began");
        assert_eq!(name(1 | 2, 18), None, "self-signed");
        assert_eq!(name(1, 0), None, "a name, and no certificate");
        assert!(tls(2, 0).is_none(), "not over TLS");
    }

    #[test]
    fn parts_that_are_cut_are_an_error_and_unknown_ones_are_passed_over() {
        let id = [5, 0, 3, 1, 2, 3, 0xea, 0, 1, 1];
        assert!(read_all(&with(&id)).0.unwrap().unwrap().tls.is_none());
        let whole = [SSL, 0, 13, 1, 0, 0, 0, 0, SSL_VERSION, 0, 5, b'T', b'L', b'S', b'v', b'1'];
        assert_eq!(read_all(&with(&whole)).0.unwrap().unwrap().tls.unwrap().version, "TLSv1");
        for end in [1, 2] {
            assert!(read_all(&with(&whole[..end])).0.is_err(), "{end}");
        }
        for inner in [4, 6, 8, 12] {
            let cut = [&[SSL, 0, inner][..], &whole[3..3 + usize::from(inner)]].concat();
            assert!(read_all(&with(&cut)).0.is_err(), "{inner}");
        }
    }

    #[test]
    fn a_proxy_that_speaks_for_itself_names_nobody() {
        assert!(matches!(read_all(b"PROXY UNKNOWN\r\n").0, Ok(None)));
        assert!(matches!(read_all(b"\r\n\r\n\0\r\nQUIT\n\x20\x00\x00\x00").0, Ok(None)));
    }

    #[test]
    fn what_is_no_header_is_an_error() {
        let long = [b"PROXY TCP4 ".as_slice(), &[b'1'; 200]].concat();
        let huge = [SIGNATURE, b"\x21\x11\xff\xff", &[0; 100]].concat();
        let datagram = [SIGNATURE, b"\x21\x12\x00\x0c", &[1; 12]].concat();
        for bytes in [
            b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".as_slice(),
            b"PROXY TCP4 1.2.3.4 5.6.7.8 1 70000\r\n",
            b"PROXY TCP4 1.2.3.4\r\n",
            b"PROXY TCP4 ",
            &long,
            &huge,
            &datagram,
        ] {
            assert!(read_all(bytes).0.is_err(), "{bytes:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn nothing_that_comes_is_too_much(bytes: Vec<u8>, binary: bool) {
            let start = if binary { SIGNATURE } else { b"PROXY " };
            let _ = read_all(&[start, &bytes].concat());
        }
    }
}
