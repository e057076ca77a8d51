//! TLS as Docker's tools are told about it: a file of authorities, a
//! certificate, a key, and whether to check the other side.

mod verify;

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;

pub use rustls::pki_types::ServerName;
pub use rustls::{ClientConfig, ServerConfig};
pub use tokio_rustls::client::TlsStream as ClientStream;
pub use tokio_rustls::server::TlsStream as ServerStream;
pub use tokio_rustls::{TlsAcceptor as Acceptor, TlsConnector as Connector};

/// Where certificates and keys are: PEM files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Files {
    /// Authorities that vouch for the other side. Without it, a client trusts
    /// the system's authorities.
    pub ca: Option<PathBuf>,
    /// Our own certificate, with the chain that leads to the authority.
    pub cert: Option<PathBuf>,
    /// The key that belongs to it.
    pub key: Option<PathBuf>,
}

/// Why a configuration cannot be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file cannot be read or holds something else.
    #[error("cannot read {what} from {}: {reason}", path.display())]
    File {
        /// What was looked for.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A file that is needed was not named.
    #[error("{what} is needed for TLS")]
    Missing {
        /// Which one.
        what: &'static str,
    },
    /// The files do not fit together.
    #[error("cannot use the certificates: {reason}")]
    Unusable {
        /// What the TLS library says.
        reason: String,
    },
}

/// The configuration of clients that check servers by the system's authorities
/// and show no certificate. Read once: loading the authorities takes
/// milliseconds.
pub fn of_the_system() -> Result<Arc<ClientConfig>, Error> {
    static CONFIG: OnceLock<Arc<ClientConfig>> = OnceLock::new();
    if let Some(config) = CONFIG.get() {
        return Ok(Arc::clone(config));
    }
    let config = client(&Files::default(), true)?;
    Ok(Arc::clone(CONFIG.get_or_init(|| config)))
}

/// Makes the configuration of a client. With `verify` the server must show a
/// certificate of the given authorities (those of the system without any) for
/// its name; without it, any certificate will do.
pub fn client(files: &Files, verify: bool) -> Result<Arc<ClientConfig>, Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(unusable)?;
    let builder = if verify {
        builder.with_root_certificates(roots(files.ca.as_deref())?)
    } else {
        builder.dangerous().with_custom_certificate_verifier(Arc::new(verify::AnyCertificate::new(provider)))
    };
    let config = match (&files.cert, &files.key) {
        (None, None) => builder.with_no_client_auth(),
        _ => {
            let (chain, key) = own(files)?;
            builder.with_client_auth_cert(chain, key).map_err(unusable)?
        }
    };
    Ok(Arc::new(config))
}

/// Makes the configuration of a server. With `require_client` every client
/// must show a certificate of exactly the authorities in [`Files::ca`]: those
/// of the system never count.
pub fn server(files: &Files, require_client: bool) -> Result<Arc<ServerConfig>, Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(unusable)?;
    let builder = if require_client {
        let ca = files.ca.as_deref().ok_or(Error::Missing { what: "a certificate authority for clients" })?;
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(authorities(ca)?), provider);
        builder.with_client_cert_verifier(verifier.build().map_err(unusable)?)
    } else {
        builder.with_no_client_auth()
    };
    let (chain, key) = own(files)?;
    Ok(Arc::new(builder.with_single_cert(chain, key).map_err(unusable)?))
}

fn unusable(error: impl std::fmt::Display) -> Error {
    Error::Unusable { reason: error.to_string() }
}

/// The authorities to trust.
fn roots(ca: Option<&Path>) -> Result<RootCertStore, Error> {
    if let Some(path) = ca {
        return authorities(path);
    }
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    match roots.is_empty() {
        true => Err(Error::Unusable {
            reason: "no certificate authorities are installed: install ca-certificates".to_owned(),
        }),
        false => Ok(roots),
    }
}

fn authorities(path: &Path) -> Result<RootCertStore, Error> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates("certificate authorities", path)? {
        roots.add(certificate).map_err(|e| bad("certificate authorities", path, e))?;
    }
    Ok(roots)
}

fn own(files: &Files) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), Error> {
    let cert = files.cert.as_deref().ok_or(Error::Missing { what: "a certificate" })?;
    let key = files.key.as_deref().ok_or(Error::Missing { what: "a key" })?;
    let chain = certificates("a certificate", cert)?;
    let key = PrivateKeyDer::from_pem_file(key).map_err(|e| bad("a private key", key, e))?;
    Ok((chain, key))
}

fn certificates(what: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let list: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path).map_err(|e| bad(what, path, e))?.collect();
    let list = list.map_err(|e| bad(what, path, e))?;
    match list.is_empty() {
        true => Err(bad(what, path, "there is none")),
        false => Ok(list),
    }
}

fn bad(what: &'static str, path: &Path, reason: impl std::fmt::Display) -> Error {
    Error::File { what, path: path.to_owned(), reason: reason.to_string() }
}

/// The subject's common name of a certificate (DER), which authorization
/// plugins know a client by. `None` when there is none that is readable.
pub fn common_name(certificate: &[u8]) -> Option<String> {
    verify::common_name(certificate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_and_empty_files_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let empty = dir.path().join("ca.pem");
        std::fs::write(&empty, "").unwrap();
        let files = Files { ca: Some(empty), ..Files::default() };
        let text = client(&files, true).unwrap_err().to_string();
        assert!(text.contains("ca.pem") && text.contains("there is none"), "{text}");
        assert_eq!(server(&Files::default(), false).unwrap_err().to_string(), "a certificate is needed for TLS");
        assert!(server(&Files::default(), true).unwrap_err().to_string().contains("authority for clients"));
        assert!(client(&Files::default(), false).is_ok());
    }
}
