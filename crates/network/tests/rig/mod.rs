//! A host of its own for every test: a fresh network namespace, with a
//! neighbour on its LAN. Nothing here reaches the machine's real links.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses a part")]

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::thread;
use std::time::{Duration, Instant};

use budu_network::{AttachRequest, Attachment, Config, HostPort, Join, PortRequest, Protocol};
use budu_sys::netlink::{Batch, Route, Veth};
use budu_sys::netns;

/// The host's address on the LAN.
pub const HOST: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
/// The neighbour's address on the LAN.
pub const PEER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
/// The same over IPv6, once a test called [`Host::speak_ipv6`].
pub const HOST6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
pub const PEER6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2);
/// How long a refused or dropped connection may take to show.
const PATIENCE: Duration = Duration::from_millis(400);
/// The same over IPv6. The kernel joins the groups in which an address is asked
/// for a moment after it has it; a question lost until then costs a second.
const PATIENCE6: Duration = Duration::from_millis(1600);

/// Runs a test on a thread whose network namespace is a fresh host. Reports a
/// skip where namespaces cannot be made.
pub fn on_host(test: impl FnOnce(Host) + Send + 'static) {
    let run = move || {
        if let Err(error) = netns::unshare() {
            println!("skipped: cannot make a network namespace: {error}");
            return;
        }
        test(Host::new());
    };
    // Not the harness' thread: it may run other tests later.
    if let Err(panic) = thread::spawn(run).join() {
        std::panic::resume_unwind(panic);
    }
}

pub struct Host {
    /// The neighbour's namespace.
    pub peer: OwnedFd,
}

impl Host {
    fn new() -> Host {
        let mut route = Route::open().unwrap();
        let (peer, mut inside) = netns::create(Route::open).unwrap();
        // A veth pair must join a bridge here: the LAN is one.
        let mut batch = Batch::new();
        batch.add_bridge("lan0", [2, 0, 0, 0, 0, 1], 1500);
        batch.set_up(1);
        route.apply(batch).unwrap();
        let lan = route.link("lan0").unwrap().unwrap().index;
        let mut batch = Batch::new();
        batch.add_address(lan, HOST, 24);
        batch.set_up(lan);
        batch.add_veth(&Veth {
            name: "lanport",
            master: lan,
            mtu: 1500,
            peer_name: "eth0",
            peer_hardware: [2, 0, 0, 0, 0, 2],
            peer_netns: peer.as_fd(),
        });
        batch.set_port_up("lanport");
        route.apply(batch).unwrap();
        let eth0 = inside.link("eth0").unwrap().unwrap().index;
        let mut batch = Batch::new();
        batch.set_up(1);
        batch.add_address(eth0, PEER, 24);
        batch.set_up(eth0);
        inside.apply(batch).unwrap();
        for name in ["lanport", "lan0"] {
            while !route.link(name).unwrap().unwrap().running {
                thread::yield_now();
            }
        }
        Host { peer }
    }

    /// Gives host and neighbour IPv6 addresses. The neighbour would send
    /// everything through the host.
    pub fn speak_ipv6(&self) {
        let address = |link: &str, ip: Ipv6Addr, gateway: Option<Ipv6Addr>| {
            netns::write_sysctl(&format!("net.ipv6.conf.{link}.disable_ipv6"), "0").unwrap();
            let mut route = Route::open().unwrap();
            let index = route.link(link).unwrap().unwrap().index;
            let mut batch = Batch::new();
            batch.add_address6(index, ip, 64);
            if let Some(gateway) = gateway {
                batch.add_default_route6(gateway);
            }
            route.apply(batch).unwrap();
        };
        address("lan0", HOST6, None);
        netns::inside(self.peer.as_fd(), || {
            address("eth0", PEER6, Some(HOST6));
            // From now on no question is lost (see `PATIENCE6`).
            let discard = SocketAddr::from((HOST6, 9));
            let refused = |error: io::Error| error.kind() == io::ErrorKind::ConnectionRefused;
            while !TcpStream::connect_timeout(&discard, PATIENCE).is_err_and(refused) {}
        })
        .unwrap();
    }

    /// Lets the neighbour route a network through the host.
    pub fn peer_routes(&self, network: Ipv4Addr, prefix: u8) {
        netns::inside(self.peer.as_fd(), || {
            let mut batch = Batch::new();
            batch.add_route(Some((network, prefix)), HOST);
            Route::open().unwrap().apply(batch).unwrap();
        })
        .unwrap();
    }
}

/// Settings of a test daemon.
pub fn config() -> Config {
    Config { warm: 0, ..Config::default() }
}

pub fn request(container: &str, ports: &[PortRequest]) -> AttachRequest {
    AttachRequest {
        container: container.into(),
        name: format!("name-{container}"),
        joins: vec![join("bridge")],
        ports: ports.to_vec(),
        ..AttachRequest::default()
    }
}

/// A container with one network and no ports.
pub fn joining(join: Join, container: &str) -> AttachRequest {
    AttachRequest { joins: vec![join], ..request(container, &[]) }
}

/// The wish to be in a network, nothing more.
pub fn join(network: &str) -> Join {
    Join { network: network.into(), ..Join::default() }
}

