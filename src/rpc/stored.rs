//! What is kept of a method's responses, as clients read and write it.

mod through;
mod watch;

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

pub use through::{Answer, Origin, Through};
pub use watch::{Change, Changes};

use super::persist::{KeyOf, Place, Shelf, Store, plan};
use super::{Client, Codec, Method};
use crate::call::{Call, Operation, Task};
use crate::deadline::after;
use crate::error::{Error, ErrorKind, Result};
use crate::kv::Entry;

/// How often a read is tried again that met a change of what it read.
const AGAIN: usize = 8;
/// How long a write may take that is given no limit.
const WRITE_TIME: Duration = Duration::from_secs(10);

/// The responses of a method that are kept in one place: [`Client::kv`], [`Client::objects`]. Cheap to
/// clone; keep it, since it remembers that its bucket is there.
///
/// It works without the service: what is read are the bytes of earlier replies, decoded as the
/// method's responses are. A miss is `Ok(None)`; an outage is an error. Reads of a bucket that does not
/// exist are misses and create nothing; writes and watches make it, with what this method says of it.
///
/// Each call takes [`timeout`](Call::timeout); without it, it has the store's own (10 s).
pub struct Stored<Req, Res>(Arc<Inner<Req, Res>>);

struct Inner<Req, Res> {
    client: Client,
    method: Method<Req, Res>,
    /// What is wrong already is told by each call.
    kept: Result<Kept<Req>>,
}

/// The place, and how its keys are made.
struct Kept<Req> {
    shelf: Shelf,
    key: Arc<KeyOf<Req>>,
    client_only: bool,
}

impl Client {
    /// What is kept of a method's responses in its key-value bucket, the first one if it has more.
    ///
    /// # Errors
    /// Those of its calls: `InvalidInput` when the method keeps none there; `Unsupported` when the
    /// client's handle has no such store.
    #[must_use]
    pub fn kv<Req: 'static, Res: 'static>(&self, method: &Method<Req, Res>) -> Stored<Req, Res> {
        let missing = "the method keeps no responses in a key-value bucket; give it \
                       persist(Persist::kv(..))";
        self.stored(method, missing, |place| matches!(place, Place::Kv(_)))
    }

    /// What is kept of a method's responses in its bucket of objects, the first one if it has more.
    ///
    /// # Errors
    /// As [`kv`](Self::kv).
    #[must_use]
    pub fn objects<Req: 'static, Res: 'static>(
        &self,
        method: &Method<Req, Res>,
    ) -> Stored<Req, Res> {
        let missing = "the method keeps no responses in a bucket of objects; give it \
                       persist(Persist::objects(..))";
        self.stored(method, missing, |place| matches!(place, Place::Objects(_)))
    }

    /// The key that the response to this request is kept under, in the first place that the method
    /// has.
    ///
    /// # Errors
    /// `InvalidInput` naming the field that no key can be made of, and for a method that keeps nothing.
    pub fn key<Req: 'static, Res: 'static>(
        &self,
        method: &Method<Req, Res>,
        request: &Req,
    ) -> Result<String> {
        let refused = || {
            let missing = "the method keeps no responses; give it persist(..)";
            Error::new(ErrorKind::InvalidInput, missing)
        };
        let persist = method.0.persist.first().ok_or_else(refused);
        let key = persist.and_then(|persist| (persist.key)(request));
        key.map_err(|error| error.with("method", method.name()))
    }

    fn stored<Req: 'static, Res: 'static>(
        &self,
        method: &Method<Req, Res>,
        missing: &'static str,
        is_meant: impl Fn(&Place) -> bool,
    ) -> Stored<Req, Res> {
        let name = method.name();
        let refused = || Error::new(ErrorKind::InvalidInput, missing).with("method", name);
        let persist = method.0.persist.iter().find(|persist| is_meant(&persist.place));
        let kept = persist.ok_or_else(refused).and_then(|persist| {
            let planned = plan([(name, &persist.place)])?.pop().ok_or_else(refused)?;
            Ok(Kept {
                shelf: Shelf::new(planned, &self.rpc().stores()),
                key: persist.key.clone(),
                client_only: persist.client_only,
            })
        });
        Stored(Arc::new(Inner { client: self.clone(), method: method.clone(), kept }))
    }
}

