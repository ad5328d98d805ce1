//! Any resources that nodes count or name.

use proptest::collection::{btree_map, btree_set, vec};
use proptest::prelude::*;

use super::{text, texts};
use crate::object::{GenericResource, GenericResources, HostShare};
use crate::spec::{Amount, ResourceRequest};

fn amount() -> BoxedStrategy<Amount> {
    prop_oneof![
        any::<u64>().prop_map(Amount::Count),
        Just(Amount::All),
        vec(text(), 0..3).prop_map(Amount::Ids),
    ]
    .boxed()
}

fn generic_resource() -> BoxedStrategy<GenericResource> {
    prop_oneof![
        any::<u64>().prop_map(GenericResource::Count),
        btree_set(text(), 0..3).prop_map(GenericResource::Named),
    ]
    .boxed()
}

pub(crate) fn generic_resources() -> BoxedStrategy<GenericResources> {
    btree_map(text(), generic_resource(), 0..3).boxed()
}

strategy! {
    fn resource_request -> ResourceRequest {
        kind: text(),
        amount: amount(),
        capabilities: texts(),
    }
    fn host_share -> HostShare {
        millicpus: any::<u64>(),
        memory: any::<u64>(),
        pids: any::<u64>(),
    }
}
