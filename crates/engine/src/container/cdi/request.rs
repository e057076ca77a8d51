//! Which described devices a request means.

use budu_spec::docker::DeviceRequest;

use super::Known;
use crate::Error;

/// Drivers that provide GPUs, and the kind their devices are described as.
const GPUS: [(&str, &str); 3] = [("nvidia", "nvidia.com/gpu"), ("amd", "amd.com/gpu"), ("intel", "intel.com/gpu")];

/// Full names of the devices that a request means.
pub(super) fn resolve(request: &DeviceRequest, known: &Known) -> Result<Vec<String>, Error> {
    let ids = request.device_ids.clone().unwrap_or_default();
    match request.driver.as_str() {
        "cdi" if request.count != 0 && ids.is_empty() => {
            Err(Error::invalid("cannot ask for CDI devices by count: name them as vendor.com/class=name"))
        }
        "cdi" => Ok(ids),
        driver => gpus(driver, request, &ids, known),
    }
}

fn gpus(driver: &str, request: &DeviceRequest, ids: &[String], known: &Known) -> Result<Vec<String>, Error> {
    let wishes = request.capabilities.clone().unwrap_or_default();
    let wanted = wishes.is_empty() || wishes.iter().any(|all| all.iter().any(|one| one == "gpu"));
    let mut kinds = GPUS.iter().filter(|(name, _)| driver.is_empty() || driver == *name).map(|(_, kind)| *kind);
    let found = kinds.find(|kind| wanted && !known.of_kind(kind).is_empty());
    let Some(kind) = found else {
        let lists: Vec<String> = wishes.iter().map(|all| format!("[{}]", all.join(" "))).collect();
        return Err(Error::invalid(format!(
            "could not select device driver {driver:?} with capabilities: [{}]",
            lists.join(" ")
        )));
    };
    let all = known.of_kind(kind);
    let full = |name: &str| if name.contains('=') { name.to_owned() } else { format!("{kind}={name}") };
    if !ids.is_empty() {
        return Ok(ids.iter().map(|id| full(id)).collect());
    }
    // Vendors describe all of them together as well, by this name.
    if request.count < 0 && all.contains(&"all") {
        return Ok(vec![full("all")]);
    }
    let each: Vec<&str> = all.into_iter().filter(|name| *name != "all" && is_index(name)).collect();
    let Ok(count) = usize::try_from(request.count) else { return Ok(each.into_iter().map(full).collect()) };
    if count > each.len() {
        return Err(Error::invalid(format!("cannot give {count} GPUs: {kind} describes {} of them", each.len())));
    }
    Ok(each[..count].iter().map(|name| full(name)).collect())
}

/// Devices are described by number, and again under other names.
fn is_index(name: &str) -> bool {
    name.bytes().all(|byte| byte.is_ascii_digit())
}
