//! What happens to keys: as it happens, and what the bucket remembers of it.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt};
use serde::de::DeserializeOwned;

use crate::call::{Call, Operation, Task};
use crate::error::Result;
use crate::kv::driver::{Entry, Filter, Signal, Update, Value, What};
use crate::kv::slot::{Slot, Target};
use crate::kv::{Glob, Kv};
use crate::metrics::KvOperation;

/// What happened: [`Kv::watch`], [`Kv::history`].
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Event {
    /// A value was stored, or was there at the beginning.
    Put(Record),
    /// A value was deleted.
    Deleted {
        /// Its key.
        key: String,
        /// The revision of the delete.
        revision: u64,
    },
    /// A value was deleted with its history.
    Purged {
        /// Its key.
        key: String,
        /// The revision of the purge.
        revision: u64,
    },
    /// The lifetime of a value, or the bucket's, ended.
    Expired {
        /// Its key.
        key: String,
        /// The revision of the end.
        revision: u64,
    },
    /// All values that were there at the beginning have been told; what follows are changes. It
    /// comes once, also for an empty bucket.
    Current,
}

impl Event {
    /// The key that it is about; `None` for [`Current`](Self::Current).
    #[must_use]
    pub fn key(&self) -> Option<&str> {
        match self {
            Event::Put(Record { key, .. })
            | Event::Deleted { key, .. }
            | Event::Purged { key, .. }
            | Event::Expired { key, .. } => Some(key),
            Event::Current => None,
        }
    }

    /// Its revision; `None` for [`Current`](Self::Current).
    #[must_use]
    pub fn revision(&self) -> Option<u64> {
        match *self {
            Event::Put(Record { revision, .. })
            | Event::Deleted { revision, .. }
            | Event::Purged { revision, .. }
            | Event::Expired { revision, .. } => Some(revision),
            Event::Current => None,
        }
    }

    fn of(target: &Arc<Target>, update: Update) -> Self {
        let Update { key, revision, what } = update;
        match what {
            What::Put(entry) => {
                let Entry { value, created, ends, .. } = entry;
                let Value { bytes, content_type } = value;
                Event::Put(Record {
                    key,
                    value: bytes,
                    revision,
                    created,
                    expires: ends,
                    content_type,
                    target: target.clone(),
                })
            }
            What::Deleted => Event::Deleted { key, revision },
            What::Purged => Event::Purged { key, revision },
            What::Expired => Event::Expired { key, revision },
        }
    }
}

/// A value that was stored under a key. Its `Debug` form tells the size, not the bytes.
#[derive(Clone)]
#[non_exhaustive]
pub struct Record {
    /// The key, without the handle's prefix.
    pub key: String,
    /// The bytes as they are stored.
    pub value: Bytes,
    /// Grows with every write to the bucket.
    pub revision: u64,
    /// When it was stored, where the store knows.
    pub created: Option<SystemTime>,
    /// When it ends, by its own lifetime or the bucket's; `None` for never.
    pub expires: Option<SystemTime>,
    content_type: Option<String>,
    target: Arc<Target>,
}

impl Record {
    /// The value, read with the serializer that wrote it, as [`Kv::get`] does.
    ///
    /// # Errors
    ///
    /// `Decode` when it is no `T`, naming bucket and key.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T> {
        let mut value = Value::new(self.value.clone());
        value.content_type.clone_from(&self.content_type);
        self.target.decode(&value).map_err(|error| self.target.explain_key(error, &self.key))
    }
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Record")
            .field("key", &self.key)
            .field("len", &self.value.len())
            .field("revision", &self.revision)
            .field("created", &self.created)
            .field("expires", &self.expires)
            .finish_non_exhaustive()
    }
}

/// Begins to watch keys: [`Kv::watch`].
#[derive(Debug)]
pub struct Watch {
    what: Result<(Target, Glob)>,
    updates_only: bool,
}

impl Call<Watch> {
    /// Leaves out the values that are there at the beginning: [`Event::Current`] is the first event.
    /// The store still sends them.
    pub fn updates_only(self) -> Self {
        self.map_operation(|watch| watch.updates_only = true)
    }
}

impl Operation for Watch {
    type Output = Result<Watcher>;

    fn start(self, timeout: Option<Duration>) -> BoxFuture<'static, Result<Watcher>> {
        Box::pin(async move {
            let (target, glob) = self.what?;
            let filter = Filter { prefix: target.prefix(), glob: Some(&glob) };
            let deadline = target.deadline(timeout);
            let signals = target.store.driver.watch(&target.bucket, filter, deadline).await;
            let signals = signals.map_err(|error| target.explain(error))?;
            Ok(Watcher {
                signals: Some(signals),
                target: Arc::new(target),
                glob,
                is_initial: true,
                is_current: false,
                updates_only: self.updates_only,
            })
        })
    }
}

