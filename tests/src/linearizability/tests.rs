use proptest::prelude::*;

use super::*;

const LIMIT: u64 = 1_000_000;

type Recorded = Operation<Request, Answer>;

fn write(value: u64, called: Moment, returned: Option<Moment>) -> Recorded {
    let answer = returned.map(|_| Answer::Done);
    operation(Request::Write(value), answer, called, returned)
}

fn read(value: Option<u64>, called: Moment, returned: Moment) -> Recorded {
    operation(Request::Read, Some(Answer::Holds(value)), called, Some(returned))
}

fn swap(value: u64, before: Option<u64>, called: Moment, returned: Moment) -> Recorded {
    operation(Request::Swap(value), Some(Answer::Holds(before)), called, Some(returned))
}

fn operation(
    request: Request,
    answer: Option<Answer>,
    called: Moment,
    returned: Option<Moment>,
) -> Recorded {
    Operation { client: called, key: "k".to_owned(), request, answer, called, returned }
}

fn holds(history: &[Recorded]) -> bool {
    let history = history.to_vec();
    let verdict = check::<Register>(&history, LIMIT);
    let mut narrowed = history;
    narrow(&mut narrowed);
    let again = check::<Register>(&narrowed, LIMIT);
    assert_eq!(verdict == Verdict::Linearizable, again == Verdict::Linearizable, "{narrowed:?}");
    assert!(!matches!(verdict, Verdict::Undecided { .. }));
    verdict == Verdict::Linearizable
}

#[test]
fn one_after_the_other_is_linearizable() {
    assert!(holds(&[]));
    assert!(holds(&[read(None, 0, 1), write(1, 2, Some(3)), read(Some(1), 4, 5)]));
    assert!(holds(&[swap(1, None, 0, 1), swap(2, Some(1), 2, 3), read(Some(2), 4, 5)]));
}

#[test]
fn a_stale_read_is_found() {
    let history = [write(1, 0, Some(1)), write(2, 2, Some(3)), read(Some(1), 4, 5)];
    assert!(!holds(&history));
    let Verdict::Violation(found) = check::<Register>(&history.to_vec(), LIMIT) else {
        panic!("it was not found")
    };
    assert_eq!((found.key.as_str(), found.explained), ("k", 2));
    assert_eq!(found.stuck.len(), 1, "the read itself is named: {found:?}");
    assert!(found.stuck[0].contains("Read"), "{found:?}");
}

#[test]
fn reads_during_a_write_may_see_either_but_never_go_back() {
    let write = write(1, 0, Some(9));
    assert!(holds(&[write.clone(), read(None, 1, 2), read(Some(1), 3, 4)]));
    assert!(!holds(&[write.clone(), read(Some(1), 1, 2), read(None, 3, 4)]));
    assert!(holds(&[write, read(Some(1), 1, 4), read(None, 2, 5)]), "these two overlap");
}

#[test]
fn a_lost_and_a_doubled_write_are_found() {
    assert!(!holds(&[write(1, 0, Some(1)), read(None, 2, 3)]));
    let twice = [write(1, 0, Some(1)), write(2, 2, Some(3)), read(Some(2), 4, 5)];
    assert!(!holds(&[&twice[..], &[read(Some(1), 6, 7)]].concat()));
    assert!(!holds(&[swap(1, None, 0, 1), swap(2, None, 2, 3)]));
}

#[test]
fn a_write_of_unknown_outcome_may_come_late_or_never() {
    let open = write(1, 0, None);
    assert!(holds(&[open.clone(), read(None, 1, 2), read(None, 3, 4)]));
    assert!(holds(&[open.clone(), read(None, 1, 2), read(Some(1), 30, 40)]));
    assert!(!holds(&[open.clone(), read(Some(1), 1, 2), read(None, 3, 4)]), "once it was seen");
    assert!(!holds(&[read(Some(1), 0, 1), write(1, 2, None)]), "not before its call");
    let overwritten = [open, write(2, 1, Some(2)), read(Some(2), 3, 4), read(Some(1), 5, 6)];
    assert!(holds(&overwritten), "it came after the second write");
}

#[test]
fn a_value_that_nobody_wrote_is_found() {
    assert!(!holds(&[write(1, 0, Some(1)), read(Some(7), 0, 3)]));
}

