//! Names of the join list, and the addresses behind them.
use super::*;

impl Bench {
    /// Answers a look-up.
    pub(super) fn looked_up(&mut self, name: &PeerAddr, addrs: &[&str], ttl: u64) {
        let addrs = addrs.iter().map(|a| a.parse().unwrap()).collect();
        let found = Found { addrs, ttl: Some(Duration::from_secs(ttl)), missing: None };
        self.input(Input::LookedUp { name: name.clone(), result: Ok(found) });
    }

    fn fails(&mut self, name: &PeerAddr) {
        self.input(Input::LookedUp { name: name.clone(), result: Err("no server answers".into()) });
    }

    /// How often a name was looked up since the last time that somebody asked.
    fn look_ups(&mut self) -> usize {
        let before = self.outputs.len();
        self.outputs.retain(|o| !matches!(o, Output::LookUp { .. }));
        before - self.outputs.len()
    }

    /// Addresses that are dialled in the next two seconds; nobody is there.
    fn dialled(&mut self) -> Vec<String> {
        self.nobody_there();
        let mut addrs = std::collections::BTreeSet::new();
        for _ in 0..20 {
            self.pass(Duration::from_millis(100));
            addrs.extend(self.nobody_there());
        }
        addrs.into_iter().collect()
    }

    fn nobody_there(&mut self) -> Vec<String> {
        let mut dials = Vec::new();
        self.outputs.retain(|output| match output {
            Output::Dial { link, addr } => {
                dials.push((*link, *addr));
                false
            }
            _ => true,
        });
        for (link, _) in &dials {
            let (failure, error) = (Failure::NobodyThere, "nobody listens there".into());
            self.input(Input::NotOpened { link: *link, failure, error });
        }
        dials.into_iter().map(|(_, addr)| addr.to_string()).collect()
    }

    /// State and error of the name's row.
    fn row_of(&self, name: &PeerAddr) -> Option<(String, String)> {
        let row = self.status().peers.into_iter().find(|p| p.name == name.to_string())?;
        Some((row.state, row.error.unwrap_or_default()))
    }
}

fn srv() -> PeerAddr {
    PeerAddr::Service("_lb-peers._tcp.shop.internal".into())
}

#[test]
fn addresses_come_and_go_with_the_answers_and_a_link_outlives_its_address() {
    let mut bench = Bench::new(vec![srv()]);
    bench.looked_up(&srv(), &["10.0.0.2:8405", "10.0.0.3:8405"], 5);
    let link = bench.up();
    assert_eq!(bench.dialled(), ["10.0.0.3:8405"], "b is there already");
    bench.receive(link, Frame::Ping { sent: 0 });
    bench.looked_up(&srv(), &["10.0.0.4:8405"], 5);
    assert_eq!(bench.dialled(), ["10.0.0.4:8405"]);
    assert!(bench.replicator.is_up("b"));
}

#[test]
fn a_name_that_is_found_no_more_keeps_its_addresses_and_says_so() {
    let mut bench = Bench::new(vec![srv()]);
    assert_eq!(bench.row_of(&srv()).unwrap().0, "connecting");
    bench.looked_up(&srv(), &["10.0.0.3:8405"], 5);
    assert_eq!(bench.row_of(&srv()), None);
    bench.fails(&srv());
    assert_eq!(bench.row_of(&srv()), Some(("unresolved".into(), "no server answers".into())));
    let shown = bench.status().names.swap_remove(0);
    assert_eq!((shown.name, shown.found, shown.errors), (srv().to_string(), false, 1));
    assert_eq!(bench.dialled(), ["10.0.0.3:8405"]);
    bench.looked_up(&srv(), &["10.0.0.3:8405"], 5);
    assert_eq!(bench.row_of(&srv()), None);
}

#[test]
fn an_answer_with_a_hole_takes_no_address_away() {
    let mut bench = Bench::new(vec![srv()]);
    bench.looked_up(&srv(), &["10.0.0.3:8405"], 5);
    let found = Found { addrs: vec!["10.0.0.4:8405".parse().unwrap()], ttl: None, missing: Some("its host b".into()) };
    bench.input(Input::LookedUp { name: srv(), result: Ok(found) });
    assert_eq!(bench.row_of(&srv()), Some(("unresolved".into(), "its host b".into())));
    assert_eq!(bench.dialled(), ["10.0.0.3:8405", "10.0.0.4:8405"]);
}

#[test]
fn a_name_is_looked_up_again_when_its_time_is_over_within_bounds() {
    for (ttl, within) in [(0, 1), (7, 7), (86_400, 30)] {
        let mut bench = Bench::new(vec![srv()]);
        bench.looked_up(&srv(), &["10.0.0.1:8405"], ttl);
        bench.look_ups();
        bench.pass(Duration::from_millis(within * 1000 - 10));
        assert_eq!(bench.look_ups(), 0, "TTL {ttl}");
        bench.pass(Duration::from_millis(20));
        assert_eq!(bench.look_ups(), 1, "TTL {ttl}");
    }
    let mut bench = Bench::new(vec![srv()]);
    bench.look_ups();
    bench.fails(&srv());
    bench.pass(Duration::from_millis(1001));
    assert_eq!(bench.look_ups(), 1, "after a failure soon");
}
