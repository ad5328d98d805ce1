//! Stopping all processes of a group where they are.

use super::Write;

/// The control file of the v1 hierarchy.
pub(super) fn v1(frozen: bool) -> Write {
    Write::new("freezer.state", if frozen { "FROZEN" } else { "THAWED" })
}

/// The control file of the unified hierarchy.
pub(super) fn v2(frozen: bool) -> Write {
    Write::new("cgroup.freeze", u8::from(frozen))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_layouts_have_their_words() {
        assert_eq!((v1(true).value, v1(false).value), ("FROZEN".into(), "THAWED".into()));
        assert_eq!((v2(true).value, v2(false).value), ("1".into(), "0".into()));
    }
}
