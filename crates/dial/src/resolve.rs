//! Host names to addresses: /etc/hosts, then the name servers of /etc/resolv.conf.
//!
//! A static binary cannot use the C library's resolver, which loads plug-ins at run time. This is
//! the small part of it that the clients here need: A and AAAA, search list with ndots, several
//! servers and attempts, UDP with TCP for long answers. No cache: a client looks up a few names.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use simple_dns::rdata::RData;
use simple_dns::{CLASS, Name, Packet, PacketFlag, Question, RCODE, TYPE};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

/// Where answers come from.
#[derive(Debug, Clone)]
pub struct Resolver {
    hosts: PathBuf,
    resolv_conf: PathBuf,
}

/// What /etc/resolv.conf says; resolv.conf(5).
#[derive(Debug, Clone, PartialEq)]
struct Servers {
    addresses: Vec<SocketAddr>,
    search: Vec<String>,
    ndots: usize,
    timeout: Duration,
    attempts: u32,
}

/// The answer to one question.
#[derive(Debug, PartialEq)]
enum Answer {
    Addresses(Vec<IpAddr>),
    NoSuchName,
}

impl Resolver {
    /// The machine's own configuration.
    pub fn system() -> Resolver {
        Resolver { hosts: "/etc/hosts".into(), resolv_conf: "/etc/resolv.conf".into() }
    }

    /// Every address of `host`, IPv4 first. Addresses come back as they are.
    ///
    /// # Errors
    /// A text for people: no such host, or no answer from any server.
    pub async fn lookup(&self, host: &str) -> Result<Vec<IpAddr>, String> {
        if let Ok(address) = host.parse::<IpAddr>() {
            return Ok(vec![address]);
        }
        let name = host.trim_end_matches('.').to_ascii_lowercase();
        // RFC 6761: localhost never leaves the machine, whatever the files say.
        if name == "localhost" || name.ends_with(".localhost") {
            return Ok(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]);
        }
        // Two small files, read each time: they change under a long-running daemon.
        let hosts = std::fs::read(&self.hosts).unwrap_or_default();
        let known = in_hosts(&String::from_utf8_lossy(&hosts), &name);
        if !known.is_empty() {
            return Ok(known);
        }
        let text = std::fs::read(&self.resolv_conf).unwrap_or_default();
        let servers = parse_servers(&String::from_utf8_lossy(&text));
        let mut failure = None;
        for candidate in candidates(host, &servers) {
            match ask_both(&candidate, &servers).await {
                Ok(addresses) if !addresses.is_empty() => return Ok(addresses),
                Ok(_) => {}
                Err(error) => failure = Some(error),
            }
        }
        Err(failure.unwrap_or_else(|| format!("no such host {host}")))
    }
}

/// The addresses that a hosts(5) file gives a name.
fn in_hosts(text: &str, name: &str) -> Vec<IpAddr> {
    let mut found = Vec::new();
    for line in text.lines() {
        let mut words = line.split('#').next().unwrap_or_default().split_whitespace();
        let Some(Ok(address)) = words.next().map(str::parse::<IpAddr>) else { continue };
        if words.any(|word| word.eq_ignore_ascii_case(name)) && !found.contains(&address) {
            found.push(address);
        }
    }
    found.sort_by_key(IpAddr::is_ipv6);
    found
}

fn parse_servers(text: &str) -> Servers {
    let mut servers =
        Servers { addresses: Vec::new(), search: Vec::new(), ndots: 1, timeout: Duration::from_secs(5), attempts: 2 };
    for line in text.lines() {
        let mut words = line.split_whitespace();
        match words.next() {
            Some("nameserver") => {
                let address = words.next().and_then(|word| word.split('%').next()?.parse::<IpAddr>().ok());
                // glibc stops at three as well.
                if let Some(address) = address.filter(|_| servers.addresses.len() < 3) {
                    servers.addresses.push(SocketAddr::new(address, 53));
                }
            }
            // The last of the two words wins, as in glibc.
            Some("search" | "domain") => {
                servers.search = words.map(|word| word.trim_end_matches('.').to_owned()).collect();
                servers.search.retain(|domain| !domain.is_empty());
            }
            Some("options") => words.for_each(|word| option(&mut servers, word)),
            _ => {}
        }
    }
    if servers.addresses.is_empty() {
        servers.addresses.push(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 53));
    }
    servers
}

fn option(servers: &mut Servers, word: &str) {
    let Some((name, Ok(value))) = word.split_once(':').map(|(name, value)| (name, value.parse::<u32>())) else {
        return;
    };
    match name {
        "ndots" => servers.ndots = value.min(15) as usize,
        "timeout" => servers.timeout = Duration::from_secs(u64::from(value.clamp(1, 30))),
        "attempts" => servers.attempts = value.clamp(1, 5),
        _ => {}
    }
}

