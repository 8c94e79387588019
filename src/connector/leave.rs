//! Leaving without losing messages: one subscription (a drain), or all of them because the server
//! asks its clients to go (lame duck).
//!
//! `UNSUB <sid> <max>` with a number of more than nine digits means "now" to the server's parser,
//! while the client keeps the subscription until that many messages have come. So everything that
//! is under way still arrives; a round trip proves that nothing more will. That rests on a limit of
//! a parser, so it is tried once per connection on an inbox of our own, and where it does not hold,
//! the number of messages still to take is estimated instead.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_nats::connection::State as Wire;
use async_nats::{Message, Subscriber};
use bytes::Bytes;
use futures::task::AtomicWaker;
use futures::{FutureExt, StreamExt};
use tokio::sync::watch;
use tokio::task::unconstrained;
use tokio::time::Instant;

use super::link::Link;
use super::status::{Denied, Status};
use crate::deadline::{after, within};
use crate::error::{Error, ErrorKind, Result};

/// How long a lame-duck move waits for busy subscriptions and open requests.
const MOVE_PATIENCE: Duration = Duration::from_secs(5);
/// How long the estimating way waits for one more message.
const ESTIMATE_PATIENCE: Duration = Duration::from_millis(500);

/// The live subscriptions of a connection.
#[derive(Debug)]
pub(crate) struct Sources {
    next: AtomicU64,
    list: Mutex<HashMap<u64, Arc<Control>>>,
    /// Counts the moves to another server that are done.
    moves: watch::Sender<u64>,
}

impl Default for Sources {
    fn default() -> Self {
        Sources { next: AtomicU64::new(0), list: Mutex::default(), moves: watch::channel(0).0 }
    }
}

/// What others want of a subscription; it looks whenever it is polled.
#[derive(Debug)]
pub(crate) struct Control {
    id: u64,
    /// What the server says when it refuses this subscription, or what makes it bring messages.
    refusals: Vec<Denied>,
    pub(crate) moving: AtomicBool,
    pub(crate) refused: AtomicBool,
    pub(crate) waker: AtomicWaker,
}

impl Control {
    pub(crate) fn is_mine(&self, denied: &Denied) -> bool {
        self.refusals.iter().any(|refusal| refusal.covers(denied))
    }

    /// What the server refused, taken off the record where nobody has told it yet.
    pub(crate) fn take_refusal(&self, status: &Status) -> Error {
        let taken = status.take_denied(|denied| self.is_mine(denied));
        let refused = taken.as_ref().or(self.refusals.first());
        refused.map_or_else(|| Error::new(ErrorKind::Unauthorized, "refused"), Denied::error)
    }

    fn set(&self, flag: &AtomicBool) {
        flag.store(true, Ordering::Release);
        self.waker.wake();
    }
}

