//! One question, one answer.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use simple_dns::rdata::{A, AAAA, OPT, PTR, RData};
use simple_dns::{CLASS, Name, Packet, PacketFlag, QTYPE, RCODE, ResourceRecord, TYPE};

use super::names::{Book, View};

/// Seconds an answer may be kept, as Docker's.
const TTL: u32 = 600;
/// What a client takes over UDP unless it says more, bytes (RFC 1035, 2.3.4).
const PLAIN_LIMIT: usize = 512;
/// What we take over UDP, bytes.
const OUR_LIMIT: u16 = 4096;
const HEADER: usize = 12;
/// Longest name, bytes with lengths (RFC 1035, 2.3.4).
const LONGEST_NAME: usize = 255;

/// What to do with a question.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Say this.
    Reply(Vec<u8>),
    /// Ask others.
    Forward,
}

/// Answers a query from the book; `None` for what is no query at all.
/// `stream`: the client is connected and takes answers of any size. `turn`
/// decides which of several addresses comes first.
pub(crate) fn answer(query: &[u8], book: &Book, view: &View, stream: bool, turn: usize) -> Option<Answer> {
    // Not even one that makes no sense: two servers that do would never end.
    if query.get(2)? & bits::RESPONSE != 0 {
        return None;
    }
    let heard = heard(query);
    let Ok(packet) = Packet::parse(&heard) else {
        // The library does not know every record; a server may.
        return match end_of_question(query) {
            Some(_) => Some(Answer::Forward),
            None => failure(query, RCODE::FormatError).map(Answer::Reply),
        };
    };
    let question = packet.questions.first()?;
    let name = question.qname.to_string();
    let name = name.trim_end_matches('.');
    let limit = match packet.opt() {
        _ if stream => usize::from(u16::MAX),
        Some(opt) => usize::from(opt.udp_packet_size).max(PLAIN_LIMIT),
        None => PLAIN_LIMIT,
    };
    let known = match question.qtype {
        QTYPE::TYPE(TYPE::A | TYPE::AAAA | TYPE::MX) => book.addresses(view, name).map(|addresses| {
            let wanted = |ip: &&IpAddr| match question.qtype {
                QTYPE::TYPE(TYPE::A) => ip.is_ipv4(),
                QTYPE::TYPE(TYPE::AAAA) => ip.is_ipv6(),
                _ => false,
            };
            let mut data: Vec<RData<'_>> = addresses.iter().filter(wanted).map(|ip| record(*ip)).collect();
            let first = turn % data.len().max(1);
            data.rotate_left(first);
            data
        }),
        QTYPE::TYPE(TYPE::PTR) => reverse(name)
            .and_then(|ip| book.name(view, ip))
            .map(|name| vec![RData::PTR(PTR(Name::new_unchecked(name)))]),
        _ => None,
    };
    let addressed = matches!(question.qtype, QTYPE::TYPE(TYPE::A | TYPE::AAAA));
    let data = match known {
        Some(data) => data,
        // Who sets ndots has the resolver try the search list instead.
        None if addressed && view.dns.ndots && !name.contains('.') => Vec::new(),
        None => return Some(Answer::Forward),
    };
    let mut reply = reply_to(&packet, RCODE::NoError);
    reply.answers =
        data.into_iter().map(|data| ResourceRecord::new(question.qname.clone(), CLASS::IN, TTL, data)).collect();
    loop {
        let bytes = reply.build_bytes_vec_compressed().ok()?;
        if bytes.len() <= limit || reply.answers.pop().is_none() {
            return Some(Answer::Reply(bytes));
        }
        reply.set_flags(PacketFlag::TRUNCATION);
    }
}

/// The second half of a header's flags, and the first.
mod bits {
    pub(super) const RESPONSE: u8 = 0x80;
    pub(super) const OPCODE_AND_RECURSION: u8 = 0x79;
    pub(super) const RECURSION_AVAILABLE: u8 = 0x80;
    pub(super) const RESERVED: u8 = 0x40;
}

/// A query without the bit that means nothing yet, and that the library refuses.
fn heard(query: &[u8]) -> Cow<'_, [u8]> {
    let mut heard = Cow::Borrowed(query);
    if query.get(3).is_some_and(|flags| flags & bits::RESERVED != 0) {
        heard.to_mut()[3] &= !bits::RESERVED;
    }
    heard
}

/// Where the only question of a query ends; `None` when header or name are broken.
fn end_of_question(query: &[u8]) -> Option<usize> {
    if query.get(4..6)? != [0, 1] {
        return None;
    }
    let mut at = HEADER;
    loop {
        match usize::from(*query.get(at)?) {
            0 => break,
            // More is a pointer, and there is nothing before the first name.
            length if length < 64 => at += 1 + length,
            _ => return None,
        }
    }
    let end = at + 5;
    (at - HEADER < LONGEST_NAME && end <= query.len()).then_some(end)
}

