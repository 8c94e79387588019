//! One effect for each message, however often it is delivered.

mod runs;

use std::fmt;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use futures::future::{BoxFuture, Either, select};
use tokio::time::{Instant, sleep_until};

use self::runs::{Run, Runs};
use super::Layer;
use crate::Call;
use crate::connector::status::RateLimit;
use crate::error::{BoxError, Error, ErrorKind, Result};
use crate::kv::{Claimed, Kv, Transaction};
use crate::pubsub::{Handler, HandlerResult, Message, Outcome};

/// How long a member that dies holds back its message.
const LEASE: Duration = Duration::from_secs(15);
/// How long it is known what was handled.
const RETENTION: Duration = Duration::from_secs(24 * 3600);

/// Handles each message once, in all processes together, by a key of a key-value bucket: for
/// messages that are delivered again, or published again.
///
/// A message is claimed (a key with a lease, renewed while the handler runs), handled, marked as done
/// (the same key, kept for the retention) and only then acknowledged. So:
///
/// - What was marked is not handled again, also not by another process or after a restart: it is
///   acknowledged at once.
/// - Of several copies at the same time one is handled. The others are delivered again when its claim
///   would end, which counts as a delivery, so that one that is put off at its last delivery becomes
///   a dead letter; a core subscription has no other delivery, and gives them up.
/// - After an error, [`Outcome::Retry`] or [`Outcome::Reject`] the claim is given back, so that the
///   next delivery, or a replayed dead letter, is handled.
/// - Effects that are writes to this layer's bucket are made **one with the mark** by
///   [`transaction`](Self::transaction): they are there if and only if the message is marked,
///   whatever dies when. Exactly once.
/// - Other effects are not: whoever dies **between the handler's effect and the mark** leaves a
///   message that is handled again once its lease is over. No layer can close this gap: make the
///   effect and a record of the message id one transaction of the system that the handler writes to.
///   Without such a crash, or an outage that outlasts the lease (for the mark 30 s at least), the
///   effect is exactly once.
/// - While the bucket cannot be reached, messages fail and are delivered again; none is handled
///   unless [`fail_open`](Self::fail_open) asks for it, and none is lost. Each failure counts as a
///   delivery: [`Retry`](super::Retry) around this layer rides out a short outage without.
/// - When a claim is lost while the handler runs, because its lease could not be renewed or somebody
///   deleted the key, the handler's future is dropped and the message fails. A handler that blocks
///   its thread for longer than the lease keeps it from being renewed, and may be run twice.
///
/// The key is the layer's name and what tells the message from others: what [`by`](Self::by) gives,
/// else the `Nats-Msg-Id` header, else for a durable subscription the stream, its sequence and the
/// time that it was stored. A message with none of these is handled, and counted as
/// [`unprotected`](DedupeStats::unprotected). A message whose id is no possible key (too long) fails.
///
/// The bucket needs lifetimes of keys (nats-server 2.11, a bucket made with
/// [`per_key_ttl`](crate::kv::BucketConfig::per_key_ttl), which is the default there): a subscription
/// with another one is refused with `Unsupported`. A message costs two writes, and one key for the
/// retention.
#[derive(Clone)]
#[must_use = "a layer does nothing until it is given to .layer(..)"]
pub struct Dedupe {
    bucket: Kv,
    name: String,
    lease: Duration,
    retention: Duration,
    by: Option<Arc<KeyOf>>,
    fail_open: bool,
    counts: Arc<Counts>,
    runs: Runs,
}

type KeyOf = dyn Fn(&Message) -> Option<String> + Send + Sync;

struct Counts {
    handled: AtomicU64,
    skipped: AtomicU64,
    busy: AtomicU64,
    unprotected: AtomicU64,
    log: RateLimit,
}

/// What a [`Dedupe`] and its clones have done in this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct DedupeStats {
    /// Messages handled and marked.
    pub handled: u64,
    /// Messages that had been handled before.
    pub skipped: u64,
    /// Messages put off because somebody else was at work on them.
    pub busy: u64,
    /// Messages handled without a claim: they have no id, or the bucket could not be reached.
    pub unprotected: u64,
}

impl Dedupe {
    /// Keeps claims and marks in `bucket`. `name` says whose: every handler needs one of its own,
    /// since it must not skip what another one has handled; the same in all processes and for as
    /// long as the bucket lives.
    ///
    /// A lease of 15 s, a retention of 24 h.
    pub fn new(bucket: Kv, name: impl Into<String>) -> Self {
        let counts = Arc::new(Counts {
            handled: AtomicU64::new(0),
            skipped: AtomicU64::new(0),
            busy: AtomicU64::new(0),
            unprotected: AtomicU64::new(0),
            log: RateLimit::new(Duration::from_secs(1)),
        });
        Dedupe {
            bucket,
            name: name.into(),
            lease: LEASE,
            retention: RETENTION,
            by: None,
            fail_open: false,
            counts,
            runs: Runs::default(),
        }
    }

