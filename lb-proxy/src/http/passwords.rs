//! Passwords of `auth` rules.
//!
//! A hash of a password is slow on purpose: tens of milliseconds of a core, on which a worker serves thousands of
//! requests. So it is computed on a thread of its own, one at a time for each worker, with a bounded number of requests
//! that wait for it; whoever finds no place gets 503. What was found right is remembered under a keyed hash of user,
//! password and the hash that it was checked against: a client pays once, a changed password counts at once, and the
//! memory holds nothing that a password could be guessed from. What was wrong is not remembered.
use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use lb_core::rules::Auth;
use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use tokio::sync::Semaphore;

/// Requests of a worker that wait for a hash at most.
const WAITING: usize = 64;
/// Right passwords that are remembered, at least; twice as many at most.
const KEPT: usize = 512;
/// Longer ones are wrong: their hash would take too long.
const LONGEST: usize = 256;
/// What an unknown user's password is checked against, so that the time tells nobody who is known.
const NOBODY: &str = "$2b$10$HPRXZ3GdBOunRC.gz6bbluw5MSsXUGyPc2AXRuZN4X.72cw3GAf9i";

/// A worker's knowledge of passwords.
pub(crate) struct Passwords {
    key: hmac::Key,
    known: RefCell<Known>,
    turn: Semaphore,
    waiting: Cell<usize>,
}

/// What was used last stays: when the new are full, they become the old, and the old are gone.
#[derive(Default)]
struct Known {
    new: HashSet<[u8; 32]>,
    old: HashSet<[u8; 32]>,
}

/// What is to be said of a name and a password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// They are this user's.
    Right(Box<str>),
    Wrong,
    /// Too many want to know.
    Busy,
}

impl Passwords {
    /// Knows none.
    pub(crate) fn new() -> Self {
        let mut key = [0; 32];
        // Where the system has no random bytes, nobody passes: what is remembered could be aimed at.
        let random = aws_lc_rs::rand::fill(&mut key).is_ok();
        let waiting = Cell::new(if random { 0 } else { WAITING });
        let key = hmac::Key::new(hmac::HMAC_SHA256, &key);
        Self { key, known: RefCell::default(), turn: Semaphore::new(1), waiting }
    }

    /// Checks the `Authorization` of a request.
    pub(crate) async fn check(&self, auth: &Auth, authorization: Option<&[u8]>) -> Verdict {
        let Some((user, password)) = authorization.and_then(basic) else { return Verdict::Wrong };
        if password.len() > LONGEST {
            return Verdict::Wrong;
        }
        let found = auth.hash(&user);
        let hash = found.unwrap_or(NOBODY);
        let sum = self.sum(hash, &user, &password);
        let right = || Verdict::Right(String::from_utf8_lossy(&user).into());
        if self.known.borrow_mut().has(&sum) {
            return right();
        }
        let Some(_place) = Place::take(&self.waiting) else { return Verdict::Busy };
        let Ok(_turn) = self.turn.acquire().await else { return Verdict::Busy };
        // Somebody else may have asked the same while this one waited.
        if self.known.borrow_mut().has(&sum) {
            return right();
        }
        let (hash, known) = (hash.to_owned(), found.is_some());
        let checked = tokio::task::spawn_blocking(move || matches(&password, &hash)).await;
        if !known || !checked.unwrap_or(false) {
            return Verdict::Wrong;
        }
        self.known.borrow_mut().keep(sum);
        right()
    }

    /// The lengths keep one part from passing for another's.
    fn sum(&self, hash: &str, user: &[u8], password: &[u8]) -> [u8; 32] {
        let mut context = hmac::Context::with_key(&self.key);
        for part in [hash.as_bytes(), user, password] {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
        let mut sum = [0; 32];
        sum.copy_from_slice(context.sign().as_ref());
        sum
    }
}

/// One of those who wait; given back when dropped.
struct Place<'a>(&'a Cell<usize>);

