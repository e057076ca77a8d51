//! What comes, stays and goes: conflicts, restarts, left-overs.

#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]

mod rig;

use std::collections::HashSet;
use std::net::Ipv4Addr;
use std::os::fd::AsFd;

use budu_network::{Config, Error, HostPort, Join, Mac, Networks, PortRequest, Protocol};
use budu_spec::{Classified, ErrorClass};
use budu_sys::netlink::{Batch, Route};
use rig::*;

fn tcp(host: u16) -> PortRequest {
    port(None, host, 80, Protocol::Tcp)
}

#[test]
fn a_port_in_use_is_refused_and_nothing_is_left() {
    on_host(|_| {
        let networks = Networks::open(config()).unwrap();
        let first = networks.attach(&request("first", &[tcp(8080)])).unwrap();
        let before = census();

        let error = networks.attach(&request("second", &[tcp(8079), tcp(8080)])).unwrap_err();
        let Error::Publish { endpoint_id, .. } = &error else { panic!("{error}") };
        assert_eq!(
            error.to_string(),
            format!(
                "failed to set up container networking: driver failed programming external connectivity on endpoint name-second ({endpoint_id}): Bind for 0.0.0.0:8080 failed: port is already allocated"
            )
        );
        assert_eq!(error.class(), ErrorClass::Internal);

        let _server = std::net::TcpListener::bind("127.0.0.1:8082").unwrap();
        let error = networks.attach(&request("third", &[tcp(8082)])).unwrap_err();
        assert!(
            error.to_string().ends_with("failed to bind host port 0.0.0.0:8082/tcp: address already in use"),
            "{error}"
        );
        let socket = std::net::UdpSocket::bind("0.0.0.0:8083").unwrap();
        let udp = port(None, 8083, 80, Protocol::Udp);
        let error = networks.attach(&request("fourth", std::slice::from_ref(&udp))).unwrap_err();
        assert!(error.to_string().ends_with("0.0.0.0:8083/udp: address already in use"), "{error}");
        drop(socket);
        wait_for_census(&before);

        // Nobody else on the host can take a published port, and a port is
        // free again at once after detach.
        std::net::TcpListener::bind("0.0.0.0:8080").unwrap_err();
        networks.detach(&first.sandbox.container).unwrap();
        networks.detach(&first.sandbox.container).unwrap();
        networks.attach(&request("fifth", &[tcp(8080), tcp(8079), udp])).unwrap();
    });
}

#[test]
fn host_ports_are_chosen_from_ranges_or_freely() {
    on_host(|_| {
        let networks = Networks::open(config()).unwrap();
        let wish = |host_port| PortRequest { host_port, ..tcp(0) };
        let range = wish(HostPort::Range(9000, 9001));
        let free = wish(HostPort::Ephemeral);
        let a = networks.attach(&request("a", &[range.clone(), free.clone(), free.clone()])).unwrap();
        let b = networks.attach(&request("b", &[range.clone(), free])).unwrap();
        let ports: Vec<u16> = a.sandbox.ports.iter().chain(&b.sandbox.ports).map(|p| p.host_port).collect();
        assert_eq!((ports[0], ports[3]), (9000, 9001));
        let distinct: HashSet<u16> = ports.iter().copied().collect();
        assert_eq!(distinct.len(), 5);
        assert!(ports[1] >= 32768);
        networks.attach(&request("c", &[range])).unwrap_err();
    });
}

#[test]
fn requested_addresses_are_given_once() {
    on_host(|_| {
        let networks = Networks::open(Config { bip: Some("10.9.0.1/24".parse().unwrap()), ..config() }).unwrap();
        let ip = Ipv4Addr::new(10, 9, 0, 77);
        let mac: Mac = "02:11:22:33:44:55".parse().unwrap();
        let wish = joining(Join { ip: Some(ip), mac: Some(mac), ..join("bridge") }, "a");
        let a = networks.attach(&wish).unwrap();
        let link =
            budu_sys::netns::inside(netns_of(&a), || Route::open().unwrap().link("eth0").unwrap()).unwrap().unwrap();
        assert_eq!(link.hardware, mac.0);
        assert_eq!(ip_of(&a), ip);
        let again = joining(Join { ip: Some(ip), ..join("bridge") }, "b");
        assert!(matches!(networks.attach(&again), Err(Error::AddressInUse { .. })));
        let network = networks.get("bridge").unwrap();
        assert_eq!(network.pools[0].subnet.to_string(), "10.9.0.0/24");
        assert_eq!(network.pools[0].gateway, Some(Ipv4Addr::new(10, 9, 0, 1).into()));
        assert_eq!(network.endpoints, a.sandbox.endpoints);
        assert_eq!(networks.get(&network.id[..12]).unwrap().name, "bridge");
        let error = networks.get("nowhere").unwrap_err();
        assert_eq!((error.to_string().as_str(), error.class()), ("network nowhere not found", ErrorClass::NotFound));
    });
}

