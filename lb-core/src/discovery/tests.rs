use super::*;
use crate::config::load;
use proptest::prelude::*;

fn config(lines: &str) -> Config {
    let text = format!(
        "[frontend.web]\nlisten = \"127.0.0.1:80\"\nbackend = \"app\"\n[backend.app]\nresolver = \"127.0.0.1:53\"\n{lines}\n"
    );
    load(&text, "host1", None, &|_| None).unwrap_or_else(|found| panic!("{found:?}"))
}

fn template(rest: &str) -> Config {
    config(&format!("server_template = {{ name = \"node\", addr = \"dns:app.test:80\"{rest} }}"))
}

fn service(rest: &str) -> Config {
    config(&format!("server_template = {{ name = \"node\", addr = \"srv:_http._tcp.app.test\"{rest} }}"))
}

fn at(second: u64) -> Timestamp {
    Timestamp(second * 1000)
}

fn a(last: u8) -> Record {
    Record { host: "app.test".into(), addr: ([10, 0, 0, last], 80).into(), priority: 0, weight: 0 }
}

fn srv(host: &str, last: u8, weight: u16) -> Record {
    Record { host: host.into(), weight, ..a(last) }
}

fn learn(known: &mut Known, config: &Config, records: &[Record], second: u64) {
    let sources: Vec<_> = sources(config).into_iter().collect();
    let [source] = sources.as_slice() else { panic!("{sources:?}") };
    known.learn(config, source, records.to_vec(), at(second));
}

fn servers(known: &Known, config: &Config) -> Vec<(String, String, u32)> {
    let effective = known.effective(config);
    effective.backends[0].servers.iter().map(|s| (s.name.clone(), s.addr.to_string(), s.weight)).collect()
}

fn names(known: &Known, config: &Config) -> Vec<String> {
    servers(known, config).into_iter().map(|(name, ..)| name).collect()
}

#[test]
fn each_address_is_a_server_whatever_the_order_of_the_answers() {
    let (config, mut known) = (template(", weight = 3"), Known::default());
    assert!(servers(&known, &config).is_empty(), "nothing is known yet");
    learn(&mut known, &config, &[a(2), a(1)], 0);
    let first = servers(&known, &config);
    assert_eq!(
        first,
        [("node-10.0.0.1:80".into(), "10.0.0.1:80".into(), 3), ("node-10.0.0.2:80".into(), "10.0.0.2:80".into(), 3)]
    );
    learn(&mut known, &config, &[a(1), a(2)], 1);
    assert_eq!(servers(&known, &config), first);
    learn(&mut known, &config, &[], 2);
    assert_eq!(servers(&known, &config), first, "an empty answer takes nobody away");
}

#[test]
fn one_that_vanishes_is_held_then_drains_then_is_forgotten_when_it_is_empty() {
    let (config, mut known) = (template(", hold = \"10s\""), Known::default());
    learn(&mut known, &config, &[a(1), a(2)], 0);
    learn(&mut known, &config, &[a(1)], 5);
    known.tidy(&config, at(14), |_, _| true);
    assert!(!known.is_gone("app", "node-10.0.0.2:80"), "it is held");
    known.tidy(&config, at(15), |_, _| true);
    assert!(known.is_gone("app", "node-10.0.0.2:80") && !known.is_gone("app", "node-10.0.0.1:80"));
    assert_eq!(names(&known, &config).len(), 2, "what is open there is counted");
    learn(&mut known, &config, &[a(1), a(2)], 16);
    assert!(!known.is_gone("app", "node-10.0.0.2:80"), "it is back");
    learn(&mut known, &config, &[a(1)], 20);
    known.tidy(&config, at(40), |backend, server| (backend, server) != ("app", "node-10.0.0.2:80"));
    assert_eq!(names(&known, &config), ["node-10.0.0.1:80"]);
}

