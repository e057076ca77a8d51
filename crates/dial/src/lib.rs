//! Reaching another machine: host names to addresses, TCP, and TLS from files
//! of certificates.
//!
//! It opens connections and makes TLS configurations; what is said over them,
//! it does not know.
//!
//! - [`Resolver`]: host names to addresses, without the C library.
//! - [`tcp`]: a connection to the first address that answers.
//! - [`tls`]: configurations for whoever connects and whoever listens.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use budu_dial::tls;
//! let files = tls::Files { ca: Some("/certs/ca.pem".into()), ..Default::default() };
//! let stream = budu_dial::tcp("example.com", 2376).await?;
//! let name = tls::ServerName::try_from("example.com")?;
//! let stream = tls::Connector::from(tls::client(&files, true)?).connect(name, stream).await?;
//! # Ok(())
//! # }
//! ```
#![forbid(unsafe_code)]

mod resolve;
pub mod tls;

use std::net::SocketAddr;

use tokio::net::TcpStream;

pub use resolve::Resolver;

/// Connects to the first address of `host` (a name or an address) that answers.
///
/// # Errors
/// A text for people: which address did what.
pub async fn tcp(host: &str, port: u16) -> Result<TcpStream, String> {
    let mut last = String::new();
    for address in Resolver::system().lookup(host).await? {
        let address = SocketAddr::new(address, port);
        match TcpStream::connect(address).await {
            Ok(stream) => {
                // Requests are single small writes; waiting to fill packets only delays them.
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            Err(error) => last = format!("{address}: {error}"),
        }
    }
    Err(last)
}
