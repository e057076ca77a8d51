//! Mount option words (config.md "mounts", mount(8)) as bits of mount_setattr(2).

use budu_sys::mount::attr;

/// What a list of option words means.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Options {
    /// MOUNT_ATTR_* bits to set.
    pub(crate) set: u64,
    /// MOUNT_ATTR_* bits to clear.
    pub(crate) clear: u64,
    /// MOUNT_ATTR_* bits to set on everything below.
    pub(crate) set_recursive: u64,
    /// MS_SHARED and friends, with MS_REC.
    pub(crate) propagation: u64,
    /// A bind mount, recursive or not.
    pub(crate) bind: Option<bool>,
    /// `tmpcopyup`.
    pub(crate) copy_up: bool,
    /// Parameters of the file system.
    pub(crate) data: Vec<(String, Option<String>)>,
}

const MS_REC: u64 = 0x4000;
const UNBINDABLE: u64 = 1 << 17;
const PRIVATE: u64 = 1 << 18;
const SLAVE: u64 = 1 << 19;
const SHARED: u64 = 1 << 20;

/// Word, bits it sets, bits it clears.
const ATTRIBUTES: &[(&str, u64, u64)] = &[
    ("ro", attr::RDONLY, 0),
    ("rw", 0, attr::RDONLY),
    ("nosuid", attr::NOSUID, 0),
    ("suid", 0, attr::NOSUID),
    ("nodev", attr::NODEV, 0),
    ("dev", 0, attr::NODEV),
    ("noexec", attr::NOEXEC, 0),
    ("exec", 0, attr::NOEXEC),
    ("noatime", attr::NOATIME, attr::ATIME),
    ("atime", 0, attr::NOATIME),
    ("relatime", 0, attr::ATIME),
    ("norelatime", attr::STRICTATIME, attr::ATIME),
    ("strictatime", attr::STRICTATIME, attr::ATIME),
    ("nostrictatime", 0, attr::ATIME),
    ("nodiratime", attr::NODIRATIME, 0),
    ("diratime", 0, attr::NODIRATIME),
    ("nosymfollow", attr::NOSYMFOLLOW, 0),
    ("symfollow", 0, attr::NOSYMFOLLOW),
];

const PROPAGATIONS: &[(&str, u64)] = &[
    ("private", PRIVATE),
    ("rprivate", PRIVATE | MS_REC),
    ("slave", SLAVE),
    ("rslave", SLAVE | MS_REC),
    ("shared", SHARED),
    ("rshared", SHARED | MS_REC),
    ("unbindable", UNBINDABLE),
    ("runbindable", UNBINDABLE | MS_REC),
];

/// Reads option words.
///
/// # Errors
/// The word that cannot be honoured.
pub(crate) fn parse(words: &[String]) -> Result<Options, String> {
    let mut out = Options::default();
    for word in words {
        let text = word.as_str();
        if let Some(&(_, set, clear)) = ATTRIBUTES.iter().find(|(name, ..)| *name == text) {
            out.set = out.set & !clear | set;
            out.clear = out.clear & !set | clear;
        } else if let Some(&(_, set, _)) = recursive(text) {
            out.set_recursive |= set;
        } else if let Some(&(_, bits)) = PROPAGATIONS.iter().find(|(name, _)| *name == text) {
            out.propagation = bits;
        } else {
            match text {
                "bind" => out.bind = Some(out.bind.unwrap_or(false)),
                "rbind" => out.bind = Some(true),
                "tmpcopyup" => out.copy_up = true,
                "idmap" | "ridmap" | "remount" => return Err(word.clone()),
                "defaults" | "async" | "silent" | "loud" | "" => {}
                _ => out.data.push(match text.split_once('=') {
                    Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
                    None => (text.to_owned(), None),
                }),
            }
        }
    }
    Ok(out)
}

/// `rro`, `rnosuid` and the like: the word without its `r`, where it sets something.
fn recursive(word: &str) -> Option<&'static (&'static str, u64, u64)> {
    let plain = word.strip_prefix('r')?;
    ATTRIBUTES.iter().find(|(name, set, _)| *name == plain && *set != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words() {
        let parse = |words: &[&str]| parse(&words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>());
        assert_eq!(parse(&["ro", "rw"]).unwrap().set, 0);
        assert_eq!(parse(&["rro", "rbind"]).unwrap().set_recursive, attr::RDONLY);
        assert_eq!(parse(&["relatime"]).unwrap().clear, attr::ATIME);
        assert_eq!(parse(&["bind", "rbind"]).unwrap().bind, Some(true));
        assert_eq!(parse(&["size=5", "noswap"]).unwrap().data.len(), 2);
        assert_eq!(parse(&["idmap"]), Err("idmap".to_owned()));
    }
}
