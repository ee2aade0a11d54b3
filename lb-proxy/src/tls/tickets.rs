//! Session tickets: what a server must remember of a session, sealed and left with the client. Whoever has the key resumes
//! it: another worker, another instance, this one after a restart.
//!
//! A ticket is `name of the key (8) ‖ nonce (12) ‖ ciphertext and tag`, under AES-256-GCM-SIV: random nonces may repeat
//! there without giving the key away. Keys are derived (HKDF-SHA-256) from a secret, from *what is asked of clients* and
//! from the time in steps of twelve hours:
//! - A session that began without a client's certificate, or before that was revoked, is not resumed where one is asked
//!   for: those tickets have other keys.
//! - A ticket lives for a day at most, and keys in memory are no older; the clocks of two instances may differ by hours.
use super::TlsError;
use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Salt};
use lb_core::config::Fault;
use parking_lot::Mutex;
use rustls::server::ProducesTickets;
use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// Seconds that a key encrypts for.
const STEP: u64 = 12 * 3600;
/// A secret has as many bytes at least.
const SECRET: usize = 32;
const NAME: usize = 8;
const NONCE: usize = 12;

/// Something that nobody outside the cluster knows.
#[derive(Clone)]
pub struct Secret(Arc<[u8]>);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

impl Secret {
    /// One that only this process knows.
    ///
    /// # Errors
    /// The system gives no random numbers.
    pub fn random() -> Result<Self, TlsError> {
        let mut bytes = [0; SECRET];
        let no_random = |_| TlsError(vec![Fault::new("tls", "the system gives no random numbers")]);
        aws_lc_rs::rand::fill(&mut bytes).map_err(no_random)?;
        Ok(Self(bytes.as_slice().into()))
    }

    /// What a file holds, without the white space at its ends.
    ///
    /// # Errors
    /// Why it cannot be used.
    pub(crate) fn read(file: &Path) -> Result<Self, String> {
        let bytes = std::fs::read(file).map_err(|e| format!("{} cannot be read: {e}", file.display()))?;
        let secret = bytes.trim_ascii();
        if secret.len() < SECRET {
            return Err(format!(
                "{} holds {} bytes, a secret has {SECRET} or more: make one by `openssl rand -base64 48`",
                file.display(),
                secret.len()
            ));
        }
        Ok(Self(secret.into()))
    }
}

/// The tickets of a listener.
pub(crate) struct Tickets {
    /// The first encrypts.
    secrets: Vec<Secret>,
    /// What is asked of clients.
    policy: Vec<u8>,
    now: fn() -> u64,
    keys: Mutex<Keys>,
}

/// The keys of one time: each secret's of now, of the step before and of the next one.
#[derive(Default)]
struct Keys {
    step: u64,
    keys: Arc<[Key]>,
}

struct Key {
    name: [u8; NAME],
    key: LessSafeKey,
}

impl std::fmt::Debug for Tickets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tickets")
    }
}

impl Tickets {
    /// Sealed by the first of these secrets. `policy` is anything that makes sessions different where clients are asked
    /// for different things.
    pub(crate) fn new(secrets: Vec<Secret>, policy: Vec<u8>) -> Self {
        Self { secrets, policy, now: unix, keys: Mutex::default() }
    }

    fn keys(&self) -> Arc<[Key]> {
        let step = (self.now)() / STEP;
        let mut kept = self.keys.lock();
        if kept.step != step || kept.keys.is_empty() {
            let of = |secret| [step, step.wrapping_sub(1), step + 1].map(|s| derive(secret, &self.policy, s));
            *kept = Keys { step, keys: self.secrets.iter().flat_map(of).flatten().collect() };
        }
        kept.keys.clone()
    }
}

fn unix() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

struct Length;

impl KeyType for Length {
    fn len(&self) -> usize {
        NAME + 32
    }
}

fn derive(secret: &Secret, policy: &[u8], step: u64) -> Option<Key> {
    let salt = Salt::new(HKDF_SHA256, b"lb tls ticket 1");
    let (step, length) = (step.to_be_bytes(), (policy.len() as u64).to_be_bytes());
    let mut out = [0; NAME + 32];
    let pseudo_random = salt.extract(&secret.0);
    pseudo_random.expand(&[&length, policy, &step], Length).ok()?.fill(&mut out).ok()?;
    let (name, key) = out.split_at(NAME);
    let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM_SIV, key).ok()?);
    Some(Key { name: name.try_into().ok()?, key })
}

