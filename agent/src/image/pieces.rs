//! Which piece of a blob is asked of which host next, where several hosts have it. Pure: times count from any one moment.
//!
//! The lowest piece that nobody was asked for goes to the host that has the least to do. Only when there is none left is
//! one that takes long asked of another host as well, and the first of them to give it is the one that counts.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

/// Bytes of a piece. Each is in memory until it is whole, and what has come of it is lost with its host: a second's work at
/// 8 Mbit/s.
pub(super) const PIECE: u64 = 1 << 20;
/// Smaller blobs come in one stream: in less than a second at 100 Mbit/s, so that nothing is to be won.
pub(super) const LEAST: u64 = 8 << 20;
/// Larger ones, too: what is remembered of each piece is bounded.
pub(super) const MOST: u64 = 64 << 30;

/// Pieces of one blob that are on their way at the same time, and so in memory.
const MOST_ASKED: usize = 16;
/// Of these, from one host: the next one is asked for before the last one is there.
const MOST_OF_ONE: usize = 2;
/// A piece that takes less is not asked of another host.
const OVERDUE: Duration = Duration::from_secs(1);
/// A host that cannot give anything now is asked again after so long.
const REST: Duration = Duration::from_millis(250);

/// A piece that is asked of a host, both by their numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Ask {
    pub(super) host: usize,
    pub(super) piece: usize,
}

