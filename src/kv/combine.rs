//! Increments of one key in one process, combined: while a compare-and-set is under way, the calls
//! that come gather, and the next compare-and-set does all of them.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::driver::{Change, Condition, Consistency, Expiry, Found, Value, Write};
use super::retry::Retry;
use super::slot::{Place, Slot, same_expiry};
use super::store::Store;
use crate::deadline::within;
use crate::error::{Error, ErrorKind, Result};

/// The keys with an increment under way, each with the calls that wait for the next one.
#[derive(Default)]
pub(super) struct Combiner(Mutex<HashMap<Place, Vec<Step>>>);

/// One call's part.
pub(super) struct Step {
    slot: Slot,
    by: i128,
    on_create: Expiry,
    deadline: Instant,
    answer: oneshot::Sender<Result<i64>>,
    runtime: Option<Handle>,
}

/// Adds `by` to the integer of a key, 0 where there is none, and gives the sum; a value that this
/// makes gets the lifetime `on_create`.
pub(super) async fn add(slot: Slot, by: i128, on_create: Expiry, deadline: Instant) -> Result<i64> {
    let (sender, answer) = oneshot::channel();
    let runtime = Handle::try_current().ok();
    let step = Step { slot: slot.clone(), by, on_create, deadline, answer: sender, runtime };
    if let Some((turn, step)) = Turn::take_or_wait(step) {
        // Nobody else is at it: no task. Those who come meanwhile wait for the end of this turn,
        // which also comes when this call is dropped.
        run(vec![step], Vec::new).await;
        drop(turn);
    }
    let unknown = |message| Err(slot.explain(Error::new(ErrorKind::Timeout, message)));
    match within(deadline, answer).await {
        Ok(Ok(sum)) => sum,
        Ok(Err(_)) => unknown("the runtime at work on it has ended; the sum may be stored"),
        Err(_) => unknown("no answer within the deadline; the sum may be stored"),
    }
}

/// The right to change a key. It goes to one call or task at a time, and when it is dropped to a
/// task for those who wait.
struct Turn {
    store: Arc<Store>,
    place: Place,
}

impl Turn {
    /// The turn, if it is free; else the step waits.
    fn take_or_wait(step: Step) -> Option<(Self, Step)> {
        let store = step.slot.target.store.clone();
        let place = step.slot.place();
        match store.combiner.lock().entry(place.clone()) {
            Entry::Occupied(mut waiting) => {
                let waiting = waiting.get_mut();
                // What is given up must not pile up while an answer is long in coming.
                if waiting.len() == waiting.capacity() {
                    waiting.retain(Step::is_wanted);
                }
                waiting.push(step);
                return None;
            }
            Entry::Vacant(free) => {
                free.insert(Vec::new());
            }
        }
        Some((Turn { store, place }, step))
    }

    fn waiting(&self) -> Vec<Step> {
        let mut keys = self.store.combiner.lock();
        keys.get_mut(&self.place).map(mem::take).unwrap_or_default()
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut keys = self.store.combiner.lock();
        let mut steps = keys.get_mut(&self.place).map(mem::take).unwrap_or_default();
        steps.retain(Step::is_wanted);
        // On the runtime of one that waits, which is running.
        let runtime = steps.iter().find_map(|step| step.runtime.clone());
        let Some(runtime) = runtime else {
            keys.remove(&self.place);
            return;
        };
        drop(keys);
        let turn = Turn { store: self.store.clone(), place: self.place.clone() };
        runtime.spawn(serve(turn, steps));
    }
}

/// Runs batches until nobody waits.
async fn serve(turn: Turn, mut steps: Vec<Step>) {
    while !steps.is_empty() {
        run(steps, || turn.waiting()).await;
        // Those who have just been answered may have more to add.
        tokio::task::yield_now().await;
        steps = turn.waiting();
    }
}

