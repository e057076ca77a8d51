//! Networks of one's own: who finds whom by name, who is kept apart, coming and going.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use budu_testkit::images::BUSYBOX;
use budu_testkit::suite::{Suite, only_budu};
use budu_testkit::{Client, Engine, wait};
use serde_json::{Value, json};

use crate::shared::{self, inspect, name, port};

pub(crate) fn tests(suite: &mut Suite) {
    suite.both(life_of_a_network);
    suite.both(names_and_aliases);
    suite.both(connect_and_disconnect);
    suite.both(networks_are_apart);
    suite.both(fixed_addresses);
    suite.both(shared_namespace);
    suite.both(addresses_of_ipv6);
    suite.both(ports_over_ipv6);
    suite.both(links_of_the_default_bridge);
    suite.once(network_refusals);
    suite.once(published_ports_on_own_networks);
    suite.once(names_from_outside);
    suite.once(network_events);
    suite.once(networks_survive_a_kill);
}

/// A network of this test, with these flags.
fn network(client: Client, stem: &str, flags: &[&str]) -> String {
    let name = name(stem);
    let id = shared::client(client).ok([&["network", "create"], flags, &[&name]].concat());
    assert_eq!(id.len(), 64, "{id}");
    name
}

/// A range of this test's own, without its last number: `10.77.3`.
fn range() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    format!("10.77.{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// A container that does nothing.
fn sleeper(client: Client, stem: &str, flags: &[&str]) -> String {
    let name = name(stem);
    let run = ["run", "-d", "--init", "--name", &name];
    shared::client(client).ok([&run, flags, &[BUSYBOX, "sleep", "1000"]].concat());
    name
}

/// Addresses a container finds for a name, sorted; empty if it finds none.
fn lookup(client: Client, container: &str, name: &str) -> Vec<String> {
    let script =
        format!("nslookup -type=a {name} 127.0.0.11 2>/dev/null | grep '^Address' | grep -v ':53' | sed 's/.* //'");
    let found = shared::client(client).ok(["exec", container, "sh", "-c", &script]);
    let mut found: Vec<String> = found.lines().map(str::to_owned).collect();
    found.sort();
    found
}

fn address(engine: &Engine, container: &str, network: &str) -> String {
    let settings = &inspect(engine, container)["NetworkSettings"]["Networks"][network];
    settings["IPAddress"].as_str().unwrap_or_else(|| panic!("no address in {settings}")).to_owned()
}

fn network_of(engine: &Engine, network: &str) -> Value {
    engine.http("GET", &format!("/networks/{network}"), None).expect("an answer").expect(200).json()
}

fn life_of_a_network(client: Client) {
    let (engine, docker) = (shared::engine(), shared::client(client));
    let range = range();
    let at = |rest: &str| format!("{range}.{rest}");
    let (subnet, part, gateway) = (at("0/24"), at("128/25"), at("9"));
    let aux = format!("router={}", at("128"));
    let flags = ["--subnet", &subnet, "--ip-range", &part, "--gateway", &gateway, "--aux-address", &aux];
    let more = ["--label", "tier=back", "-o", "com.docker.network.driver.mtu=1400"];
    let net = network(client, "life", &[&flags[..], &more[..]].concat());
    let seen = network_of(&engine, &net);
    assert_eq!(
        (&seen["Driver"], &seen["Scope"], &seen["Labels"]["tier"]),
        (&json!("bridge"), &json!("local"), &json!("back"))
    );
    let config =
        json!({"Subnet": subnet, "IPRange": part, "Gateway": gateway, "AuxiliaryAddresses": {"router": at("128")}});
    assert_eq!(seen["IPAM"]["Config"], json!([config]));
    let first = sleeper(client, "life", &["--network", &net]);
    assert_eq!(address(&engine, &first, &net), at("129"), "the first of the range that nobody has");
    let look = docker.ok(["exec", &first, "sh", "-c", "ip -o link show eth0; ip route"]);
    assert!(look.contains("mtu 1400") && look.contains(&format!("default via {gateway} dev eth0")), "{look}");
    let id = inspect(&engine, &first)["Id"].as_str().expect("an id").to_owned();
    let member = &network_of(&engine, &net)["Containers"][&id];
    assert_eq!((&member["Name"], &member["IPv4Address"]), (&json!(first), &json!(at("129/24"))));
    assert!(docker.ok(["network", "ls", "--filter", "label=tier=back", "--format", "{{.Name}}"]).contains(&net));
    assert_eq!(docker.ok(["ps", "--filter", &format!("network={net}"), "--format", "{{.Names}}"]), first);
    docker.run(["network", "rm", &net]).expect("runs").exits(1).complains("has active endpoints");
    docker.ok(["rm", "-f", &first]);
    assert_eq!(docker.ok(["network", "rm", &net]), net);
    docker.run(["network", "inspect", &net]).expect("runs").exits(1).complains("not found");
}

fn names_and_aliases(client: Client) {
    let (engine, docker) = (shared::engine(), shared::client(client));
    let net = network(client, "names", &[]);
    let one = sleeper(client, "one", &["--network", &net, "--network-alias", "twin", "--hostname", "Host-One"]);
    let two = sleeper(client, "two", &["--network", &format!("name={net},alias=twin,alias=second")]);
    let ip = |container: &str| address(&engine, container, &net);
    let id = inspect(&engine, &one)["Id"].as_str().expect("an id")[..12].to_owned();
    for name in [&one, &id, "host-one", &format!("{one}.{net}")] {
        assert_eq!(lookup(client, &two, name), [ip(&one)], "{name}");
    }
    assert_eq!(lookup(client, &one, "SECOND"), [ip(&two)]);
    let mut both = vec![ip(&one), ip(&two)];
    both.sort();
    assert_eq!(lookup(client, &one, "twin"), both);
    // A name is known, an address of the other kind it has not: no error, no answer.
    let script = format!("nslookup -type=aaaa {two} 127.0.0.11; nslookup {} 127.0.0.11", ip(&two));
    let seen = docker.ok(["exec", &one, "sh", "-c", &script]);
    assert!(!seen.contains("NXDOMAIN") && !seen.contains("SERVFAIL"), "{seen}");
    assert!(seen.contains(&format!("name = {two}.{net}")), "{seen}");
    let resolv = docker.ok(["exec", &one, "cat", "/etc/resolv.conf"]);
    assert!(resolv.contains("nameserver 127.0.0.11\n") && resolv.contains("ndots:0"), "{resolv}");
    // A link is a name of one's own.
    let linked = sleeper(client, "linked", &["--network", &net, "--link", &format!("{one}:store")]);
    assert_eq!(lookup(client, &linked, "store"), [ip(&one)]);
    assert_eq!(lookup(client, &two, "store"), [""; 0]);
    // Names follow renames, and go with their container.
    let renamed = name("renamed");
    docker.ok(["rename", &two, &renamed]);
    assert_eq!(lookup(client, &one, &renamed), [ip(&renamed)]);
    assert_eq!(lookup(client, &one, &two), [""; 0]);
    docker.ok(["kill", &renamed]);
    assert_eq!(lookup(client, &one, "twin"), [ip(&one)]);
    docker.ok(["rm", "-f", &one, &renamed, &linked]);
    docker.ok(["network", "rm", &net]);
}

fn connect_and_disconnect(client: Client) {
    let (engine, docker) = (shared::engine(), shared::client(client));
    let range = range();
    let fixed = format!("{range}.50");
    let (front, back) =
        (network(client, "front", &[]), network(client, "back", &["--subnet", &format!("{range}.0/24")]));
    let plain = sleeper(client, "plain", &[]);
    let db = sleeper(client, "db", &["--network", &back]);
    // A container of the default bridge, without names so far.
    docker.ok(["network", "connect", "--alias", "web", "--ip", &fixed, &back, &plain]);
    assert_eq!(address(&engine, &plain, &back), fixed);
    assert_eq!(lookup(client, &db, "web"), [fixed.as_str()]);
    assert_eq!(lookup(client, &plain, &db), [address(&engine, &db, &back)]);
    let look = docker.ok(["exec", &plain, "sh", "-c", "ip -o -4 addr show eth1; cat /etc/hosts /etc/resolv.conf"]);
    assert!(
        look.contains(&format!("inet {fixed}/24"))
            && look.contains(&format!("{fixed}\t"))
            && look.contains("127.0.0.11"),
        "{look}"
    );
    docker.ok(["network", "connect", &front, &db]);
    assert_eq!(inspect(&engine, &db)["NetworkSettings"]["Networks"].as_object().map(serde_json::Map::len), Some(2));
    docker.run(["network", "connect", &front, &db]).expect("runs").exits(1).complains("already exists in network");
    docker.ok(["network", "disconnect", &back, &plain]);
    assert_eq!(lookup(client, &db, "web"), [""; 0]);
    let look = docker.ok(["exec", &plain, "sh", "-c", "ip -o link; cat /etc/hosts; ip route"]);
    assert!(!look.contains("eth1") && !look.contains(&fixed) && look.contains("default via"), "{look}");
    docker.run(["network", "disconnect", &back, &plain]).expect("runs").exits(1).complains("is not connected to");
    // What stands still is connected when it starts.
    docker.ok(["kill", &plain]);
    docker.ok(["network", "connect", "--alias", "late", &back, &plain]);
    docker.ok(["network", "disconnect", "bridge", &plain]);
    docker.ok(["start", &plain]);
    assert_eq!(lookup(client, &db, "late"), [address(&engine, &plain, &back)]);
    assert!(docker.ok(["exec", &plain, "ip", "route"]).contains(&format!("default via {range}.1 dev eth0")));
    docker.ok(["rm", "-f", &plain, &db]);
    docker.ok(["network", "rm", &front, &back]);
}

fn networks_are_apart(client: Client) {
    let (engine, docker) = (shared::engine(), shared::client(client));
    let (left, right) = (network(client, "left", &[]), network(client, "right", &[]));
    let inner = network(client, "inner", &["--internal"]);
    let quiet = network(client, "quiet", &["-o", "com.docker.network.bridge.enable_icc=false"]);
    let a = sleeper(client, "a", &["--network", &left]);
    let b = sleeper(client, "b", &["--network", &right]);
    let c = sleeper(client, "c", &["--network", &inner]);
    let d = sleeper(client, "d", &["--network", &inner, "--network", &left]);
    let reaches = |from: &str, to: &str, network: &str| {
        let ip = address(&engine, to, network);
        docker.run(["exec", from, "ping", "-c1", "-W1", &ip]).expect("runs").success()
    };
    assert!(!reaches(&a, &b, &right), "from one network into another");
    assert!(reaches(&a, &d, &left) && reaches(&c, &d, &inner), "within a network");
    assert!(!reaches(&a, &c, &inner) && !reaches(&c, &a, &left), "in and out of an internal network");
    assert_eq!(lookup(client, &a, &b), [""; 0]);
    let routes = docker.ok(["exec", &c, "ip", "route"]);
    assert!(!routes.contains("default"), "{routes}");
    assert!(docker.ok(["exec", &d, "ip", "route"]).contains("default via"));
    // No way out by the name server either: the host has one, it is not asked.
    let asked = docker.run(["exec", &c, "nslookup", "-type=a", "neighbour.test", "127.0.0.11"]).expect("runs");
    assert!(!asked.success(), "{asked:?}");
    let (x, y) = (sleeper(client, "x", &["--network", &quiet]), sleeper(client, "y", &["--network", &quiet]));
    if engine.backend() == budu_testkit::Backend::Budu {
        // dockerd needs a kernel module for this.
        assert!(!reaches(&x, &y, &quiet), "containers that may not talk to each other");
    }
    docker.ok(["rm", "-f", &a, &b, &c, &d, &x, &y]);
    docker.ok(["network", "rm", &left, &right, &inner, &quiet]);
}

fn fixed_addresses(client: Client) {
    let (engine, docker) = (shared::engine(), shared::client(client));
    let (range, other) = (range(), range());
    let at = |last: u8| format!("{range}.{last}");
    let net = network(client, "fixed", &["--subnet", &format!("{range}.0/24")]);
    let free = network(client, "free", &[]);
    let flags = ["--network", &net, "--ip", &at(20), "--mac-address", "02:11:22:33:44:55"];
    let one = sleeper(client, "fixed", &flags);
    let seen = docker.ok(["exec", &one, "sh", "-c", "ip -o addr show eth0; ip -o link show eth0"]);
    assert!(seen.contains(&format!("inet {}/24", at(20))) && seen.contains("02:11:22:33:44:55"), "{seen}");
    let args = |net: &str, ip: &str| ["run", "--rm", "--network", net, "--ip", ip, BUSYBOX, "true"].map(str::to_owned);
    for (net, ip, complaint) in [
        (net.as_str(), at(20), "Address already in use".to_owned()),
        (&net, format!("{other}.20"), format!("no configured subnet or ip-range contain the IP address {other}.20")),
        (
            &free,
            at(21),
            "user specified IP address is supported only when connecting to networks with user configured subnets"
                .to_owned(),
        ),
        (
            "bridge",
            "10.88.0.99".to_owned(),
            "user specified IP address is supported on user defined networks only".to_owned(),
        ),
    ] {
        docker.run(args(net, &ip)).expect("runs").exits(125).complains(&complaint);
    }
    docker.ok(["restart", "-t", "0", &one]);
    assert_eq!(address(&engine, &one, &net), at(20));
    docker.ok(["rm", "-f", &one]);
    docker.ok(["network", "rm", &net, &free]);
}

/// An IPv6 range of this test's own, up to its last group: `fd00:77:0:3::`.
fn range6() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    format!("fd00:77:0:{:x}::", NEXT.fetch_add(1, Ordering::Relaxed))
}

