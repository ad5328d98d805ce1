//! The options of a mount in `config.json`, sorted by what they mean to the kernel.

use rustix::mount::MountAttrFlags as Attr;

use crate::sys::MountAttributes;

/// All access time bits; setting one of them means clearing the others.
const ATIME: u64 = 0x70;
/// `MOUNT_ATTR_NOSYMFOLLOW`.
const NOSYMFOLLOW: u64 = 0x0020_0000;

/// What the options of one mount ask for.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Options {
    /// Whether the source is a path to be bound.
    pub bind: bool,
    /// Whether what is mounted below the source comes along.
    pub recursive: bool,
    /// Attributes to set and clear on the mount itself: set, clear.
    pub own: (u64, u64),
    /// Attributes to set and clear on the mount and all below it: set, clear.
    pub all: (u64, u64),
    /// `MS_PRIVATE`, `MS_SLAVE` or `MS_UNBINDABLE`, and whether for all below.
    pub propagation: Option<(u64, bool)>,
    /// What is left for the file system: a key, and a value unless it is a flag.
    pub data: Vec<(String, Option<String>)>,
}

impl Options {
    /// Sorts options; the error is the one that is not served.
    pub(crate) fn parse(options: &[String]) -> Result<Self, String> {
        let mut sorted = Self::default();
        for option in options {
            sorted.add(option)?;
        }
        Ok(sorted)
    }

    fn add(&mut self, option: &str) -> Result<(), String> {
        match option {
            "defaults" | "async" | "nomand" | "loud" => {}
            "bind" => self.bind = true,
            "rbind" => (self.bind, self.recursive) = (true, true),
            "idmap" | "ridmap" | "tmpcopyup" | "remount" | "mand" | "shared" | "rshared" => {
                return Err(option.to_owned());
            }
            _ => {
                if let Some(propagation) = propagation(option) {
                    self.propagation = Some(propagation);
                } else if let Some(bits) = attribute(option) {
                    merge(&mut self.own, bits);
                } else if let Some(bits) = option.strip_prefix('r').and_then(attribute) {
                    merge(&mut self.all, bits);
                } else {
                    self.data.push(match option.split_once('=') {
                        Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
                        None => (option.to_owned(), None),
                    });
                }
            }
        }
        Ok(())
    }

    /// The attributes for the mount itself, if any are asked for.
    pub(crate) fn own_attributes(&self) -> Option<MountAttributes> {
        attributes(self.own)
    }

    /// The attributes for the mount and all below it, if any are asked for.
    pub(crate) fn all_attributes(&self) -> Option<MountAttributes> {
        attributes(self.all)
    }
}

fn attributes((set, clear): (u64, u64)) -> Option<MountAttributes> {
    let attributes = MountAttributes { set, clear, ..MountAttributes::default() };
    (set != 0 || clear != 0).then_some(attributes)
}

/// A later option wins over an earlier one.
fn merge(into: &mut (u64, u64), (set, clear): (u64, u64)) {
    into.0 = into.0 & !clear & !(if clear & ATIME != 0 { ATIME } else { 0 }) | set;
    into.1 = into.1 & !(set & !ATIME) | clear;
}

fn propagation(option: &str) -> Option<(u64, bool)> {
    let of = |name: &str| match name {
        "private" => Some(libc::MS_PRIVATE),
        "slave" => Some(libc::MS_SLAVE),
        "unbindable" => Some(libc::MS_UNBINDABLE),
        _ => None,
    };
    match of(option) {
        Some(kind) => Some((kind, false)),
        None => option.strip_prefix('r').and_then(of).map(|kind| (kind, true)),
    }
}

/// The attribute bits to set and to clear for an option.
fn attribute(option: &str) -> Option<(u64, u64)> {
    let bits = |attribute: Attr| u64::from(attribute.bits());
    let set = |attribute: Attr| Some((bits(attribute), 0));
    let clear = |attribute: Attr| Some((0, bits(attribute)));
    match option {
        "ro" => set(Attr::MOUNT_ATTR_RDONLY),
        "rw" => clear(Attr::MOUNT_ATTR_RDONLY),
        "nosuid" => set(Attr::MOUNT_ATTR_NOSUID),
        "suid" => clear(Attr::MOUNT_ATTR_NOSUID),
        "nodev" => set(Attr::MOUNT_ATTR_NODEV),
        "dev" => clear(Attr::MOUNT_ATTR_NODEV),
        "noexec" => set(Attr::MOUNT_ATTR_NOEXEC),
        "exec" => clear(Attr::MOUNT_ATTR_NOEXEC),
        "nodiratime" => set(Attr::MOUNT_ATTR_NODIRATIME),
        "diratime" => clear(Attr::MOUNT_ATTR_NODIRATIME),
        "noatime" => Some((bits(Attr::MOUNT_ATTR_NOATIME), ATIME)),
        "strictatime" => Some((bits(Attr::MOUNT_ATTR_STRICTATIME), ATIME)),
        "relatime" | "atime" | "norelatime" | "nostrictatime" => Some((0, ATIME)),
        "nosymfollow" => Some((NOSYMFOLLOW, 0)),
        "symfollow" => Some((0, NOSYMFOLLOW)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(options: &[&str]) -> Result<Options, String> {
        Options::parse(&options.iter().map(ToString::to_string).collect::<Vec<_>>())
    }

    #[test]
    fn options_go_where_they_belong() {
        let options =
            parse(&["rbind", "ro", "nosuid", "rslave", "rnoexec", "size=64k", "nr_inodes"])
                .unwrap();
        assert!(options.bind && options.recursive);
        assert_eq!(options.own, (3, 0));
        assert_eq!(options.all, (8, 0));
        assert_eq!(options.propagation, Some((libc::MS_SLAVE, true)));
        let data = vec![("size".into(), Some("64k".into())), ("nr_inodes".into(), None)];
        assert_eq!(options.data, data);
    }

    #[test]
    fn later_options_win() {
        assert_eq!(parse(&["ro", "rw"]).unwrap().own, (0, 1));
        assert_eq!(parse(&["rw", "ro"]).unwrap().own, (1, 0));
        assert_eq!(parse(&["noatime", "strictatime"]).unwrap().own, (0x20, 0x70));
        assert_eq!(parse(&["strictatime", "relatime"]).unwrap().own, (0, 0x70));
        assert_eq!(parse(&["defaults"]).unwrap(), Options::default());
    }

    #[test]
    fn what_is_not_served_is_named() {
        assert_eq!(parse(&["ro", "rshared"]).unwrap_err(), "rshared");
        assert_eq!(parse(&["idmap"]).unwrap_err(), "idmap");
    }
}
