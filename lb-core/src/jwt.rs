//! Claims of bearer tokens (JWT) as stick keys: the signature is checked, or by choice it is not.
//!
//! Whether a token still holds is the application's to say: a client with a token that has just expired is sent to its
//! server, to be refused there. So this looks at no time, no audience and no issuer.
use crate::secret::Secret;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde_json::{Map, Value};
use std::fmt;
use std::hash::{Hash, Hasher};

/// A token longer than this is not looked at.
const LONGEST: usize = 16 * 1024;

/// What tokens are believed by.
pub struct Keys {
    keys: Vec<(DecodingKey, Validation)>,
    /// What the keys were made of.
    made_of: Vec<Secret>,
}

/// Why a text is no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadKey {
    /// A private key: a balancer needs none.
    Private,
    /// A PEM file, of nothing that is known.
    Unknown,
    /// Too short for a shared secret.
    Short,
}

impl Keys {
    /// Tokens are believed as they are.
    pub fn unverified() -> Self {
        Self { keys: Vec::new(), made_of: Vec::new() }
    }

    /// Tokens are believed that one of these keys signed: a PEM text is a public key (RSA, EC, Ed25519), any other the
    /// shared secret of HMAC.
    ///
    /// # Errors
    /// Which one is none, and why.
    pub fn new(texts: Vec<Secret>) -> Result<Self, (usize, BadKey)> {
        let keys: Result<_, _> =
            texts.iter().enumerate().map(|(i, text)| key(text.bytes()).map_err(|why| (i, why))).collect();
        Ok(Self { keys: keys?, made_of: texts })
    }

    /// Whether signatures are checked.
    pub fn verifies(&self) -> bool {
        !self.keys.is_empty()
    }

    /// What the keys were made of.
    pub fn made_of(&self) -> &[Secret] {
        &self.made_of
    }

    /// The claims of a token that is believed.
    fn claims(&self, token: &[u8]) -> Option<Map<String, Value>> {
        if token.len() > LONGEST {
            return None;
        }
        if self.keys.is_empty() {
            return jsonwebtoken::dangerous::insecure_decode_claims(token).ok();
        }
        self.keys.iter().find_map(|(key, rules)| Some(jsonwebtoken::decode(token, key, rules).ok()?.claims))
    }
}

fn key(text: &[u8]) -> Result<(DecodingKey, Validation), BadKey> {
    use Algorithm as A;
    let has = |part: &[u8]| memchr::memmem::find(text, part).is_some();
    if !has(b"-----BEGIN") {
        let secret = DecodingKey::from_secret(text);
        return if text.len() < 16 { Err(BadKey::Short) } else { Ok((secret, rules(&[A::HS256, A::HS384, A::HS512]))) };
    }
    if has(b"PRIVATE KEY") {
        return Err(BadKey::Private);
    }
    let rsa = [A::RS256, A::RS384, A::RS512, A::PS256, A::PS384, A::PS512];
    if let Ok(key) = DecodingKey::from_rsa_pem(text) {
        return Ok((key, rules(&rsa)));
    }
    if let Ok(key) = DecodingKey::from_ec_pem(text) {
        return Ok((key, rules(&[A::ES256, A::ES384])));
    }
    DecodingKey::from_ed_pem(text).map(|key| (key, rules(&[A::EdDSA]))).map_err(|_| BadKey::Unknown)
}

/// What is asked of a token beyond its signature by one of these: nothing, and no clock is read for it.
fn rules(algorithms: &[Algorithm]) -> Validation {
    let mut rules = Validation::new(algorithms[0]);
    rules.algorithms = algorithms.to_vec();
    rules.required_spec_claims.clear();
    rules.validate_exp = false;
    rules.validate_nbf = false;
    rules.validate_aud = false;
    rules
}

/// Two are equal that were made of the same.
impl PartialEq for Keys {
    fn eq(&self, other: &Self) -> bool {
        self.made_of == other.made_of
    }
}

impl Eq for Keys {}

impl Hash for Keys {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.keys.len().hash(state);
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keys({})", self.keys.len())
    }
}

/// The value of a claim in the token that an `Authorization` field brings, as text.
pub fn claim(keys: &Keys, authorization: &[u8], name: &str) -> Option<Vec<u8>> {
    let (scheme, token) = authorization.split_at_checked(7)?;
    if !scheme.eq_ignore_ascii_case(b"bearer ") {
        return None;
    }
    match keys.claims(token.trim_ascii())?.remove(name)? {
        Value::String(text) => Some(text.into_bytes()),
        Value::Number(number) => Some(number.to_string().into_bytes()),
        Value::Bool(flag) => Some(flag.to_string().into_bytes()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

#[cfg(test)]
mod tests;
