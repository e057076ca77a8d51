//! What `events` tells of cache and memory bandwidth, in runc's names.

use std::path::Path;

use serde::Serialize;

use super::measure::number;
use super::metrics::zero;

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub(crate) struct RdtMetrics {
    #[serde(skip_serializing_if = "Option::is_none")]
    l3_cache_info: Option<CacheInfo>,
    #[serde(skip_serializing_if = "String::is_empty")]
    l3_cache_schema_root: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    l3_cache_schema: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    mem_bw_info: Option<BandwidthInfo>,
    #[serde(skip_serializing_if = "String::is_empty")]
    mem_bw_schema_root: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    mem_bw_schema: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    mbm_stats: Option<Vec<Bandwidth>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cmt_stats: Option<Vec<Occupancy>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
struct CacheInfo {
    #[serde(skip_serializing_if = "String::is_empty")]
    cbm_mask: String,
    #[serde(skip_serializing_if = "zero")]
    min_cbm_bits: u64,
    #[serde(skip_serializing_if = "zero")]
    num_closids: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
struct BandwidthInfo {
    #[serde(skip_serializing_if = "zero")]
    bandwidth_gran: u64,
    #[serde(skip_serializing_if = "zero")]
    delay_linear: u64,
    #[serde(skip_serializing_if = "zero")]
    min_bandwidth: u64,
    #[serde(skip_serializing_if = "zero")]
    num_closids: u64,
}

/// Of one NUMA node, bytes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
struct Bandwidth {
    mbm_total_bytes: u64,
    mbm_local_bytes: u64,
}

/// Of one NUMA node, bytes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
struct Occupancy {
    llc_occupancy: u64,
}

impl RdtMetrics {
    /// `root` is where resctrl is mounted, `group` the container's directory.
    pub(super) fn read(root: &Path, group: &Path) -> RdtMetrics {
        let text = |path: &Path, file: &str| std::fs::read_to_string(path.join(file)).unwrap_or_default();
        let value = |path: &Path, file: &str| number(&text(path, file)).unwrap_or(0);
        let schema = |path: &Path, name: &str| {
            let text = text(path, "schemata");
            text.lines().rfind(|line| line.contains(name)).unwrap_or_default().trim().to_owned()
        };
        let mut found = RdtMetrics::default();
        let cache = root.join("info/L3");
        if cache.exists() {
            found.l3_cache_info = Some(CacheInfo {
                cbm_mask: text(&cache, "cbm_mask").trim().to_owned(),
                min_cbm_bits: value(&cache, "min_cbm_bits"),
                num_closids: value(&cache, "num_closids"),
            });
            (found.l3_cache_schema_root, found.l3_cache_schema) = (schema(root, "L3"), schema(group, "L3"));
        }
        let bandwidth = root.join("info/MB");
        if bandwidth.exists() {
            found.mem_bw_info = Some(BandwidthInfo {
                bandwidth_gran: value(&bandwidth, "bandwidth_gran"),
                delay_linear: value(&bandwidth, "delay_linear"),
                min_bandwidth: value(&bandwidth, "min_bandwidth"),
                num_closids: value(&bandwidth, "num_closids"),
            });
            (found.mem_bw_schema_root, found.mem_bw_schema) = (schema(root, "MB"), schema(group, "MB"));
        }
        let features = text(root, "info/L3_MON/mon_features");
        let has = |name: &str| features.lines().any(|line| line == name);
        let nodes = std::fs::read_dir(group.join("mon_data")).into_iter().flatten().flatten();
        let mut nodes: Vec<_> = nodes.map(|entry| entry.path()).collect();
        nodes.sort();
        if has("mbm_total_bytes") || has("mbm_local_bytes") {
            let node = |node: &std::path::PathBuf| Bandwidth {
                mbm_total_bytes: value(node, "mbm_total_bytes"),
                mbm_local_bytes: value(node, "mbm_local_bytes"),
            };
            found.mbm_stats = Some(nodes.iter().map(node).collect());
        }
        if has("llc_occupancy") {
            let node = |node: &std::path::PathBuf| Occupancy { llc_occupancy: value(node, "llc_occupancy") };
            found.cmt_stats = Some(nodes.iter().map(node).collect());
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_files_say() {
        let root = std::env::temp_dir().join(format!("budu-resctrl-{}-metrics", std::process::id()));
        for (file, text) in [
            ("schemata", "    L3:0=fffff\n    MB:0=100\n"),
            ("info/L3/cbm_mask", "fffff\n"),
            ("info/L3/min_cbm_bits", "1\n"),
            ("info/L3/num_closids", "16\n"),
            ("info/MB/min_bandwidth", "10\n"),
            ("info/L3_MON/mon_features", "llc_occupancy\nmbm_total_bytes\n"),
            ("box/schemata", "    L3:0=7f0\n    MB:0=20\n"),
            ("box/mon_data/mon_L3_00/llc_occupancy", "4096\n"),
            ("box/mon_data/mon_L3_00/mbm_total_bytes", "Unavailable\n"),
        ] {
            std::fs::create_dir_all(root.join(file).parent().unwrap()).unwrap();
            std::fs::write(root.join(file), text).unwrap();
        }
        let text = serde_json::to_string(&RdtMetrics::read(&root, &root.join("box"))).unwrap();
        std::fs::remove_dir_all(&root).unwrap();
        let expected = concat!(
            r#"{"l3_cache_info":{"cbm_mask":"fffff","min_cbm_bits":1,"num_closids":16},"l3_cache_schema_root":"L3:0=fffff","#,
            r#""l3_cache_schema":"L3:0=7f0","mem_bw_info":{"min_bandwidth":10},"mem_bw_schema_root":"MB:0=100","#,
            r#""mem_bw_schema":"MB:0=20","mbm_stats":[{"mbm_total_bytes":0,"mbm_local_bytes":0}],"#,
            r#""cmt_stats":[{"llc_occupancy":4096}]}"#
        );
        assert_eq!(text, expected);
    }
}
