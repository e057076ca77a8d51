//! Names for containers nobody named, and the rule every name keeps.

const FIRST: &[&str] = &[
    "able", "amber", "bold", "brave", "bright", "brisk", "calm", "candid", "clear", "clever", "coastal", "crisp",
    "deep", "eager", "early", "fair", "fleet", "fond", "free", "fresh", "gentle", "glad", "golden", "grand", "hardy",
    "honest", "humble", "jolly", "keen", "kind", "lively", "lucid", "lunar", "merry", "mild", "modest", "nimble",
    "noble", "patient", "placid", "polite", "proud", "quick", "quiet", "ready", "robust", "salty", "serene", "sharp",
    "silent", "silver", "sincere", "solar", "solid", "steady", "stout", "sturdy", "subtle", "sunny", "swift", "tidal",
    "tidy", "tough", "trusty", "upbeat", "vast", "vivid", "warm", "wise", "witty", "young", "zesty",
];

const SECOND: &[&str] = &[
    "amundsen",
    "anchor",
    "barge",
    "bay",
    "beacon",
    "bosun",
    "bow",
    "brig",
    "buoy",
    "canoe",
    "cape",
    "cargo",
    "clipper",
    "compass",
    "coral",
    "cove",
    "crane",
    "crew",
    "current",
    "cutter",
    "davit",
    "deck",
    "delta",
    "dock",
    "dory",
    "ferry",
    "fjord",
    "fleet",
    "frigate",
    "galley",
    "gull",
    "harbor",
    "hawser",
    "helm",
    "heron",
    "hull",
    "jetty",
    "kayak",
    "keel",
    "ketch",
    "lagoon",
    "lantern",
    "lighthouse",
    "lugger",
    "marina",
    "mast",
    "mooring",
    "oar",
    "orca",
    "osprey",
    "packet",
    "pelican",
    "petrel",
    "pier",
    "pilot",
    "pinnace",
    "port",
    "prow",
    "quay",
    "reef",
    "rigger",
    "rudder",
    "sail",
    "schooner",
    "sextant",
    "shoal",
    "skiff",
    "sloop",
    "spar",
    "tern",
    "tide",
    "tiller",
    "trawler",
    "tug",
    "voyage",
    "wharf",
    "winch",
    "yawl",
];

/// Draws `adjective_noun`; with `retry > 0` a digit is added, as the engine
/// does when the first draw is taken.
pub fn random(retry: u32) -> String {
    let mut bytes = [0u8; 5];
    getrandom::fill(&mut bytes).expect("the kernel's random source never fails once booted");
    let pick = |list: &[&'static str], at: usize| {
        list[(usize::from(bytes[at]) << 8 | usize::from(bytes[at + 1])) % list.len()]
    };
    let name = format!("{}_{}", pick(FIRST, 0), pick(SECOND, 2));
    if retry == 0 { name } else { format!("{name}{}", bytes[4] % 10) }
}

/// Tells whether a container or volume name follows Docker's rule
/// `[a-zA-Z0-9][a-zA-Z0-9_.-]+`.
pub fn is_valid(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|b| b.is_ascii_alphanumeric())
        && name.len() >= 2
        && bytes.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_names_are_valid() {
        for retry in 0..50 {
            assert!(is_valid(&random(retry)));
        }
    }

    #[test]
    fn rule() {
        for (name, good) in [("web", true), ("a", false), ("_x", false), ("a/b", false), ("a.b-c_9", true), ("", false)]
        {
            assert_eq!(is_valid(name), good, "{name:?}");
        }
    }
}
