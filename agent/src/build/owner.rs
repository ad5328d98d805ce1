//! Owners by name, looked up in the files of the root that they are for.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;

use rustix::fs::{FileType, OFlags};

use super::BuildError;
use crate::tree;

/// The largest user or group file that is read.
const LARGEST: u64 = 4 << 20;

/// A user's and a group's number.
pub(super) type Owner = (u32, u32);

/// Finds `user`, `uid`, `user:group` or `uid:gid` in a root. A user's own group counts where none is given; a number
/// then stands for both, as with `BuildKit`.
pub(super) fn find(root: &OwnedFd, text: &str) -> Result<Owner, BuildError> {
    if text.is_empty() {
        return Ok((0, 0));
    }
    let fail =
        |reason: &str| BuildError::Owner { owner: text.to_owned(), reason: reason.to_owned() };
    let (user, group) = match text.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (text, None),
    };
    let (uid, own) = match user.parse::<u32>() {
        Ok(uid) => (uid, uid),
        Err(_) if user.is_empty() => return Err(fail("there is no user in front of the colon")),
        Err(_) => {
            let passwd = read(root, "etc/passwd")?;
            find_user(&passwd, user).ok_or_else(|| fail("no such user in its /etc/passwd"))?
        }
    };
    let gid = match group {
        None => own,
        Some(group) => {
            if let Ok(gid) = group.parse::<u32>() {
                gid
            } else {
                let groups = read(root, "etc/group")?;
                find_group(&groups, group).ok_or_else(|| fail("no such group in its /etc/group"))?
            }
        }
    };
    Ok((uid, gid))
}

fn find_user(passwd: &str, user: &str) -> Option<Owner> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(user)).then_some(())?;
        Some((fields.nth(1)?.parse().ok()?, fields.next()?.parse().ok()?))
    })
}

fn find_group(groups: &str, group: &str) -> Option<u32> {
    groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(group)).then_some(())?;
        fields.nth(1)?.parse().ok()
    })
}

/// A file that is not there is empty.
fn read(root: &OwnedFd, path: &'static str) -> Result<String, BuildError> {
    let failed = BuildError::disk("read the image's", format!("/{path}"));
    let opened = tree::open_in(root, path.as_bytes(), OFlags::RDONLY | OFlags::NONBLOCK);
    let file = match opened {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(String::new()),
        other => other.and_then(|file| Ok((rustix::fs::fstat(&file)?, file))),
    };
    let read = file.and_then(|(stat, file)| {
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(io::Error::other("it is no file"));
        }
        let mut bytes = Vec::new();
        File::from(file).take(LARGEST).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    });
    read.map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_are_looked_up_in_the_root() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("etc")).unwrap();
        let write =
            |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        write("etc/passwd", "root:x:0:0:::\nweb:x:1000:1001::/:/bin/sh\n");
        write("etc/group", "staff:x:50:\n");
        let root = tree::open_root(folder.path()).unwrap();
        let find = |text: &str| find(&root, text).map_err(|error| error.to_string());
        assert_eq!(find(""), Ok((0, 0)));
        assert_eq!(find("web"), Ok((1000, 1001)));
        assert_eq!(find("web:staff"), Ok((1000, 50)));
        assert_eq!(find("7"), Ok((7, 7)));
        assert_eq!(find("7:8"), Ok((7, 8)));
        assert!(find("nobody").unwrap_err().contains("/etc/passwd"));
        assert!(find("web:nobody").unwrap_err().contains("/etc/group"));
        assert!(find(":staff").is_err());
    }
}
