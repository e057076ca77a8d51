//! What needs a mount: a full disk, overlayfs' own view of layers, a host name of our choice.
//!
//! Each test runs itself again inside a mount namespace of its own (`unshare -m`), so that nothing
//! of it is ever seen outside or left behind.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod fake;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use budu_image::{Error, Store};
use budu_spec::Reference;
use fake::{Fake, Packing, layer, noise, options, pack};

/// Set inside of the namespace; its value is a directory to work in.
const INSIDE: &str = "BUDU_TEST_INSIDE";

/// Runs `test` of this program again, inside. False when that is not possible here.
fn inside(test: &str) -> bool {
    let work = tempfile::tempdir().unwrap();
    let probe = Command::new("unshare").args(["-m", "true"]).status();
    if !probe.is_ok_and(|status| status.success()) {
        println!("skipped: a mount namespace cannot be made here");
        return false;
    }
    let status = Command::new("unshare")
        .arg("-m")
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(INSIDE, work.path())
        .status()
        .unwrap();
    assert!(status.success(), "{test} fails inside");
    true
}

/// The directory to work in when this is the inner run.
fn work() -> Option<std::path::PathBuf> {
    std::env::var_os(INSIDE).map(Into::into)
}

fn mount(arguments: &[&str]) {
    assert!(Command::new("mount").args(arguments).status().unwrap().success(), "mount {arguments:?}");
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

async fn pull(store: &Store, reference: &Reference) -> Result<budu_image::Pulled, Error> {
    let (progress, lines) = tokio::sync::mpsc::channel(1);
    drop(lines);
    store.pull(reference, None, None, progress).await
}

#[test]
fn a_full_disk_is_said_and_leaves_nothing() {
    let Some(work) = work() else {
        inside("a_full_disk_is_said_and_leaves_nothing");
        return;
    };
    mount(&["-t", "tmpfs", "-o", "size=12m", "none", work.to_str().unwrap()]);
    runtime().block_on(async {
        let fake = Fake::start().await;
        fake.image("small", "latest", &[layer(Packing::Gzip, &[("x", b"x")])]);
        // The blob itself does not fit; the blob fits, what is in it does not.
        fake.image("blob", "latest", &[layer(Packing::Plain, &[("data", &noise(20_000_000))])]);
        fake.image("files", "latest", &[layer(Packing::Gzip, &[("data", &vec![1u8; 20_000_000])])]);
        let root = work.join("image");
        let store = Store::open(&root, options()).unwrap();
        for name in ["blob", "files"] {
            let error = pull(&store, &fake.reference(name)).await.unwrap_err();
            let text = error.to_string();
            assert!(matches!(error, Error::NoSpace { .. }), "{name}: {text}");
            assert!(text.contains(root.to_str().unwrap()) && text.ends_with("no space left on device"), "{text}");
            for directory in ["ingest", "layers", "blobs/sha256"] {
                assert_eq!(fs::read_dir(root.join(directory)).unwrap().count(), 0, "{name} {directory}");
            }
        }
        pull(&store, &fake.reference("small")).await.expect("there is room again");
    });
}

#[test]
fn overlayfs_sees_what_the_archives_say() {
    let Some(work) = work() else {
        inside("overlayfs_sees_what_the_archives_say");
        return;
    };
    mount(&["-t", "tmpfs", "none", work.to_str().unwrap()]);
    let base = layer(
        Packing::Gzip,
        &[
            ("keep/file", b"base"),
            ("gone/file", b"base"),
            ("hidden/old", b"base"),
            ("again/old", b"base"),
            ("replaced", b"base"),
            ("tmp/marker", b"base"),
        ],
    );
    let top = layer(
        Packing::Zstd,
        &[
            (".wh.gone", b""),
            ("hidden/new", b"top"),
            ("hidden/.wh..wh..opq", b""),
            (".wh.again", b""),
            ("again/new", b"top"),
            ("replaced", b"top"),
            ("keep/.wh.file", b""),
            ("tmp/added", b"top"),
        ],
    );
    // An attacker's markers: they must not make the view differ from the archive's words.
    let mut archive = tar::Builder::new(Vec::new());
    let records: [(&str, &[u8]); 2] =
        [("SCHILY.xattr.trusted.overlay.opaque", b"y"), ("SCHILY.xattr.trusted.overlay.redirect", b"/gone")];
    archive.append_pax_extensions(records).unwrap();
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(tar::EntryType::Directory);
    header.set_mode(0o1777);
    header.set_uid(0);
    header.set_gid(0);
    header.set_size(0);
    archive.append_data(&mut header, "tmp/", &b""[..]).unwrap();
    let marked = pack(Packing::Plain, &archive.into_inner().unwrap());
    runtime().block_on(async {
        let fake = Fake::start().await;
        fake.image("app", "latest", &[base, top, marked]);
        let store = Store::open(&work.join("image"), options()).unwrap();
        let pulled = pull(&store, &fake.reference("app")).await.unwrap();
        let rootfs = store.prepare("c", &pulled.image.id).unwrap();
        let lower: Vec<&str> = rootfs.lower.iter().map(|path| path.to_str().unwrap()).collect();
        let view = work.join("view");
        fs::create_dir(&view).unwrap();
        let option = format!(
            "lowerdir={},upperdir={},workdir={}",
            lower.join(":"),
            rootfs.upper.display(),
            rootfs.work.display()
        );
        mount(&["-t", "overlay", "overlay", "-o", &option, view.to_str().unwrap()]);
        let names = |path: &str| {
            let listed = fs::read_dir(view.join(path)).unwrap();
            let mut names: Vec<String> =
                listed.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
            names.sort();
            names.join(" ")
        };
        assert_eq!(names(""), ".dockerenv again hidden keep replaced tmp");
        assert_eq!((names("hidden"), names("again"), names("keep")), ("new".into(), "new".into(), String::new()));
        assert_eq!(names("tmp"), "added marker");
        assert_eq!(fs::read_to_string(view.join("replaced")).unwrap(), "top");
        assert_eq!(fs::metadata(view.join("tmp")).unwrap().permissions().mode() & 0o7777, 0o1777);
        assert!(Command::new("umount").arg(&view).status().unwrap().success());
        store.release("c").unwrap();
    });
}

#[test]
fn clear_text_only_where_it_was_allowed() {
    let Some(work) = work() else {
        inside("clear_text_only_where_it_was_allowed");
        return;
    };
    let hosts = work.join("hosts");
    fs::write(&hosts, "127.0.0.1 localhost registry.example\n").unwrap();
    mount(&["--bind", hosts.to_str().unwrap(), "/etc/hosts"]);
    runtime().block_on(async {
        let fake = Fake::start().await;
        fake.image("app", "latest", &[layer(Packing::Gzip, &[("x", b"x")])]);
        let registry = format!("registry.example:{}", fake.address.port());
        let reference: Reference = format!("{registry}/app").parse().unwrap();
        // A public name: TLS or nothing, even when the port answers in clear text.
        let store = Store::open(&work.join("strict"), options()).unwrap();
        let error = pull(&store, &reference).await.unwrap_err();
        let text = error.to_string();
        assert!(text.starts_with(&format!("cannot reach registry {registry}: TLS")), "{text}");
        assert!(fake.seen().is_empty(), "nothing was sent in clear text");
        // Listed as insecure it may.
        let mut lenient = options();
        lenient.insecure_registries.push(registry.clone());
        let store = Store::open(&work.join("lenient"), lenient.clone()).unwrap();
        pull(&store, &reference).await.unwrap();
        // The same with a certificate that nobody signed.
        let Some(secure) = with_tls(&work, &fake).await else { return };
        let registry = format!("registry.example:{secure}");
        let reference: Reference = format!("{registry}/app").parse().unwrap();
        let store = Store::open(&work.join("strict-tls"), options()).unwrap();
        let before = fake.seen().len();
        let text = pull(&store, &reference).await.unwrap_err().to_string();
        assert!(text.contains("TLS") && text.contains("certificate"), "{text}");
        assert_eq!(fake.seen().len(), before, "nothing was asked of an unknown certificate");
        lenient.insecure_registries.push(registry);
        let store = Store::open(&work.join("lenient-tls"), lenient).unwrap();
        pull(&store, &reference).await.unwrap();
    });
}

/// Puts a TLS front before the fake; its port. `None` when there is no openssl to make a
/// certificate with.
async fn with_tls(work: &Path, fake: &Fake) -> Option<u16> {
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    let (certificate, key) = (work.join("certificate.pem"), work.join("key.pem"));
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=registry.example"])
        .args(["-addext", "subjectAltName=DNS:registry.example", "-addext", "basicConstraints=critical,CA:FALSE"])
        .arg("-keyout")
        .arg(&key)
        .arg("-out")
        .arg(&certificate)
        .output();
    if !made.is_ok_and(|output| output.status.success()) {
        println!("skipped: no openssl to make a certificate with");
        return None;
    }
    let chain = vec![CertificateDer::from_pem_file(&certificate).unwrap()];
    let key = PrivateKeyDer::from_pem_file(&key).unwrap();
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(std::sync::Arc::new(config));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let behind = fake.address;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                let mut behind = tokio::net::TcpStream::connect(behind).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut stream, &mut behind).await;
            });
        }
    });
    Some(port)
}
