//! API versions: `1.24` … `1.55`.

use std::fmt;
use std::str::FromStr;

/// A version of the Engine API. Ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ApiVersion {
    /// Always 1 so far.
    pub major: u16,
    /// Grows with each change of the API.
    pub minor: u16,
}

impl ApiVersion {
    /// The oldest version served.
    pub const MIN: ApiVersion = ApiVersion::new(24);
    /// The newest version served, and the one unversioned paths mean.
    pub const MAX: ApiVersion = ApiVersion::new(55);

    /// Names version `1.minor`.
    pub const fn new(minor: u16) -> ApiVersion {
        ApiVersion { major: 1, minor }
    }
}

impl fmt::Display for ApiVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// The text is not `MAJOR.MINOR`.
#[derive(Debug, thiserror::Error)]
#[error("invalid API version {text:?}: want MAJOR.MINOR")]
pub struct InvalidVersion {
    /// What was given.
    pub text: String,
}

impl FromStr for ApiVersion {
    type Err = InvalidVersion;

    fn from_str(text: &str) -> Result<ApiVersion, InvalidVersion> {
        let error = || InvalidVersion { text: text.to_owned() };
        let (major, minor) = text.split_once('.').ok_or_else(error)?;
        Ok(ApiVersion { major: major.parse().map_err(|_| error())?, minor: minor.parse().map_err(|_| error())? })
    }
}
