//! Mount option words (config.md "Linux mount options", mount(8)) as bits of mount_setattr(2).

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
    /// MOUNT_ATTR_* bits to clear on everything below.
    pub(crate) clear_recursive: u64,
    /// MS_SHARED and friends, with MS_REC.
    pub(crate) propagation: u64,
    /// A bind mount, recursive or not.
    pub(crate) bind: Option<bool>,
    /// `remount`.
    pub(crate) remount: bool,
    /// `idmap` or, recursive, `ridmap`.
    pub(crate) idmap: Option<bool>,
    /// `tmpcopyup`.
    pub(crate) copy_up: bool,
    /// Words for the instance of the file system that every file system understands, such as `sync`.
    pub(crate) instance: Vec<&'static str>,
    /// Parameters of the one file system.
    pub(crate) data: Vec<(String, Option<String>)>,
}

const MS_REC: u64 = 0x4000;
const UNBINDABLE: u64 = 1 << 17;
const PRIVATE: u64 = 1 << 18;
const SLAVE: u64 = 1 << 19;
const SHARED: u64 = 1 << 20;

/// Word, bits it sets, bits it takes back.
///
/// Access times are one field of three bits, of which `relatime` is the zero. A word that chooses a value clears them all.
/// One that only takes a value back says so with fewer bits: mount(8) then leaves a bind mount its source's value.
const ATTRIBUTES: &[(&str, u64, u64)] = &[
    ("ro", attr::RDONLY, 0),
    ("rw", 0, attr::RDONLY),
    ("nosuid", attr::NOSUID, 0),
    ("suid", 0, attr::NOSUID),
    ("nodev", attr::NODEV, 0),
    ("dev", 0, attr::NODEV),
    ("noexec", attr::NOEXEC, 0),
    ("exec", 0, attr::NOEXEC),
    ("noatime", attr::NOATIME, attr::STRICTATIME),
    ("atime", 0, attr::NOATIME),
    ("relatime", 0, attr::ATIME),
    ("norelatime", 0, 0), // takes back a value that has no bit
    ("strictatime", attr::STRICTATIME, attr::NOATIME),
    ("nostrictatime", 0, attr::STRICTATIME),
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

/// Words for a file system instance and their opposites.
const INSTANCE: &[(&str, &str)] = &[("sync", "async"), ("dirsync", ""), ("lazytime", "nolazytime"), ("mand", "nomand")];

/// Words that say nothing here: the default, how much the kernel logs, and a counter every file system keeps anyway.
const NOTHING: &[&str] = &["", "defaults", "silent", "loud", "iversion", "noiversion"];

/// Words that are neither attributes nor propagation.
const OTHERS: &[&str] = &["bind", "rbind", "remount", "tmpcopyup", "idmap", "ridmap"];

/// Every word that is not left to the file system, sorted.
pub(crate) fn known() -> Vec<String> {
    let attributes = ATTRIBUTES.iter().flat_map(|(word, ..)| [(*word).to_owned(), format!("r{word}")]);
    let propagations = PROPAGATIONS.iter().map(|(word, _)| (*word).to_owned());
    let instance = INSTANCE.iter().flat_map(|(on, off)| [*on, *off]);
    let rest = instance.chain(NOTHING.iter().copied()).chain(OTHERS.iter().copied());
    let mut all: Vec<String> = attributes.chain(propagations).chain(rest.map(ToOwned::to_owned)).collect();
    all.retain(|word| !word.is_empty());
    all.sort();
    all
}

/// What a propagation word means, as MS_* bits.
pub(crate) fn propagation(word: &str) -> Option<u64> {
    PROPAGATIONS.iter().find(|(name, _)| *name == word).map(|(_, bits)| *bits)
}

/// Reads option words. Unknown ones are parameters of the file system.
pub(crate) fn parse(words: &[String]) -> Options {
    let mut out = Options::default();
    for word in words {
        let text = word.as_str();
        if let Some(one) = attribute(text) {
            apply(one, &mut out.set, &mut out.clear);
        } else if let Some(one) = text.strip_prefix('r').and_then(attribute) {
            apply(one, &mut out.set_recursive, &mut out.clear_recursive);
            if text.ends_with("atime") && !text.ends_with("diratime") {
                // mount_setattr(2) has no way to say less.
                out.clear_recursive |= attr::ATIME;
            }
        } else if let Some(bits) = propagation(text) {
            out.propagation = bits;
        } else if let Some((on, off)) = INSTANCE.iter().find(|(on, off)| *on == text || *off == text) {
            out.instance.retain(|other| other != on && other != off);
            out.instance.push(if *on == text { on } else { off });
        } else if !NOTHING.contains(&text) {
            match text {
                "bind" => out.bind = Some(out.bind.unwrap_or(false)),
                "rbind" => out.bind = Some(true),
                "remount" => out.remount = true,
                "tmpcopyup" => out.copy_up = true,
                "idmap" => out.idmap = Some(false),
                "ridmap" => out.idmap = Some(true),
                _ => out.data.extend(parameters(text)),
            }
        }
    }
    out
}

fn attribute(word: &str) -> Option<&'static (&'static str, u64, u64)> {
    ATTRIBUTES.iter().find(|(name, ..)| *name == word)
}

