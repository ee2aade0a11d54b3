//! `[auth.NAME]`
use super::super::reader::{Item, Section};
use super::{Unique, page, value};
use crate::rules::Auth;
use std::sync::Arc;

/// Highest cost of a bcrypt hash: each step doubles the time, and this one is a second of a core.
const COST: u32 = 14;
/// Most rounds of a hash of crypt: as long.
const ROUNDS: u32 = 1_000_000;

/// All sections, and the names of those that have mistakes, too.
pub(super) fn auths(root: &Section<'_>) -> (Vec<Arc<Auth>>, Vec<String>) {
    let named = root.get("auth").map_or(Vec::new(), |item| item.named());
    let names = named.iter().map(|(name, ..)| name.clone()).collect();
    let read = |(name, at, section): (String, _, Section<'_>)| {
        let good = value::check_name(section.cx, "auth", &name, &at, &section.path);
        let auth = auth(name, &section)?;
        good.then(|| Arc::new(auth))
    };
    (named.into_iter().filter_map(read).collect(), names)
}

fn auth(name: String, section: &Section<'_>) -> Option<Auth> {
    let mut seen = Unique::default();
    let mut users = Vec::new();
    for (user, item) in section.get("users").map_or(Vec::new(), |item: Item<'_>| item.pairs()) {
        seen.taken(item.cx, &user, &item.word);
        let good = user_name(&user) || {
            item.cx.bad(item.word.clone(), &item.path, format!("{user:?} is no name of a user"), "it holds no colon");
            false
        };
        // The hash is a secret: no message shows it.
        let Some(hash) = item.text() else { continue };
        match checked(&hash) {
            Ok(()) if good => users.push((user, hash)),
            Ok(()) => {}
            Err((message, help)) => item.bad(message, help),
        }
    }
    if let Some(item) = section.get("file") {
        users.extend(file(&item, &mut seen)?);
    }
    if section.get("users").is_none() && section.get("file").is_none() {
        let help = "add `users = { ann = \"…\" }` with what `lb hash-password` prints, or `file`";
        section.lacks(format!("`{}` has no users", section.path), help);
    }
    users.sort();
    let realm = section.get("realm").map_or_else(|| Some(name.clone()), |item| realm(&item));
    Some(Auth { realm: realm?, name, users })
}

fn realm(item: &Item<'_>) -> Option<String> {
    let text = value::header_value(item)?;
    if text.contains(['"', '\\']) {
        item.bad(format!("`{}` cannot hold quotes or backslashes", item.path), item.example());
        return None;
    }
    Some(text)
}

/// Lines `NAME:HASH`, empty ones and those that begin with `#`.
fn file(item: &Item<'_>, seen: &mut Unique) -> Option<Vec<(String, String)>> {
    let (name, bytes) = page::read(item)?;
    let Ok(text) = std::str::from_utf8(&bytes) else {
        item.bad(format!("\"{name}\" is not UTF-8"), "save it as UTF-8");
        return None;
    };
    let mut users = Vec::new();
    let mut good = true;
    let mut bad = |number: usize, message: String, help: String| {
        item.bad(format!("\"{name}\", line {}: {message}", number + 1), help);
        good = false;
    };
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        match line.split_once(':') {
            Some((user, hash)) if user_name(user) => {
                if let Err((message, help)) = checked(hash) {
                    bad(number, message, help);
                } else if seen.taken(item.cx, user, &item.at()).is_some() {
                    bad(number, format!("the user \"{user}\" is there already"), "remove one of the two".into());
                } else {
                    users.push((user.to_owned(), hash.to_owned()));
                }
            }
            _ => bad(number, "this is no user".into(), "write a line NAME:HASH for each".into()),
        }
    }
    good.then_some(users)
}

fn user_name(name: &str) -> bool {
    !name.is_empty() && !name.chars().any(|c| c == ':' || c.is_control())
}

/// Whether a text is a hash that can be checked, and in a reasonable time.
fn checked(hash: &str) -> Result<(), (String, String)> {
    let parts: Vec<&str> = hash.split('$').collect();
    let plain =
        |text: &str, len| text.len() == len && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"./".contains(&b));
    let help = "write what `lb hash-password` prints".to_owned();
    match parts.as_slice() {
        ["", "2a" | "2b" | "2y", cost, rest] if plain(rest, 53) => match cost.parse::<u32>() {
            Ok(cost @ 4..) if cost <= COST => Ok(()),
            Ok(cost) => Err((format!("a cost of {cost} takes too long, or is too cheap"), format!("use 4 to {COST}"))),
            Err(_) => Err(("this is no hash of a password".into(), help)),
        },
        ["", kind @ ("5" | "6"), rest @ ..] => {
            let (rounds, rest) = match rest {
                [rounds, rest @ ..] if rounds.starts_with("rounds=") => (rounds["rounds=".len()..].parse().ok(), rest),
                rest => (Some(5000), rest),
            };
            let len = if *kind == "5" { 43 } else { 86 };
            match (rounds, rest) {
                (Some(1000..=ROUNDS), [salt, sum]) if salt.len() <= 16 && !salt.is_empty() && plain(sum, len) => Ok(()),
                (Some(rounds), [_, _]) if !(1000..=ROUNDS).contains(&rounds) => {
                    Err((format!("{rounds} rounds take too long, or are too few"), format!("use 1000 to {ROUNDS}")))
                }
                _ => Err(("this is no hash of a password".into(), help)),
            }
        }
        ["", "apr1" | "1", ..] => {
            Err(("MD5 hashes of passwords are not taken: they are guessed in no time".into(), help))
        }
        _ if hash.starts_with("{SHA}") => Err(("SHA-1 hashes of passwords are not taken".into(), help)),
        _ => Err(("this is no hash of a password".into(), help)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_that_can_be_checked_in_time_are_taken() {
        let bcrypt = |cost| format!("$2b${cost}${}", "a".repeat(53));
        let sha512 = |rounds: &str| format!("$6${rounds}salt${}", "b".repeat(86));
        for good in
            [bcrypt("10"), bcrypt("04"), sha512(""), sha512("rounds=10000$"), format!("$5$s${}", "c".repeat(43))]
        {
            assert_eq!(checked(&good), Ok(()), "{good}");
        }
        for bad in [
            bcrypt("15"),
            bcrypt("3"),
            bcrypt("x"),
            sha512("rounds=99$"),
            sha512("rounds=99999999$"),
            sha512("rounds=x$"),
            "secret".into(),
            String::new(),
            "$apr1$x$y".into(),
            "{SHA}x".into(),
            "$6$salt$short".into(),
        ] {
            assert!(checked(&bad).is_err(), "{bad}");
        }
    }
}
