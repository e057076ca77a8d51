//! Networks.

use budu_network::Network;
use budu_spec::Filters;
use budu_spec::docker::{ConfigReference, Ipam, IpamPool, Network as Shape, NetworkContainer};
use budu_spec::units::ZERO_TIME;

use crate::http::{Call, Failure, Reply, ok};

/// Filter keys of `GET /networks`.
const KEYS: &[&str] = &["dangling", "driver", "id", "label", "label!", "name", "scope", "type"];

/// `GET /networks`.
pub(crate) async fn list(call: Call) -> Reply {
    let filters = call.filters()?;
    filters.check_keys(KEYS)?;
    let dangling = filters.flag("dangling")?;
    let wanted = |network: &&Network| takes(&filters, dangling, network);
    let networks = call.app.engine.networks().list();
    let rows: Vec<Shape> = networks.iter().filter(wanted).map(|n| shape(&call, n, false)).collect();
    ok(&rows)
}

fn takes(filters: &Filters, dangling: Option<bool>, network: &Network) -> bool {
    let ids = filters.values("id");
    filters.allows("driver", &network.driver)
        && filters.allows("scope", &network.scope)
        && filters.matches("name", &network.name)
        && (ids.is_empty() || ids.iter().any(|id| network.id.starts_with(id.as_str())))
        // All are predefined: never dangling, never custom, without labels.
        && dangling != Some(true)
        && filters.allows("type", "builtin")
        && filters.labels_match(&Default::default())
}

/// `GET /networks/{id}`.
pub(crate) async fn inspect(call: Call) -> Reply {
    let scope = call.query.text("scope");
    let network = call.app.engine.networks().get(&call.name)?;
    if !scope.is_empty() && scope != network.scope {
        return Err(Failure {
            status: hyper::StatusCode::NOT_FOUND,
            message: format!("network {} not found", call.name),
        });
    }
    ok(&shape(&call, &network, true))
}

fn shape(call: &Call, network: &Network, with_containers: bool) -> Shape {
    let config = network.subnet.map(|subnet| {
        let gateway = network.gateway.map(|g| g.to_string()).unwrap_or_default();
        vec![IpamPool { subnet: subnet.to_string(), gateway, ..IpamPool::default() }]
    });
    let endpoints = network.endpoints.iter().filter(|_| with_containers).map(|e| {
        let member = NetworkContainer {
            name: call.app.engine.name_of(&e.container).unwrap_or_default(),
            endpoint_id: e.endpoint_id.clone(),
            mac_address: e.mac.map(|m| m.to_string()).unwrap_or_default(),
            ipv4_address: e.ip.map(|ip| format!("{ip}/{}", e.prefix)).unwrap_or_default(),
            ipv6_address: String::new(),
        };
        (e.container.clone(), member)
    });
    Shape {
        name: network.name.clone(),
        id: network.id.clone(),
        created: ZERO_TIME.to_owned(),
        scope: network.scope.clone(),
        driver: network.driver.clone(),
        enable_ipv4: true,
        enable_ipv6: false,
        ipam: Ipam { driver: "default".to_owned(), options: None, config: Some(config.unwrap_or_default()) },
        config_from: ConfigReference::default(),
        containers: endpoints.collect(),
        options: network.options.clone(),
        ..Shape::default()
    }
}
