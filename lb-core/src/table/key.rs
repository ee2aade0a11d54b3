//! Keys in their canonical bytes: what two instances must agree on to mean the same entry.
use crate::config::KeyKind;
use smallvec::SmallVec;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A key, canonical for its table's type. Short ones live on the stack.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct StickKey(SmallVec<[u8; 40]>);

/// Why a text is no key of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not an IPv4 address.
    #[error("this table's keys are IPv4 addresses, as 192.0.2.7")]
    NotIp,
    /// Not an IP address.
    #[error("this table's keys are IPv6 addresses, as 2001:db8::7")]
    NotIpv6,
    /// Not a number.
    #[error("this table's keys are whole numbers")]
    NotInteger,
    /// Not hexadecimal.
    #[error("this table's keys are bytes: write them in hexadecimal, as 0a1b2c")]
    NotHex,
    /// Empty.
    #[error("the key is empty")]
    Empty,
}

impl StickKey {
    /// The canonical bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// From a value found in a request. Empty values and values of another type are no keys. Texts longer than `len`
    /// are cut, as HAProxy does.
    pub fn from_value(kind: KeyKind, len: usize, value: &[u8]) -> Option<Self> {
        match kind {
            KeyKind::String | KeyKind::Binary => {
                (!value.is_empty()).then(|| Self(SmallVec::from_slice(&value[..value.len().min(len)])))
            }
            KeyKind::Ip | KeyKind::Ipv6 | KeyKind::Integer => {
                Self::parse(kind, len, std::str::from_utf8(value).ok()?.trim()).ok()
            }
        }
    }

    /// From an address.
    pub fn from_ip(kind: KeyKind, len: usize, ip: IpAddr) -> Option<Self> {
        match (kind, ip.to_canonical()) {
            (KeyKind::Ip, IpAddr::V4(v4)) => Some(Self(SmallVec::from_slice(&v4.octets()))),
            (KeyKind::Ip, IpAddr::V6(_)) => None,
            (KeyKind::Ipv6, IpAddr::V4(v4)) => Some(Self(SmallVec::from_slice(&v4.to_ipv6_mapped().octets()))),
            (KeyKind::Ipv6, IpAddr::V6(v6)) => Some(Self(SmallVec::from_slice(&v6.octets()))),
            (KeyKind::Integer, IpAddr::V4(v4)) => Some(Self::integer(i64::from(u32::from(v4)))),
            (KeyKind::Integer, IpAddr::V6(_)) => None,
            (KeyKind::String | KeyKind::Binary, ip) => Self::from_value(kind, len, ip.to_string().as_bytes()),
        }
    }

    /// From what an operator typed: as [`Self::show`] writes it.
    ///
    /// # Errors
    /// A text that is no key of this type.
    pub fn parse(kind: KeyKind, len: usize, text: &str) -> Result<Self, KeyError> {
        if text.is_empty() {
            return Err(KeyError::Empty);
        }
        match kind {
            KeyKind::String => Self::from_value(kind, len, text.as_bytes()).ok_or(KeyError::Empty),
            KeyKind::Binary => {
                let bytes = unhex(text).ok_or(KeyError::NotHex)?;
                Self::from_value(kind, len, &bytes).ok_or(KeyError::Empty)
            }
            KeyKind::Integer => text.parse().map(Self::integer).map_err(|_| KeyError::NotInteger),
            KeyKind::Ip => text.parse().ok().and_then(|ip| Self::from_ip(kind, len, ip)).ok_or(KeyError::NotIp),
            KeyKind::Ipv6 => text.parse().ok().and_then(|ip| Self::from_ip(kind, len, ip)).ok_or(KeyError::NotIpv6),
        }
    }

    /// From canonical bytes, as a peer sends them; `None` when they do not fit the type.
    pub fn from_canonical(kind: KeyKind, len: usize, bytes: &[u8]) -> Option<Self> {
        Self::is_canonical(kind, len, bytes).then(|| Self(SmallVec::from_slice(bytes)))
    }

    /// Whether bytes fit the type and length of a table.
    pub(super) fn is_canonical(kind: KeyKind, len: usize, bytes: &[u8]) -> bool {
        match kind {
            KeyKind::Ip => bytes.len() == 4,
            KeyKind::Ipv6 => bytes.len() == 16,
            KeyKind::Integer => bytes.len() == 8,
            KeyKind::String | KeyKind::Binary => !bytes.is_empty() && bytes.len() <= len,
        }
    }

    /// For people: the text that [`Self::parse`] reads.
    pub fn show(kind: KeyKind, bytes: &[u8]) -> String {
        match (kind, bytes.len()) {
            (KeyKind::Ip, 4) => Ipv4Addr::from(<[u8; 4]>::try_from(bytes).unwrap_or_default()).to_string(),
            (KeyKind::Ipv6, 16) => Ipv6Addr::from(<[u8; 16]>::try_from(bytes).unwrap_or_default()).to_string(),
            (KeyKind::Integer, 8) => i64::from_be_bytes(bytes.try_into().unwrap_or_default()).to_string(),
            (KeyKind::String, _) => String::from_utf8_lossy(bytes).into_owned(),
            _ => bytes.iter().map(|b| format!("{b:02x}")).collect(),
        }
    }

    fn integer(n: i64) -> Self {
        Self(SmallVec::from_slice(&n.to_be_bytes()))
    }
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn one_client_is_one_key_whatever_family_its_address_came_in() {
        let v4 = StickKey::from_ip(KeyKind::Ip, 0, "192.0.2.7".parse().unwrap());
        let mapped = StickKey::from_ip(KeyKind::Ip, 0, "::ffff:192.0.2.7".parse().unwrap());
        assert!(v4.is_some());
        assert_eq!(v4, mapped);
    }

    #[test]
    fn a_value_of_another_type_is_no_key() {
        assert_eq!(StickKey::from_value(KeyKind::Integer, 64, b"seven"), None);
        assert_eq!(StickKey::from_value(KeyKind::Ip, 64, b"2001:db8::1"), None);
        assert_eq!(StickKey::from_value(KeyKind::String, 64, b""), None);
        assert_eq!(StickKey::from_canonical(KeyKind::Ip, 64, b"12345"), None);
    }

    proptest! {
        #[test]
        fn what_is_shown_reads_back_as_the_same_key(bytes in proptest::collection::vec(any::<u8>(), 1..64), n: i64, ip: [u8; 16]) {
            for (kind, value) in [
                (KeyKind::Binary, bytes),
                (KeyKind::Integer, n.to_be_bytes().to_vec()),
                (KeyKind::Ipv6, ip.to_vec()),
                (KeyKind::Ip, ip[..4].to_vec()),
            ] {
                let key = StickKey::from_canonical(kind, 64, &value).expect("canonical");
                prop_assert_eq!(StickKey::parse(kind, 64, &StickKey::show(kind, key.bytes())), Ok(key));
            }
        }
    }
}
