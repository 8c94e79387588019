//! The loop of a subscription: one task reads its source and runs its handler; no task, boxed
//! future or lock per message.

use std::any::Any;
use std::collections::HashMap;
use std::fmt;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::join;
use futures::task::AtomicWaker;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::driver::{InboundMessage, Source};
use super::{Handler, HandlerResult, Message, Outcome, PubSub, SubscriptionStats};
use crate::connector::status::RateLimit;
use crate::deadline::{after, within};
use crate::error::BoxError;
use crate::metrics::{self, End};

/// The subscriptions of a driver that are alive.
#[derive(Debug, Default)]
pub(crate) struct Tasks {
    next: AtomicU64,
    list: Mutex<HashMap<u64, Arc<Task>>>,
}

/// What a drain of all subscriptions came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Drained {
    /// Handlers that finished while draining.
    pub(crate) finished: u64,
    /// Messages that handlers had been given and were not done with at the deadline.
    pub(crate) abandoned: u64,
    /// Subscriptions that could not be left without doubt, or not in time.
    pub(crate) doubtful: u64,
}

impl Tasks {
    pub(super) fn add(&self, topic: &str, metrics: metrics::Subscription) -> Arc<Task> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let task = Arc::new(Task::new(id, topic, metrics));
        lock(&self.list).insert(id, task.clone());
        task
    }

    pub(super) fn remove(&self, task: &Task) {
        lock(&self.list).remove(&task.id);
    }

    /// Drains every subscription, all at once; at the deadline what still runs is given up.
    pub(crate) async fn drain(&self, deadline: Instant) -> Drained {
        let tasks: Vec<_> = lock(&self.list).values().cloned().collect();
        let before: u64 = tasks.iter().map(|task| task.finished()).sum();
        for task in &tasks {
            task.stop(Stop::Drain, deadline);
        }
        let mut drained = Drained::default();
        for task in &tasks {
            let in_time = within(deadline, task.ended()).await.is_ok();
            if !in_time {
                let abandoned = task.abandon();
                tracing::error!(topic = task.topic, abandoned, "given up at the drain's deadline");
                drained.abandoned += abandoned;
            }
            drained.doubtful += u64::from(!in_time || task.doubtful.load(Ordering::Relaxed));
        }
        drained.finished = tasks.iter().map(|task| task.finished()).sum::<u64>() - before;
        drained
    }
}

/// How a subscription is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    /// Take what is under way, then end.
    Drain = 1,
    /// End after the message at hand.
    Close = 2,
}

/// One subscription as others see it.
pub(crate) struct Task {
    id: u64,
    pub(super) topic: String,
    stop: AtomicU8,
    stop_by: Mutex<Option<Instant>>,
    waker: AtomicWaker,
    received: AtomicU64,
    handled: AtomicU64,
    failed: AtomicU64,
    panicked: AtomicU64,
    pub(super) metrics: metrics::Subscription,
    doubtful: AtomicBool,
    aborts: Mutex<Vec<AbortHandle>>,
    ended: watch::Sender<bool>,
    pub(super) log: RateLimit,
}

impl Task {
    fn new(id: u64, topic: &str, metrics: metrics::Subscription) -> Self {
        Task {
            id,
            topic: topic.to_owned(),
            stop: AtomicU8::new(0),
            stop_by: Mutex::new(None),
            waker: AtomicWaker::new(),
            received: AtomicU64::new(0),
            handled: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            panicked: AtomicU64::new(0),
            metrics,
            doubtful: AtomicBool::new(false),
            aborts: Mutex::default(),
            ended: watch::channel(false).0,
            log: RateLimit::new(Duration::from_secs(1)),
        }
    }

    /// Asks the subscription to end; the stronger wish wins.
    pub(super) fn stop(&self, stop: Stop, deadline: Instant) {
        *lock(&self.stop_by) = Some(deadline);
        self.stop.fetch_max(stop as u8, Ordering::AcqRel);
        self.waker.wake();
    }

    /// The wish to end, once there is one.
    pub(super) fn wish(&self) -> Option<Stop> {
        match self.stop.load(Ordering::Acquire) {
            0 => None,
            1 => Some(Stop::Drain),
            _ => Some(Stop::Close),
        }
    }

