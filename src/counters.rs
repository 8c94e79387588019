//! Counters that the server itself adds to, for keys that many processes count at once.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> nats_connector::Result<()> {
//! # let nats = nats_connector::Connector::memory();
//! let hits = nats.counters("hits");
//! assert_eq!(hits.increment("page:/", 5).await?, 5);
//! assert_eq!(hits.decrement("page:/", 1).await?, 4);
//! assert_eq!(hits.get("page:/").await?, Some(4));
//! assert_eq!(hits.get("page:/about").await?, None);
//! # Ok(())
//! # }
//! ```
//!
//! An add is one message without a condition (`Nats-Incr`, ADR-49), so writers never meet in
//! conflict, however many there are. Those of one process that wait for one key travel as one
//! message, and each gets its own value.
//!
//! Every message has an id that the server remembers. A try that may have been stored, after a lost
//! connection, a silent server or a change of leader, is sent again under its id and counts once.
//!
//! A store of counters is a stream of its own, `COUNTERS_<name>`, beside the key-value buckets; it
//! holds numbers without lifetimes. What needs a lifetime, a condition or a server before 2.12 is
//! [`Kv`](crate::kv::Kv)'s to count.

mod add;
mod config;
mod memory;
mod nats;
mod read;
mod stores;
mod stream;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

pub use config::CountersConfig;
pub(crate) use memory::Counts;
pub use read::Read;
pub(crate) use stores::Stores;

use crate::call::{Call, Task};
use crate::deadline::after;
use crate::error::{Error, ErrorKind, Result};
use crate::kv::driver::Consistency;
use crate::kv::{Key, KeyCodec};
use stores::Store;

/// A handle on one store of counters: [`Connector::counters`](crate::Connector::counters). Cheap to
/// clone.
///
/// A counter is a whole number under a key; one that was never added to, or was reset, has no value.
/// Keys are those of [`Kv`](crate::kv::Kv) with the codec [`KeyCodec::Escape`].
///
/// # Errors
///
/// Of every call: `Unsupported` below nats-server 2.12 and for a stream `COUNTERS_<name>` that holds
/// no counters; `InvalidInput` and `TooLarge` for a name or key that cannot be; `Unavailable`,
/// `Timeout`, `Unauthorized` and `Closed` as everywhere.
#[derive(Clone)]
pub struct Counters {
    store: Store,
    config: Arc<CountersConfig>,
    prefix: Arc<str>,
    timeout: Duration,
}

impl Counters {
    pub(crate) fn new(stores: &Stores, config: CountersConfig, timeout: Duration) -> Self {
        let store = stores.get(&config.name);
        Counters { store, config: Arc::new(config), prefix: "".into(), timeout }
    }

    /// Puts every key under `prefix`, in place of the handle's earlier one; the empty prefix takes
    /// it off. It is a namespace of its own, as in [`Kv::with_prefix`](crate::kv::Kv::with_prefix).
    #[must_use]
    pub fn with_prefix(mut self, prefix: impl AsRef<str>) -> Self {
        self.prefix = prefix.as_ref().into();
        self
    }

    /// Bounds each call that has no [`timeout`](Call::timeout) of its own. Default: that of the
    /// connector, `NATS.REQUEST_TIMEOUT` (10 s).
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Adds `by`, which may be negative; gives the value that this made. A counter without a value
    /// starts at 0.
    ///
    /// The value is this add's own, so that no two adds of 1 get the same. There is one exception:
    /// when the connection was lost between the add and its answer and others added to the key more
    /// than 100 times before it was back, the value is the one of that later moment.
    ///
    /// # Errors
    ///
    /// `Timeout`: the add may have been made, or is still to be. Every other error: it was not made,
    /// except `Decode`, which says that it was made and its value cannot be told, because it does not
    /// fit into an `i64` (the server's numbers have no limit).
    ///
    /// # Cancel safety
    ///
    /// Dropped before it is sent, the add is not made; dropped later, it may be.
    pub fn increment(&self, key: impl Into<String>, by: i64) -> Call<Task<Result<i64>>> {
        self.add("counters increment", key.into(), by.into())
    }

    /// Takes `by` away: [`increment`](Self::increment) the other way.
    ///
    /// # Errors
    ///
    /// As [`increment`](Self::increment).
    pub fn decrement(&self, key: impl Into<String>, by: i64) -> Call<Task<Result<i64>>> {
        self.add("counters decrement", key.into(), -i128::from(by))
    }

    fn add(&self, operation: &'static str, key: String, n: i128) -> Call<Task<Result<i64>>> {
        let slot = Slot::new(operation, self, key);
        Task::call(move |timeout| async move {
            let slot = slot?;
            let deadline = slot.counters.deadline(timeout);
            let Counters { store, config, .. } = &slot.counters;
            let added = match store {
                Store::Nats(adds) => adds.add(&slot.stored, n, config, deadline).await,
                Store::Memory(counts) => counts.add(&config.name, &slot.stored, n),
            };
            added.map_err(|error| slot.explain(error))
        })
    }

    /// The value of `key`, or `None` when nothing was added since it was last reset.
    ///
    /// The read may be served by a copy that lags behind by a moment; see
    /// [`consistent`](Call::consistent).
    ///
    /// # Errors
    ///
    /// `Decode` for a value that does not fit into an `i64`.
    pub fn get(&self, key: impl Into<String>) -> Call<Read<Option<i64>>> {
        let slot = Slot::new("counters get", self, key.into());
        Read::call(async move |consistency, timeout| {
            let slot = slot?;
            slot.read(consistency, slot.counters.deadline(timeout)).await
        })
    }

