//! What becomes of tasks whose node is lost or cut off.

use swarm_proto::spec::{CutOffAction, NodeLossPolicy};

use super::Pairs;
use crate::value::Value;

pub(super) fn put(pairs: &mut Pairs, policy: NodeLossPolicy) {
    let NodeLossPolicy { unreachable_after, on_cut_off } = policy;
    pairs.put("unreachable_after", &(!unreachable_after.is_zero()).then_some(unreachable_after));
    let said = on_cut_off != CutOffAction::default();
    pairs.put("on_cut_off", &said.then(|| Value::text(on_cut_off.as_str())));
}
