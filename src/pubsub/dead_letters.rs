//! Dead letters: what durable subscriptions have given up, to be looked at, replayed or discarded.

mod letter;
mod record;
mod replay;
mod walk;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_nats::Subject;
use tokio::time::Instant;

use super::driver::{Stored, Streams};
use super::durable::{check_name, dead};
use super::subject::check_publish;
use super::{IntoTopic, PubSub};
use crate::call::{Call, Task};
use crate::deadline::after;
use crate::error::{Error, ErrorKind, Result};
use walk::{Filter, Walk};

pub use letter::DeadLetter;
pub use replay::{Replay, ReplayAll, ReplayFailure, ReplayReport};
pub use walk::DeadLetterList;

/// The dead letters of a durable subscription, made by [`PubSub::dead_letters`]. Cheap to clone.
///
/// A dead letter is known by its sequence in the stream that keeps it. What others have published
/// to the same topic, and the dead letters of other subscriptions, are neither listed nor counted.
///
/// Errors of its calls: `NotFound` when no stream keeps the dead letters; `Unsupported` on a driver
/// without streams; `InvalidInput` for a malformed topic or a name that no
/// durable subscription has; `Unavailable`, `Timeout`, `Closed`. A
/// stream without dead letters is an empty list; an outage never is.
///
/// ```no_run
/// use futures::TryStreamExt;
///
/// # async fn example(pubsub: nats_connector::pubsub::PubSub) -> nats_connector::Result<()> {
/// let dead = pubsub.dead_letters("billing");
/// let mut letters = dead.list().await?;
/// while let Some(letter) = letters.try_next().await? {
///     println!("{} {}: {}", letter.sequence(), letter.topic(), letter.cause());
/// }
/// // The handler is repaired:
/// let report = dead.matching(|letter| letter.cause().contains("tax")).replay_all().await?;
/// println!("{} replayed, {} failed", report.replayed, report.failed.len());
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
#[must_use = "a handle does nothing until a call is made on it"]
pub struct DeadLetters {
    handle: PubSub,
    durable: String,
    /// The topic that they go to, when it is not the usual one.
    topic: Option<Subject>,
    filter: Option<Filter>,
}

impl PubSub {
    /// The dead letters of the durable subscription of this name. Nothing is sent.
    pub fn dead_letters(&self, durable: impl Into<String>) -> DeadLetters {
        let (handle, durable) = (self.clone(), durable.into());
        DeadLetters { handle, durable, topic: None, filter: None }
    }
}

impl DeadLetters {
    /// Looks for them at this topic, for a subscription that has a dead-letter topic of its own.
    pub fn topic(mut self, topic: impl IntoTopic) -> Self {
        self.topic = Some(topic.into_topic());
        self
    }

    /// Only those that `filter` accepts; given again, both must.
    pub fn matching(self, filter: impl Fn(&DeadLetter) -> bool + Send + Sync + 'static) -> Self {
        let filter: Filter = match self.filter {
            Some(earlier) => Arc::new(move |letter| earlier(letter) && filter(letter)),
            None => Arc::new(filter),
        };
        DeadLetters { filter: Some(filter), ..self }
    }

    /// Lists them, the oldest first: a `Stream` that reads one at a time, and has what there is now.
    /// A time limit given to this call holds for each read.
    pub fn list(&self) -> Call<Task<Result<DeadLetterList>>> {
        self.call("list dead letters", |letters, timeout| async move {
            let timeout = timeout.unwrap_or(letters.timeout());
            let walk = Walk::begin(letters, after(timeout)).await?;
            Ok(DeadLetterList::new(walk, timeout))
        })
    }

    /// How many there are. It reads them all, one after the other.
    pub fn count(&self) -> Call<Task<Result<u64>>> {
        self.call("count dead letters", |letters, timeout| async move {
            let next = letters.clock(timeout);
            let mut walk = Walk::begin(letters, next()).await?;
            let mut count = 0;
            while walk.next(next()).await?.is_some() {
                count += 1;
            }
            Ok(count)
        })
    }

    /// The one with this sequence, if there is one.
    pub fn get(&self, sequence: u64) -> Call<Task<Result<Option<DeadLetter>>>> {
        self.call("read a dead letter", move |letters, timeout| async move {
            let deadline = after(timeout.unwrap_or(letters.timeout()));
            let place = letters.place(deadline).await?;
            letters.find(&place, sequence, deadline).await
        })
    }

    /// Publishes the one with this sequence again, payload and headers as they were, to the topic
    /// that it came from; once that is stored, it is a dead letter no more. Gives the
    /// acknowledgement, or `None` when there is no such dead letter (any more).
    ///
    /// **Every consumer of the topic gets it**, also those that have handled the message before;
    /// `.to(topic)` sends it elsewhere. It is a new message, with a message id made from the dead
    /// letter: a replay that is repeated after a crash or a timeout, or that two do at once, stores
    /// it once, as long as the stream knows message ids (2 minutes by default). When it fails again,
    /// it becomes a new dead letter.
    ///
    /// # Errors
    /// As all calls here; `Unavailable` with [`is_no_responders`](Error::is_no_responders) when no
    /// stream stores the topic.
    ///
    /// # Cancel safety
    /// Dropped once polled, it may have been published and still be a dead letter.
    pub fn replay(&self, sequence: u64) -> Call<Replay> {
        Call::new(Replay::new(self.clone(), sequence))
    }

