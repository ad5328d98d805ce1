//! What variables stand for within a stage.

use std::collections::BTreeMap;

use crate::expand::Values;

/// Variables, once each, in the order in which they came to be.
#[derive(Debug, Clone, Default)]
pub(super) struct Variables {
    list: Vec<(String, String)>,
    places: BTreeMap<String, usize>,
}

impl Variables {
    pub(super) fn set(&mut self, name: &str, value: &str) {
        if let Some(place) = self.places.get(name) {
            value.clone_into(&mut self.list[*place].1);
            return;
        }
        self.places.insert(name.to_owned(), self.list.len());
        self.list.push((name.to_owned(), value.to_owned()));
    }

    pub(super) fn list(&self) -> &[(String, String)] {
        &self.list
    }
}

impl Values for Variables {
    fn value(&self, name: &str) -> Option<&str> {
        self.places.get(name).map(|place| self.list[*place].1.as_str())
    }
}
