//! Writes of one key.

use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use serde::Serialize;
use tokio::time::Instant;

use crate::call::{Call, Operation, Task};
use crate::error::{Error, ErrorKind, Result};
use crate::kv::Kv;
use crate::kv::driver::{Change, Condition, Consistency, Entry, Expiry, Found, Value};
use crate::kv::retry::Retry;
use crate::kv::slot::{Slot, expiry};

/// Stores a value: [`Kv::set`], [`Kv::set_raw`], [`Kv::create`].
#[derive(Debug)]
pub struct Set {
    what: Result<(Slot, Value)>,
    expiry: Expiry,
    when: When,
}

/// When a [`Set`] takes place.
#[derive(Debug, Clone, Copy, PartialEq)]
enum When {
    Always,
    Absent,
    Revision(u64),
}

impl Set {
    fn call(what: Result<(Slot, Value)>, when: When) -> Call<Self> {
        Call::new(Set { what, expiry: Expiry::Never, when })
    }

    fn only(&mut self, when: When) {
        if self.when != When::Always && self.when != when {
            self.what = Err(Error::new(
                ErrorKind::InvalidInput,
                "a write has one condition: if_absent or if_revision",
            )
            .operation("kv set"));
        }
        self.when = when;
    }
}

impl Call<Set> {
    /// Lets the value expire after `ttl`: whole seconds of at least one, a fraction rounds up. Zero,
    /// and a write without this, means never, and clears an earlier lifetime. Longer than a hundred
    /// years is cut to that; longer than the bucket's own lifetime, the value ends with the bucket's.
    ///
    /// On await: `Unsupported` where the server (nats-server 2.11) or the bucket cannot.
    pub fn ttl(self, ttl: Duration) -> Self {
        self.map_operation(|set| set.expiry = expiry(ttl))
    }

    /// Stores it only if the key has no value; else `AlreadyExists`.
    pub fn if_absent(self) -> Self {
        self.map_operation(|set| set.only(When::Absent))
    }

    /// Stores it only while `revision` is the key's; else `Conflict`. 0 means that there is no trace
    /// of the key, not even of a value that was deleted; for "only if it is new" take
    /// [`if_absent`](Self::if_absent) or [`Kv::create`].
    pub fn if_revision(self, revision: u64) -> Self {
        self.map_operation(|set| set.only(When::Revision(revision)))
    }
}

impl Operation for Set {
    type Output = Result<u64>;

    fn start(self, timeout: Option<Duration>) -> BoxFuture<'static, Result<u64>> {
        Box::pin(async move {
            let (slot, value) = self.what?;
            let deadline = slot.target.deadline(timeout);
            match self.when {
                When::Always => slot.put(value, self.expiry, Condition::Always, deadline).await,
                When::Revision(revision) => {
                    let condition = Condition::Revision(revision);
                    slot.put(value, self.expiry, condition, deadline).await
                }
                When::Absent => {
                    let created = create(&slot, &value, self.expiry, deadline).await?;
                    created.map_err(|found| {
                        let error = Error::new(ErrorKind::AlreadyExists, "the key has a value");
                        slot.explain(error.with("revision", found.revision().to_string()))
                    })
                }
            }
        })
    }
}

/// Stores a value where there is none: its revision, or the value that there is.
pub(in crate::kv) async fn create(
    slot: &Slot,
    value: &Value,
    expiry: Expiry,
    deadline: Instant,
) -> Result<Result<u64, Found>> {
    let mut retry = Retry::until(deadline);
    // Most often there is no trace of the key, which takes no read.
    let mut revision = 0;
    loop {
        let condition = Condition::Revision(revision);
        match slot.put(value.clone(), expiry, condition, deadline).await {
            Ok(created) => return Ok(Ok(created)),
            Err(error) if error.is_conflict() => {
                let found = slot.read(Consistency::Latest, deadline).await?;
                if matches!(found, Found::Value(_)) {
                    return Ok(Err(found));
                }
                // Somebody else was faster, and gone again.
                let again = revision != 0 || found.revision() == 0;
                if again && !retry.pause().await {
                    return Err(error);
                }
                revision = found.revision();
            }
            Err(error) => return Err(error),
        }
    }
}

/// Stores a value if the key exists: [`Kv::replace`].
#[derive(Debug)]
pub struct Replace {
    what: Result<(Slot, Value)>,
    expiry: Expiry,
}

impl Call<Replace> {
    /// As [`ttl`](Call::<Set>::ttl) of a set.
    pub fn ttl(self, ttl: Duration) -> Self {
        self.map_operation(|replace| replace.expiry = expiry(ttl))
    }
}