#[test]
fn keys_are_judged_apart_and_named() {
    let other = |mut operation: Recorded| {
        operation.key = "other".to_owned();
        operation
    };
    let good = vec![write(1, 0, Some(1)), other(read(None, 2, 3)), read(Some(1), 4, 5)];
    assert_eq!(check::<Register>(&good, LIMIT), Verdict::Linearizable);
    let bad = [good, vec![other(read(Some(1), 6, 7))]].concat();
    let Verdict::Violation(found) = check::<Register>(&bad, LIMIT) else {
        panic!("it was not found")
    };
    assert_eq!(found.key, "other");
}

#[test]
fn a_search_that_takes_too_long_says_so() {
    let history = (0..40).map(|value| write(value, value, Some(100 + value))).collect();
    let verdict = check::<Register>(&history, 10);
    assert_eq!(verdict, Verdict::Undecided { key: "k".to_owned() });
}

/// What a real register would answer to `clients` at once, with outcomes that stay unknown.
fn recorded(clients: u64, length: u64, mut random: impl FnMut(u64) -> u64) -> Vec<Recorded> {
    let mut held = None;
    let mut free_at = vec![0; usize::try_from(clients).unwrap()];
    let mut history = Vec::new();
    for number in 0..length {
        // The operation takes effect at this moment; its call is earlier, its return later.
        let effect = 100 * (number + 1);
        let client = usize::try_from(random(clients)).unwrap();
        if free_at[client] >= effect {
            continue;
        }
        let called = effect - (effect - free_at[client] - 1).min(random(400));
        let returned = effect + 1 + random(400);
        free_at[client] = returned;
        let mut made = match random(3) {
            0 => read(held, called, returned),
            1 => write(number + 1, called, Some(returned)),
            _ => swap(number + 1, held, called, returned),
        };
        if random(20) == 0 {
            (made.answer, made.returned) = (None, None);
            if random(2) == 0 {
                history.push(made);
                continue;
            }
        }
        if let Request::Write(value) | Request::Swap(value) = made.request {
            held = Some(value);
        }
        history.push(made);
    }
    history
}

fn seeded(seed: u64) -> impl FnMut(u64) -> u64 {
    let mut state = seed;
    move |below| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) % below
    }
}

#[test]
fn a_long_history_is_judged_quickly_and_one_wrong_answer_in_it_is_found() {
    let mut history = recorded(8, 8_000, seeded(7));
    narrow(&mut history);
    assert!(history.len() > 4_000);
    assert_eq!(check::<Register>(&history, LIMIT), Verdict::Linearizable);
    let middle = history.len() / 2;
    let written = history[middle / 2..].iter().find_map(|made| match made.request {
        Request::Write(value) | Request::Swap(value) => Some(value),
        Request::Read => None,
    });
    let wrong = history[middle..].iter_mut().find(|made| made.request == Request::Read).unwrap();
    wrong.answer = Some(Answer::Holds(written));
    assert!(written.is_some());
    assert!(matches!(check::<Register>(&history, LIMIT), Verdict::Violation(_)));
}

/// Tries every order.
fn any_order_fits(left: &[Recorded], state: Option<u64>) -> bool {
    if left.iter().all(|operation| operation.returned.is_none()) {
        return true;
    }
    let first_return = left.iter().filter_map(|operation| operation.returned).min();
    left.iter().enumerate().any(|(number, operation)| {
        let may_be_next = first_return.is_none_or(|at| operation.called <= at);
        let next = Register::step(&state, &operation.request, operation.answer.as_ref());
        let rest = [&left[..number], &left[number + 1..]].concat();
        may_be_next && next.is_some_and(|next| any_order_fits(&rest, next))
    })
}

fn any_operation() -> impl Strategy<Value = Recorded> {
    let value = || prop_oneof![Just(None), (1..4_u64).prop_map(Some)];
    let made = (0..3_u8, 1..4_u64, value(), 0..12_u64, 0..8_u64, 0..6_u8);
    made.prop_map(|(kind, written, seen, called, length, open)| {
        let mut made = match kind {
            0 => read(seen, called, called + length),
            1 => write(written, called, Some(called + length)),
            _ => swap(written, seen, called, called + length),
        };
        if open == 0 {
            (made.answer, made.returned) = (None, None);
        }
        made
    })
}

proptest! {
    #[test]
    fn the_search_agrees_with_trying_every_order(
        history in prop::collection::vec(any_operation(), 0..7),
    ) {
        prop_assert_eq!(holds(&history), any_order_fits(&history, None));
    }
}
