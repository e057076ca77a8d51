//! The default bridge: addresses, names, published ports, the way out.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use anyhow::Result;
use budu_testkit::images::BUSYBOX;
use budu_testkit::suite::Suite;
use budu_testkit::{Cage, Client, HOST, NEIGHBOUR, in_network_of, wait};

use crate::shared::{self, inspect, name, port};

pub(crate) fn tests(suite: &mut Suite) {
    suite.both(address_and_route);
    suite.both(published_tcp_port);
    suite.both(published_udp_port);
    suite.both(port_on_one_address_only);
    suite.both(random_port);
    suite.both(port_range);
    suite.both(port_in_use);
    suite.once(ports_are_free_after_removal);
    suite.once(masquerade);
    suite.once(containers_reach_each_other);
    suite.once(published_port_from_another_container);
    suite.both(names_files);
    suite.once(addresses_are_not_shared);
}

/// A web server that says `word` on port 80.
fn server(client: Client, stem: &str, word: &str, flags: &[&str]) -> String {
    let name = name(stem);
    let script = format!("mkdir /www; echo {word} > /www/index.html; exec httpd -f -p 80 -h /www");
    let run = ["run", "-d", "--init", "--name", &name];
    shared::client(client).ok([&run[..], flags, &[BUSYBOX, "sh", "-c", &script]].concat());
    name
}

/// What an HTTP server at `address` answers, asked from `place`.
pub(crate) fn fetch(place: &Cage, address: &str) -> Result<String> {
    let address: SocketAddr = address.parse()?;
    place.in_network(|| {
        let mut stream = TcpStream::connect_timeout(&address, Duration::from_millis(700))?;
        stream.set_read_timeout(Some(Duration::from_secs(2)))?;
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        anyhow::ensure!(answer.starts_with("HTTP/1."), "{answer:?}");
        Ok(answer.trim_end().rsplit('\n').next().unwrap_or_default().to_owned())
    })?
}

/// A script that fetches from inside a container. (busybox's wget needs libraries that it does not bring.)
fn ask(address: &str, port: u16) -> String {
    format!("printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 3 {address} {port} | tail -n 1")
}

#[track_caller]
pub(crate) fn serves(place: &Cage, address: &str, word: &str) {
    let mut last = String::new();
    let found = wait::until("the server's answer", Duration::from_secs(8), || {
        match fetch(place, address) {
            Ok(answer) if answer == word => return Some(()),
            Ok(answer) => last = answer,
            Err(error) => last = format!("{error:#}"),
        }
        None
    });
    assert!(found.is_ok(), "{address} does not say {word:?}: {last}");
}

fn address_and_route(client: Client) {
    let docker = shared::client(client);
    let script =
        "ip -o -4 addr show eth0; ip route; ip -o link show eth0; ping -c1 -W2 10.88.0.1 >/dev/null && echo pong";
    let seen = docker.ok(["run", "--rm", BUSYBOX, "sh", "-c", script]);
    assert!(seen.contains("inet 10.88.") && seen.contains("/16"), "{seen}");
    assert!(seen.contains("default via 10.88.0.1 dev eth0"), "{seen}");
    assert!(seen.contains("mtu 1500"), "{seen}");
    assert!(seen.ends_with("pong"), "{seen}");
}

fn published_tcp_port(client: Client) {
    let (engine, port) = (shared::engine(), port());
    let name = server(client, "tcp", "hello-tcp", &["-p", &format!("{port}:80")]);
    serves(engine.lan(), &format!("{HOST}:{port}"), "hello-tcp");
    serves(engine.side(), &format!("127.0.0.1:{port}"), "hello-tcp");
    serves(engine.side(), &format!("{HOST}:{port}"), "hello-tcp");
    let docker = engine.client(client);
    let ports = docker.ok(["ps", "--filter", &format!("name={name}"), "--format", "{{.Ports}}"]);
    assert!(ports.contains(&format!("0.0.0.0:{port}->80/tcp")), "{ports}");
    let bindings = &inspect(&engine, &name)["NetworkSettings"]["Ports"]["80/tcp"];
    assert_eq!(bindings[0]["HostPort"], port.to_string());
    docker.ok(["rm", "-f", &name]);
    assert!(fetch(engine.lan(), &format!("{HOST}:{port}")).is_err(), "still answers after rm");
}