    /// How long a message that was handled is known: whole seconds, a fraction rounds up; zero: for
    /// ever. Longer than the longest time between two deliveries of a message, also when every
    /// member is down. Default 24 h.
    pub fn retention(mut self, retention: Duration) -> Self {
        self.retention = retention;
        self
    }

    /// How long the claim of a member that dies, or loses its connection, stands: whole seconds of at
    /// least one, a fraction rounds up. It is renewed at every third of it. At most half of a durable
    /// subscription's [`ack_wait`](crate::Call::ack_wait), the claim has ended when the message is
    /// delivered again. Default 15 s.
    pub fn lease(mut self, lease: Duration) -> Self {
        self.lease = lease;
        self
    }

    /// What tells a message from others, in place of its message id; `None` for those that it shall
    /// be the message id for.
    pub fn by(mut self, key: impl Fn(&Message) -> Option<String> + Send + Sync + 'static) -> Self {
        self.by = Some(Arc::new(key));
        self
    }

    /// Handles messages without a claim while the bucket cannot be reached, rather than putting them
    /// off: at least once in place of exactly once.
    pub fn fail_open(mut self) -> Self {
        self.fail_open = true;
        self
    }

    /// What it has done so far.
    #[must_use]
    pub fn stats(&self) -> DedupeStats {
        DedupeStats {
            handled: self.counts.handled.load(Ordering::Relaxed),
            skipped: self.counts.skipped.load(Ordering::Relaxed),
            busy: self.counts.busy.load(Ordering::Relaxed),
            unprotected: self.counts.unprotected.load(Ordering::Relaxed),
        }
    }

