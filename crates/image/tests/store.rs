//! Names, ids, leases, removal, recovery.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod fake;

use std::fs;
use std::os::unix::fs::PermissionsExt;

use budu_image::{Error, Image, Removed, Store};
use budu_spec::image::ImageConfig;
use budu_spec::{Classified, ErrorClass, Reference};
use fake::{Place, place};

fn reference(text: &str) -> Reference {
    text.parse().unwrap()
}

fn import(place: &Place, name: &str, content: &str) -> Image {
    let config = ImageConfig { architecture: "amd64".into(), os: "linux".into(), ..ImageConfig::default() };
    let files = [("bin/hello", 0o755, content.as_bytes()), ("etc/motd", 0o644, b"hi")];
    place.store.import_built_in(&reference(name), config, &files).unwrap()
}

fn removed(place: &Place, name: &str, force: bool) -> Result<Vec<Removed>, Error> {
    place.store.remove(name, force, true, &|container| container.starts_with("running"))
}

fn untagged(name: &str) -> Removed {
    Removed::Untagged(name.into())
}

#[test]
fn built_in_images_are_real_and_stable() {
    let place = place();
    let image = import(&place, "hello", "program");
    assert_eq!(image.tags, [reference("hello:latest")]);
    assert_eq!(image.layers.len(), 1);
    let database = place.root().join("image.redb");
    let written = fs::metadata(&database).unwrap().modified().unwrap();
    assert_eq!(import(&place, "hello", "program").id, image.id);
    assert_eq!(fs::metadata(&database).unwrap().modified().unwrap(), written, "a second call writes nothing");
    let rootfs = place.store.prepare("c", &image.id).unwrap();
    let program = rootfs.lower[0].join("bin/hello");
    assert_eq!(fs::read_to_string(&program).unwrap(), "program");
    assert_eq!(fs::metadata(&program).unwrap().permissions().mode() & 0o7777, 0o755);
    assert_ne!(import(&place, "hello", "newer program").id, image.id);
    assert!(place.store.resolve("hello").unwrap().id != image.id, "the name moves");
    assert!(place.store.resolve(&image.id.to_string()).unwrap().tags.is_empty(), "the old image dangles");
    assert_eq!(fs::metadata(place.root()).unwrap().permissions().mode() & 0o7777, 0o700);
}

#[test]
fn names_and_ids_lead_to_images() {
    let place = place();
    let image = import(&place, "some/app:v1", "one");
    let id = image.id.to_string();
    let config = image.config_digest.to_string();
    place.store.tag(&image.id, &reference("other")).unwrap();
    for name in [
        "some/app:v1",
        "docker.io/some/app:v1",
        "other",
        "other:latest",
        &id,
        &id[7..],
        &id[7..19],
        &id[..19],
        &config,
        &config[7..],
        &config[7..19],
        &format!("other@{id}"),
        &format!("some/app@{id}"),
    ] {
        assert_eq!(place.store.resolve(name).map(|found| found.id).ok(), Some(image.id), "{name}");
    }
    for (name, text) in [
        ("some/app", "No such image: some/app:latest"),
        ("some/app:v2", "No such image: some/app:v2"),
        ("ffffffffffff", "No such image: ffffffffffff:latest"),
        (&format!("third@{id}"), &format!("No such image: third@{id}")),
    ] {
        let error = place.store.resolve(name).unwrap_err();
        assert_eq!(error.to_string(), text);
        assert_eq!(error.class(), ErrorClass::NotFound);
    }
    assert_eq!(place.store.resolve("Not A Name").unwrap_err().class(), ErrorClass::InvalidArgument);
    assert_eq!(place.store.resolve("").unwrap_err().class(), ErrorClass::InvalidArgument);
    // A name that looks like an id prefix is first of all a name.
    let other = import(&place, &id[7..15], "two");
    assert_eq!(place.store.resolve(&id[7..15]).unwrap().id, other.id);
}

#[test]
fn names_go_first_and_the_image_with_the_last() {
    let place = place();
    let image = import(&place, "a", "content");
    place.store.tag(&image.id, &reference("b:1")).unwrap();
    let conflict = removed(&place, &image.id.short(), false).unwrap_err();
    assert_eq!(conflict.class(), ErrorClass::Conflict);
    assert_eq!(
        conflict.to_string(),
        format!(
            "conflict: unable to delete {} (must be forced) - image is referenced in multiple repositories",
            image.id.short()
        )
    );
    assert_eq!(removed(&place, "a", false).unwrap(), [untagged("a:latest")]);
    let gone = Removed::Deleted(image.id.to_string());
    assert_eq!(removed(&place, "b:1", false).unwrap(), [untagged("b:1"), gone.clone()]);
    assert!(place.files().is_empty(), "{:?}", place.files());
    assert_eq!(removed(&place, "a", false).unwrap_err().to_string(), "No such image: a:latest");
    // By id, with all names, when forced.
    let image = import(&place, "a", "content");
    place.store.tag(&image.id, &reference("b:1")).unwrap();
    assert_eq!(removed(&place, &image.id.short(), true).unwrap(), [untagged("a:latest"), untagged("b:1"), gone]);
    assert!(place.reopen().store.list().unwrap().is_empty());
}

