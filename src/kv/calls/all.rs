//! All keys of a handle, or those that fit a pattern: read, deleted, purged.

use std::collections::HashMap;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::{self, BoxFuture};
use futures::stream::{self, BoxStream};
use futures::{Stream, StreamExt, TryStreamExt};
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use super::batch::{self, Decode, WINDOW};
use super::list::{Keys, already_started};
use crate::call::{Call, Operation, Task};
use crate::error::Result;
use crate::kv::Kv;
use crate::kv::driver::{Change, Consistency};
use crate::kv::slot::Target;

/// How many keys are read with one call of the driver, and how many of those are under way.
const CHUNK: usize = 512;
const CHUNKS: usize = 4;

/// Reads all keys: [`Kv::get_all`], [`Kv::get_all_matching`].
pub struct GetAll<T> {
    keys: Keys,
    consistency: Consistency,
    decode: Decode<T>,
}

impl<T: Send + 'static> Call<GetAll<T>> {
    /// As [`consistent`](Call::<super::Read<T>>::consistent) of a get, for each value.
    pub fn consistent(self) -> Self {
        self.map_operation(|all| all.consistency = Consistency::Latest)
    }

    /// The pairs one by one, in no order, instead of a map of all of them: at most a few thousand
    /// are in memory at a time.
    ///
    /// The time limit is for the whole stream, so one that is read slowly needs a longer
    /// [`timeout`](Call::timeout). It starts with the first poll.
    #[must_use = "streams do nothing unless polled"]
    pub fn stream(self) -> Pairs<T> {
        let (all, timeout) = self.into_parts();
        match all {
            Some(all) => all.stream(timeout),
            None => Pairs(stream::once(future::err(already_started())).boxed()),
        }
    }
}

impl<T: Send + 'static> GetAll<T> {
    fn call(kv: &Kv, glob: Option<String>, decode: Decode<T>) -> Call<Self> {
        let keys = Keys::new("kv get all", kv, glob);
        Call::new(GetAll { keys, consistency: Consistency::Any, decode })
    }

    fn stream(self, timeout: Option<Duration>) -> Pairs<T> {
        let GetAll { keys, consistency, decode } = self;
        let begin = async move {
            let (target, deadline, names) = keys.open_in(timeout).await?;
            let reads = names.chunks(CHUNK).map(move |names| {
                let target = target.clone();
                async move { read(&target, names, consistency, deadline, decode).await }
            });
            Ok(reads.buffer_unordered(CHUNKS).flat_map(stream::iter))
        };
        Pairs(stream::once(begin).try_flatten().boxed())
    }
}

impl<T: Send + 'static> Operation for GetAll<T> {
    type Output = Result<HashMap<String, T>>;

    fn start(self, timeout: Option<Duration>) -> BoxFuture<'static, Self::Output> {
        Box::pin(self.stream(timeout).try_collect())
    }
}

impl<T> fmt::Debug for GetAll<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GetAll")
            .field("keys", &self.keys)
            .field("consistency", &self.consistency)
            .finish_non_exhaustive()
    }
}

/// Keys with their values, one by one: [`stream`](Call::<GetAll<T>>::stream).
///
/// A value that is no `T` is an error in its place, and the stream goes on.
#[must_use = "streams do nothing unless polled"]
pub struct Pairs<T>(BoxStream<'static, Result<(String, T)>>);

impl<T> Stream for Pairs<T> {
    type Item = Result<(String, T)>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.as_mut().poll_next(cx)
    }
}

impl<T> fmt::Debug for Pairs<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pairs").finish_non_exhaustive()
    }
}

/// Reads listed keys. One that is gone meanwhile is left out.
async fn read<T>(
    target: &Target,
    names: Vec<Result<String>>,
    consistency: Consistency,
    deadline: Instant,
    decode: Decode<T>,
) -> Vec<Result<(String, T)>> {
    let mut failures = Vec::new();
    let keys = names.into_iter().filter_map(|name| match name {
        Ok(name) => Some(name),
        Err(error) => {
            failures.push(Err(error));
            None
        }
    });
    let read = batch::read(target, keys.collect(), consistency, deadline, decode).await;
    let values = read.into_iter().filter_map(|(key, found)| match found {
        Ok(value) => Some(Ok((key, value?))),
        Err(error) => Some(Err(error)),
    });
    values.chain(failures).collect()
}

/// Changes all keys in a scope; gives how many there were.
fn change_all(keys: Keys, change: Change) -> Call<Task<Result<u64>>> {
    Task::call(move |timeout| async move {
        let (target, deadline, names) = keys.open_in(timeout).await?;
        let changes = names.map(|name| {
            let (target, change) = (&target, change.clone());
            async move { batch::write(target, &name?, change, deadline).await }
        });
        let mut changes = changes.buffer_unordered(WINDOW);
        let (mut done, mut failed) = (0, None);
        while let Some(changed) = changes.next().await {
            match changed {
                Ok(_) => done += 1,
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        failed.map_or(Ok(done), |error| Err(error.with("done", done.to_string())))
    })
}

impl Kv {
    /// All keys of this handle, which is scoped to its bucket and prefix, with their values.
    ///
    /// A key that is deleted meanwhile is left out. It is not one moment's picture: each value is
    /// as it was when it was read. The keys of [locks](Self::lock) in this bucket and prefix are read
    /// too; give locks a bucket or a prefix of their own.
    ///
    /// # Errors
    ///
    /// `Decode`, naming the key, when a value is no `T`; else as [`get`](Self::get).
    pub fn get_all<T: DeserializeOwned + Send + 'static>(&self) -> Call<GetAll<T>> {
        GetAll::call(self, None, batch::typed)
    }

    /// As [`get_all`](Self::get_all), for the keys that fit a pattern of [`Glob`](crate::kv::Glob): `user:*`.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for a pattern that cannot be; else as [`get_all`](Self::get_all).
    pub fn get_all_matching<T: DeserializeOwned + Send + 'static>(
        &self,
        glob: impl Into<String>,
    ) -> Call<GetAll<T>> {
        GetAll::call(self, Some(glob.into()), batch::typed)
    }

    /// Deletes the keys that fit a pattern of [`Glob`](crate::kv::Glob), up to 256 at a time; gives how many.
    ///
    /// A key that is made meanwhile may stay. Watchers see each delete.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for a pattern that cannot be. Else that of the first key that failed, with
    /// the number of those that were deleted as `done`; the others are tried all the same.
    pub fn delete_matching(&self, glob: impl Into<String>) -> Call<Task<Result<u64>>> {
        let keys = Keys::new("kv delete matching", self, Some(glob.into()));
        change_all(keys, Change::Delete)
    }

    /// Purges all keys of this handle, which is scoped to its bucket and prefix; gives how many.
    /// What lies outside the prefix, and the bucket itself, stays. [Locks](Self::lock) that are held in
    /// this bucket and prefix are lost; give locks a bucket or a prefix of their own.
    ///
    /// # Errors
    ///
    /// As [`delete_matching`](Self::delete_matching).
    pub fn flush(&self) -> Call<Task<Result<u64>>> {
        change_all(Keys::new("kv flush", self, None), Change::Purge)
    }
}