    /// The wish to end; without one the task is woken when it comes.
    pub(crate) fn poll_wish(&self, cx: &mut Context<'_>) -> Poll<Stop> {
        if let Some(stop) = self.wish() {
            return Poll::Ready(stop);
        }
        self.waker.register(cx.waker());
        self.wish().map_or(Poll::Pending, Poll::Ready)
    }

    pub(crate) fn stop_by(&self) -> Instant {
        lock(&self.stop_by).unwrap_or_else(|| after(Duration::ZERO))
    }

    pub(super) fn doubt(&self, error: &crate::Error) {
        self.doubtful.store(true, Ordering::Relaxed);
        tracing::warn!(topic = self.topic, %error, "messages may be lost while leaving");
    }

    pub(super) fn end(&self) {
        self.ended.send_replace(true);
    }

    pub(super) fn has_ended(&self) -> bool {
        *self.ended.borrow()
    }

    pub(super) async fn ended(&self) {
        let mut ended = self.ended.subscribe();
        // The sender lives as long as self.
        let _ = ended.wait_for(|ended| *ended).await;
    }

    /// A message was taken from the subscription.
    pub(super) fn receive(&self) {
        self.received.fetch_add(1, Ordering::Relaxed);
        self.metrics.received();
    }

    /// A message has ended this way.
    pub(crate) fn count(&self, end: End) {
        let counter = match end {
            End::Handled => &self.handled,
            End::Failed => &self.failed,
            End::Panicked => &self.panicked,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        self.metrics.count(end);
    }

    pub(super) fn stats(&self) -> SubscriptionStats {
        SubscriptionStats {
            received: self.received.load(Ordering::Relaxed),
            handled: self.handled.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
            panicked: self.panicked.load(Ordering::Relaxed),
            ..SubscriptionStats::default()
        }
    }

    fn finished(&self) -> u64 {
        self.handled.load(Ordering::Relaxed)
            + self.failed.load(Ordering::Relaxed)
            + self.panicked.load(Ordering::Relaxed)
    }

    /// Gives up what still runs; how many messages that were.
    fn abandon(&self) -> u64 {
        for abort in lock(&self.aborts).drain(..) {
            abort.abort();
        }
        self.unfinished()
    }

    /// Messages that were taken and are not done with.
    fn unfinished(&self) -> u64 {
        self.received.load(Ordering::Relaxed).saturating_sub(self.finished())
    }

    pub(super) fn is_busy(&self) -> bool {
        self.unfinished() > 0
    }

    pub(crate) fn spawn(self: &Arc<Self>, future: impl Future<Output = ()> + Send + 'static) {
        lock(&self.aborts).push(tokio::spawn(future).abort_handle());
    }
}

impl fmt::Debug for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Task").field("topic", &self.topic).field("stop", &self.wish()).finish()
    }
}

/// Starts the loop of a subscription, and with a concurrency above one its workers.
pub(super) fn start<H: Handler>(
    source: Box<dyn Source>,
    handler: H,
    concurrency: usize,
    handle: PubSub,
    task: &Arc<Task>,
) {
    let running = Running { task: task.clone(), handle: handle.clone() };
    if concurrency <= 1 {
        let worker = task.clone();
        task.spawn(async move {
            let work = |raw| one(&handler, Message::new(raw, handle.clone()), &worker);
            read(source, &running.task, work).await;
        });
        return;
    }
    let (queue, work) = async_channel::bounded::<Message>(concurrency);
    let handler = Arc::new(handler);
    let (alive, mut all_done) = watch::channel(());
    for _ in 0..concurrency {
        let (handler, work, worker, alive) =
            (handler.clone(), work.clone(), task.clone(), alive.clone());
        task.spawn(async move {
            while let Ok(message) = work.recv().await {
                one(&*handler, message, &worker).await;
            }
            drop(alive);
        });
    }
    drop((work, alive));
    task.spawn(async move {
        let work = |raw| {
            let message = Message::new(raw, handle.clone());
            // The workers live as long as this loop.
            async { drop(queue.send(message).await) }
        };
        read(source, &running.task, work).await;
        queue.close();
        while all_done.changed().await.is_ok() {}
        drop(running);
    });
}