/// Says why there is no answer. `None` when not even the header is there.
pub(crate) fn failure(query: &[u8], code: RCODE) -> Option<Vec<u8>> {
    if let Ok(packet) = Packet::parse(&heard(query)) {
        return reply_to(&packet, code).build_bytes_vec().ok();
    }
    if let Some(end) = end_of_question(query) {
        let mut reply = query[..end].to_vec();
        reply[2] = bits::RESPONSE | reply[2] & bits::OPCODE_AND_RECURSION;
        reply[3] = bits::RECURSION_AVAILABLE | code as u8;
        reply[6..HEADER].fill(0);
        return Some(reply);
    }
    let id = u16::from_be_bytes([*query.first()?, *query.get(1)?]);
    let mut reply = Packet::new_reply(id);
    *reply.rcode_mut() = code;
    reply.build_bytes_vec().ok()
}

fn reply_to<'a>(query: &Packet<'a>, code: RCODE) -> Packet<'a> {
    let mut reply = Packet::new_reply(query.id());
    *reply.opcode_mut() = query.opcode();
    *reply.rcode_mut() = code;
    reply.set_flags(PacketFlag::RECURSION_AVAILABLE);
    if query.has_flags(PacketFlag::RECURSION_DESIRED) {
        reply.set_flags(PacketFlag::RECURSION_DESIRED);
    }
    reply.questions = query.questions.clone();
    // Who says what it takes is told what we take (RFC 6891, 6.1.1).
    *reply.opt_mut() = query.opt().map(|_| OPT { opt_codes: Vec::new(), udp_packet_size: OUR_LIMIT, version: 0 });
    reply
}

fn record(ip: IpAddr) -> RData<'static> {
    match ip {
        IpAddr::V4(ip) => RData::A(A { address: ip.to_bits() }),
        IpAddr::V6(ip) => RData::AAAA(AAAA { address: ip.to_bits() }),
    }
}

/// The address a name below `in-addr.arpa` or `ip6.arpa` stands for.
fn reverse(name: &str) -> Option<IpAddr> {
    let name = name.to_ascii_lowercase();
    if let Some(rest) = name.strip_suffix(".in-addr.arpa") {
        let parts: Option<Vec<u8>> = rest.split('.').rev().map(|part| part.parse().ok()).collect();
        return <[u8; 4]>::try_from(parts?).ok().map(|octets| Ipv4Addr::from(octets).into());
    }
    let rest = name.strip_suffix(".ip6.arpa")?;
    let digit = |part: &str| u128::from_str_radix(part, 16).ok().filter(|_| part.len() == 1);
    let digits: Option<Vec<u128>> = rest.split('.').rev().map(digit).collect();
    let digits = digits.filter(|digits| digits.len() == 32)?;
    Some(Ipv6Addr::from_bits(digits.iter().fold(0, |bits, digit| bits << 4 | digit)).into())
}

#[cfg(test)]
mod tests {
    use super::super::names::tests::{endpoint, view};
    use super::*;
    use simple_dns::{QCLASS, Question};

    fn query(name: &str, kind: TYPE) -> Vec<u8> {
        let mut packet = Packet::new_query(7);
        packet.set_flags(PacketFlag::RECURSION_DESIRED);
        let class = QCLASS::CLASS(CLASS::IN);
        packet.questions.push(Question::new(Name::new(name).unwrap(), QTYPE::TYPE(kind), class, false));
        packet.build_bytes_vec().unwrap()
    }

    fn ask(book: &Book, view: &View, name: &str, kind: TYPE, turn: usize) -> Option<(RCODE, Vec<String>)> {
        match answer(&query(name, kind), book, view, false, turn).unwrap() {
            Answer::Forward => None,
            Answer::Reply(bytes) => {
                let packet = Packet::parse(&bytes).unwrap();
                assert_eq!(packet.id(), 7);
                assert_eq!(packet.questions.len(), 1);
                let data = packet.answers.iter().map(|record| match &record.rdata {
                    RData::A(a) => Ipv4Addr::from_bits(a.address).to_string(),
                    RData::PTR(PTR(name)) => name.to_string(),
                    other => format!("{other:?}"),
                });
                Some((packet.rcode(), data.collect()))
            }
        }
    }

    fn book(count: u8) -> Book {
        let mut book = Book::default();
        for number in 0..count {
            book.add(&endpoint("n", [10, 0, 0, number + 2], &[&format!("web-{number}"), "web"]));
        }
        book
    }