fn published_udp_port(client: Client) {
    let (engine, port) = (shared::engine(), port());
    let name = server(client, "udp", "unused", &["-p", &format!("{port}:53/udp")]);
    // busybox has no UDP server: we are the container's.
    let pid = inspect(&engine, &name)["State"]["Pid"].as_u64().expect("it runs");
    let socket = in_network_of(pid, || UdpSocket::bind("0.0.0.0:53")).expect("entered").expect("bound");
    socket.set_read_timeout(Some(Duration::from_secs(10))).expect("set");
    let echo = std::thread::spawn(move || -> Result<()> {
        let mut question = [0; 64];
        let (_, from) = socket.recv_from(&mut question)?;
        socket.send_to(b"hello-udp", from)?;
        Ok(())
    });
    let ask = || -> Result<String> {
        engine.lan().in_network(|| {
            let socket = UdpSocket::bind("0.0.0.0:0")?;
            socket.set_read_timeout(Some(Duration::from_millis(500)))?;
            socket.send_to(b"?", (HOST, port))?;
            let mut answer = [0; 64];
            let (count, from) = socket.recv_from(&mut answer)?;
            anyhow::ensure!(from.to_string() == format!("{HOST}:{port}"), "answered from {from}");
            Ok(String::from_utf8_lossy(&answer[..count]).trim().to_owned())
        })?
    };
    let answer = wait::until("an answer", Duration::from_secs(10), || ask().ok());
    assert_eq!(answer.expect("the port is published"), "hello-udp");
    echo.join().expect("no panic").expect("asked and answered");
    engine.client(client).ok(["rm", "-f", &name]);
}

fn port_on_one_address_only(client: Client) {
    let (engine, port) = (shared::engine(), port());
    let name = server(client, "local", "hello-local", &["-p", &format!("127.0.0.1:{port}:80")]);
    serves(engine.side(), &format!("127.0.0.1:{port}"), "hello-local");
    assert!(fetch(engine.lan(), &format!("{HOST}:{port}")).is_err(), "published to the network");
    engine.client(client).ok(["rm", "-f", &name]);
}

fn random_port(client: Client) {
    let engine = shared::engine();
    let name = server(client, "random", "hello-random", &["-p", "80"]);
    let host = inspect(&engine, &name)["NetworkSettings"]["Ports"]["80/tcp"][0]["HostPort"].clone();
    let host = host.as_str().expect("a port");
    let number: u16 = host.parse().expect("a number");
    assert!(number >= 32768, "{number} is not from the ephemeral range");
    serves(engine.lan(), &format!("{HOST}:{host}"), "hello-random");
    engine.client(client).ok(["rm", "-f", &name]);
}

fn port_range(client: Client) {
    let (engine, first, last) = (shared::engine(), port(), port());
    // Other tests may have taken numbers in between.
    let last = if last == first + 1 { last } else { first };
    let inner = 79 + last - first;
    let name = server(
        client,
        "range",
        "hello-range",
        &["-p", &format!("{first}-{last}:79-{inner}"), "-p", &format!("{}:80", port())],
    );
    let ports = &inspect(&engine, &name)["NetworkSettings"]["Ports"];
    assert_eq!(ports["79/tcp"][0]["HostPort"], first.to_string(), "{ports}");
    engine.client(client).ok(["rm", "-f", &name]);
}

fn port_in_use(client: Client) {
    let (engine, port) = (shared::engine(), port());
    let docker = engine.client(client);
    let publish = format!("{port}:80");
    let first = server(client, "first", "one", &["-p", &publish]);
    let second = name("second");
    docker
        .run(["run", "-d", "--name", &second, "-p", &publish, BUSYBOX, "sleep", "1000"])
        .expect("runs")
        .exits(125)
        .complains("port is already allocated")
        .complains(&port.to_string());
    assert_eq!(inspect(&engine, &second)["State"]["Status"], "created");
    docker.ok(["rm", "-f", &first]);
    docker.ok(["start", &second]);
    docker.ok(["rm", "-f", &second]);
    // A port of a program that is no container.
    let taken = engine.side().in_network(|| TcpListener::bind("0.0.0.0:0")).expect("entered").expect("bound");
    let number = taken.local_addr().expect("bound").port();
    docker
        .run(["run", "--rm", "-p", &format!("{number}:80"), BUSYBOX, "true"])
        .expect("runs")
        .exits(125)
        .complains("address already in use");
}

