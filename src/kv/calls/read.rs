//! Reads of one key.

use std::fmt;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures::future::BoxFuture;
use serde::de::DeserializeOwned;

use crate::call::{Call, Operation};
use crate::error::Result;
use crate::kv::Kv;
use crate::kv::driver::{self, Consistency};
use crate::kv::slot::Slot;

/// A value with what is known of it: [`Kv::entry`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Entry<T> {
    /// The value.
    pub value: T,
    /// Its revision: grows with every write to the bucket.
    pub revision: u64,
    /// When it was stored, where the store knows.
    pub created: Option<SystemTime>,
    /// When it ends, by its own lifetime or the bucket's; `None` for never.
    pub expires: Option<SystemTime>,
}

impl<T> Entry<T> {
    pub(in crate::kv) fn of(value: T, entry: &driver::Entry) -> Self {
        let driver::Entry { revision, created, ends, .. } = *entry;
        Entry { value, revision, created, expires: ends }
    }
}

/// Reads a key: [`Kv::get`] and its kin.
pub struct Read<T> {
    slot: Result<Slot>,
    consistency: Consistency,
    then: Then<T>,
}

/// A value, if there is one, and when it ends, if it does.
pub(in crate::kv) type WithEnd<T> = Option<(T, Option<SystemTime>)>;

type Then<T> = Box<dyn FnOnce(&Slot, Option<driver::Entry>) -> Result<T> + Send>;

impl<T: 'static> Read<T> {
    fn call(
        operation: &'static str,
        kv: &Kv,
        key: String,
        then: impl FnOnce(&Slot, Option<driver::Entry>) -> Result<T> + Send + 'static,
    ) -> Call<Self> {
        let slot = Slot::new(operation, kv, key);
        Call::new(Read { slot, consistency: Consistency::Any, then: Box::new(then) })
    }
}

impl<T: 'static> Call<Read<T>> {
    /// Sees every write that was acknowledged before, by asking the bucket's leader. Without it any
    /// copy may answer, also one that lags behind by a moment.
    pub fn consistent(self) -> Self {
        self.map_operation(|read| read.consistency = Consistency::Latest)
    }
}

impl<T: 'static> Operation for Read<T> {
    type Output = Result<T>;

    fn start(self, timeout: Option<Duration>) -> BoxFuture<'static, Result<T>> {
        Box::pin(async move {
            let slot = self.slot?;
            let found = slot.read(self.consistency, slot.target.deadline(timeout)).await?;
            (self.then)(&slot, found.entry())
        })
    }
}

impl<T> fmt::Debug for Read<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Read")
            .field("slot", &self.slot)
            .field("consistency", &self.consistency)
            .finish_non_exhaustive()
    }
}

impl Kv {
    /// The value of `key`, or `None` when there is none.
    ///
    /// The read may be served by a copy that lags behind the latest write by a moment; see
    /// [`consistent`](Call::consistent).
    ///
    /// # Errors
    ///
    /// `Decode` when what is stored is no `T`; else as [`set`](Self::set).
    pub fn get<T: DeserializeOwned + 'static>(
        &self,
        key: impl Into<String>,
    ) -> Call<Read<Option<T>>> {
        Read::call("kv get", self, key.into(), |slot, entry| {
            entry.map(|entry| slot.decode(&entry)).transpose()
        })
    }

    /// The bytes of `key` as they are stored, or `None` when there are none.
    pub fn get_raw(&self, key: impl Into<String>) -> Call<Read<Option<Bytes>>> {
        Read::call("kv get", self, key.into(), |_, entry| Ok(entry.map(|entry| entry.value.bytes)))
    }

    /// The value of `key`, or `default` when there is none; not for an outage, nor for a value that
    /// is no `T`.
    pub fn get_or<T: DeserializeOwned + Send + 'static>(
        &self,
        key: impl Into<String>,
        default: T,
    ) -> Call<Read<T>> {
        Read::call("kv get", self, key.into(), |slot, entry| {
            entry.map_or(Ok(default), |entry| slot.decode(&entry))
        })
    }

    /// The value of `key` with its revision, its age and its end.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub fn entry<T: DeserializeOwned + 'static>(
        &self,
        key: impl Into<String>,
    ) -> Call<Read<Option<Entry<T>>>> {
        Read::call("kv entry", self, key.into(), |slot, entry| {
            entry.map(|entry| Ok(Entry::of(slot.decode(&entry)?, &entry))).transpose()
        })
    }

    /// The bytes of `key` with their revision, their age and their end.
    pub fn entry_raw(&self, key: impl Into<String>) -> Call<Read<Option<Entry<Bytes>>>> {
        Read::call("kv entry", self, key.into(), |_, entry| {
            Ok(entry.map(|entry| Entry::of(entry.value.bytes.clone(), &entry)))
        })
    }

    /// The value of `key` and when it ends: `None` for never.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub fn get_with_expiration<T: DeserializeOwned + 'static>(
        &self,
        key: impl Into<String>,
    ) -> Call<Read<WithEnd<T>>> {
        Read::call("kv get", self, key.into(), |slot, entry| {
            entry.map(|entry| Ok((slot.decode(&entry)?, entry.ends))).transpose()
        })
    }

    /// The bytes of `key` and when they end: `None` for never.
    pub fn get_raw_with_expiration(&self, key: impl Into<String>) -> Call<Read<WithEnd<Bytes>>> {
        Read::call("kv get", self, key.into(), |_, entry| {
            Ok(entry.map(|entry| (entry.value.bytes, entry.ends)))
        })
    }

    /// Whether `key` has a value.
    pub fn exists(&self, key: impl Into<String>) -> Call<Read<bool>> {
        Read::call("kv exists", self, key.into(), |_, entry| Ok(entry.is_some()))
    }
}
