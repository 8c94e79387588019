//! A member of a durable consumer at work: its workers, what becomes of each message, and the task
//! that extends messages and ends the membership.

use std::any::Any;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use async_nats::Subject;
use futures::future::{Either, select};
use tokio::sync::watch;
use tokio::task::unconstrained;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep};

use super::backoff::Waits;
use super::causes::{Cause, Causes};
use super::dead::{DeadLetters, one_line};
use super::delivered::Delivered;
use super::intake::{Intake, between_ticks};
use crate::deadline::after;
use crate::error::{BoxError, Error, Result};
use crate::metrics::{End, Fate};
use crate::pubsub::dispatch::{Ended, Running, Task, caught};
use crate::pubsub::driver::{Deliveries, DeliveryEvents, Settlement};
use crate::pubsub::{Handler, Message, Outcome, PubSub, SubscriptionStats};

/// How long a member that leaves waits for a server to give a message back to. It comes again anyway.
const MOMENT: Duration = Duration::from_millis(250);

/// A member of a durable consumer.
pub(in crate::pubsub) struct Member {
    pub(super) handle: PubSub,
    pub(super) task: Arc<Task>,
    pub(super) intake: Intake,
    pub(super) rules: Rules,
    pub(super) counts: Counts,
    pub(super) causes: Causes,
    pub(super) stopping: watch::Sender<bool>,
}

/// What becomes of messages.
pub(super) struct Rules {
    /// Messages of one lane must not overtake each other: what is tried again stays.
    pub(super) ordered: bool,
    pub(super) max_deliver: Option<u64>,
    pub(super) waits: Waits,
    pub(super) dead_letters: Option<DeadLetters>,
    pub(super) ack_wait: Duration,
    pub(super) extend_for: Duration,
}

/// Counts beside those of every subscription.
#[derive(Default)]
pub(super) struct Counts {
    pub(super) redelivered: AtomicU64,
    pub(super) retried: AtomicU64,
    pub(super) rejected: AtomicU64,
    pub(super) dead: AtomicU64,
    pub(super) not_stored: AtomicU64,
    pub(super) let_go: AtomicU64,
    pub(super) unsettled: AtomicU64,
}

/// What is to become of a message that was handled.
enum Verdict {
    Done,
    Again(Duration),
    Dead(String),
}

/// Starts the workers of a member and the task that looks after it.
pub(super) fn start<H: Handler>(member: Arc<Member>, handler: H, workers: usize) {
    let handler = Arc::new(handler);
    let (alive, all_done) = watch::channel(());
    for worker in 0..workers {
        let (member, handler, alive) = (member.clone(), handler.clone(), alive.clone());
        member.task.clone().spawn(async move {
            member.work(worker, &*handler).await;
            drop(alive);
        });
    }
    drop(alive);
    let running = Running { task: member.task.clone(), handle: member.handle.clone() };
    member.task.clone().spawn(async move {
        member.look_after(all_done).await;
        drop(running);
    });
}

impl Member {
    /// Adds what only a durable subscription counts.
    pub(in crate::pubsub) fn count(&self, stats: &mut SubscriptionStats) {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        stats.redelivered = count(&self.counts.redelivered);
        stats.retried = count(&self.counts.retried);
        stats.rejected = count(&self.counts.rejected);
        stats.dead = count(&self.counts.dead);
        stats.not_stored = count(&self.counts.not_stored);
        stats.let_go = count(&self.counts.let_go);
        stats.unsettled = count(&self.counts.unsettled);
        stats.remade = self.intake.events().consumer_remade;
    }

    /// Counts what became of messages.
    fn note(&self, fate: Fate, messages: u64) {
        let counts = &self.counts;
        let counter = match fate {
            Fate::Redelivered => &counts.redelivered,
            Fate::Retried => &counts.retried,
            Fate::Rejected => &counts.rejected,
            Fate::DeadLettered => &counts.dead,
            Fate::NotStored => &counts.not_stored,
            Fate::LetGo => &counts.let_go,
            Fate::Unsettled => &counts.unsettled,
        };
        counter.fetch_add(messages, Ordering::Relaxed);
        self.task.metrics.became(fate, messages);
    }

