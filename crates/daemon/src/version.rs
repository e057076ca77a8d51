//! Which API versions are served.

use budu_spec::docker::ApiVersion;

use crate::http::Failure;

/// Splits `/v1.41/containers/json` into version and the rest. Without version
/// the newest is meant.
pub(crate) fn split(path: &str, oldest: ApiVersion) -> Result<(ApiVersion, &str), Failure> {
    let Some((version, rest)) = parts(path) else { return Ok((ApiVersion::MAX, path)) };
    let Ok(version) = version.parse::<ApiVersion>() else { return Err(Failure::page_not_found()) };
    if version < oldest {
        return Err(Failure::invalid(format!(
            "client version {version} is too old. Minimum supported API version is {oldest}, please upgrade your client to a newer version"
        )));
    }
    if version > ApiVersion::MAX {
        return Err(Failure::invalid(format!(
            "client version {version} is too new. Maximum supported API version is {}",
            ApiVersion::MAX
        )));
    }
    Ok((version, rest))
}

/// Whether a path asks for a version from before errors were JSON.
pub(crate) fn is_ancient(path: &str) -> bool {
    let version = parts(path).and_then(|(version, _)| version.parse::<ApiVersion>().ok());
    version.is_some_and(|version| version < ApiVersion::MIN)
}

fn parts(path: &str) -> Option<(&str, &str)> {
    let rest = path.strip_prefix("/v")?;
    let (version, rest) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
    let digits = version.contains('.') && version.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    digits.then_some((version, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(path: &str) -> Result<(ApiVersion, &str), Failure> {
        super::split(path, ApiVersion::MIN)
    }

    #[test]
    fn versions() {
        assert_eq!(split("/v1.30/info").unwrap(), (ApiVersion::new(30), "/info"));
        assert_eq!(split("/info").unwrap(), (ApiVersion::MAX, "/info"));
        assert_eq!(split("/volumes").unwrap(), (ApiVersion::MAX, "/volumes"));
        assert_eq!(split("/version").unwrap(), (ApiVersion::MAX, "/version"));
        assert!(super::split("/v1.39/info", ApiVersion::new(40)).is_err());
        assert!(is_ancient("/v1.23/info") && !is_ancient("/v1.24/info") && !is_ancient("/info"));
        assert_eq!(
            split("/v1.12/info").unwrap_err().message,
            "client version 1.12 is too old. Minimum supported API version is 1.24, please upgrade your client to a newer version"
        );
        assert_eq!(
            split("/v1.99/info").unwrap_err().message,
            "client version 1.99 is too new. Maximum supported API version is 1.55"
        );
    }
}
