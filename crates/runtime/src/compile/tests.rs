use super::*;
use crate::plan::MountSource;

fn minimal() -> oci::Spec {
    let mount = oci::Namespace { kind: "mount".into(), path: String::new() };
    oci::Spec {
        root: Some(oci::Root { path: "/r".into(), readonly: true }),
        process: Some(oci::Process { args: vec!["sh".into()], cwd: "/".into(), ..Default::default() }),
        linux: Some(oci::Linux { namespaces: vec![mount], ..Default::default() }),
        ..Default::default()
    }
}

fn message(spec: &oci::Spec) -> String {
    container(spec, Extras::default()).unwrap_err().to_string()
}

#[test]
fn what_is_wrong_is_named() {
    let mut spec = minimal();
    spec.process.as_mut().unwrap().cwd = "relative".into();
    assert_eq!(message(&spec), "invalid container configuration: process.cwd: \"relative\" is not absolute");
    let mut spec = minimal();
    spec.linux.as_mut().unwrap().namespaces.push(oci::Namespace { kind: "mount".into(), path: String::new() });
    assert!(message(&spec).contains("mount is given twice"));
    let mut spec = minimal();
    spec.linux.as_mut().unwrap().sysctl.insert("net.../../kernel.core_pattern".into(), "x".into());
    assert!(message(&spec).contains("linux.sysctl"));
    let mut spec = minimal();
    spec.process.as_mut().unwrap().rlimits.push(oci::Rlimit { kind: "RLIMIT_NOFILE".into(), hard: 1, soft: 2 });
    assert!(message(&spec).contains("NOFILE: soft limit is above"));
}

#[test]
fn mounts_become_attributes_and_parameters() {
    let mut spec = minimal();
    spec.mounts.push(oci::Mount {
        destination: "/tmp".into(),
        kind: "tmpfs".into(),
        source: "tmpfs".into(),
        options: ["nosuid", "noexec", "size=64k", "mode=1777"].map(String::from).to_vec(),
        ..Default::default()
    });
    spec.mounts.push(oci::Mount {
        destination: "/data".into(),
        kind: "bind".into(),
        source: "/srv".into(),
        options: ["rbind", "ro", "rslave"].map(String::from).to_vec(),
        ..Default::default()
    });
    let plan = container(&spec, Extras::default()).unwrap();
    assert_eq!(plan.mounts[0].set, 0x2 | 0x8);
    let options = vec![("size".into(), Some("64k".into())), ("mode".into(), Some("1777".into()))];
    assert!(matches!(&plan.mounts[0].source, MountSource::New { options: got, .. } if *got == options));
    assert_eq!(plan.mounts[1].source, MountSource::Bind { path: "/srv".into(), recursive: true });
    assert_eq!(plan.mounts[1].set, 0x1);
    assert_eq!(plan.mounts[1].propagation, 1 << 19 | 0x4000);
    assert_eq!(plan.rootfs, Rootfs::Directory { path: "/r".into(), readonly: true, in_place: false });
}
