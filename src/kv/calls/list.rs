//! The keys that there are.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::{self, BoxFuture};
use futures::stream::{self, BoxStream};
use futures::{FutureExt, Stream, StreamExt, TryStreamExt};
use tokio::time::Instant;

use crate::call::{Call, Operation, Task};
use crate::error::{Error, ErrorKind, Result};
use crate::kv::driver::Filter;
use crate::kv::slot::Target;
use crate::kv::{Glob, Kv};

/// Lists keys: [`Kv::keys`], [`Kv::keys_matching`].
#[derive(Debug)]
pub struct Keys {
    what: Result<(Target, Option<Glob>)>,
}

impl Keys {
    pub(in crate::kv) fn new(operation: &'static str, kv: &Kv, glob: Option<String>) -> Self {
        let what = Target::new(operation, kv).and_then(|target| {
            let glob = glob.map(Glob::new).transpose().map_err(|error| target.explain(error))?;
            Ok((target, glob))
        });
        Keys { what }
    }

    /// The keys, as the store gives them.
    pub(in crate::kv) async fn open(
        self,
        timeout: Option<Duration>,
    ) -> Result<BoxStream<'static, Result<String>>> {
        self.open_in(timeout).await.map(|(_, _, keys)| keys)
    }

    /// As [`open`](Self::open), with what belongs to the call: where it goes, and until when.
    pub(in crate::kv) async fn open_in(
        self,
        timeout: Option<Duration>,
    ) -> Result<(Target, Instant, BoxStream<'static, Result<String>>)> {
        let (target, glob) = self.what?;
        let filter = Filter { prefix: target.prefix(), glob: glob.as_ref() };
        let deadline = target.deadline(timeout);
        let listed = target.store.driver.list(&target.bucket, filter, deadline).await;
        let listed = listed.map_err(|error| target.explain(error))?;
        let keys = listed
            .try_filter(move |key| future::ready(glob.as_ref().is_none_or(|g| g.matches(key))))
            .map_err({
                let target = target.clone();
                move |error| target.explain(error)
            });
        Ok((target, deadline, keys.boxed()))
    }
}

impl Operation for Keys {
    type Output = Result<Vec<String>>;

    fn start(self, timeout: Option<Duration>) -> BoxFuture<'static, Result<Vec<String>>> {
        Box::pin(async move { self.open(timeout).await?.try_collect().await })
    }
}

impl Call<Keys> {
    /// The keys one by one, in place of all at once: what waits in memory is bounded, however many
    /// there are. It starts when it is first polled, and an error ends it.
    ///
    /// The time limit is for the whole listing, with what the caller does in between: give it a
    /// longer [`timeout`](Call::timeout) where that takes its time. Dropping it ends the listing.
    #[must_use = "streams do nothing unless polled"]
    pub fn stream(self) -> KeyStream {
        let (keys, timeout) = self.into_parts();
        let opened = async move {
            match keys {
                Some(keys) => keys.open(timeout).await,
                None => Err(already_started()),
            }
        };
        KeyStream(stream::once(opened.boxed()).try_flatten().boxed())
    }
}

/// A call that was polled is no stream any more.
pub(super) fn already_started() -> Error {
    Error::new(ErrorKind::InvalidInput, "the call has started already")
}

/// Keys one by one, each once, in no order: [`Call::stream`].
pub struct KeyStream(BoxStream<'static, Result<String>>);

impl Stream for KeyStream {
    type Item = Result<String>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_next_unpin(cx)
    }
}

impl fmt::Debug for KeyStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyStream").finish_non_exhaustive()
    }
}

impl Kv {
    /// The keys of the bucket under the handle's prefix, without it, each once, in no order; none
    /// when the bucket does not exist. [`stream`](Call::stream) gives them one by one.
    ///
    /// A key that is written or deleted meanwhile may be there or not; every other key that has a
    /// value is. A copy of the bucket that lags behind by a moment may answer. The keys of
    /// [locks](Self::lock) in this bucket and prefix, `lock:<name>`, are told too; give locks a bucket
    /// or a prefix of their own.
    ///
    /// # Errors
    ///
    /// As [`set`](Self::set).
    pub fn keys(&self) -> Call<Keys> {
        Call::new(Keys::new("kv keys", self, None))
    }

    /// As [`keys`](Self::keys), those that fit `glob`: see [`Glob`].
    ///
    /// # Errors
    ///
    /// On await, `InvalidInput` for a pattern that is not valid; else as [`set`](Self::set).
    pub fn keys_matching(&self, glob: impl Into<String>) -> Call<Keys> {
        Call::new(Keys::new("kv keys", self, Some(glob.into())))
    }

    /// How many keys of the bucket have a value under the handle's prefix. They are listed for it.
    ///
    /// # Errors
    ///
    /// As [`set`](Self::set).
    pub fn item_count(&self) -> Call<Task<Result<u64>>> {
        let keys = Keys::new("kv item count", self, None);
        Task::call(|timeout| async move {
            let keys = keys.open(timeout).await?;
            keys.try_fold(0, |n, _| future::ready(Ok(n + 1))).await
        })
    }
}
