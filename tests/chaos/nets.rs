//! Three instances, each in a network namespace of its own; packets between them are lost, refused, held up one way.
//! Clients and servers have a network to every instance that stays well.
use crate::{CLIENTS, Servers, agree, nobody_moved};
use lb_tests::crowd::{Pins, newcomers};
use lb_tests::{Crowd, Host, Instance, eventually};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::fs::File;
use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Where clients and servers are.
const HUB: Ipv4Addr = Ipv4Addr::new(10, 213, 0, 254);
/// The instances.
const ALL: [u8; 3] = [1, 2, 3];

fn address(instance: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 213, 0, instance)
}

/// Namespaces around a bridge in one more, the hub: nothing of them shows outside.
struct Nets(String);

impl Nets {
    fn new() -> Self {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let name = format!("lb-{}-{}", std::process::id(), MADE.fetch_add(1, Ordering::Relaxed));
        let nets = Self(name);
        nets.add("hub");
        let hub = nets.name("hub");
        ip(&["-n", &hub, "link", "add", "bridge", "type", "bridge"]);
        ip(&["-n", &hub, "addr", "add", &format!("{HUB}/24"), "dev", "bridge"]);
        ip(&["-n", &hub, "link", "set", "bridge", "up"]);
        for instance in ALL {
            let (own, port) = (nets.add(&instance.to_string()), format!("to{instance}"));
            ip(&["-n", &hub, "link", "add", &port, "type", "veth", "peer", "name", "net", "netns", &own]);
            ip(&["-n", &hub, "link", "set", &port, "master", "bridge", "up"]);
            ip(&["-n", &own, "addr", "add", &format!("{}/24", address(instance)), "dev", "net"]);
            ip(&["-n", &own, "link", "set", "net", "up"]);
        }
        nets
    }

    fn name(&self, of: &str) -> String {
        format!("{}-{of}", self.0)
    }

    fn add(&self, of: &str) -> String {
        let name = self.name(of);
        ip(&["netns", "add", &name]);
        ip(&["-n", &name, "link", "set", "lo", "up"]);
        name
    }

    fn hosts(&self) -> [Host; 3] {
        ALL.map(|i| Host { ip: address(i), namespace: Some(self.name(&i.to_string())), ..Host::default() })
    }

    /// What becomes of packets that come to an instance from another.
    fn rule(&self, at: u8, from: u8, verdict: &str) {
        let chain = "add table ip chaos; add chain ip chaos in { type filter hook input priority 0; }";
        let rule = format!("{chain}; add rule ip chaos in ip saddr {} meta l4proto tcp {verdict}", address(from));
        run(Command::new("ip").args(["netns", "exec", &self.name(&at.to_string()), "nft", &rule]));
    }

    /// The same for all that the instances say to each other.
    fn everywhere(&self, verdict: &str) {
        for at in ALL {
            ALL.into_iter().filter(|from| *from != at).for_each(|from| self.rule(at, from, verdict));
        }
    }

    fn heal(&self) {
        for instance in ALL {
            let name = self.name(&instance.to_string());
            run(Command::new("ip").args(["netns", "exec", &name, "nft", "flush ruleset"]));
        }
    }
}

impl Drop for Nets {
    fn drop(&mut self) {
        for of in ["1", "2", "3", "hub"] {
            drop(Command::new("ip").args(["netns", "del", &self.name(of)]).output());
        }
    }
}

fn ip(args: &[&str]) {
    run(Command::new("ip").args(args));
}

fn run(command: &mut Command) {
    let output = command.output().expect("ip and nft, which tests/run installs");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

struct Story<'a> {
    nets: &'a Nets,
    _servers: Servers,
    cluster: Vec<Instance>,
    /// Clients from before the trouble.
    old: Pins,
    crowd: Crowd,
}

impl Story<'_> {
    fn newcomers(&self, name: &str) -> Pins {
        let at = |(i, lb): (usize, &Instance)| newcomers(lb, &format!("{name}{i}-"), CLIENTS / 3);
        self.cluster.iter().enumerate().flat_map(at).collect()
    }

    /// Soon after the healing all tables are equal, and no client was moved at any time.
    fn heal(self, new: Pins) {
        self.nets.heal();
        agree(&self.cluster, self.old.len() + new.len());
        nobody_moved(&self.cluster, &[self.old, new].concat());
        assert_eq!(self.crowd.complaints(), [""; 0]);
    }
}

/// Tells a story in namespaces that are there for it.
fn told(story: impl FnOnce(Story<'_>) + Send) {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root can make network namespaces");
        return;
    }
    let nets = Nets::new();
    let told = std::thread::scope(|scope| {
        let teller = scope.spawn(|| {
            // This thread, and all threads and processes that it begins: clients and servers are at the hub.
            let hub = File::open(format!("/run/netns/{}", nets.name("hub"))).expect("the hub");
            move_into_link_name_space(hub.as_fd(), Some(LinkNameSpaceType::Network)).expect("it can be entered");
            let servers = Servers::at(HUB);
            let cluster = Instance::cluster_on(&nets.hosts(), &servers.config());
            let old = newcomers(&cluster[0], "old", CLIENTS);
            agree(&cluster, CLIENTS);
            let crowd = Crowd::of(&old, &cluster.iter().collect::<Vec<_>>());
            story(Story { nets: &nets, _servers: servers, cluster, old, crowd });
        });
        teller.join()
    });
    if let Err(panic) = told {
        std::panic::resume_unwind(panic);
    }
}

#[test]
fn an_instance_that_is_cut_off_keeps_its_clients_and_catches_up() {
    told(|story| {
        for other in [1, 2] {
            story.nets.rule(3, other, "drop");
            story.nets.rule(other, 3, "drop");
        }
        eventually("it notices", || story.cluster[2].peers_up() == 0);
        eventually("the others notice", || story.cluster[..2].iter().all(|lb| lb.peers_up() == 1));
        let new = story.newcomers("cut");
        story.heal(new);
    });
}

#[test]
fn an_instance_that_speaks_and_does_not_hear_keeps_its_clients_and_catches_up() {
    told(|story| {
        story.nets.rule(3, 1, "drop");
        story.nets.rule(3, 2, "drop");
        eventually("it notices", || story.cluster[2].peers_up() == 0);
        let new = story.newcomers("deaf");
        story.heal(new);
    });
}

#[test]
fn a_network_that_loses_one_packet_in_twenty_loses_no_pin() {
    told(|story| {
        story.nets.everywhere("numgen random mod 100 < 5 drop");
        let new = story.newcomers("lossy");
        // While it loses.
        agree(&story.cluster, story.old.len() + new.len());
        nobody_moved(&story.cluster, &new);
        story.heal(new);
    });
}

#[test]
fn a_firewall_that_resets_links_again_and_again_loses_no_pin() {
    told(|story| {
        let (mut new, until) = (Pins::new(), Instant::now() + Duration::from_secs(6));
        for round in 0.. {
            story.nets.everywhere("reject with tcp reset");
            eventually("the links break", || story.cluster.iter().all(|lb| lb.peers_up() == 0));
            new.extend(story.newcomers(&format!("reset{round}-")));
            story.nets.heal();
            eventually("a link is back", || story.cluster.iter().any(|lb| lb.peers_up() > 0));
            if Instant::now() > until {
                break;
            }
        }
        story.heal(new);
    });
}