    #[test]
    fn known_names_are_answered_others_are_forwarded() {
        let (book, mut mine) = (book(2), view(vec![endpoint("n", [10, 0, 0, 9], &["me"])]));
        let both = |turn| ask(&book, &mine, "web", TYPE::A, turn).unwrap().1;
        assert_eq!(both(0), ["10.0.0.2", "10.0.0.3"]);
        assert_eq!(both(1), ["10.0.0.3", "10.0.0.2"]);
        // A name without an address of that kind is there nevertheless.
        assert_eq!(ask(&book, &mine, "web", TYPE::AAAA, 0), Some((RCODE::NoError, vec![])));
        assert_eq!(ask(&book, &mine, "web-1.n", TYPE::MX, 0), Some((RCODE::NoError, vec![])));
        let name = "3.0.0.10.in-addr.arpa";
        assert_eq!(ask(&book, &mine, name, TYPE::PTR, 0), Some((RCODE::NoError, vec!["web-1.n".into()])));
        for (name, kind) in [("example", TYPE::A), ("4.0.0.10.in-addr.arpa", TYPE::PTR), ("web", TYPE::TXT)] {
            assert_eq!(ask(&book, &mine, name, kind, 0), None, "{name}");
        }
        mine.dns.ndots = true;
        assert_eq!(ask(&book, &mine, "example", TYPE::A, 0), Some((RCODE::NoError, vec![])));
        assert_eq!(ask(&book, &mine, "example.com", TYPE::A, 0), None);
    }

    #[test]
    fn long_answers_are_cut_for_datagrams_only() {
        let (book, mine) = (book(200), view(vec![endpoint("n", [10, 0, 0, 250], &["me"])]));
        let Some(Answer::Reply(short)) = answer(&query("web", TYPE::A), &book, &mine, false, 3) else { panic!() };
        let Some(Answer::Reply(long)) = answer(&query("web", TYPE::A), &book, &mine, true, 3) else { panic!() };
        assert!(short.len() <= 512 && Packet::parse(&short).unwrap().has_flags(PacketFlag::TRUNCATION));
        assert_eq!(Packet::parse(&long).unwrap().answers.len(), 200);
    }

    #[test]
    fn what_the_library_does_not_know_is_forwarded() {
        let (book, mine) = (book(1), view(vec![endpoint("n", [10, 0, 0, 9], &["me"])]));
        // TLSA.
        let mut unknown = query("_443._tcp.example.com", TYPE::A);
        let kind = unknown.len() - 4;
        unknown[kind..kind + 2].copy_from_slice(&52u16.to_be_bytes());
        assert_eq!(answer(&unknown, &book, &mine, false, 0), Some(Answer::Forward));
        // When no server answers, the question comes back, or the client would not take it.
        let reply = failure(&unknown, RCODE::ServerFailure).unwrap();
        assert_eq!((&reply[..2], reply[2], reply[3]), (&unknown[..2], 0x81, 0x82));
        assert_eq!(reply[4..], unknown[4..]);
        let mut reserved = query("web", TYPE::A);
        reserved[3] |= bits::RESERVED;
        let Some(Answer::Reply(reply)) = answer(&reserved, &book, &mine, false, 0) else { panic!() };
        assert_eq!(Packet::parse(&reply).unwrap().answers.len(), 1);
        unknown[2] |= bits::RESPONSE;
        assert_eq!(answer(&unknown, &book, &mine, false, 0), None);
        unknown[2] &= !bits::RESPONSE;
        unknown.truncate(kind);
        assert!(matches!(answer(&unknown, &book, &mine, false, 0), Some(Answer::Reply(_))), "it has no type");
    }

    #[test]
    fn who_speaks_edns_is_answered_in_it() {
        let (book, mine) = (book(200), view(vec![endpoint("n", [10, 0, 0, 250], &["me"])]));
        let plain = query("web", TYPE::A);
        let mut packet = Packet::parse(&plain).unwrap();
        *packet.opt_mut() = Some(OPT { opt_codes: Vec::new(), udp_packet_size: 600, version: 0 });
        let extended = packet.build_bytes_vec().unwrap();
        for (query, spoken) in [(&plain, false), (&extended, true)] {
            let Some(Answer::Reply(reply)) = answer(query, &book, &mine, false, 0) else { panic!() };
            assert!(reply.len() <= if spoken { 600 } else { 512 }, "{}", reply.len());
            assert_eq!(Packet::parse(&reply).unwrap().opt().is_some(), spoken);
            let reply = failure(query, RCODE::ServerFailure).unwrap();
            assert_eq!(Packet::parse(&reply).unwrap().opt().is_some(), spoken);
        }
    }

    #[test]
    fn garbage_is_no_question() {
        let (book, mine) = (book(1), View::default());
        assert_eq!(answer(&[], &book, &mine, false, 0), None);
        // A name that points at itself.
        let mut looping = query("web", TYPE::A);
        looping.truncate(12);
        looping.extend([0xc0, 12, 0, 1, 0, 1]);
        let Some(Answer::Reply(reply)) = answer(&looping, &book, &mine, false, 0) else { panic!() };
        assert_eq!(Packet::parse(&reply).unwrap().rcode(), RCODE::FormatError);
    }
}
