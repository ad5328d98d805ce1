//! How a request says of which incarnation of the cluster its sender has heard last.

use tonic::metadata::{MetadataMap, MetadataValue};

use crate::object::Incarnation;

/// The header. Version 0.1.0 has none, nor has who does not know the cluster yet.
const HEADER: &str = "swarm-incarnation";

/// Says it.
pub fn tell_incarnation(headers: &mut MetadataMap, incarnation: Incarnation) {
    let text = MetadataValue::try_from(incarnation.to_string());
    headers.insert(HEADER, text.expect("digits and a dash may stand in a header"));
}

/// What the sender said; `None` when it said nothing that can be read.
pub fn told_incarnation(headers: &MetadataMap) -> Option<Incarnation> {
    headers.get(HEADER)?.to_str().ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_is_understood() {
        let mut headers = MetadataMap::new();
        assert_eq!(told_incarnation(&headers), None);
        let incarnation = Incarnation { number: 7, mark: u64::MAX };
        tell_incarnation(&mut headers, incarnation);
        assert_eq!(told_incarnation(&headers), Some(incarnation));
    }
}
