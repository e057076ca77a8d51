//! Mounting volumes whose files are elsewhere: a device, another directory, a server.
//!
//! The mount is on `_data` of the volume, on the host, from the start of the first container that uses it to the end of
//! the last. A plain volume needs none.

use std::ffi::CString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{AtFlags, CWD, StatxFlags, statx};
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, mount_remount, unmount};

use super::record::Record;
use super::size::Limit;
use super::{LOCAL, Volumes};
use crate::Error;

impl Volumes {
    /// Has the files of a volume in place while `container` runs; returns where.
    pub(crate) async fn mount(&self, name: &str, container: &str) -> Result<PathBuf, Error> {
        let _turn = self.turn(name).await;
        let volume = self.found(name)?;
        let (record, data) = (volume.record(), self.data(name));
        let place = if record.driver == LOCAL {
            self.mount_now(&record).await?;
            data
        } else {
            let about = |error: Error| error.about(&format!("error while mounting volume '{name}'"));
            let driver = self.driver(&record.driver).await.map_err(about)?;
            driver.mount(name, container).await.map_err(about)?.into()
        };
        volume.users().live.insert(container.to_owned());
        Ok(place)
    }

    /// Mounts a local volume unless it is mounted, or needs not be. For whoever has the turn.
    pub(super) async fn mount_now(&self, record: &Arc<Record>) -> Result<(), Error> {
        let data = self.data(&record.name);
        if !needed(record) || is_mounted(&data) {
            return Ok(());
        }
        let mut words = Words::parse(record.option("o"));
        let device = resolved(record, &mut words).await?;
        let (record, dir) = (Arc::clone(record), self.dir(&record.name));
        let work = move || match record.limit {
            Limit::Image => super::size::mount_image(&dir, &data).map_err(Error::io("mount volume", &data)),
            _ => attach(record.option("type"), &device, &data, &words),
        };
        tokio::task::spawn_blocking(work).await.map_err(|e| Error::Runtime { message: e.to_string() })?
    }

    /// Takes back [`Volumes::mount`]; tells whether there was something to take back.
    pub(crate) async fn unmount(&self, name: &str, container: &str) -> bool {
        let _turn = self.turn(name).await;
        let Some(volume) = self.find(name) else { return false };
        let (was_live, idle) = {
            let mut users = volume.users();
            (users.live.remove(container), users.live.is_empty())
        };
        let record = volume.record();
        if record.driver != LOCAL {
            if was_live && let Err(error) = self.unmount_by_plugin(&record, container).await {
                tracing::warn!(volume = name, %error, "could not unmount");
            }
        } else if idle && let Err(error) = self.unmount_now(&record) {
            tracing::warn!(volume = name, %error, "could not unmount");
        }
        was_live
    }

    /// Unmounts what no running container uses. For what an earlier life left.
    pub(crate) async fn unmount_idle(&self) {
        let names: Vec<String> = self.table().keys().cloned().collect();
        for name in names {
            self.unmount(&name, "").await;
        }
    }

    async fn unmount_by_plugin(&self, record: &Record, container: &str) -> Result<(), Error> {
        self.driver(&record.driver).await?.unmount(&record.name, container).await
    }

    pub(super) fn unmount_now(&self, record: &Record) -> Result<(), Error> {
        let data = self.data(&record.name);
        if !needed(record) || !is_mounted(&data) {
            return Ok(());
        }
        unmount(&data, UnmountFlags::NOFOLLOW).map_err(|e| Error::io("unmount", &data)(e.into()))
    }
}

/// Whether a volume must be mounted before its files are there.
pub(super) fn needed(record: &Record) -> bool {
    is_elsewhere(record) || record.limit == Limit::Image
}

/// Whether a volume's files are elsewhere.
pub(super) fn is_elsewhere(record: &Record) -> bool {
    !record.option("type").is_empty() || !record.option("device").is_empty()
}

/// The device, with names of servers looked up: the kernel takes addresses only.
async fn resolved(record: &Record, words: &mut Words) -> Result<String, Error> {
    let device = record.option("device").to_owned();
    let kind = record.option("type");
    if !matches!(kind, "nfs" | "nfs4" | "cifs" | "smb3") {
        return Ok(device);
    }
    let lookup = |host: String| async move {
        let found = budu_dial::Resolver::system().lookup(&host).await.and_then(|all| {
            all.first().map(ToString::to_string).ok_or_else(|| format!("no address of {host} is known"))
        });
        found.map_err(|why| Error::Runtime {
            message: format!("error resolving passed in network volume address: {why}"),
        })
    };
    let addr = words.data.iter_mut().find_map(|word| word.strip_prefix("addr=").map(str::to_owned).map(|a| (a, word)));
    if let Some((host, word)) = addr {
        *word = format!("addr={}", lookup(host).await?);
    } else if let Some((host, share)) = device.strip_prefix("//").and_then(|rest| rest.split_once('/')) {
        return Ok(format!("//{}/{share}", lookup(host.to_owned()).await?));
    }
    Ok(device)
}

/// Whether something is mounted right here.
pub(super) fn is_mounted(path: &Path) -> bool {
    const MOUNT_ROOT: u64 = 0x2000;
    let found = statx(CWD, path, AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT, StatxFlags::empty());
    found.is_ok_and(|stat| stat.stx_attributes.bits() & MOUNT_ROOT != 0)
}

