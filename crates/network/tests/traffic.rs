//! Who reaches whom, against the real kernel.

#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]

mod rig;

use std::net::Ipv4Addr;
use std::os::fd::AsFd;

use budu_network::{Config, Networks, Protocol};
use rig::*;

const LOOPBACK: Ipv4Addr = Ipv4Addr::LOCALHOST;

#[test]
fn a_container_reaches_outside_behind_the_hosts_address() {
    on_host(|host| {
        let networks = Networks::open(config()).unwrap();
        let container = networks.attach(&request("a", &[])).unwrap();
        serve_tcp(host.peer.as_fd(), 80);
        serve_udp(host.peer.as_fd(), 80);
        // Masqueraded: the peer has no route back to container addresses.
        assert_eq!(ask_tcp(Some(netns_of(&container)), (PEER, 80)).unwrap(), HOST);
        assert_eq!(ask_udp(Some(netns_of(&container)), (PEER, 80)).unwrap(), HOST);
        // And its own loopback works.
        serve_tcp(netns_of(&container), 81);
        assert_eq!(ask_tcp(Some(netns_of(&container)), (LOOPBACK, 81)).unwrap(), LOOPBACK);
    });
}

#[test]
fn a_published_port_answers_from_everywhere() {
    on_host(|host| {
        let networks = Networks::open(config()).unwrap();
        let ports = [port(None, 8080, 80, Protocol::Tcp), port(None, 8080, 81, Protocol::Udp)];
        let server = networks.attach(&request("server", &ports)).unwrap();
        let other = networks.attach(&request("other", &[])).unwrap();
        serve_tcp(netns_of(&server), 80);
        serve_udp(netns_of(&server), 81);
        let gateway = server.sandbox.endpoints[0].gateway.unwrap();
        let server_ip = ip_of(&server);
        let other_ip = ip_of(&other);
        let peer = Some(host.peer.as_fd());
        // (from, to, who the server sees)
        for (what, from, to, seen) in [
            ("LAN peer", peer, HOST, PEER),
            ("host by its address", None, HOST, HOST),
            ("host by 127.0.0.1", None, LOOPBACK, gateway),
            ("host by the gateway", None, gateway, gateway),
            ("another container by the host", Some(netns_of(&other)), HOST, gateway),
            ("another container by the gateway", Some(netns_of(&other)), gateway, gateway),
            ("the same container by the host", Some(netns_of(&server)), HOST, gateway),
            ("the same container by the gateway", Some(netns_of(&server)), gateway, gateway),
        ] {
            assert_eq!(ask_tcp(from, (to, 8080)).expect(what), seen, "tcp from {what}");
            assert_eq!(ask_udp(from, (to, 8080)).expect(what), seen, "udp from {what}");
        }
        // Directly, on the same bridge and from the host, published or not.
        assert_eq!(ask_tcp(Some(netns_of(&other)), (server_ip, 80)).unwrap(), other_ip);
        assert_eq!(ask_tcp(None, (server_ip, 80)).unwrap(), gateway);
    });
}

#[test]
fn nothing_but_published_ports_is_reachable_from_the_lan() {
    // Without masquerade only the forward chain stands in the way.
    for ip_masq in [true, false] {
        on_host(move |host| only_published_ports_are_reachable(ip_masq, &host));
    }
}

fn only_published_ports_are_reachable(ip_masq: bool, host: &Host) {
    let networks = Networks::open(Config { ip_masq, ..config() }).unwrap();
    let ports = [
        port(None, 8080, 80, Protocol::Tcp),
        port(Some(LOOPBACK), 8081, 81, Protocol::Tcp),
        port(Some(LOOPBACK), 8081, 81, Protocol::Udp),
    ];
    let server = networks.attach(&request("server", &ports)).unwrap();
    for inside in [80, 81, 82] {
        serve_tcp(netns_of(&server), inside);
        serve_udp(netns_of(&server), inside);
    }
    let ip = ip_of(&server);
    host.peer_routes(Ipv4Addr::new(172, 17, 0, 0), 16);
    let peer = Some(host.peer.as_fd());
    // A published container port is reachable at the host's address only.
    for inside in [80, 81, 82] {
        ask_tcp(peer, (ip, inside)).expect_err("tcp straight to the container");
        ask_udp(peer, (ip, inside)).expect_err("udp straight to the container");
    }
    ask_tcp(peer, (HOST, 8081)).expect_err("tcp published on loopback");
    ask_udp(peer, (HOST, 8081)).expect_err("udp published on loopback");
    assert_eq!(ask_tcp(None, (LOOPBACK, 8081)).unwrap(), server.sandbox.endpoints[0].gateway.unwrap());
    assert_eq!(ask_tcp(peer, (HOST, 8080)).unwrap(), PEER);
    // Answers to what the container began come in all the same.
    serve_tcp(host.peer.as_fd(), 80);
    let seen = if ip_masq { HOST } else { ip };
    assert_eq!(ask_tcp(Some(netns_of(&server)), (PEER, 80)).unwrap(), seen);
}

