//! Networks.

use budu_engine::Engine;
use budu_network::{CreateRequest, Network, PoolRequest};
use budu_spec::Filters;
use budu_spec::docker::{
    ApiVersion, ConfigReference, Ipam, IpamPool, Network as Shape, NetworkConnect, NetworkContainer, NetworkCreate,
    NetworkCreated, NetworkDisconnect, NetworksPruned,
};
use hyper::StatusCode;

use crate::http::{Body, Call, Failure, Reply, json, no_content, ok};

/// Filter keys of `GET /networks`.
const KEYS: &[&str] = &["dangling", "driver", "id", "label", "label!", "name", "scope", "type"];

/// `GET /networks`.
pub(crate) async fn list(call: Call) -> Reply {
    let filters = call.filters()?;
    filters.check_keys(KEYS)?;
    let dangling = filters.flag("dangling")?;
    if let Some(kind) = filters.values("type").iter().find(|kind| !matches!(kind.as_str(), "builtin" | "custom")) {
        return Err(Failure::invalid(format!("invalid filter: 'type'='{kind}'")));
    }
    let wanted = |network: &&Network| takes(&filters, dangling, network);
    let networks = call.app.engine.networks().list();
    let rows: Vec<Shape> = networks.iter().filter(wanted).map(|n| shape(&call, n, false)).collect();
    ok(&rows)
}

fn takes(filters: &Filters, dangling: Option<bool>, network: &Network) -> bool {
    let ids = filters.values("id");
    let unused = !network.is_predefined() && network.endpoints.is_empty();
    filters.allows("driver", network.driver.driver())
        && filters.allows("scope", "local")
        && filters.matches("name", &network.name)
        && (ids.is_empty() || ids.iter().any(|id| network.id.starts_with(id.as_str())))
        && dangling.is_none_or(|wanted| wanted == unused)
        && filters.allows("type", if network.is_predefined() { "builtin" } else { "custom" })
        && filters.labels_match(&network.labels)
}

/// `GET /networks/{id}`.
pub(crate) async fn inspect(call: Call) -> Reply {
    let scope = call.query.text("scope");
    if let Some(text) = call.query.get("verbose").filter(|text| !text.is_empty())
        && !matches!(text, "1" | "t" | "T" | "true" | "TRUE" | "True" | "0" | "f" | "F" | "false" | "FALSE" | "False")
    {
        let parse = format!("strconv.ParseBool: parsing \"{text}\": invalid syntax");
        return Err(Failure::invalid(format!("invalid value for verbose: {text}: {parse}")));
    }
    let network = call.app.engine.networks().get(&call.name)?;
    if !scope.is_empty() && scope != "local" {
        return Err(Failure { status: StatusCode::NOT_FOUND, message: format!("network {} not found", call.name) });
    }
    ok(&shape(&call, &network, true))
}

/// `POST /networks/create`.
pub(crate) async fn create(mut call: Call) -> Reply {
    let wish: NetworkCreate = call.json().await?;
    let request = request(wish, call.version)?;
    let engine = call.app.engine.clone();
    let id = blocking(move || Ok(engine.create_network(request)?)).await?;
    json(StatusCode::CREATED, &NetworkCreated { id, warning: String::new() })
}

fn request(wish: NetworkCreate, version: ApiVersion) -> Result<CreateRequest, Failure> {
    let absent = [
        (wish.config_only, "a configuration-only network"),
        (wish.config_from.as_ref().is_some_and(|from| !from.network.is_empty()), "a network from a configuration"),
    ];
    if let Some((_, what)) = absent.into_iter().find(|(asked, _)| *asked) {
        return Err(Failure::not_implemented(what));
    }
    if wish.scope == "swarm" || wish.scope == "global" {
        let message = "cannot create a swarm scoped network when swarm is not active".to_owned();
        return Err(Failure { status: StatusCode::FORBIDDEN, message });
    }
    if wish.ingress {
        let message = "Ingress network can only be global scope network".to_owned();
        return Err(Failure { status: StatusCode::FORBIDDEN, message });
    }
    let ipam = wish.ipam.unwrap_or_default();
    let pool = |pool: IpamPool| PoolRequest {
        subnet: pool.subnet,
        range: pool.ip_range,
        gateway: pool.gateway,
        auxiliary: pool.auxiliary_addresses.unwrap_or_default(),
    };
    Ok(CreateRequest {
        name: wish.name,
        driver: wish.driver,
        internal: wish.internal,
        attachable: wish.attachable,
        ipv4: wish.enable_ipv4.filter(|_| version >= ApiVersion::new(48)),
        ipv6: wish.enable_ipv6,
        ipam_driver: ipam.driver,
        ipam_options: ipam.options,
        pools: ipam.config.into_iter().map(pool).collect(),
        options: wish.options,
        labels: wish.labels,
        now: 0,
    })
}