#[test]
fn no_more_than_the_slots_and_those_who_are_in_stay() {
    let (config, mut known) = (template(", slots = 2"), Known::default());
    learn(&mut known, &config, &[a(9), a(5), a(7)], 0);
    assert_eq!(names(&known, &config), ["node-10.0.0.5:80", "node-10.0.0.7:80"]);
    assert_eq!(known.counts("app", "node"), (2, 1));
    learn(&mut known, &config, &[a(1), a(5), a(7)], 1);
    assert_eq!(names(&known, &config), ["node-10.0.0.5:80", "node-10.0.0.7:80"]);
    learn(&mut known, &config, &[a(1), a(7)], 2);
    known.tidy(&config, at(2), |_, _| false);
    assert_eq!(names(&known, &config), ["node-10.0.0.1:80", "node-10.0.0.7:80"]);
    assert_eq!(known.counts("app", "node"), (2, 0));
}

#[test]
fn by_name_a_server_stays_the_same_at_another_address() {
    let (config, mut known) = (service(", identity = \"name\""), Known::default());
    learn(&mut known, &config, &[srv("pod1.test", 1, 0), srv("pod2.test", 2, 0)], 0);
    learn(&mut known, &config, &[srv("pod2.test", 9, 0), srv("pod1.test", 1, 0)], 1);
    let expected = [
        ("node-pod1.test:80".to_owned(), "10.0.0.1:80".to_owned(), 1),
        ("node-pod2.test:80".to_owned(), "10.0.0.9:80".to_owned(), 1),
    ];
    assert_eq!(servers(&known, &config), expected);
    // A host with several addresses is one server, and stays where it is.
    learn(&mut known, &config, &[srv("pod2.test", 3, 0), srv("pod2.test", 9, 0), srv("pod1.test", 1, 0)], 2);
    assert_eq!(servers(&known, &config), expected);
}

#[test]
fn weights_and_priorities_of_srv_records_count() {
    let (config, mut known) = (service(", weight = 7"), Known::default());
    let weights = |records: &[Record]| {
        let mut known = Known::default();
        learn(&mut known, &config, records, 0);
        servers(&known, &config).into_iter().map(|(_, _, weight)| weight).collect::<Vec<_>>()
    };
    assert_eq!(weights(&[srv("a", 1, 0), srv("b", 2, 0)]), [7, 7], "none is given");
    assert_eq!(weights(&[srv("a", 1, 10), srv("b", 2, 0), srv("c", 3, 200)]), [10, 1, 200]);
    assert_eq!(weights(&[srv("a", 1, 65_535), srv("b", 2, 1), srv("c", 3, 32_768)]), [256, 1, 129]);
    learn(&mut known, &config, &[srv("a", 1, 1), Record { priority: 20, ..srv("b", 2, 1) }], 0);
    let backups: Vec<_> = known.effective(&config).backends[0].servers.iter().map(|s| s.backup).collect();
    assert_eq!(backups, [false, true]);
}

#[test]
fn a_server_with_a_host_name_is_at_its_last_address() {
    let config = config("server = [{ name = \"n\", addr = \"App.test:80\", cookie = \"c\" }]");
    let mut known = Known::default();
    learn(&mut known, &config, &[a(3), a(2)], 0);
    assert_eq!(servers(&known, &config), [("n".into(), "10.0.0.2:80".into(), 1)]);
    learn(&mut known, &config, &[a(2), a(3)], 1);
    assert_eq!(servers(&known, &config), [("n".into(), "10.0.0.2:80".into(), 1)]);
    learn(&mut known, &config, &[], 2);
    assert_eq!(servers(&known, &config)[0].1, "10.0.0.2:80");
    learn(&mut known, &config, &[a(8)], 3);
    assert_eq!(servers(&known, &config)[0].1, "10.0.0.8:80");
}

#[test]
fn another_configuration_is_taken_on_from_what_is_known() {
    let (before, mut known) = (template(""), Known::default());
    learn(&mut known, &before, &[a(1)], 0);
    let after = template(", weight = 9");
    known.adopt(&after, at(1));
    assert_eq!(servers(&known, &after), [("node-10.0.0.1:80".into(), "10.0.0.1:80".into(), 9)]);
    let other = config("server = [{ name = \"n\", addr = \"10.0.0.1:80\" }]");
    known.adopt(&other, at(2));
    assert!(known.answers.is_empty() && known.places.is_empty(), "nothing is left of the former");
    assert_eq!(known.effective(&other), other);
}

