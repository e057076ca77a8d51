//! Copies of volumes: clones, which are volumes themselves, and snapshots, which lie beside their volume's files.
//!
//! Blocks are shared where the file system can; elsewhere files are copied.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use budu_spec::docker::{self, ANONYMOUS_LABEL};
use budu_spec::{Id, names};
use budu_sys::freeze::Frozen;
use budu_sys::rooted::Root;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use serde::{Deserialize, Serialize};

use super::create::check_name;
use super::record::{RECORD_FILE, Record};
use super::size::{IMAGE, Limit, forget, project_limit};
use super::{DATA, LOCAL, Volume, Volumes, copy, mount};
use crate::container::discard;
use crate::container::record::{load, save};
use crate::engine::private_dir;
use crate::{Error, clock};

/// Directory of a volume's snapshots.
const SNAPSHOTS: &str = "snapshots";

/// What is remembered about a snapshot.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct Note {
    created: i64,
}

/// A snapshot, as the API shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Snapshot {
    /// Name, unique among the volume's.
    pub name: String,
    /// Time of creation, RFC 3339.
    pub created_at: String,
}

impl Volumes {
    /// Keeps the files of a volume as they are now, under `wish` or a name made of the time.
    ///
    /// # Errors
    /// [`Error::Conflict`] when the name is taken, [`Error::Invalid`] for a volume whose files are elsewhere.
    pub(super) async fn snapshot(&self, name: &str, wish: Option<&str>) -> Result<Snapshot, Error> {
        let _turn = self.turn(name).await;
        let volume = self.found(name)?;
        let record = volume.record();
        check_copyable(&record)?;
        let created = clock::now();
        let snapshot = match wish {
            Some(wish) if names::is_valid(wish) => wish.to_owned(),
            Some(bad) => {
                return Err(Error::invalid(format!(
                    "invalid snapshot name ({bad}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"
                )));
            }
            None => clock::print(created).chars().filter(char::is_ascii_alphanumeric).take(15).collect(),
        };
        let all = self.dir(name).join(SNAPSHOTS);
        let place = all.join(&snapshot);
        if place.exists() {
            return Err(Error::conflict(format!("volume {name} already has a snapshot {snapshot}")));
        }
        private_dir(&all)?;
        let aside = all.join(format!(".{}", Id::random()));
        let limit = if record.limit == Limit::Image { Limit::Image } else { Limit::None };
        Copy { from: self.dir(name), to: aside.clone(), limit: Limited { limit, bytes: 0 } }.run().await?;
        let publish = || {
            save(&aside, RECORD_FILE, &Note { created }, true)?;
            fs::rename(&aside, &place).map_err(Error::io("keep snapshot", &place))?;
            File::open(&all).and_then(|dir| dir.sync_all()).map_err(Error::io("sync", &all))
        };
        publish().inspect_err(|_| drop(budu_image::delete_tree(&aside)))?;
        self.tell("snapshot", name, &[("driver", &record.driver), ("snapshot", &snapshot)]);
        Ok(Snapshot { name: snapshot, created_at: clock::print(created) })
    }

    /// Gives a volume the files of one of its snapshots.
    ///
    /// # Errors
    /// [`Error::Conflict`] while a container runs with it, [`Error::Absent`] without that snapshot.
    pub async fn restore(&self, name: &str, snapshot: &str) -> Result<(), Error> {
        let _turn = self.turn(name).await;
        let volume = self.found(name)?;
        let record = volume.record();
        if let Some(user) = volume.users().live.iter().next() {
            return Err(Error::conflict(format!("volume {name} is in use by running container {user}: stop it first")));
        }
        let from = self.snapshot_dir(name, snapshot)?;
        self.unmount_now(&record)?;
        let dir = self.dir(name);
        let aside = dir.join(format!(".{}", Id::random()));
        let copy = Copy { from, to: aside.clone(), limit: self.like(&record)? };
        let (old, limit) = (record.limit, copy.limit.limit);
        copy.run().await?;
        let body = if limit == Limit::Image { IMAGE } else { DATA };
        if limit != record.limit {
            // Should the exchange fail, the old files have a project of their own all the same.
            let record = Record { limit, ..Record::clone(&record) };
            save(&dir, RECORD_FILE, &record, true)?;
            volume.set_record(record);
        }
        renameat_with(CWD, aside.join(body), CWD, dir.join(body), RenameFlags::EXCHANGE)
            .map_err(|e| Error::io("restore volume", &dir)(e.into()))?;
        forget(old, &aside.join(DATA));
        let gone = self.trash.join(Id::random().as_str());
        fs::rename(&aside, &gone).map_err(Error::io("remove", &aside))?;
        discard(vec![gone]);
        self.tell("restore", name, &[("driver", &record.driver), ("snapshot", snapshot)]);
        Ok(())
    }

    /// Removes a snapshot.
    ///
    /// # Errors
    /// [`Error::Absent`] without it.
    pub async fn remove_snapshot(&self, name: &str, snapshot: &str) -> Result<(), Error> {
        let _turn = self.turn(name).await;
        self.found(name)?;
        let (dir, gone) = (self.snapshot_dir(name, snapshot)?, self.trash.join(Id::random().as_str()));
        fs::rename(&dir, &gone).map_err(Error::io("remove", &dir))?;
        discard(vec![gone]);
        Ok(())
    }

