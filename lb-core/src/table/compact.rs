//! The key of an entry in 16 bytes: short ones (IPv4 addresses) in place, others in memory of their own.
use std::ops::Deref;

/// What fits in place.
const SHORT: usize = 7;

/// The bytes of a key. Empty: the default.
#[derive(Debug)]
pub(super) enum KeyBytes {
    Short { len: u8, bytes: [u8; SHORT] },
    Long(Box<[u8]>),
}

const _: () = assert!(size_of::<KeyBytes>() == 16);

impl KeyBytes {
    /// Bytes of memory beside these 16.
    pub(super) fn outside(&self) -> usize {
        match self {
            Self::Short { .. } => 0,
            Self::Long(bytes) => bytes.len(),
        }
    }
}

impl Default for KeyBytes {
    fn default() -> Self {
        Self::Short { len: 0, bytes: [0; SHORT] }
    }
}

impl From<&[u8]> for KeyBytes {
    fn from(key: &[u8]) -> Self {
        let mut bytes = [0; SHORT];
        match bytes.get_mut(..key.len()) {
            Some(place) => {
                place.copy_from_slice(key);
                Self::Short { len: key.len() as u8, bytes }
            }
            None => Self::Long(key.into()),
        }
    }
}

impl Deref for KeyBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Short { len, bytes } => &bytes[..usize::from(*len)],
            Self::Long(bytes) => bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_any_length_keep_their_bytes() {
        for len in 0..40 {
            let bytes: Vec<u8> = (0..len).collect();
            assert_eq!(*KeyBytes::from(&bytes[..]), *bytes);
        }
    }
}