    async fn work<H: Handler>(&self, worker: usize, handler: &H) {
        while let Some(message) = poll_fn(|cx| self.intake.poll_take(worker, cx)).await {
            self.handle(handler, message).await;
        }
    }

    /// Handles a message and settles it.
    async fn handle<H: Handler>(&self, handler: &H, message: Arc<Delivered>) {
        if message.info.deliveries() > 1 {
            self.note(Fate::Redelivered, 1);
            // The handler is done with it.
            if let Some(cause) = self.causes.of(&message.info) {
                return Box::pin(self.bury(&message, cause)).await;
            }
            if self.rules.max_deliver.is_some_and(|max| message.info.deliveries() > max) {
                let cause = "its last delivery was not settled: the member that had it ended, lost \
                             its connection, or could not store the dead letter";
                return Box::pin(self.bury(&message, cause_of(&message, cause))).await;
            }
        }
        loop {
            self.task.receive();
            let ended = {
                let at_work = self.task.metrics.begin();
                let asked = Message::delivered(message.clone(), self.handle.clone());
                let call = pin!(async { handler.call(asked).await });
                let ended = caught(call).await;
                at_work.end();
                ended
            };
            let (verdict, end) = self.judge(&message, ended);
            match verdict {
                Verdict::Done => self.settle(&message, Settlement::Done).await,
                Verdict::Again(delay) => {
                    self.note(Fate::Retried, 1);
                    if self.rules.ordered {
                        self.task.count(end);
                        if Box::pin(self.try_here(&message, delay)).await {
                            continue;
                        }
                        return;
                    }
                    self.settle(&message, Settlement::Again(delay)).await;
                }
                Verdict::Dead(cause) => {
                    Box::pin(self.bury(&message, cause_of(&message, &cause))).await;
                }
            }
            self.task.count(end);
            return;
        }
    }

    /// What becomes of a message, and what the end of its handler counts as.
    #[inline]
    fn judge(&self, message: &Delivered, ended: Ended) -> (Verdict, End) {
        match ended {
            Ended::With(Outcome::Ack) => (Verdict::Done, End::Handled),
            ended => self.judge_failure(message, ended),
        }
    }

    #[cold]
    fn judge_failure(&self, message: &Delivered, ended: Ended) -> (Verdict, End) {
        let (cause, delay, end) = match ended {
            Ended::With(Outcome::Ack) => return (Verdict::Done, End::Handled),
            Ended::With(Outcome::Reject(reason)) => {
                self.note(Fate::Rejected, 1);
                return (Verdict::Dead(reason), End::Failed);
            }
            Ended::With(Outcome::Retry(delay)) => {
                ("the handler asked for another delivery".to_owned(), delay, End::Failed)
            }
            Ended::Failed(error) if message.is_undecodable() => {
                self.note(Fate::Rejected, 1);
                return (Verdict::Dead(chain(&error)), End::Failed);
            }
            Ended::Failed(error) => (chain(&error), None, End::Failed),
            Ended::Panicked(panic) => (said(&*panic), None, End::Panicked),
        };
        let deliveries = message.info.deliveries();
        if self.rules.max_deliver.is_some_and(|max| deliveries >= max) {
            return (Verdict::Dead(cause), end);
        }
        let delay = delay.unwrap_or_else(|| self.rules.waits.after(deliveries));
        if let Some(held_back) = self.task.log.pass() {
            let cause = one_line(&cause);
            tracing::warn!(
                topic = self.task.topic,
                subject = %message.message.subject,
                sequence = message.info.sequence(),
                deliveries,
                ?delay,
                cause,
                held_back,
                "a handler failed; the message comes again"
            );
        }
        (Verdict::Again(delay), end)
    }

    /// Waits with a message that must not be overtaken; `false` when it was given back instead.
    async fn try_here(&self, message: &Delivered, delay: Duration) -> bool {
        let begun = Instant::now();
        let (stopped, waited) = (pin!(self.stopped()), pin!(sleep(delay)));
        if let Either::Left(_) = select(stopped, waited).await {
            let left = delay.saturating_sub(begun.elapsed());
            self.settle(message, Settlement::Again(left)).await;
            return false;
        }
        // One that was let go comes again by itself.
        if message.is_held() {
            message.info.try_again();
            message.set_undecodable(false);
        }
        message.is_held()
    }