fn settings6(engine: &Engine, container: &str, network: &str) -> (String, i64, String) {
    let settings = &inspect(engine, container)["NetworkSettings"]["Networks"][network];
    let text = |key: &str| settings[key].as_str().unwrap_or_default().to_owned();
    (text("GlobalIPv6Address"), settings["GlobalIPv6PrefixLen"].as_i64().unwrap_or_default(), text("IPv6Gateway"))
}

fn addresses_of_ipv6(client: Client) {
    let (engine, docker) = (shared::engine(), shared::client(client));
    let range = range6();
    let at = |last: &str| format!("{range}{last}");
    let local = network(client, "local6", &["--ipv6"]);
    let seen = network_of(&engine, &local);
    let subnets = seen["IPAM"]["Config"].as_array().expect("ranges");
    let own = subnets.iter().filter_map(|pool| pool["Subnet"].as_str()).find(|subnet| subnet.contains(':'));
    let own = own.unwrap_or_else(|| panic!("no IPv6 range in {seen}"));
    assert!(seen["EnableIPv6"] == json!(true) && own.starts_with("fd") && own.ends_with("/64"), "{seen}");
    let (subnet, part, gateway) = (at("/64"), at("/96"), at("ffff"));
    let flags = ["--ipv6", "--subnet", &subnet, "--ip-range", &part, "--gateway", &gateway];
    let given = network(client, "given6", &flags);
    let (fixed, late) = (at("f00d"), at("f00e"));
    let one = sleeper(client, "six", &["--network", &given, "--ip6", &fixed]);
    let two = sleeper(client, "next6", &["--network", &given]);
    let other = sleeper(client, "other6", &["--network", &local]);
    assert_eq!(settings6(&engine, &one, &given), (fixed.clone(), 64, gateway.clone()));
    let (ip, _, _) = settings6(&engine, &two, &given);
    assert!(ip.starts_with(&range) && ip != gateway, "{ip}");
    let script = "ip -o -6 addr show eth0; ip -6 route; cat /etc/hosts";
    let look = docker.ok(["exec", &one, "sh", "-c", script]);
    for part in [format!("inet6 {fixed}/64"), format!("default via {gateway} dev eth0"), format!("{fixed}\t")] {
        assert!(look.contains(&part), "{part} is not in {look}");
    }
    let id = inspect(&engine, &one)["Id"].as_str().expect("an id").to_owned();
    assert_eq!(network_of(&engine, &given)["Containers"][&id]["IPv6Address"], json!(format!("{fixed}/64")));
    // By name, within the network and not across.
    let script = format!("nslookup -type=aaaa {one} 127.0.0.11; nslookup {fixed} 127.0.0.11");
    let look = docker.ok(["exec", &two, "sh", "-c", &script]);
    assert!(look.contains(&format!("Address: {fixed}")) && look.contains(&format!("name = {one}.{given}")), "{look}");
    let reaches =
        |from: &str, to: &str| docker.run(["exec", from, "ping", "-6", "-c1", "-W1", to]).expect("runs").success();
    assert!(reaches(&two, &fixed) && reaches(&one, &ip) && reaches(&one, &gateway), "within a network");
    let (far, _, _) = settings6(&engine, &other, &local);
    assert!(!reaches(&one, &far) && !reaches(&other, &fixed), "from one network into another");
    // Coming and going.
    docker.ok(["network", "connect", "--ip6", &late, &given, &other]);
    assert_eq!(settings6(&engine, &other, &given).0, late);
    assert_eq!(
        inspect(&engine, &other)["NetworkSettings"]["Networks"][&given]["IPAMConfig"]["IPv6Address"],
        json!(late)
    );
    assert!(reaches(&other, &fixed) && reaches(&one, &late));
    docker.ok(["network", "disconnect", &given, &other]);
    assert!(!reaches(&other, &fixed));
    let args = |net: &str, ip: &str| ["run", "--rm", "--network", net, "--ip6", ip, BUSYBOX, "true"].map(str::to_owned);
    for (net, ip, complaint) in [
        (&given, &fixed, "Address already in use"),
        (&local, &late, "user specified IP address is supported only when connecting to networks with user configured"),
    ] {
        docker.run(args(net, ip)).expect("runs").exits(125).complains(complaint);
    }
    docker.ok(["restart", "-t", "0", &one]);
    assert_eq!(settings6(&engine, &one, &given).0, fixed);
    docker.ok(["rm", "-f", &one, &two, &other]);
    docker.ok(["network", "rm", &given, &local]);
}

