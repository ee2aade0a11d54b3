//! `lb hash-password`: the hash of a password, for `[auth.NAME]`. The password is asked for on the terminal, or is the
//! first line of standard input: never an argument, which everybody on the machine could read.
use crate::output;
use anyhow::{Context, bail};
use std::io::{BufRead, IsTerminal};
use std::process::ExitCode;

/// What bcrypt looks at of a password.
const LONGEST: usize = 72;

/// Runs it.
pub(crate) fn run(cost: u32) -> anyhow::Result<ExitCode> {
    let password = if std::io::stdin().is_terminal() { ask()? } else { first_line(std::io::stdin().lock())? };
    output::line(format_args!("{}", hash(&password, cost)?));
    Ok(ExitCode::SUCCESS)
}

fn ask() -> anyhow::Result<String> {
    let password = rpassword::prompt_password("Password: ").context("cannot read the password")?;
    if rpassword::prompt_password("Once more: ").context("cannot read the password")? != password {
        bail!("the two differ");
    }
    Ok(password)
}

fn first_line(mut input: impl BufRead) -> anyhow::Result<String> {
    let mut line = String::new();
    input.read_line(&mut line).context("cannot read the password from standard input")?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

fn hash(password: &str, cost: u32) -> anyhow::Result<String> {
    if password.is_empty() {
        bail!("the password is empty");
    }
    if password.len() > LONGEST || password.contains('\0') {
        bail!("the password has more than {LONGEST} bytes, or a NUL: bcrypt would look at a part of it only");
    }
    bcrypt::hash(password, cost).context("cannot hash the password")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_is_hashed_and_two_hashes_of_it_differ() {
        let password = first_line(&b"secret \r\nmore"[..]).unwrap();
        assert_eq!(password, "secret ");
        let (one, two) = (hash(&password, 4).unwrap(), hash(&password, 4).unwrap());
        assert!(one != two && one.starts_with("$2b$04$") && bcrypt::verify("secret ", &one).unwrap());
    }

    #[test]
    fn a_password_that_would_be_cut_is_refused() {
        assert!(hash("", 4).is_err() && hash(&"x".repeat(73), 4).is_err() && hash("a\0b", 4).is_err());
    }
}
