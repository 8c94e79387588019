//! What the connection's callbacks learn and everybody else asks: state, counters, last error,
//! refused subjects.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::error::{Error, ErrorKind};
use crate::metrics;
use crate::pubsub::subject::matches;

/// How a connector stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum State {
    /// Not connected yet (`NATS.RETRY_ON_INITIAL_CONNECT`).
    Connecting,
    /// Connected.
    Connected,
    /// The connection is lost; reconnecting.
    Disconnected,
    /// Draining: what is under way still goes out, nothing new comes in.
    Draining,
    /// Closed for good.
    Closed,
}

/// A subject that the server refused to this user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Denied {
    pub(crate) publish: bool,
    pub(crate) subject: String,
    /// The queue group of a subscription.
    queue: Option<String>,
}

impl Denied {
    /// What the server refuses when it refuses this subscription.
    pub(crate) fn subscription(subject: &str, queue: Option<&str>) -> Denied {
        Denied { publish: false, subject: subject.to_owned(), queue: queue.map(str::to_owned) }
    }

    /// What the server says when it refuses to take messages for this subject.
    pub(crate) fn publishing(subject: &str) -> Denied {
        Denied { publish: true, subject: subject.to_owned(), queue: None }
    }

    /// Whether it is this refusal, whose subject has wildcards for all that is published to the like.
    pub(crate) fn covers(&self, denied: &Denied) -> bool {
        let publish = self.publish && denied.publish;
        self == denied || (publish && matches(&self.subject, &denied.subject))
    }

    /// Reads the server's `Permissions Violation for Subscription to "x" using queue "y"`.
    pub(crate) fn parse(text: &str) -> Option<Denied> {
        let lower = text.to_ascii_lowercase();
        if !lower.contains("permissions violation") {
            return None;
        }
        let publish = lower.contains("for publish");
        let mut quoted = text.split('"').skip(1).step_by(2).map(str::to_owned);
        Some(Denied { publish, subject: quoted.next()?, queue: quoted.next() })
    }

    pub(crate) fn error(&self) -> Error {
        let what = if self.publish { "publishing" } else { "subscribing" };
        Error::new(
            ErrorKind::Unauthorized,
            format!(
                "{what} to this subject is not permitted for this user; ask for the permission"
            ),
        )
        .with("subject", self.subject.as_str())
    }
}

/// The shared record; callbacks write it, calls read it.
#[derive(Debug)]
pub(crate) struct Status {
    closed: AtomicBool,
    /// Connected and not closed, as the events tell it: what every call looks at first. The client's
    /// own state costs a lock.
    open: AtomicBool,
    draining: AtomicBool,
    /// The client's own task has ended.
    ended: AtomicBool,
    /// Moves with every event, so that waiters look again.
    changes: watch::Sender<u64>,
    pub(crate) dropped: AtomicU64,
    last_error: Mutex<Option<String>>,
    denied: Mutex<VecDeque<Denied>>,
    metrics: metrics::Connection,
}

/// How many refused subjects are remembered until somebody asks.
const DENIED_KEPT: usize = 64;

impl Status {
    pub(crate) fn new(metrics: metrics::Connection) -> Self {
        metrics.state(State::Connecting);
        Status {
            metrics,
            closed: AtomicBool::new(false),
            open: AtomicBool::new(false),
            draining: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            changes: watch::channel(0).0,
            dropped: AtomicU64::new(0),
            last_error: Mutex::new(None),
            denied: Mutex::new(VecDeque::new()),
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    pub(crate) fn is_open(&self) -> bool {
        self.open.load(Ordering::Acquire)
    }

    pub(crate) fn set_open(&self, connected: bool) {
        let before = self.open.swap(connected, Ordering::AcqRel);
        // Looked at last, so that a close at the same time wins.
        if self.is_closed() {
            self.open.store(false, Ordering::Release);
        } else if before != connected && !self.is_draining() {
            let state = if connected { State::Connected } else { State::Disconnected };
            self.metrics.state(state);
        }
    }

    /// Closes for good; true for the first caller.
    pub(crate) fn close(&self) -> bool {
        let first = !self.closed.swap(true, Ordering::AcqRel);
        self.open.store(false, Ordering::Release);
        self.metrics.state(State::Closed);
        self.touch();
        first
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// Starts the drain; true for the first caller.
    pub(crate) fn drain(&self) -> bool {
        let first = !self.draining.swap(true, Ordering::AcqRel);
        if !self.is_closed() {
            self.metrics.state(State::Draining);
        }
        self.touch();
        first
    }

    pub(crate) fn end(&self) {
        self.ended.store(true, Ordering::Release);
        self.touch();
    }

    pub(crate) fn is_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    pub(crate) fn metrics(&self) -> &metrics::Connection {
        &self.metrics
    }

    /// A message was dropped because its subscription was too slow.
    pub(crate) fn drop_message(&self) {
        self.dropped.fetch_add(1, Ordering::Relaxed);
        self.metrics.dropped();
    }

    /// Tells waiters that something changed.
    pub(crate) fn touch(&self) {
        self.changes.send_modify(|n| *n = n.wrapping_add(1));
    }

    /// Resolves with every change from now on.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    pub(crate) fn set_last_error(&self, error: impl Into<String>) {
        *lock(&self.last_error) = Some(error.into());
    }

    pub(crate) fn last_error(&self) -> Option<String> {
        lock(&self.last_error).clone()
    }

    pub(crate) fn deny(&self, denied: Denied) {
        let mut list = lock(&self.denied);
        if list.len() == DENIED_KEPT {
            list.pop_front();
        }
        list.push_back(denied);
    }

    pub(crate) fn has_denied(&self, matches: impl Fn(&Denied) -> bool) -> bool {
        lock(&self.denied).iter().any(matches)
    }

    /// Takes the refusals that match, so that each is told once.
    pub(crate) fn take_denied(&self, matches: impl Fn(&Denied) -> bool) -> Option<Denied> {
        let mut list = lock(&self.denied);
        let found = list.iter().find(|denied| matches(denied)).cloned();
        list.retain(|denied| !matches(denied));
        found
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Lets one log line through per interval and counts what it held back.
#[derive(Debug)]
pub(crate) struct RateLimit {
    interval: Duration,
    state: Mutex<(Option<Instant>, u64)>,
}

impl RateLimit {
    pub(crate) fn new(interval: Duration) -> Self {
        RateLimit { interval, state: Mutex::new((None, 0)) }
    }

    /// `Some(held back since the last one)` when this one may pass.
    pub(crate) fn pass(&self) -> Option<u64> {
        let mut state = lock(&self.state);
        let now = Instant::now();
        if state.0.is_some_and(|last| now.duration_since(last) < self.interval) {
            state.1 += 1;
            return None;
        }
        state.0 = Some(now);
        Some(std::mem::take(&mut state.1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_read_from_the_servers_words() {
        let denied =
            Denied::parse("Permissions Violation for Subscription to \"a.>\" using queue \"q\"");
        assert_eq!(denied, Some(Denied::subscription("a.>", Some("q"))));
        let denied = Denied::parse("permissions violation for publish to \"x\"").unwrap();
        assert!(denied.publish && denied.error().to_string().contains("subject=x"));
        assert_eq!(Denied::parse("Slow Consumer"), None);
    }

    #[test]
    fn a_rate_limit_tells_what_it_held_back() {
        let limit = RateLimit::new(Duration::from_millis(50));
        assert_eq!(limit.pass(), Some(0));
        assert_eq!((limit.pass(), limit.pass()), (None, None));
    }
}
