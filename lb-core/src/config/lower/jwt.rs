//! `[jwt]`, and the keys of `jwt(CLAIM)` expressions
use super::super::reader::{Item, Section};
use super::secret;
use crate::jwt::{BadKey, Keys};
use crate::stick::{Claim, KeyExpr};
use std::sync::Arc;

pub(super) fn keys(section: &Section<'_>) -> Option<Arc<Keys>> {
    let item = section.get("keys");
    let unverified = section.flag("unverified", false);
    match (&item, unverified) {
        (None, true) => return Some(Arc::new(Keys::unverified())),
        (None, false) => {
            let help = "add `keys = [\"${JWT_KEY}\"]`, or `unverified = true` where a client may choose its key";
            section.lacks("`jwt` does not say whose tokens it believes", help);
            return None;
        }
        (Some(item), true) => {
            let help = "remove one of the two";
            item.cx.bad(item.word.clone(), &item.path, "`unverified` believes every token, whatever the keys", help);
            return None;
        }
        (Some(_), false) => {}
    }
    let items = item?.elements();
    let texts: Option<Vec<_>> = items.iter().map(secret::secret).collect();
    let texts = texts?;
    if texts.is_empty() {
        let help = "add a key, or write `unverified = true`";
        section.cx.bad(section.at.clone(), &section.path, "`jwt.keys` is empty: no token would be believed", help);
        return None;
    }
    match Keys::new(texts) {
        Ok(keys) => Some(Arc::new(keys)),
        Err((i, why)) => {
            tell(&items[i], why);
            None
        }
    }
}

/// The text is perhaps a secret: it is not repeated.
fn tell(item: &Item<'_>, why: BadKey) {
    let (message, help) = match why {
        BadKey::Private => {
            ("this is a private key", "give the public one, as `openssl pkey -in key.pem -pubout` prints it")
        }
        BadKey::Unknown => {
            ("this PEM text is no key", "give a public key in PEM, `-----BEGIN PUBLIC KEY-----`: RSA, EC or Ed25519")
        }
        BadKey::Short => ("a shared secret this short can be guessed", "write 16 characters or more"),
    };
    item.bad(message, help);
}

/// Gives a claim its keys, or reports that there are none.
pub(super) fn with_keys(item: &Item<'_>, expr: KeyExpr) -> Option<KeyExpr> {
    let KeyExpr::Jwt(Claim { name, .. }) = expr else { return Some(expr) };
    match item.cx.jwt.borrow().clone() {
        Some(keys) => Some(KeyExpr::Jwt(Claim { name, keys: Some(keys?) })),
        None => {
            let help = "add `[jwt]` with `keys = [\"${JWT_KEY}\"]`, or with `unverified = true`";
            item.cx.missing(item.at(), &item.path, format!("nothing says whose tokens `jwt({name})` believes"), help);
            None
        }
    }
}