fn ports_over_ipv6(client: Client) {
    let (engine, docker) = (shared::engine(), shared::client(client));
    let (range, port, four) = (range6(), port(), port());
    let net = network(client, "ports6", &["--ipv6", "--subnet", &format!("{range}/64")]);
    let web = name("web6");
    let script = "mkdir /www; echo six > /www/index.html; exec httpd -f -p 80 -h /www";
    let (both, one) = (format!("{port}:80"), format!("0.0.0.0:{four}:80"));
    let flags = ["--network", &net, "-p", &both, "-p", &one];
    docker.ok([&["run", "-d", "--init", "--name", &web], &flags[..], &[BUSYBOX, "sh", "-c", script]].concat());
    let bindings = &inspect(&engine, &web)["NetworkSettings"]["Ports"]["80/tcp"];
    let mut shown: Vec<String> = bindings
        .as_array()
        .expect("bindings")
        .iter()
        .map(|binding| {
            [&binding["HostIp"], &binding["HostPort"]].map(|part| part.as_str().unwrap_or_default()).join(" ")
        })
        .collect();
    shown.sort();
    let mut expected = [format!("0.0.0.0 {port}"), format!("0.0.0.0 {four}"), format!(":: {port}")];
    expected.sort();
    assert_eq!(shown, expected);
    assert!(docker.ok(["port", &web]).contains(&format!("80/tcp -> [::]:{port}")));
    let row = docker.ok(["ps", "--filter", &format!("name={web}"), "--format", "{{.Ports}}"]);
    assert!(row.contains(&format!("[::]:{port}->80/tcp")), "{row}");
    // At an address of the host, which the gateway is; from the host and from inside.
    let (ip, _, gateway) = settings6(&engine, &web, &net);
    crate::network::serves(engine.side(), &format!("[{gateway}]:{port}"), "six");
    crate::network::serves(engine.side(), &format!("[{ip}]:80"), "six");
    crate::network::serves(engine.side(), &format!("127.0.0.1:{port}"), "six");
    assert!(crate::network::fetch(engine.side(), &format!("[{gateway}]:{four}")).is_err(), "published on IPv4 only");
    let ask = format!("printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 3 {gateway} {port} | tail -n 1");
    assert_eq!(docker.ok(["exec", &web, "sh", "-c", &ask]), "six");
    docker.ok(["rm", "-f", &web]);
    assert!(crate::network::fetch(engine.side(), &format!("[{gateway}]:{port}")).is_err());
    docker.ok(["network", "rm", &net]);
}

