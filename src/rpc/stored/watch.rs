//! What happens to the stored responses of a method.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures::stream::BoxStream;
use futures::{Stream, StreamExt};
use tokio::time::Instant;

use super::{Stored, WRITE_TIME};
use crate::call::{Call, Task};
use crate::deadline::after;
use crate::error::{Error, Result};
use crate::kv::{self, Entry, Glob};
use crate::objects;
use crate::rpc::persist::Store;

/// What happened to a stored response: [`Stored::watch`], [`Stored::history`].
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Change<Res> {
    /// It was stored, or was there at the beginning.
    Put {
        /// Its key.
        key: String,
        /// It, with its revision and age.
        entry: Entry<Res>,
    },
    /// It was deleted, or its lifetime ended.
    Deleted {
        /// Its key.
        key: String,
        /// The revision of the delete.
        revision: u64,
    },
    /// All that was there at the beginning has been told; what follows are changes. It comes once.
    Current,
}

/// The changes of stored responses, in the order of their revisions: [`Stored::watch`]. Dropping it
/// ends the watch.
///
/// What cannot be decoded is one error among them, with its key; the watch goes on. It catches up
/// after a lost connection, and ends when the connector drains and after any other error.
pub struct Changes<Res>(BoxStream<'static, Result<Change<Res>>>);

impl<Req: 'static, Res: Send + 'static> Stored<Req, Res> {
    /// What happens to the responses whose keys fit `pattern` (`*` fits any text, see [`Glob`]): those
    /// that are there, then [`Change::Current`], then every change. Of an object that changes quickly
    /// only the latest may be told. The call ends when the watch has begun; the time limit is for that
    /// alone.
    ///
    /// # Errors
    /// `InvalidInput` for a pattern that is not valid; else as [`put`](Self::put).
    pub fn watch(&self, pattern: impl Into<String>) -> Call<Task<Result<Changes<Res>>>> {
        let pattern = pattern.into();
        self.task(|stored, timeout| async move {
            let deadline = after(timeout.unwrap_or(WRITE_TIME));
            stored.watched(pattern, deadline).await.map_err(|error| stored.explain(error))
        })
    }

    async fn watched(&self, pattern: String, deadline: Instant) -> Result<Changes<Res>> {
        let glob = Glob::new(pattern.as_str())?;
        let store = self.kept()?.shelf.open(deadline).await?;
        let left = deadline.saturating_duration_since(Instant::now());
        let stored = self.clone();
        Ok(Changes(match store {
            Store::Kv(kv) => {
                let events = kv.watch(pattern).timeout(left).await?;
                events.map(move |event| stored.change(event?)).boxed()
            }
            Store::Objects(objects) => {
                let events = objects.watch().timeout(left).await?;
                let meant = move |event: &Result<objects::Event>| {
                    let name = event.as_ref().ok().and_then(objects::Event::name);
                    std::future::ready(name.is_none_or(|name| glob.matches(name)))
                };
                let change = move |event: Result<objects::Event>| {
                    let stored = stored.clone();
                    async move { stored.changed(event).await.transpose() }
                };
                events.filter(meant).filter_map(change).boxed()
            }
        }))
    }

    /// What an event of a key-value bucket tells.
    pub(super) fn change(&self, event: kv::Event) -> Result<Change<Res>> {
        Ok(match event {
            kv::Event::Put(record) => {
                let value = self.decode(&record.key, &record.value)?;
                let kv::Record { key, revision, created, expires, .. } = record;
                Change::Put { key, entry: Entry { value, revision, created, expires } }
            }
            kv::Event::Deleted { key, revision }
            | kv::Event::Purged { key, revision }
            | kv::Event::Expired { key, revision } => Change::Deleted { key, revision },
            kv::Event::Current => Change::Current,
        })
    }

    /// What an event of a bucket of objects tells; nothing where a later one tells more.
    async fn changed(&self, event: Result<objects::Event>) -> Result<Option<Change<Res>>> {
        Ok(Some(match event.map_err(|error: Error| self.explain(error))? {
            objects::Event::Put(info) => match self.read(&info.name, None).await? {
                Some(entry) => Change::Put { key: info.name, entry },
                None => return Ok(None),
            },
            objects::Event::Deleted { name, revision } => Change::Deleted { key: name, revision },
            objects::Event::Current => Change::Current,
        }))
    }
}

impl<Res> Stream for Changes<Res> {
    type Item = Result<Change<Res>>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_next_unpin(cx)
    }
}

impl<Res> fmt::Debug for Changes<Res> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Changes").finish_non_exhaustive()
    }
}
