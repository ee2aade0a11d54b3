//! `${VAR}` and `${VAR:-default}` in texts, from an environment that the caller hands in. `$${` is a literal `${`.
use super::reader::Env;

/// Why a text could not be expanded.
pub(super) struct EnvError {
    pub(super) message: String,
    pub(super) help: String,
}

/// The text with its variables replaced. Values are taken as they are: a `${` in them is not looked at again.
pub(super) fn expand(raw: &str, env: Env<'_>) -> Result<String, EnvError> {
    let mut out = String::with_capacity(raw.len());
    let mut rest = raw;
    while let Some(at) = rest.find("${") {
        let (before, from) = rest.split_at(at);
        if let Some(before) = before.strip_suffix('$') {
            out.push_str(before);
            out.push_str("${");
            rest = &from[2..];
            continue;
        }
        out.push_str(before);
        let Some(end) = from.find('}') else {
            return Err(EnvError {
                message: "`${` without its `}`".into(),
                help: "write `${NAME}` for the variable NAME, or `$${` for the characters themselves".into(),
            });
        };
        out.push_str(&variable(&from[2..end], env)?);
        rest = &from[end + 1..];
    }
    out.push_str(rest);
    Ok(out)
}

fn variable(inner: &str, env: Env<'_>) -> Result<String, EnvError> {
    let (name, default) = match inner.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (inner, None),
    };
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    if name.is_empty() || !name.bytes().all(word) || name.as_bytes()[0].is_ascii_digit() {
        return Err(EnvError {
            message: format!("`${{{inner}}}` names no variable"),
            help: "write `${NAME}` or `${NAME:-default}`; a name is letters, digits and `_`".into(),
        });
    }
    // As in the shell: `:-` also stands in for a variable that is set to nothing.
    match (env(name), default) {
        (Some(value), None) => Ok(value),
        (Some(value), Some(_)) if !value.is_empty() => Ok(value),
        (_, Some(default)) => Ok(default.into()),
        (None, None) => Err(EnvError {
            message: format!("the environment variable `{name}` is not set"),
            help: format!("set `{name}`, or give a default: `${{{name}:-…}}`"),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expanded(raw: &str) -> Result<String, String> {
        let env = |name: &str| match name {
            "HOST" => Some("10.0.0.1".to_owned()),
            "EMPTY" => Some(String::new()),
            "ODD" => Some("${HOST}".to_owned()),
            _ => None,
        };
        expand(raw, &env).map_err(|e| e.message)
    }

    #[test]
    fn variables_defaults_and_literal_dollars_expand_as_in_a_shell() {
        for (raw, expected) in [
            ("${HOST}:80", "10.0.0.1:80"),
            ("a${HOST}b${HOST}", "a10.0.0.1b10.0.0.1"),
            ("${NONE:-1.2.3.4}:1", "1.2.3.4:1"),
            ("${EMPTY:-x}${EMPTY}", "x"),
            ("$${HOST} $5 $", "${HOST} $5 $"),
            ("${ODD}", "${HOST}"),
            ("${NONE:-}", ""),
        ] {
            assert_eq!(expanded(raw).as_deref(), Ok(expected), "{raw}");
        }
    }

    #[test]
    fn an_unset_variable_is_named() {
        assert!(expanded("${NONE}").unwrap_err().contains("`NONE` is not set"));
        assert!(expanded("x${HOST").unwrap_err().contains("without its"));
        assert!(expanded("${A B}").unwrap_err().contains("names no variable"));
        assert!(expanded("${}").unwrap_err().contains("names no variable"));
    }
}
