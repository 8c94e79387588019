//! Key-value: the portable handle [`Kv`] and the functions over the default driver.
//!
//! ```
//! use nats_connector::kv::{BucketConfig, Kv};
//! use std::time::Duration;
//!
//! # async fn example() -> nats_connector::Result<()> {
//! let kv = Kv::memory(); // or the functions of this module, after nats_connector::register()
//!
//! let revision = kv.set("user:1", &"Ada").await?;
//! let name: Option<String> = kv.get("user:1").await?;
//! assert_eq!(name.as_deref(), Some("Ada"));
//!
//! // Only if it is there: a missing key stays missing.
//! assert!(kv.replace("user:1", &"Grace").await?.is_some_and(|new| new > revision));
//! assert_eq!(kv.replace("user:2", &"Alan").await?, None);
//!
//! // Another bucket, made at the first write or with settings of its own.
//! let hour = Duration::from_secs(3600);
//! let sessions = kv.create_bucket(BucketConfig::new("sessions").ttl(hour)).await?;
//! sessions.set_raw("session:abc", "token").await?;
//! assert!(kv.bucket("sessions").exists("session:abc").await?);
//! # Ok(())
//! # }
//! # tokio::runtime::Runtime::new().unwrap().block_on(example()).unwrap();
//! ```
//!
//! A miss is `Ok(None)`; an outage is an error, never a miss. Empty values and JSON `null` are
//! values. Reads of a bucket that does not exist are misses and create nothing; writes create it.

mod calls;
mod claim;
mod combine;
mod config;
pub mod driver;
mod facade;
mod flights;
mod glob;
mod key;
mod lock;
mod memory;
pub(crate) mod nats;
mod near;
#[cfg(feature = "redis")]
mod redis;
pub(crate) mod retry;
mod slot;
mod status;
mod store;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

pub use calls::{
    Entry, Event, GetAll, GetOrLoad, Increment, KeyStream, Keys, Lock, Many, Pairs, Provisioned,
    Read, ReadMany, Record, Replace, Set, SetMany, Transaction, Watch, Watcher,
};
pub(crate) use claim::{Claim, Claimed, SharedClaim};
pub use config::{BucketConfig, Storage};
pub use driver::{Capabilities, Driver};
pub(crate) use facade::register;
pub use facade::{
    add_driver, bind_bucket, bucket, buckets, create, create_bucket, decrement, default_driver,
    delete, delete_bucket, delete_if_revision, delete_many, delete_matching, driver, drivers,
    entry, entry_raw, exists, expire, flush, get, get_all, get_all_matching, get_many,
    get_many_raw, get_or, get_or_create_bucket, get_or_load, get_raw, get_raw_with_expiration,
    get_with_expiration, history, increment, item_count, keys, keys_matching, lock, persist, purge,
    replace, set, set_default_driver, set_many, set_raw, take, touch, transaction, update, watch,
    watch_all,
};
pub use glob::Glob;
pub use key::{Key, KeyCodec, MAX_KEY_LEN};
pub(crate) use lock::Locks;
pub use lock::{Guarded, LockGuard};
pub use memory::MemoryDriver;
pub use near::{NearCacheConfig, NearCacheStats};
#[cfg(feature = "redis")]
pub use redis::{RedisConfig, RedisDriver};
pub use status::BucketStatus;

pub use crate::difference::Difference;

use crate::error::Result;
use crate::registry::not_registered;
use crate::serializer::Serializer;
use crate::settings::Settings;
use near::Near;
use store::Store;

/// A handle on one bucket of a key-value store. Cheap to clone.
///
/// It is a driver, a bucket, a key prefix and a serializer; [`bucket`](Self::bucket) and the
/// `with_` methods give another handle and leave this one as it is. The handles of
/// [`kv::bucket`](bucket) have no driver of their own: each call goes to the default driver of that
/// moment, and takes from its handle what this one leaves open.
#[derive(Clone)]
pub struct Kv {
    store: Option<Arc<Store>>,
    scope: Arc<Scope>,
}

/// What a handle says for itself.
#[derive(Clone, Default)]
struct Scope {
    bucket: Option<Arc<str>>,
    bucket_prefix: Option<Arc<str>>,
    key_prefix: Option<Arc<str>>,
    serializer: Option<Serializer>,
    timeout: Option<Duration>,
    /// The near cache of this very bucket.
    near: Option<Arc<Near>>,
}

impl Kv {
    /// A handle on the bucket `default` of `driver`: no prefix, JSON, calls of at most 10 s.
    #[must_use]
    pub fn new(driver: impl Driver) -> Self {
        Kv::of(driver, "")
    }

    /// The same for the driver of a connector.
    fn of(driver: impl Driver, connector: &str) -> Self {
        Kv { store: Some(Store::new(driver, connector)), scope: Arc::default() }
    }

    /// A store of its own in this process, for tests and first steps.
    #[must_use]
    pub fn memory() -> Self {
        Kv::new(MemoryDriver::new())
    }

