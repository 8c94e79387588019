//! What a key-value back end implements: raw bytes in and out, errors and capabilities. Serializer,
//! handles, compare-and-set loops and argument checks are the portable type's.

use std::any::Any;
use std::fmt;

use bytes::Bytes;
use futures::future::BoxFuture;
use tokio::time::Instant;

use super::{BucketConfig, Key};
use crate::error::Result;

/// What a driver can do with a bucket. What is not claimed is refused as
/// [`Unsupported`](crate::ErrorKind::Unsupported), never ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Capabilities {
    /// Writes on the condition that nobody else wrote: [`Condition::Revision`].
    pub compare_and_set: bool,
    /// Buckets that compress what they hold: [`BucketConfig::compression`].
    pub compression: bool,
    /// The largest value without headers, in bytes: the smaller of the store's limit and the
    /// bucket's own.
    pub max_value_size: usize,
}

impl Capabilities {
    /// Plain reads and writes of values up to `max_value_size` bytes.
    #[must_use]
    pub const fn basic(max_value_size: usize) -> Self {
        Capabilities { compare_and_set: false, compression: false, max_value_size }
    }

    /// Whether it also writes under a condition.
    #[must_use]
    pub const fn with_compare_and_set(mut self, can: bool) -> Self {
        self.compare_and_set = can;
        self
    }

    /// Whether it also compresses.
    #[must_use]
    pub const fn with_compression(mut self, can: bool) -> Self {
        self.compression = can;
        self
    }
}

/// A value to store. Its `Debug` form tells the size, not the bytes: they may be a secret.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Value {
    /// The bytes; empty ones are a value too.
    pub bytes: Bytes,
    /// The media type to keep with them, where it is not the default's.
    pub content_type: Option<String>,
}

impl Value {
    /// A value without a media type.
    #[must_use]
    pub const fn new(bytes: Bytes) -> Self {
        Value { bytes, content_type: None }
    }

    /// Keeps `content_type` with it.
    #[must_use]
    pub fn with_content_type(mut self, content_type: impl Into<String>) -> Self {
        self.content_type = Some(content_type.into());
        self
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Value")
            .field("len", &self.bytes.len())
            .field("content_type", &self.content_type)
            .finish()
    }
}

/// A stored value and its revision.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Entry {
    /// What was stored.
    pub value: Value,
    /// Grows with every write to the bucket.
    pub revision: u64,
}

impl Entry {
    /// An entry, as drivers give it.
    #[must_use]
    pub const fn new(value: Value, revision: u64) -> Self {
        Entry { value, revision }
    }
}

/// When a write takes place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Condition {
    /// Always.
    Always,
    /// Only while this is the key's revision; else [`Conflict`](crate::ErrorKind::Conflict).
    Revision(u64),
}

/// How fresh a read is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Consistency {
    /// Any copy may answer, also one that lags behind.
    Any,
    /// Sees every write that was acknowledged before.
    Latest,
}

/// A key-value back end.
///
/// Buckets come by their full names, checked by [`Kv`](super::Kv); keys come as the user wrote
/// them, with their prefix beside them, never empty. How the two are joined and written is the
/// driver's, and so is the limit that follows: a key that the store cannot hold is refused before
/// anything is sent.
///
/// Every method ends by its `deadline`: with [`Timeout`](crate::ErrorKind::Timeout) when the back
/// end was reached and did not answer, with [`Unavailable`](crate::ErrorKind::Unavailable) when it
/// could not be reached. An outage is an error, never a miss.
///
/// No method has a default: a wrapper that forgets one does not compile.
pub trait Driver: Any + fmt::Debug + Send + Sync {
    /// The driver's name in errors and logs: `nats`, `memory` ...
    fn name(&self) -> &str;

    /// What this driver can do with `bucket`, or with a new one of that name.
    fn capabilities<'a>(
        &'a self,
        bucket: &'a str,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<Capabilities>>;

    /// The value of a key; `None` when it was never written, is deleted or has expired, or when the
    /// bucket does not exist. Creates nothing.
    fn get<'a>(
        &'a self,
        bucket: &'a str,
        key: Key<'a>,
        consistency: Consistency,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<Option<Entry>>>;

    /// Stores a value and gives its revision. Makes a missing bucket, unless there is a condition
    /// that no key of a new one can meet.
    ///
    /// Requires [`Capabilities::compare_and_set`] for any other condition than
    /// [`Condition::Always`].
    fn put<'a>(
        &'a self,
        bucket: &'a str,
        key: Key<'a>,
        value: Value,
        condition: Condition,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<u64>>;

    /// Deletes a key; also right when there is none. Creates no bucket.
    fn delete<'a>(
        &'a self,
        bucket: &'a str,
        key: Key<'a>,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<()>>;

    /// Makes the bucket, or changes the one of that name to what `config` sets. When it is done the
    /// bucket is as asked; what the store cannot do is
    /// [`Unsupported`](crate::ErrorKind::Unsupported).
    fn create_bucket<'a>(
        &'a self,
        config: &'a BucketConfig,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<()>>;
}