    /// Writes to this layer's bucket that take place together with the mark that `message` is done,
    /// or not at all: for a handler that this layer, or a clone of it, runs for `message` now. It
    /// keeps a clone of the layer, and what it returns after the commit is not looked at.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> nats_connector::Result<()> {
    /// # let nats = nats_connector::Connector::memory();
    /// use nats_connector::layers::Dedupe;
    /// use nats_connector::pubsub::{Message, with};
    ///
    /// let accounts = nats.kv().bucket("accounts");
    /// let once = Dedupe::new(accounts.clone(), "deposits");
    /// let deposit = with((accounts, once.clone()), |(accounts, once), msg: Message| async move {
    ///     let amount: u64 = msg.decode()?;
    ///     let balance = accounts.entry::<u64>("balance").consistent().await?;
    ///     let deposit = once.transaction(&msg)?;
    ///     let deposit = match balance {
    ///         None => deposit.create("balance", &amount),
    ///         Some(old) => {
    ///             deposit.set_if_revision("balance", &(old.value + amount), old.revision)
    ///         }
    ///     };
    ///     deposit.await.map(drop)
    /// });
    /// let deposits = nats.pubsub().subscribe("deposits", deposit).layer(once).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// It is committed when it is awaited, once for each message; without writes it marks the message
    /// alone. A message's claim allows it: who has lost it has its commit refused, and nothing is
    /// written. The revisions that it gives are those of the writes asked for, at most 999.
    ///
    /// After the commit the message counts as done. An error, a panic, [`Outcome::Retry`] or
    /// [`Outcome::Reject`] that follows is logged at most, and nothing is handled again: put nothing
    /// after it that must not be skipped. A message whose transaction is not committed, because the
    /// handler succeeds without, is marked as always.
    ///
    /// Needs nats-server 2.12 and a bucket with
    /// [`transactions`](crate::kv::BucketConfig::transactions). Keys that begin with the layer's name
    /// and a slash are the layer's own.
    ///
    /// # Errors
    /// `InvalidInput` when this layer is not handling `message` under a claim: another message, one
    /// without an id, one handled unprotected, or a handler that has ended.
    ///
    /// The commit: `Conflict` when the claim was lost, or the condition of a write does not hold;
    /// `Unsupported` where the server or the bucket has no transactions; else as those of
    /// [`Kv::transaction`]. After any of these but `Timeout` nothing was written, and the handler may
    /// try another one. After `Timeout` it is not known: let the handler fail, and the next delivery
    /// sees whether the message was marked. A handler that succeeds all the same has its message
    /// delivered again too.
    pub fn transaction(&self, message: &Message) -> Result<Call<Transaction>> {
        let run = self.key(message).and_then(|key| self.runs.claim(&key));
        let Some(claim) = run else {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                "this Dedupe layer is not handling the message under a claim; call transaction in \
                 the handler that the layer is around, with the handler's message, which has an id",
            )
            .operation("dedupe")
            .with("topic", message.topic()));
        };
        Ok(self.bucket.transaction_of(claim, self.retention))
    }

    fn key(&self, message: &Message) -> Option<String> {
        let name = &self.name;
        if let Some(key) = self.by.as_ref().and_then(|by| by(message)) {
            return Some(format!("{name}/key/{key}"));
        }
        if let Some(id) = message.header("Nats-Msg-Id").filter(|id| !id.is_empty()) {
            return Some(format!("{name}/id/{id}"));
        }
        let from = message.delivery()?;
        // Sequences begin anew with a stream that was made again.
        let stored = from.stored().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        Some(format!("{name}/stored/{}/{}/{stored}", from.stream(), from.sequence()))
    }

    async fn run<H: Handler>(&self, handler: &H, message: Message) -> Result<Outcome, BoxError> {
        let Some(key) = self.key(&message) else {
            add(&self.counts.unprotected);
            return handler.call(message).await.into_outcome();
        };
        let claim = match self.bucket.claim(key.clone(), self.lease).await {
            Ok(Claimed::Mine(claim)) => claim,
            Ok(Claimed::Done) => {
                add(&self.counts.skipped);
                return Ok(Outcome::Ack);
            }
            Ok(Claimed::Busy(left)) => {
                add(&self.counts.busy);
                return Ok(Outcome::retry_after(left));
            }
            Err(error) if self.goes_on(&error) => {
                add(&self.counts.unprotected);
                return handler.call(message).await.into_outcome();
            }
            Err(error) => return Err(error.into()),
        };
        let renewal = claim.renewal();
        let run = self.runs.begin(key, claim);
        let result = self.handle(handler, message, &run, renewal).await;
        let Some(mut claim) = run.claim().take().await else { return result };
        if claim.is_marked().await {
            add(&self.counts.handled);
            self.tell_ignored(&result);
            return Ok(Outcome::Ack);
        }
        let settled = claim.check_settled();
        if settled.is_err() || !matches!(result, Ok(Outcome::Ack)) {
            claim.release().await;
            settled?;
            return result;
        }
        match claim.done(self.retention).await {
            Ok(()) => add(&self.counts.handled),
            Err(error) if self.goes_on(&error) => add(&self.counts.unprotected),
            Err(error) => return Err(error.into()),
        }
        result
    }

    /// Runs the handler and renews the claim meanwhile.
    async fn handle<H: Handler>(
        &self,
        handler: &H,
        message: Message,
        run: &Run,
        mut renewal: Instant,
    ) -> Result<Outcome, BoxError> {
        let mut handling = pin!(handler.call(message));
        loop {
            tokio::select! {
                biased;
                result = handling.as_mut() => return result.into_outcome(),
                () = sleep_until(renewal) => {}
            }
            let lost = match select(handling.as_mut(), pin!(run.claim().renew())).await {
                Either::Left((result, renewing)) => {
                    // The mark needs the claim's last revision; a lost claim shows there.
                    let _ = renewing.await;
                    return result.into_outcome();
                }
                Either::Right((Ok(Some(next)), _)) => {
                    renewal = next;
                    continue;
                }
                Either::Right((Ok(None), _)) => return handling.await.into_outcome(),
                Either::Right((Err(lost), _)) => lost,
            };
            if !self.goes_on(&lost) {
                return Err(lost.into());
            }
            return handling.await.into_outcome();
        }
    }

    /// What a handler gave after its message was marked.
    fn tell_ignored(&self, result: &Result<Outcome, BoxError>) {
        let ignored = match result {
            Ok(Outcome::Ack) => return,
            Ok(outcome) => format!("{outcome:?}"),
            Err(error) => error.to_string(),
        };
        if let Some(held_back) = self.counts.log.pass() {
            tracing::warn!(
                name = self.name,
                ignored,
                held_back,
                "a handler failed after its transaction was committed: its message is done"
            );
        }
    }

    /// Whether an error is an outage that messages are to be handled in.
    fn goes_on(&self, error: &Error) -> bool {
        let goes_on =
            self.fail_open && matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout);
        if goes_on && let Some(held_back) = self.counts.log.pass() {
            tracing::warn!(
                name = self.name,
                %error,
                held_back,
                "messages are handled without a claim: a duplicate may be handled again"
            );
        }
        goes_on
    }
}

impl<H: Handler> Layer<H> for Dedupe {
    fn layer(self, handler: H) -> impl Handler {
        let shared = Arc::new((self, handler));
        move |message: Message| {
            let shared = shared.clone();
            async move {
                let (dedupe, handler) = &*shared;
                dedupe.run(handler, message).await
            }
        }
    }

    fn check(&self) -> Option<BoxFuture<'static, Result<()>>> {
        let (bucket, lease) = (self.bucket.clone(), self.lease);
        Some(Box::pin(async move {
            if lease.is_zero() {
                return Err(Error::new(
                    ErrorKind::InvalidInput,
                    "the lease of a Dedupe layer is at least 1 s",
                ));
            }
            match bucket.check_claims().await {
                // Messages are put off until it can be reached.
                Err(error) if error.is_retryable() => Ok(()),
                checked => checked,
            }
        }))
    }
}

fn add(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl fmt::Debug for Dedupe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dedupe")
            .field("bucket", &self.bucket)
            .field("name", &self.name)
            .field("lease", &self.lease)
            .field("retention", &self.retention)
            .field("fail_open", &self.fail_open)
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}
