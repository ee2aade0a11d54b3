//! Values of cookies that nobody else can make: a keyed hash of an address, and authenticated encryption.
//!
//! Pure computation: the nonce of a sealed value is an argument. The cipher is AES-256-GCM-SIV, which a nonce used twice
//! does not break; instances that share keys need not know of each other's nonces.
use crate::config::ServerAddr;
use crate::secret::Secret;
use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::{hkdf, hmac};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// Bytes of a nonce.
pub const NONCE: usize = 12;
/// The longest value that is looked at.
const LONGEST: usize = 1024;

/// A key made of a secret, for one purpose.
fn derive(secret: &Secret, purpose: &str) -> [u8; 32] {
    let mut key = [0; 32];
    let salt = hkdf::Salt::new(hkdf::HKDF_SHA256, b"lb affinity cookie");
    let made =
        salt.extract(secret.bytes()).expand(&[purpose.as_bytes()], hkdf::HKDF_SHA256).map(|okm| okm.fill(&mut key));
    debug_assert!(matches!(made, Ok(Ok(()))), "HKDF gives 32 bytes");
    key
}

/// The value of a server under one key: 16 hexadecimal digits of a keyed hash of where it is.
pub(super) fn dynamic(secret: &Secret, addr: &ServerAddr, generation: u64) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, &derive(secret, "dynamic 1"));
    let tag = hmac::sign(&key, format!("{addr}/{generation}").as_bytes());
    tag.as_ref()[..8].iter().map(|b| format!("{b:02x}")).collect()
}

/// Seals under the first of its keys, opens under any.
pub(super) struct Sealer {
    keys: Vec<LessSafeKey>,
    /// The cookie's name: a value is good for no other cookie.
    bound_to: Box<[u8]>,
}

impl Sealer {
    pub(super) fn new(secrets: &[Secret], cookie: &str) -> Self {
        let key = |secret| UnboundKey::new(&AES_256_GCM_SIV, &derive(secret, "seal 1")).map(LessSafeKey::new);
        Self { keys: secrets.iter().flat_map(key).collect(), bound_to: format!("1 {cookie}").into_bytes().into() }
    }

    /// Nothing if there is no key.
    pub(super) fn seal(&self, plain: &[u8], nonce: [u8; NONCE]) -> Option<String> {
        let mut sealed = plain.to_vec();
        let nonce_of = Nonce::assume_unique_for_key(nonce);
        self.keys.first()?.seal_in_place_append_tag(nonce_of, Aad::from(&self.bound_to), &mut sealed).ok()?;
        Some(URL_SAFE_NO_PAD.encode([&nonce[..], &sealed].concat()))
    }

    /// What was sealed, and whether under an old key.
    pub(super) fn open(&self, text: &[u8]) -> Option<(Vec<u8>, bool)> {
        if text.len() > LONGEST {
            return None;
        }
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let (nonce, sealed) = bytes.split_first_chunk::<NONCE>()?;
        self.keys.iter().enumerate().find_map(|(i, key)| {
            let mut copy = sealed.to_vec();
            let nonce = Nonce::assume_unique_for_key(*nonce);
            let plain = key.open_in_place(nonce, Aad::from(&self.bound_to), &mut copy).ok()?.len();
            copy.truncate(plain);
            Some((copy, i > 0))
        })
    }
}

impl std::fmt::Debug for Sealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Sealer({} keys)", self.keys.len())
    }
}