#[test]
fn a_name_too_long_or_of_odd_letters_is_made_fit() {
    let config = service(", identity = \"name\"");
    let template = &config.backends[0].templates[0];
    let long = "x".repeat(200);
    let (one, two) = (name(template, &srv(&format!("{long}1"), 1, 0)), name(template, &srv(&format!("{long}2"), 1, 0)));
    assert!(one.len() <= 128 && one != two);
    assert_eq!(name(template, &srv("a/b c", 1, 0)), "node-a-b-c:80");
}

proptest! {
    #[test]
    fn servers_that_stay_in_the_answers_keep_name_and_address(
        answers in prop::collection::vec(prop::collection::hash_set(0u8..12, 1..8), 1..10),
    ) {
        let (config, mut known) = (template(", slots = 20"), Known::default());
        for (i, answer) in answers.iter().enumerate() {
            let records: Vec<_> = answer.iter().map(|last| a(*last)).collect();
            learn(&mut known, &config, &records, i as u64);
            known.tidy(&config, at(i as u64), |_, _| false);
            let mut expected: Vec<_> = answer.iter().map(|last| format!("node-10.0.0.{last}:80")).collect();
            expected.sort();
            let mut found = names(&known, &config);
            found.sort();
            prop_assert_eq!(found, expected);
        }
    }
}

#[test]
fn a_pin_to_a_server_that_is_gone_is_told_from_one_of_a_backend_that_shares_the_table() {
    use crate::hlc::Clock;
    use crate::id::{Names, NodeId};
    use crate::snapshot::{Base, Snapshot};
    const SERVERS: &str = "server = [{ name = \"one\", addr = \"10.0.0.1:80\" }]\n";
    const STICKY: &str = "sticky = [{ on = \"src\", table = \"pins\" }]\n";
    let other = format!("[backend.other]\n{STICKY}server = [{{ name = \"two\", addr = \"10.0.0.2:80\" }}]\n");
    let found = format!(
        "[backend.found]\nresolver = \"127.0.0.1:53\"\n{STICKY}\
         server_template = {{ name = \"node\", addr = \"dns:app.test:80\" }}\n"
    );
    let alone = other.replace(STICKY, "").replace("other", "alone").replace("two", "three");
    let table = "[table.pins]\ntype = \"ip\"\n";
    let clock = Clock::new(NodeId::new("lb1", 1), std::time::Duration::from_secs(60));
    let base = Base::new(Arc::new(Names::default()), Arc::new(clock), 1, 1);
    let id = |name: &str| base.names.intern(name);
    let build = |lines: &str| Snapshot::build(Arc::new(config(lines)), &base, None);
    let (gone, two, three, made) = (id("gone"), id("two"), id("three"), id("node-10.0.0.9:80"));

    let written = build(&format!("{STICKY}{SERVERS}{table}{other}{found}{alone}"));
    let lost = |pin, written_at, now| written.backends[0].has_lost(pin, at(written_at), at(now));
    assert!(lost(gone, 100, 160), "nobody has it");
    assert!(!lost(gone, 101, 160), "another instance may have been told of it just now");
    assert!(!lost(two, 0, 1000), "it is another backend's");
    assert!(!lost(base.names.moved(two, gone), 0, 1000), "so is a client that was moved there");
    assert!(!lost(made, 0, 1000), "another backend's template may have made it");
    assert!(lost(three, 0, 1000), "that backend pins nobody in this table");

    let template = build(&format!(
        "{STICKY}server_template = {{ name = \"node\", addr = \"dns:app.test:80\" }}\n{table}{other}{found}"
    ));
    let lost = |pin, written_at, now| template.backends[0].has_lost(pin, at(written_at), at(now));
    assert!(lost(made, 100, 160), "its own template made it");
    assert!(!lost(made, 101, 160), "another instance may have found it just now");
    assert!(!lost(two, 0, 1000), "it is another backend's");
}
