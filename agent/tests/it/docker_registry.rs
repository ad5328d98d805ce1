//! Against Debian's own registry, where it is at hand.