    /// Makes a volume with the files of another one, or of a snapshot of it.
    ///
    /// # Errors
    /// [`Error::Conflict`] when the new name is taken.
    pub(super) async fn clone_volume(
        &self,
        name: &str,
        new: &str,
        labels: Option<BTreeMap<String, String>>,
        snapshot: Option<&str>,
    ) -> Result<docker::Volume, Error> {
        let anonymous = new.is_empty();
        let new = if anonymous { Id::random().to_string() } else { new.to_owned() };
        check_name(&new).map_err(|e| e.about(&format!("create {new}")))?;
        // In one order, whoever asks.
        let (first, second) = if name < new.as_str() { (name, new.as_str()) } else { (new.as_str(), name) };
        let _turns = (self.turn(first).await, if first == second { None } else { Some(self.turn(second).await) });
        let origin = self.found(name)?.record();
        check_copyable(&origin)?;
        self.check_free(&new)?;
        let from = match snapshot {
            Some(snapshot) => self.snapshot_dir(name, snapshot)?,
            None => self.dir(name),
        };
        let mut labels = labels.or_else(|| origin.labels.clone());
        match anonymous {
            true => drop(labels.get_or_insert_default().insert(ANONYMOUS_LABEL.to_owned(), String::new())),
            false => labels = labels.map(|mut l| (l.remove(ANONYMOUS_LABEL), l).1),
        }
        let aside = self.root.join(format!(".{}", Id::random()));
        let copy = Copy { from, to: aside.clone(), limit: self.like(&origin)? };
        let limit = copy.limit.limit;
        copy.run().await?;
        let record =
            Record { name: new.clone(), created: clock::now(), labels, limit, was: None, ..Record::clone(&origin) };
        let publish = || save(&aside, RECORD_FILE, &record, true).and_then(|()| self.reveal(&aside, &new, true));
        publish().inspect_err(|_| drop(budu_image::delete_tree(&aside)))?;
        let volume = Arc::new(Volume::new(record));
        self.table().insert(new.clone(), Arc::clone(&volume));
        self.tell("create", &new, &[("driver", LOCAL)]);
        Ok(self.shape(&volume))
    }

    /// The snapshots of a volume, oldest first.
    pub(super) fn snapshots(&self, name: &str) -> Vec<Snapshot> {
        let mut all: Vec<(i64, String)> = Vec::new();
        for entry in fs::read_dir(self.dir(name).join(SNAPSHOTS)).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if let Ok(Some(note)) = load::<Note>(&entry.path(), RECORD_FILE)
                && !name.starts_with('.')
            {
                all.push((note.created, name));
            }
        }
        all.sort();
        all.into_iter().map(|(created, name)| Snapshot { name, created_at: clock::print(created) }).collect()
    }

    /// The same limit for a copy, which needs a project of its own.
    fn like(&self, record: &Record) -> Result<Limited, Error> {
        Ok(match record.limit {
            Limit::Project(_) => {
                let bytes = super::options::size_of(record.option("size"))?;
                Limited { limit: Limit::Project(self.free_project()), bytes }
            }
            limit => Limited { limit, bytes: 0 },
        })
    }

    fn snapshot_dir(&self, name: &str, snapshot: &str) -> Result<PathBuf, Error> {
        let dir = self.dir(name).join(SNAPSHOTS).join(snapshot);
        match names::is_valid(snapshot) && dir.is_dir() {
            true => Ok(dir),
            false => Err(Error::Absent { message: format!("volume {name}: no such snapshot: {snapshot}") }),
        }
    }

    /// Refuses a name that a volume has.
    pub(super) fn check_free(&self, name: &str) -> Result<(), Error> {
        match self.find(name) {
            Some(_) => Err(Error::conflict(format!("volume {name} already exists"))),
            None => Ok(()),
        }
    }
}

/// Only what lies in the volume's own directory can be copied.
fn check_copyable(record: &Record) -> Result<(), Error> {
    if record.driver != LOCAL {
        return Err(Error::unsupported(format!("copying volumes of the driver {}", record.driver)));
    }
    if mount::is_elsewhere(record) {
        let (name, device) = (&record.name, record.option("device"));
        return Err(Error::invalid(format!("volume {name} has its files elsewhere ({device}): copy them there")));
    }
    Ok(())
}

/// A copy of the files of one directory (a volume's or a snapshot's) into a new one.
struct Copy {
    from: PathBuf,
    to: PathBuf,
    limit: Limited,
}

/// What keeps a copy to its size.
struct Limited {
    limit: Limit,
    /// For a project.
    bytes: u64,
}

impl Copy {
    async fn run(self) -> Result<(), Error> {
        let work = move || {
            let failed = Error::io("copy volume", &self.from);
            self.copy().map_err(failed).inspect_err(|_| drop(budu_image::delete_tree(&self.to)))
        };
        tokio::task::spawn_blocking(work).await.map_err(|e| Error::Runtime { message: e.to_string() })?
    }

    fn copy(&self) -> io::Result<()> {
        fs::DirBuilder::new().mode(0o700).create(&self.to)?;
        let (from, to) = (self.from.join(DATA), self.to.join(DATA));
        fs::DirBuilder::new().mode(0o755).create(&to)?;
        match self.limit.limit {
            Limit::Image => return self.copy_image(&from),
            Limit::Project(id) => project_limit(&File::open(&to)?, id, self.limit.bytes)?,
            Limit::None => {}
        }
        copy::tree(Root::open_at(&from)?.as_fd(), Root::open_at(&to)?.as_fd())?;
        Ok(rustix::fs::syncfs(File::open(&to)?)?)
    }

    /// While it is mounted it stands still.
    fn copy_image(&self, mounted: &Path) -> io::Result<()> {
        let source = File::open(self.from.join(IMAGE))?;
        let target = File::options().read(true).write(true).create_new(true).open(self.to.join(IMAGE))?;
        let _still = match mount::is_mounted(mounted) {
            true => Some(Frozen::freeze(File::open(mounted)?)?),
            false => None,
        };
        copy::contents(&source, &target, source.metadata()?.len())?;
        target.sync_all()
    }
}