/// The names to ask for, in order. A trailing dot means: only this one.
fn candidates(host: &str, servers: &Servers) -> Vec<String> {
    if let Some(absolute) = host.strip_suffix('.') {
        return vec![absolute.to_owned()];
    }
    let searched = servers.search.iter().map(|domain| format!("{host}.{domain}"));
    let dots = host.bytes().filter(|&byte| byte == b'.').count();
    let mut names = Vec::new();
    if dots >= servers.ndots {
        names.push(host.to_owned());
        names.extend(searched);
    } else {
        names.extend(searched);
        names.push(host.to_owned());
    }
    names
}

/// Asks for IPv4 and IPv6 at the same time.
async fn ask_both(name: &str, servers: &Servers) -> Result<Vec<IpAddr>, String> {
    let (four, six) = tokio::join!(ask(name, TYPE::A, servers), ask(name, TYPE::AAAA, servers));
    let mut addresses = Vec::new();
    let mut failure = None;
    for answer in [four, six] {
        match answer {
            Ok(Answer::Addresses(found)) => addresses.extend(found),
            Ok(Answer::NoSuchName) => {}
            Err(error) => failure = Some(error),
        }
    }
    match failure {
        Some(error) if addresses.is_empty() => Err(error),
        _ => Ok(addresses),
    }
}

async fn ask(name: &str, kind: TYPE, servers: &Servers) -> Result<Answer, String> {
    let mut last = String::new();
    for _ in 0..servers.attempts {
        for server in &servers.addresses {
            let exchange = exchange(name, kind, *server);
            match tokio::time::timeout(servers.timeout, exchange).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(error)) => last = format!("{server}: {error}"),
                Err(_) => last = format!("{server}: no answer in {} s", servers.timeout.as_secs()),
            }
        }
    }
    Err(format!("name server does not resolve {name}: {last}"))
}

async fn exchange(name: &str, kind: TYPE, server: SocketAddr) -> Result<Answer, String> {
    let text = |error: std::io::Error| error.to_string();
    let mut id = [0u8; 2];
    rustix::rand::getrandom(&mut id, rustix::rand::GetRandomFlags::empty()).map_err(|error| error.to_string())?;
    let id = u16::from_ne_bytes(id);
    let query = query(id, name, kind).map_err(|error| error.to_string())?;
    let any: SocketAddr = match server {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    // A fresh socket for each question: its port is part of what a forger must guess.
    let socket = UdpSocket::bind(any).await.map_err(text)?;
    socket.connect(server).await.map_err(text)?;
    socket.send(&query).await.map_err(text)?;
    let mut buffer = vec![0u8; 4096];
    loop {
        let length = socket.recv(&mut buffer).await.map_err(text)?;
        match read_answer(&buffer[..length], id, name, kind) {
            // Not an answer to this question: keep waiting for one.
            Err(Rejected::Foreign) => {}
            Err(Rejected::Truncated) => break,
            Err(Rejected::Failed(error)) => return Err(error),
            Ok(answer) => return Ok(answer),
        }
    }
    let answer = over_tcp(&query, server).await.map_err(text)?;
    match read_answer(&answer, id, name, kind) {
        Ok(answer) => Ok(answer),
        Err(Rejected::Failed(error)) => Err(error),
        Err(_) => Err("its answer over TCP is not one".into()),
    }
}

async fn over_tcp(query: &[u8], server: SocketAddr) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await?;
    let length = u16::try_from(query.len()).unwrap_or(u16::MAX);
    stream.write_all(&[&length.to_be_bytes()[..], query].concat()).await?;
    let length = stream.read_u16().await?;
    let mut answer = vec![0u8; usize::from(length)];
    stream.read_exact(&mut answer).await?;
    Ok(answer)
}

fn query(id: u16, name: &str, kind: TYPE) -> Result<Vec<u8>, simple_dns::SimpleDnsError> {
    let mut packet = Packet::new_query(id);
    packet.set_flags(PacketFlag::RECURSION_DESIRED);
    packet.questions.push(Question::new(Name::new(name)?, kind.into(), CLASS::IN.into(), false));
    packet.build_bytes_vec()
}

#[derive(Debug, PartialEq)]
enum Rejected {
    /// Some other packet.
    Foreign,
    /// To be asked again over TCP.
    Truncated,
    /// The server cannot or will not say.
    Failed(String),
}