#[test]
fn ready_namespaces_serve_and_go() {
    on_host(|_| {
        let before = census();
        let networks =
            Networks::open(Config { warm: 3, bip: Some("10.9.0.1/29".parse().unwrap()), ..Config::default() }).unwrap();
        networks.warm();
        // Six hosts less the gateway; ready ones never starve a container.
        let attached: Vec<_> = (0..5).map(|n| networks.attach(&request(&n.to_string(), &[])).unwrap()).collect();
        let ips: HashSet<_> = attached.iter().map(ip_of).collect();
        assert_eq!(ips.len(), 5);
        assert!(matches!(networks.attach(&request("more", &[])), Err(Error::Exhausted { .. })));
        serve_tcp(netns_of(&attached[0]), 80);
        let to = (ip_of(&attached[0]), 80);
        for other in &attached[1..] {
            assert_eq!(ask_tcp(Some(netns_of(other)), to).unwrap(), ip_of(other));
        }
        networks.detach("3").unwrap();
        let mac: Mac = "02:11:22:33:44:55".parse().unwrap();
        let again = joining(Join { mac: Some(mac), ..join("bridge") }, "again");
        let again = networks.attach(&again).unwrap();
        assert_eq!(ip_of(&again), ip_of(&attached[3]));
        assert_eq!(again.sandbox.endpoints[0].mac, Some(mac));
        for container in ["0", "1", "2", "4", "again"] {
            networks.detach(container).unwrap();
        }
        drop((attached, again));
        networks.shutdown(true).unwrap();
        wait_for_census(&before);
    });
}

#[test]
fn a_killed_daemons_containers_are_taken_over() {
    on_host(|host| {
        let before = census();
        let peer = Some(host.peer.as_fd());
        let old = Networks::open(config()).unwrap();
        let kept = old.attach(&request("kept", &[tcp(8080)])).unwrap();
        let lost = old.attach(&request("lost", &[tcp(8081), port(Some(HOST), 8082, 80, Protocol::Tcp)])).unwrap();
        serve_tcp(netns_of(&kept), 80);
        // A crash: descriptors close, nothing is detached.
        drop(old);
        assert_eq!(ask_tcp(peer, (HOST, 8080)).unwrap(), PEER);

        let text = serde_json::to_string(&kept.sandbox).unwrap();
        let networks = Networks::open(config()).unwrap();
        networks.adopt(&serde_json::from_str(&text).unwrap(), None).unwrap();
        assert_eq!(networks.sandbox("kept").unwrap(), kept.sandbox);
        networks.reclaim().unwrap();
        assert_eq!(ask_tcp(peer, (HOST, 8080)).unwrap(), PEER);
        std::net::TcpListener::bind("0.0.0.0:8080").unwrap_err();
        // The lost one's link is gone though its namespace is not, and so are
        // its elements; the kept one's address is not given again.
        let links = Route::open().unwrap().links().unwrap();
        assert!(links.iter().all(|link| link.name != lost.sandbox.endpoints[0].host_link));
        assert!(links.iter().any(|link| link.name == kept.sandbox.endpoints[0].host_link));
        if let Some(ruleset) = nft(&["list", "ruleset"]) {
            assert!(!ruleset.contains("8081") && !ruleset.contains("8082"), "{ruleset}");
        }
        let fresh = networks.attach(&request("fresh", &[tcp(8081)])).unwrap();
        assert_ne!(ip_of(&fresh), ip_of(&kept));
        assert_eq!(ask_tcp(Some(netns_of(&fresh)), (ip_of(&kept), 80)).unwrap(), ip_of(&fresh));

        networks.detach("kept").unwrap();
        networks.detach("fresh").unwrap();
        ask_tcp(peer, (HOST, 8080)).unwrap_err();
        drop((kept, lost, fresh));
        networks.shutdown(true).unwrap();
        wait_for_census(&before);
    });
}

