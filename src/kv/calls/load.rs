//! Values that are loaded from their source where the store has none.

use std::fmt;
use std::future::Future;
use std::time::Duration;

use futures::future::BoxFuture;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use crate::call::{Call, Operation};
use crate::deadline::within;
use crate::error::{BoxError, Error, ErrorKind, Result};
use crate::kv::Kv;
use crate::kv::driver::{Change, Condition, Consistency, Expiry, Found};
use crate::kv::flights::Flight;
use crate::kv::slot::{Slot, expiry};

/// Reads a key, or loads and stores its value: [`Kv::get_or_load`].
pub struct GetOrLoad<T> {
    slot: Result<Slot>,
    load: Load<T>,
    expiry: Expiry,
}

type Load<T> = Box<dyn FnOnce() -> BoxFuture<'static, Result<T, BoxError>> + Send>;

impl<T: Serialize + DeserializeOwned + Send + 'static> Call<GetOrLoad<T>> {
    /// Lets a value that is loaded expire after `ttl`, as [`ttl`](Call::<super::Set>::ttl) of a set.
    pub fn ttl(self, ttl: Duration) -> Self {
        self.map_operation(|get| get.expiry = expiry(ttl))
    }
}

impl<T: Serialize + DeserializeOwned + Send + 'static> Operation for GetOrLoad<T> {
    type Output = Result<T>;

    fn start(self, timeout: Option<Duration>) -> BoxFuture<'static, Result<T>> {
        Box::pin(async move {
            let GetOrLoad { slot, load, expiry } = self;
            let slot = slot?;
            let deadline = slot.target.deadline(timeout);
            let mut consistency = Consistency::Any;
            loop {
                let found = slot.read(consistency, deadline).await?;
                if let Found::Value(entry) = found {
                    return slot.decode(&entry);
                }
                // What another call stores, no copy may miss.
                consistency = Consistency::Latest;
                // Until one lands, or this call has the right to load.
                loop {
                    let underway = match Flight::begin(&slot) {
                        Ok(flight) => return fill(&slot, load, expiry, flight, deadline).await,
                        Err(underway) => underway,
                    };
                    let landed = within(deadline, underway.end()).await.map_err(|_| {
                        let message = "another call of this process is still loading the value";
                        slot.explain(Error::new(ErrorKind::Timeout, message))
                    })?;
                    if landed {
                        break;
                    }
                }
            }
        })
    }
}

/// Loads a value and stores it, unless the key was written or deleted since before the load began.
async fn fill<T: Serialize + DeserializeOwned>(
    slot: &Slot,
    load: Load<T>,
    expiry: Expiry,
    flight: Flight,
    deadline: Instant,
) -> Result<T> {
    let revision = match slot.read(Consistency::Latest, deadline).await? {
        Found::Value(entry) => {
            flight.land();
            return slot.decode(&entry);
        }
        Found::Nothing { revision } => revision,
    };
    let loaded = within(deadline, load()).await.map_err(|_| {
        let message = "the loader took longer than the call may; give it a longer timeout";
        slot.explain(Error::new(ErrorKind::Timeout, message))
    })?;
    let loaded = loaded.map_err(|error| slot.explain(failed(error)))?;
    let value = slot.target.encode(&loaded).map_err(|error| slot.explain(error))?;
    if !flight.is_deleted() {
        match slot.put(value, expiry, Condition::Revision(revision), deadline).await {
            // Deleted in this moment: it may have met nothing, just before the value was there.
            Ok(stored) if flight.is_deleted() => {
                let stored = Condition::Revision(stored);
                unless_conflict(slot.write(Change::Delete, stored, deadline).await)?;
            }
            written => unless_conflict(written)?,
        }
    }
    flight.land();
    Ok(loaded)
}

/// What others did since stays as it is.
fn unless_conflict(written: Result<u64>) -> Result<()> {
    match written {
        Err(error) if !error.is_conflict() => Err(error),
        _ => Ok(()),
    }
}

/// A loader's error: one of this crate stays what it is.
fn failed(error: BoxError) -> Error {
    match error.downcast::<Error>() {
        Ok(error) => *error,
        Err(error) => Error::new(ErrorKind::Other, "the loader failed").with_source(error),
    }
}

impl<T> fmt::Debug for GetOrLoad<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GetOrLoad")
            .field("slot", &self.slot)
            .field("expiry", &self.expiry)
            .finish_non_exhaustive()
    }
}

impl Kv {
    /// The value of `key`; where there is none, the one that `load` gives, which is then stored.
    ///
    /// ```
    /// # use nats_connector::kv::Kv;
    /// # use std::time::Duration;
    /// # async fn example() -> nats_connector::Result<()> {
    /// # let kv = Kv::memory();
    /// let load = || async { Ok::<_, std::io::Error>("Ada".to_owned()) }; // asks the database
    /// let name = kv.get_or_load("user:1", load).await?;
    /// assert_eq!(name, "Ada");
    /// # Ok(())
    /// # }
    /// # tokio::runtime::Runtime::new().unwrap().block_on(example()).unwrap();
    /// ```
    ///
    /// - **One load at a time.** While one call of this process loads a key, others for it wait, and
    ///   then read what was stored. When that call is dropped, or its loader fails, the next one
    ///   runs its own loader.
    /// - **Nothing stale is stored.** When somebody wrote or deleted the key after the load began,
    ///   this call gives what it loaded and what is stored stays as it is. So who changes the source
    ///   deletes the key, or sets it, *after* that.
    ///   (Deletes by *other processes* of a key that had no value are seen where deletes leave a
    ///   trace: on nats-server 2.11 or newer, in buckets with per-key lifetimes and history 1.)
    /// - `None` of a loader for `Option` is a value too: it is stored (JSON `null`), and not loaded
    ///   again.
    ///
    /// # Errors
    ///
    /// The loader's: an [`Error`] as it is, any other as the source of an `Other`; only the call
    /// whose loader it was gets it. `Timeout` when the time limit passes meanwhile, which counts for
    /// loading too. A store that is down is an error, also after a load: match on
    /// [`kind`](Error::kind) where the source should answer then. Else as [`get`](Self::get) and
    /// [`set`](Self::set).
    pub fn get_or_load<T, F, Fut, E>(&self, key: impl Into<String>, load: F) -> Call<GetOrLoad<T>>
    where
        T: Serialize + DeserializeOwned + Send + 'static,
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Result<T, E>> + Send + 'static,
        E: Into<BoxError> + 'static,
    {
        let slot = Slot::new("kv get or load", self, key.into());
        let load: Load<T> = Box::new(move || {
            let loading = load();
            Box::pin(async move { loading.await.map_err(Into::into) })
        });
        Call::new(GetOrLoad { slot, load, expiry: Expiry::Never })
    }
}
