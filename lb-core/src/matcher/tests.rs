use super::*;
use crate::limit::Op;
use proptest::prelude::*;

/// A request as its parts.
struct Request<'a> {
    host: &'a str,
    path: &'a str,
    query: &'a str,
    method: &'a str,
    headers: &'a [(&'a str, &'a str)],
    cookies: &'a str,
    src: &'a str,
    websocket: bool,
    tls: Option<Tls<'a>>,
    count: Option<u64>,
}

const PLAIN: Request<'_> = Request {
    host: "Shop.Example",
    path: "/ws/room",
    query: "debug&v=2",
    method: "GET",
    headers: &[("x-tenant", "blue")],
    cookies: "a=1; canary=yes",
    src: "10.1.2.3",
    websocket: false,
    tls: None,
    count: Some(7),
};

impl Asked for Request<'_> {
    fn host(&self) -> &[u8] {
        self.host.as_bytes()
    }
    fn plain_path(&self) -> &[u8] {
        self.path.as_bytes()
    }
    fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers.iter().find(|(n, _)| *n == name).map(|(_, v)| v.as_bytes())
    }
    fn websocket(&self) -> bool {
        self.websocket
    }
    fn method(&self) -> &[u8] {
        self.method.as_bytes()
    }
    fn query(&self) -> &[u8] {
        self.query.as_bytes()
    }
    fn cookie(&self, name: &str) -> Option<&[u8]> {
        crate::cookie::find(self.cookies.as_bytes(), name)
    }
    fn src(&self) -> IpAddr {
        self.src.parse().unwrap()
    }
    fn tls(&self) -> Option<Tls<'_>> {
        self.tls
    }
    fn count(&self, _: &KeyExpr, _: &str, _: Counter) -> Option<u64> {
        self.count
    }
}

fn holds(test: Test) -> bool {
    test.holds(&PLAIN)
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(ToString::to_string).collect()
}

fn like(text: &str) -> Pattern {
    Pattern::new(text).unwrap()
}

#[test]
fn a_path_prefix_ends_at_a_segment_border() {
    let matches = |prefix, path: &str| under(prefix, path.as_bytes()).is_some();
    assert!(matches("/ws", "/ws"));
    assert!(matches("/ws", "/ws/room"));
    assert!(!matches("/ws", "/wsx"));
    assert!(matches("/ws/", "/ws/room"));
    assert!(matches("/", "/anything"));
}

#[test]
fn a_host_matches_without_regard_to_case_and_by_wildcard() {
    assert!(host_matches("shop.example", b"Shop.Example"));
    assert!(host_matches("shop.example", b"shop.example."));
    assert!(host_matches("*.example", b"a.b.example"));
    assert!(!host_matches("*.example", b"example"));
    assert!(!host_matches("*.example", b"badexample"));
}

#[test]
fn each_test_holds_for_one_of_its_values_and_for_nothing_else() {
    assert!(holds(Test::Host(words(&["other", "shop.example"]))));
    assert!(!holds(Test::Host(words(&["other"]))));
    assert!(holds(Test::HostRegex(vec![like("^shop\\.[a-z]+$")])));
    assert!(!holds(Test::HostRegex(vec![like("^hop")])));
    assert!(holds(Test::Path(words(&["/", "/ws/room"]))));
    assert!(!holds(Test::Path(words(&["/ws"]))));
    assert!(holds(Test::PathPrefix(words(&["/ws"]))));
    assert!(holds(Test::PathRegex(vec![like("^/x$"), like("/r..m$")])));
    assert!(!holds(Test::PathRegex(vec![like("^/x$")])));
    assert!(holds(Test::Method(words(&["HEAD", "GET"]))));
    assert!(!holds(Test::Method(words(&["get"]))), "methods have a case");
    assert!(holds(Test::Src(vec!["192.0.2.0/24".parse().unwrap(), "10.0.0.0/8".parse().unwrap()])));
    assert!(!holds(Test::Src(vec!["11.0.0.0/8".parse().unwrap()])));
    assert!(holds(Test::Websocket(false)) && !holds(Test::Websocket(true)));
}