/// Why a host did not give a piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Missed {
    /// It may yet: so many bytes of the blob have come to it.
    Later(u64),
    /// It is not asked again.
    Never,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Piece {
    Wanted,
    Asked,
    /// Who gave it; `None`: an earlier try left it.
    Here(Option<usize>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    Gives,
    Rests { until: Duration, coming: u64 },
    LeftOut,
}

#[derive(Debug, Clone)]
struct Host {
    standing: Standing,
    has_given: bool,
    /// How long its last piece took, or took at least, where another host was quicker.
    took: Duration,
}

/// See the module.
#[derive(Debug, Clone)]
pub(super) struct Pieces {
    size: u64,
    states: Vec<Piece>,
    /// None below it is wanted.
    lowest: usize,
    missing: usize,
    hosts: Vec<Host>,
    /// What is on its way, and since when.
    asked: Vec<(Ask, Duration)>,
}

/// How many pieces a blob of so many bytes has.
pub(super) fn count(size: u64) -> usize {
    usize::try_from(size.div_ceil(PIECE)).unwrap_or(usize::MAX)
}

/// Where a piece begins and ends in a blob of so many bytes.
pub(super) fn range(piece: usize, size: u64) -> Range<u64> {
    let from = (piece as u64).saturating_mul(PIECE).min(size);
    from..from.saturating_add(PIECE).min(size)
}

impl Pieces {
    /// A blob of which some pieces are here, and hosts that may have it.
    pub(super) fn new(size: u64, here: &[bool], hosts: usize) -> Self {
        let state = |is_here: bool| if is_here { Piece::Here(None) } else { Piece::Wanted };
        let is_here = |piece| here.get(piece).copied().unwrap_or(false);
        let states: Vec<Piece> = (0..count(size)).map(|piece| state(is_here(piece))).collect();
        let missing = states.iter().filter(|piece| **piece == Piece::Wanted).count();
        let host = Host { standing: Standing::Gives, has_given: false, took: Duration::ZERO };
        let (hosts, asked) = (vec![host; hosts], Vec::new());
        Self { size, states, lowest: 0, missing, hosts, asked }
    }

    pub(super) fn range(&self, piece: usize) -> Range<u64> {
        range(piece, self.size)
    }

    /// All pieces are here.
    pub(super) fn is_whole(&self) -> bool {
        self.missing == 0
    }

    /// The next piece to ask a host for, which counts as asked from now on.
    pub(super) fn next(&mut self, now: Duration) -> Option<Ask> {
        if self.asked.len() >= MOST_ASKED {
            return None;
        }
        let mut free: Vec<usize> =
            (0..self.hosts.len()).filter(|host| self.is_free(*host, now)).collect();
        free.sort_by_key(|host| self.asked_of(*host));
        let wanted = free.first().and_then(|host| Some(Ask { host: *host, piece: self.wanted()? }));
        let ask = wanted.or_else(|| free.iter().find_map(|host| self.overdue(*host, now)))?;
        self.states[ask.piece] = Piece::Asked;
        self.asked.push((ask, now));
        Some(ask)
    }

    fn is_free(&self, host: usize, now: Duration) -> bool {
        let Host { standing, has_given, .. } = &self.hosts[host];
        let is_awake = match standing {
            Standing::Gives => true,
            Standing::Rests { until, .. } => *until <= now,
            Standing::LeftOut => false,
        };
        // One that has not given anything yet may have nothing to give.
        let most = if *has_given { MOST_OF_ONE } else { 1 };
        is_awake && self.asked_of(host) < most
    }

    fn asked_of(&self, host: usize) -> usize {
        self.asked.iter().filter(|(ask, _)| ask.host == host).count()
    }

    /// The lowest piece that nobody was asked for.
    fn wanted(&mut self) -> Option<usize> {
        let rest = &self.states[self.lowest..];
        let found = rest.iter().position(|piece| *piece == Piece::Wanted);
        self.lowest = found.map_or(self.states.len(), |at| self.lowest + at);
        found.map(|_| self.lowest)
    }

    /// What this host may give as well, for the one that was asked takes longer than this one would.
    fn overdue(&self, host: usize, now: Duration) -> Option<Ask> {
        let patience = OVERDUE.max(self.hosts[host].took.saturating_mul(2));
        // Who was asked for it last had as much time.
        let late = self.asked.iter().filter(|(ask, since)| {
            let mut askers = self.asked.iter().filter(|(other, _)| other.piece == ask.piece);
            now.saturating_sub(*since) >= patience
                && askers.all(|(other, at)| other.host != host && at <= since)
        });
        late.min_by_key(|(_, since)| *since).map(|(ask, _)| Ask { host, piece: ask.piece })
    }

    /// A host gave a piece. `None`: it is of no use any more; else which other hosts are not to give it any longer.
    pub(super) fn came(&mut self, ask: Ask, now: Duration) -> Option<Vec<Ask>> {
        let since = self.take(ask)?;
        let host = &mut self.hosts[ask.host];
        (host.has_given, host.took) = (true, now.saturating_sub(since));
        // What was on its way when another piece failed changes nothing.
        if host.standing != Standing::LeftOut {
            host.standing = Standing::Gives;
        }
        self.states[ask.piece] = Piece::Here(Some(ask.host));
        self.missing -= 1;
        let others = self.asked.iter().map(|(other, _)| *other);
        let others: Vec<Ask> = others.filter(|other| other.piece == ask.piece).collect();
        for other in &others {
            if let Some(since) = self.take(*other) {
                self.hosts[other.host].took = now.saturating_sub(since);
            }
        }
        Some(others)
    }

    /// A host did not give a piece.
    pub(super) fn missed(&mut self, ask: Ask, missed: Missed, now: Duration) {
        let standing = match missed {
            Missed::Later(coming) => Standing::Rests { until: now + REST, coming },
            Missed::Never => Standing::LeftOut,
        };
        let known = &mut self.hosts[ask.host].standing;
        if *known != Standing::LeftOut {
            *known = standing;
        }
        if self.take(ask).is_some() && !self.asked.iter().any(|(other, _)| other.piece == ask.piece)
        {
            self.states[ask.piece] = Piece::Wanted;
            self.lowest = self.lowest.min(ask.piece);
        }
    }

    /// Ends what was asked; since when it was on its way.
    fn take(&mut self, ask: Ask) -> Option<Duration> {
        let at = self.asked.iter().position(|(asked, _)| *asked == ask)?;
        Some(self.asked.swap_remove(at).1)
    }

    /// Whether hosts may give something later, and how many bytes have come to them.
    pub(super) fn later(&self) -> Option<u64> {
        let coming = self.hosts.iter().filter_map(|host| match host.standing {
            Standing::Rests { coming, .. } => Some(coming),
            Standing::Gives | Standing::LeftOut => None,
        });
        coming.reduce(u64::saturating_add)
    }

    /// Which pieces came from which host; `None`: from an earlier try.
    pub(super) fn given(&self) -> BTreeMap<Option<usize>, Vec<usize>> {
        let mut given: BTreeMap<Option<usize>, Vec<usize>> = BTreeMap::new();
        for (number, piece) in self.states.iter().enumerate() {
            if let Piece::Here(by) = piece {
                given.entry(*by).or_default().push(number);
            }
        }
        given
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn all(pieces: &mut Pieces, now: Duration) -> Vec<(usize, usize)> {
        std::iter::from_fn(|| pieces.next(now)).map(|ask| (ask.host, ask.piece)).collect()
    }

    fn ask(host: usize, piece: usize) -> Ask {
        Ask { host, piece }
    }

    #[test]
    fn pieces_cover_the_blob() {
        assert_eq!((count(PIECE), count(PIECE + 1), count(1)), (1, 2, 1));
        assert_eq!(range(0, PIECE + 1), 0..PIECE);
        assert_eq!(range(1, PIECE + 1), PIECE..PIECE + 1);
        assert_eq!(range(7, PIECE + 1), PIECE + 1..PIECE + 1);
    }

    #[test]
    fn each_host_is_asked_for_something_else() {
        let mut pieces = Pieces::new(8 * PIECE, &[false, true], 3);
        assert_eq!(all(&mut pieces, SECOND), [(0, 0), (1, 2), (2, 3)]);
        assert_eq!(pieces.came(ask(1, 2), SECOND), Some(vec![]));
        assert_eq!(all(&mut pieces, SECOND), [(1, 4), (1, 5)], "it is known to give");
        pieces.missed(ask(0, 0), Missed::Never, SECOND);
        assert!(all(&mut pieces, SECOND).is_empty(), "what was not given goes to who is free");
        assert_eq!(pieces.came(ask(2, 3), SECOND), Some(vec![]));
        assert_eq!(all(&mut pieces, SECOND), [(2, 0), (2, 6)]);
        assert_eq!(pieces.came(ask(2, 3), SECOND), None, "once");
        let given = pieces.given();
        assert_eq!(given, [(None, vec![1]), (Some(1), vec![2]), (Some(2), vec![3])].into());
    }

    #[test]
    fn who_has_nothing_now_is_asked_again_after_a_pause() {
        let mut pieces = Pieces::new(4 * PIECE, &[], 2);
        assert_eq!(all(&mut pieces, SECOND), [(0, 0), (1, 1)]);
        pieces.missed(ask(0, 0), Missed::Later(7), SECOND);
        assert_eq!((pieces.later(), all(&mut pieces, SECOND)), (Some(7), vec![]));
        pieces.missed(ask(1, 1), Missed::Never, SECOND);
        assert_eq!(all(&mut pieces, SECOND + REST), [(0, 0)]);
        pieces.missed(ask(0, 0), Missed::Never, SECOND);
        assert_eq!((pieces.later(), all(&mut pieces, 9 * SECOND)), (None, vec![]));
        assert!(!pieces.is_whole());
    }

    #[test]
    fn the_last_ones_are_asked_of_a_second_host_when_they_take_long() {
        let mut pieces = Pieces::new(3 * PIECE, &[], 2);
        assert_eq!(all(&mut pieces, SECOND), [(0, 0), (1, 1)]);
        assert_eq!(pieces.came(ask(1, 1), SECOND), Some(vec![]));
        assert_eq!(all(&mut pieces, SECOND), [(1, 2)]);
        let later = SECOND + Duration::from_millis(900);
        assert_eq!(pieces.came(ask(1, 2), later), Some(vec![]));
        assert!(all(&mut pieces, 2 * SECOND).is_empty(), "it would take nearly as long");
        assert_eq!(all(&mut pieces, 3 * SECOND), [(1, 0)]);
        assert!(all(&mut pieces, 9 * SECOND).is_empty(), "not of the same one again");
        assert_eq!(pieces.came(ask(1, 0), 9 * SECOND), Some(vec![ask(0, 0)]));
        assert!(pieces.is_whole());
        assert_eq!(pieces.came(ask(0, 0), 9 * SECOND), None, "too late");
        pieces.missed(ask(0, 0), Missed::Never, 9 * SECOND);
        assert!(pieces.is_whole());
    }

    #[test]
    fn who_is_left_out_stays_so() {
        let mut pieces = Pieces::new(9 * PIECE, &[], 1);
        assert_eq!(all(&mut pieces, SECOND), [(0, 0)]);
        assert_eq!(pieces.came(ask(0, 0), SECOND), Some(vec![]));
        assert_eq!(all(&mut pieces, SECOND), [(0, 1), (0, 2)]);
        pieces.missed(ask(0, 1), Missed::Never, SECOND);
        assert_eq!(pieces.came(ask(0, 2), SECOND), Some(vec![]), "it was on its way");
        pieces.missed(ask(0, 3), Missed::Later(0), SECOND);
        assert_eq!((all(&mut pieces, 9 * SECOND), pieces.later()), (vec![], None));
    }

    /// How a host of the property test answers.
    #[derive(Debug, Clone)]
    enum Manner {
        /// Each piece takes so many milliseconds.
        Gives(u64),
        /// So does this, but it fails after so many pieces.
        Dies(u64, usize),
        /// It says nothing, ever.
        Stalls,
        /// It has nothing before so many milliseconds have passed.
        Comes(u64),
    }

    fn manner() -> impl Strategy<Value = Manner> {
        prop_oneof![
            (1_u64..5_000).prop_map(Manner::Gives),
            (1_u64..5_000, 0_usize..20).prop_map(|(takes, dies)| Manner::Dies(takes, dies)),
            Just(Manner::Stalls),
            (0_u64..20_000).prop_map(Manner::Comes),
        ]
    }

    /// Hosts that answer each in their manner.
    struct Play {
        pieces: Pieces,
        manners: Vec<Manner>,
        gave: Vec<usize>,
        /// What is answered, and when.
        due: Vec<(Duration, Ask)>,
        here: Vec<Option<usize>>,
        left_out: Vec<usize>,
    }

    impl Play {
        fn begin(pieces: usize, manners: Vec<Manner>) -> Self {
            let gave = vec![0; manners.len()];
            let here = vec![None; pieces];
            let pieces = Pieces::new(pieces as u64 * PIECE - 1, &[], manners.len());
            Self { pieces, manners, gave, due: Vec::new(), here, left_out: Vec::new() }
        }

        fn ask(&mut self, now: Duration) {
            while let Some(ask) = self.pieces.next(now) {
                assert!(!self.left_out.contains(&ask.host), "it was left out");
                assert!(self.here[ask.piece].is_none(), "it is here");
                let askers = self.due.iter().filter(|(_, other)| other.piece == ask.piece);
                let askers: Vec<usize> = askers.map(|(_, other)| other.host).collect();
                assert!(!askers.contains(&ask.host), "{askers:?}");
                let takes = match self.manners[ask.host] {
                    Manner::Gives(takes) | Manner::Dies(takes, _) => Duration::from_millis(takes),
                    Manner::Stalls => Duration::MAX / 2,
                    Manner::Comes(_) => Duration::from_millis(1),
                };
                self.due.push((now + takes, ask));
                let of_one = self.due.iter().filter(|(_, other)| other.host == ask.host).count();
                assert!(self.due.len() <= MOST_ASKED && of_one <= MOST_OF_ONE);
            }
        }

        fn answer(&mut self, now: Duration, ask: Ask) {
            let missed = match self.manners[ask.host] {
                Manner::Dies(_, most) if self.gave[ask.host] >= most => Some(Missed::Never),
                Manner::Comes(at) if now < Duration::from_millis(at) => Some(Missed::Later(1)),
                _ => None,
            };
            if let Some(missed) = missed {
                self.pieces.missed(ask, missed, now);
                if missed == Missed::Never {
                    self.left_out.push(ask.host);
                }
                return;
            }
            self.gave[ask.host] += 1;
            let cut = self.pieces.came(ask, now).expect("it was asked for");
            assert_eq!(self.here[ask.piece].replace(ask.host), None);
            self.due.retain(|(_, other)| !cut.contains(other));
            assert!(!self.due.iter().any(|(_, other)| other.piece == ask.piece));
        }

        /// Until nothing is left to do; answers with whether that is so because all pieces are here.
        fn go(&mut self) -> bool {
            let mut now = Duration::ZERO;
            for _ in 0..100_000 {
                self.ask(now);
                if self.pieces.is_whole() {
                    return true;
                }
                let next = self.due.iter().min_by_key(|(at, _)| *at).copied();
                match next {
                    Some((at, ask)) if at <= now => {
                        self.due.retain(|(_, other)| *other != ask);
                        self.answer(now, ask);
                    }
                    None if self.pieces.later().is_none() => return false,
                    _ => now += Duration::from_millis(1),
                }
            }
            panic!("it comes to no end");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        /// Whatever the others do, one host that gives is enough; and each piece is the first one's that gave it.
        #[test]
        fn one_host_that_gives_is_enough(
            pieces in 1_usize..40,
            mut manners in prop::collection::vec(manner(), 0..6),
            takes in 1_u64..500,
            at in any::<prop::sample::Index>(),
        ) {
            manners.insert(at.index(manners.len() + 1), Manner::Gives(takes));
            let mut play = Play::begin(pieces, manners);
            prop_assert!(play.go());
            let mut given = vec![None; pieces];
            for (host, numbers) in play.pieces.given() {
                for number in numbers {
                    given[number] = host;
                }
            }
            prop_assert_eq!(given, play.here);
        }

        /// Where all fail in the end, that is known; where some may give later, that is.
        #[test]
        fn it_ends_where_nobody_gives(
            pieces in 1_usize..40,
            dies in prop::collection::vec((1_u64..500, 0_usize..10), 0..5),
        ) {
            let most: usize = dies.iter().map(|(_, pieces)| pieces).sum();
            let manners = dies.into_iter().map(|(takes, pieces)| Manner::Dies(takes, pieces));
            let mut play = Play::begin(pieces, manners.collect());
            if !play.go() {
                prop_assert!(play.gave.iter().sum::<usize>() < pieces.max(most));
                prop_assert_eq!(play.pieces.later(), None);
            }
        }
    }
}
