//! Several keys in one call, each with its own result.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{StreamExt, stream};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::call::{Call, Operation, Task};
use crate::error::{Error, ErrorKind, Result};
use crate::kv::driver::{Change, Condition, Consistency, Expiry, Found, Value, Write};
use crate::kv::slot::{Target, expiry};
use crate::kv::{Key, Kv};

/// How many writes of one call are under way at a time.
pub(super) const WINDOW: usize = 256;

/// What came of a call for several keys: each key with its own result.
///
/// [`all`](Self::all) is for who needs every one of them; who can do with some goes through them:
///
/// ```
/// # use nats_connector::kv::Kv;
/// # async fn example() -> nats_connector::Result<()> {
/// let kv = Kv::memory();
/// kv.set_many([("a", &1), ("b", &2)]).await?.all()?;
///
/// let values: Vec<Option<u32>> = kv.get_many(["a", "none", "b"]).await?.all()?;
/// assert_eq!(values, [Some(1), None, Some(2)]);
///
/// for (key, value) in kv.get_many::<u32>(["a", "b"]).await? {
///     match value {
///         Ok(value) => println!("{key}: {value:?}"),
///         Err(error) => eprintln!("{error}"), // names the key
///     }
/// }
/// # Ok(())
/// # }
/// # tokio::runtime::Runtime::new().unwrap().block_on(example()).unwrap();
/// ```
#[derive(Debug)]
#[must_use = "some keys may have failed: `all` gives the first error"]
pub struct Many<T>(Vec<(String, Result<T>)>);

impl<T> Many<T> {
    /// Everything, in the order of the keys, or the first error; it names its key, and in `failed`
    /// how many there are: `3 of 10`.
    ///
    /// # Errors
    ///
    /// That of the first key that failed.
    pub fn all(self) -> Result<Vec<T>> {
        let failed = format!("{} of {}", self.failures().count(), self.len());
        let result: Result<Vec<T>> = self.0.into_iter().map(|(_, result)| result).collect();
        result.map_err(|error| error.with("failed", failed))
    }

    /// The keys that failed, with their errors.
    pub fn failures(&self) -> impl Iterator<Item = (&str, &Error)> {
        self.iter().filter_map(|(key, result)| Some((key, result.as_ref().err()?)))
    }

    /// Each key with its result.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Result<T>)> {
        self.0.iter().map(|(key, result)| (key.as_str(), result))
    }

    /// How many keys there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether the call was for no key.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<T> Many<Option<T>> {
    /// The values that there are, by their keys, or the first error.
    ///
    /// # Errors
    ///
    /// As [`all`](Self::all).
    pub fn found(self) -> Result<HashMap<String, T>> {
        let keys: Vec<String> = self.0.iter().map(|(key, _)| key.clone()).collect();
        let values = self.all()?;
        Ok(keys.into_iter().zip(values).filter_map(|(key, value)| Some((key, value?))).collect())
    }
}

impl<T> IntoIterator for Many<T> {
    type Item = (String, Result<T>);
    type IntoIter = std::vec::IntoIter<Self::Item>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

/// Reads several keys: [`Kv::get_many`], [`Kv::get_many_raw`].
pub struct ReadMany<T> {
    target: Result<Target>,
    keys: Vec<String>,
    consistency: Consistency,
    decode: Decode<T>,
}

/// What is made of a stored value.
pub(super) type Decode<T> = fn(&Target, &Value) -> Result<T>;

pub(super) fn typed<T: DeserializeOwned>(target: &Target, value: &Value) -> Result<T> {
    target.decode(value)
}

#[expect(clippy::unnecessary_wraps, reason = "as a `Decode`")]
fn raw(_: &Target, value: &Value) -> Result<Bytes> {
    Ok(value.bytes.clone())
}

impl<T: Send + 'static> ReadMany<T> {
    fn call<K: Into<String>>(
        kv: &Kv,
        keys: impl IntoIterator<Item = K>,
        decode: Decode<T>,
    ) -> Call<Self> {
        let target = Target::new("kv get many", kv);
        let keys = keys.into_iter().map(Into::into).collect();
        Call::new(ReadMany { target, keys, consistency: Consistency::Any, decode })
    }
}

