//! Adds: those of this process that wait for one key travel as one message.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::CountersConfig;
use super::stream::Stream;
use crate::deadline::within;
use crate::error::{Error, ErrorKind, Result};

/// The adds of one store, and its stream.
pub(crate) struct Adds {
    stream: Stream,
    /// What waits, by key. While a key is here, a task of its own sends what waits for it.
    waiting: Mutex<HashMap<String, Vec<Waiting>>>,
    /// Message ids of this process begin with this.
    process: u64,
    next: AtomicU64,
}

/// An add that was not sent yet.
struct Waiting {
    number: u64,
    n: i128,
    config: Arc<CountersConfig>,
    deadline: Instant,
    answer: oneshot::Sender<Result<i64>>,
}

impl Adds {
    pub(super) fn new(stream: Stream) -> Self {
        Adds { stream, waiting: Mutex::default(), process: rand::random(), next: AtomicU64::new(0) }
    }

    pub(super) fn stream(&self) -> &Stream {
        &self.stream
    }

    pub(super) async fn add(
        self: &Arc<Self>,
        key: &str,
        n: i128,
        config: &Arc<CountersConfig>,
        deadline: Instant,
    ) -> Result<i64> {
        let (sender, answer) = oneshot::channel();
        let number = self.next_number();
        let waiting = Waiting { number, n, config: config.clone(), deadline, answer: sender };
        self.enqueue(key, waiting);
        match within(deadline, answer).await {
            Ok(Ok(added)) => added,
            Ok(Err(_)) => Err(Error::new(ErrorKind::Closed, "the runtime has ended")),
            Err(_) if self.withdraw(key, number) => Err(Error::new(
                ErrorKind::Unavailable,
                "earlier adds to this key were still under way at the deadline; this one was not made",
            )),
            Err(_) => Err(unknown()),
        }
    }

    fn enqueue(self: &Arc<Self>, key: &str, add: Waiting) {
        let mut waiting = self.lock();
        if let Some(queue) = waiting.get_mut(key) {
            queue.push(add);
            return;
        }
        waiting.insert(key.to_owned(), vec![add]);
        drop(waiting);
        let (adds, key) = (self.clone(), key.to_owned());
        tokio::spawn(async move { adds.send_all(&key).await });
    }

    /// Takes back an add that was not sent; whether it could.
    fn withdraw(&self, key: &str, number: u64) -> bool {
        let mut waiting = self.lock();
        let Some(queue) = waiting.get_mut(key) else { return false };
        let before = queue.len();
        queue.retain(|add| add.number != number);
        queue.len() < before
    }

    /// Sends what waits for a key, all of it at once, until nothing does.
    async fn send_all(&self, key: &str) {
        while let Some(mut adds) = self.take(key) {
            // Those that gave up while they waited.
            adds.retain(|add| !add.answer.is_closed());
            let Some(last) = adds.iter().max_by_key(|add| add.deadline) else { continue };
            let sum = adds.iter().map(|add| add.n).sum();
            let id = format!("{:016x}-{}", self.process, self.next_number());
            let added = self.stream.add(key, sum, &id, &last.config, last.deadline).await;
            match added {
                Ok(value) => share(value, sum, adds),
                Err(error) => {
                    for add in adds {
                        let _ = add.answer.send(Err(error.again()));
                    }
                }
            }
        }
    }

    fn take(&self, key: &str) -> Option<Vec<Waiting>> {
        let mut waiting = self.lock();
        let queue = waiting.get_mut(key)?;
        if queue.is_empty() {
            waiting.remove(key);
            return None;
        }
        Some(std::mem::take(queue))
    }

    fn next_number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Vec<Waiting>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Gives each add the value that it would have made alone, in the order they came.
fn share(after: i128, sum: i128, adds: Vec<Waiting>) {
    let mut value = after.saturating_sub(sum);
    for add in adds {
        value = value.saturating_add(add.n);
        // Who gave up meanwhile is not there any more.
        let _ = add.answer.send(own_value(value));
    }
}

/// A value after an add, as the caller gets it.
pub(super) fn own_value(value: i128) -> Result<i64> {
    i64::try_from(value).map_err(|_| {
        Error::new(
            ErrorKind::Decode,
            "the add was made, but the counter does not fit into an i64 any more",
        )
        .with("value", value.to_string())
    })
}

/// No answer by the deadline, or none that tells.
pub(super) fn unknown() -> Error {
    Error::new(
        ErrorKind::Timeout,
        "the server did not confirm the add within the deadline; it may have been made",
    )
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn each_add_gets_its_own_value() {
        let config = Arc::new(CountersConfig::new("a"));
        let deadline = Instant::now() + Duration::from_secs(1);
        let (mut adds, mut answers) = (Vec::new(), Vec::new());
        for (number, n) in [(0, 5), (1, -2), (2, 0), (3, i64::MAX.into()), (4, i64::MIN.into())] {
            let (answer, receiver) = oneshot::channel();
            adds.push(Waiting { number, n, config: config.clone(), deadline, answer });
            answers.push(receiver);
        }
        share(12, 2, adds);
        let values: Vec<_> =
            answers.into_iter().map(|mut answer| answer.try_recv().unwrap()).collect();
        let told: Vec<_> = values.iter().map(|value| value.as_ref().ok().copied()).collect();
        assert_eq!(told, [Some(15), Some(13), Some(13), None, Some(12)]);
        assert_eq!(values[3].as_ref().unwrap_err().kind(), ErrorKind::Decode);
    }
}