/// What happens to the keys of a bucket, in the order of revisions: [`Kv::watch`]. Dropping it ends
/// the watch.
///
/// A lost connection does not end it: it catches up when the connection is back, and what happened
/// meanwhile is told then, without gaps or duplicates. Of several changes of one key in between the
/// store may remember only the last. A bucket that is deleted and made anew is told anew: what it
/// no longer holds as deleted, then with revisions that start over.
///
/// It ends when the connector drains, and after an error.
pub struct Watcher {
    /// None once it has ended.
    signals: Option<BoxStream<'static, Result<Signal>>>,
    target: Arc<Target>,
    glob: Glob,
    is_initial: bool,
    is_current: bool,
    updates_only: bool,
}

impl Watcher {
    /// Whether all is told that had happened, as far as the stream has been read: false at the
    /// beginning, and again from a lost connection until it has caught up.
    #[must_use]
    pub fn is_current(&self) -> bool {
        self.is_current
    }

    fn take(&mut self, signal: Signal) -> Option<Event> {
        match signal {
            Signal::Update(update) => {
                let left_out = self.updates_only && self.is_initial;
                let told = !left_out && self.glob.matches(&update.key);
                told.then(|| Event::of(&self.target, update))
            }
            Signal::Current => {
                self.is_current = true;
                std::mem::take(&mut self.is_initial).then_some(Event::Current)
            }
            Signal::Lagging | Signal::Reset => {
                self.is_current = false;
                None
            }
        }
    }
}

impl Stream for Watcher {
    type Item = Result<Event>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let watcher = &mut *self;
        while let Some(signals) = &mut watcher.signals {
            let Poll::Ready(next) = signals.poll_next_unpin(cx) else { return Poll::Pending };
            match next {
                Some(Ok(signal)) => {
                    if let Some(event) = watcher.take(signal) {
                        return Poll::Ready(Some(Ok(event)));
                    }
                }
                ended => {
                    watcher.signals = None;
                    watcher.is_current = false;
                    let error = ended.and_then(Result::err);
                    return Poll::Ready(error.map(|error| Err(watcher.target.explain(error))));
                }
            }
        }
        Poll::Ready(None)
    }
}

impl fmt::Debug for Watcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watcher")
            .field("target", &self.target)
            .field("glob", &self.glob)
            .field("is_current", &self.is_current)
            .finish_non_exhaustive()
    }
}

impl Kv {
    /// What happens to the keys that fit `glob` (see [`Glob`]): the values that are there, then
    /// [`Event::Current`], then every change. Makes the bucket if there is none. The call ends when
    /// the watch has begun; the time limit is for that alone.
    ///
    /// # Errors
    ///
    /// On await: `InvalidInput` for a pattern that is not valid; `Unsupported` where the store
    /// cannot tell changes without gaps; else as [`set`](Self::set).
    pub fn watch(&self, glob: impl Into<String>) -> Call<Watch> {
        let what = Target::new("kv watch", self).and_then(|target| {
            let glob = Glob::new(glob).map_err(|error| target.explain(error))?;
            Ok((target, glob))
        });
        Call::new(Watch { what, updates_only: false })
    }

    /// [`watch`](Self::watch) for all keys.
    pub fn watch_all(&self) -> Call<Watch> {
        self.watch("*")
    }

    /// What the bucket remembers of `key`, oldest first: its values and what ended them, as many as
    /// the bucket keeps ([`BucketConfig::history`](crate::kv::BucketConfig::history)).
    ///
    /// # Errors
    ///
    /// `Unsupported` where the store keeps no history; else as [`set`](Self::set).
    pub fn history(&self, key: impl Into<String>) -> Call<Task<Result<Vec<Event>>>> {
        let slot = Slot::new("kv history", self, key.into());
        Task::call(|timeout| async move {
            let slot = slot?;
            let Target { store, bucket, .. } = &slot.target;
            let deadline = slot.target.deadline(timeout);
            let asked = store.metrics.begin(bucket, KvOperation::History);
            let updates = store.driver.history(bucket, slot.key(), deadline).await;
            asked.done(&updates);
            let updates = updates.map_err(|error| slot.explain(error))?;
            let target = Arc::new(slot.target);
            Ok(updates.into_iter().map(|update| Event::of(&target, update)).collect())
        })
    }
}
