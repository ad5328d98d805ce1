//! Who the program runs as, looked up in the container's own files.

use std::io::{self, Read as _};
use std::path::Path;

use rustix::fs::{FileType, OFlags, fstat};

use crate::rootfs::Root;
use crate::sys;

/// The largest user or group file that is read.
const MAX_FILE: u64 = 4 << 20;

/// A user's ids.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) groups: Vec<u32>,
}

/// A user could not be found.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UserError {
    #[error("user `{0}` is not in the image's /etc/passwd")]
    NoUser(String),
    #[error("group `{0}` is not in the image's /etc/group")]
    NoGroup(String),
    #[error("user `{0}` is not `user`, `uid`, `user:group` or `uid:gid`")]
    Malformed(String),
    #[error("could not read the image's `{path}`: {reason}")]
    File { path: &'static str, reason: String },
}

/// Finds `user`, `uid`, `user:group` or `uid:gid` in the root's `/etc/passwd` and `/etc/group`.
pub(super) fn find(root: &Root, user: &str) -> Result<Identity, UserError> {
    let passwd = read(root, "/etc/passwd")?;
    let group = read(root, "/etc/group")?;
    resolve(user, &passwd, &group)
}

/// Adds groups by name in the root's `/etc/group`, or by number.
pub(super) fn add_groups(
    root: &Root,
    identity: &mut Identity,
    wanted: &[String],
) -> Result<(), UserError> {
    if wanted.is_empty() {
        return Ok(());
    }
    let group = read(root, "/etc/group")?;
    for name in wanted {
        let gid = group_id(name, &group)?;
        if !identity.groups.contains(&gid) {
            identity.groups.push(gid);
        }
    }
    Ok(())
}

fn group_id(wanted: &str, group: &str) -> Result<u32, UserError> {
    let found = groups(group).find(|each| each.name == wanted).map(|each| each.gid);
    found.or_else(|| id(wanted)).ok_or_else(|| UserError::NoGroup(wanted.to_owned()))
}

/// The home of a user in the root's `/etc/passwd`, for `HOME`; `/` when it is not known.
pub(super) fn find_home(root: &Root, uid: u32) -> Result<String, UserError> {
    let passwd = read(root, "/etc/passwd")?;
    Ok(home(&passwd, uid).unwrap_or("/").to_owned())
}

fn home(passwd: &str, uid: u32) -> Option<&str> {
    users(passwd).find(|user| user.uid == uid).map(|user| user.home).filter(|home| !home.is_empty())
}

fn read(root: &Root, path: &'static str) -> Result<String, UserError> {
    let failed = |error: &io::Error| UserError::File { path, reason: sys::reason(error) };
    let flags = OFlags::RDONLY | OFlags::NONBLOCK;
    let file = match root.open(Path::new(path), flags) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(String::new()),
        Err(error) => return Err(failed(&error)),
    };
    let stat = fstat(&file).map_err(|error| failed(&error.into()))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(UserError::File { path, reason: "not a regular file".into() });
    }
    let mut bytes = Vec::new();
    std::fs::File::from(file)
        .take(MAX_FILE + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| failed(&error))?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(UserError::File { path, reason: "larger than 4 MiB".into() });
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

struct User<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

/// The well-formed lines of a passwd file; others are skipped, as the C library does.
fn users(passwd: &str) -> impl Iterator<Item = User<'_>> {
    passwd.lines().filter_map(|line| {
        let fields: Vec<_> = line.split(':').collect();
        let [name, _, uid, gid, _, home, _] = fields[..] else { return None };
        let (uid, gid) = (id(uid)?, id(gid)?);
        (!name.is_empty()).then_some(User { name, uid, gid, home })
    })
}

struct Group<'a> {
    name: &'a str,
    gid: u32,
    members: &'a str,
}

fn groups(group: &str) -> impl Iterator<Item = Group<'_>> {
    group.lines().filter_map(|line| {
        let fields: Vec<_> = line.split(':').collect();
        let [name, _, gid, members] = fields[..] else { return None };
        let gid = id(gid)?;
        (!name.is_empty()).then_some(Group { name, gid, members })
    })
}

