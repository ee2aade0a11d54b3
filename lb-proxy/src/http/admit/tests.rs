use super::*;
use crate::fixture;
use lb_core::config::{self, Config};
use lb_core::rules::Place;
use std::sync::Arc;

/// A snapshot with one frontend, which trusts 10.0.0.0/8.
fn snapshot(change: impl FnOnce(&mut Rules)) -> Snapshot {
    let mut frontend = fixture::frontend("web", &[]);
    frontend.trusted_proxies = vec!["10.0.0.0/8".parse().unwrap()];
    change(&mut frontend.rules);
    fixture::snapshot(Config { frontends: vec![Arc::<config::Frontend>::new(frontend)], ..fixture::config() })
}

/// Where this redirect sends this request: target and fields.
fn sent(to: Redirect, client: &str, target: &str, fields: &str) -> Result<Option<String>, Reason> {
    let snap = snapshot(|_| ());
    let text = format!("GET {target} HTTP/1.1\r\n{fields}\r\n");
    let request = head::request(text.as_bytes(), 100, Vec::new()).unwrap().unwrap();
    let client = client.parse().unwrap();
    let (frontend, backend, made) = (&snap.frontends[0], None, None);
    let looked = Looked {
        request: &request,
        buf: text.as_bytes(),
        client,
        src: client,
        snap: &snap,
        frontend,
        backend,
        tls: None,
        made,
    };
    Ok(location(&looked, &to)?.map(|to| String::from_utf8(to).unwrap()))
}

fn template(text: &str) -> Template {
    Template::read(text, None).unwrap()
}

fn to(https: Option<bool>, host: Option<&str>, place: Option<Place>) -> Redirect {
    Redirect { https, host: host.map(template), place, status: 302 }
}

const HOST: &str = "Host: a.example:8080\r\n";

#[test]
fn a_redirect_keeps_path_and_query_and_leaves_a_port_behind_with_its_scheme() {
    let https = || to(Some(true), None, None);
    assert_eq!(sent(https(), "192.0.2.1", "/x?y=1", HOST), Ok(Some("https://a.example/x?y=1".into())));
    let other = to(None, Some("b.example:81"), None);
    assert_eq!(sent(other, "192.0.2.1", "/x?y=1", HOST), Ok(Some("http://b.example:81/x?y=1".into())));
    let both = to(Some(true), Some("%{host}:8443"), Some(Place::Whole(template("/new"))));
    assert_eq!(sent(both, "192.0.2.1", "/x?y=1", HOST), Ok(Some("https://a.example:8443/new?y=1".into())));
    let path = to(None, None, Some(Place::Prefix("/old".into(), template("/new"))));
    assert_eq!(sent(path.clone(), "192.0.2.1", "/old/x", HOST), Ok(Some("/new/x".into())));
    assert_eq!(sent(path, "192.0.2.1", "/other", HOST), Ok(None));
}

#[test]
fn nobody_is_sent_where_he_is() {
    assert_eq!(sent(to(Some(false), None, None), "192.0.2.1", "/x", HOST), Ok(None));
    assert_eq!(sent(to(None, Some("A.example:8080"), None), "192.0.2.1", "/x", HOST), Ok(None));
    assert_eq!(sent(to(None, None, Some(Place::Whole(template("/x")))), "192.0.2.1", "/x", HOST), Ok(None));
    // A trusted proxy says how the client came; nobody else does.
    let https = || to(Some(true), None, None);
    let fields = format!("{HOST}X-Forwarded-Proto: https\r\n");
    assert_eq!(sent(https(), "10.0.0.1", "/x", &fields), Ok(None));
    assert!(sent(https(), "192.0.2.1", "/x", &fields).unwrap().is_some());
}

#[test]
fn no_redirect_leads_where_the_client_wanted_it_to() {
    let relative = || to(None, None, Some(Place::Prefix("/old".into(), template("/"))));
    assert_eq!(sent(relative(), "192.0.2.1", "/old//evil.example", HOST), Ok(Some("/evil.example".into())));
    assert_eq!(sent(relative(), "192.0.2.1", "/old/\\evil.example", HOST), Ok(Some("/evil.example".into())));
    let host = to(None, Some("%{header(x-host)}"), None);
    let fields = format!("{HOST}X-Host: evil.example/path\r\n");
    assert_eq!(sent(host.clone(), "192.0.2.1", "/", &fields), Err(Reason::BAD_HOST));
    assert_eq!(sent(host, "192.0.2.1", "/", HOST), Err(Reason::BAD_HOST), "no host at all");
}
