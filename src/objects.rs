//! Objects: values of any size, in chunks, streamed both ways.
//!
//! ```no_run
//! # async fn example(nats: nats_connector::Connector) -> nats_connector::Result<()> {
//! use nats_connector::objects::BucketConfig;
//!
//! let reports = nats.objects().create_bucket(BucketConfig::new("reports")).await?;
//!
//! // From a file, a reader, bytes or a value; nothing is visible until all of it is stored.
//! let info = reports.put_file("2026/q1.pdf", "q1.pdf").description("first quarter").await?;
//! println!("{} bytes, {}", info.size, info.digest.unwrap_or_default());
//!
//! // As a reader, into a writer or a file, as bytes or as a value; checked against its digest.
//! let page: Option<bytes::Bytes> = reports.get_bytes("2026/q1.pdf").range(..4096).await?;
//! assert!(page.is_some_and(|page| page.starts_with(b"%PDF")));
//! # Ok(())
//! # }
//! ```
//!
//! A miss is `Ok(None)`; an outage is an error, never a miss. An empty object is an object. Reads of a
//! bucket that does not exist are misses and create nothing; writes create it.
//!
//! A call with a [`timeout`](crate::Call::timeout) of its own ends by it. Without one, a call that
//! moves an object takes as long as there is progress: each step on the network is bounded by the
//! handle's [`with_timeout`](Objects::with_timeout), so that an upload of hours works and one that is
//! stuck ends.

mod calls;
mod config;
pub mod driver;
mod info;
mod memory;
pub(crate) mod nats;
mod status;
mod target;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

pub use calls::{
    AsBytes, AsReader, AsValue, AsWriter, Get, Info, LinkTo, Listing, ObjectReader, Provisioned,
    Put, Update, Watcher,
};
pub use config::BucketConfig;
pub use driver::{Capabilities, Driver};
pub use info::{Event, Link, ObjectInfo};
pub use memory::MemoryDriver;
pub use status::BucketStatus;

pub use crate::difference::Difference;
pub use crate::kv::Storage;

use crate::serializer::Serializer;
use crate::settings::Settings;

/// The longest name of an object, in bytes.
pub const MAX_NAME_LEN: usize = 1024;
/// The most bytes in one chunk, where nothing else is asked for.
pub const DEFAULT_CHUNK_SIZE: usize = 128 * 1024;
/// The most that can be asked for; the largest payload that a nats-server can be configured for.
const MAX_CHUNK_SIZE: usize = 64 * 1024 * 1024;

/// A handle on one bucket of an object store. Cheap to clone.
///
/// It is a driver, a bucket and a serializer; [`bucket`](Self::bucket) and the `with_` methods give
/// another handle and leave this one as it is.
#[derive(Clone)]
pub struct Objects {
    driver: Arc<dyn Driver>,
    scope: Arc<Scope>,
}

/// What a handle says for itself.
#[derive(Clone, Default)]
struct Scope {
    bucket: Option<Arc<str>>,
    bucket_prefix: Option<Arc<str>>,
    serializer: Serializer,
    timeout: Option<Duration>,
    max_chunk_size: Option<usize>,
}

impl Objects {
    /// A handle on the bucket `default` of `driver`: JSON, steps of at most 10 s.
    #[must_use]
    pub fn new(driver: impl Driver) -> Self {
        Objects { driver: Arc::new(driver), scope: Arc::default() }
    }

    /// A handle on the bucket `default` of an empty store in this process.
    #[must_use]
    pub fn memory() -> Self {
        Objects::new(MemoryDriver::new())
    }

    /// A handle on `driver` as the settings say.
    pub(crate) fn configured(driver: impl Driver, settings: &Settings) -> Self {
        Objects::new(driver)
            .bucket(settings.default_bucket())
            .with_bucket_prefix(settings.bucket_prefix())
            .with_serializer(Serializer::by_name(settings.serializer()).unwrap_or_default())
            .with_timeout(settings.request_timeout())
    }

    fn edit(mut self, change: impl FnOnce(&mut Scope)) -> Self {
        change(Arc::make_mut(&mut self.scope));
        self
    }

    /// The same store's bucket `name` (letters, digits, `_` and `-`).
    ///
    /// Nothing is sent: the bucket need not exist. Any other name makes calls fail with
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput).
    #[must_use]
    pub fn bucket(&self, name: impl AsRef<str>) -> Self {
        self.clone().edit(|scope| scope.bucket = Some(name.as_ref().into()))
    }

    /// Puts `prefix` before every bucket's name, as it is (letters, digits, `_` and `-`).
    #[must_use]
    pub fn with_bucket_prefix(self, prefix: impl AsRef<str>) -> Self {
        self.edit(|scope| scope.bucket_prefix = Some(prefix.as_ref().into()))
    }

    /// Encodes values with `serializer`.
    ///
    /// Another than JSON is kept with the object as its `Content-Type` header, which every handle
    /// obeys when it reads; objects without one are read with the handle's own.
    #[must_use]
    pub fn with_serializer(self, serializer: Serializer) -> Self {
        self.edit(|scope| scope.serializer = serializer)
    }

    /// Bounds each call that has no [`timeout`](crate::Call::timeout) of its own; for one that moves
    /// an object, each of its steps. Default 10 s.
    #[must_use]
    pub fn with_timeout(self, timeout: Duration) -> Self {
        self.edit(|scope| scope.timeout = Some(timeout))
    }

    /// Stores objects in chunks of at most so many bytes, unless [a put](Put) says otherwise. Default
    /// [`DEFAULT_CHUNK_SIZE`]; never more than the server's payload limit.
    #[must_use]
    pub fn with_max_chunk_size(self, bytes: usize) -> Self {
        self.edit(|scope| scope.max_chunk_size = Some(bytes))
    }

    /// The driver behind this handle, for what only that driver has.
    #[must_use]
    pub fn driver(&self) -> Arc<dyn Driver> {
        self.driver.clone()
    }
}

impl<D: Driver> From<D> for Objects {
    fn from(driver: D) -> Self {
        Objects::new(driver)
    }
}

impl fmt::Debug for Objects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scope = &*self.scope;
        f.debug_struct("Objects")
            .field("driver", &self.driver.name())
            .field("bucket", &scope.bucket)
            .field("bucket_prefix", &scope.bucket_prefix)
            .field("serializer", &scope.serializer)
            .field("timeout", &scope.timeout)
            .field("max_chunk_size", &scope.max_chunk_size)
            .finish()
    }
}