/// Adds all of `steps`, with `more` that come in time, by one compare-and-set, and tells each its
/// own sum, in the order of arrival.
///
/// It tries again after a conflict alone, which is the proof that nothing was stored.
async fn run(mut steps: Vec<Step>, more: impl Fn() -> Vec<Step>) {
    let mut retry: Option<Retry> = None;
    while let Some(deadline) = steps.iter().map(|step| step.deadline).max() {
        let slot = steps[0].slot.clone();
        let (store, bucket) = (&slot.target.store, &slot.target.bucket);
        let found = match store.read(None, bucket, slot.key(), Consistency::Latest, deadline).await
        {
            Ok(found) => found,
            Err(error) => return fail(steps, &error),
        };
        steps.extend(more());
        steps.retain(Step::is_wanted);
        let Some(deadline) = steps.iter().map(|step| step.deadline).max() else { return };
        let sums = match Sums::of(&found, &steps) {
            Ok(sums) => sums,
            Err(error) => return fail(steps, &error),
        };
        let Some((value, expiry)) = sums.stored else { return tell(steps, sums.each) };
        let change = Change::Put(value, expiry);
        let condition = Condition::Revision(found.revision());
        let write = Write { key: slot.key(), change, condition };
        match store.write(bucket, write, deadline).await {
            Ok(_) => return tell(steps, sums.each),
            Err(error) if error.is_conflict() => {
                let retry = retry.get_or_insert_with(|| Retry::until(deadline));
                retry.set_deadline(deadline);
                if !retry.pause().await {
                    return fail(steps, &error);
                }
            }
            Err(error) => return fail(steps, &error),
        }
    }
}

/// What comes of a batch.
struct Sums {
    each: Vec<Result<i64>>,
    /// What is to be stored; nothing when no step fits.
    stored: Option<(Value, Expiry)>,
}

impl Sums {
    fn of(found: &Found, steps: &[Step]) -> Result<Self> {
        let (mut sum, mut expiry) = match found {
            Found::Value(entry) => {
                let base = steps[0].slot.target.decode(&entry.value)?;
                (base, Some(same_expiry(entry)))
            }
            Found::Nothing { .. } => (0, None),
        };
        let mut last = None;
        let each = steps.iter().map(|step| {
            let new = i64::try_from(i128::from(sum) + step.by).map_err(|_| {
                Error::new(
                    ErrorKind::InvalidInput,
                    format!("the result is out of the range of 64 bits; the value stays {sum}"),
                )
            })?;
            // The first one makes the key, and the last one is who wrote it.
            expiry.get_or_insert(step.on_create);
            last = Some(&step.slot.target);
            sum = new;
            Ok(new)
        });
        let each = each.collect();
        let stored = match (last, expiry) {
            (Some(last), Some(expiry)) => Some((last.encode(&sum)?, expiry)),
            _ => None,
        };
        Ok(Sums { each, stored })
    }
}

fn tell(steps: Vec<Step>, results: Vec<Result<i64>>) {
    for (step, result) in steps.into_iter().zip(results) {
        let result = result.map_err(|error| step.slot.explain(error));
        // Its call may have ended in this moment.
        let _ = step.answer.send(result);
    }
}

fn fail(steps: Vec<Step>, error: &Error) {
    let results = steps.iter().map(|_| Err(error.again())).collect();
    tell(steps, results);
}

impl Step {
    /// Whether its call still waits; else it is not added.
    fn is_wanted(&self) -> bool {
        !self.answer.is_closed()
    }
}

impl Combiner {
    fn lock(&self) -> MutexGuard<'_, HashMap<Place, Vec<Step>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Combiner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Combiner").field("keys", &self.lock().len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::FutureExt;
    use futures::future::join_all;

    use crate::kv::Kv;

    fn keys_under_way(kv: &Kv) -> usize {
        kv.store.as_ref().unwrap().combiner.lock().len()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn nothing_stays_behind() {
        let kv = Kv::memory();
        let calls = (0..1000).map(|n| tokio::spawn(kv.increment(format!("key{}", n % 10), 1)));
        join_all(calls.collect::<Vec<_>>()).await;
        // A call that is dropped after its first poll.
        drop(kv.increment("key0", 1).now_or_never());
        let empty = async {
            while keys_under_way(&kv) > 0 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), empty).await.unwrap();
    }
}