impl Sources {
    /// A subscription that one of these refusals ends.
    pub(crate) fn add(&self, refusals: Vec<Denied>) -> Arc<Control> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let control = Arc::new(Control {
            id,
            refusals,
            moving: AtomicBool::new(false),
            refused: AtomicBool::new(false),
            waker: AtomicWaker::new(),
        });
        self.lock().insert(id, control.clone());
        control
    }

    pub(crate) fn remove(&self, control: &Control) {
        self.lock().remove(&control.id);
    }

    /// Resolves with every finished move from now on.
    pub(crate) fn moves(&self) -> watch::Receiver<u64> {
        self.moves.subscribe()
    }

    /// Makes every subscription look at the connection.
    pub(super) fn wake(&self) {
        for control in self.lock().values() {
            control.waker.wake();
        }
    }

    /// Ends the subscriptions that the server has refused.
    pub(super) fn end_refused(&self, status: &Status) {
        for control in self.lock().values() {
            if status.has_denied(|denied| control.is_mine(denied)) {
                control.set(&control.refused);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Arc<Control>>> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Link {
    /// Leaves one subscription. Afterwards `subscriber` and `buffered` hold all that is left, and
    /// the subscriber ends. An error says that messages may be lost.
    pub(crate) async fn leave(
        &self,
        subscriber: &mut Subscriber,
        taken: u64,
        buffered: &mut VecDeque<Message>,
        deadline: Instant,
    ) -> Result<()> {
        let left = async {
            if self.client().connection_state() != Wire::Connected {
                return Err(Error::new(
                    ErrorKind::Unavailable,
                    "not connected while leaving a subscription; what was under way is lost",
                ));
            }
            if self.leaves_exactly(deadline).await {
                subscriber.unsubscribe_after(u64::MAX).await.map_err(ended)?;
                self.barrier(deadline).await
            } else {
                self.leave_by_estimate(subscriber, taken, buffered, deadline).await
            }
        };
        let left = within(deadline, left).await.unwrap_or_else(|_| {
            Err(Error::new(ErrorKind::Timeout, "leaving a subscription took too long"))
        });
        let gone = within(deadline, subscriber.unsubscribe()).await;
        left.and(match gone {
            Ok(Ok(())) => Ok(()),
            _ => Err(Error::new(ErrorKind::Unavailable, "cannot unsubscribe")),
        })
    }

    /// Takes what has arrived, and as many more as should be under way. Where more were, it says
    /// so: the last one came before the server can have known that it was the last.
    async fn leave_by_estimate(
        &self,
        subscriber: &mut Subscriber,
        taken: u64,
        buffered: &mut VecDeque<Message>,
        deadline: Instant,
    ) -> Result<()> {
        let backlog = take(subscriber, buffered).0;
        self.barrier(deadline).await?;
        let in_one_trip = take(subscriber, buffered).0;
        let last = taken + backlog + in_one_trip + 2 * in_one_trip + 16;
        subscriber.unsubscribe_after(last).await.map_err(ended)?;
        self.barrier(deadline).await?;
        if take(subscriber, buffered).1 {
            return Err(Error::new(
                ErrorKind::Other,
                "more messages were under way than estimated; some may be lost",
            ));
        }
        // With next to no traffic the last ones may never come.
        let mut quiet_until = after(ESTIMATE_PATIENCE);
        while Instant::now() < quiet_until.min(deadline) {
            match take(subscriber, buffered) {
                (_, true) => return Ok(()),
                (0, false) => {}
                (_, false) => quiet_until = after(ESTIMATE_PATIENCE),
            }
            self.barrier(deadline).await?;
        }
        Ok(())
    }

    /// Whether the connected server reads the long maximum as "now".
    async fn leaves_exactly(&self, deadline: Instant) -> bool {
        let mut known = self.exact_leave.lock().await;
        let connection = self.connects();
        if let Some((of, exact)) = *known
            && of == connection
        {
            return exact;
        }
        let exact = self.try_exact_leave(deadline).await.unwrap_or(true);
        if !exact {
            tracing::warn!("this server needs the estimating way to leave a subscription");
        }
        *known = Some((connection, exact));
        exact
    }

    /// `None` when this user may not publish to the inbox, so that nothing can be tried.
    async fn try_exact_leave(&self, deadline: Instant) -> Option<bool> {
        let inbox = self.requests().nobody();
        let client = self.client();
        let mut subscriber = client.subscribe(inbox.clone()).await.ok()?;
        client.publish(inbox.clone(), Bytes::new()).await.ok()?;
        self.barrier(deadline).await.ok()?;
        now(&mut subscriber)??;
        subscriber.unsubscribe_after(u64::MAX).await.ok()?;
        client.publish(inbox, Bytes::new()).await.ok()?;
        self.barrier(deadline).await.ok()?;
        Some(now(&mut subscriber).is_none())
    }

    /// Makes every later drain estimate, as with a server that the exact way does not work on.
    pub(crate) async fn estimate_leaving(&self) {
        *self.exact_leave.lock().await = Some((self.connects(), false));
    }

    /// The server asks its clients to go: leave every subscription, move, subscribe again.
    pub(super) async fn leave_server(&self) {
        match within(MOVE_PATIENCE, self.client().server_pool()).await {
            Ok(Ok(pool)) if pool.len() > 1 => {}
            _ => {
                tracing::warn!("no other server is known; staying until this one closes");
                return;
            }
        }
        let controls: Vec<_> = self.sources.lock().values().cloned().collect();
        for control in &controls {
            control.set(&control.moving);
        }
        let quiet = async {
            let still = || controls.iter().any(|c| c.moving.load(Ordering::Acquire));
            let mut tick = tokio::time::interval(Duration::from_millis(2));
            while still() || self.requests().len() > 0 {
                tick.tick().await;
            }
        };
        let _ = within(MOVE_PATIENCE, quiet).await;
        for control in &controls {
            control.moving.store(false, Ordering::Release);
        }
        let before = self.connects();
        self.reconnect().avoid_current();
        let mut changes = self.status().changes();
        let moved = async {
            let asked = self.client().force_reconnect().await;
            while asked.is_ok() && self.connects() == before && !self.status().is_closed() {
                let _ = tokio::time::timeout(Duration::from_millis(100), changes.changed()).await;
            }
        };
        let _ = within(self.settings().connect_timeout() * 2, moved).await;
        self.sources.moves.send_modify(|n| *n += 1);
    }
}

/// Takes what is there: how many, and whether that was the end.
fn take(subscriber: &mut Subscriber, buffered: &mut VecDeque<Message>) -> (u64, bool) {
    let before = buffered.len();
    let ended = loop {
        match now(subscriber) {
            Some(Some(message)) => buffered.push_back(message),
            Some(None) => break true,
            None => break false,
        }
    };
    ((buffered.len() - before) as u64, ended)
}

/// The next message if it is there, whatever the task's share of time: with that used up, a full
/// channel would look empty.
fn now(subscriber: &mut Subscriber) -> Option<Option<Message>> {
    unconstrained(subscriber.next()).now_or_never()
}

fn ended(error: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Closed, error.to_string())
}