impl<T: Send + 'static> Call<ReadMany<T>> {
    /// As [`consistent`](Call::<super::Read<T>>::consistent) of a get. Takes longer: a bucket's
    /// leader gives one value at a time.
    pub fn consistent(self) -> Self {
        self.map_operation(|read| read.consistency = Consistency::Latest)
    }
}

impl<T: Send + 'static> Operation for ReadMany<T> {
    type Output = Result<Many<Option<T>>>;

    fn start(self, timeout: Option<Duration>) -> BoxFuture<'static, Self::Output> {
        Box::pin(async move {
            let ReadMany { target, keys, consistency, decode } = self;
            let target = target?;
            let deadline = target.deadline(timeout);
            Ok(Many(read(&target, keys, consistency, deadline, decode).await))
        })
    }
}

impl<T> fmt::Debug for ReadMany<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadMany")
            .field("target", &self.target)
            .field("keys", &self.keys.len())
            .field("consistency", &self.consistency)
            .finish_non_exhaustive()
    }
}

/// Reads keys, each with its own result, in their order.
pub(super) async fn read<T>(
    target: &Target,
    names: Vec<String>,
    consistency: Consistency,
    deadline: tokio::time::Instant,
    decode: Decode<T>,
) -> Vec<(String, Result<Option<T>>)> {
    if names.is_empty() {
        return Vec::new();
    }
    let keys: Vec<Key<'_>> = names.iter().map(|name| target.key(name)).collect();
    let Target { store, scope, bucket, .. } = target;
    let found = store.read_many(scope.near.as_deref(), bucket, &keys, consistency, deadline).await;
    let value = |found: Found| found.entry().map(|entry| decode(target, &entry.value)).transpose();
    let results = names.into_iter().zip(found).map(|(name, found)| {
        let result = found.and_then(value).map_err(|error| target.explain_key(error, &name));
        (name, result)
    });
    results.collect()
}

/// Stores several values: [`Kv::set_many`].
#[derive(Debug)]
pub struct SetMany {
    target: Result<Target>,
    values: Vec<(String, Result<Value>)>,
    expiry: Expiry,
}

impl Call<SetMany> {
    /// Lets each of the values expire after `ttl`, as [`ttl`](Call::<super::Set>::ttl) of a set.
    pub fn ttl(self, ttl: Duration) -> Self {
        self.map_operation(|set| set.expiry = expiry(ttl))
    }
}

impl Operation for SetMany {
    type Output = Result<Many<u64>>;

    fn start(self, timeout: Option<Duration>) -> BoxFuture<'static, Self::Output> {
        Box::pin(async move {
            let SetMany { target, values, expiry } = self;
            let target = target?;
            let deadline = target.deadline(timeout);
            let values = last_of_each(values).into_iter().map(|(key, value)| {
                let target = &target;
                async move {
                    let written = match value {
                        Ok(value) => {
                            let change = Change::Put(value, expiry);
                            write(target, &key, change, deadline).await
                        }
                        Err(error) => Err(target.explain_key(error, &key)),
                    };
                    (key, written)
                }
            });
            Ok(Many(pipelined(values).await))
        })
    }
}

/// Runs futures, a window of them at a time; their results are in order.
async fn pipelined<F: Future>(futures: impl Iterator<Item = F>) -> Vec<F::Output> {
    stream::iter(futures).buffered(WINDOW).collect().await
}