impl ProducesTickets for Tickets {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        // What was sealed at the very end of a step is opened for one more.
        STEP as u32
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        let keys = self.keys();
        let Key { name, key } = keys.first()?;
        let mut nonce = [0; NONCE];
        aws_lc_rs::rand::fill(&mut nonce).ok()?;
        let mut sealed = plain.to_vec();
        key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(name), &mut sealed).ok()?;
        Some([name.as_slice(), &nonce, &sealed].concat())
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        let (name, rest) = ticket.split_first_chunk::<NAME>()?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE>()?;
        let keys = self.keys();
        let Key { key, .. } = keys.iter().find(|key| key.name == *name)?;
        let mut plain = sealed.to_vec();
        let length = key.open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::from(name), &mut plain).ok()?.len();
        plain.truncate(length);
        Some(plain)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

    fn secret(byte: u8) -> Secret {
        Secret([byte; SECRET].as_slice().into())
    }

    fn tickets(secrets: &[u8]) -> Tickets {
        Tickets::new(secrets.iter().map(|b| secret(*b)).collect(), b"nothing".to_vec())
    }

    #[test]
    fn whoever_has_the_secret_opens_what_another_sealed() {
        let sealed = tickets(&[1]).encrypt(b"session").unwrap();
        assert_eq!(tickets(&[1]).decrypt(&sealed).as_deref(), Some(&b"session"[..]));
        assert_eq!(tickets(&[2]).decrypt(&sealed), None);
    }

    #[test]
    fn a_secret_is_changed_without_a_loss_by_putting_the_new_one_first() {
        let (old, both, new) = (tickets(&[1]), tickets(&[2, 1]), tickets(&[2]));
        assert!(both.decrypt(&old.encrypt(b"x").unwrap()).is_some());
        assert!(new.decrypt(&both.encrypt(b"x").unwrap()).is_some());
        assert!(new.decrypt(&old.encrypt(b"x").unwrap()).is_none());
    }

    #[test]
    fn a_session_is_of_no_use_where_clients_are_asked_for_something_else() {
        let strict = Tickets::new(vec![secret(1)], b"client certificates".to_vec());
        assert_eq!(strict.decrypt(&tickets(&[1]).encrypt(b"x").unwrap()), None);
    }

    #[test]
    fn a_ticket_lives_for_a_step_at_least_and_for_two_at_most_whatever_clocks_say() {
        static NOW: AtomicU64 = AtomicU64::new(0);
        let tickets = Tickets { now: || NOW.load(Relaxed), ..tickets(&[1]) };
        NOW.store(10 * STEP + STEP / 2, Relaxed);
        let sealed = tickets.encrypt(b"x").unwrap();
        let opens = |at: u64| {
            NOW.store(at, Relaxed);
            tickets.decrypt(&sealed).is_some()
        };
        assert!(opens(10 * STEP - 1), "a clock behind");
        assert!(opens(12 * STEP - 1));
        assert!(!opens(12 * STEP));
        assert!(!opens(9 * STEP - 1));
    }

    proptest::proptest! {
        #[test]
        fn what_was_not_sealed_here_opens_nothing(bytes: Vec<u8>, at: usize) {
            let tickets = tickets(&[1]);
            proptest::prop_assert_eq!(tickets.decrypt(&bytes), None);
            let mut sealed = tickets.encrypt(&bytes).unwrap();
            let at = at % sealed.len();
            sealed[at] ^= 1;
            proptest::prop_assert_eq!(tickets.decrypt(&sealed), None);
        }
    }

    #[test]
    fn a_file_is_a_secret_if_it_is_long_enough_and_a_line_end_is_no_part_of_it() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("ticket.key");
        std::fs::write(&file, "short").unwrap();
        assert!(Secret::read(&file).unwrap_err().contains("holds 5 bytes"));
        std::fs::write(&file, format!("{}\n", "k".repeat(32))).unwrap();
        assert_eq!(&*Secret::read(&file).unwrap().0, "k".repeat(32).as_bytes());
    }
}
