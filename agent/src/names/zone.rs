//! The names of one network, and the answer to one question. Pure.

use std::net::Ipv4Addr;
use std::sync::Arc;

use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, PTR};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use imbl::OrdMap;
use imbl::ordmap::DiffItem;

/// Tasks come and go: an answer is good for this many seconds.
const TTL: u32 = 3;

/// The names of one network. A later version of it shares what is the same.
#[derive(Debug, Default, Clone)]
pub(super) struct Zone {
    /// As a controller told them.
    addresses: OrdMap<String, Vec<Ipv4Addr>>,
    /// Those with capital letters by what they are without.
    mixed: OrdMap<String, Vec<String>>,
    /// All names but `tasks.…` that mean an address alone.
    names: OrdMap<Ipv4Addr, Vec<String>>,
    /// Whether its members may ask for names of the outside.
    outward: bool,
}

impl Zone {
    /// The zone with other names, as a controller sends them. `outward` is false for an internal network.
    #[must_use]
    pub(super) fn with(&self, names: &OrdMap<String, Vec<Ipv4Addr>>, outward: bool) -> Self {
        let mut zone = Self { outward, ..self.clone() };
        for difference in self.addresses.diff(names) {
            match difference {
                DiffItem::Add(name, new) => zone.add(name, new),
                DiffItem::Update { old: (name, old), new: (_, new) } => {
                    zone.remove(name, old);
                    zone.add(name, new);
                }
                DiffItem::Remove(name, old) => zone.remove(name, old),
            }
        }
        zone.addresses = names.clone();
        zone
    }

    fn add(&mut self, name: &str, addresses: &[Ipv4Addr]) {
        if name.contains(|letter: char| letter.is_ascii_uppercase()) {
            self.mixed.entry(name.to_ascii_lowercase()).or_default().push(name.to_owned());
        }
        if let [address] = addresses
            && !name.starts_with("tasks.")
        {
            self.names.entry(*address).or_default().push(name.to_owned());
        }
    }

    fn remove(&mut self, name: &str, addresses: &[Ipv4Addr]) {
        take_out(&mut self.mixed, &name.to_ascii_lowercase(), name);
        if let [address] = addresses {
            take_out(&mut self.names, address, name);
        }
    }

    /// Of a name in lower case.
    fn addresses(&self, name: &str) -> Option<&Vec<Ipv4Addr>> {
        let mixed = || self.addresses.get(self.mixed.get(name)?.first()?);
        self.addresses.get(name).or_else(mixed)
    }

    /// An address is best called by the longest name that means it alone, which is the task's.
    fn name(&self, address: Ipv4Addr) -> Option<&String> {
        self.names.get(&address)?.iter().max_by_key(|name| name.len())
    }
}

fn take_out<K: Ord + Clone>(lists: &mut OrdMap<K, Vec<String>>, key: &K, name: &str) {
    let Some(list) = lists.get_mut(key) else { return };
    list.retain(|one| one != name);
    if list.is_empty() {
        lists.remove(key);
    }
}

/// What to do with a question.
#[derive(Debug)]
pub(super) enum Decision {
    /// Send this answer.
    Answer(Message),
    /// It is for the host's resolvers. Without any, send this.
    Forward(Message),
}

/// Answers a question from the zones of the asking task, the first that knows the name. `turn` rotates addresses, so
/// that clients that take the first one are spread.
pub(super) fn answer(question: &Message, zones: &[Arc<Zone>], turn: usize) -> Decision {
    let mut reply = reply_to(question);
    let query = match question.queries() {
        _ if question.op_code() != OpCode::Query => {
            return refuse(reply, ResponseCode::NotImp);
        }
        [query] => query,
        _ => return refuse(reply, ResponseCode::FormErr),
    };
    let name = query.name().to_ascii().to_ascii_lowercase();
    let name = name.trim_end_matches('.');
    if let Some(addresses) = zones.iter().find_map(|zone| zone.addresses(name)) {
        if matches!(query.query_type(), RecordType::A | RecordType::ANY) {
            add_addresses(&mut reply, query, addresses, turn);
        }
        // A name with addresses of another kind only is there, but has nothing to say.
        return Decision::Answer(reply);
    }
    if let Some(found) = reverse(query, name, zones) {
        reply.add_answer(found);
        return Decision::Answer(reply);
    }
    // A name without a dot is one of a network's, or nobody's; of others we cannot know.
    let is_ours = !name.contains('.') || name.starts_with("tasks.");
    reply.set_response_code(if is_ours { ResponseCode::NXDomain } else { ResponseCode::ServFail });
    let outward = zones.is_empty() || zones.iter().any(|zone| zone.outward);
    if outward && !name.starts_with("tasks.") {
        Decision::Forward(reply)
    } else {
        Decision::Answer(reply)
    }
}