#[test]
fn images_in_use_stay() {
    let place = place();
    let image = import(&place, "a", "content");
    let id = image.id.short();
    let container = "c".repeat(64);
    let rootfs = place.store.prepare(&container, &image.id).unwrap();
    assert_eq!(
        removed(&place, "a", false).unwrap_err().to_string(),
        format!(
            "conflict: unable to remove repository reference \"a:latest\" (must force) - container cccccccccccc is using its referenced image {id}"
        )
    );
    assert_eq!(
        removed(&place, &id, false).unwrap_err().to_string(),
        format!(
            "conflict: unable to delete {id} (must be forced) - image is being used by stopped container cccccccccccc"
        )
    );
    // Not its last name: only the name goes.
    place.store.tag(&image.id, &reference("b")).unwrap();
    assert_eq!(removed(&place, "b", false).unwrap(), [untagged("b:latest")]);
    place.store.prepare("running-one", &image.id).unwrap();
    assert_eq!(
        removed(&place, &id, true).unwrap_err().to_string(),
        format!(
            "conflict: unable to delete {id} (cannot be forced) - image is being used by running container running-one"
        )
    );
    assert_eq!(removed(&place, "a", true).unwrap(), [untagged("a:latest")], "by name: the image dangles");
    place.store.release("running-one").unwrap();
    // Forced while a stopped container has it: gone for everybody but that container.
    assert_eq!(removed(&place, &id, true).unwrap(), [Removed::Deleted(image.id.to_string())]);
    assert!(place.store.resolve(&id).is_err() && place.store.list().unwrap().is_empty());
    assert!(matches!(place.store.prepare("new", &image.id), Err(Error::NotFound { .. })));
    let place = place.reopen();
    assert_eq!(place.store.rootfs(&container).unwrap(), rootfs, "it can still be started");
    assert!(rootfs.lower[0].join("bin/hello").exists());
    place.store.release(&container).unwrap();
    assert!(place.files().is_empty(), "{:?}", place.files());
    place.store.release(&container).unwrap();
}

#[test]
fn snapshots() {
    let place = place();
    let image = import(&place, "a", "content");
    let other = import(&place, "b", "other content");
    let rootfs = place.store.prepare("one", &image.id).unwrap();
    assert!(rootfs.upper.is_dir() && rootfs.work.is_dir());
    fs::write(rootfs.upper.join("written"), "kept").unwrap();
    assert_eq!(place.store.prepare("one", &image.id).unwrap(), rootfs, "made again it is the same");
    assert_eq!(place.store.prepare("one", &other.id).unwrap_err().class(), ErrorClass::Conflict);
    assert_eq!(place.store.container_size("one").unwrap(), (4, 4 + image.unpacked_size));
    for name in ["", ".", "..", "a/b", "../x", "-x", "a\0b"] {
        assert_eq!(place.store.prepare(name, &image.id).unwrap_err().class(), ErrorClass::InvalidArgument, "{name:?}");
        assert!(place.store.release(name).is_err(), "{name:?}");
    }
    let place = place.reopen();
    assert_eq!(place.store.leases().unwrap(), [("one".to_owned(), image.id)]);
    assert_eq!(fs::read_to_string(place.store.rootfs("one").unwrap().upper.join("written")).unwrap(), "kept");
    place.store.release("one").unwrap();
    assert!(!rootfs.upper.exists());
    assert!(matches!(place.store.rootfs("one"), Err(Error::NoSnapshot { .. })));
    assert!(place.store.leases().unwrap().is_empty());
}

#[test]
fn what_an_earlier_life_left_is_swept() {
    let place = place();
    let image = import(&place, "a", "content");
    place.store.prepare("one", &image.id).unwrap();
    let good = place.files();
    let root = place.root();
    let fill = |path: &str| {
        fs::create_dir_all(root.join(path).join("deep/er")).unwrap();
        fs::write(root.join(path).join("deep/file"), "x").unwrap();
    };
    fill("ingest/1-1");
    fill("trash/1-2");
    fill("snapshots/half-made");
    fill(&format!("layers/{}", "a".repeat(64)));
    fill("layers/nonsense");
    fs::write(root.join(format!("blobs/sha256/{}", "b".repeat(64))), "orphan").unwrap();
    fs::write(root.join("blobs/sha256/nonsense"), "orphan").unwrap();
    let place = place.reopen();
    assert_eq!(place.files(), good);
    assert!(place.store.resolve("a").is_ok());
}

#[test]
fn a_store_has_one_owner() {
    let place = place();
    let second = Store::open(&place.root(), fake::options()).unwrap_err();
    assert!(second.to_string().contains("image.redb"), "{second}");
}

#[test]
fn what_a_container_wrote_survives_a_lost_database() {
    let place = place();
    let image = import(&place, "a", "content");
    let rootfs = place.store.prepare("one", &image.id).unwrap();
    fs::write(rootfs.upper.join("written"), "precious").unwrap();
    let (root, directory) = (place.root(), place.directory);
    drop(place.store);
    fs::remove_file(root.join("image.redb")).unwrap();
    let store = Store::open(&root, fake::options()).unwrap();
    assert!(store.list().unwrap().is_empty());
    assert_eq!(fs::read_to_string(rootfs.upper.join("written")).unwrap(), "precious");
    drop(directory);
}