    /// [Replays](Self::replay) all that there are, one after the other, the oldest first. Those that
    /// cannot be published stay dead letters and are in the report; an outage ends it with an error,
    /// whose context `replayed` says how many were done before.
    ///
    /// Each step is limited as any call; a time limit given to this call bounds it as a whole.
    pub fn replay_all(&self) -> Call<ReplayAll> {
        Call::new(ReplayAll::new(self.clone()))
    }

    /// Takes the one with this sequence out for good; whether it was there.
    pub fn discard(&self, sequence: u64) -> Call<Task<Result<bool>>> {
        self.call("discard a dead letter", move |letters, timeout| async move {
            let deadline = after(timeout.unwrap_or(letters.timeout()));
            let place = letters.place(deadline).await?;
            match letters.find(&place, sequence, deadline).await? {
                Some(_) => place.delete(sequence, deadline).await,
                None => Ok(false),
            }
        })
    }

    /// Takes all that there are out for good; how many these were. An error leaves the rest. Each
    /// step is limited as any call; a time limit given to this call bounds it as a whole.
    pub fn discard_all(&self) -> Call<Task<Result<u64>>> {
        self.call("discard dead letters", |letters, timeout| async move {
            let next = letters.clock(timeout);
            let mut walk = Walk::begin(letters, next()).await?;
            let mut discarded = 0;
            while let Some(letter) = walk.next(next()).await? {
                discarded += u64::from(walk.place().delete(letter.sequence(), next()).await?);
            }
            Ok(discarded)
        })
    }

    fn call<T, F>(
        &self,
        operation: &'static str,
        work: impl FnOnce(DeadLetters, Option<Duration>) -> F + Send + 'static,
    ) -> Call<Task<Result<T>>>
    where
        T: 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        let letters = self.clone();
        let durable = self.durable.clone();
        Task::call(move |timeout| async move {
            let done = async { work(letters.bound()?, timeout).await }.await;
            done.map_err(|error| error.operation(operation).with("durable", durable))
        })
    }

    /// The same on a driver.
    fn bound(&self) -> Result<Self> {
        check_name(&self.durable)?;
        Ok(DeadLetters { handle: self.handle.bind()?, ..self.clone() })
    }

    fn timeout(&self) -> Duration {
        self.handle.core().timeout
    }

    /// The deadlines of a call's steps: each within the handle's limit, all within the call's own.
    fn clock(&self, timeout: Option<Duration>) -> impl Fn() -> Instant + Send + Sync + use<> {
        let (whole, step) = (timeout.map(after), self.timeout());
        move || whole.map_or_else(|| after(step), |whole| whole.min(after(step)))
    }

    fn subject_of(&self, topic: &Subject) -> Subject {
        self.handle.subject(topic)
    }

    /// Where they are.
    async fn place(&self, deadline: Instant) -> Result<Place> {
        let subject = match &self.topic {
            Some(topic) => self.subject_of(topic),
            None => self.subject_of(&format!("{}.{}", dead::ROOT, self.durable).into()),
        };
        check_publish(&subject)?;
        let handle = self.handle.clone();
        let streams = streams(&handle)?;
        if let Some(name) = streams.stream_of(&subject, deadline).await?
            && let Some(status) = streams.stream(&name, deadline).await?
        {
            let last_sequence = status.last_sequence;
            return Ok(Place { handle, stream: name, subject, last_sequence });
        }
        Err(Error::new(
            ErrorKind::NotFound,
            "no stream keeps these dead letters; see to the name and the dead-letter topic of the \
             durable subscription",
        )
        .with("topic", subject.as_str()))
    }

    /// The dead letter that `stored` is, if it is one of these.
    fn accept(&self, place: &Place, stored: Stored) -> Option<DeadLetter> {
        if stored.message.subject != place.subject {
            return None;
        }
        let letter = DeadLetter::read(&self.handle, stored)?;
        let meant = letter.consumer() == self.durable
            && self.filter.as_ref().is_none_or(|filter| filter(&letter));
        meant.then_some(letter)
    }

    async fn find(
        &self,
        place: &Place,
        sequence: u64,
        deadline: Instant,
    ) -> Result<Option<DeadLetter>> {
        let stored = place.read(sequence, deadline).await?;
        let stored = stored.filter(|stored| stored.sequence == sequence);
        Ok(stored.and_then(|stored| self.accept(place, stored)))
    }
}

/// The stream and the subject that dead letters are kept under.
struct Place {
    handle: PubSub,
    stream: String,
    subject: Subject,
    last_sequence: u64,
}

impl Place {
    /// The first message at or behind this sequence.
    async fn read(&self, sequence: u64, deadline: Instant) -> Result<Option<Stored>> {
        let streams = streams(&self.handle)?;
        streams.message_from(&self.stream, &self.subject, sequence, deadline).await
    }

    async fn delete(&self, sequence: u64, deadline: Instant) -> Result<bool> {
        streams(&self.handle)?.delete_message(&self.stream, sequence, deadline).await
    }
}

fn streams(handle: &PubSub) -> Result<&dyn Streams> {
    let driver = &handle.core().driver;
    driver.streams().ok_or_else(|| {
        Error::new(
            ErrorKind::Unsupported,
            format!("the {} driver has no streams to keep dead letters", driver.name()),
        )
    })
}

impl fmt::Debug for DeadLetters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeadLetters")
            .field("durable", &self.durable)
            .field("topic", &self.topic)
            .finish_non_exhaustive()
    }
}