/// An answer with nothing in it yet.
pub(super) fn reply_to(question: &Message) -> Message {
    let mut reply = Message::new();
    reply
        .set_id(question.id())
        .set_message_type(MessageType::Response)
        .set_op_code(question.op_code())
        .set_recursion_desired(question.recursion_desired())
        .set_recursion_available(true)
        .add_queries(question.queries().iter().cloned());
    reply
}

fn refuse(mut reply: Message, code: ResponseCode) -> Decision {
    reply.set_response_code(code);
    Decision::Answer(reply)
}

fn add_addresses(reply: &mut Message, query: &Query, addresses: &[Ipv4Addr], turn: usize) {
    let start = if addresses.is_empty() { 0 } else { turn % addresses.len() };
    let (last, first) = addresses.split_at(start);
    let record =
        |address: &Ipv4Addr| Record::from_rdata(query.name().clone(), TTL, RData::A(A(*address)));
    reply.add_answers(first.iter().chain(last).map(record));
}

/// `4.3.2.1.in-addr.arpa` for an address of a zone.
fn reverse(query: &Query, name: &str, zones: &[Arc<Zone>]) -> Option<Record> {
    if query.query_type() != RecordType::PTR {
        return None;
    }
    let address: Ipv4Addr = name.strip_suffix(".in-addr.arpa")?.parse().ok()?;
    let [a, b, c, d] = address.octets();
    let address = Ipv4Addr::new(d, c, b, a);
    let found = zones.iter().find_map(|zone| zone.name(address))?;
    let target = Name::from_labels(found.split('.').map(str::as_bytes)).ok()?;
    Some(Record::from_rdata(query.name().clone(), TTL, RData::PTR(PTR(target))))
}

/// The bytes of an answer within `limit`. One that does not fit loses addresses and says so, so that a client that
/// cannot ask again by TCP still has some.
pub(super) fn encode(mut reply: Message, limit: usize) -> Vec<u8> {
    loop {
        // What was read from a question can be written again.
        let bytes = reply.to_vec().unwrap_or_default();
        let answers = reply.answers().len();
        if bytes.len() <= limit || answers == 0 {
            return bytes;
        }
        reply.set_truncated(true);
        reply.answers_mut().truncate(answers * limit / bytes.len().max(limit + 1));
    }
}

#[cfg(test)]
mod tests {
    use std::str::FromStr;

    use super::*;

    fn zones() -> Vec<Arc<Zone>> {
        let address = |last| Ipv4Addr::new(10, 1, 0, last);
        let front = OrdMap::from(vec![
            ("web".to_owned(), vec![address(1)]),
            ("tasks.web".to_owned(), vec![address(11), address(12), address(13)]),
            ("Stack_web.1".to_owned(), vec![address(11)]),
            ("empty".to_owned(), vec![]),
        ]);
        let back = OrdMap::from(vec![
            ("web".to_owned(), vec![Ipv4Addr::new(10, 2, 0, 1)]),
            ("db".to_owned(), vec![Ipv4Addr::new(10, 2, 0, 2)]),
        ]);
        let new = |names, outward| Arc::new(Zone::default().with(names, outward));
        vec![new(&front, false), new(&back, true)]
    }

    fn question(name: &str, kind: RecordType) -> Message {
        let mut message = Message::new();
        let query = Query::query(Name::from_str(name).unwrap(), kind);
        message.set_id(7).set_recursion_desired(true).add_query(query);
        message
    }

    fn ask(zones: &[Arc<Zone>], name: &str, kind: RecordType, turn: usize) -> (String, String) {
        let (how, reply) = match answer(&question(name, kind), zones, turn) {
            Decision::Answer(reply) => ("answer", reply),
            Decision::Forward(reply) => ("forward", reply),
        };
        assert_eq!((reply.id(), reply.message_type()), (7, MessageType::Response));
        assert!(reply.answers().iter().all(|record| record.ttl() <= 5));
        let data: Vec<_> = reply.answers().iter().map(|r| r.data().to_string()).collect();
        (format!("{how} {:?}", reply.response_code()), data.join(" "))
    }