fn shared_namespace(client: Client) {
    let (engine, docker) = (shared::engine(), shared::client(client));
    let net = network(client, "shared", &[]);
    let owner = sleeper(client, "owner", &["--network", &net, "--hostname", "owner-host"]);
    let mode = format!("container:{owner}");
    let script = "hostname; ip -o -4 addr show eth0; cat /etc/hosts /etc/resolv.conf";
    let seen = docker.ok(["run", "--rm", "--network", &mode, BUSYBOX, "sh", "-c", script]);
    let ip = address(&engine, &owner, &net);
    assert!(seen.starts_with("owner-host") && seen.contains(&format!("inet {ip}/")), "{seen}");
    assert!(seen.contains(&format!("{ip}\towner-host")) && seen.contains("127.0.0.11"), "{seen}");
    let guest = sleeper(client, "guest", &["--network", &mode]);
    assert_eq!(lookup(client, &guest, &owner), [ip]);
    docker
        .run(["network", "connect", "bridge", &guest])
        .expect("runs")
        .exits(1)
        .complains("cannot be connected to any other network");
    docker.ok(["kill", &owner]);
    docker
        .run(["run", "--rm", "--network", &mode, BUSYBOX, "true"])
        .expect("runs")
        .exits(125)
        .complains("cannot join network namespace of a non running container");
    docker.ok(["rm", "-f", &guest, &owner]);
    docker.ok(["network", "rm", &net]);
}