#[test]
fn a_takeover_interrupts_no_connection() {
    use std::io::{Read, Write};
    on_host(|host| {
        let old = Networks::open(config()).unwrap();
        let kept = old.attach(&request("kept", &[tcp(8080)])).unwrap();
        let listener =
            budu_sys::netns::inside(netns_of(&kept), || std::net::TcpListener::bind("0.0.0.0:80")).unwrap().unwrap();
        let mut client =
            budu_sys::netns::inside(host.peer.as_fd(), || std::net::TcpStream::connect((HOST, 8080))).unwrap().unwrap();
        let (mut server, _) = listener.accept().unwrap();
        let mut exchange = |byte: u8| {
            client.write_all(&[byte]).unwrap();
            let mut got = [0];
            server.read_exact(&mut got).unwrap();
            assert_eq!(got, [byte]);
        };
        exchange(1);
        drop(old);
        // Even when the fixed part is replaced: here, by other settings.
        let networks = Networks::open(Config { ip_masq: false, ..config() }).unwrap();
        networks.adopt(&kept.sandbox, None).unwrap();
        exchange(2);
        networks.reclaim().unwrap();
        exchange(3);
        serve_tcp(netns_of(&kept), 90);
    });
}

#[test]
fn a_flushed_firewall_comes_back() {
    on_host(|_| {
        if nft(&["list", "ruleset"]).is_none() {
            println!("skipped: no nft program to flush with");
            return;
        }
        let networks = Networks::open(config()).unwrap();
        let a = networks.attach(&request("a", &[tcp(8080)])).unwrap();
        serve_tcp(netns_of(&a), 80);
        nft(&["flush", "ruleset"]);
        ask_tcp(None, (HOST, 8080)).unwrap_err();
        // The next change restores everything.
        networks.attach(&request("b", &[tcp(8081)])).unwrap();
        ask_tcp(None, (HOST, 8080)).unwrap();
        nft(&["flush", "ruleset"]);
        networks.detach("b").unwrap();
        ask_tcp(None, (HOST, 8080)).unwrap();
        let mut batch = Batch::new();
        batch.delete_link("budu0");
        Route::open().unwrap().apply(batch).unwrap();
        networks.attach(&request("c", &[])).unwrap();
    });
}

#[test]
fn two_daemons_leave_each_other_alone() {
    on_host(|_| {
        let before = census();
        let one = Networks::open(Config { bridge: "one0".into(), ..config() }).unwrap();
        let two = Networks::open(Config { bridge: "two.0".into(), ..config() }).unwrap();
        let a = one.attach(&request("a", &[tcp(8080)])).unwrap();
        let b = two.attach(&request("b", &[tcp(8081)])).unwrap();
        assert_ne!(a.sandbox.endpoints[0].network_id, b.sandbox.endpoints[0].network_id);
        assert_ne!(a.sandbox.endpoints[0].gateway, b.sandbox.endpoints[0].gateway);
        serve_tcp(netns_of(&a), 80);
        serve_tcp(netns_of(&b), 80);
        // The same port on both is refused by the host itself.
        two.attach(&request("c", &[tcp(8080)])).unwrap_err();
        two.reclaim().unwrap();
        ask_tcp(None, (HOST, 8080)).unwrap();
        ask_tcp(None, (Ipv4Addr::LOCALHOST, 8081)).unwrap();
        // Bridges are isolated, published ports are not.
        ask_tcp(Some(netns_of(&b)), (ip_of(&a), 80)).unwrap_err();
        ask_tcp(Some(netns_of(&b)), (HOST, 8080)).unwrap();
        two.detach("b").unwrap();
        drop(b);
        two.shutdown(true).unwrap();
        ask_tcp(None, (HOST, 8080)).unwrap();
        one.shutdown(true).unwrap();
        assert!(Route::open().unwrap().link("one0").unwrap().is_some(), "removed under a container");
        one.detach("a").unwrap();
        drop(a);
        one.shutdown(true).unwrap();
        wait_for_census(&before);
    });
}

#[test]
fn a_link_outlives_detach_only_for_a_moment() {
    on_host(|_| {
        let networks = Networks::open(config()).unwrap();
        networks.attach(&request("x", &[])).unwrap();
        networks.detach("x").unwrap();
        let idle = {
            let mut census_before = census();
            loop {
                let now = census();
                if now == census_before && !format!("{now:?}").contains("veth") {
                    break now;
                }
                census_before = now;
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
        };
        let held = networks.attach(&request("held", &[])).unwrap();
        networks.detach("held").unwrap();
        // `held` still has the namespace's descriptor.
        wait_for_census(&idle);
        drop(held);
    });
}
