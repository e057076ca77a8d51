//! A registry that lies: it serves an OCI layout with one fault built in.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};

use crate::Cage;

/// What is wrong with the registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Layers arrive complete and can be unpacked, but are not the bytes of their digest.
    WrongLayer,
    /// Layers arrive with a correct length field and end in the middle, every time.
    TruncatedLayer,
    /// Each layer's first transfer ends in the middle; the next one is complete.
    TruncatedOnce,
    /// The manifest's bytes are not those of its digest.
    WrongManifest,
    /// Every request is answered with status 500.
    Broken,
}

/// A registry with a [`Fault`], answering until dropped.
#[derive(Debug)]
pub struct FaultyRegistry {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
}

struct Source {
    layout: PathBuf,
    fault: Fault,
    cut: AtomicBool,
}

impl FaultyRegistry {
    /// Serves the layout in `layout` as every repository and tag, on a free loopback port in the network of `cage`.
    pub fn start(cage: &Cage, layout: &Path, fault: Fault) -> Result<FaultyRegistry> {
        let listener = cage.in_network(|| TcpListener::bind("127.0.0.1:0"))?.context("bind")?;
        let address = listener.local_addr()?;
        let stop = Arc::new(AtomicBool::new(false));
        let source = Arc::new(Source { layout: layout.to_owned(), fault, cut: AtomicBool::new(false) });
        let stopped = Arc::clone(&stop);
        listener.set_nonblocking(true)?;
        std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                match listener.accept() {
                    Ok((stream, _)) => {
                        let source = Arc::clone(&source);
                        std::thread::spawn(move || {
                            let _ = stream.set_nonblocking(false);
                            let _ = serve(&source, stream);
                        });
                    }
                    Err(_) => std::thread::sleep(std::time::Duration::from_millis(5)),
                }
            }
        });
        Ok(FaultyRegistry { address, stop })
    }

    /// `127.0.0.1:PORT`.
    pub fn address(&self) -> String {
        self.address.to_string()
    }
}

impl Drop for FaultyRegistry {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn serve(source: &Source, stream: TcpStream) -> Result<()> {
    let mut reader = BufReader::new(stream);
    loop {
        let mut request = String::new();
        if reader.read_line(&mut request)? == 0 {
            return Ok(());
        }
        loop {
            let mut field = String::new();
            reader.read_line(&mut field)?;
            if field.trim().is_empty() {
                break;
            }
        }
        let mut words = request.split(' ');
        let (method, path) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
        let complete = answer(source, method, path, reader.get_mut())?;
        if !complete {
            return Ok(());
        }
    }
}

/// Answers one request; false when the connection must be closed to make the fault felt.
fn answer(source: &Source, method: &str, path: &str, out: &mut TcpStream) -> Result<bool> {
    if source.fault == Fault::Broken {
        out.write_all(b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n")?;
        return Ok(true);
    }
    if path == "/v2/" {
        out.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")?;
        return Ok(true);
    }
    let index: serde_json::Value = serde_json::from_slice(&std::fs::read(source.layout.join("index.json"))?)?;
    let top = &index["manifests"][0];
    let asked = path.rsplit('/').next().unwrap_or("");
    let manifest = path.contains("/manifests/");
    let digest = if asked.starts_with("sha256:") { asked } else { top["digest"].as_str().unwrap_or("") };
    let Ok(mut body) = std::fs::read(source.layout.join("blobs").join(digest.replace(':', "/"))) else {
        out.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")?;
        return Ok(true);
    };
    let kind = match manifest {
        true => top["mediaType"].as_str().unwrap_or(""),
        false => "application/octet-stream",
    };
    let layer = !manifest && body.first() != Some(&b'{');
    let cut = layer
        && match source.fault {
            Fault::TruncatedLayer => true,
            Fault::TruncatedOnce => !source.cut.swap(true, Ordering::Relaxed),
            _ => false,
        };
    match source.fault {
        // Byte 4 is in the time stamp of a gzip header: the layer still unpacks to the same files.
        Fault::WrongLayer if layer => body[4] ^= 1,
        // Still the same JSON document.
        Fault::WrongManifest if manifest => body.insert(1, b' '),
        _ => {}
    }
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nDocker-Content-Digest: {digest}\r\n\r\n",
        body.len()
    );
    out.write_all(head.as_bytes())?;
    if method != "HEAD" {
        out.write_all(&body[..if cut { body.len() / 2 } else { body.len() }])?;
    }
    Ok(!cut)
}