/// `DELETE /networks/{id}`.
pub(crate) async fn remove(call: Call) -> Reply {
    let (engine, name) = (call.app.engine.clone(), call.name.clone());
    blocking(move || Ok(engine.remove_network(&name)?)).await?;
    no_content()
}

/// `POST /networks/prune`.
pub(crate) async fn prune(call: Call) -> Reply {
    let (engine, filters) = (call.app.engine.clone(), call.filters()?);
    let names = blocking(move || Ok(engine.prune_networks(&filters)?)).await?;
    ok(&NetworksPruned { networks_deleted: (!names.is_empty()).then_some(names) })
}

/// `POST /networks/{id}/connect`.
pub(crate) async fn connect(mut call: Call) -> Reply {
    let wish: NetworkConnect = call.json().await?;
    let settings = wish.endpoint_config.unwrap_or_default();
    call.app.engine.connect(&call.name, &wish.container, settings).await?;
    Ok(hyper::Response::new(Body::empty()))
}

/// `POST /networks/{id}/disconnect`.
pub(crate) async fn disconnect(mut call: Call) -> Reply {
    let wish: NetworkDisconnect = call.json().await?;
    call.app.engine.disconnect(&call.name, &wish.container, wish.force).await?;
    Ok(hyper::Response::new(Body::empty()))
}

/// Definitions are synced to disk: not on a thread that serves others.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Failure> + Send + 'static) -> Result<T, Failure> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| Failure::internal(format!("the work on a network was cut short: {error}")))?
}

fn shape(call: &Call, network: &Network, with_containers: bool) -> Shape {
    let config = network.pools.iter().map(|pool| IpamPool {
        subnet: pool.subnet.to_string(),
        ip_range: pool.range.map(|range| range.to_string()).unwrap_or_default(),
        gateway: pool.gateway.map(|gateway| gateway.to_string()).unwrap_or_default(),
        auxiliary_addresses: (!pool.auxiliary.is_empty())
            .then(|| pool.auxiliary.iter().map(|(name, ip)| (name.clone(), ip.to_string())).collect()),
    });
    let endpoints = network.endpoints.iter().filter(|_| with_containers);
    Shape {
        name: network.name.clone(),
        id: network.id.clone(),
        // The networks that are always there came with the daemon.
        created: if network.created == 0 {
            budu_spec::units::rfc3339_nano(call.app.host.started)
        } else {
            budu_spec::units::print_time(network.created)
        },
        scope: "local".to_owned(),
        driver: network.driver.driver().to_owned(),
        enable_ipv4: network.ipv4,
        enable_ipv6: network.ipv6,
        ipam: Ipam {
            driver: network.ipam_driver.clone(),
            options: network.ipam_options.clone(),
            config: (!network.pools.is_empty()).then(|| config.collect()),
        },
        internal: network.internal,
        attachable: network.attachable,
        config_from: ConfigReference::default(),
        containers: endpoints.map(|e| member(&call.app.engine, e)).collect(),
        options: network.options.clone(),
        labels: network.labels.clone(),
        ..Shape::default()
    }
}

fn member(engine: &Engine, endpoint: &budu_network::Endpoint) -> (String, NetworkContainer) {
    let member = NetworkContainer {
        name: engine.name_of(&endpoint.container).unwrap_or_default(),
        endpoint_id: endpoint.endpoint_id.clone(),
        mac_address: endpoint.mac.map(|m| m.to_string()).unwrap_or_default(),
        ipv4_address: endpoint.ip.map(|ip| format!("{ip}/{}", endpoint.prefix)).unwrap_or_default(),
        ipv6_address: endpoint.ip6.map(|ip| format!("{ip}/{}", endpoint.prefix6)).unwrap_or_default(),
    };
    (endpoint.container.clone(), member)
}
