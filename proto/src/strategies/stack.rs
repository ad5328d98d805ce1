use proptest::collection::btree_set;
use proptest::prelude::*;

use super::text;
use crate::object::Leaving;

/// What goes of a stack.
pub(crate) fn leaving() -> BoxedStrategy<Leaving> {
    (btree_set(text(), 0..3), btree_set(text(), 0..3))
        .prop_map(|(services, networks)| Leaving { services, networks })
        .boxed()
}