fn links_of_the_default_bridge(client: Client) {
    let (engine, docker) = (shared::engine(), shared::client(client));
    let db = sleeper(client, "linked", &["--expose", "5432", "-e", "WHO=me"]);
    let link = format!("{db}:store");
    let web = sleeper(client, "linking", &["--link", &link]);
    let seen = docker.ok(["exec", &web, "cat", "/etc/hosts"]);
    let id = inspect(&engine, &db)["Id"].as_str().expect("an id")[..12].to_owned();
    let ip = address(&engine, &db, "bridge");
    assert!(seen.contains(&format!("{ip}\tstore {id} {db}\n")), "{seen}");
    let env = docker.ok(["run", "--rm", "--link", &link, BUSYBOX, "env"]);
    for line in [format!("STORE_PORT_5432_TCP=tcp://{ip}:5432"), "STORE_ENV_WHO=me".to_owned()] {
        assert!(env.lines().any(|have| have == line), "{line} is not in {env}");
    }
    let links = &inspect(&engine, &web)["HostConfig"]["Links"];
    assert_eq!(*links, json!([format!("/{db}:/{web}/store")]));
    docker.ok(["kill", &db]);
    docker
        .run(["restart", "-t", "0", &web])
        .expect("runs")
        .exits(1)
        .complains("Cannot link to a non running container");
    docker.ok(["rm", "-f", &web, &db]);
}