impl<Req: 'static, Res: Send + 'static> Stored<Req, Res> {
    /// The key that the response to this request is kept under.
    ///
    /// # Errors
    /// `InvalidInput` naming the field that no key can be made of.
    pub fn key(&self, request: &Req) -> Result<String> {
        (self.kept()?.key)(request).map_err(|error| self.explain(error))
    }

    /// The response under a key; `None` when there is none.
    ///
    /// # Errors
    /// `Decode` when what is stored is no response of the method; what the store says: `Unavailable`
    /// when it does not answer, also because JetStream is off, `Timeout`, `Unauthorized`,
    /// `InvalidInput` for a key that cannot be.
    pub fn get(&self, key: impl Into<String>) -> Call<Task<Result<Option<Res>>>> {
        let key = key.into();
        self.task(|stored, timeout| async move {
            Ok(stored.read(&key, timeout).await?.map(|entry| entry.value))
        })
    }

    /// The response to this request, if it is kept.
    ///
    /// # Errors
    /// As [`get`](Self::get), and [`key`](Self::key).
    pub fn get_for(&self, request: &Req) -> Call<Task<Result<Option<Res>>>> {
        let key = self.key(request);
        self.task(|stored, timeout| async move {
            Ok(stored.read(&key?, timeout).await?.map(|entry| entry.value))
        })
    }

