//! Which processors.

use std::fs;
use std::path::Path;

use super::{CgroupError, Controller, Hierarchy, Layout, Limits, Write};

/// Control files; the same in both layouts.
pub(super) fn writes(limits: &Limits) -> Vec<Write> {
    limits.cpuset.as_ref().map(|list| Write::new("cpuset.cpus", list)).into_iter().collect()
}

/// The hierarchies that a container with these limits has groups in. One that asks for no processors leaves this
/// controller out: in v1 it would have to be told of all of them, and in the unified hierarchy be handed on.
pub(super) fn served(layout: &Layout, limits: &Limits) -> Vec<Hierarchy> {
    let mut roots = layout.roots().to_vec();
    if limits.cpuset.is_none() {
        for root in &mut roots {
            root.controllers.retain(|controller| *controller != Controller::Cpuset);
        }
        roots.retain(|root| root.unified || !root.controllers.is_empty());
    }
    roots
}

/// Gives a new group of v1 what its parent has: without processors and memory nodes no process could join it.
pub(super) fn inherit(path: &Path) -> Result<(), CgroupError> {
    let Some(parent) = path.parent() else { return Ok(()) };
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let io =
            |action, path: &Path, source| CgroupError::Io { action, path: path.join(file), source };
        let own = fs::read_to_string(path.join(file)).map_err(|e| io("read", path, e))?;
        if own.trim().is_empty() {
            let of_parent = fs::read_to_string(parent.join(file));
            let of_parent = of_parent.map_err(|e| io("read", parent, e))?;
            fs::write(path.join(file), of_parent.trim()).map_err(|e| io("write", path, e))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root(unified: bool, controllers: &[Controller]) -> Hierarchy {
        let controllers = controllers.to_vec();
        Hierarchy { path: "/c".into(), controllers, unified, guards_devices: false }
    }

    #[test]
    fn the_controller_is_only_used_when_asked_for() {
        use Controller::{Cpuset, Memory};
        let layout = Layout::from_roots(vec![
            root(false, &[Cpuset]),
            root(false, &[Cpuset, Memory]),
            root(true, &[]),
        ]);
        let plain = served(&layout, &Limits::default());
        let controllers: Vec<_> = plain.iter().map(|root| root.controllers.clone()).collect();
        assert_eq!(controllers, [vec![Memory], vec![]]);
        let asked = Limits { cpuset: Some("0-1".into()), ..Limits::default() };
        assert_eq!(served(&layout, &asked), layout.roots());
        assert_eq!(writes(&asked), [Write::new("cpuset.cpus", "0-1")]);
        assert!(writes(&Limits::default()).is_empty());
    }

    #[test]
    fn a_new_group_has_what_its_parent_has() {
        let dir = tempfile::tempdir().unwrap();
        let group = dir.path().join("g");
        fs::create_dir(&group).unwrap();
        for (folder, text) in [(dir.path(), "0-3\n"), (&group, "\n")] {
            fs::write(folder.join("cpuset.cpus"), text).unwrap();
            fs::write(folder.join("cpuset.mems"), "0\n").unwrap();
        }
        inherit(&group).unwrap();
        assert_eq!(fs::read_to_string(group.join("cpuset.cpus")).unwrap(), "0-3");
        assert_eq!(fs::read_to_string(group.join("cpuset.mems")).unwrap(), "0\n", "kept");
    }
}