fn network_refusals() {
    let engine = shared::engine();
    let net = name("refuse");
    let create = |body: Value| engine.http("POST", "/networks/create", Some(&body)).expect("an answer");
    create(json!({"Name": net, "IPAM": {"Config": [{"Subnet": "10.77.30.0/24"}]}})).expect(201);
    let pool = |subnet: &str| json!({"Name": name("r"), "IPAM": {"Config": [{"Subnet": subnet}]}});
    for (body, status, text) in [
        (json!({"Name": net}), 409, format!("network with name {net} already exists")),
        (json!({"Name": "bridge"}), 403, "operation is not permitted on predefined bridge network ".into()),
        (json!({"Name": " "}), 400, "invalid name: name is empty".into()),
        (
            pool("10.77.30.1/24"),
            400,
            "invalid network config:\ninvalid subnet 10.77.30.1/24: it should be 10.77.30.0/24".into(),
        ),
        (
            pool("10.77.30.128/25"),
            403,
            "invalid pool request: Pool overlaps with other one on this address space".into(),
        ),
        (json!({"Name": name("r"), "Driver": "host"}), 403, "only one instance of \"host\" network is allowed".into()),
    ] {
        let answer = create(body).expect(status);
        assert!(answer.message().starts_with(&text), "{} is not {text}", answer.message());
    }
    let http = |method: &str, path: &str, body: Option<&Value>| engine.http(method, path, body).expect("an answer");
    http("DELETE", "/networks/bridge", None).expect(403);
    http("DELETE", "/networks/nope", None).expect(404);
    let body = json!({"Container": "nobody"});
    let answer = http("POST", &format!("/networks/{net}/connect"), Some(&body)).expect(404);
    assert_eq!(answer.message(), "No such container: nobody");
    let docker = shared::client(Client::Docker);
    docker
        .run(["run", "--rm", "--network", "nope", BUSYBOX, "true"])
        .expect("runs")
        .exits(125)
        .complains("failed to set up container networking: network nope not found");
    http("DELETE", &format!("/networks/{net}"), None).expect(204);
}

