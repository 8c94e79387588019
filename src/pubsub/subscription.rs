//! Subscribing with a handler, and the handle on a live subscription.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_nats::Subject;
use futures::future::BoxFuture;

use super::dispatch::{self, Stop, Task};
use super::driver::Source;
use super::subject::{check_queue, check_subscribe};
use super::{Handler, PubSub};
use crate::call::{Call, Operation};
use crate::connector::link::closed;
use crate::deadline::{after, within};
use crate::error::{Error, ErrorKind, Result};

/// Where and how to subscribe; shared by handlers and streams.
#[derive(Debug)]
pub(super) struct Place {
    handle: PubSub,
    topic: Subject,
    queue: Option<String>,
    ignore_prefix: bool,
}

impl Place {
    pub(super) fn new(handle: PubSub, topic: Subject) -> Self {
        Place { handle, topic, queue: None, ignore_prefix: false }
    }

    pub(super) fn queue(&mut self, queue: &str) {
        self.queue = Some(queue.to_owned());
    }

    pub(super) fn ignore_prefix(&mut self) {
        self.ignore_prefix = true;
    }

    /// Subscribes; gives the bound handle, the source and the record that a drain finds.
    pub(super) async fn open(
        self,
        timeout: Option<Duration>,
    ) -> Result<(PubSub, Box<dyn Source>, Arc<Task>)> {
        let Place { handle, topic, queue, ignore_prefix } = self;
        let handle = handle.bind()?;
        let subject = if ignore_prefix { topic } else { handle.subject(&topic) };
        check_subscribe(&subject)?;
        if let Some(queue) = &queue {
            check_queue(queue)?;
        }
        let core = handle.core();
        let deadline = after(timeout.unwrap_or(core.timeout));
        let name = subject.as_str().to_owned();
        // Known before it is made, so that no drain can miss it.
        let task = core.tasks().add(&name, core.metrics.subscription(&name));
        let guard = Added { handle: &handle, task: &task, keep: false };
        let source = core
            .driver
            .subscribe(subject, queue, deadline)
            .await
            .map_err(|error| error.with("topic", name))?;
        if task.wish().is_some() {
            return Err(closed());
        }
        guard.keep();
        Ok((handle, source, task))
    }
}

/// Forgets a subscription that was not made.
struct Added<'a> {
    handle: &'a PubSub,
    task: &'a Task,
    keep: bool,
}

impl Added<'_> {
    fn keep(mut self) {
        self.keep = true;
    }
}

impl Drop for Added<'_> {
    fn drop(&mut self) {
        if !self.keep {
            self.handle.core().tasks().remove(self.task);
            self.task.end();
        }
    }
}

/// The most handlers of one subscription at once: each is a task from the start.
const MAX_CONCURRENCY: usize = 65_536;

/// A subscription to make, by [`PubSub::subscribe`].
pub struct Subscribe<H> {
    place: Place,
    handler: H,
    concurrency: usize,
}

impl<H: Handler> Subscribe<H> {
    pub(super) fn new(handle: PubSub, topic: Subject, handler: H) -> Self {
        Subscribe { place: Place::new(handle, topic), handler, concurrency: 1 }
    }
}

impl<H: Handler> Call<Subscribe<H>> {
    /// Joins a queue group: each message goes to one of its members.
    pub fn queue(self, group: impl AsRef<str>) -> Self {
        self.map_operation(|subscribe| subscribe.place.queue(group.as_ref()))
    }

    /// Lets up to `n` handlers run at once, on as many threads as there are; messages then finish
    /// in any order. 1 to 65,536; default: 1, in order.
    pub fn concurrency(self, n: usize) -> Self {
        self.map_operation(|subscribe| subscribe.concurrency = n)
    }

    /// Takes the topic as the full subject.
    pub fn ignore_prefix(self) -> Self {
        self.map_operation(|subscribe| subscribe.place.ignore_prefix())
    }
}

impl<H: Handler> Operation for Subscribe<H> {
    type Output = Result<Subscription>;

    fn start(self, timeout: Option<Duration>) -> BoxFuture<'static, Result<Subscription>> {
        let subscribe = async move {
            if !(1..=MAX_CONCURRENCY).contains(&self.concurrency) {
                let message =
                    format!("a concurrency of {}; use 1 to {MAX_CONCURRENCY}", self.concurrency);
                return Err(Error::new(ErrorKind::InvalidInput, message));
            }
            let (handle, source, task) = self.place.open(timeout).await?;
            dispatch::start(source, self.handler, self.concurrency, handle.clone(), &task);
            Ok(Subscription { handle, task })
        };
        Box::pin(async move { subscribe.await.map_err(|error| error.operation("subscribe")) })
    }
}

impl<H> fmt::Debug for Subscribe<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscribe")
            .field("place", &self.place)
            .field("concurrency", &self.concurrency)
            .finish_non_exhaustive()
    }
}

/// A live subscription. Dropping it leaves the subscription running.
#[derive(Clone)]
pub struct Subscription {
    handle: PubSub,
    task: Arc<Task>,
}

/// Counts of one subscription since it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct SubscriptionStats {
    /// Messages taken from the subscription.
    pub received: u64,
    /// Messages whose handler ended well.
    pub handled: u64,
    /// Messages whose handler gave an error.
    pub failed: u64,
    /// Messages whose handler panicked.
    pub panicked: u64,
}

impl Subscription {
    /// The full subject.
    #[must_use]
    pub fn topic(&self) -> &str {
        &self.task.topic
    }

    /// What it has done so far.
    #[must_use]
    pub fn stats(&self) -> SubscriptionStats {
        self.task.stats()
    }

    /// Ends the subscription: the handler at work finishes, messages that wait are dropped.
    /// Limited by the handle's timeout.
    ///
    /// # Errors
    /// `Timeout` when the handler takes longer; the subscription ends all the same.
    ///
    /// # Cancel safety
    /// The subscription ends even when this is dropped.
    pub async fn unsubscribe(&self) -> Result<()> {
        self.stop(Stop::Close).await
    }

    /// Ends the subscription without losing a message: takes no new ones, handles all that are
    /// under way or wait, then ends. Limited by the handle's timeout.
    ///
    /// # Errors
    /// `Timeout` when the handlers take longer; the drain goes on.
    ///
    /// # Cancel safety
    /// The drain goes on when this is dropped.
    pub async fn drain(&self) -> Result<()> {
        self.stop(Stop::Drain).await
    }

    async fn stop(&self, stop: Stop) -> Result<()> {
        let deadline = after(self.handle.core().timeout);
        self.task.stop(stop, deadline);
        within(deadline, self.task.ended()).await.map_err(|_| {
            Error::new(ErrorKind::Timeout, "a handler is still busy; the subscription ends with it")
                .with("topic", self.task.topic.as_str())
        })
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription")
            .field("topic", &self.task.topic)
            .field("stats", &self.stats())
            .finish()
    }
}