fn apply((_, on, off): &(&str, u64, u64), set: &mut u64, clear: &mut u64) {
    *set = *set & !off | on;
    *clear = *clear & !on | off;
    if on & attr::ATIME != 0 {
        *clear |= attr::ATIME;
    } else if on | off == 0 {
        *clear |= attr::NOATIME & !*set;
    }
}

/// One word may hold several parameters, as mount(2) takes them. A comma before a digit belongs to a list of numbers.
fn parameters(word: &str) -> impl Iterator<Item = (String, Option<String>)> {
    let mut parts: Vec<String> = Vec::new();
    for part in word.split(',') {
        match parts.last_mut() {
            Some(last) if last.ends_with('\\') || part.starts_with(|first: char| first.is_ascii_digit()) => {
                last.push(',');
                last.push_str(part);
            }
            _ => parts.push(part.to_owned()),
        }
    }
    parts.into_iter().filter(|part| !part.is_empty()).map(|part| match part.split_once('=') {
        Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
        None => (part, None),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &str) -> Options {
        super::parse(&words.split(' ').map(ToOwned::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn attributes_by_the_last_word() {
        let table = [
            ("ro rw", (0, attr::RDONLY)),
            ("rw ro", (attr::RDONLY, 0)),
            ("nosuid nodev noexec", (attr::NOSUID | attr::NODEV | attr::NOEXEC, 0)),
            ("nosuid suid", (0, attr::NOSUID)),
            ("relatime", (0, attr::ATIME)),
            ("noatime", (attr::NOATIME, attr::ATIME)),
            ("strictatime noatime", (attr::NOATIME, attr::ATIME)),
            ("noatime strictatime", (attr::STRICTATIME, attr::ATIME)),
            ("strictatime atime", (attr::STRICTATIME, attr::ATIME)),
            ("atime", (0, attr::NOATIME)),
            ("norelatime", (0, attr::NOATIME)),
            ("nostrictatime", (0, attr::STRICTATIME)),
            ("nodiratime", (attr::NODIRATIME, 0)),
            ("nosymfollow symfollow", (0, attr::NOSYMFOLLOW)),
            ("defaults async loud iversion", (0, 0)),
        ];
        for (words, expected) in table {
            let got = parse(words);
            assert_eq!((got.set, got.clear), expected, "{words}");
            assert!(got.data.is_empty(), "{words}");
        }
    }

    #[test]
    fn the_same_for_everything_below() {
        for (word, ..) in ATTRIBUTES {
            let (plain, recursive) = (parse(word), parse(&format!("r{word}")));
            let times = if plain.clear & attr::ATIME != 0 { attr::ATIME } else { 0 };
            assert_eq!(
                (plain.set, plain.clear | times),
                (recursive.set_recursive, recursive.clear_recursive),
                "{word}"
            );
            assert_eq!((recursive.set, recursive.clear), (0, 0), "{word}");
        }
    }

    #[test]
    fn kinds_of_mounts() {
        assert_eq!(parse("bind rbind").bind, Some(true));
        assert_eq!(parse("rbind bind").bind, Some(true));
        assert_eq!((parse("idmap").idmap, parse("ridmap").idmap), (Some(false), Some(true)));
        assert!(parse("remount").remount && parse("tmpcopyup").copy_up);
        assert_eq!(parse("rshared rslave").propagation, SLAVE | MS_REC);
        assert_eq!(parse("sync dirsync async lazytime").instance, ["dirsync", "async", "lazytime"]);
    }

    #[test]
    fn the_rest_is_for_the_file_system() {
        let some = |key: &str, value: &str| (key.to_owned(), Some(value.to_owned()));
        assert_eq!(
            parse("size=5,noswap mpol=bind:0,2,mode=700 x-custom").data,
            [
                some("size", "5"),
                ("noswap".into(), None),
                some("mpol", "bind:0,2"),
                some("mode", "700"),
                ("x-custom".into(), None)
            ]
        );
        assert_eq!(parse("lowerdir=/a\\,b,upperdir=/c").data, [some("lowerdir", "/a\\,b"), some("upperdir", "/c")]);
    }

    #[test]
    fn every_word_of_the_specification_is_known() {
        let table = "async atime bind defaults dev diratime dirsync exec iversion lazytime loud mand noatime nodev
            nodiratime noexec noiversion nolazytime nomand norelatime nostrictatime nosuid nosymfollow private ratime rbind
            rdev rdiratime relatime remount rexec rnoatime rnodev rnodiratime rnoexec rnorelatime rnostrictatime rnosuid
            rnosymfollow ro rprivate rrelatime rro rrw rshared rslave rstrictatime rsuid rsymfollow runbindable rw shared
            silent slave strictatime suid symfollow sync tmpcopyup unbindable idmap ridmap";
        let known = known();
        for word in table.split_whitespace() {
            assert!(known.iter().any(|one| one == word), "{word}");
            assert!(parse(word).data.is_empty(), "{word}");
        }
        assert_eq!(known.len(), table.split_whitespace().count());
    }
}