#[test]
fn the_hosts_loopback_is_no_ones_but_its_own() {
    on_host(|host| {
        let networks = Networks::open(config()).unwrap();
        let server = networks.attach(&request("server", &[port(Some(LOOPBACK), 8081, 81, Protocol::Tcp)])).unwrap();
        serve_tcp(netns_of(&server), 81);
        let listener = std::net::TcpListener::bind("127.0.0.1:9000").unwrap();
        listener.set_nonblocking(true).unwrap();
        // Neighbour and container route 127.0.0.0/8 through the host.
        let via = [(host.peer.as_fd(), HOST), (netns_of(&server), server.sandbox.endpoints[0].gateway.unwrap())];
        for (netns, gateway) in via {
            budu_sys::netns::inside(netns, || {
                use budu_sys::netlink::{Batch, Route};
                budu_sys::netns::write_sysctl("net.ipv4.conf.all.route_localnet", "1").unwrap();
                let mut route = Route::open().unwrap();
                let mut batch = Batch::new();
                // Without the address the destination is no longer local here.
                batch.delete_address(1, LOOPBACK, 8);
                batch.add_route(Some((Ipv4Addr::new(127, 0, 0, 0), 8)), gateway);
                route.apply(batch).unwrap();
            })
            .unwrap();
            ask_tcp(Some(netns), (LOOPBACK, 8081)).expect_err("published on loopback");
            ask_tcp(Some(netns), (LOOPBACK, 9000)).expect_err("a service of the host");
        }
        assert!(listener.accept().is_err(), "a connection reached the host's loopback");
    });
}

#[test]
fn none_has_only_loopback_and_host_has_no_namespace() {
    on_host(|_| {
        let networks = Networks::open(config()).unwrap();
        let none = joining(join("none"), "n");
        let none = networks.attach(&none).unwrap();
        let links =
            budu_sys::netns::inside(netns_of(&none), || budu_sys::netlink::Route::open().unwrap().links().unwrap())
                .unwrap();
        assert_eq!(links.iter().map(|link| (link.name.as_str(), link.up)).collect::<Vec<_>>(), [("lo", true)]);
        let host = joining(join("host"), "h");
        let host = networks.attach(&host).unwrap();
        assert!(host.netns.is_none() && host.sandbox.endpoints[0].ip.is_none());
        // Neither needed a bridge.
        assert!(budu_sys::netlink::Route::open().unwrap().link("budu0").unwrap().is_none());
    });
}

#[test]
fn a_container_has_low_ports_ping_and_no_ipv6_but_loopback() {
    on_host(|_| {
        let networks = Networks::open(config()).unwrap();
        let mut wish = request("a", &[]);
        wish.sysctls = vec![("net.ipv4.ip_default_ttl".into(), "33".into())];
        let container = networks.attach(&wish).unwrap();
        budu_sys::netns::inside(netns_of(&container), || {
            for (name, value) in [
                ("net.ipv4.ip_unprivileged_port_start", "0"),
                ("net.ipv4.ping_group_range", "0\t2147483647"),
                ("net.ipv6.conf.eth0.disable_ipv6", "1"),
                ("net.ipv4.ip_default_ttl", "33"),
            ] {
                assert_eq!(budu_sys::netns::read_sysctl(name).unwrap(), value, "{name}");
            }
        })
        .unwrap();
        assert_ne!(budu_sys::netns::read_sysctl("net.ipv4.ip_default_ttl").unwrap(), "33");
        wish.container = "b".into();
        for bad in ["kernel.core_pattern", "net.../x", "net.ipv4.no_such"] {
            wish.sysctls = vec![(bad.into(), "1".into())];
            let error = networks.attach(&wish).unwrap_err();
            assert!(matches!(error, budu_network::Error::Sysctl { .. }), "{error}");
        }
        assert!(networks.sandbox("b").is_none());
    });
}

#[test]
fn a_udp_client_that_never_stops_reaches_each_new_container() {
    use std::net::UdpSocket;
    on_host(|host| {
        let networks = Networks::open(config()).unwrap();
        // Someone else's container, so that connections are tracked already.
        let _other = networks.attach(&request("other", &[])).unwrap();
        let peer = host.peer.as_fd();
        let client = budu_sys::netns::inside(peer, || UdpSocket::bind("0.0.0.0:7000")).unwrap().unwrap();
        client.set_read_timeout(Some(std::time::Duration::from_secs(2))).unwrap();
        client.send_to(b"nobody listens", (HOST, 8080)).unwrap();
        for name in ["first", "second"] {
            let server = networks.attach(&request(name, &[port(None, 8080, 80, Protocol::Udp)])).unwrap();
            let socket = budu_sys::netns::inside(netns_of(&server), || UdpSocket::bind("0.0.0.0:80")).unwrap().unwrap();
            socket.set_read_timeout(Some(std::time::Duration::from_secs(2))).unwrap();
            client.send_to(name.as_bytes(), (HOST, 8080)).unwrap();
            let mut buffer = [0; 16];
            let (length, from) = socket.recv_from(&mut buffer).expect(name);
            assert_eq!(&buffer[..length], name.as_bytes());
            socket.send_to(b"yes", from).unwrap();
            let (length, from) = client.recv_from(&mut buffer).expect(name);
            assert_eq!((&buffer[..length], from), (&b"yes"[..], (HOST, 8080).into()));
            networks.detach(name).unwrap();
        }
    });
}

#[test]
fn the_first_packet_to_a_new_container_arrives() {
    use std::net::UdpSocket;
    on_host(|_| {
        let networks = Networks::open(config()).unwrap();
        let client = UdpSocket::bind("0.0.0.0:0").unwrap();
        for round in 0..20 {
            let name = round.to_string();
            let server = networks.attach(&request(&name, &[])).unwrap();
            let socket = budu_sys::netns::inside(netns_of(&server), || UdpSocket::bind("0.0.0.0:80")).unwrap().unwrap();
            // Less than the second after which the kernel asks for a neighbour again.
            socket.set_read_timeout(Some(std::time::Duration::from_millis(700))).unwrap();
            client.send_to(name.as_bytes(), (ip_of(&server), 80)).unwrap();
            let mut buffer = [0; 16];
            let length = socket.recv(&mut buffer).expect(&name);
            assert_eq!(&buffer[..length], name.as_bytes());
            networks.detach(&name).unwrap();
        }
    });
}