    /// Stores a message as a dead letter, then ends it. Where that cannot be, it stays in its
    /// stream, and its cause is remembered.
    async fn bury(&self, message: &Delivered, cause: Cause) {
        let (topic, subject) = (&self.task.topic, &message.message.subject);
        let sequence = message.info.sequence();
        let Cause { text: cause, deliveries } = cause;
        let Some(dead_letters) = &self.rules.dead_letters else {
            if let Some(held_back) = self.task.log.pass() {
                tracing::error!(
                    topic, %subject, sequence, deliveries, cause, held_back,
                    "a message was rejected; without dead letters it is given up"
                );
            }
            return self.settle(message, Settlement::Never(cause)).await;
        };
        match dead_letters.store(&self.handle, message, (&cause, deliveries), self.stopped()).await
        {
            Ok(()) => {
                self.causes.forget(&message.info);
                self.note(Fate::DeadLettered, 1);
                if let Some(held_back) = self.task.log.pass() {
                    tracing::error!(
                        topic, %subject, sequence, deliveries, cause, held_back,
                        "a message is a dead letter now"
                    );
                }
                self.settle(message, Settlement::Never(cause)).await;
            }
            Err(error) => {
                self.note(Fate::NotStored, 1);
                if let Some(held_back) = self.task.log.pass() {
                    tracing::error!(
                        topic, %subject, sequence, deliveries, cause, %error, held_back,
                        "a dead letter cannot be stored; the message stays in its stream"
                    );
                }
                self.causes.remember(&message.info, Cause { text: cause, deliveries });
                let delay = if self.is_stopping() {
                    Duration::ZERO
                } else {
                    self.rules.waits.undead(message.info.deliveries())
                };
                self.settle(message, Settlement::Again(delay)).await;
            }
        }
    }

    /// Settles a message; what cannot be settled comes again.
    #[inline]
    async fn settle(&self, message: &Delivered, settlement: Settlement) {
        message.release();
        let given_back = matches!(settlement, Settlement::Again(_));
        let limit = (given_back && self.is_stopping()).then_some(MOMENT);
        if let Err(error) = self.send(&message.receipt, settlement, limit).await {
            self.unsettled(1, &error);
        }
    }

    /// Gives messages back at once while leaving.
    async fn give_back(&self, messages: &[Arc<Delivered>]) {
        for (sent, message) in messages.iter().enumerate() {
            message.release();
            let settlement = Settlement::Again(Duration::ZERO);
            if let Err(error) = self.send(&message.receipt, settlement, Some(MOMENT)).await {
                // The others would not fare better.
                return self.unsettled(messages.len() - sent, &error);
            }
        }
    }

    /// Without a limit of its own: the handle's.
    #[inline]
    async fn send(
        &self,
        receipt: &Subject,
        settlement: Settlement,
        limit: Option<Duration>,
    ) -> Result<()> {
        let core = self.handle.core();
        let limit = limit.unwrap_or(core.timeout);
        match (&core.nats, core.driver.streams()) {
            (Some(nats), _) => nats.settle_now(receipt, settlement, limit).await,
            (None, Some(streams)) => streams.settle(receipt, settlement, after(limit)).await,
            (None, None) => Ok(()),
        }
    }

    #[cold]
    fn unsettled(&self, messages: usize, error: &Error) {
        self.note(Fate::Unsettled, messages as u64);
        if let Some(held_back) = self.task.log.pass() {
            tracing::warn!(
                topic = self.task.topic, %error, held_back,
                "a message cannot be settled; it comes again"
            );
        }
    }

    /// Extends messages until the subscription is to end, then leaves; done when every worker is.
    async fn look_after(&self, mut all_done: watch::Receiver<()>) {
        let mut extending = pin!(self.extend());
        let workers = pin!(async { while all_done.changed().await.is_ok() {} });
        let wish = pin!(poll_fn(|cx| self.task.poll_wish(cx)));
        let workers = match select(extending.as_mut(), select(wish, workers)).await {
            Either::Left((never, _)) => match never {},
            Either::Right((Either::Left((_, workers)), _)) => workers,
            Either::Right((Either::Right(_), _)) => {
                if self.task.wish().is_none() {
                    tracing::warn!(topic = self.task.topic, "a durable subscription has ended");
                }
                return;
            }
        };
        let leaving = pin!(async {
            self.leave().await;
            workers.await;
        });
        match select(extending, leaving).await {
            Either::Left((never, _)) => match never {},
            Either::Right(_) => {}
        }
    }