/// Changes a key, whatever its revision is.
pub(super) async fn write(
    target: &Target,
    key: &str,
    change: Change,
    deadline: tokio::time::Instant,
) -> Result<u64> {
    let write = Write { key: target.key(key), change, condition: Condition::Always };
    let written = if key.is_empty() {
        Err(Error::new(ErrorKind::InvalidInput, "the key is empty"))
    } else {
        target.store.write(&target.bucket, write, deadline).await
    };
    written.map_err(|error| target.explain_key(error, key))
}

/// Each key once, with what came last for it: writes of one call are under way together.
fn last_of_each<T>(pairs: Vec<(String, T)>) -> Vec<(String, T)> {
    let mut seen = HashSet::with_capacity(pairs.len());
    let last: Vec<bool> = pairs.iter().rev().map(|(key, _)| seen.insert(key.as_str())).collect();
    let last = last.into_iter().rev();
    pairs.into_iter().zip(last).filter_map(|(pair, is_last)| is_last.then_some(pair)).collect()
}

impl Kv {
    /// The values of `keys`, in their order: each key has its own result. On NATS many of them come
    /// with one answer, from nats-server 2.11 on.
    ///
    /// # Errors
    ///
    /// Those of single keys are in the [`Many`]: as [`get`](Self::get). The call itself fails only
    /// when nothing could be asked, for a bucket name that cannot be, say.
    pub fn get_many<T: DeserializeOwned + Send + 'static>(
        &self,
        keys: impl IntoIterator<Item = impl Into<String>>,
    ) -> Call<ReadMany<T>> {
        ReadMany::call(self, keys, typed)
    }

    /// As [`get_many`](Self::get_many), with the bytes as they are stored.
    pub fn get_many_raw(
        &self,
        keys: impl IntoIterator<Item = impl Into<String>>,
    ) -> Call<ReadMany<Bytes>> {
        ReadMany::call(self, keys, raw)
    }

    /// Stores several values, up to 256 writes under way at a time; gives each one's revision. Of a
    /// key that is there more than once the last value is stored.
    ///
    /// Each value is stored or not for itself; [`transaction`](Self::transaction) is for all or
    /// none.
    ///
    /// # Errors
    ///
    /// Those of single keys are in the [`Many`]: as [`set`](Self::set).
    pub fn set_many<'v, K: Into<String>, T: Serialize + ?Sized + 'v>(
        &self,
        values: impl IntoIterator<Item = (K, &'v T)>,
    ) -> Call<SetMany> {
        let target = Target::new("kv set many", self);
        let values = match &target {
            Ok(target) => {
                let encoded = |(key, value): (K, &T)| (key.into(), target.encode(value));
                values.into_iter().map(encoded).collect()
            }
            Err(_) => Vec::new(),
        };
        Call::new(SetMany { target, values, expiry: Expiry::Never })
    }

    /// Deletes several keys, up to 256 at a time; also right where there is nothing.
    ///
    /// # Errors
    ///
    /// Those of single keys are in the [`Many`]: as [`delete`](Self::delete).
    pub fn delete_many(
        &self,
        keys: impl IntoIterator<Item = impl Into<String>>,
    ) -> Call<Task<Result<Many<()>>>> {
        let target = Target::new("kv delete many", self);
        let keys = keys.into_iter().map(|key| (key.into(), ())).collect();
        Task::call(move |timeout| async move {
            let target = target?;
            let deadline = target.deadline(timeout);
            let deletes = last_of_each(keys).into_iter().map(|(key, ())| {
                let target = &target;
                async move {
                    let deleted = write(target, &key, Change::Delete, deadline).await;
                    (key, deleted.map(drop))
                }
            });
            Ok(Many(pipelined(deletes).await))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_of_each_is_kept_in_order() {
        let pairs = [("a", 1), ("b", 2), ("a", 3), ("c", 4), ("b", 5)];
        let pairs = pairs.map(|(key, n)| (key.to_owned(), n)).to_vec();
        let expected = [("a", 3), ("c", 4), ("b", 5)].map(|(key, n)| (key.to_owned(), n));
        assert_eq!(last_of_each(pairs), expected);
    }
}