#[test]
fn values_of_headers_cookies_and_parameters_are_any_one_or_like() {
    for (value, held) in [
        (Value::Any, true),
        (Value::Is("blue".into()), true),
        (Value::Is("Blue".into()), false),
        (Value::Like(like("^bl")), true),
        (Value::Like(like("^red")), false),
    ] {
        assert_eq!(holds(Test::Header("x-tenant".into(), value.clone())), held, "{value}");
        assert!(!holds(Test::Header("x-other".into(), value)));
    }
    assert!(holds(Test::Cookie("canary".into(), Value::Is("yes".into()))));
    assert!(!holds(Test::Cookie("cana".into(), Value::Any)));
    assert!(holds(Test::Query("debug".into(), Value::Any)), "a parameter without a value is there");
    assert!(holds(Test::Query("v".into(), Value::Is("2".into()))));
    assert!(!holds(Test::Query("de".into(), Value::Any)));
}

#[test]
fn a_plain_connection_has_nothing_of_tls() {
    let names = words(&["ann@example.com"]);
    let tests = |tls| {
        let request = Request { tls, ..PLAIN };
        [
            Test::Tls(true),
            Test::Tls(false),
            Test::Sni(words(&["*.example"])),
            Test::ClientCert(true),
            Test::ClientCert(false),
            Test::ClientName(names.clone()),
        ]
        .map(|test| test.holds(&request))
    };
    assert_eq!(tests(None), [false, true, false, false, true, false]);
    assert_eq!(tests(Some(Tls { sni: Some("A.example"), client: None })), [true, false, true, false, true, false]);
    assert_eq!(tests(Some(Tls { sni: None, client: Some(&names) })), [true, false, false, true, false, true]);
    assert_eq!(tests(Some(Tls { sni: None, client: Some(&[]) })), [true, false, false, true, false, false]);
}

#[test]
fn counts_are_compared_and_a_request_without_the_key_has_none() {
    let test = |number| Test::Count {
        key: KeyExpr::Src,
        table: "clients".into(),
        when: vec![Condition { counter: Counter::ConnCur, op: Op::More, number }],
    };
    assert!(holds(test(6)) && !holds(test(7)));
    assert!(!test(0).holds(&Request { count: None, ..PLAIN }));
}

#[test]
fn all_tests_must_hold_and_not_means_none() {
    let yes = || Matcher(vec![Test::Tls(false)]);
    let no = || Matcher(vec![Test::Tls(true)]);
    let matches = |tests: Vec<Test>| Matcher(tests).matches(&PLAIN);
    assert!(matches(vec![]));
    assert!(matches(vec![Test::Tls(false), Test::Method(words(&["GET"]))]));
    assert!(!matches(vec![Test::Tls(false), Test::Method(words(&["PUT"]))]));
    assert!(!matches(vec![Test::Not(vec![no(), yes()])]));
    assert!(matches(vec![Test::Not(vec![no(), no()])]));
    assert!(matches(vec![Test::Not(vec![Matcher(vec![Test::Not(vec![yes()])])])]));
}

#[test]
fn a_wrong_pattern_says_why_on_one_line_and_no_pattern_is_huge() {
    let why = Pattern::new("^/a(b").expect_err("unclosed");
    assert!(why.contains("unclosed group") && !why.contains('\n'), "{why}");
    assert_eq!(Pattern::new("(a{1000}){1000}").expect_err("huge"), "it is too large");
}

proptest! {
    #[test]
    fn no_query_makes_the_reader_of_parameters_fail(query: Vec<u8>, name: String) {
        if let Some(value) = parameter(&query, &name) {
            prop_assert!(value.len() <= query.len() && !value.contains(&b'&'));
        }
    }
}