fn read_answer(bytes: &[u8], id: u16, name: &str, kind: TYPE) -> Result<Answer, Rejected> {
    let packet = Packet::parse(bytes).map_err(|_| Rejected::Foreign)?;
    let asked = packet.questions.first().is_some_and(|question| {
        question.qname.to_string().trim_end_matches('.').eq_ignore_ascii_case(name.trim_end_matches('.'))
            && question.qtype == kind.into()
    });
    if packet.id() != id || !packet.has_flags(PacketFlag::RESPONSE) || !asked {
        return Err(Rejected::Foreign);
    }
    if packet.has_flags(PacketFlag::TRUNCATION) {
        return Err(Rejected::Truncated);
    }
    match packet.rcode() {
        RCODE::NoError => {}
        RCODE::NameError => return Ok(Answer::NoSuchName),
        other => return Err(Rejected::Failed(format!("it answers {other:?}"))),
    }
    // The server followed aliases for us: any address in the answer is one of the name's.
    let addresses = packet.answers.iter().filter_map(|record| match &record.rdata {
        RData::A(record) => Some(IpAddr::V4(Ipv4Addr::from(record.address))),
        RData::AAAA(record) => Some(IpAddr::V6(Ipv6Addr::from(record.address))),
        _ => None,
    });
    Ok(Answer::Addresses(addresses.collect()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use simple_dns::ResourceRecord;
    use simple_dns::rdata::A;

    #[test]
    fn hosts_file() {
        let text = "127.0.0.1 localhost\n::1 Reg.example # 10.0.0.9 reg.example\n10.0.0.1\treg.example other\nnonsense reg.example\n";
        assert_eq!(
            in_hosts(text, "reg.example"),
            ["10.0.0.1".parse::<IpAddr>().expect("v4"), Ipv6Addr::LOCALHOST.into()]
        );
        assert!(in_hosts(text, "reg").is_empty());
    }

    #[test]
    fn resolv_conf_and_search() {
        let servers = parse_servers(
            "# c\nnameserver 10.0.0.2\nnameserver fe80::1%eth0\nnameserver x\nsearch a.example b.example.\noptions ndots:2 timeout:1 attempts:9 rotate\n",
        );
        assert_eq!(
            servers.addresses,
            ["10.0.0.2:53".parse().expect("v4"), "[fe80::1]:53".parse::<SocketAddr>().expect("v6")]
        );
        assert_eq!((servers.ndots, servers.attempts, servers.timeout.as_secs()), (2, 5, 1));
        assert_eq!(candidates("reg.x", &servers), ["reg.x.a.example", "reg.x.b.example", "reg.x"]);
        assert_eq!(candidates("r.e.g", &servers), ["r.e.g", "r.e.g.a.example", "r.e.g.b.example"]);
        assert_eq!(candidates("reg.x.", &servers), ["reg.x"]);
        assert_eq!(parse_servers("").addresses, ["127.0.0.1:53".parse().expect("default")]);
    }

    fn reply(query: &[u8], truncated: bool) -> Vec<u8> {
        let mut packet = Packet::parse(query).expect("a query").into_reply();
        if truncated {
            packet.set_flags(PacketFlag::TRUNCATION);
        } else if packet.questions[0].qtype == TYPE::A.into() {
            let name = packet.questions[0].qname.clone();
            packet.answers.push(ResourceRecord::new(name, CLASS::IN, 60, RData::A(A { address: 0x0a00_0007 })));
        }
        packet.build_bytes_vec().expect("built")
    }

    #[tokio::test]
    async fn asks_over_udp_and_over_tcp_when_truncated_ignoring_forgeries() {
        let udp = UdpSocket::bind("127.0.0.1:0").await.expect("bound");
        let address = udp.local_addr().expect("address");
        let tcp = tokio::net::TcpListener::bind(address).await.expect("bound");
        let server = tokio::spawn(async move {
            let mut buffer = [0u8; 512];
            loop {
                let (length, peer) = udp.recv_from(&mut buffer).await.expect("received");
                let mut forged = reply(&buffer[..length], false);
                forged[0] ^= 0xff;
                udp.send_to(&forged, peer).await.expect("sent");
                udp.send_to(&reply(&buffer[..length], true), peer).await.expect("sent");
                let (mut stream, _) = tcp.accept().await.expect("accepted");
                let size = stream.read_u16().await.expect("length");
                let mut query = vec![0u8; usize::from(size)];
                stream.read_exact(&mut query).await.expect("query");
                let answer = reply(&query, false);
                let size = u16::try_from(answer.len()).expect("short");
                stream.write_all(&size.to_be_bytes()).await.expect("written");
                stream.write_all(&answer).await.expect("written");
            }
        });
        let answer = exchange("reg.example", TYPE::A, address).await.expect("answered");
        assert_eq!(answer, Answer::Addresses(vec!["10.0.0.7".parse().expect("address")]));
        server.abort();
    }

    #[test]
    fn answers_to_other_questions_do_not_count() {
        let query = query(7, "a.example", TYPE::A).expect("built");
        let good = reply(&query, false);
        assert!(read_answer(&good, 7, "A.example", TYPE::A).is_ok());
        assert_eq!(read_answer(&good, 8, "a.example", TYPE::A), Err(Rejected::Foreign));
        assert_eq!(read_answer(&good, 7, "b.example", TYPE::A), Err(Rejected::Foreign));
        assert_eq!(read_answer(&good, 7, "a.example", TYPE::AAAA), Err(Rejected::Foreign));
        assert_eq!(read_answer(&query, 7, "a.example", TYPE::A), Err(Rejected::Foreign));
        assert_eq!(read_answer(b"\0\x07rubbish", 7, "a.example", TYPE::A), Err(Rejected::Foreign));
    }
}
