//! HTTP/2: what the file may say of it, and what is said of mistakes.
use super::mistakes::each;
use super::*;
use crate::config::{Http2, Proto};

const PLAIN: &str = "[backend.app]\nproto = \"h2\"\nserver = [{ name = \"a\", addr = \"127.0.0.1:9001\" }]\n";

#[test]
fn listeners_frontends_and_backends_speak_http_2_by_choice() {
    let text = format!(
        "[frontend.web]\nlisten = [\"127.0.0.1:80\", {{ addr = \"127.0.0.1:81\", h2c = true }}]\nbackend = \"app\"\n\
         http2 = {{ max_streams = 250, window = \"1MiB\" }}\n{PLAIN}"
    );
    let config = read(&text).unwrap_or_else(|found| panic!("{}", lines(&found)));
    let frontend = &config.frontends[0];
    assert_eq!(frontend.listen.iter().map(|l| l.h2c).collect::<Vec<_>>(), [false, true]);
    assert_eq!(frontend.http2, Http2 { max_streams: 250, window: 1 << 20 });
    assert_eq!(config.backends[0].proto, Proto::H2);
    assert_eq!(Http2::default(), Http2 { max_streams: 100, window: 65_536 });
}

#[test]
fn mistakes_about_http_2_are_told_with_what_was_meant() {
    let frontend = |more: &str| {
        format!("[frontend.web]\nlisten = [{{ addr = \"127.0.0.1:80\", h2c = true }}]\nbackend = \"app\"\n{more}\n")
    };
    each(&[
        (&frontend("http2 = { ¦max_concurrent_streams = 10 }"), "unknown key", "did you mean `max_streams`?"),
        (&frontend("http2 = { max_streams = ¦0 }"), "max_streams", "1"),
        (&frontend("http2 = { window = ¦\"1KiB\" }"), "from 16_384 to 16_777_216", "window = 65_536"),
        (
            "[frontend.web]\nlisten = [{ addr = \"127.0.0.1:80\", ¦http2 = true }]\nbackend = \"app\"",
            "unknown key",
            "did you mean `h2c`?",
        ),
        (
            "[backend.app]\nproto = ¦\"http2\"\nserver = [{ name = \"a\", addr = \"127.0.0.1:9001\" }]",
            "\"http2\" is no value of `backend.app.proto`",
            "h2",
        ),
        (
            "[backend.app]\n¦grpc = true\nserver = [{ name = \"a\", addr = \"127.0.0.1:9001\" }]",
            "unknown key",
            "did you mean `proto`?",
        ),
    ]);
}