    /// A handle on `driver` as the settings say.
    pub(crate) fn configured(driver: impl Driver, settings: &Settings) -> Self {
        Kv::of(driver, settings.domain_name())
            .bucket(settings.default_bucket())
            .with_bucket_prefix(settings.bucket_prefix())
            .with_prefix(settings.key_prefix())
            .with_serializer(Serializer::by_name(settings.serializer()).unwrap_or_default())
            .with_timeout(settings.request_timeout())
    }

    /// A handle that follows the default driver.
    fn unbound() -> Self {
        Kv { store: None, scope: Arc::default() }
    }

    fn edit(mut self, change: impl FnOnce(&mut Scope)) -> Self {
        change(Arc::make_mut(&mut self.scope));
        self
    }

    /// This handle with its driver, and with what the default one adds.
    fn resolve(&self) -> Result<(Arc<Store>, Arc<Scope>)> {
        if let Some(store) = &self.store {
            return Ok((store.clone(), self.scope.clone()));
        }
        let default = facade::default_driver()?;
        let store = default.store.ok_or_else(not_registered)?;
        Ok((store, Arc::new(self.scope.over(&default.scope))))
    }

    /// The same store's bucket `name` (letters, digits, `_` and `-`).
    ///
    /// Nothing is sent: the bucket need not exist. Any other name makes calls fail with
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput).
    #[must_use]
    pub fn bucket(&self, name: impl AsRef<str>) -> Self {
        self.clone().edit(|scope| {
            scope.bucket = Some(name.as_ref().into());
            scope.near = None;
        })
    }

    /// Puts every key under `prefix`, in place of the handle's earlier one; the empty prefix takes
    /// it off.
    ///
    /// A prefix is a namespace: NATS stores `user:1` under the prefix `app` as `app.user=3A1`.
    #[must_use]
    pub fn with_prefix(self, prefix: impl AsRef<str>) -> Self {
        self.edit(|scope| scope.key_prefix = Some(prefix.as_ref().into()))
    }

    /// Puts `prefix` before every bucket's name, as it is (letters, digits, `_` and `-`).
    #[must_use]
    pub fn with_bucket_prefix(self, prefix: impl AsRef<str>) -> Self {
        self.edit(|scope| {
            scope.bucket_prefix = Some(prefix.as_ref().into());
            scope.near = None;
        })
    }

    /// Encodes values with `serializer`.
    ///
    /// Another than JSON is kept with the value as its `Content-Type`, which every handle obeys
    /// when it reads; values without one are read with the handle's own.
    #[must_use]
    pub fn with_serializer(self, serializer: Serializer) -> Self {
        self.edit(|scope| scope.serializer = Some(serializer))
    }

    /// Bounds each call that has no [`timeout`](crate::Call::timeout) of its own. Default 10 s.
    #[must_use]
    pub fn with_timeout(self, timeout: Duration) -> Self {
        self.edit(|scope| scope.timeout = Some(timeout))
    }

    /// The locks of this handle's store.
    pub(crate) fn locks(&self) -> Arc<Locks> {
        self.store.as_ref().map(|store| store.locks.clone()).unwrap_or_default()
    }

    /// The driver behind this handle, for what only that driver has:
    /// `(&*driver as &dyn Any).downcast_ref::<MemoryDriver>()`.
    ///
    /// # Errors
    ///
    /// `NotRegistered` for a handle of the default driver while there is none.
    pub fn driver(&self) -> Result<Arc<dyn Driver>> {
        self.resolve().map(|(store, _)| store.driver.clone())
    }
}

impl Scope {
    /// What this one says, and what `base` says where it leaves it open.
    fn over(&self, base: &Scope) -> Scope {
        let own = self.clone();
        let same_bucket = own.bucket.is_none() && own.bucket_prefix.is_none();
        Scope {
            bucket: own.bucket.or_else(|| base.bucket.clone()),
            bucket_prefix: own.bucket_prefix.or_else(|| base.bucket_prefix.clone()),
            key_prefix: own.key_prefix.or_else(|| base.key_prefix.clone()),
            serializer: own.serializer.or_else(|| base.serializer.clone()),
            timeout: own.timeout.or(base.timeout),
            near: own.near.or_else(|| base.near.clone().filter(|_| same_bucket)),
        }
    }
}

impl<D: Driver> From<D> for Kv {
    fn from(driver: D) -> Self {
        Kv::new(driver)
    }
}

impl fmt::Debug for Kv {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scope = &*self.scope;
        f.debug_struct("Kv")
            .field("driver", &self.store.as_ref().map(|store| store.driver.name()))
            .field("bucket", &scope.bucket)
            .field("bucket_prefix", &scope.bucket_prefix)
            .field("key_prefix", &scope.key_prefix)
            .field("serializer", &scope.serializer)
            .field("timeout", &scope.timeout)
            .field("near_cache", &scope.near.is_some())
            .finish()
    }
}
