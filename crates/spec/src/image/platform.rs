//! Platforms: operating system, architecture, variant; which stands in for which.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::null_is_default;
use crate::{Classified, ErrorClass};

/// Operating system and architecture, in Go's names. Prints as `linux/arm64/v8`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Platform {
    /// `amd64`, `arm64`, `arm`, …
    #[serde(default, deserialize_with = "null_is_default")]
    pub architecture: String,
    /// `linux`.
    #[serde(default, deserialize_with = "null_is_default")]
    pub os: String,
    /// Windows only.
    #[serde(
        rename = "os.version",
        default,
        deserialize_with = "null_is_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub os_version: String,
    /// Windows only.
    #[serde(
        rename = "os.features",
        default,
        deserialize_with = "null_is_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub os_features: Vec<String>,
    /// `v8`, `v7`, `v2`; empty when there is none.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "String::is_empty")]
    pub variant: String,
}

/// Why a text is not a platform.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid platform {text:?}: want os/architecture[/variant]")]
pub struct PlatformError {
    /// The text given.
    pub text: String,
}

impl Classified for PlatformError {
    fn class(&self) -> ErrorClass {
        ErrorClass::InvalidArgument
    }
}

impl Platform {
    /// The platform this program was built for.
    pub fn host() -> Platform {
        let variant = if cfg!(target_arch = "arm") { "v7" } else { "" };
        Platform::of("linux", std::env::consts::ARCH, variant)
    }

    /// A platform in canonical names: `x86_64` is `amd64`, `aarch64` is `arm64`, and the
    /// variant that an architecture has anyway (`arm64/v8`, `amd64/v1`) is empty.
    pub fn of(os: &str, architecture: &str, variant: &str) -> Platform {
        let (architecture, variant) = match (architecture, variant) {
            ("x86_64" | "x86-64" | "amd64", "v1") => ("amd64", ""),
            ("x86_64" | "x86-64" | "amd64", variant) => ("amd64", variant),
            ("aarch64" | "arm64", "8" | "v8") => ("arm64", ""),
            ("aarch64" | "arm64", variant) => ("arm64", variant),
            ("i386" | "i486" | "i586" | "i686" | "x86", _) => ("386", ""),
            ("armhf", _) | ("arm", "" | "7") => ("arm", "v7"),
            ("armel", _) | ("arm", "6") => ("arm", "v6"),
            ("arm", "5") => ("arm", "v5"),
            ("arm", "8") => ("arm", "v8"),
            ("powerpc64le", variant) => ("ppc64le", variant),
            ("loongarch64", variant) => ("loong64", variant),
            other => other,
        };
        Platform {
            architecture: architecture.to_owned(),
            os: os.to_owned(),
            variant: variant.to_owned(),
            ..Platform::default()
        }
    }

    /// How well content for `self` serves a machine of platform `wanted`: `None` not at all,
    /// `Some(0)` exactly, more is worse. Only older variants of the same architecture
    /// (arm v7 → v6 → v5, amd64 v3 → v2 → v1) are acceptable; one architecture never
    /// stands in for another.
    pub fn distance(&self, wanted: &Platform) -> Option<u32> {
        let have = Platform::of(&self.os, &self.architecture, &self.variant);
        let want = Platform::of(&wanted.os, &wanted.architecture, &wanted.variant);
        if have.os != want.os || have.architecture != want.architecture {
            return None;
        }
        let level = |platform: &Platform| match platform.variant.strip_prefix('v') {
            Some(number) => number.parse::<u32>().ok(),
            None if platform.variant.is_empty() => Some(if platform.architecture == "arm64" { 8 } else { 1 }),
            None => None,
        };
        match (level(&have), level(&want)) {
            (Some(have), Some(want)) if have <= want => Some(want - have),
            (None, None) if have.variant == want.variant => Some(0),
            _ => None,
        }
    }
}

impl FromStr for Platform {
    type Err = PlatformError;

    /// Reads `os/architecture[/variant]`, or only one of them with the host's for the other.
    fn from_str(text: &str) -> Result<Platform, PlatformError> {
        let error = || PlatformError { text: text.chars().take(100).collect() };
        let parts: Vec<&str> = text.split('/').collect();
        let word = |part: &&str| {
            part.starts_with(|first: char| first.is_ascii_alphanumeric())
                && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte))
        };
        if !parts.iter().all(word) {
            return Err(error());
        }
        let lower: Vec<String> = parts.iter().map(|part| part.to_ascii_lowercase()).collect();
        match lower.iter().map(String::as_str).collect::<Vec<_>>()[..] {
            [os @ ("linux" | "windows" | "darwin" | "freebsd")] => {
                let host = Platform::host();
                Ok(Platform::of(os, &host.architecture, &host.variant))
            }
            [architecture] => Ok(Platform::of("linux", architecture, "")),
            [os, architecture] => Ok(Platform::of(os, architecture, "")),
            [os, architecture, variant] => Ok(Platform::of(os, architecture, variant)),
            _ => Err(error()),
        }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}/{}", self.os, self.architecture)?;
        if !self.variant.is_empty() {
            write!(out, "/{}", self.variant)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_and_compares_platforms() {
        let platform = |text: &str| text.parse::<Platform>().expect(text);
        assert_eq!(platform("linux/aarch64/v8").to_string(), "linux/arm64");
        assert_eq!(platform("linux/arm").to_string(), "linux/arm/v7");
        assert_eq!(platform("x86_64").to_string(), "linux/amd64");
        for bad in ["", "linux/", "a/b/c/d", "linux/amd64/..", "linux\n/amd64"] {
            assert!(bad.parse::<Platform>().is_err(), "{bad:?}");
        }
        let distance = |have: &str, want: &str| platform(have).distance(&platform(want));
        assert_eq!(distance("linux/amd64", "linux/amd64"), Some(0));
        assert_eq!(distance("linux/arm/v6", "linux/arm/v7"), Some(1));
        assert_eq!(distance("linux/arm/v7", "linux/arm/v6"), None);
        assert_eq!(distance("linux/amd64", "linux/arm64"), None);
        assert_eq!(distance("windows/amd64", "linux/amd64"), None);
        assert_eq!(distance("linux/amd64/v3", "linux/amd64"), None);
        assert_eq!(distance("unknown/unknown", "linux/amd64"), None);
    }
}