impl<'a> Place<'a> {
    fn take(waiting: &'a Cell<usize>) -> Option<Self> {
        (waiting.get() < WAITING).then(|| waiting.set(waiting.get() + 1))?;
        Some(Self(waiting))
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

impl Known {
    fn has(&mut self, sum: &[u8; 32]) -> bool {
        if self.new.contains(sum) {
            return true;
        }
        let old = self.old.remove(sum);
        if old {
            self.keep(*sum);
        }
        old
    }

    fn keep(&mut self, sum: [u8; 32]) {
        if self.new.len() >= KEPT {
            self.old = std::mem::take(&mut self.new);
        }
        self.new.insert(sum);
    }
}

/// Name and password of `Basic …` (RFC 7617).
fn basic(authorization: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let (scheme, rest) = authorization.split_at_checked(6)?;
    if !scheme.eq_ignore_ascii_case(b"basic ") {
        return None;
    }
    let mut user = STANDARD.decode(rest.trim_ascii()).ok()?;
    let colon = memchr::memchr(b':', &user)?;
    let password = user.split_off(colon + 1);
    user.pop();
    // The name goes into logs and headers.
    let plain = std::str::from_utf8(&user).is_ok_and(|name| !name.chars().any(char::is_control));
    plain.then_some((user, password))
}

/// Whether a password has this hash: bcrypt, or SHA-256 or SHA-512 of crypt. Slow. Both compare in constant time.
fn matches(password: &[u8], hash: &str) -> bool {
    if hash.starts_with("$2") {
        return bcrypt::verify(password, hash).unwrap_or(false);
    }
    let Ok(hash) = sha_crypt::PasswordHash::new(hash) else { return false };
    sha_crypt::PasswordVerifier::verify_password(&sha_crypt::ShaCrypt::default(), password, &hash).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Hashes of other programs: `htpasswd -B`, `openssl passwd -6`, `crypt(3)`.
    const HASHES: [(&str, &str); 4] = [
        ("secret", "$2y$04$KkRq6US2v7tK3P8sfuHbdu/G/EdnAzu9TQPkLQyXEHNnVuIgWV.ja"),
        (
            "secret",
            "$6$labb1TGkFXq/UTLC$l.TWGSKMhCTCpcLqYLX49GCUuT4jJkJC/rScJnnNElDAzdgp4pCTrP43Q/7bWWHEDpVxLpasbOAEr5y2PL28M0",
        ),
        ("secret", "$5$rounds=10000$saltstring$Xu/H4oie/4H3iXm4Vw/vuJU.61Dbtiq.KxS0W5DDch3"),
        (
            "Hello world!",
            "$6$saltstring$svn8UoSVapNtMuq1ukKS4tPQd8iKwSMHWjl/O817G3uBnIFNjnQJuesI68u4OTLiBFdcbYEdFCoEOfaS35inz1",
        ),
    ];

    fn auth(hash: &str) -> Auth {
        Auth { name: "a".into(), realm: "a".into(), users: vec![("ann".into(), hash.into())] }
    }

    fn header(user: &str, password: &str) -> String {
        format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
    }

    async fn ask(passwords: &Passwords, auth: &Auth, user: &str, password: &str) -> Verdict {
        passwords.check(auth, Some(header(user, password).as_bytes())).await
    }

    #[test]
    fn hashes_of_other_programs_are_understood() {
        for (password, hash) in HASHES {
            assert!(matches(password.as_bytes(), hash), "{hash}");
            assert!(!matches(b"wrong", hash), "{hash}");
        }
        assert!(!matches(b"secret", "secret") && !matches(b"x", "$6$x") && !matches(b"x", "$2b$10$short"));
    }

    #[tokio::test]
    async fn a_right_password_is_computed_once_and_a_changed_one_counts_at_once() {
        let passwords = Passwords::new();
        let (old, new) = (auth(HASHES[0].1), auth(HASHES[3].1));
        assert_eq!(ask(&passwords, &old, "ann", "secret").await, Verdict::Right("ann".into()));
        assert_eq!(passwords.known.borrow().new.len(), 1);
        // Nobody can compute now, and what is known is still known.
        passwords.turn.close();
        assert_eq!(ask(&passwords, &old, "ann", "secret").await, Verdict::Right("ann".into()));
        assert_eq!(ask(&passwords, &old, "ann", "Secret").await, Verdict::Busy);
        assert_eq!(ask(&passwords, &new, "ann", "secret").await, Verdict::Busy, "checked against another hash");
    }

    #[tokio::test]
    async fn wrong_passwords_and_unknown_users_are_refused_and_not_remembered() {
        let passwords = Passwords::new();
        let auth = auth(HASHES[0].1);
        for (user, password) in [("ann", "wrong"), ("ann", ""), ("bob", "secret"), ("", ""), ("ann", &"x".repeat(300))]
        {
            assert_eq!(ask(&passwords, &auth, user, password).await, Verdict::Wrong, "{user}");
        }
        for bad in [&b"Basic"[..], b"Basic ", b"Basic ???", b"Bearer YTpi", b"Basic YWI=", b"Basic CgphOmI="] {
            assert_eq!(passwords.check(&auth, Some(bad)).await, Verdict::Wrong);
        }
        assert_eq!(passwords.check(&auth, None).await, Verdict::Wrong);
        assert!(passwords.known.borrow().new.is_empty());
    }

    #[tokio::test]
    async fn those_who_wait_are_bounded() {
        let passwords = Passwords::new();
        let auth = auth(HASHES[0].1);
        let all = (0..WAITING + 1).map(|i| {
            let (passwords, auth) = (&passwords, &auth);
            async move { ask(passwords, auth, "ann", if i == 0 { "secret" } else { "secret " }).await }
        });
        // All ask before the first is done; the last finds no place.
        let held = passwords.turn.acquire().await.unwrap();
        let mut all: Vec<_> = all.map(Box::pin).collect();
        for one in &mut all[..WAITING] {
            assert!(futures_util::poll!(one).is_pending());
        }
        assert_eq!(all.pop().unwrap().await, Verdict::Busy);
        drop(held);
        assert_eq!(all.remove(0).await, Verdict::Right("ann".into()));
    }

    #[test]
    fn what_is_remembered_is_bounded_and_what_is_used_stays() {
        let mut known = Known::default();
        let sum = |n: usize| {
            let mut sum = [0; 32];
            sum[..8].copy_from_slice(&n.to_ne_bytes());
            sum
        };
        known.keep(sum(0));
        for n in 1..10 * KEPT {
            known.keep(sum(n));
            assert!(known.has(&sum(0)), "{n}");
            assert!(known.new.len() + known.old.len() <= 2 * KEPT + 1);
        }
        assert!(!known.has(&sum(1)));
    }
}
