//! Which API versions are served.

use budu_spec::docker::ApiVersion;

use crate::http::Failure;

/// Splits `/v1.41/containers/json` into version and the rest. Without version
/// the newest is meant.
pub(crate) fn split(path: &str) -> Result<(ApiVersion, &str), Failure> {
    let Some(rest) = path.strip_prefix("/v") else { return Ok((ApiVersion::MAX, path)) };
    let (version, rest) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
    if version.is_empty() || !version.bytes().all(|b| b.is_ascii_digit() || b == b'.') || !version.contains('.') {
        return Ok((ApiVersion::MAX, path));
    }
    let Ok(version) = version.parse::<ApiVersion>() else { return Err(Failure::page_not_found()) };
    if version < ApiVersion::MIN {
        return Err(Failure::invalid(format!(
            "client version {version} is too old. Minimum supported API version is {}, please upgrade your client to a newer version",
            ApiVersion::MIN
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        assert_eq!(split("/v1.30/info").unwrap(), (ApiVersion::new(30), "/info"));
        assert_eq!(split("/info").unwrap(), (ApiVersion::MAX, "/info"));
        assert_eq!(split("/volumes").unwrap(), (ApiVersion::MAX, "/volumes"));
        assert_eq!(split("/version").unwrap(), (ApiVersion::MAX, "/version"));
        assert_eq!(
            split("/v1.12/info").unwrap_err().message,
            "client version 1.12 is too old. Minimum supported API version is 1.24, please upgrade your client to a newer version"
        );
        assert_eq!(
            split("/v1.99/info").unwrap_err().message,
            "client version 1.99 is too new. Maximum supported API version is 1.51"
        );
    }
}
