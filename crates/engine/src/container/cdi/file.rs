//! One description: its form, in JSON or YAML, and what it comes to.

use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use budu_spec::oci;
use saphyr::{LoadableYamlNode, Scalar, Yaml};
use serde::Deserialize;
use serde_json::Value;

/// Largest description that is read.
const MAX: u64 = 4 << 20;

/// A description.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct File {
    /// Where it was found.
    #[serde(skip)]
    pub(super) path: PathBuf,
    /// `vendor.com/class`.
    pub(super) kind: String,
    pub(super) devices: Vec<Device>,
    /// What each of its devices needs.
    pub(super) container_edits: Edits,
}

/// One device.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Device {
    pub(super) name: String,
    pub(super) container_edits: Edits,
}

/// What a container needs.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Edits {
    pub(super) env: Vec<String>,
    pub(super) device_nodes: Vec<Node>,
    pub(super) net_devices: Vec<NetDevice>,
    pub(super) mounts: Vec<Mount>,
    pub(super) hooks: Vec<Hook>,
    #[serde(rename = "additionalGids")]
    pub(super) additional_gids: Vec<u32>,
}

/// A device node.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Node {
    path: String,
    host_path: String,
    #[serde(rename = "type")]
    kind: String,
    major: Option<i64>,
    minor: Option<i64>,
    file_mode: Option<u32>,
    pub(super) permissions: String,
    uid: Option<u32>,
    gid: Option<u32>,
}

/// A network device that moves into the container.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct NetDevice {
    pub(super) host_interface_name: String,
    pub(super) name: String,
}

/// A mount.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Mount {
    host_path: String,
    container_path: String,
    options: Vec<String>,
    #[serde(rename = "type")]
    kind: String,
}

/// A program to run.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Hook {
    pub(super) hook_name: String,
    path: PathBuf,
    args: Vec<String>,
    env: Vec<String>,
    timeout: Option<i64>,
}

/// Reads a description; `None` for files that are none.
pub(super) fn read(path: &Path) -> Result<Option<File>, String> {
    let json = match path.extension().and_then(|ending| ending.to_str()) {
        Some("json") => true,
        Some("yaml" | "yml") => false,
        _ => return Ok(None),
    };
    if std::fs::metadata(path).map_err(|e| e.to_string())?.len() > MAX {
        return Err(format!("larger than {MAX} bytes"));
    }
    let text = std::fs::read_to_string(path).map_err(|e| e.to_string())?;
    let value = if json { serde_json::from_str(&text).map_err(|e| e.to_string())? } else { yaml(&text)? };
    let mut file: File = serde_json::from_value(value).map_err(|e| e.to_string())?;
    let (vendor, class) = file.kind.split_once('/').unwrap_or_default();
    if vendor.is_empty() || class.is_empty() {
        return Err(format!("kind {:?} is not of the form vendor.com/class", file.kind));
    }
    path.clone_into(&mut file.path);
    Ok(Some(file))
}

/// The first document, as JSON.
fn yaml(text: &str) -> Result<Value, String> {
    let documents = Yaml::load_from_str(text).map_err(|e| e.to_string())?;
    documents.first().map_or(Ok(Value::Null), value)
}

fn value(node: &Yaml<'_>) -> Result<Value, String> {
    Ok(match node {
        Yaml::Value(Scalar::Null) => Value::Null,
        Yaml::Value(Scalar::Boolean(on)) => Value::Bool(*on),
        Yaml::Value(Scalar::Integer(n)) => Value::from(*n),
        Yaml::Value(Scalar::FloatingPoint(n)) => Value::from(n.into_inner()),
        Yaml::Value(Scalar::String(text)) => Value::from(text.as_ref()),
        Yaml::Sequence(list) => Value::Array(list.iter().map(value).collect::<Result<_, _>>()?),
        Yaml::Mapping(map) => {
            let member = |(key, node): (&Yaml<'_>, &Yaml<'_>)| {
                let key = key.as_str().ok_or("a key that is no text")?.to_owned();
                Ok::<_, String>((key, value(node)?))
            };
            Value::Object(map.iter().map(member).collect::<Result<_, _>>()?)
        }
        Yaml::Tagged(_, node) => value(node)?,
        Yaml::Representation(..) | Yaml::Alias(_) | Yaml::BadValue => {
            return Err("a value that means nothing".to_owned());
        }
    })
}

impl Node {
    /// The node to make. What it leaves open is as on the host.
    pub(super) fn device(&self) -> Result<oci::Device, String> {
        let host = if self.host_path.is_empty() { &self.path } else { &self.host_path };
        let meta = std::fs::metadata(host).ok();
        let host_kind = meta.as_ref().and_then(|meta| match meta.file_type() {
            kind if kind.is_char_device() => Some("c"),
            kind if kind.is_block_device() => Some("b"),
            kind if kind.is_fifo() => Some("p"),
            _ => None,
        });
        let kind = match self.kind.as_str() {
            "" => host_kind.ok_or_else(|| format!("{host} is no device of this host"))?,
            "u" => "c",
            given => given,
        };
        let number = |given: Option<i64>, of: fn(u64) -> u32| match (given.filter(|n| *n != 0), &meta) {
            (Some(given), _) => Ok(given),
            (None, Some(meta)) => Ok(i64::from(of(meta.rdev()))),
            (None, None) => Err(format!("{host} is no device of this host")),
        };
        Ok(oci::Device {
            path: self.path.clone(),
            kind: kind.to_owned(),
            major: number(self.major, rustix::fs::major)?,
            minor: number(self.minor, rustix::fs::minor)?,
            file_mode: self.file_mode.or(meta.as_ref().map(|meta| meta.mode() & 0o777)),
            uid: self.uid.or(Some(0)),
            gid: self.gid.or(Some(0)),
        })
    }
}

impl Mount {
    /// As the runtime takes it.
    pub(super) fn oci(&self) -> oci::Mount {
        let kind = if self.kind.is_empty() { "bind" } else { &self.kind };
        oci::Mount {
            destination: self.container_path.clone(),
            kind: kind.to_owned(),
            source: self.host_path.clone(),
            options: self.options.clone(),
            ..oci::Mount::default()
        }
    }
}

impl Hook {
    /// As the runtime takes it.
    pub(super) fn oci(&self) -> oci::Hook {
        oci::Hook { path: self.path.clone(), args: self.args.clone(), env: self.env.clone(), timeout: self.timeout }
    }
}
