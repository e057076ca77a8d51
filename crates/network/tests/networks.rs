//! Networks of users: apart from each other, with names, coming and going.

#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]

mod rig;

use std::net::{TcpStream, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use budu_network::{Attachment, Config, CreateRequest, Dns, Join, Networks, Protocol};
use budu_sys::netlink::Route;
use budu_sys::netns;
use rig::*;

fn create(networks: &Networks, name: &str, internal: bool) -> String {
    let request = CreateRequest { name: name.into(), internal, ..CreateRequest::default() };
    networks.create(request).unwrap().id.clone()
}

fn named(network: &str, names: &[&str]) -> Join {
    Join { names: names.iter().map(ToString::to_string).collect(), ..join(network) }
}

fn attach(networks: &Networks, container: &str, network: &str) -> Attachment {
    networks.attach(&joining(named(network, &[container]), container)).unwrap()
}

/// Asks the name server inside for an address: the last byte of the first one
/// it says, or the code it failed with.
fn ask(netns: BorrowedFd<'_>, name: &str, stream: bool) -> Result<u8, u8> {
    let mut query = vec![0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, u8::try_from(name.len()).unwrap()];
    query.extend(name.as_bytes());
    query.extend([0, 0, 1, 0, 1]);
    let answer = netns::inside(netns, || {
        use std::io::{Read, Write};
        if stream {
            let mut server = TcpStream::connect("127.0.0.11:53").unwrap();
            server.write_all(&[&[0, query.len() as u8][..], &query].concat()).unwrap();
            let mut length = [0; 2];
            server.read_exact(&mut length).unwrap();
            let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
            server.read_exact(&mut answer).unwrap();
            return answer;
        }
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        socket.connect("127.0.0.11:53").unwrap();
        socket.send(&query).unwrap();
        let mut answer = vec![0; 512];
        let length = socket.recv(&mut answer).unwrap();
        answer.truncate(length);
        answer
    });
    let answer = answer.unwrap();
    assert_eq!(answer[..2], query[..2]);
    match (answer[3] & 0xf, answer[7]) {
        (0, 1..) => Ok(*answer.last().unwrap()),
        (code, _) => Err(code),
    }
}

#[test]
fn networks_are_apart_and_leave_nothing() {
    on_host(|host| {
        let before = census();
        let networks = Networks::open(config()).unwrap();
        create(&networks, "one", false);
        create(&networks, "two", false);
        create(&networks, "inner", true);
        let [a, b] = ["a", "b"].map(|name| attach(&networks, name, "one"));
        let (c, d) = (attach(&networks, "c", "two"), attach(&networks, "d", "inner"));
        let open = networks.attach(&request("open", &[port(None, 8080, 80, Protocol::Tcp)])).unwrap();
        for attachment in [&a, &b, &c, &d, &open] {
            serve_tcp(netns_of(attachment), 80);
        }
        let reaches = |from: &Attachment, to: &Attachment| ask_tcp(Some(netns_of(from)), (ip_of(to), 80)).is_ok();
        assert!(reaches(&a, &b));
        for (from, to) in [(&a, &c), (&c, &a), (&a, &d), (&d, &a), (&open, &a), (&a, &open)] {
            assert!(!reaches(from, to), "{} reaches {}", from.sandbox.container, to.sandbox.container);
        }
        // The host reaches all, a published port can be reached from all but the inside.
        assert!(ask_tcp(None, (ip_of(&d), 80)).is_ok());
        assert!(ask_tcp(Some(netns_of(&a)), (HOST, 8080)).is_ok());
        assert!(ask_tcp(Some(netns_of(&d)), (HOST, 8080)).is_err());
        host.peer_routes(ip_of(&a), 32);
        assert!(ask_tcp(Some(host.peer.as_fd()), (ip_of(&a), 80)).is_err());
        assert!(networks.remove("one").unwrap_err().to_string().contains("has active endpoints (name:\"name-a\" id:"));
        for attachment in [&a, &b, &c, &d, &open] {
            networks.detach(&attachment.sandbox.container).unwrap();
        }
        for name in ["one", "two", "inner"] {
            networks.remove(name).unwrap();
        }
        drop((a, b, c, d, open));
        networks.shutdown(true).unwrap();
        wait_for_census(&before);
    });
}

#[test]
fn names_are_answered_inside_also_by_the_next_daemon() {
    on_host(|_| {
        let dir = tempfile::tempdir().unwrap();
        let config = || Config { state: Some(dir.path().to_owned()), ..config() };
        let networks = Networks::open(config()).unwrap();
        create(&networks, "net", false);
        let [a, b] = ["a", "b"].map(|name| attach(&networks, name, "net"));
        let last = |attachment: &Attachment| Ok(ip_of(attachment).octets()[3]);
        assert_eq!(ask(netns_of(&a), "b", false), last(&b));
        assert_eq!(ask(netns_of(&b), "A", true), last(&a));
        assert_eq!(ask(netns_of(&a), "nobody", false), Err(2));
        // Port 53 is the container's own.
        netns::inside(netns_of(&a), || UdpSocket::bind("0.0.0.0:53").unwrap()).unwrap();
        networks.rename("b", "c");
        drop(networks);

        let networks = Networks::open(config()).unwrap();
        for attachment in [&a, &b] {
            let sandbox = networks.adopt(&attachment.sandbox, Some(netns_of(attachment))).unwrap();
            assert_eq!(sandbox, attachment.sandbox, "nothing inside had to change");
        }
        networks.reclaim().unwrap();
        assert_eq!(ask(netns_of(&a), "b", false), last(&b));
        networks.detach("b").unwrap();
        assert_eq!(ask(netns_of(&a), "b", false), Err(2));
    });
}

#[test]
fn ports_and_the_way_out_follow_the_networks_of_a_running_container() {
    on_host(|_| {
        let networks = Networks::open(config()).unwrap();
        create(&networks, "late", false);
        create(&networks, "inner", true);
        let a = networks.attach(&request("a", &[port(None, 8080, 80, Protocol::Tcp)])).unwrap();
        serve_tcp(netns_of(&a), 80);
        let answers = || ask_tcp(None, (HOST, 8080)).is_ok();
        assert!(answers());
        let links = census;
        let connect = |join: Join| networks.connect("a", netns_of(&a), &join, &Dns::default());
        connect(named("inner", &["a"])).unwrap();
        assert!(answers());
        let before = links();
        connect(Join { ip: Some([10, 0, 0, 1].into()), ..join("late") }).unwrap_err();
        wait_for_census(&before);
        networks.disconnect("a", netns_of(&a), "bridge").unwrap();
        assert!(!answers());
        std::net::TcpListener::bind("0.0.0.0:8080").unwrap();
        let sandbox = connect(named("late", &["a"])).unwrap();
        assert_eq!((sandbox.ports.len(), sandbox.endpoints.len()), (1, 2));
        assert!(answers());
        let routes = netns::inside(netns_of(&a), || Route::open().unwrap().links().unwrap()).unwrap();
        let names: Vec<&str> = routes.iter().map(|link| link.name.as_str()).collect();
        assert_eq!(names, ["lo", "eth1", "eth0"]);
        networks.disconnect("a", netns_of(&a), "inner").unwrap();
        assert!(answers());
        assert!(networks.disconnect("a", netns_of(&a), "inner").is_err());
    });
}

#[test]
fn half_made_networks_are_undone() {
    on_host(|_| {
        let dir = tempfile::tempdir().unwrap();
        let config = || Config { state: Some(dir.path().to_owned()), ..config() };
        let networks = Networks::open(config()).unwrap();
        let (kept, lost) = (create(&networks, "kept", false), create(&networks, "lost", false));
        drop(networks);
        // As a crash leaves it that comes before the last word is written.
        let file = dir.path().join(format!("{lost}.json"));
        let text = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&file, text.replace("\"whole\":true", "\"whole\":false")).unwrap();
        let networks = Networks::open(config()).unwrap();
        networks.reclaim().unwrap();
        let bridge = |id: &str| Route::open().unwrap().link(&format!("br-{}", &id[..12])).unwrap().is_some();
        assert!(bridge(&kept) && !bridge(&lost));
        assert!(networks.get("kept").is_ok() && networks.get("lost").is_err());
        assert!(!file.exists());
    });
}
