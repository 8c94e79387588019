//! One lock that this process holds, and the task that keeps it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use crate::deadline::within;
use crate::error::{Error, ErrorKind, Result};
use crate::kv::driver::{Change, Condition, Consistency, Expiry, Found, Value};
use crate::kv::retry::Retry;
use crate::kv::slot::{Slot, Target};
use crate::metrics::LockHeld;

/// How long one try of a request may take: its answer may be lost.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long giving a lock back may take.
const RELEASE_LIMIT: Duration = Duration::from_secs(10);

/// What the server granted.
#[derive(Debug, Clone, Copy)]
pub(in crate::kv) struct Grant {
    pub(in crate::kv) revision: u64,
    /// Counted from before the request, so that the server's lease ends no earlier.
    pub(in crate::kv) until: Instant,
}

/// A lock that is held, or was.
pub(in crate::kv) struct Held {
    slot: Slot,
    name: String,
    /// What tells this holder from others.
    holder: Bytes,
    lease: Duration,
    state: watch::Sender<State>,
    /// Why it could not be given back.
    failure: Mutex<Option<Error>>,
}

#[derive(Debug, Clone, Copy)]
struct State {
    grant: Grant,
    /// The answer to a renewal is under way, so that the revision may be an old one.
    renewing: bool,
    phase: Phase,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Held,
    /// To be given back.
    Released,
    /// Given back or lost; nothing is sent any more.
    Over,
}

