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
            "apparmor" if value == "unconfined" || value == "docker-default" => {}
            "apparmor" => return Err(Error::unsupported(format!("AppArmor profiles ({value})"))),
            _ => return Err(Error::invalid(format!("invalid --security-opt 2: \"{option}\""))),
        }
    }
    Ok(security)
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
