//! Changes of a value that is there, by compare-and-set.

use std::time::{Duration, SystemTime};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::write::rewrite;
use crate::call::{Call, Task};
use crate::error::Result;
use crate::kv::Kv;
use crate::kv::driver::{Change, Condition, Consistency, Entry, Expiry, Found};
use crate::kv::retry::Retry;
use crate::kv::slot::{Slot, expiry, expiry_at, same_expiry};

impl Kv {
    /// Takes the value of `key` away and gives it; `None` when there is none. Of many callers at
    /// once one gets it.
    ///
    /// # Errors
    ///
    /// `Decode` when what is stored is no `T`, and then it stays; else as [`set`](Self::set), with
    /// `Conflict` when others kept changing the key until the time limit.
    pub fn take<T: DeserializeOwned + Send + 'static>(
        &self,
        key: impl Into<String>,
    ) -> Call<Task<Result<Option<T>>>> {
        let slot = Slot::new("kv take", self, key.into());
        Task::call(|timeout| async move {
            let slot = slot?;
            let mut value = None;
            let deadline = slot.target.deadline(timeout);
            let taken = rewrite(&slot, deadline, |entry| {
                value = Some(slot.decode(entry)?);
                Ok(Some(Change::Delete))
            });
            let taken = taken.await?;
            Ok(taken.and(value))
        })
    }

    /// Changes the value of `key` to what `change` makes of it, and gives that. `change` gets `None`
    /// when there is no value; when it gives `None`, what is there is deleted. It runs again when
    /// somebody else changed the key meanwhile, so it must have no other effects.
    ///
    /// The lifetime of a value that is there stays as it is.
    ///
    /// # Errors
    ///
    /// `Decode` when what is stored is no `T`; `Conflict` when others kept changing the key until
    /// the time limit; else as [`set`](Self::set).
    pub fn update<T>(
        &self,
        key: impl Into<String>,
        mut change: impl FnMut(Option<T>) -> Option<T> + Send + 'static,
    ) -> Call<Task<Result<Option<T>>>>
    where
        T: Serialize + DeserializeOwned + Send + 'static,
    {
        let slot = Slot::new("kv update", self, key.into());
        Task::call(|timeout| async move {
            let slot = slot?;
            let deadline = slot.target.deadline(timeout);
            let mut retry = Retry::until(deadline);
            loop {
                let found = slot.read(Consistency::Latest, deadline).await?;
                let condition = Condition::Revision(found.revision());
                let (old, expiry) = match &found {
                    Found::Value(entry) => (Some(slot.decode(entry)?), same_expiry(entry)),
                    Found::Nothing { .. } => (None, Expiry::Never),
                };
                let had_value = old.is_some();
                let new = change(old);
                let written = match &new {
                    Some(value) => {
                        let value = slot.target.encode(value);
                        let value = value.map_err(|error| slot.explain(error))?;
                        slot.put(value, expiry, condition, deadline).await
                    }
                    None if had_value => slot.write(Change::Delete, condition, deadline).await,
                    None => return Ok(None),
                };
                match written {
                    Err(error) if error.is_conflict() && retry.pause().await => {}
                    written => return written.map(|_| new),
                }
            }
        })
    }

    /// Lets the value of `key` end at `at`, also when that has passed; `false` when there is no
    /// value. What is more than a hundred years away is cut to that.
    ///
    /// # Errors
    ///
    /// `Unsupported` where the server or the bucket has no lifetimes for keys; else as
    /// [`set`](Self::set).
    pub fn expire(&self, key: impl Into<String>, at: SystemTime) -> Call<Task<Result<bool>>> {
        self.keep("kv expire", key.into(), move |_| Some(expiry_at(at)))
    }

    /// Lets the value of `key` end after `ttl` from now, in place of its earlier lifetime; `false`
    /// when there is no value. The value itself stays as it is, whoever changes it meanwhile. Zero:
    /// as [`persist`](Self::persist).
    ///
    /// # Errors
    ///
    /// As [`expire`](Self::expire).
    pub fn touch(&self, key: impl Into<String>, ttl: Duration) -> Call<Task<Result<bool>>> {
        self.keep("kv touch", key.into(), move |_| Some(expiry(ttl)))
    }

    /// Takes the lifetime of `key` away; `false` when there is no value. The lifetime of a bucket
    /// stays.
    ///
    /// # Errors
    ///
    /// As [`set`](Self::set).
    pub fn persist(&self, key: impl Into<String>) -> Call<Task<Result<bool>>> {
        self.keep("kv persist", key.into(), |entry| entry.expires.map(|_| Expiry::Never))
    }

    /// Writes a value again with another expiry; `None` when it has that already.
    fn keep(
        &self,
        operation: &'static str,
        key: String,
        expiry: impl Fn(&Entry) -> Option<Expiry> + Send + Sync + 'static,
    ) -> Call<Task<Result<bool>>> {
        let slot = Slot::new(operation, self, key);
        Task::call(|timeout| async move {
            let slot = slot?;
            let change = |entry: &Entry| {
                Ok(expiry(entry).map(|expiry| match expiry {
                    Expiry::At(at) if at <= SystemTime::now() => Change::Delete,
                    expiry => Change::Put(entry.value.clone(), expiry),
                }))
            };
            let changed = rewrite(&slot, slot.target.deadline(timeout), change).await?;
            Ok(changed.is_some())
        })
    }
}