    /// The values of several keys, in their order.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get): one key that cannot be read fails the call and is named.
    pub fn get_many<K: Into<String>>(
        &self,
        keys: impl IntoIterator<Item = K>,
    ) -> Call<Read<Vec<Option<i64>>>> {
        let slots = keys.into_iter().map(|key| Slot::new("counters get", self, key.into()));
        let slots: Result<Vec<Slot>> = slots.collect();
        let counters = self.clone();
        Read::call(async move |consistency, timeout| {
            read::many(slots?, consistency, counters.deadline(timeout)).await
        })
    }

    /// The keys under this handle's prefix that have a value, without the prefix, sorted.
    pub fn keys(&self) -> Call<Task<Result<Vec<String>>>> {
        let counters = self.clone();
        Task::call(move |timeout| async move {
            let name = counters.check("counters keys")?;
            let under = counters.under()?;
            let deadline = counters.deadline(timeout);
            let stored = match &counters.store {
                Store::Nats(adds) => adds.stream().keys(&under, &counters.config, deadline).await,
                Store::Memory(counts) => counts.keys(name, &under),
            };
            let stored = stored.map_err(|error| counters.explain("counters keys", error))?;
            let decode =
                |key: String| Some(KeyCodec::Escape.decode(key.get(under.len()..)?).into());
            let mut keys: Vec<String> = stored.into_iter().filter_map(decode).collect();
            keys.sort_unstable();
            Ok(keys)
        })
    }

    /// Takes the value of `key` away; whether there was one. The next add starts at 0.
    pub fn reset(&self, key: impl Into<String>) -> Call<Task<Result<bool>>> {
        let slot = Slot::new("counters reset", self, key.into());
        Task::call(move |timeout| async move {
            let slot = slot?;
            let deadline = slot.counters.deadline(timeout);
            let Counters { store, config, .. } = &slot.counters;
            let reset = match store {
                Store::Nats(adds) => adds.stream().purge(&slot.stored, config, deadline).await,
                Store::Memory(counts) => counts.reset(&config.name, &slot.stored),
            };
            reset.map_err(|error| slot.explain(error))
        })
    }

    /// Takes the values of all keys under this handle's prefix away; whether there were any.
    pub fn reset_all(&self) -> Call<Task<Result<bool>>> {
        let counters = self.clone();
        Task::call(move |timeout| async move {
            let name = counters.check("counters reset")?;
            let under = counters.under()?;
            let deadline = counters.deadline(timeout);
            let reset = match &counters.store {
                Store::Nats(adds) => {
                    let all = format!("{under}>");
                    adds.stream().purge(&all, &counters.config, deadline).await
                }
                Store::Memory(counts) => counts.reset_all(name, &under),
            };
            reset.map_err(|error| counters.explain("counters reset", error))
        })
    }

    /// Deletes the store with all its counters, whatever this handle's prefix; whether there was
    /// one. The next add makes a new one.
    pub fn delete_store(&self) -> Call<Task<Result<bool>>> {
        let counters = self.clone();
        Task::call(move |timeout| async move {
            let name = counters.check("counters delete store")?;
            let deleted = match &counters.store {
                Store::Nats(adds) => adds.stream().delete(counters.deadline(timeout)).await,
                Store::Memory(counts) => counts.delete(name),
            };
            deleted.map_err(|error| counters.explain("counters delete store", error))
        })
    }

    fn deadline(&self, timeout: Option<Duration>) -> Instant {
        after(timeout.unwrap_or(self.timeout))
    }

    /// The store's name, if it and its options can be.
    fn check(&self, operation: &'static str) -> Result<&str> {
        self.config.check().map_err(|error| self.explain(operation, error))?;
        Ok(&self.config.name)
    }

    /// What the stored forms of this handle's keys begin with.
    fn under(&self) -> Result<String> {
        if self.prefix.is_empty() {
            return Ok(String::new());
        }
        let mut under = String::new();
        KeyCodec::Escape.encode(Key::new("", &self.prefix), &mut under)?;
        under.push('.');
        Ok(under)
    }

    fn explain(&self, operation: &'static str, error: Error) -> Error {
        error.operation(operation).with("counters", self.config.name.as_str())
    }
}

/// A key of a handle, checked, with its stored form.
struct Slot {
    operation: &'static str,
    counters: Counters,
    key: String,
    stored: String,
}

impl Slot {
    fn new(operation: &'static str, counters: &Counters, key: String) -> Result<Self> {
        counters.check(operation)?;
        let counters = counters.clone();
        let mut slot = Slot { operation, counters, key, stored: String::new() };
        let key = Key::new(&slot.counters.prefix, &slot.key);
        let mut stored = String::new();
        match KeyCodec::Escape.encode(key, &mut stored) {
            Ok(()) => {
                slot.stored = stored;
                Ok(slot)
            }
            Err(error) => Err(slot.explain(error)),
        }
    }

    async fn read(&self, consistency: Consistency, deadline: Instant) -> Result<Option<i64>> {
        let Counters { store, config, .. } = &self.counters;
        let value = match store {
            Store::Nats(adds) => {
                adds.stream().read(&self.stored, consistency, config, deadline).await
            }
            Store::Memory(counts) => counts.get(&config.name, &self.stored),
        };
        let value = value.and_then(|value| {
            let fits = |value: i128| {
                i64::try_from(value).map_err(|_| {
                    Error::new(ErrorKind::Decode, "the counter does not fit into an i64")
                        .with("value", value.to_string())
                })
            };
            value.map(fits).transpose()
        });
        value.map_err(|error| self.explain(error))
    }

    fn explain(&self, error: Error) -> Error {
        self.counters.explain(self.operation, error).with("key", self.key.as_str())
    }
}

impl fmt::Debug for Counters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Counters")
            .field("config", &self.config)
            .field("prefix", &self.prefix)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}