fn published_ports_on_own_networks() {
    let (engine, port, other) = (shared::engine(), port(), port());
    let docker = shared::client(Client::Docker);
    let (net, inner) = (network(Client::Docker, "ports", &[]), network(Client::Docker, "inside", &["--internal"]));
    let flags =
        ["--network", &net, "--network", &inner, "-p", &format!("{port}:80"), "-p", &format!("127.0.0.1:{other}:80")];
    let web = name("web");
    let script = "mkdir /www; echo own > /www/index.html; exec httpd -f -p 80 -h /www";
    docker.ok([&["run", "-d", "--init", "--name", &web], &flags[..], &[BUSYBOX, "sh", "-c", script]].concat());
    crate::network::serves(engine.lan(), &format!("{}:{port}", budu_testkit::HOST), "own");
    crate::network::serves(engine.side(), &format!("127.0.0.1:{other}"), "own");
    // The ports follow the way out.
    docker.ok(["network", "disconnect", &net, &web]);
    assert!(
        crate::network::fetch(engine.lan(), &format!("{}:{port}", budu_testkit::HOST)).is_err(),
        "published on an internal network"
    );
    docker.ok(["network", "connect", "bridge", &web]);
    crate::network::serves(engine.lan(), &format!("{}:{port}", budu_testkit::HOST), "own");
    docker.ok(["rm", "-f", &web]);
    docker.ok(["network", "rm", &net, &inner]);
}