    /// Takes no more messages, and gives back those that wait, so that other members have them at
    /// once. Those that this would cost their last delivery are handled.
    async fn leave(&self) {
        self.stopping.send_replace(true);
        let (deliveries, waiting) = self.intake.leave(|message| self.can_come_again(message));
        self.give_back(&waiting).await;
        if let Some(deliveries) = deliveries {
            self.leave_source(deliveries).await;
        }
        self.intake.end();
    }

    async fn leave_source(&self, mut deliveries: Box<dyn Deliveries>) {
        if let Err(error) = deliveries.drain(self.task.stop_by()).await {
            tracing::warn!(
                topic = self.task.topic, %error,
                "messages that were under way while leaving come again after the ack wait"
            );
        }
        let mut waiting = Vec::new();
        while let Some(delivery) = poll_fn(|cx| deliveries.poll_next(0, cx)).await {
            let message = self.intake.arrived(delivery);
            if self.can_come_again(&message) {
                waiting.push(message);
            } else {
                self.intake.keep(message);
            }
        }
        self.give_back(&waiting).await;
    }

    fn can_come_again(&self, message: &Delivered) -> bool {
        self.rules.max_deliver.is_none_or(|max| message.info.deliveries() != max)
    }

    /// Extends what is at work and what waits, for ever.
    async fn extend(&self) -> std::convert::Infallible {
        let period = between_ticks(self.rules.ack_wait);
        let longest = self.rules.extend_for.as_nanos() / period.as_nanos();
        let longest = u64::try_from(longest).unwrap_or(u64::MAX);
        let mut ticks = interval_at(after(period), period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut told, mut last) = (DeliveryEvents::default(), Instant::now());
        loop {
            ticks.tick().await;
            let late = last.elapsed();
            last = Instant::now();
            self.task.metrics.consumer(&mut told, self.intake.events());
            let tick = unconstrained(poll_fn(|_| Poll::Ready(self.intake.tick(longest)))).await;
            if tick.let_go > 0 {
                self.note(Fate::LetGo, tick.let_go);
                tracing::warn!(
                    topic = self.task.topic,
                    messages = tick.let_go,
                    extended_for = ?self.rules.extend_for,
                    "handlers take too long; their messages are delivered again"
                );
            }
            if late > self.rules.ack_wait && !tick.extend.is_empty() {
                self.note(Fate::LetGo, tick.extend.len() as u64);
                tracing::warn!(
                    topic = self.task.topic,
                    messages = tick.extend.len(),
                    ?late,
                    ack_wait = ?self.rules.ack_wait,
                    "messages were extended too late and are delivered again: handlers must not \
                     block their thread; use spawn_blocking"
                );
            }
            for message in tick.extend.iter().filter(|message| message.is_held()) {
                if let Err(error) =
                    self.send(&message.receipt, Settlement::Working, Some(period)).await
                {
                    // The others would not fare better.
                    self.unsettled(1, &error);
                    break;
                }
            }
            for message in tick.give_back {
                self.settle(&message, Settlement::Again(Duration::ZERO)).await;
            }
        }
    }

    fn is_stopping(&self) -> bool {
        *self.stopping.borrow()
    }

    async fn stopped(&self) {
        let mut stopping = self.stopping.subscribe();
        // The sender lives as long as self.
        let _ = stopping.wait_for(|stopping| *stopping).await;
    }
}

/// Why a message is to be a dead letter after this delivery.
fn cause_of(message: &Delivered, text: &str) -> Cause {
    Cause { text: one_line(text), deliveries: message.info.deliveries() }
}

/// An error with its causes, unless it names them itself.
fn chain(error: &BoxError) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

/// What a panic said.
fn said(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("the handler panicked: {}", text.unwrap_or("no message"))
}
