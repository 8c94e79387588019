//! A claim that a transaction may mark as done, while another task of work renews it.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::{Instant, timeout_at};

use super::{Claim, RELEASE_LIMIT, State};
use crate::error::{Error, ErrorKind, Result};
use crate::kv::driver::{Change, Found};
use crate::kv::lock::read;
use crate::kv::slot::expiry;

/// A claim in the hands of the one who renews it and of the transactions that may mark it: one at a
/// time, since each is a compare-and-set on what the other wrote. Empty once the work is over.
#[derive(Clone)]
pub(crate) struct SharedClaim(Arc<Mutex<Option<Claim>>>);

/// The write of a transaction that marks a claim as done.
pub(in crate::kv) struct Mark {
    pub(in crate::kv) key: String,
    pub(in crate::kv) change: Change,
    /// The condition: what the holder wrote last.
    pub(in crate::kv) revision: u64,
}

impl SharedClaim {
    pub(crate) fn new(claim: Claim) -> Self {
        SharedClaim(Arc::new(Mutex::new(Some(claim))))
    }

    pub(crate) fn is(&self, other: &SharedClaim) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Renews it and gives the time to renew it again; `None` once it needs no renewal.
    ///
    /// # Errors
    /// The claim is held no more.
    pub(crate) async fn renew(&self) -> Result<Option<Instant>> {
        let mut shared = self.0.lock().await;
        let Some(claim) = shared.as_mut().filter(|claim| claim.state != State::Marked) else {
            return Ok(None);
        };
        claim.renew().await?;
        Ok((claim.state != State::Marked).then(|| claim.renewal()))
    }

    /// Ends the work, after a transaction that is under way.
    pub(crate) async fn take(&self) -> Option<Claim> {
        self.0.lock().await.take()
    }

    /// Ends the work, unless a transaction is under way.
    pub(crate) fn try_take(&self) -> Option<Claim> {
        self.0.try_lock().ok()?.take()
    }

    /// Runs a transaction that the mark, kept for as long as `keep`, is a part of.
    pub(in crate::kv) async fn commit<T, F: Future<Output = Result<T>>>(
        &self,
        keep: Duration,
        deadline: Instant,
        commit: impl FnOnce(Mark) -> F,
    ) -> Result<T> {
        let Ok(mut shared) = timeout_at(deadline, self.0.lock()).await else {
            return Err(Error::new(
                ErrorKind::Unavailable,
                "the message's claim could not be renewed in time; is the bucket reachable?",
            ));
        };
        let Some(claim) = shared.as_mut() else {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                "the handler that this transaction is for has ended; commit it inside the handler",
            ));
        };
        let before = claim.state;
        if before == State::Marked {
            return Err(claim.slot.explain(Error::new(
                ErrorKind::InvalidInput,
                "a transaction of this message took place before; put all of its writes into one",
            )));
        }
        let mark = Mark {
            key: claim.slot.key.clone(),
            change: Change::Put(claim.mark(), expiry(keep)),
            revision: claim.revision,
        };
        // Also for a caller who does not wait for the end.
        claim.state = State::InDoubt;
        match commit(mark).await {
            Ok(done) => {
                claim.set_marked();
                Ok(done)
            }
            Err(error) if error.is_timeout() => Err(error),
            Err(error) => {
                claim.state = before;
                Err(claim.refused(error, deadline).await)
            }
        }
    }
}

impl Claim {
    /// What a transaction that was refused says of the claim.
    async fn refused(&mut self, error: Error, deadline: Instant) -> Error {
        if !error.is_conflict() {
            return error;
        }
        match read(&self.slot, deadline).await {
            Ok(Found::Value(entry)) if self.is_mark(&entry) => {
                self.set_marked();
                let message = "an earlier transaction of this message, whose answer was lost, took \
                               place; end the handler";
                self.slot.explain(Error::new(ErrorKind::Conflict, message)).with_source(error)
            }
            // It is about another key.
            Ok(Found::Value(entry)) if self.is_working(&entry) => error,
            Ok(_) => self.lost(error),
            Err(_) => error,
        }
    }

    /// Whether a transaction marked it. One that got no answer is looked for.
    pub(crate) async fn is_marked(&mut self) -> bool {
        if self.state == State::InDoubt
            && let Ok(Found::Value(entry)) = read(&self.slot, Instant::now() + RELEASE_LIMIT).await
            && self.is_mark(&entry)
        {
            self.set_marked();
        }
        self.state == State::Marked
    }

    /// # Errors
    /// A transaction got no answer, and may yet take place.
    pub(crate) fn check_settled(&self) -> Result<()> {
        if self.state != State::InDoubt {
            return Ok(());
        }
        let message = "the answer to the message's transaction was lost; the next delivery sees \
                       whether it took place";
        Err(self.slot.explain(Error::new(ErrorKind::Timeout, message)))
    }
}

impl fmt::Debug for SharedClaim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedClaim").finish_non_exhaustive()
    }
}
