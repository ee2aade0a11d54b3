//! The PROXY protocol, both ways: who the client is, said before its first byte by a proxy that stands before us, and by
//! us to servers. <https://www.haproxy.org/download/3.2/doc/proxy-protocol.txt>
//!
//! A header that comes is read without a byte more, because what follows is somebody else's: a handshake's or a request's.
use crate::arrival::Arrival;
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

/// Whom a header speaks of: client, and the address that it came to. `None`: nobody, the connection is the proxy's own.
pub(crate) type Said = Option<(SocketAddr, SocketAddr)>;

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
    Ok(match header.addresses {
        v1::Addresses::Unknown => None,
        v1::Addresses::Tcp4(a) => {
            Some(((a.source_address, a.source_port).into(), (a.destination_address, a.destination_port).into()))
        }
        v1::Addresses::Tcp6(a) => {
            Some(((a.source_address, a.source_port).into(), (a.destination_address, a.destination_port).into()))
        }
    })
}

fn binary(head: &[u8]) -> io::Result<Said> {
    let header = v2::Header::try_from(head).map_err(|e| bad(e.to_string()))?;
    if header.command == Command::Local {
        return Ok(None);
    }
    if header.protocol == Protocol::Datagram {
        return Err(bad("it speaks of datagrams"));
    }
    Ok(match header.addresses {
        Addresses::IPv4(a) => {
            Some(((a.source_address, a.source_port).into(), (a.destination_address, a.destination_port).into()))
        }
        Addresses::IPv6(a) => {
            Some(((a.source_address, a.source_port).into(), (a.destination_address, a.destination_port).into()))
        }
        Addresses::Unspecified | Addresses::Unix(_) => None,
    })
}

/// A header that tells a server of this client.
///
/// # Errors
/// What TLS agreed on is too long to be said.
pub(crate) fn header(version: ProxyVersion, arrival: &Arrival) -> io::Result<Vec<u8>> {
    let client = arrival.client;
    let (source, destination) = same_family(client, arrival.local.unwrap_or(unknown(client)));
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

/// The value of `PP2_TYPE_SSL`: flags, whether the client's certificate was verified, and parts of the same form as all.
fn ssl(tls: &crate::arrival::TlsFacts) -> Vec<u8> {
    const OVER_TLS: u8 = 1;
    const CERTIFICATE: u8 = 2 | 4;
    let flags = OVER_TLS | tls.certificate.as_ref().map_or(0, |_| CERTIFICATE);
    // Nobody comes in whose certificate was not found good.
    let mut value = vec![flags, 0, 0, 0, 0];
    let mut part = |kind: u8, text: &str| {
        let bytes = &text.as_bytes()[..text.len().min(255)];
        value.extend([kind, 0, bytes.len() as u8]);
        value.extend(bytes);
    };
    part(0x21, tls.version);
    if let Some(name) = tls.certificate.as_ref().and_then(|c| c.common_name.as_ref()) {
        part(0x22, name);
    }
    part(0x23, tls.cipher);
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
    use crate::arrival::TlsFacts;

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
    }

    fn read_all(bytes: &[u8]) -> (io::Result<Said>, Vec<u8>) {
        let mut rest = bytes;
        let said = block_on(read(&mut rest));
        (said, rest.to_vec())
    }

    fn arrival(client: &str, local: &str) -> Arrival {
        Arrival { client: client.parse().unwrap(), local: Some(local.parse().unwrap()), tls: None }
    }

    #[test]
    fn what_we_say_is_what_is_read_in_both_versions_and_families_and_not_a_byte_more() {
        for (client, local) in [("192.0.2.7:4711", "198.51.100.1:443"), ("[2001:db8::7]:4711", "[2001:db8::1]:443")] {
            for version in [ProxyVersion::V1, ProxyVersion::V2] {
                let mut bytes = header(version, &arrival(client, local)).unwrap();
                bytes.extend(b"GET / HTTP/1.1\r\n");
                let (said, rest) = read_all(&bytes);
                assert_eq!(said.unwrap(), Some((client.parse().unwrap(), local.parse().unwrap())));
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
            cipher: "TLS_AES_128_GCM_SHA256",
            resumed: false,
            sni: Some("shop.example".into()),
            alpn: Some(b"h2".as_slice().into()),
            certificate: None,
            hosts: None,
        }));
        let bytes = header(ProxyVersion::V2, &arrival).unwrap();
        let parsed = v2::Header::try_from(bytes.as_slice()).unwrap();
        let tlvs: Vec<_> = parsed.tlvs().map(|tlv| tlv.unwrap()).map(|tlv| (tlv.kind, tlv.value.to_vec())).collect();
        assert_eq!(tlvs[0], (1, b"h2".to_vec()));
        assert_eq!(tlvs[1], (2, b"shop.example".to_vec()));
        assert_eq!((tlvs[2].0, &tlvs[2].1[..8]), (0x20, &[1, 0, 0, 0, 0, 0x21, 0, 7][..]));
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