pub fn port(host_ip: Option<Ipv4Addr>, host: u16, container: u16, protocol: Protocol) -> PortRequest {
    PortRequest {
        host_ip: host_ip.map(Into::into),
        host_port: HostPort::Fixed(host),
        container_port: container,
        protocol,
    }
}

pub fn netns_of(attachment: &Attachment) -> BorrowedFd<'_> {
    attachment.netns.as_ref().unwrap().as_fd()
}

/// Starts a TCP server inside a namespace: it answers each connection with the
/// client's address, for as long as the test process lives.
pub fn serve_tcp(netns: BorrowedFd<'_>, port: u16) {
    let listener = netns::inside(netns, || TcpListener::bind(("0.0.0.0", port))).unwrap().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let Ok(client) = stream.peer_addr() else { continue };
            let _ = stream.write_all(client.ip().to_string().as_bytes());
        }
    });
}

/// Asks a server of both versions of IP that answers with the client's address.
pub fn ask_any(from: Option<BorrowedFd<'_>>, to: (IpAddr, u16)) -> io::Result<IpAddr> {
    let ask = move || {
        let mut stream = TcpStream::connect_timeout(&SocketAddr::from(to), PATIENCE6)?;
        stream.set_read_timeout(Some(PATIENCE6))?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        text.parse::<IpAddr>().map(|ip| ip.to_canonical()).map_err(io::Error::other)
    };
    match from {
        Some(netns) => netns::inside(netns, ask)?,
        None => ask(),
    }
}

/// Starts a TCP server for both versions of IP, like [`serve_tcp`].
pub fn serve_any(netns: BorrowedFd<'_>, port: u16) {
    let listener = netns::inside(netns, || TcpListener::bind(("::", port))).unwrap().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let Ok(client) = stream.peer_addr() else { continue };
            let _ = stream.write_all(client.ip().to_string().as_bytes());
        }
    });
}

/// Starts a UDP server inside a namespace: it answers with the client's address.
pub fn serve_udp(netns: BorrowedFd<'_>, port: u16) {
    let socket = netns::inside(netns, || UdpSocket::bind(("0.0.0.0", port))).unwrap().unwrap();
    thread::spawn(move || {
        let mut buffer = [0; 64];
        while let Ok((_, client)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(client.ip().to_string().as_bytes(), client);
        }
    });
}

/// Asks a TCP server; `from` is a namespace, or the test's own host.
pub fn ask_tcp(from: Option<BorrowedFd<'_>>, to: (Ipv4Addr, u16)) -> io::Result<Ipv4Addr> {
    let ask = move || {
        let mut stream = TcpStream::connect_timeout(&SocketAddr::from(to), PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        text.parse().map_err(io::Error::other)
    };
    match from {
        Some(netns) => netns::inside(netns, ask)?,
        None => ask(),
    }
}

/// Asks a UDP server from a connected socket, so that an answer from another
/// address counts as none.
pub fn ask_udp(from: Option<BorrowedFd<'_>>, to: (Ipv4Addr, u16)) -> io::Result<Ipv4Addr> {
    let ask = move || {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.connect(SocketAddr::from(to))?;
        socket.send(b"?")?;
        let mut buffer = [0; 64];
        let length = socket.recv(&mut buffer)?;
        String::from_utf8_lossy(&buffer[..length]).parse().map_err(io::Error::other)
    };
    match from {
        Some(netns) => netns::inside(netns, ask)?,
        None => ask(),
    }
}

/// What a test must leave as it found it: links, addresses, firewall.
#[derive(Debug, PartialEq, Eq)]
pub struct Census {
    links: Vec<(String, Option<u32>)>,
    addresses: Vec<(Ipv4Addr, u8)>,
    ruleset: Option<String>,
}

pub fn census() -> Census {
    let mut route = Route::open().unwrap();
    let mut links: Vec<_> = route.links().unwrap().into_iter().map(|link| (link.name, link.master)).collect();
    links.sort();
    let mut addresses: Vec<_> = route.addresses().unwrap().iter().map(|a| (a.ip, a.prefix)).collect();
    addresses.sort();
    Census { links, addresses, ruleset: nft(&["-s", "list", "ruleset"]) }
}

/// Waits until the census equals `expected`: the kernel deletes a namespace
/// and its links some time after the last reference.
pub fn wait_for_census(expected: &Census) {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let now = census();
        if now == *expected {
            return;
        }
        assert!(Instant::now() < deadline, "left behind: {now:#?}\nexpected: {expected:#?}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// Output of the `nft` program in the calling thread's namespace, as an
/// oracle; `None` if the machine has none.
pub fn nft(arguments: &[&str]) -> Option<String> {
    let output = match std::process::Command::new("nft").args(arguments).output() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        output => output.unwrap(),
    };
    assert!(output.status.success(), "nft: {}", String::from_utf8_lossy(&output.stderr));
    Some(String::from_utf8(output.stdout).unwrap())
}

/// The IPv6 address a container got in its first network.
pub fn ip6_of(attachment: &Attachment) -> Ipv6Addr {
    attachment.sandbox.endpoints[0].ip6.unwrap()
}

/// The address a container got in its first network.
pub fn ip_of(attachment: &Attachment) -> Ipv4Addr {
    attachment.sandbox.endpoints[0].ip.unwrap()
}
