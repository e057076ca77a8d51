//! Users and groups by the container's own /etc/passwd and /etc/group.
//!
//! The files are read inside the container's root, line by line and bounded;
//! the host's name service is never asked.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags};

use super::{Failing, invalid};
use crate::plan::UserPlan;

/// More than this of a passwd or group file is not read.
const MAX_FILE: u64 = 4 << 20;

/// Whom the program runs as, in numbers.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct User {
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) groups: Vec<u32>,
    /// Home directory, `/` when the user is in no passwd file.
    pub(super) home: String,
}

struct Passwd {
    name: String,
    uid: u32,
    gid: u32,
    home: String,
}

struct Group {
    name: String,
    gid: u32,
    members: Vec<String>,
}

/// Largest id that a user or group can be asked for by number, as Docker has it.
const MAX_ID: u32 = i32::MAX as u32;

/// Finds the user a plan asks for. Call inside the container's root.
pub(super) fn find(plan: &UserPlan) -> Failing<User> {
    let user = find_any(plan)?;
    // To the kernel this number means "leave it as it is", which is root.
    if [user.uid, user.gid].iter().chain(&user.groups).any(|&id| id == u32::MAX) {
        return Err(invalid(format!("user or group id {} is none", u32::MAX)));
    }
    Ok(user)
}

/// Reads an id: digits and nothing else.
fn number(text: &str) -> Failing<Option<u32>> {
    if text.is_empty() || !text.bytes().all(|letter| letter.is_ascii_digit()) {
        return Ok(None);
    }
    match text.parse() {
        Ok(id) if id <= MAX_ID => Ok(Some(id)),
        _ => Err(invalid(format!("uids and gids must be in range 0-{MAX_ID}"))),
    }
}

fn find_any(plan: &UserPlan) -> Failing<User> {
    match plan {
        UserPlan::Ids { uid, gid, groups } => {
            let home = passwd_entry(|p| p.uid == *uid).map_or_else(|| "/".to_owned(), |p| p.home);
            Ok(User { uid: *uid, gid: *gid, groups: groups.clone(), home })
        }
        UserPlan::Named { user, groups } => {
            let mut found = named(user)?;
            for group in groups {
                let gid = group_id(group)?;
                if !found.groups.contains(&gid) {
                    found.groups.push(gid);
                }
            }
            Ok(found)
        }
    }
}

fn named(text: &str) -> Failing<User> {
    let (name, group) = match text.split_once(':') {
        Some((name, group)) => (name, Some(group)),
        None => (text, None),
    };
    let number = number(name)?;
    let entry = match (name, number) {
        ("", _) => passwd_entry(|p| p.uid == 0),
        (_, Some(uid)) => passwd_entry(|p| p.uid == uid),
        _ => passwd_entry(|p| p.name == name),
    };
    let mut user = match (entry, number, name) {
        (Some(p), ..) => {
            let groups = if group.is_none() { memberships(&p.name) } else { Vec::new() };
            User { uid: p.uid, gid: p.gid, groups, home: p.home }
        }
        (None, Some(uid), _) => User { uid, gid: 0, groups: Vec::new(), home: "/".to_owned() },
        (None, None, "") => User { home: "/".to_owned(), ..User::default() },
        _ => return Err(invalid(format!("unable to find user {name}: no matching entries in passwd file"))),
    };
    if let Some(group) = group.filter(|g| !g.is_empty()) {
        user.gid = group_id(group)?;
    }
    // Listed among the further groups too, or a set-group-ID program could shed
    // it and with it a negative permission (CVE-2022-36109).
    user.groups.retain(|&gid| gid != user.gid);
    user.groups.insert(0, user.gid);
    Ok(user)
}

fn group_id(text: &str) -> Failing<u32> {
    if let Some(id) = number(text)? {
        return Ok(id);
    }
    group_entries(|g| g.name == text)
        .pop()
        .map(|group| group.gid)
        .ok_or_else(|| invalid(format!("unable to find group {text}: no matching entries in group file")))
}

fn memberships(user: &str) -> Vec<u32> {
    group_entries(|g| g.members.iter().any(|m| m == user)).into_iter().map(|g| g.gid).collect()
}

fn passwd_entry(wanted: impl Fn(&Passwd) -> bool) -> Option<Passwd> {
    lines("/etc/passwd").find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let entry = Passwd {
            name: (*fields.first()?).to_owned(),
            uid: fields.get(2)?.parse().ok()?,
            gid: fields.get(3)?.parse().ok()?,
            home: fields.get(5).filter(|h| !h.is_empty()).map_or("/", |h| *h).to_owned(),
        };
        wanted(&entry).then_some(entry)
    })
}

fn group_entries(wanted: impl Fn(&Group) -> bool) -> Vec<Group> {
    lines("/etc/group")
        .filter_map(|line| {
            let fields: Vec<&str> = line.split(':').collect();
            let entry = Group {
                name: (*fields.first()?).to_owned(),
                gid: fields.get(2)?.parse().ok()?,
                members: fields.get(3).map_or(Vec::new(), |m| m.split(',').map(str::to_owned).collect()),
            };
            wanted(&entry).then_some(entry)
        })
        .collect()
}

/// Lines of a regular file; none when it cannot be read. A FIFO or device in
/// its place is not opened for reading (O_NONBLOCK, then the type is checked).
fn lines(path: &str) -> impl Iterator<Item = String> {
    let file = open_regular(path).ok();
    file.into_iter()
        .flat_map(|f| BufReader::with_capacity(4096, f.take(MAX_FILE)).split(b'\n').map_while(Result::ok))
        .map(|line| String::from_utf8_lossy(&line).trim_end_matches('\r').to_owned())
}

fn open_regular(path: &str) -> io::Result<File> {
    let fd: OwnedFd =
        rustix::fs::open(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty())?;
    let file = File::from(fd);
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::ErrorKind::InvalidInput.into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_digits_in_range() {
        for text in ["", "+0", "-1", "0x0", "1 ", " 1", "1e3", "root"] {
            assert_eq!(number(text).unwrap(), None, "{text:?}");
        }
        assert_eq!(number("0").unwrap(), Some(0));
        assert_eq!(number("007").unwrap(), Some(7));
        assert_eq!(number("2147483647").unwrap(), Some(MAX_ID));
        for text in ["2147483648", "4294967295", "4294967296", "4294968296", "99999999999999999999"] {
            assert!(number(text).unwrap_err().message.contains("must be in range"), "{text}");
        }
    }

    #[test]
    fn nobody_is_the_id_that_changes_nothing() {
        for (uid, gid, groups) in [(u32::MAX, 0, vec![]), (0, u32::MAX, vec![]), (0, 0, vec![u32::MAX])] {
            assert!(find(&UserPlan::Ids { uid, gid, groups }).is_err());
        }
        for user in ["+0", "-1", "0x0"] {
            let named = UserPlan::Named { user: user.to_owned(), groups: Vec::new() };
            assert!(find(&named).unwrap_err().message.contains("unable to find user"), "{user}");
        }
    }
}
