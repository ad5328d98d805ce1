//! Any canary.

use proptest::option;
use proptest::prelude::*;

use super::duration;
use crate::spec::{Canary, CanarySize};

fn size() -> BoxedStrategy<CanarySize> {
    let replicas = (1..=u32::MAX).prop_map(CanarySize::Replicas);
    prop_oneof![replicas, (1..100_u32).prop_map(CanarySize::Percent)].boxed()
}

strategy! {
    fn canary -> Canary {
        size: size(),
        hold: option::of(duration()),
    }
}
