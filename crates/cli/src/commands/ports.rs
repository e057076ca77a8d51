//! `port`, and how ports are shown in tables.

use budu_spec::docker::{ContainerInspect, PortSummary};

use super::Command;
use super::run::path_of;
use crate::cli::Cli;
use crate::client::Call;
use crate::error::Error;
use crate::flags::Arity;
use crate::table::put;

/// `port`.
#[derive(Debug, clap::Args)]
pub(super) struct Port {
    args: Vec<String>,
}

impl Command for Port {
    const ABOUT: &'static str = "Show the published ports of a container";
    const USAGE: &'static str = "CONTAINER [PRIVATE_PORT[/PROTO]]";
    const ARITY: Arity = Arity::Between(1, 2);

    async fn run(self, cli: &Cli) -> Result<i32, Error> {
        let container: ContainerInspect =
            cli.client()?.json(Call::get(format!("{}/json", path_of(&self.args[0])))).await?;
        let wanted = self.args.get(1).map(|port| if port.contains('/') { port.clone() } else { format!("{port}/tcp") });
        let mut lines: Vec<(u16, String)> = Vec::new();
        for (port, bindings) in &container.network_settings.ports {
            if wanted.as_ref().is_some_and(|wanted| wanted != port) {
                continue;
            }
            let number = port.split('/').next().and_then(|number| number.parse().ok()).unwrap_or_default();
            for binding in bindings.iter().flatten() {
                let address = join(&binding.host_ip, &binding.host_port);
                lines.push((
                    number,
                    if wanted.is_some() { format!("{address}\n") } else { format!("{port} -> {address}\n") },
                ));
            }
        }
        if let Some(wanted) = wanted.filter(|_| lines.is_empty()) {
            return Err(Error::new(format_args!("no public port '{wanted}' published for {}", self.args[0])));
        }
        lines.sort();
        put(&lines.into_iter().map(|(_, line)| line).collect::<String>())?;
        Ok(0)
    }
}

fn join(address: &str, port: &str) -> String {
    if address.contains(':') { format!("[{address}]:{port}") } else { format!("{address}:{port}") }
}

/// The PORTS column: neighbouring ports that map to themselves are shown as a range.
pub(super) fn displayed(ports: &[PortSummary]) -> String {
    let mut sorted: Vec<&PortSummary> = ports.iter().collect();
    sorted.sort_by_key(|port| (port.private_port, port.ip.clone(), port.public_port, port.kind.clone()));
    let (mut closed, mut single) = (Vec::new(), Vec::new());
    let mut open: Vec<((String, String), (u16, u16))> = Vec::new();
    for port in sorted {
        let address = port.ip.clone().unwrap_or_default();
        let public = port.public_port.unwrap_or_default();
        if !address.is_empty() && public != port.private_port {
            single.push(format!("{}->{}/{}", join(&address, &public.to_string()), port.private_port, port.kind));
            continue;
        }
        let key = (address, port.kind.clone());
        match open.iter_mut().find(|(known, _)| *known == key) {
            None => open.push((key, (port.private_port, port.private_port))),
            Some((_, (_, last))) if port.private_port == last.saturating_add(1) => *last = port.private_port,
            Some((key, range)) => {
                closed.push(range_text(key, *range));
                *range = (port.private_port, port.private_port);
            }
        }
    }
    closed.extend(open.iter().map(|(key, range)| range_text(key, *range)));
    closed.extend(single);
    closed.join(", ")
}

fn range_text((address, kind): &(String, String), (first, last): (u16, u16)) -> String {
    let range = if first == last { first.to_string() } else { format!("{first}-{last}") };
    if address.is_empty() { format!("{range}/{kind}") } else { format!("{}->{range}/{kind}", join(address, &range)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden() {
        let port = |ip: &str, private, public, kind: &str| PortSummary {
            ip: Some(ip.to_owned()).filter(|ip| !ip.is_empty()),
            private_port: private,
            public_port: public,
            kind: kind.to_owned(),
        };
        let ports = [
            port("0.0.0.0", 80, Some(8080), "tcp"),
            port("::", 80, Some(8080), "tcp"),
            port("", 9000, None, "tcp"),
            port("", 9001, None, "tcp"),
            port("0.0.0.0", 53, Some(53), "udp"),
        ];
        assert_eq!(displayed(&ports), "0.0.0.0:53->53/udp, 9000-9001/tcp, 0.0.0.0:8080->80/tcp, [::]:8080->80/tcp");
        assert_eq!(displayed(&[]), "");
    }
}
