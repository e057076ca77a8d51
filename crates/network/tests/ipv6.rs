//! Networks with IPv6.

#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]

mod rig;

use std::net::{IpAddr, Ipv6Addr, TcpListener, UdpSocket};
use std::os::fd::AsFd;
use std::time::Duration;

use budu_network::{
    AttachRequest, Attachment, Config, CreateRequest, Dns, Join, Networks, PoolRequest, PortRequest, Protocol,
};
use budu_sys::netns;
use rig::*;

fn create(networks: &Networks, name: &str, internal: bool, subnet: Option<&str>) {
    let pools = subnet.map(|subnet| PoolRequest { subnet: subnet.into(), ..PoolRequest::default() });
    let (name, pools) = (name.to_owned(), pools.into_iter().collect());
    networks.create(CreateRequest { name, internal, pools, ipv6: Some(true), ..CreateRequest::default() }).unwrap();
}

fn attach(networks: &Networks, container: &str, join: Join, ports: &[PortRequest]) -> Attachment {
    let join = Join { names: vec![container.to_owned()], ..join };
    networks.attach(&AttachRequest { ports: ports.to_vec(), ..joining(join, container) }).unwrap()
}

#[test]
fn both_families_are_addressed_and_apart() {
    on_host(|host| {
        host.speak_ipv6();
        let before = census();
        let networks = Networks::open(config()).unwrap();
        create(&networks, "one", false, None);
        create(&networks, "two", false, Some("fd00:77::/64"));
        create(&networks, "inner", true, None);
        let [a, b] = ["a", "b"].map(|name| attach(&networks, name, join("one"), &[]));
        let wish: Ipv6Addr = "fd00:77::f00d".parse().unwrap();
        let c = attach(&networks, "c", Join { ip6: Some(wish), ..join("two") }, &[]);
        let d = attach(&networks, "d", join("inner"), &[]);
        assert_eq!((ip6_of(&a).octets()[0], ip6_of(&c)), (0xfd, wish));
        assert!(d.sandbox.endpoints[0].gateway6.is_none() && a.sandbox.endpoints[0].gateway6.is_some());
        for attachment in [&a, &b, &c, &d] {
            serve_any(netns_of(attachment), 81);
        }
        let reaches = |from: &Attachment, to: IpAddr| ask_any(Some(netns_of(from)), (to, 81)).ok();
        assert_eq!(reaches(&a, ip6_of(&b).into()), Some(ip6_of(&a).into()));
        for (from, to) in [(&a, &c), (&c, &a), (&a, &d), (&d, &a)] {
            assert_eq!(reaches(from, ip6_of(to).into()), None, "{}", from.sandbox.container);
        }
        // The host reaches all; the neighbour is reached behind the host's address, and reaches nobody.
        assert!(ask_any(None, (ip6_of(&d).into(), 81)).is_ok());
        serve_any(host.peer.as_fd(), 81);
        assert_eq!(reaches(&a, PEER6.into()), Some(HOST6.into()));
        assert_eq!(reaches(&d, PEER6.into()), None);
        assert!(ask_any(Some(host.peer.as_fd()), (ip6_of(&a).into(), 81)).is_err());
        let taken = Join { ip6: Some(wish), ..join("two") };
        assert_eq!(networks.attach(&joining(taken, "e")).unwrap_err().to_string(), "Address already in use");
        for attachment in [&a, &b, &c, &d] {
            networks.detach(&attachment.sandbox.container).unwrap();
        }
        for name in ["one", "two", "inner"] {
            networks.remove(name).unwrap();
        }
        drop((a, b, c, d));
        networks.shutdown(true).unwrap();
        wait_for_census(&before);
    });
}

#[test]
fn a_published_port_answers_over_both_versions_also_under_the_next_daemon() {
    on_host(|host| {
        host.speak_ipv6();
        let dir = tempfile::tempdir().unwrap();
        let config = || Config { state: Some(dir.path().to_owned()), ..config() };
        let networks = Networks::open(config()).unwrap();
        create(&networks, "net", false, None);
        let udp = port(None, 53, 53, Protocol::Udp);
        let a = attach(&networks, "a", join("net"), &[port(None, 8080, 80, Protocol::Tcp), udp]);
        let b = attach(&networks, "b", join("net"), &[]);
        let shown: Vec<String> =
            a.sandbox.ports.iter().map(|port| format!("{} {}", port.host_ip, port.host_port)).collect();
        assert_eq!(shown, ["0.0.0.0 8080", ":: 8080", "0.0.0.0 53", ":: 53"]);
        serve_any(netns_of(&a), 80);
        let answers = || {
            for ip in [IpAddr::from(HOST), HOST6.into()] {
                let peer = if ip.is_ipv4() { IpAddr::from(PEER) } else { PEER6.into() };
                assert_eq!(ask_any(Some(host.peer.as_fd()), (ip, 8080)).unwrap(), peer, "the client's own address");
                assert!(ask_any(None, (ip, 8080)).is_ok(), "from the host");
                for from in [&a, &b] {
                    assert!(ask_any(Some(netns_of(from)), (ip, 8080)).is_ok(), "from inside, maybe itself");
                }
                TcpListener::bind((ip, 8080)).unwrap_err();
            }
            // Not forwarded: refused at once, and clients go on to 127.0.0.1.
            let refused = ask_any(None, (Ipv6Addr::LOCALHOST.into(), 8080)).unwrap_err();
            assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
        };
        answers();
        drop(networks);
        let networks = Networks::open(config()).unwrap();
        for attachment in [&a, &b] {
            networks.adopt(&attachment.sandbox, Some(netns_of(attachment))).unwrap();
        }
        networks.reclaim().unwrap();
        answers();
        networks.detach("a").unwrap();
        assert!(ask_any(Some(host.peer.as_fd()), (HOST6.into(), 8080)).is_err());
        TcpListener::bind("[::]:8080").unwrap();
    });
}