    /// The response under a key with its revision and its age.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn entry(&self, key: impl Into<String>) -> Call<Task<Result<Option<Entry<Res>>>>> {
        let key = key.into();
        self.task(|stored, timeout| async move { stored.read(&key, timeout).await })
    }

    /// Stores a response under a key, whoever wrote it before; gives its revision.
    ///
    /// # Errors
    /// `Encode`, `TooLarge`; else as [`get`](Self::get).
    pub fn put(&self, key: impl Into<String>, response: &Res) -> Call<Task<Result<u64>>> {
        let (key, value) = (key.into(), self.encode(response));
        self.task(|stored, timeout| async move {
            let deadline = after(timeout.unwrap_or(WRITE_TIME));
            let kept = stored.kept()?;
            let put = kept.shelf.put(&key, value?, deadline).await;
            put.map_err(|error| stored.explain(error))
        })
    }

    /// Stores the response to this request; gives its revision.
    ///
    /// # Errors
    /// As [`put`](Self::put), and [`key`](Self::key).
    pub fn put_for(&self, request: &Req, response: &Res) -> Call<Task<Result<u64>>> {
        let (key, value) = (self.key(request), self.encode(response));
        self.task(|stored, timeout| async move {
            let deadline = after(timeout.unwrap_or(WRITE_TIME));
            let kept = stored.kept()?;
            let put = kept.shelf.put(&key?, value?, deadline).await;
            put.map_err(|error| stored.explain(error))
        })
    }

    /// Stores a response only while `revision` is the key's, as [`entry`](Self::entry) tells it, or 0
    /// for a key that never had a value; gives the new one. In key-value buckets only.
    ///
    /// # Errors
    /// `Conflict` when somebody else wrote it; `Unsupported` for objects; else as [`put`](Self::put).
    pub fn put_if(
        &self,
        key: impl Into<String>,
        response: &Res,
        revision: u64,
    ) -> Call<Task<Result<u64>>> {
        let (key, value) = (key.into(), self.encode(response));
        self.task(move |stored, timeout| async move {
            let deadline = after(timeout.unwrap_or(WRITE_TIME));
            let kept = stored.kept()?;
            let store = kept.shelf.open(deadline).await.map_err(|error| stored.explain(error))?;
            match store {
                Store::Kv(kv) => {
                    let put = kv.set_raw(key, value?).if_revision(revision);
                    put.timeout(deadline.saturating_duration_since(Instant::now())).await
                }
                Store::Objects(_) => Err(Error::new(
                    ErrorKind::Unsupported,
                    "objects cannot be replaced on a condition; keep the responses in a key-value \
                     bucket",
                )),
            }
            .map_err(|error| stored.explain(error))
        })
    }

    /// Deletes what is kept under a key; also right when there is nothing.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn delete(&self, key: impl Into<String>) -> Call<Task<Result<()>>> {
        let key = key.into();
        self.task(|stored, timeout| async move {
            let deleted = match stored.kept()?.shelf.store()? {
                Store::Kv(kv) => limited(kv.delete(key), timeout).await,
                Store::Objects(objects) => limited(objects.delete(key), timeout).await.map(drop),
            };
            deleted.map_err(|error| stored.explain(error))
        })
    }

    /// What a key-value bucket remembers of a key, oldest first: as many responses as it keeps
    /// ([`BucketConfig::history`](crate::kv::BucketConfig::history)), and deletes.
    ///
    /// # Errors
    /// `Unsupported` for objects; else as [`get`](Self::get).
    pub fn history(&self, key: impl Into<String>) -> Call<Task<Result<Vec<Change<Res>>>>> {
        let key = key.into();
        self.task(|stored, timeout| async move {
            let events = match stored.kept()?.shelf.store()? {
                Store::Kv(kv) => limited(kv.history(key), timeout).await,
                Store::Objects(_) => Err(Error::new(
                    ErrorKind::Unsupported,
                    "objects have no history; keep the responses in a key-value bucket",
                )),
            };
            let events = events.map_err(|error| stored.explain(error))?;
            events.into_iter().map(|event| stored.change(event)).collect()
        })
    }

    fn kept(&self) -> Result<&Kept<Req>> {
        self.0.kept.as_ref().map_err(|error| self.explain(error.again()))
    }

    fn encode(&self, response: &Res) -> Result<Bytes> {
        self.0.method.0.response.encode(response).map_err(|error| self.explain(error))
    }

    fn codec(&self) -> &Arc<dyn Codec<Res>> {
        &self.0.method.0.response
    }

    fn decode(&self, key: &str, bytes: &Bytes) -> Result<Res> {
        self.codec().decode(bytes).map_err(|error| {
            let place = self.0.kept.as_ref().ok().map(|kept| kept.shelf.place().bucket());
            self.explain(error.with("bucket", place.unwrap_or_default()).with("key", key))
        })
    }

    async fn read(&self, key: &str, timeout: Option<Duration>) -> Result<Option<Entry<Res>>> {
        let read = self.read_raw(key, timeout).await.map_err(|error| self.explain(error))?;
        let Some(Entry { value, revision, created, expires }) = read else { return Ok(None) };
        Ok(Some(Entry { value: self.decode(key, &value)?, revision, created, expires }))
    }

    async fn read_raw(&self, key: &str, timeout: Option<Duration>) -> Result<Option<Entry<Bytes>>> {
        let objects = match self.kept()?.shelf.store()? {
            Store::Kv(kv) => return limited(kv.entry_raw(key), timeout).await,
            Store::Objects(objects) => objects,
        };
        let read = || async {
            let Some(reader) = objects.reader(key).await? else { return Ok(None) };
            let (revision, created) = (reader.info().revision, reader.info().modified);
            let value = reader.read_all().await?;
            Ok(Some(Entry { value, revision, created, expires: None }))
        };
        let read = async {
            for _ in 0..AGAIN {
                match read().await {
                    // Replaced while it was read: the new one is as good.
                    Err(error) if Error::is_conflict(&error) => {}
                    read => return read,
                }
            }
            read().await
        };
        match timeout {
            None => read.await,
            Some(limit) => crate::deadline::within(limit, read).await.unwrap_or_else(|_| {
                let text = "the object was not read within the time limit";
                Err(Error::new(ErrorKind::Timeout, text).with("key", key))
            }),
        }
    }

    /// Says which method an error is about.
    fn explain(&self, error: Error) -> Error {
        error.with("method", self.0.method.name())
    }

    /// A call that works on a clone of this.
    fn task<T, F>(
        &self,
        work: impl FnOnce(Self, Option<Duration>) -> F + Send + 'static,
    ) -> Call<Task<Result<T>>>
    where
        T: 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        let stored = self.clone();
        Task::call(move |timeout| work(stored, timeout))
    }
}

/// A call with a limit, where it has one of its own.
fn limited<O: Operation>(call: Call<O>, timeout: Option<Duration>) -> Call<O> {
    match timeout {
        Some(timeout) => call.timeout(timeout),
        None => call,
    }
}

impl<Req, Res> Clone for Stored<Req, Res> {
    fn clone(&self) -> Self {
        Stored(self.0.clone())
    }
}

impl<Req, Res> fmt::Debug for Stored<Req, Res> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stored")
            .field("method", &self.0.method)
            .field("shelf", &self.0.kept.as_ref().map(|kept| &kept.shelf))
            .finish_non_exhaustive()
    }
}