fn attach(kind: &str, device: &str, target: &Path, words: &Words) -> Result<(), Error> {
    let failed = |source: rustix::io::Errno| {
        let why = budu_sys::mount::reason(&source.into());
        let place = target.display();
        let message =
            format!("error while mounting volume '{place}': failed to mount local volume: mount {device}:{place}");
        Error::Runtime { message: format!("{message}{}: {why}", words.shown()) }
    };
    let data = CString::new(words.data.join(",")).map_err(|_| failed(rustix::io::Errno::INVAL))?;
    mount(device, target, kind, words.flags, Some(data.as_c_str())).map_err(failed)?;
    let finish = || {
        if let Some(propagation) = words.propagation {
            mount_change(target, propagation)?;
        }
        // The kernel ignores `ro` when a bind mount is made.
        if words.flags.contains(MountFlags::BIND) && words.flags.contains(MountFlags::RDONLY) {
            mount_remount(target, words.flags, "")?;
        }
        Ok(())
    };
    finish().map_err(|errno| {
        let _ = unmount(target, UnmountFlags::NOFOLLOW | UnmountFlags::DETACH);
        failed(errno)
    })
}

/// The option `o`, sorted into what mount(2) takes.
#[derive(Debug)]
struct Words {
    flags: MountFlags,
    propagation: Option<MountPropagationFlags>,
    data: Vec<String>,
}

const FLAGS: &[(&str, bool, MountFlags)] = &[
    ("ro", true, MountFlags::RDONLY),
    ("rw", false, MountFlags::RDONLY),
    ("nosuid", true, MountFlags::NOSUID),
    ("suid", false, MountFlags::NOSUID),
    ("nodev", true, MountFlags::NODEV),
    ("dev", false, MountFlags::NODEV),
    ("noexec", true, MountFlags::NOEXEC),
    ("exec", false, MountFlags::NOEXEC),
    ("sync", true, MountFlags::SYNCHRONOUS),
    ("async", false, MountFlags::SYNCHRONOUS),
    ("dirsync", true, MountFlags::DIRSYNC),
    ("mand", true, MountFlags::PERMIT_MANDATORY_FILE_LOCKING),
    ("nomand", false, MountFlags::PERMIT_MANDATORY_FILE_LOCKING),
    ("noatime", true, MountFlags::NOATIME),
    ("atime", false, MountFlags::NOATIME),
    ("nodiratime", true, MountFlags::NODIRATIME),
    ("diratime", false, MountFlags::NODIRATIME),
    ("relatime", true, MountFlags::RELATIME),
    ("norelatime", false, MountFlags::RELATIME),
    ("strictatime", true, MountFlags::STRICTATIME),
    ("nostrictatime", false, MountFlags::STRICTATIME),
    ("bind", true, MountFlags::BIND),
    ("defaults", true, MountFlags::empty()),
];

impl Words {
    fn parse(text: &str) -> Words {
        let mut words = Words { flags: MountFlags::empty(), propagation: None, data: Vec::new() };
        for word in text.split(',').filter(|word| !word.is_empty()) {
            if let Some((_, on, bits)) = FLAGS.iter().find(|(name, ..)| *name == word) {
                words.flags.set(*bits, *on);
            } else if word == "rbind" {
                words.flags |= MountFlags::BIND | MountFlags::REC;
            } else if let Some(propagation) = propagation(word) {
                words.propagation = Some(propagation);
            } else {
                words.data.push(word.to_owned());
            }
        }
        words
    }

    /// For messages, without the password.
    fn shown(&self) -> String {
        let hide = |word: &String| match word.starts_with("password=") || word.starts_with("pass=") {
            true => format!("{}=********", word.split('=').next().unwrap_or_default()),
            false => word.clone(),
        };
        let flags = if self.flags.is_empty() { String::new() } else { format!(", flags: 0x{:x}", self.flags.bits()) };
        let data = self.data.iter().map(hide).collect::<Vec<_>>().join(",");
        if data.is_empty() { flags } else { format!("{flags}, data: {data}") }
    }
}

fn propagation(word: &str) -> Option<MountPropagationFlags> {
    let (recursive, word) = match word.strip_prefix('r') {
        Some(rest) => (MountPropagationFlags::REC, rest),
        None => (MountPropagationFlags::empty(), word),
    };
    let flag = match word {
        "private" => MountPropagationFlags::PRIVATE,
        "shared" => MountPropagationFlags::SHARED,
        "slave" => MountPropagationFlags::DOWNSTREAM,
        "unbindable" => MountPropagationFlags::UNBINDABLE,
        _ => return None,
    };
    Some(flag | recursive)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_find_their_place() {
        let words = Words::parse("ro,nosuid,suid,rbind,rslave,size=5m,password=secret,vers=4");
        assert_eq!(words.flags, MountFlags::RDONLY | MountFlags::BIND | MountFlags::REC);
        assert_eq!(words.propagation, Some(MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC));
        assert_eq!(words.data, ["size=5m", "password=secret", "vers=4"]);
        assert_eq!(words.shown(), ", flags: 0x5001, data: size=5m,password=********,vers=4");
    }
}
