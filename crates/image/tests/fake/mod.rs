//! A registry on the loopback that does what a test tells it to, and remembers what it was asked.

#![allow(
    dead_code,
    unreachable_pub,
    missing_debug_implementations,
    clippy::unwrap_used,
    reason = "each test program uses a part of it"
)]

use std::collections::HashMap;
use std::convert::Infallible;
use std::io::Write;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use budu_image::{Error, Options, Progress, Pulled, Store};
use budu_spec::image::{Descriptor, ImageConfig, Index, Manifest, Platform, RootFs, media_type};
use budu_spec::{Digest, Reference};
use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::HeaderMap;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use sha2::{Digest as _, Sha256};
use tokio::net::TcpListener;

pub type Body = BoxBody<Bytes, std::io::Error>;
type Special = dyn Fn(&Seen) -> Option<Response<Body>> + Send + Sync;

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Seen {
    pub method: String,
    pub path: String,
    pub headers: HeaderMap,
    pub body: String,
}

impl Seen {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

#[derive(Clone)]
pub struct Fake {
    pub address: SocketAddr,
    files: Arc<Mutex<HashMap<String, (String, Bytes)>>>,
    seen: Arc<Mutex<Vec<Seen>>>,
    special: Arc<Mutex<Arc<Special>>>,
}

pub fn digest(bytes: &[u8]) -> Digest {
    Digest::from_bytes(Sha256::digest(bytes).into())
}

pub fn full(status: u16, body: impl Into<Bytes>) -> Response<Body> {
    let body = Full::new(body.into()).map_err(|never: Infallible| match never {}).boxed();
    Response::builder().status(status).body(body).unwrap()
}

pub fn error(status: u16, code: &str, message: &str) -> Response<Body> {
    full(status, format!(r#"{{"errors":[{{"code":"{code}","message":"{message}"}}]}}"#))
}

/// A body that announces `length` bytes, gives some and breaks off.
pub fn broken(bytes: Bytes, length: u64) -> Response<Body> {
    let pieces = [Ok(Frame::data(bytes)), Err(std::io::Error::other("broken off"))];
    let body = StreamBody::new(Pieces(pieces.into_iter().collect(), 20)).boxed();
    Response::builder().header("content-length", length).body(body).unwrap()
}

/// The pieces, and how often to hesitate before an error so that what came before is sent.
struct Pieces(std::collections::VecDeque<Result<Frame<Bytes>, std::io::Error>>, usize);

impl futures_core::Stream for Pieces {
    type Item = Result<Frame<Bytes>, std::io::Error>;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        if matches!(self.0.front(), Some(Err(_))) && self.1 > 0 {
            self.1 -= 1;
            context.waker().wake_by_ref();
            return std::task::Poll::Pending;
        }
        std::task::Poll::Ready(self.0.pop_front())
    }
}

impl Fake {
    pub async fn start() -> Fake {
        Fake::start_on("127.0.0.1").await
    }

    pub async fn start_on(host: &str) -> Fake {
        let listener = TcpListener::bind((host, 0)).await.unwrap();
        let fake = Fake {
            address: listener.local_addr().unwrap(),
            files: Arc::default(),
            seen: Arc::default(),
            special: Arc::new(Mutex::new(Arc::new(|_: &Seen| None))),
        };
        let server = fake.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let server = server.clone();
                tokio::spawn(async move {
                    let service = service_fn(move |request| {
                        let server = server.clone();
                        async move { Ok::<_, Infallible>(server.answer(request).await) }
                    });
                    let connection = hyper::server::conn::http1::Builder::new();
                    let _ = connection.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        fake
    }

    /// Answers some requests in another way: `None` leaves them to the files.
    pub fn when(&self, special: impl Fn(&Seen) -> Option<Response<Body>> + Send + Sync + 'static) {
        *self.special.lock().unwrap() = Arc::new(special);
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        let (head, body) = request.into_parts();
        let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
        let path = head.uri.path_and_query().map(|path| path.to_string()).unwrap_or_default();
        let seen = Seen {
            method: head.method.to_string(),
            path: path.clone(),
            headers: head.headers,
            body: String::from_utf8_lossy(&body).into_owned(),
        };
        self.seen.lock().unwrap().push(seen.clone());
        let special = Arc::clone(&*self.special.lock().unwrap());
        if let Some(response) = special(&seen) {
            return response;
        }
        self.file(&seen)
    }

    /// Serves a file, with ranges.
    pub fn file(&self, seen: &Seen) -> Response<Body> {
        let Some((kind, bytes)) = self.files.lock().unwrap().get(&seen.path).cloned() else {
            let code = if seen.path.contains("/blobs/") { "BLOB_UNKNOWN" } else { "MANIFEST_UNKNOWN" };
            return error(404, code, "not known to this registry");
        };
        let from: Option<usize> =
            seen.header("range").and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
        let mut response = full(200, bytes.clone());
        if let Some(from) = from {
            response = full(206, bytes.slice(from..));
            let range = format!("bytes {from}-{}/{}", bytes.len() - 1, bytes.len());
            response.headers_mut().insert("content-range", range.parse().unwrap());
        }
        response.headers_mut().insert("content-type", kind.parse().unwrap());
        response
    }

    pub fn put(&self, path: &str, kind: &str, bytes: impl Into<Bytes>) {
        self.files.lock().unwrap().insert(path.to_owned(), (kind.to_owned(), bytes.into()));
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    pub fn asked(&self, part: &str) -> usize {
        self.seen().iter().filter(|seen| seen.path.contains(part)).count()
    }

    pub fn host(&self) -> String {
        self.address.to_string()
    }

    pub fn reference(&self, rest: &str) -> Reference {
        format!("{}/{rest}", self.host()).parse().unwrap()
    }

    /// Puts an image of these layers into `repository:tag`.
    pub fn image(&self, repository: &str, tag: &str, layers: &[Layer]) -> Made {
        let made = self.manifest(repository, layers, "amd64");
        self.put(&format!("/v2/{repository}/manifests/{tag}"), media_type::OCI_MANIFEST, made.manifest.clone());
        made
    }

    /// Puts an image for one architecture, by digest only.
    pub fn manifest(&self, repository: &str, layers: &[Layer], architecture: &str) -> Made {
        let config = ImageConfig {
            architecture: architecture.into(),
            os: "linux".into(),
            created: Some("2026-01-02T03:04:05Z".into()),
            rootfs: RootFs { kind: "layers".into(), diff_ids: layers.iter().map(|layer| layer.diff_id).collect() },
            ..ImageConfig::default()
        };
        let config = serde_json::to_vec(&config).unwrap();
        let manifest = Manifest {
            schema_version: 2,
            media_type: Some(media_type::OCI_MANIFEST.into()),
            artifact_type: None,
            config: Descriptor::new(media_type::OCI_CONFIG, digest(&config), config.len() as u64),
            layers: layers.iter().map(|layer| layer.descriptor.clone()).collect(),
            subject: None,
            annotations: Default::default(),
        };
        for layer in layers {
            let path = format!("/v2/{repository}/blobs/{}", layer.descriptor.digest);
            self.put(&path, "application/octet-stream", layer.bytes.clone());
        }
        self.put(&format!("/v2/{repository}/blobs/{}", digest(&config)), "application/octet-stream", config);
        let manifest = serde_json::to_vec(&manifest).unwrap();
        let path = format!("/v2/{repository}/manifests/{}", digest(&manifest));
        self.put(&path, media_type::OCI_MANIFEST, manifest.clone());
        Made { digest: digest(&manifest), manifest }
    }

    /// Puts an index of these manifests into `repository:tag`.
    pub fn index(&self, repository: &str, tag: &str, entries: &[(&Made, &str)]) -> Digest {
        let manifests = entries.iter().map(|(made, platform)| {
            let mut entry = Descriptor::new(media_type::OCI_MANIFEST, made.digest, made.manifest.len() as u64);
            let platform: Platform = platform.parse().unwrap();
            entry.platform = Some(platform);
            entry
        });
        let index = Index {
            schema_version: 2,
            media_type: Some(media_type::OCI_INDEX.into()),
            artifact_type: None,
            manifests: manifests.collect(),
            subject: None,
            annotations: Default::default(),
        };
        let bytes = serde_json::to_vec(&index).unwrap();
        self.put(&format!("/v2/{repository}/manifests/{tag}"), media_type::OCI_INDEX, bytes.clone());
        digest(&bytes)
    }
}

#[derive(Debug)]
pub struct Made {
    pub digest: Digest,
    pub manifest: Vec<u8>,
}

#[derive(Clone, Debug)]
pub struct Layer {
    pub descriptor: Descriptor,
    pub diff_id: Digest,
    pub bytes: Bytes,
}

#[derive(Clone, Copy, Debug)]
pub enum Packing {
    Plain,
    Gzip,
    Zstd,
}

/// A layer with these files.
pub fn layer(packing: Packing, files: &[(&str, &[u8])]) -> Layer {
    let mut archive = tar::Builder::new(Vec::new());
    for (path, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1);
        archive.append_data(&mut header, path, *content).unwrap();
    }
    pack(packing, &archive.into_inner().unwrap())
}

pub fn pack(packing: Packing, archive: &[u8]) -> Layer {
    let diff_id = digest(archive);
    let (kind, bytes) = match packing {
        Packing::Plain => (media_type::OCI_LAYER, archive.to_vec()),
        Packing::Gzip => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(archive).unwrap();
            (media_type::OCI_LAYER_GZIP, encoder.finish().unwrap())
        }
        Packing::Zstd => (media_type::OCI_LAYER_ZSTD, zstd::encode_all(archive, 1).unwrap()),
    };
    let descriptor = Descriptor::new(kind, digest(&bytes), bytes.len() as u64);
    Layer { descriptor, diff_id, bytes: bytes.into() }
}

/// Bytes that do not compress.
pub fn noise(length: usize) -> Vec<u8> {
    let mut seed = 88_172_645_463_325_252u64;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        bytes.extend_from_slice(&seed.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

pub fn options() -> Options {
    Options {
        retry_pause: Duration::from_millis(1),
        connect_timeout: Duration::from_secs(5),
        read_timeout: Duration::from_secs(5),
        ..Options::default()
    }
}

pub struct Place {
    pub directory: tempfile::TempDir,
    pub store: Store,
}

pub fn place() -> Place {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(&directory.path().join("image"), options()).unwrap();
    Place { directory, store }
}

impl Place {
    pub fn root(&self) -> std::path::PathBuf {
        self.directory.path().join("image")
    }

    pub fn reopen(self) -> Place {
        let Place { directory, store } = self;
        drop(store);
        let store = Store::open(&directory.path().join("image"), options()).unwrap();
        Place { directory, store }
    }

    pub async fn pull(&self, reference: &Reference) -> Result<Pulled, Error> {
        self.pull_with(reference, None).await.0
    }

    pub async fn pull_with(
        &self,
        reference: &Reference,
        auth: Option<&budu_image::RegistryAuth>,
    ) -> (Result<Pulled, Error>, Vec<Progress>) {
        let (sender, mut receiver) = tokio::sync::mpsc::channel(1000);
        let collect = tokio::spawn(async move {
            let mut lines = Vec::new();
            while let Some(line) = receiver.recv().await {
                lines.push(line);
            }
            lines
        });
        let result = self.store.pull(reference, None, auth, sender).await;
        (result, collect.await.unwrap())
    }

    /// Names below the store's directories, to see that nothing is left behind.
    pub fn files(&self) -> Vec<String> {
        // What is in the trash is being deleted.
        let trash = self.root().join("trash");
        let started = std::time::Instant::now();
        while std::fs::read_dir(&trash).unwrap().next().is_some() && started.elapsed() < Duration::from_secs(10) {
            std::thread::sleep(Duration::from_millis(1));
        }
        let mut names = Vec::new();
        for directory in ["blobs/sha256", "layers", "ingest", "trash", "snapshots"] {
            for entry in std::fs::read_dir(self.root().join(directory)).unwrap() {
                names.push(format!("{directory}/{}", entry.unwrap().file_name().to_str().unwrap()));
            }
        }
        names.sort();
        names
    }

    /// The upper-most directory's file as the container would see it.
    pub fn read(&self, pulled: &Pulled, path: &str) -> String {
        let rootfs = self.store.prepare("reader", &pulled.image.id).unwrap();
        let found = rootfs.lower.iter().find_map(|lower| std::fs::read_to_string(lower.join(path)).ok());
        self.store.release("reader").unwrap();
        found.unwrap()
    }
}