/// A number as such files have it: digits only, and not the one that means "unchanged".
fn id(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten().filter(|id| *id != u32::MAX)
}

fn resolve(text: &str, passwd: &str, group: &str) -> Result<Identity, UserError> {
    let (user, wanted_group) = match text.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (text, None),
    };
    if user.is_empty() || wanted_group.is_some_and(|group| group.is_empty() || group.contains(':'))
    {
        return Err(UserError::Malformed(text.to_owned()));
    }
    // A name that looks like a number is a number, unless the file has it as a name.
    let known = users(passwd).find(|each| each.name == user).or_else(|| {
        let wanted = id(user)?;
        users(passwd).find(|each| each.uid == wanted)
    });
    let mut identity = match (&known, id(user)) {
        (Some(user), _) => Identity { uid: user.uid, gid: user.gid, groups: Vec::new() },
        (None, Some(uid)) => Identity { uid, gid: 0, groups: Vec::new() },
        (None, None) => return Err(UserError::NoUser(user.to_owned())),
    };
    if let Some(wanted) = wanted_group {
        identity.gid = group_id(wanted, group)?;
    } else if let Some(user) = known {
        // Groups that list the user come along, but only when the image did not choose one.
        identity.groups = groups(group)
            .filter(|each| each.members.split(',').any(|member| member == user.name))
            .map(|each| each.gid)
            .collect();
    }
    // The own group is also listed, so that a file's "no access for this group" holds after a change
    // of the effective group.
    if !identity.groups.contains(&identity.gid) {
        identity.groups.insert(0, identity.gid);
    }
    Ok(identity)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n\
        # a comment\n\
        bad:x:12x:1::/:\n\
        short:x:5\n\
        redis:x:999:1000:Redis,,,:/var/lib/redis:/bin/false\n\
        1234:x:77:77::/seventy:/bin/sh\n\
        minus:x:-1:0::/:\n";
    const GROUP: &str = "root:x:0:\nredis:x:1000:\ntty:x:5:redis,other\nbad:x:z:redis\n";

    fn ids(text: &str) -> Result<(u32, u32, Vec<u32>), String> {
        resolve(text, PASSWD, GROUP)
            .map(|found| (found.uid, found.gid, found.groups))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn users_are_found_by_name_and_number() {
        assert_eq!(ids("redis"), Ok((999, 1000, vec![1000, 5])));
        assert_eq!(ids("999"), Ok((999, 1000, vec![1000, 5])));
        assert_eq!(ids("redis:tty"), Ok((999, 5, vec![5])));
        assert_eq!(ids("4000"), Ok((4000, 0, vec![0])));
        assert_eq!(ids("4000:4001"), Ok((4000, 4001, vec![4001])));
        assert_eq!(ids("1234"), Ok((77, 77, vec![77])));
    }

    #[test]
    fn groups_are_found_by_name_and_number() {
        assert_eq!(group_id("tty", GROUP).unwrap(), 5);
        assert_eq!(group_id("4242", GROUP).unwrap(), 4242);
        assert!(group_id("nobody", GROUP).is_err() && group_id("bad", GROUP).is_err());
    }

    #[test]
    fn nobody_becomes_root_by_a_broken_line() {
        for text in ["bad", "short", "minus", "-1", "+0", " 0", "0x0", "4294967295"] {
            assert!(ids(text).unwrap_err().contains("is not in"), "{text}");
        }
        for text in ["", ":", "redis:", ":5", "a:b:c"] {
            assert!(ids(text).unwrap_err().contains("is not `user`"), "{text}");
        }
        assert!(ids("redis:bad").unwrap_err().contains("group `bad`"));
    }

    #[test]
    fn homes_are_found() {
        assert_eq!(home(PASSWD, 999), Some("/var/lib/redis"));
        assert_eq!(home(PASSWD, 1), None);
    }
}