/// Ends the record of a subscription with its loop, however that ends.
pub(super) struct Running {
    pub(super) task: Arc<Task>,
    pub(super) handle: PubSub,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.handle.core().tasks().remove(&self.task);
        self.task.end();
    }
}

/// How the handler of a message ended.
pub(super) enum Ended {
    With(Outcome),
    Failed(BoxError),
    Panicked(Box<dyn Any + Send>),
}

/// Polls a handler's future to its end; its panics end here. The future stays where it was made: what
/// takes it would copy it for every message.
#[inline]
pub(super) fn caught<R: HandlerResult>(
    mut call: Pin<&mut impl Future<Output = R>>,
) -> impl Future<Output = Ended> {
    poll_fn(move |cx| {
        let poll = AssertUnwindSafe(|| call.as_mut().poll(cx).map(R::into_outcome));
        match catch_unwind(poll) {
            Ok(poll) => poll.map(|ended| match ended {
                Ok(outcome) => Ended::With(outcome),
                Err(error) => Ended::Failed(error),
            }),
            Err(panic) => Poll::Ready(Ended::Panicked(panic)),
        }
    })
}

/// Handles one message, with no second delivery: what the handler makes of it is counted and logged.
async fn one<H: Handler>(handler: &H, message: Message, task: &Task) {
    let at_work = task.metrics.begin();
    let call = pin!(async { handler.call(message).await });
    let ended = caught(call).await;
    at_work.end();
    let end = match ended {
        Ended::With(Outcome::Ack) => End::Handled,
        Ended::With(outcome) => {
            if let Some(held_back) = task.log.pass() {
                tracing::warn!(
                    topic = task.topic,
                    ?outcome,
                    held_back,
                    "a handler wants what only a durable subscription can do"
                );
            }
            End::Failed
        }
        Ended::Failed(error) => {
            if let Some(held_back) = task.log.pass() {
                tracing::warn!(topic = task.topic, %error, held_back, "a handler failed");
            }
            End::Failed
        }
        Ended::Panicked(_) => {
            if let Some(held_back) = task.log.pass() {
                tracing::error!(topic = task.topic, held_back, "a handler panicked");
            }
            End::Panicked
        }
    };
    task.count(end);
}

enum Next {
    Message(Option<InboundMessage>),
    Stop(Stop),
}

/// Reads a source to its end and gives each message to `work`. The wish to end is seen while
/// waiting for a message and while `work` is busy, so that leaving does not wait for a slow handler.
pub(super) async fn read<F, Fut>(mut source: Box<dyn Source>, task: &Task, mut work: F)
where
    F: FnMut(InboundMessage) -> Fut,
    Fut: Future<Output = ()>,
{
    let rest = loop {
        let next = poll_fn(|cx| {
            if let Some(stop) = task.wish() {
                return Poll::Ready(Next::Stop(stop));
            }
            if let Poll::Ready(message) = source.poll_next(cx) {
                return Poll::Ready(Next::Message(message));
            }
            task.poll_wish(cx).map(Next::Stop)
        })
        .await;
        let message = match next {
            Next::Message(Some(message)) => message,
            Next::Message(None) => return,
            Next::Stop(Stop::Close) => return source.close().await,
            Next::Stop(Stop::Drain) => break leave(&mut source, task).await,
        };
        task.receive();
        let mut busy = pin!(work(message));
        let stop = poll_fn(|cx| match busy.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(None),
            Poll::Pending => task.poll_wish(cx).map(Some),
        })
        .await;
        match stop {
            None => {}
            Some(Stop::Drain) => break join(busy, leave(&mut source, task)).await.1,
            Some(Stop::Close) => {
                join(busy, source.close()).await;
                return;
            }
        }
    };
    for message in rest {
        if task.wish() == Some(Stop::Close) {
            return;
        }
        work(message).await;
    }
}

/// Leaves, and takes in all that is left: a drain that gives up tells how many messages waited.
async fn leave(source: &mut Box<dyn Source>, task: &Task) -> Vec<InboundMessage> {
    if let Err(error) = source.drain(task.stop_by()).await {
        task.doubt(&error);
    }
    let mut rest = Vec::new();
    while let Some(message) = poll_fn(|cx| source.poll_next(cx)).await {
        task.receive();
        rest.push(message);
    }
    rest
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
