//! One piece of work per key at a time; everybody who wants the same waits for the same.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};

use super::ImageError;

type Outcome<T> = Result<T, Arc<ImageError>>;
type Flight<T> = Shared<BoxFuture<'static, Outcome<T>>>;

/// The work in progress, by key.
pub(super) struct Flights<K, T> {
    running: Arc<Mutex<HashMap<K, Flight<T>>>>,
}

impl<K, T> Flights<K, T>
where
    K: Clone + Eq + Hash + Send + 'static,
    T: Clone + Send + Sync + 'static,
{
    pub(super) fn new() -> Self {
        Self { running: Arc::default() }
    }

    /// Joins the work on `key`, or begins it. It goes on when all that wait for it lose interest, so that the next
    /// one finds it done.
    pub(super) async fn join<F>(&self, key: K, begin: impl FnOnce() -> F) -> Result<T, ImageError>
    where
        F: Future<Output = Result<T, ImageError>> + Send + 'static,
    {
        let flight = {
            let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
            running.get(&key).cloned().unwrap_or_else(|| {
                let flight = self.begin(key.clone(), begin());
                running.insert(key, flight.clone());
                flight
            })
        };
        Ok(flight.await?)
    }

    fn begin<F>(&self, key: K, work: F) -> Flight<T>
    where
        F: Future<Output = Result<T, ImageError>> + Send + 'static,
    {
        let running = Arc::clone(&self.running);
        let task = tokio::spawn(async move {
            let outcome = work.await.map_err(Arc::new);
            running.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
            outcome
        });
        let joined = task.map(|joined| match joined {
            Ok(outcome) => outcome,
            Err(error) => Err(Arc::new(ImageError::Stopped(error.to_string()))),
        });
        joined.boxed().shared()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn the_same_key_is_worked_on_once() {
        let flights: Flights<u8, usize> = Flights::new();
        let begun = Arc::new(AtomicUsize::new(0));
        let work = || {
            let begun = Arc::clone(&begun);
            move || async move {
                tokio::time::sleep(Duration::from_millis(20)).await;
                Ok(begun.fetch_add(1, Ordering::SeqCst))
            }
        };
        let (a, b, c) =
            tokio::join!(flights.join(1, work()), flights.join(1, work()), flights.join(2, work()));
        assert_eq!(a.unwrap(), b.unwrap());
        c.unwrap();
        assert_eq!(begun.load(Ordering::SeqCst), 2);
        flights.join(1, work()).await.unwrap();
        assert_eq!(begun.load(Ordering::SeqCst), 3, "finished work is not kept");
    }

    #[tokio::test]
    async fn a_failure_reaches_all_and_is_forgotten() {
        let flights: Flights<u8, ()> = Flights::new();
        let fail = || async { Err(ImageError::Stopped("x".into())) };
        let (a, b) = tokio::join!(flights.join(1, fail), flights.join(1, fail));
        assert!(a.is_err() && b.is_err());
        flights.join(1, || async { Ok(()) }).await.unwrap();
    }
}
