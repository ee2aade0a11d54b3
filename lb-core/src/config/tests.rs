//! Whole files in, configurations or mistakes out.
use super::*;
use std::time::Duration;

mod affinity;
mod documents;
mod elsewhere;
mod every_key;
mod files;
mod http2;
mod limits;
mod mistakes;
mod random;
mod rules;
mod spread;
mod tcp;
mod valid;
mod websocket;

fn env(name: &str) -> Option<String> {
    match name {
        "LB_PORT" => Some("8080".into()),
        "LB_WORKERS" => Some("3".into()),
        _ => None,
    }
}

fn read(text: &str) -> Result<Config, Vec<Diagnostic>> {
    load(text, "host1", None, &env)
}

fn lines(diagnostics: &[Diagnostic]) -> String {
    diagnostics.iter().map(|d| format!("{d}\n")).collect()
}

fn valid(text: &str) -> Config {
    read(text).unwrap_or_else(|found| panic!("{}", lines(&found)))
}

const SMALL: &str = r#"[frontend.web]
listen = "127.0.0.1:8080"
backend = "app"
[backend.app]
server = [{ name = "a", addr = "127.0.0.1:9001" }]
"#;
