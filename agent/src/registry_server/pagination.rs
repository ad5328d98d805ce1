//! Long lists, a page at a time. Pure.

/// On one page, where nobody says how many, and at most.
const MOST: usize = 1000;

/// A page of names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Page {
    pub(super) names: Vec<String>,
    /// Where the next one goes on, where there is one.
    pub(super) next: Option<String>,
}

/// The order of the specification: letters before their case.
fn key(name: &str) -> (String, &str) {
    (name.to_lowercase(), name)
}

/// At most `wanted` names after the one that is given, in order. None are wanted: no names, and no next page.
pub(super) fn page(mut names: Vec<String>, wanted: Option<usize>, last: Option<&str>) -> Page {
    names.sort_by(|a, b| key(a).cmp(&key(b)));
    if let Some(last) = last {
        let last = key(last);
        names.retain(|name| key(name) > last);
    }
    let most = wanted.unwrap_or(MOST).min(MOST);
    let is_more = names.len() > most;
    names.truncate(most);
    let next = names.last().filter(|_| is_more).cloned();
    Page { names, next }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(names: &[&str], wanted: Option<usize>, last: Option<&str>) -> String {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        let page = page(names, wanted, last);
        format!("{} | {}", page.names.join(" "), page.next.unwrap_or_default())
    }

    #[test]
    fn pages_follow_each_other() {
        let names = ["b", "A", "a", "C", "10", "9"];
        assert_eq!(shown(&names, None, None), "10 9 A a b C | ");
        assert_eq!(shown(&names, Some(2), None), "10 9 | 9");
        assert_eq!(shown(&names, Some(2), Some("9")), "A a | a");
        assert_eq!(shown(&names, Some(2), Some("a")), "b C | ");
        assert_eq!(shown(&names, Some(2), Some("B")), "b C | ", "it need not be there");
        assert_eq!(shown(&names, Some(0), None), " | ");
        assert_eq!(shown(&names, Some(2), Some("z")), " | ");
        assert_eq!(shown(&[], None, None), " | ");
    }

    #[test]
    fn all_names_come_once() {
        let all: Vec<String> = (0..2500).map(|number| format!("tag{number:04}")).collect();
        let (mut seen, mut last) = (Vec::new(), None);
        loop {
            let page = page(all.clone(), None, last.as_deref());
            seen.extend(page.names);
            let Some(next) = page.next else { break };
            last = Some(next);
        }
        assert_eq!(seen, all);
    }
}