impl Held {
    /// Keeps what was granted until it is given back or lost.
    pub(in crate::kv) fn keep(
        slot: Slot,
        name: String,
        holder: Bytes,
        lease: Duration,
        grant: Grant,
    ) -> Arc<Held> {
        let state = State { grant, renewing: false, phase: Phase::Held };
        let state = watch::channel(state).0;
        let held = Held { slot, name, holder, lease, state, failure: Mutex::default() };
        let held = Arc::new(held);
        let keeper = held.clone();
        let target = &held.slot.target;
        let metrics = target.store.metrics.locks(&target.bucket).held();
        tokio::spawn(async move { keeper.run(metrics).await });
        held
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn slot(&self) -> &Slot {
        &self.slot
    }

    pub(super) fn revision(&self) -> u64 {
        self.state.borrow().grant.revision
    }

    pub(in crate::kv) fn is_held(&self) -> bool {
        let state = *self.state.borrow();
        state.phase == Phase::Held && Instant::now() < state.grant.until
    }

    /// Waits until no renewal is under way.
    pub(super) async fn settled(&self) {
        self.wait(|state| !state.renewing || state.phase == Phase::Over).await;
    }

    /// Waits until it is not held any more.
    pub(super) async fn until_over(&self) {
        self.wait(|state| state.phase != Phase::Held).await;
    }

    /// Somebody else has it, or nobody.
    pub(super) fn lose(&self) {
        self.advance(Phase::Over);
    }

    /// Lets its task give it back.
    pub(super) fn begin_release(&self) {
        self.advance(Phase::Released);
    }

    pub(in crate::kv) async fn release(&self, deadline: Instant) -> Result<()> {
        self.begin_release();
        let over = within(deadline, self.wait(|state| state.phase == Phase::Over)).await;
        over.map_err(|_| {
            Error::new(
                ErrorKind::Timeout,
                "the lock was not given back by the deadline; it ends with its lease",
            )
        })?;
        let failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        failure.as_ref().map_or(Ok(()), |error| Err(error.again()))
    }

    async fn wait(&self, mut until: impl FnMut(&State) -> bool) {
        let mut changes = self.state.subscribe();
        // The sender lives as long as this.
        let _ = changes.wait_for(|state| until(state)).await;
    }

    fn advance(&self, to: Phase) {
        self.state.send_if_modified(|state| {
            let later = state.phase < to;
            if later {
                state.phase = to;
            }
            later
        });
    }

    async fn run(&self, metrics: LockHeld) {
        loop {
            let grant = self.state.borrow().grant;
            let renewal = grant.until - self.lease + self.lease / 3;
            tokio::select! {
                () = self.until_over() => break,
                () = sleep_until(renewal) => {}
            }
            self.state.send_modify(|state| state.renewing = true);
            let renewed = self.renew().await;
            self.state.send_modify(|state| state.renewing = false);
            if !renewed {
                break;
            }
        }
        if self.state.borrow().phase != Phase::Released {
            metrics.lost();
        } else if let Err(error) = self.give_back().await {
            tracing::warn!(lock = self.name, %error, "a lock was not given back");
            *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
        }
        metrics.end();
        self.lose();
    }

    /// Renews the lease, again until it is over; whether the lock is still held.
    async fn renew(&self) -> bool {
        let mut retry = Retry::until(self.state.borrow().grant.until);
        loop {
            let State { grant, phase, .. } = *self.state.borrow();
            let begun = Instant::now();
            if phase != Phase::Held {
                return false;
            }
            if begun >= grant.until {
                return self.has_lost("it could not be renewed until its lease was over");
            }
            let change = Change::Put(Value::new(self.holder.clone()), Expiry::In(self.lease));
            let until = grant.until.min(begun + patience(self.lease));
            let condition = Condition::Revision(grant.revision);
            let error = match self.slot.write(change, condition, until).await {
                Ok(revision) => {
                    let grant = Grant { revision, until: begun + self.lease };
                    self.state.send_modify(|state| state.grant = grant);
                    return true;
                }
                Err(error) => error,
            };
            if error.is_conflict() {
                match self.find(until).await {
                    // An earlier try that got no answer.
                    Ok(Some(revision)) => {
                        self.state.send_modify(|state| state.grant.revision = revision);
                    }
                    Ok(None) => return self.has_lost("somebody else has it, or deleted it"),
                    Err(_) => {}
                }
            } else {
                tracing::debug!(lock = self.name, %error, "the lease was not renewed at this try");
            }
            if error.is_closed() {
                return self.has_lost("the connection is closed");
            }
            if !retry.pause().await {
                sleep_until(grant.until).await;
            }
        }
    }

    fn has_lost(&self, why: &str) -> bool {
        tracing::warn!(lock = self.name, why, "a lock was lost");
        self.lose();
        false
    }

    /// Takes the lock's key away; right also when it is not ours any more.
    async fn give_back(&self) -> Result<()> {
        let grant = self.state.borrow().grant;
        let deadline = grant.until.min(Instant::now() + RELEASE_LIMIT);
        let mut retry = Retry::until(deadline);
        let mut revision = grant.revision;
        loop {
            let condition = Condition::Revision(revision);
            let until = deadline.min(Instant::now() + PATIENCE);
            let error = match self.slot.write(Change::Purge, condition, until).await {
                Ok(_) => return Ok(()),
                Err(error) if error.is_conflict() => match self.find(deadline).await {
                    Ok(None) => return Ok(()),
                    Ok(Some(found)) => {
                        revision = found;
                        error
                    }
                    Err(error) => error,
                },
                Err(error) => error,
            };
            if !error.is_retryable() || !retry.pause().await {
                return Err(error);
            }
        }
    }

    /// The revision of the lock's key while it is this holder's.
    async fn find(&self, deadline: Instant) -> Result<Option<u64>> {
        Ok(match read(&self.slot, deadline).await? {
            Found::Value(entry) if entry.value.bytes == self.holder => Some(entry.revision),
            _ => None,
        })
    }
}

/// How long one try to get or renew a lease may take.
pub(in crate::kv) fn patience(lease: Duration) -> Duration {
    PATIENCE.min(lease / 3)
}

/// What the store has of a lock's key. It is there until the store itself has ended it: two clocks
/// that differ must not make two holders.
pub(in crate::kv) async fn read(slot: &Slot, deadline: Instant) -> Result<Found> {
    let Target { store, bucket, .. } = &slot.target;
    let found = store.ask(None, bucket, slot.key(), Consistency::Stored, deadline);
    found.await.map_err(|error| slot.explain(error))
}