    #[test]
    fn names_are_found_in_the_first_network_that_has_them() {
        let zones = zones();
        let a = |name: &str, turn| ask(&zones, name, RecordType::A, turn);
        let found = |data: &str| ("answer NoError".to_owned(), data.to_owned());
        assert_eq!(a("web.", 0), found("10.1.0.1"));
        assert_eq!(a("WeB", 5), found("10.1.0.1"));
        assert_eq!(a("db.", 0), found("10.2.0.2"));
        assert_eq!(a("stack_web.1.", 0), found("10.1.0.11"));
        assert_eq!(a("tasks.web.", 0), found("10.1.0.11 10.1.0.12 10.1.0.13"));
        assert_eq!(a("tasks.web.", 4), found("10.1.0.12 10.1.0.13 10.1.0.11"));
        assert_eq!(a("empty.", 4), found(""));
        assert_eq!(ask(&zones, "web.", RecordType::AAAA, 0), found(""));
    }

    #[test]
    fn addresses_have_the_name_of_their_task() {
        let ptr = |name: &str| ask(&zones(), name, RecordType::PTR, 0);
        assert_eq!(ptr("11.0.1.10.in-addr.arpa.").1, "Stack_web.1.");
        assert_eq!(ptr("1.0.1.10.in-addr.arpa.").1, "web.");
        assert_eq!(ptr("9.9.9.10.in-addr.arpa.").0, "forward ServFail");
    }

    #[test]
    fn names_come_and_go() {
        let at = |last| vec![Ipv4Addr::new(10, 1, 0, last)];
        let first = OrdMap::from(vec![
            ("web".to_owned(), at(1)),
            ("S_web.1".to_owned(), at(1)),
            ("s_web.1".to_owned(), at(2)),
        ]);
        let mut names = first.clone();
        names.remove("s_web.1");
        names.insert("web".to_owned(), at(3));
        let zone = Zone::default().with(&first, true);
        let later = [Arc::new(zone.with(&names, true))];
        let zone = [Arc::new(zone)];
        let found = |zone: &[Arc<Zone>], name: &str, kind| ask(zone, name, kind, 0).1;
        assert_eq!(found(&zone, "s_web.1.", RecordType::A), "10.1.0.2");
        assert_eq!(found(&later, "s_web.1.", RecordType::A), "10.1.0.1");
        assert_eq!(found(&later, "web.", RecordType::A), "10.1.0.3");
        assert_eq!(found(&zone, "1.0.1.10.in-addr.arpa.", RecordType::PTR), "S_web.1.");
        assert_eq!(found(&later, "2.0.1.10.in-addr.arpa.", RecordType::PTR), "");
        let none = [Arc::new(later[0].with(&OrdMap::new(), true))];
        assert!(none[0].mixed.is_empty() && none[0].names.is_empty());
        assert_eq!(ask(&none, "web.", RecordType::A, 0).0, "forward NXDomain");
    }

    #[test]
    fn unknown_names_go_out_unless_the_networks_are_internal() {
        let (all, internal) = (zones(), &zones()[..1]);
        let a = |zones: &[Arc<Zone>], name: &str| ask(zones, name, RecordType::A, 0).0;
        assert_eq!(a(&all, "example.org."), "forward ServFail");
        assert_eq!(a(&all, "nothing."), "forward NXDomain");
        assert_eq!(a(&all, "tasks.nothing."), "answer NXDomain");
        assert_eq!(a(internal, "example.org."), "answer ServFail");
        assert_eq!(a(internal, "db."), "answer NXDomain");
        assert_eq!(a(&[], "example.org."), "forward ServFail");
    }

    #[test]
    fn what_is_no_single_question_is_refused() {
        let mut two = question("a.", RecordType::A);
        two.add_query(Query::query(Name::root(), RecordType::A));
        let mut update = question("a.", RecordType::A);
        update.set_op_code(OpCode::Update);
        for (message, code) in [(two, ResponseCode::FormErr), (update, ResponseCode::NotImp)] {
            let Decision::Answer(reply) = answer(&message, &zones(), 0) else { panic!() };
            assert_eq!(reply.response_code(), code);
        }
    }

    #[test]
    fn an_answer_that_is_too_long_keeps_what_fits() {
        let many = (0..200).map(|n| Ipv4Addr::from_bits(0x0a03_0000 + n)).collect();
        let names = OrdMap::unit("many".to_owned(), many);
        let zone = Zone::default().with(&names, true);
        let question = question("many.", RecordType::A);
        let Decision::Answer(reply) = answer(&question, &[Arc::new(zone)], 0) else { panic!() };
        let bytes = encode(reply.clone(), 512);
        assert!(bytes.len() <= 512, "{}", bytes.len());
        let short = Message::from_vec(&bytes).unwrap();
        assert!(short.truncated() && short.answers().len() > 25, "{}", short.answers().len());
        let whole = Message::from_vec(&encode(reply, 65_535)).unwrap();
        assert!(!whole.truncated() && whole.answers().len() == 200);
    }
}