/// Names that belong to no container are asked of the server that was given.
fn names_from_outside() {
    let engine = shared::engine();
    let server = engine.lan().in_network(|| std::net::UdpSocket::bind((budu_testkit::NEIGHBOUR, 53)));
    let server = server.expect("entered").expect("bound");
    server.set_read_timeout(Some(Duration::from_secs(20))).expect("set");
    let serve = std::thread::spawn(move || {
        let mut buffer = [0; 512];
        let (length, from) = server.recv_from(&mut buffer).expect("a question");
        // The question again, as an answer with one address.
        let mut answer = buffer[..length].to_vec();
        answer[2] |= 0x80;
        answer[7] = 1;
        let end = 12 + answer[12..].iter().position(|byte| *byte == 0).expect("a name") + 5;
        answer.truncate(end);
        (answer[8], answer[9], answer[10], answer[11]) = (0, 0, 0, 0);
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 99]);
        server.send_to(&answer, from).expect("sent");
        from.ip().to_string()
    });
    let net = network(Client::Docker, "outside", &[]);
    let asker = sleeper(Client::Docker, "asker", &["--network", &net, "--dns", budu_testkit::NEIGHBOUR]);
    assert_eq!(lookup(Client::Docker, &asker, "far.example.test"), ["192.0.2.99"]);
    assert_eq!(serve.join().expect("no panic"), budu_testkit::HOST, "asked by the way the container takes");
    let docker = shared::client(Client::Docker);
    docker.ok(["rm", "-f", &asker]);
    docker.ok(["network", "rm", &net]);
}

fn network_events() {
    let engine = shared::engine();
    let docker = shared::client(Client::Docker);
    let since = shared::in_seconds(0);
    let net = network(Client::Docker, "events", &[]);
    let one = sleeper(Client::Docker, "told", &["--network", &net]);
    docker.ok(["rm", "-f", &one]);
    docker.ok(["network", "rm", &net]);
    let format = "{{.Action}} {{.Actor.Attributes.name}} {{.Actor.Attributes.type}}";
    let args = [
        "events",
        "--since",
        &since,
        "--until",
        &shared::in_seconds(1),
        "--filter",
        "type=network",
        "--format",
        format,
    ];
    let events = docker.ok(args);
    let own: Vec<&str> = events.lines().filter(|line| line.contains(&net)).collect();
    let expected = ["create", "connect", "disconnect", "destroy"].map(|action| format!("{action} {net} bridge"));
    assert_eq!(own, expected, "{}", engine.log());
}

fn networks_survive_a_kill() {
    only_budu("dockerd answers no names while it is away, and kills what it finds");
    let engine = shared::engine_for("killed networks", || budu_testkit::Options {
        images: vec![BUSYBOX],
        ..budu_testkit::Options::default()
    });
    let docker = engine.client(Client::Docker);
    docker.ok(["network", "create", "--subnet", "10.78.1.0/24", "kept"]);
    docker.ok(["run", "-d", "--init", "--name", "kept-a", "--network", "kept", BUSYBOX, "sleep", "1000"]);
    docker.ok([
        "run",
        "-d",
        "--init",
        "--name",
        "kept-b",
        "--network",
        "kept",
        "--network-alias",
        "b",
        BUSYBOX,
        "sleep",
        "1000",
    ]);
    let before = network_of(&engine, "kept");
    engine.stop_daemon(rustix::process::Signal::KILL).expect("killed");
    engine.start_daemon().expect("started again");
    assert_eq!(network_of(&engine, "kept"), before);
    let find = || docker.run(["exec", "kept-a", "nslookup", "-type=a", "b", "127.0.0.11"]).ok().filter(|o| o.success());
    wait::until("names to be answered again", Duration::from_secs(5), find).expect("answers");
    docker.ok(["network", "connect", "bridge", "kept-a"]);
    docker.ok(["network", "disconnect", "kept", "kept-b"]);
    docker.ok(["rm", "-f", "kept-a", "kept-b"]);
    assert!(docker.ok(["network", "prune", "-f"]).contains("kept"));
    assert!(!docker.ok(["network", "ls", "-q", "--format", "{{.Name}}"]).contains("kept"));
}
