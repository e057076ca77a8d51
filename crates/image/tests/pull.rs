//! Pulling from registries that behave, and from those that do not.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod fake;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use budu_image::{Error, LayerStep, Progress, RegistryAuth};
use budu_spec::{Classified, ErrorClass};
use bytes::Bytes;
use fake::{Fake, Packing, broken, error, full, layer, noise, pack, place};

fn three_layers() -> [fake::Layer; 3] {
    [
        layer(Packing::Gzip, &[("etc/name", b"base"), ("etc/base", b"base")]),
        layer(Packing::Zstd, &[("etc/name", b"middle")]),
        layer(Packing::Plain, &[("etc/top", b"top")]),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn brings_every_packing_and_says_what_docker_says() {
    let fake = Fake::start().await;
    let made = fake.image("some/app", "v1", &three_layers());
    let place = place();
    let reference = fake.reference("some/app:v1");
    let (pulled, lines) = place.pull_with(&reference, None).await;
    let pulled = pulled.unwrap();
    assert!(pulled.newer);
    assert_eq!(pulled.image.id.0, made.digest);
    assert_eq!(pulled.image.tags, std::slice::from_ref(&reference));
    assert_eq!(pulled.image.digests, [format!("{}/some/app@{}", fake.host(), made.digest)]);
    assert_eq!(pulled.image.created, "2026-01-02T03:04:05Z");
    assert_eq!(place.read(&pulled, "etc/name"), "middle");
    assert_eq!(place.read(&pulled, "etc/base"), "base");
    let said: Vec<(Option<&str>, String)> = lines.iter().map(|line| (line.id(), line.status())).collect();
    assert_eq!(said[0], (Some("v1"), "Pulling from some/app".to_owned()));
    let tail = &said[said.len() - 2..];
    assert_eq!(tail[0], (None, format!("Digest: {}", made.digest)));
    assert_eq!(tail[1], (None, format!("Status: Downloaded newer image for {reference}")));
    for layer in three_layers() {
        let id = layer.descriptor.digest.short();
        let of: Vec<&str> = said.iter().filter(|(at, _)| *at == Some(&id)).map(|(_, text)| text.as_str()).collect();
        let order = [
            "Pulling fs layer",
            "Downloading",
            "Verifying Checksum",
            "Download complete",
            "Extracting",
            "Pull complete",
        ];
        assert_eq!(of, order, "{id}");
    }
    // Again: everything is here.
    let (again, lines) = place.pull_with(&reference, None).await;
    assert!(!again.unwrap().newer);
    assert!(lines.iter().any(|line| matches!(line, Progress::Layer { step: LayerStep::AlreadyExists, .. })));
    assert_eq!(lines.last().unwrap().status(), format!("Status: Image is up to date for {reference}"));
    assert_eq!(fake.asked("/blobs/"), 4, "nothing is fetched twice");
    // And after a restart.
    let before = place.files();
    let place = place.reopen();
    assert_eq!(place.files(), before);
    let image = place.store.resolve(&reference.familiar()).unwrap();
    assert_eq!((image.id, image.size), (pulled.image.id, pulled.image.size));
}

#[tokio::test(flavor = "multi_thread")]
async fn takes_the_platform_from_an_index() {
    let fake = Fake::start().await;
    let ours = if std::env::consts::ARCH == "aarch64" { "arm64" } else { "amd64" };
    let a = fake.manifest("app", &[layer(Packing::Gzip, &[("which", b"ours")])], ours);
    let b = fake.manifest("app", &[layer(Packing::Gzip, &[("which", b"theirs")])], "riscv64");
    let attestation = fake.manifest("app", &[layer(Packing::Plain, &[("no", b"image")])], "unknown");
    let entries = [(&attestation, "unknown/unknown"), (&b, "linux/riscv64"), (&a, &*format!("linux/{ours}"))];
    let index = fake.index("app", "latest", &entries);
    let place = place();
    let pulled = place.pull(&fake.reference("app")).await.unwrap();
    assert_eq!((pulled.image.id.0, pulled.image.manifest_digest), (index, a.digest));
    assert_eq!(place.read(&pulled, "which"), "ours");
    // The same name for another platform, beside the first: containers keep what they have.
    let kept = place.store.prepare("kept", &pulled.image.id).unwrap();
    let riscv = "linux/riscv64".parse().unwrap();
    let (progress, _) = tokio::sync::mpsc::channel(100);
    let other = place.store.pull(&fake.reference("app"), Some(&riscv), None, progress).await.unwrap();
    assert_eq!((other.image.id.0, other.image.manifest_digest), (index, b.digest));
    assert_eq!(place.store.rootfs("kept").unwrap(), kept);
    assert_eq!(place.store.resolve(&index.to_string()).unwrap().manifest_digest, a.digest);
    // One that is not there.
    let (progress, _) = tokio::sync::mpsc::channel(100);
    let s390x = "linux/s390x".parse().unwrap();
    let error = place.store.pull(&fake.reference("app"), Some(&s390x), None, progress).await.unwrap_err();
    assert!(
        error.to_string().starts_with("no matching manifest for linux/s390x in the manifest list entries"),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn by_digest_without_a_tag() {
    let fake = Fake::start().await;
    let made = fake.manifest("app", &three_layers(), "amd64");
    let place = place();
    let pulled = place.pull(&fake.reference(&format!("app@{}", made.digest))).await.unwrap();
    assert!(pulled.image.tags.is_empty());
    assert_eq!(pulled.image.digests.len(), 1);
    assert!(place.store.resolve(&pulled.image.digests[0]).is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_images_and_unreachable_registries_are_named() {
    let fake = Fake::start().await;
    let place = place();
    let unknown = place.pull(&fake.reference("x:y")).await.unwrap_err();
    assert_eq!(
        unknown.to_string(),
        format!("manifest for {}/x:y not found: manifest unknown: not known to this registry", fake.host())
    );
    assert_eq!(unknown.class(), ErrorClass::NotFound);
    fake.when(|_| Some(error(403, "DENIED", "requested access to the resource is denied")));
    let denied = place.pull(&fake.reference("x")).await.unwrap_err();
    assert_eq!(
        denied.to_string(),
        format!(
            "pull access denied for {}/x, repository does not exist or may require 'docker login': denied: requested access to the resource is denied",
            fake.host()
        )
    );
    let nobody = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let unreachable = place.pull(&format!("{nobody}/x").parse().unwrap()).await.unwrap_err();
    let text = unreachable.to_string();
    assert!(text.contains(&nobody.to_string()) && text.contains("refused"), "{text}");
    assert!(place.files().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_content_is_refused_and_nothing_stays() {
    let big = noise(300_000);
    let good = layer(Packing::Gzip, &[("data", &big)]);
    let digest = good.descriptor.digest;
    let mut flipped = good.bytes.to_vec();
    flipped[150_000] ^= 1;
    let short = good.bytes.slice(..good.bytes.len() - 10);
    let long = [&good.bytes[..], b"more"].concat();
    for (what, bytes) in [("flipped", Bytes::from(flipped)), ("short", short), ("long", long.into())] {
        let fake = Fake::start().await;
        fake.image("app", "latest", &[layer(Packing::Zstd, &[("fine", b"fine")]), good.clone()]);
        fake.put(&format!("/v2/app/blobs/{digest}"), "x", bytes);
        let place = place();
        let error = place.pull(&fake.reference("app")).await.unwrap_err();
        assert!(error.to_string().contains(&digest.to_string()), "{what}: {error}");
        match what {
            "flipped" => assert!(matches!(error, Error::DigestMismatch { .. }), "{error}"),
            _ => assert!(matches!(error, Error::SizeMismatch { .. }), "{error}"),
        }
        settled(&place).await;
        // The right bytes later: no trace of the wrong ones.
        fake.put(&format!("/v2/app/blobs/{digest}"), "x", good.bytes.clone());
        place.pull(&fake.reference("app")).await.unwrap();
    }
}

/// Waits until threads of a given-up pull have ended, then expects an empty store.
async fn settled(place: &fake::Place) {
    for _ in 0..500 {
        if place.files().is_empty() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    assert_eq!(place.files(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn layers_that_are_not_what_the_image_says() {
    let mut lying = layer(Packing::Gzip, &[("a", b"a")]);
    lying.diff_id = fake::digest(b"something else");
    let rubbish = pack(Packing::Plain, &noise(5000));
    let hostile = layer(Packing::Gzip, &[("ok", b"ok"), ("a/.wh..", b"")]);
    let mut cut = layer(Packing::Gzip, &[("a", &noise(5000))]);
    cut.bytes = cut.bytes.slice(..2000);
    cut.descriptor.digest = fake::digest(&cut.bytes);
    cut.descriptor.size = 2000;
    for (bad, says) in
        [(lying, "uncompressed it has digest"), (rubbish, "malformed"), (hostile, "refused"), (cut, "layer")]
    {
        let fake = Fake::start().await;
        let digest = bad.descriptor.digest;
        fake.image("app", "latest", &[layer(Packing::Zstd, &[("fine", b"fine")]), bad]);
        let place = place();
        let error = place.pull(&fake.reference("app")).await.unwrap_err().to_string();
        assert!(error.contains(says) && error.contains(&digest.to_string()), "{says}: {error}");
        settled(&place).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn goes_on_where_a_transfer_broke_off() {
    for ranges in [true, false] {
        let fake = Fake::start().await;
        let big = layer(Packing::Plain, &[("data", &noise(1_000_000))]);
        fake.image("app", "latest", std::slice::from_ref(&big));
        let (tries, bytes, server) = (Arc::new(AtomicUsize::new(0)), big.bytes.clone(), fake.clone());
        fake.when(move |seen| {
            if !seen.path.ends_with(&big.descriptor.digest.to_string()) {
                return None;
            }
            match tries.fetch_add(1, Ordering::SeqCst) {
                0 => Some(broken(bytes.slice(..400_000), bytes.len() as u64)),
                1 => Some(error(503, "UNAVAILABLE", "later")),
                _ if ranges => Some(server.file(seen)),
                _ => Some(full(200, bytes.clone())),
            }
        });
        let place = place();
        let (pulled, lines) = place.pull_with(&fake.reference("app"), None).await;
        pulled.unwrap();
        assert!(lines.iter().any(|line| line.status().starts_with("Retrying in")));
        let resumed = fake
            .seen()
            .iter()
            .filter_map(|seen| seen.header("range")?.strip_prefix("bytes=")?.strip_suffix('-')?.parse::<u64>().ok())
            .max();
        assert!(resumed.is_some_and(|from| from > 0 && from <= 400_000), "{resumed:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn gives_up_after_the_last_attempt() {
    let fake = Fake::start().await;
    let big = layer(Packing::Gzip, &[("data", &noise(100_000))]);
    let digest = big.descriptor.digest;
    fake.image("app", "latest", std::slice::from_ref(&big));
    let bytes = big.bytes.clone();
    fake.when(move |seen| {
        let its = seen.path.ends_with(&digest.to_string());
        its.then(|| {
            broken(bytes.slice(..1000), bytes.len() as u64 - if seen.header("range").is_some() { 1000 } else { 0 })
        })
    });
    // Later attempts answer 200 although a range was asked for: the size does not fit.
    let place = place();
    let error = place.pull(&fake.reference("app")).await.unwrap_err();
    assert!(error.to_string().contains(&digest.to_string()), "{error}");
    let bytes = big.bytes.clone();
    fake.when(move |seen| {
        seen.path.ends_with(&digest.to_string()).then(|| broken(bytes.slice(..1000), bytes.len() as u64))
    });
    let error = place.pull(&fake.reference("app")).await.unwrap_err();
    assert!(matches!(error, Error::Transfer { .. }), "{error}");
    settled(&place).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn proves_itself_with_a_token() {
    let fake = Fake::start().await;
    fake.image("app", "latest", &three_layers());
    let realm = format!("http://{}/token", fake.host());
    fake.when(move |seen| {
        if seen.path.starts_with("/token") {
            let allowed = seen.header("authorization") == Some("Basic dXNlcjpwYXNz");
            return Some(match allowed {
                true => full(200, r#"{"token":"the-token","expires_in":300}"#),
                false => error(401, "UNAUTHORIZED", "who are you"),
            });
        }
        if seen.header("authorization") == Some("Bearer the-token") {
            return None;
        }
        let mut response = error(401, "UNAUTHORIZED", "authentication required");
        let challenge = format!(r#"Bearer realm="{realm}",service="reg",scope="repository:app:pull""#);
        response.headers_mut().insert("www-authenticate", challenge.parse().unwrap());
        Some(response)
    });
    let place = place();
    let auth =
        |password: &str| RegistryAuth { username: "user".into(), password: password.into(), ..RegistryAuth::default() };
    place.pull_with(&fake.reference("app"), Some(&auth("pass"))).await.0.unwrap();
    let token = fake.seen().into_iter().find(|seen| seen.path.starts_with("/token")).unwrap();
    assert_eq!(token.path, "/token?service=reg&scope=repository%3Aapp%3Apull&account=user");
    assert_eq!(fake.asked("/token"), 1, "one token serves the whole pull");
    let leaked = fake.seen().iter().any(|seen| {
        !seen.path.starts_with("/token") && seen.header("authorization").is_some_and(|it| it.starts_with("Basic"))
    });
    assert!(!leaked, "the password goes to the token service only");
    let wrong = place.pull_with(&fake.reference("app"), Some(&auth("wrong"))).await.0.unwrap_err();
    assert_eq!(wrong.class(), ErrorClass::Unauthorized, "{wrong}");
    let nobody = place.pull(&fake.reference("app")).await.unwrap_err();
    assert!(nobody.to_string().starts_with("pull access denied for"), "{nobody}");
    // A refresh token is exchanged with a form.
    fake.when(|seen| match (seen.path.as_str(), seen.header("authorization")) {
        (path, _) if path.starts_with("/token") => Some(full(200, r#"{"access_token":"new"}"#)),
        (_, Some("Bearer new")) => None,
        _ => {
            let mut response = full(401, "");
            let challenge = format!(r#"Bearer realm="http://{}/token",service="reg""#, seen.header("host").unwrap());
            response.headers_mut().insert("www-authenticate", challenge.parse().unwrap());
            Some(response)
        }
    });
    let refresh = RegistryAuth { identitytoken: "re/fresh".into(), ..RegistryAuth::default() };
    place.pull_with(&fake.reference("app"), Some(&refresh)).await.0.unwrap();
    let asked = fake.seen().into_iter().rfind(|seen| seen.path.starts_with("/token")).unwrap();
    assert_eq!((asked.method.as_str(), asked.path.as_str()), ("POST", "/token"));
    assert!(
        asked.body.contains("grant_type=refresh_token") && asked.body.contains("refresh_token=re%2Ffresh"),
        "{}",
        asked.body
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_never_reach_another_host() {
    let (fake, other) = (Fake::start().await, Fake::start_on("127.0.0.2").await);
    let layers = three_layers();
    fake.image("app", "latest", &layers);
    for layer in &layers {
        other.put(&format!("/elsewhere/{}", layer.descriptor.digest), "x", layer.bytes.clone());
    }
    let elsewhere = format!("http://{}/elsewhere", other.host());
    let blobs: Vec<String> = layers.iter().map(|layer| layer.descriptor.digest.to_string()).collect();
    fake.when(move |seen| {
        if seen.header("authorization") != Some("Basic dXNlcjpwYXNz") {
            let mut response = full(401, "");
            response.headers_mut().insert("www-authenticate", "Basic realm=\"reg\"".parse().unwrap());
            return Some(response);
        }
        let digest = seen.path.rsplit('/').next().unwrap();
        blobs.iter().any(|blob| blob == digest).then(|| {
            let mut response = full(307, "");
            response.headers_mut().insert("location", format!("{elsewhere}/{digest}").parse().unwrap());
            response
        })
    });
    let auth = RegistryAuth { username: "user".into(), password: "pass".into(), ..RegistryAuth::default() };
    let place = place();
    place.pull_with(&fake.reference("app"), Some(&auth)).await.0.unwrap();
    assert_eq!(other.asked("/elsewhere/"), 3, "redirects are followed");
    // A token service elsewhere is not given the password either.
    let realm = format!("http://{}/token", other.host());
    fake.when(move |_| {
        let mut response = full(401, "");
        response.headers_mut().insert("www-authenticate", format!("Bearer realm=\"{realm}\"").parse().unwrap());
        Some(response)
    });
    let error = place.pull_with(&fake.reference("app"), Some(&auth)).await.0.unwrap_err();
    assert!(matches!(error, Error::ForeignRealm { .. }), "{error}");
    for seen in other.seen() {
        assert_eq!(seen.header("authorization"), None, "{}", seen.path);
        assert!(!seen.path.contains("pass") && !seen.body.contains("pass"));
    }
    // Credentials of another registry stay at home.
    fake.when(|_| None);
    let foreign = RegistryAuth { serveraddress: "https://index.docker.io/v1/".into(), ..auth };
    place.pull_with(&fake.reference("app"), Some(&foreign)).await.0.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn documents_with_two_readings() {
    let fake = Fake::start().await;
    let made = fake.manifest("app", &three_layers(), "amd64");
    let text = String::from_utf8(made.manifest).unwrap();
    let both = text.replacen('{', r#"{"manifests":[],"#, 1);
    fake.put("/v2/app/manifests/both", budu_spec::image::media_type::OCI_MANIFEST, both.clone());
    fake.put("/v2/app/manifests/also", budu_spec::image::media_type::OCI_INDEX, both);
    fake.put("/v2/app/manifests/other", budu_spec::image::media_type::OCI_INDEX, text);
    fake.put("/v2/app/manifests/rubbish", "application/json", "[".repeat(200_000));
    fake.put("/v2/app/manifests/endless", "application/json", noise(20_000_000));
    let place = place();
    for tag in ["both", "also", "other", "rubbish", "endless"] {
        let error = place.pull(&fake.reference(&format!("app:{tag}"))).await;
        assert!(error.is_err(), "{tag}");
    }
    assert!(place.files().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn giving_up_removes_everything() {
    let fake = Fake::start().await;
    let big = layer(Packing::Plain, &[("data", &noise(2_000_000))]);
    let digest = big.descriptor.digest.to_string();
    fake.image("app", "latest", std::slice::from_ref(&big));
    let bytes = big.bytes.clone();
    // The connection stays open and silent after half of it.
    fake.when(move |seen| seen.path.ends_with(&digest).then(|| stalled(bytes.slice(..1_000_000), bytes.len() as u64)));
    let place = place();
    let (progress, mut lines) = tokio::sync::mpsc::channel(1000);
    let (store, reference) = (place.store.clone(), fake.reference("app"));
    let pull = tokio::spawn(async move { store.pull(&reference, None, None, progress).await.map(drop) });
    while let Some(line) = lines.recv().await {
        if line.status() == "Downloading" || line.status() == "Pulling fs layer" {
            break;
        }
    }
    while place.files().is_empty() {
        tokio::task::yield_now().await;
    }
    pull.abort();
    assert!(pull.await.unwrap_err().is_cancelled());
    settled(&place).await;
}

fn stalled(bytes: Bytes, length: u64) -> hyper::Response<fake::Body> {
    use http_body_util::BodyExt;
    struct Stalled(Option<Bytes>);
    impl futures_core::Stream for Stalled {
        type Item = Result<hyper::body::Frame<Bytes>, std::io::Error>;
        fn poll_next(
            mut self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<Self::Item>> {
            match self.0.take() {
                Some(bytes) => std::task::Poll::Ready(Some(Ok(hyper::body::Frame::data(bytes)))),
                None => std::task::Poll::Pending,
            }
        }
    }
    let body = http_body_util::StreamBody::new(Stalled(Some(bytes))).boxed();
    hyper::Response::builder().header("content-length", length).body(body).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn pulls_at_the_same_time_share_their_layers() {
    let fake = Fake::start().await;
    let shared = layer(Packing::Gzip, &[("shared", &noise(500_000))]);
    fake.image("one", "latest", &[shared.clone(), layer(Packing::Gzip, &[("one", b"one")])]);
    fake.image("two", "latest", &[shared.clone(), layer(Packing::Gzip, &[("two", b"two")])]);
    let place = place();
    let (one_ref, two_ref) = (fake.reference("one"), fake.reference("two"));
    let (one, two, again) = tokio::join!(place.pull(&one_ref), place.pull(&two_ref), place.pull(&one_ref));
    again.unwrap();
    assert_eq!(place.read(&one.unwrap(), "one"), "one");
    assert_eq!(place.read(&two.unwrap(), "two"), "two");
    assert_eq!(fake.asked(&shared.descriptor.digest.to_string()), 1, "a shared blob is fetched once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_layer_spoils_only_its_own_image() {
    let fake = Fake::start().await;
    let shared = layer(Packing::Gzip, &[("shared", &noise(500_000))]);
    let bad = layer(Packing::Gzip, &[("bad", &noise(50_000))]);
    fake.image("good", "latest", &[shared.clone(), layer(Packing::Gzip, &[("good", b"good")])]);
    fake.image("bad", "latest", &[shared, bad.clone()]);
    fake.put(&format!("/v2/bad/blobs/{}", bad.descriptor.digest), "x", noise(bad.bytes.len()));
    let place = place();
    let (good_ref, bad_ref) = (fake.reference("good"), fake.reference("bad"));
    let (good, spoiled, again) = tokio::join!(place.pull(&good_ref), place.pull(&bad_ref), place.pull(&good_ref));
    assert!(matches!(spoiled.unwrap_err(), Error::DigestMismatch { .. }));
    again.unwrap();
    assert_eq!(place.read(&good.unwrap(), "good"), "good");
    for _ in 0..500 {
        if place.files().len() == 6 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    assert_eq!(place.files().len(), 6, "4 blobs and 2 layers of the good image: {:?}", place.files());
    let place = place.reopen();
    assert!(place.store.resolve(&good_ref.familiar()).is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn equal_layers_in_one_image() {
    let fake = Fake::start().await;
    let one = layer(Packing::Gzip, &[("same", b"same")]);
    fake.image("app", "latest", &[one.clone(), one.clone(), one]);
    let place = place();
    let pulled = place.pull(&fake.reference("app")).await.unwrap();
    let rootfs = place.store.prepare("c", &pulled.image.id).unwrap();
    assert_eq!(rootfs.lower.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_layers() {
    let fake = Fake::start().await;
    let one = layer(Packing::Plain, &[("same", b"same")]);
    fake.image("app", "latest", &vec![one; 126]);
    let error = place().pull(&fake.reference("app")).await.unwrap_err();
    assert!(error.to_string().starts_with("max depth exceeded"), "{error}");
}
