//! Writes that only the holder of a lock can make.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;

use super::Held;
use crate::call::{Call, Operation};
use crate::deadline::within;
use crate::error::{Error, ErrorKind, Result};
use crate::kv::driver::{Change, Condition};
use crate::kv::slot::{Slot, expiry};

/// Stores a value while a lock is held: [`LockGuard::set`](super::LockGuard::set).
pub struct Guarded {
    held: Arc<Held>,
    what: Result<(Slot, Change)>,
}

impl Guarded {
    pub(super) fn call(held: Arc<Held>, what: Result<(Slot, Change)>) -> Call<Self> {
        Call::new(Guarded { held, what })
    }
}

impl Call<Guarded> {
    /// As [`ttl`](Call::<crate::kv::Set>::ttl) of a set.
    pub fn ttl(self, ttl: Duration) -> Self {
        self.map_operation(|guarded| {
            if let Ok((_, Change::Put(_, own))) = &mut guarded.what {
                *own = expiry(ttl);
            }
        })
    }
}

impl Operation for Guarded {
    type Output = Result<u64>;

    fn start(self, timeout: Option<Duration>) -> BoxFuture<'static, Result<u64>> {
        Box::pin(async move {
            let (slot, change) = self.what?;
            write(&self.held, &slot, &change, timeout).await
        })
    }
}

impl fmt::Debug for Guarded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guarded").field("lock", &self.held.name()).finish_non_exhaustive()
    }
}

/// Makes a change under the lock's revision of the moment, again when that was renewed meanwhile.
pub(super) async fn write(
    held: &Held,
    slot: &Slot,
    change: &Change,
    timeout: Option<Duration>,
) -> Result<u64> {
    let deadline = slot.target.deadline(timeout);
    let not_held = || {
        let error = Error::new(
            ErrorKind::Conflict,
            "the lock is not held any more; take it again and decide anew",
        );
        slot.explain(error).with("lock", held.name())
    };
    if slot.place() == held.slot().place() {
        let message = "the key is the lock's own; choose another one";
        let error = Error::new(ErrorKind::InvalidInput, message);
        return Err(slot.explain(error).with("lock", held.name()));
    }
    if !held.is_held() {
        return Err(not_held());
    }
    let driver = &slot.target.store.driver;
    let can = driver.capabilities(&slot.target.bucket, deadline).await;
    if !can.map_err(|error| slot.explain(error))?.fencing {
        let error = Error::new(
            ErrorKind::Unsupported,
            "this driver or server cannot make a write depend on a lock (nats-server 2.11 can)",
        );
        return Err(slot.explain(error));
    }
    loop {
        if !held.is_held() {
            return Err(not_held());
        }
        let revision = held.revision();
        let lock = held.slot().key();
        let condition = Condition::Held { lock, revision };
        match slot.write(change.clone(), condition, deadline).await {
            Err(error) if error.is_conflict() => {
                // A renewal may have been under way, and its answer still is.
                let renewed = within(deadline, held.settled()).await;
                renewed.map_err(|_| error.with("lock", held.name()))?;
                if held.is_held() && held.revision() == revision {
                    held.lose();
                }
            }
            written => return written,
        }
    }
}