fn ports_are_free_after_removal() {
    let (engine, port) = (shared::engine(), port());
    let docker = engine.client(Client::Docker);
    for round in 0..3 {
        let word = format!("round-{round}");
        let name = server(Client::Docker, "again", &word, &["-p", &format!("{port}:80")]);
        serves(engine.lan(), &format!("{HOST}:{port}"), &word);
        docker.ok(["rm", "-f", &name]);
    }
}

fn masquerade() {
    let engine = shared::engine();
    let listener = engine.lan().in_network(|| TcpListener::bind("0.0.0.0:7777")).expect("entered").expect("bound");
    let peer = std::thread::spawn(move || listener.accept().map(|(_, from)| from.ip().to_string()));
    let script = format!("nc -w 3 {NEIGHBOUR} 7777 < /dev/null");
    engine.client(Client::Docker).ok(["run", "--rm", BUSYBOX, "sh", "-c", &script]);
    let from = peer.join().expect("no panic").expect("a connection");
    assert_eq!(from, HOST, "a container's address must not leave the machine");
}

fn containers_reach_each_other() {
    let engine = shared::engine();
    let name = server(Client::Docker, "peer", "hello-peer", &[]);
    let ip = inspect(&engine, &name)["NetworkSettings"]["Networks"]["bridge"]["IPAddress"].clone();
    let ip = ip.as_str().expect("an address").to_owned();
    serves(engine.side(), &format!("{ip}:80"), "hello-peer");
    let docker = engine.client(Client::Docker);
    assert_eq!(docker.ok(["run", "--rm", BUSYBOX, "sh", "-c", &ask(&ip, 80)]), "hello-peer");
    docker.ok(["rm", "-f", &name]);
}

fn published_port_from_another_container() {
    let (engine, port) = (shared::engine(), port());
    let name = server(Client::Docker, "hairpin", "hello-hairpin", &["-p", &format!("{port}:80")]);
    serves(engine.side(), &format!("127.0.0.1:{port}"), "hello-hairpin");
    let docker = engine.client(Client::Docker);
    for address in ["10.88.0.1", HOST] {
        let ask = ask(address, port);
        assert_eq!(docker.ok(["run", "--rm", BUSYBOX, "sh", "-c", &ask]), "hello-hairpin", "{address}");
        // From the container itself as well.
        assert_eq!(docker.ok(["exec", &name, "sh", "-c", &ask]), "hello-hairpin", "{address}");
    }
    docker.ok(["rm", "-f", &name]);
}

fn names_files(client: Client) {
    let docker = shared::client(client);
    let flags = ["run", "--rm", "--dns", "192.0.2.53", "--dns-search", "example.test", "--dns-option", "ndots:2"];
    let args = [&flags[..], &["--add-host", "other:192.0.2.7", "--hostname", "me", BUSYBOX]].concat();
    let resolv = docker.ok([&args[..], &["cat", "/etc/resolv.conf"]].concat());
    for line in ["nameserver 192.0.2.53", "search example.test", "options ndots:2"] {
        assert!(resolv.lines().any(|have| have == line), "{line} is not in {resolv}");
    }
    let hosts = docker.ok([&args[..], &["cat", "/etc/hosts"]].concat());
    assert!(hosts.contains("127.0.0.1\tlocalhost"), "{hosts}");
    assert!(hosts.contains("192.0.2.7\tother"), "{hosts}");
    assert!(hosts.lines().any(|line| line.starts_with("10.88.") && line.ends_with("\tme")), "{hosts}");
    // They can be written by the container and are its own.
    let script = "echo 192.0.2.8 added >> /etc/hosts && grep -c added /etc/hosts";
    assert_eq!(docker.ok(["run", "--rm", BUSYBOX, "sh", "-c", script]), "1");
}

fn addresses_are_not_shared() {
    let engine = shared::engine();
    let docker = engine.client(Client::Docker);
    let names: Vec<String> = (0..6).map(|_| name("many")).collect();
    std::thread::scope(|scope| {
        for name in &names {
            let docker = &docker;
            scope.spawn(move || docker.ok(["run", "-d", "--name", name, BUSYBOX, "sleep", "1000"]));
        }
    });
    let mut seen = std::collections::BTreeSet::new();
    for name in &names {
        let network = inspect(&engine, name)["NetworkSettings"]["Networks"]["bridge"].clone();
        assert!(seen.insert(network["IPAddress"].to_string()), "{network}");
        assert!(seen.insert(network["MacAddress"].to_string()), "{network}");
        docker.ok(["rm", "-f", name]);
    }
}
