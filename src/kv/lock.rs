//! Locks: one holder at a time, for as long as it renews its lease.
//!
//! A lock is a key of the bucket, `lock:<name>` under the handle's prefix, with a lifetime: whoever
//! creates it holds it, renews it while it lives, and deletes it in the end. When a holder dies the
//! key expires.

mod guarded;
mod held;
mod locks;

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;

pub use guarded::Guarded;
pub(super) use held::{Grant, Held, patience, read};
pub(crate) use locks::Locks;

use super::Kv;
use super::driver::{Change, Expiry, Value};
use super::slot::Slot;
use crate::call::{Call, Task};
use crate::error::{Error, ErrorKind, Result};

/// Where the lock `name` is kept.
pub(super) fn key_of(name: &str) -> String {
    format!("lock:{name}")
}

/// A lock that is held: [`Kv::lock`]. Dropping it gives the lock back, in the background.
///
/// A task renews its lease at every third of it. When that fails until the lease is over, or somebody
/// deleted the lock, it is lost: [`lost`](Self::lost) resolves, and guarded writes fail.
///
/// No clock can tell a process that it was stopped between looking at its lock and acting on it. What
/// must be done by the holder alone is therefore a guarded write ([`set`](Self::set),
/// [`delete`](Self::delete)): the server refuses it when the lock is not held any more. Other
/// systems can refuse a smaller [`fence`](Self::fence) than the greatest that they have seen.
pub struct LockGuard {
    kv: Kv,
    held: Arc<Held>,
}

impl LockGuard {
    pub(super) fn new(kv: Kv, held: Arc<Held>) -> Self {
        LockGuard { kv, held }
    }

    /// The lock's name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.held.name()
    }

    /// The fencing token: grows with every renewal and from holder to holder, as long as the bucket
    /// is not deleted.
    #[must_use]
    pub fn fence(&self) -> u64 {
        self.held.revision()
    }

    /// Whether it is held, as far as this process knows: neither lost nor released, and within the
    /// lease.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.held.is_held()
    }

    /// Resolves when the lock is held no more, lost or released; at once when it is not.
    pub fn lost(&self) -> impl Future<Output = ()> + Send + 'static {
        let held = self.held.clone();
        async move { held.until_over().await }
    }

    /// Stores `value` under `key` of the same bucket, only while this lock is held; gives its
    /// revision. The server decides.
    ///
    /// # Errors
    ///
    /// `Conflict` when the lock is not held any more; `Unsupported` where the driver (nats-server
    /// 2.11) cannot make a write depend on a lock; `InvalidInput` for the lock's own key; else as
    /// [`Kv::set`].
    pub fn set<T: Serialize + ?Sized>(&self, key: impl Into<String>, value: &T) -> Call<Guarded> {
        let what = Slot::with_value("kv guarded set", &self.kv, key.into(), value);
        let what = what.map(|(slot, value)| (slot, Change::Put(value, Expiry::Never)));
        Guarded::call(self.held.clone(), what)
    }

    /// As [`set`](Self::set), with bytes that are stored as they are.
    pub fn set_raw(&self, key: impl Into<String>, value: impl Into<Bytes>) -> Call<Guarded> {
        let change = Change::Put(Value::new(value.into()), Expiry::Never);
        let slot = Slot::new("kv guarded set", &self.kv, key.into());
        Guarded::call(self.held.clone(), slot.map(|slot| (slot, change)))
    }

    /// Deletes `key` of the same bucket, only while this lock is held; also right when there is none.
    ///
    /// # Errors
    ///
    /// As [`set`](Self::set).
    pub fn delete(&self, key: impl Into<String>) -> Call<Task<Result<()>>> {
        let slot = Slot::new("kv guarded delete", &self.kv, key.into());
        let held = self.held.clone();
        Task::call(move |timeout| async move {
            guarded::write(&held, &slot?, &Change::Delete, timeout).await.map(drop)
        })
    }

    /// Gives the lock back, so that the next holder need not wait for the end of the lease. Right
    /// also when it was lost or released before.
    ///
    /// # Errors
    ///
    /// `Timeout` and `Unavailable`: nobody knows whether it was given back; it ends with its lease at
    /// the latest.
    ///
    /// # Cancel safety
    ///
    /// Begun, it goes on when the call is dropped.
    pub fn release(&self) -> Call<Task<Result<()>>> {
        let slot = self.held.slot().clone();
        let held = self.held.clone();
        Task::call(move |timeout| async move {
            let deadline = slot.target.deadline(timeout);
            held.release(deadline)
                .await
                .map_err(|error| error.operation("kv release").with("lock", held.name()))
        })
    }
}

impl Drop for LockGuard {
    fn drop(&mut self) {
        self.held.begin_release();
    }
}

impl fmt::Debug for LockGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LockGuard")
            .field("name", &self.name())
            .field("fence", &self.fence())
            .field("is_held", &self.is_held())
            .finish_non_exhaustive()
    }
}

/// The lease as it is asked of the server: whole seconds, rounded up.
pub(super) fn whole_lease(lease: Duration) -> Result<Duration> {
    match super::slot::expiry(lease) {
        Expiry::In(lease) => Ok(lease),
        _ => Err(Error::new(ErrorKind::InvalidInput, "a lock's lease is at least 1 s")),
    }
}
