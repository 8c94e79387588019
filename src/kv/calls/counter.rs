//! Counters: integers that many callers change.

use std::time::Duration;

use futures::future::BoxFuture;

use crate::call::{Call, Operation};
use crate::error::Result;
use crate::kv::Kv;
use crate::kv::combine;
use crate::kv::driver::Expiry;
use crate::kv::slot::{Slot, expiry};

/// Adds to an integer: [`Kv::increment`], [`Kv::decrement`].
#[derive(Debug)]
pub struct Increment {
    slot: Result<Slot>,
    by: i128,
    on_create: Expiry,
}

impl Call<Increment> {
    /// Lets a value that this call makes expire after `ttl`, as [`ttl`](Call::<super::Set>::ttl) of
    /// a set. The lifetime of a value that is there stays as it is, so a window of time is not
    /// extended by those who count in it.
    pub fn ttl_on_create(self, ttl: Duration) -> Self {
        self.map_operation(|increment| increment.on_create = expiry(ttl))
    }
}

impl Operation for Increment {
    type Output = Result<i64>;

    fn start(self, timeout: Option<Duration>) -> BoxFuture<'static, Result<i64>> {
        Box::pin(async move {
            let slot = self.slot?;
            let deadline = slot.target.deadline(timeout);
            combine::add(slot, self.by, self.on_create, deadline).await
        })
    }
}

impl Kv {
    /// Adds `by` to the integer of `key`, which starts at 0, and gives the sum. It is stored as the
    /// handle's serializer writes an integer (JSON `5`), so it can be read and set like any value;
    /// its lifetime stays as it is.
    ///
    /// It is a compare-and-set. Calls of one process for one key do not compete: those that wait are
    /// combined into one write, and each gets its own sum, in the order of arrival.
    ///
    /// # Errors
    ///
    /// `Decode` when what is stored is no integer, `InvalidInput` when the sum is out of the range
    /// of `i64`, and then the value stays as it was; `Conflict` when other processes kept changing
    /// the key until the time limit; `Timeout` when it is not known whether the sum was stored;
    /// `Unsupported` for a driver without compare-and-set; else as [`set`](Self::set).
    ///
    /// # Cancel safety
    ///
    /// A call that is dropped while it waits for others is not added; one that is dropped later may
    /// be. Nobody else's call is touched.
    pub fn increment(&self, key: impl Into<String>, by: i64) -> Call<Increment> {
        let slot = Slot::new("kv increment", self, key.into());
        Call::new(Increment { slot, by: by.into(), on_create: Expiry::Never })
    }

    /// Takes `by` from the integer of `key`: [`increment`](Self::increment) the other way.
    ///
    /// # Errors
    ///
    /// As [`increment`](Self::increment).
    pub fn decrement(&self, key: impl Into<String>, by: i64) -> Call<Increment> {
        let slot = Slot::new("kv decrement", self, key.into());
        Call::new(Increment { slot, by: -i128::from(by), on_create: Expiry::Never })
    }
}