#[test]
fn a_udp_client_over_ipv6_that_never_stops_reaches_each_new_container() {
    on_host(|host| {
        host.speak_ipv6();
        let networks = Networks::open(config()).unwrap();
        create(&networks, "net", false, None);
        let client = netns::inside(host.peer.as_fd(), || UdpSocket::bind("[::]:5000")).unwrap().unwrap();
        client.set_read_timeout(Some(Duration::from_millis(400))).unwrap();
        let mut buffer = [0; 8];
        for name in ["a", "b"] {
            // A packet to a port nobody has published: a flow to the host itself.
            client.send_to(b"?", (HOST6, 53)).unwrap();
            let _ = client.recv_from(&mut buffer);
            let attachment = attach(&networks, name, join("net"), &[port(None, 53, 53, Protocol::Udp)]);
            let server = netns::inside(netns_of(&attachment), || UdpSocket::bind("[::]:53")).unwrap().unwrap();
            let name = name.to_owned();
            let answer = name.clone();
            std::thread::spawn(move || {
                let mut buffer = [0; 8];
                while let Ok((_, client)) = server.recv_from(&mut buffer) {
                    let _ = server.send_to(answer.as_bytes(), client);
                }
            });
            client.send_to(b"?", (HOST6, 53)).unwrap();
            let (length, _) = client.recv_from(&mut buffer).unwrap();
            assert_eq!(&buffer[..length], name.as_bytes());
            networks.detach(&name).unwrap();
        }
    });
}

/// Neighbours remember hardware addresses for half a minute.
#[test]
fn who_takes_an_address_over_is_found_at_once() {
    on_host(|_| {
        let networks = Networks::open(config()).unwrap();
        create(&networks, "net", false, Some("fd00:77::/64"));
        let client = attach(&networks, "client", join("net"), &[]);
        let ip6: Ipv6Addr = "fd00:77::f00d".parse().unwrap();
        for name in ["a", "b"] {
            // Each has an IPv4 address of its own, and with it another hardware address.
            let server = attach(&networks, name, Join { ip6: Some(ip6), ..join("net") }, &[]);
            serve_any(netns_of(&server), 80);
            for from in [Some(netns_of(&client)), None] {
                assert!(ask_any(from, (ip6.into(), 80)).is_ok(), "{name}");
            }
            networks.detach(name).unwrap();
        }
    });
}

#[test]
fn ports_and_the_way_out_come_and_go_with_networks_that_have_ipv6() {
    on_host(|host| {
        host.speak_ipv6();
        let networks = Networks::open(config()).unwrap();
        create(&networks, "six", false, None);
        let wish = PortRequest { host_port: budu_network::HostPort::Ephemeral, ..port(None, 0, 80, Protocol::Tcp) };
        let a = networks.attach(&request("a", &[wish])).unwrap();
        serve_any(netns_of(&a), 80);
        let number = a.sandbox.ports[0].host_port;
        let reached = |ip: IpAddr| ask_any(Some(host.peer.as_fd()), (ip, number)).is_ok();
        assert_eq!((a.sandbox.ports.len(), reached(HOST.into()), reached(HOST6.into())), (1, true, false));
        let connect = || {
            let sandbox = networks.connect("a", netns_of(&a), &join("six"), &Dns::default()).unwrap();
            assert!(sandbox.ports.iter().all(|port| port.host_port == number) && sandbox.ports.len() == 2);
            assert_eq!((reached(HOST.into()), reached(HOST6.into())), (true, true));
        };
        connect();
        serve_any(host.peer.as_fd(), 81);
        assert!(ask_any(Some(netns_of(&a)), (PEER6.into(), 81)).is_ok(), "it has a way out");
        let sandbox = networks.disconnect("a", netns_of(&a), "six").unwrap();
        assert_eq!((sandbox.ports.len(), reached(HOST.into()), reached(HOST6.into())), (1, true, false));
        TcpListener::bind(("::1", number)).unwrap();
        connect();
        // What remains has both.
        networks.disconnect("a", netns_of(&a), "bridge").unwrap();
        assert_eq!((reached(HOST.into()), reached(HOST6.into())), (true, true));
    });
}
