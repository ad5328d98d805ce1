//! Appends on their way to the same member, joined.
//!
//! raft-rs 0.7 would do this itself (`batch_append`), but joins to an append without entries whatever comes next, also
//! when that begins elsewhere: the member then confirms entries that it never had.

use std::collections::BTreeMap;

use raft::eraftpb::{Message, MessageType};

/// Joins each append to the one before it to the same member where it goes on exactly there. Those that grow beyond so
/// many bytes of entries are left as they are.
pub(super) fn join(messages: Vec<Message>, most: u64) -> Vec<Message> {
    let mut joined: Vec<Message> = Vec::with_capacity(messages.len());
    let mut last = BTreeMap::new();
    for message in messages {
        let before = last.get(&message.to).and_then(|at: &usize| joined.get_mut(*at));
        let before = before.filter(|b| goes_on(b, &message) && fits(b, &message, most));
        if let Some(before) = before {
            before.commit = before.commit.max(message.commit);
            before.entries.extend(message.entries);
        } else {
            last.insert(message.to, joined.len());
            joined.push(message);
        }
    }
    joined
}

/// Whether the second is an append that begins where the first one ends.
fn goes_on(first: &Message, second: &Message) -> bool {
    let both = [first, second];
    let end = first.entries.last().map_or((first.index, first.log_term), |e| (e.index, e.term));
    both.iter().all(|message| message.get_msg_type() == MessageType::MsgAppend)
        && first.term == second.term
        && end == (second.index, second.log_term)
}

fn fits(first: &Message, second: &Message, most: u64) -> bool {
    let entries = first.entries.iter().chain(&second.entries);
    second.entries.is_empty() || entries.map(|entry| entry.data.len() as u64).sum::<u64>() <= most
}

#[cfg(test)]
mod tests {
    use super::*;
    use raft::eraftpb::Entry;

    /// An append of term 3 to member `to` after entry `index`, with so many entries.
    fn append(to: u64, index: u64, entries: u64) -> Message {
        let mut message = Message { to, term: 3, log_term: 3, index, ..Message::default() };
        message.set_msg_type(MessageType::MsgAppend);
        message.commit = index;
        let entry = |index| Entry { index, term: 3, data: vec![0; 10], ..Entry::default() };
        message.entries = (index + 1..=index + entries).map(entry).collect();
        message
    }

    /// Each as `to: index+entries`.
    fn joined(messages: Vec<Message>, most: u64) -> Vec<String> {
        let told = |m: &Message| format!("{}: {}+{} c{}", m.to, m.index, m.entries.len(), m.commit);
        join(messages, most).iter().map(told).collect()
    }

    #[test]
    fn appends_that_go_on_are_one() {
        let messages = vec![
            append(2, 5, 2),
            append(3, 7, 1),
            append(2, 7, 0),
            append(2, 7, 1),
            append(3, 8, 1),
        ];
        assert_eq!(joined(messages, 1_000), ["2: 5+3 c7", "3: 7+2 c8"]);
    }

    #[test]
    fn an_append_that_begins_elsewhere_stays_alone() {
        // What raft-rs would make one message of, which says that entries 7 and 8 are 9 and 10.
        assert_eq!(
            joined(vec![append(2, 8, 0), append(2, 6, 2)], 1_000),
            ["2: 8+0 c8", "2: 6+2 c6"]
        );
        let other_term = Message { log_term: 2, ..append(2, 8, 1) };
        assert_eq!(joined(vec![append(2, 7, 1), other_term], 1_000), ["2: 7+1 c7", "2: 8+1 c8"]);
        let mut heartbeat = append(2, 8, 0);
        heartbeat.set_msg_type(MessageType::MsgHeartbeat);
        let told = joined(vec![append(2, 7, 1), heartbeat, append(2, 8, 1)], 1_000);
        assert_eq!(told, ["2: 7+1 c7", "2: 8+0 c8", "2: 8+1 c8"]);
    }

    #[test]
    fn an_append_has_a_greatest_size() {
        assert_eq!(joined(vec![append(2, 5, 2), append(2, 7, 2)], 30), ["2: 5+2 c5", "2: 7+2 c7"]);
        assert_eq!(joined(vec![append(2, 5, 2), append(2, 7, 1)], 30), ["2: 5+3 c7"]);
    }
}
