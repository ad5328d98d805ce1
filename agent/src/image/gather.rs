//! Copies a large blob in pieces from all hosts that have it at once. A host that fails, or says nothing for too long, is
//! left out, and its pieces come from the others; see `pieces` for which comes from whom.
//!
//! Only the whole has a digest. Where pieces of several hosts do not make what it says, nobody can tell from them whose is
//! wrong: they are forgotten, and the image is copied whole from one host after the other, where that shows.

use std::collections::BTreeMap;

use futures_util::FutureExt as _;
use futures_util::StreamExt as _;
use futures_util::future::{AbortHandle, Abortable, BoxFuture};
use futures_util::stream::FuturesUnordered;
use tokio::time::{Instant, timeout};

use super::ImageError;
use super::manifest::Descriptor;
use super::pieces::{Ask, LEAST, MOST, Missed, Pieces};
use super::pull::{Writer, blocking};
use super::scattered::Scattered;
use super::sharing::{Copies, Miss, PAUSE, Place, Round};
use super::store::Store;

/// Runs of pieces that are named for each host where something is wrong.
const MOST_RUNS: usize = 16;

type Answer = (Ask, Option<Result<Vec<u8>, Miss>>);

/// What came of a blob's pieces.
pub(super) enum Gathered {
    Round(Round),
    /// They do not make what the digest says.
    Wrong,
}

/// Whether a blob is one that may come in pieces.
pub(super) fn is_large(descriptor: &Descriptor) -> bool {
    (LEAST..=MOST).contains(&descriptor.size)
}

/// A blob on its way.
struct Gathering<'a> {
    copies: &'a Copies,
    places: &'a [&'a Place],
    descriptor: &'a Descriptor,
    pieces: Pieces,
    begun: Instant,
    asking: FuturesUnordered<BoxFuture<'a, Answer>>,
    cuts: BTreeMap<Ask, AbortHandle>,
}

/// Brings a blob's pieces, as long as anybody gives some.
pub(super) async fn gather(
    copies: &Copies,
    store: &Store,
    descriptor: &Descriptor,
    places: &[&Place],
) -> Result<Gathered, ImageError> {
    let partial = store.partial_blob(&descriptor.digest);
    let (file, here) = Scattered::open(&partial, descriptor.size).await?;
    let gathering = Gathering {
        copies,
        places,
        descriptor,
        pieces: Pieces::new(descriptor.size, &here, places.len()),
        begun: Instant::now(),
        asking: FuturesUnordered::new(),
        cuts: BTreeMap::new(),
    };
    let (pieces, brought) = gathering.go(file).await?;
    if !pieces.is_whole() {
        let later = pieces.later();
        return Ok(Gathered::Round(Round::Missing { later, brought }));
    }
    let writer = Writer::open(&partial).await?;
    let (target, expected) = (store.blob(&descriptor.digest), descriptor.digest.clone());
    match blocking(move || writer.finish(&target, &expected)).await {
        Ok(()) => Ok(Gathered::Round(Round::Whole)),
        Err(ImageError::Corrupt { found, .. }) => {
            let given = given(&pieces, places);
            tracing::warn!(
                digest = %descriptor.digest, found, given,
                "pieces do not make what their digest says: the image is copied whole from one host after the other"
            );
            copies.doubt(&given);
            Ok(Gathered::Wrong)
        }
        Err(error) => Err(error),
    }
}

impl<'a> Gathering<'a> {
    /// Ends when all is there, or nobody gives anything now; answers with whether anything came.
    async fn go(mut self, mut file: Scattered) -> Result<(Pieces, bool), ImageError> {
        let mut brought = false;
        while !self.pieces.is_whole() {
            while let Some(ask) = self.pieces.next(self.begun.elapsed()) {
                self.ask(ask);
            }
            if self.asking.is_empty() {
                break;
            }
            // Hosts that had nothing are asked again meanwhile, and slow ones found out.
            let answered = timeout(PAUSE, self.asking.next()).await;
            let Ok(Some((ask, Some(answer)))) = answered else { continue };
            if let Some(bytes) = self.take(ask, answer) {
                file = file.write(ask.piece, bytes).await?;
                brought = true;
            }
        }
        Ok((self.pieces, brought))
    }

    fn ask(&mut self, ask: Ask) {
        let (place, digest): (&'a Place, _) = (self.places[ask.host], &self.descriptor.digest);
        let (cut, registration) = AbortHandle::new_pair();
        let piece = place.piece(digest, self.pieces.range(ask.piece));
        let answer = Abortable::new(piece, registration).map(move |answer| (ask, answer.ok()));
        self.cuts.insert(ask, cut);
        self.asking.push(answer.boxed());
    }

    /// A piece that is to be kept.
    fn take(&mut self, ask: Ask, answer: Result<Vec<u8>, Miss>) -> Option<Vec<u8>> {
        self.cuts.remove(&ask);
        let now = self.begun.elapsed();
        match answer {
            Ok(bytes) => {
                for other in self.pieces.came(ask, now)? {
                    if let Some(cut) = self.cuts.remove(&other) {
                        cut.abort();
                    }
                }
                Some(bytes)
            }
            Err(miss) => {
                let missed = miss.later().map_or(Missed::Never, Missed::Later);
                self.pieces.missed(ask, missed, now);
                self.copies.note(self.places[ask.host], &self.descriptor.digest, miss);
                None
            }
        }
    }
}

/// Which host gave which pieces, in words.
fn given(pieces: &Pieces, places: &[&Place]) -> String {
    let given = pieces.given().into_iter().map(|(host, numbers)| {
        let who = host.map_or("an earlier try", |host| places[host].name.as_str());
        format!("{who} gave {}", runs(&numbers))
    });
    given.collect::<Vec<_>>().join(", ")
}

/// Numbers in ascending order, neighbours as one: `0-3 7`.
fn runs(numbers: &[usize]) -> String {
    let each = numbers.chunk_by(|before, after| before + 1 == *after);
    let mut runs: Vec<String> = each
        .map(|run| match run {
            [first, .., last] => format!("{first}-{last}"),
            [one] => one.to_string(),
            [] => String::new(),
        })
        .collect();
    if runs.len() > MOST_RUNS {
        runs.truncate(MOST_RUNS);
        runs.push("…".to_owned());
    }
    runs.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_told_in_runs() {
        assert_eq!(runs(&[]), "");
        assert_eq!(runs(&[0, 1, 2, 5, 7, 8]), "0-2 5 7-8");
        let many: Vec<usize> = (0..100).map(|number| 2 * number).collect();
        assert!(runs(&many).ends_with(" 28 30 …"), "{}", runs(&many));
    }
}
