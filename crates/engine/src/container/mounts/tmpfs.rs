//! Options of a tmpfs: Docker's defaults, and what a user may say otherwise.

use budu_spec::docker::TmpfsOptions;

/// Options that take each other's place.
const TOGGLES: &[[&str; 2]] = &[
    ["exec", "noexec"],
    ["suid", "nosuid"],
    ["dev", "nodev"],
    ["ro", "rw"],
    ["sync", "async"],
    ["atime", "noatime"],
    ["diratime", "nodiratime"],
    ["relatime", "norelatime"],
    ["strictatime", "nostrictatime"],
];

/// Those of `--tmpfs PATH:OPTIONS`.
pub(super) fn plain(text: &str) -> Result<Vec<String>, String> {
    let mut options = defaults();
    for option in text.split(',').filter(|o| !o.is_empty()) {
        let name = option.split('=').next().unwrap_or_default();
        let known = ["size", "mode", "uid", "gid", "nr_inodes", "nr_blocks", "mpol"].contains(&name)
            || TOGGLES.iter().any(|pair| pair.contains(&option));
        if !known {
            return Err(format!("invalid tmpfs option \"{option}\""));
        }
        replace(&mut options, option);
    }
    Ok(options)
}

/// Those of a structured mount.
pub(super) fn structured(wish: Option<&TmpfsOptions>, read_only: bool) -> Result<Vec<String>, String> {
    let mut options = defaults();
    if read_only {
        replace(&mut options, "ro");
    }
    let Some(wish) = wish else { return Ok(options) };
    if wish.mode != 0 {
        options.push(format!("mode={:o}", wish.mode));
    }
    if wish.size_bytes != 0 {
        options.push(format!("size={}", wish.size_bytes));
    }
    for words in wish.options.iter().flatten() {
        match &words[..] {
            [word] if ["exec", "noexec"].contains(&word.as_str()) => replace(&mut options, word),
            [word] | [word, _] => return Err(format!("invalid option: {word}")),
            _ => return Err("invalid option array length".to_owned()),
        }
    }
    Ok(options)
}

fn defaults() -> Vec<String> {
    ["noexec", "nosuid", "nodev"].map(str::to_owned).to_vec()
}

fn replace(options: &mut Vec<String>, option: &str) {
    if let Some(pair) = TOGGLES.iter().find(|pair| pair.contains(&option)) {
        options.retain(|o| !pair.contains(&o.as_str()));
    }
    options.push(option.to_owned());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_override_the_defaults() {
        assert_eq!(plain("exec,size=64m").unwrap(), ["nosuid", "nodev", "exec", "size=64m"]);
        assert!(plain("bogus").is_err());
        let wish = TmpfsOptions { size_bytes: 5, mode: 0o1777, options: Some(vec![vec!["exec".into()]]) };
        assert_eq!(structured(Some(&wish), true).unwrap(), ["nosuid", "nodev", "ro", "mode=1777", "size=5", "exec"]);
        let wish = TmpfsOptions { options: Some(vec![vec!["uid".into(), "5".into()]]), ..TmpfsOptions::default() };
        assert_eq!(structured(Some(&wish), false).unwrap_err(), "invalid option: uid");
    }
}