impl Operation for Replace {
    type Output = Result<Option<u64>>;

    fn start(self, timeout: Option<Duration>) -> BoxFuture<'static, Result<Option<u64>>> {
        Box::pin(async move {
            let (slot, value) = self.what?;
            let deadline = slot.target.deadline(timeout);
            let change = |_: &_| Ok(Some(Change::Put(value.clone(), self.expiry)));
            rewrite(&slot, deadline, change).await
        })
    }
}

/// Changes a value that is there by compare-and-set, again until nobody was in between: the revision
/// then. `None` when there is no value; where `change` gives nothing, the value stays as it is.
pub(in crate::kv) async fn rewrite(
    slot: &Slot,
    deadline: Instant,
    mut change: impl FnMut(&Entry) -> Result<Option<Change>>,
) -> Result<Option<u64>> {
    let mut retry = Retry::until(deadline);
    loop {
        let Found::Value(entry) = slot.read(Consistency::Latest, deadline).await? else {
            return Ok(None);
        };
        let Some(change) = change(&entry)? else { return Ok(Some(entry.revision)) };
        let condition = Condition::Revision(entry.revision);
        match slot.write(change, condition, deadline).await {
            Err(error) if error.is_conflict() && retry.pause().await => {}
            written => return written.map(Some),
        }
    }
}

impl Kv {
    /// Stores `value`; gives its revision. Makes the bucket if there is none.
    ///
    /// The value is encoded here, so the call borrows nothing.
    ///
    /// # Errors
    ///
    /// On await: `Encode`; `InvalidInput` and `TooLarge` for a key or bucket that cannot be, and
    /// `TooLarge` for a value above the store's or the bucket's limit, before anything is stored;
    /// else what [`Driver`](crate::kv::Driver) says of every call.
    pub fn set<T: Serialize + ?Sized>(&self, key: impl Into<String>, value: &T) -> Call<Set> {
        Set::call(Slot::with_value("kv set", self, key.into(), value), When::Always)
    }

    /// As [`set`](Self::set), with bytes that are stored as they are.
    pub fn set_raw(&self, key: impl Into<String>, value: impl Into<Bytes>) -> Call<Set> {
        let value = Value::new(value.into());
        Set::call(Slot::new("kv set", self, key.into()).map(|slot| (slot, value)), When::Always)
    }

    /// Stores `value` only if the key has none; the same as [`set`](Self::set) with
    /// [`if_absent`](Call::if_absent).
    ///
    /// # Errors
    ///
    /// `AlreadyExists` when the key has a value; else as [`set`](Self::set).
    pub fn create<T: Serialize + ?Sized>(&self, key: impl Into<String>, value: &T) -> Call<Set> {
        Set::call(Slot::with_value("kv create", self, key.into(), value), When::Absent)
    }

    /// Stores `value` only if the key exists: its new revision, or `None` when there is nothing to
    /// replace.
    ///
    /// Concurrent replaces of one key all succeed, one after the other.
    ///
    /// # Errors
    ///
    /// As [`set`](Self::set); `Conflict` when others kept changing the key until the time limit.
    pub fn replace<T: Serialize + ?Sized>(
        &self,
        key: impl Into<String>,
        value: &T,
    ) -> Call<Replace> {
        let what = Slot::with_value("kv replace", self, key.into(), value);
        Call::new(Replace { what, expiry: Expiry::Never })
    }

    /// Deletes `key`; also right when there is none. In a bucket with history its earlier values
    /// stay there.
    pub fn delete(&self, key: impl Into<String>) -> Call<Task<Result<()>>> {
        remove("kv delete", self, key.into(), Change::Delete, Condition::Always)
    }

    /// Deletes `key` only while `revision` is its revision.
    ///
    /// # Errors
    ///
    /// `Conflict` when it is not.
    pub fn delete_if_revision(
        &self,
        key: impl Into<String>,
        revision: u64,
    ) -> Call<Task<Result<()>>> {
        let condition = Condition::Revision(revision);
        remove("kv delete", self, key.into(), Change::Delete, condition)
    }

    /// Deletes `key` with its history; also right when there is none.
    pub fn purge(&self, key: impl Into<String>) -> Call<Task<Result<()>>> {
        remove("kv purge", self, key.into(), Change::Purge, Condition::Always)
    }
}

fn remove(
    operation: &'static str,
    kv: &Kv,
    key: String,
    change: Change,
    condition: Condition<'static>,
) -> Call<Task<Result<()>>> {
    let slot = Slot::new(operation, kv, key);
    Task::call(move |timeout| async move {
        let slot = slot?;
        slot.write(change, condition, slot.target.deadline(timeout)).await.map(drop)
    })
}
