//! `--security-opt`.

use crate::Error;

/// What the options of one container add up to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Security {
    /// Set no_new_privs.
    pub(crate) no_new_privileges: bool,
    /// Which system call filter.
    pub(crate) seccomp: Seccomp,
    /// The cgroup file system is writable.
    pub(crate) writable_cgroups: bool,
    /// AppArmor profile that was asked for; empty for the default.
    pub(crate) apparmor: String,
}

/// Which system call filter.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum Seccomp {
    /// Docker's default profile.
    #[default]
    Default,
    /// None.
    Unconfined,
    /// A profile the client sent, JSON.
    Profile(String),
}

/// Parses the options.
pub(crate) fn parse(options: &[String]) -> Result<Security, Error> {
    let mut security = Security::default();
    for option in options {
        let flag = |value: &str| match value.to_ascii_lowercase().as_str() {
            "1" | "t" | "true" => Ok(true),
            "0" | "f" | "false" => Ok(false),
            _ => Err(Error::invalid(format!("invalid --security-opt 2: \"{option}\""))),
        };
        if option == "no-new-privileges" {
            security.no_new_privileges = true;
            continue;
        }
        if option == "disable" {
            continue;
        }
        let split = option.split_once('=').or_else(|| option.split_once(':'));
        let Some((key, value)) = split else {
            return Err(Error::invalid(format!("invalid --security-opt 1: \"{option}\"")));
        };
        match key {
            "no-new-privileges" => security.no_new_privileges = flag(value)?,
            "writable-cgroups" => security.writable_cgroups = flag(value)?,
            "seccomp" => {
                security.seccomp = match value {
                    "unconfined" => Seccomp::Unconfined,
                    "builtin" | "" => Seccomp::Default,
                    profile => Seccomp::Profile(profile.to_owned()),
                }
            }
            "label" => {}
            "apparmor" => value.clone_into(&mut security.apparmor),
            _ => return Err(Error::invalid(format!("invalid --security-opt 2: \"{option}\""))),
        }
    }
    Ok(security)
}

/// Docker's profile for containers that ask for none.
const DEFAULT_PROFILE: &str = "docker-default";

impl Security {
    /// The AppArmor profile to take; empty for none, as always where the kernel has no AppArmor. The default one is
    /// taken where somebody has loaded it.
    pub(crate) fn profile(&self, privileged: bool) -> String {
        static ENABLED: std::sync::OnceLock<bool> = std::sync::OnceLock::new();
        let file = "/sys/module/apparmor/parameters/enabled";
        let enabled = *ENABLED.get_or_init(|| std::fs::read(file).is_ok_and(|text| text.starts_with(b"Y")));
        match self.apparmor.as_str() {
            _ if !enabled => String::new(),
            "unconfined" => String::new(),
            "" | DEFAULT_PROFILE if privileged || !is_loaded(DEFAULT_PROFILE) => String::new(),
            "" => DEFAULT_PROFILE.to_owned(),
            other => other.to_owned(),
        }
    }
}

fn is_loaded(profile: &str) -> bool {
    let loaded = std::fs::read_to_string("/sys/kernel/security/apparmor/profiles").unwrap_or_default();
    loaded.lines().any(|line| line.split(' ').next() == Some(profile))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options() {
        let parse = |text: &str| super::parse(&[text.to_owned()]);
        assert!(parse("no-new-privileges").unwrap().no_new_privileges);
        assert!(!parse("no-new-privileges=false").unwrap().no_new_privileges);
        assert!(parse("no-new-privileges:true").unwrap().no_new_privileges);
        assert_eq!(parse("seccomp=unconfined").unwrap().seccomp, Seccomp::Unconfined);
        assert_eq!(parse("seccomp={}").unwrap().seccomp, Seccomp::Profile("{}".into()));
        assert_eq!(parse("nope").unwrap_err().to_string(), "invalid --security-opt 1: \"nope\"");
        assert_eq!(parse("nope=1").unwrap_err().to_string(), "invalid --security-opt 2: \"nope=1\"");
    }
}
