//! What a key-value back end implements: raw bytes in and out, errors, capabilities and sources of
//! changes. Serializer, handles, compare-and-set loops, globs, near caches, locks and argument
//! checks are the portable type's.

use std::any::Any;
use std::borrow::Cow;
use std::fmt;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use tokio::time::Instant;

use super::{BucketConfig, BucketStatus, Glob, Key};
use crate::error::Result;

/// What a driver can do with a bucket. What is not claimed is refused as
/// [`Unsupported`](crate::ErrorKind::Unsupported), never ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Capabilities {
    /// Writes on the condition that nobody else wrote: [`Condition::Revision`].
    pub compare_and_set: bool,
    /// Values that expire one by one: any other [`Expiry`] than [`Expiry::Never`].
    pub ttl: bool,
    /// Writes on the condition that another key's revision still stands: [`Condition::Held`].
    pub fencing: bool,
    /// Several writes that take place together or not at all: [`Driver::transaction`].
    pub transactions: bool,
    /// A source of changes: [`Driver::watch`].
    pub watch: bool,
    /// Earlier values of a key: [`Driver::history`], and [`BucketConfig::history`] above 1.
    pub history: bool,
    /// A value's media type is kept with it: [`Value::content_type`].
    pub content_type: bool,
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
        Capabilities {
            compare_and_set: false,
            ttl: false,
            fencing: false,
            transactions: false,
            watch: false,
            history: false,
            content_type: false,
            compression: false,
            max_value_size,
        }
    }

    /// All that there is, with values up to `max_value_size` bytes.
    #[must_use]
    pub const fn full(max_value_size: usize) -> Self {
        Capabilities {
            compare_and_set: true,
            ttl: true,
            fencing: true,
            transactions: true,
            watch: true,
            history: true,
            content_type: true,
            compression: true,
            max_value_size,
        }
    }

    /// Whether it also writes under a condition.
    #[must_use]
    pub const fn with_compare_and_set(mut self, can: bool) -> Self {
        self.compare_and_set = can;
        self
    }

    /// Whether it also gives single values a lifetime.
    #[must_use]
    pub const fn with_ttl(mut self, can: bool) -> Self {
        self.ttl = can;
        self
    }

    /// Whether it also writes while another key's revision stands.
    #[must_use]
    pub const fn with_fencing(mut self, can: bool) -> Self {
        self.fencing = can;
        self
    }

    /// Whether it also writes several keys together.
    #[must_use]
    pub const fn with_transactions(mut self, can: bool) -> Self {
        self.transactions = can;
        self
    }

    /// Whether it also tells changes.
    #[must_use]
    pub const fn with_watch(mut self, can: bool) -> Self {
        self.watch = can;
        self
    }

    /// Whether it also keeps earlier values.
    #[must_use]
    pub const fn with_history(mut self, can: bool) -> Self {
        self.history = can;
        self
    }

    /// Whether it also keeps media types.
    #[must_use]
    pub const fn with_content_type(mut self, can: bool) -> Self {
        self.content_type = can;
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

/// A stored value with what is known of it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Entry {
    /// What was stored.
    pub value: Value,
    /// Grows with every write to the bucket.
    pub revision: u64,
    /// When it was stored, where the store knows.
    pub created: Option<SystemTime>,
    /// When its own lifetime ends, where it has one.
    pub expires: Option<SystemTime>,
    /// When it ends: with its own lifetime or with the bucket's, whichever is first.
    pub ends: Option<SystemTime>,
}

impl Entry {
    /// An entry of unknown age that does not expire.
    #[must_use]
    pub const fn new(value: Value, revision: u64) -> Self {
        Entry { value, revision, created: None, expires: None, ends: None }
    }

    /// Tells when it was stored.
    #[must_use]
    pub const fn with_created(mut self, at: Option<SystemTime>) -> Self {
        self.created = at;
        self
    }

    /// Tells when its own lifetime ends, and when the bucket's does for it.
    #[must_use]
    pub fn with_expiry(mut self, own: Option<SystemTime>, bucket: Option<SystemTime>) -> Self {
        self.expires = own;
        self.ends = own.into_iter().chain(bucket).min();
        self
    }
}

/// What a read of a key found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// A value.
    Value(Entry),
    /// No value, or one that has expired.
    Nothing {
        /// The revision of what ended the last value, as far as the store still knows it; 0 where
        /// there is no trace of the key. [`Condition::Revision`] with it writes only while nobody
        /// wrote or deleted the key since.
        revision: u64,
    },
}

impl Found {
    /// Nothing, and no trace of the key.
    pub const NEVER: Found = Found::Nothing { revision: 0 };

    /// The value, if there is one.
    #[must_use]
    pub fn entry(self) -> Option<Entry> {
        match self {
            Found::Value(entry) => Some(entry),
            Found::Nothing { .. } => None,
        }
    }

    /// The revision of the value, or of what ended it.
    #[must_use]
    pub const fn revision(&self) -> u64 {
        match self {
            Found::Value(entry) => entry.revision,
            Found::Nothing { revision } => *revision,
        }
    }
}

/// How long a value is to be kept. Each write says it anew: no lifetime outlives an overwrite.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expiry {
    /// Until it is overwritten or deleted, or until the bucket's own lifetime ends.
    Never,
    /// For this long from the write: whole seconds, at least one and at most a hundred years, as
    /// [`Kv`](super::Kv) sees to.
    In(Duration),
    /// Until this moment of this process' clock, which may be a fraction of a second and in the
    /// past. From then on no read finds the value.
    At(SystemTime),
}

/// What a write does to a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Stores a value.
    Put(Value, Expiry),
    /// Takes the value away; earlier ones stay in the history.
    Delete,
    /// Takes the value and its history away.
    Purge,
}

/// When a write takes place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition<'a> {
    /// Always.
    Always,
    /// Only while this is the key's [revision](Found::revision), 0 for a key without a trace; else
    /// [`Conflict`](crate::ErrorKind::Conflict).
    Revision(u64),
    /// Only while another key of the bucket, a lock's, has this revision and a value; else
    /// [`Conflict`](crate::ErrorKind::Conflict).
    Held {
        /// The lock's key.
        lock: Key<'a>,
        /// The revision that its holder wrote.
        revision: u64,
    },
}

/// A change of one key under a condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write<'a> {
    /// The key.
    pub key: Key<'a>,
    /// What happens to it.
    pub change: Change,
    /// When it does.
    pub condition: Condition<'a>,
}

/// How fresh a read is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Consistency {
    /// Any copy may answer, also one that lags behind.
    Any,
    /// Sees every write that was acknowledged before.
    Latest,
    /// As [`Latest`](Self::Latest), and a value is there until the store itself has ended it,
    /// whatever this process' clock says. What nobody else may act on is read so: a lock.
    Stored,
}

/// The keys that a listing or a watch is about.
#[derive(Debug, Clone, Copy)]
pub struct Filter<'a> {
    /// The namespace; empty for the whole bucket.
    pub prefix: &'a str,
    /// What the names in it match; all of them where there is none. A driver uses what it can of
    /// it: it may give more, since [`Kv`](super::Kv) matches again.
    pub glob: Option<&'a Glob>,
}

/// What happened to a key, under its name without the prefix of the [`Filter`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Update {
    /// The key.
    pub key: String,
    /// The revision of this update. An end that the store no longer has a message of comes with the
    /// last revision that it had given by then, which may be that of the update before; what a bucket
    /// that was made anew does not hold comes with 0.
    pub revision: u64,
    /// What it was.
    pub what: What,
}

impl Update {
    /// An update, as drivers give it.
    #[must_use]
    pub const fn new(key: String, revision: u64, what: What) -> Self {
        Update { key, revision, what }
    }
}

/// What an [`Update`] did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// A value was stored.
    Put(Entry),
    /// It was deleted.
    Deleted,
    /// It was deleted with its history.
    Purged,
    /// Its lifetime, or the bucket's, ended.
    Expired,
}

/// What a watch tells, in the order of revisions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Signal {
    /// A value that was there at the beginning, or a change since.
    Update(Update),
    /// All that had happened when the watch began, or when it came back from
    /// [`Lagging`](Self::Lagging), has been told.
    Current,
    /// Changes may be under way that are not told yet: the source lost its connection or missed
    /// something, and is catching up. What happened meanwhile is told before the next
    /// [`Current`](Self::Current), once.
    Lagging,
    /// The bucket was made anew: its revisions started over. Everything in it is told again, and
    /// what it no longer holds is told as deleted.
    Reset,
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
/// A write that fails with anything else than `Timeout` was not stored, and a write is never stored
/// twice; a write that met its own earlier try is a success.
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

    /// The name that `key` has in a listing or watch of the whole bucket, where its prefix is part of
    /// it: two keys with the same name there are one. `None` while the driver does not know how the
    /// bucket's keys are written, and for a key that it cannot hold. Nothing is sent.
    fn whole_name<'a>(&self, bucket: &str, key: Key<'a>) -> Option<Cow<'a, str>>;

    /// The value of a key; [`Found::Nothing`] when it was never written, is deleted or has expired,
    /// or when the bucket does not exist. Creates nothing.
    fn get<'a>(
        &'a self,
        bucket: &'a str,
        key: Key<'a>,
        consistency: Consistency,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<Found>>;

    /// The values of several keys, in their order; each has its own result.
    fn get_many<'a>(
        &'a self,
        bucket: &'a str,
        keys: &'a [Key<'a>],
        consistency: Consistency,
        deadline: Instant,
    ) -> BoxFuture<'a, Vec<Result<Found>>>;

    /// Changes a key and gives the revision of the change. Storing a value makes a missing bucket,
    /// unless the condition is one that no key of a new one can meet; deleting creates nothing, is
    /// also right when there is nothing to delete, and may then give 0.
    fn write<'a>(
        &'a self,
        bucket: &'a str,
        write: Write<'a>,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<u64>>;

    /// Makes all changes or, when a condition does not hold, none; gives their revisions. Every key
    /// is there once, and there are at most 1,000, as [`Kv`](super::Kv) sees to; the conditions are [`Condition::Always`] and [`Condition::Revision`].
    fn transaction<'a>(
        &'a self,
        bucket: &'a str,
        writes: Vec<Write<'a>>,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<Vec<u64>>>;

    /// The names of the keys that have a value, without the filter's prefix, each once, in no
    /// order. None when the bucket does not exist. The whole listing ends by the deadline; what it
    /// holds in memory is bounded, however many keys there are.
    fn list<'a>(
        &'a self,
        bucket: &'a str,
        filter: Filter<'a>,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<BoxStream<'static, Result<String>>>>;

    /// The values there are, then [`Signal::Current`], then every change, without gaps or
    /// duplicates, until the stream is dropped; an error ends it. Makes a missing bucket. The
    /// deadline is for the beginning alone: it has begun when the result is there.
    fn watch<'a>(
        &'a self,
        bucket: &'a str,
        filter: Filter<'a>,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<BoxStream<'static, Result<Signal>>>>;

    /// What the bucket still knows of a key, oldest first; nothing when the bucket does not exist.
    fn history<'a>(
        &'a self,
        bucket: &'a str,
        key: Key<'a>,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<Vec<Update>>>;

    /// The names of all buckets, in no order.
    fn buckets<'a>(&'a self, deadline: Instant) -> BoxFuture<'a, Result<Vec<String>>>;

    /// A bucket as it is now; `None` when it does not exist.
    fn bucket_status<'a>(
        &'a self,
        bucket: &'a str,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<Option<BucketStatus>>>;

    /// Makes the bucket unless there is one of that name, which stays as it is; whether it made it.
    /// What the store cannot do is [`Unsupported`](crate::ErrorKind::Unsupported).
    fn make_bucket<'a>(
        &'a self,
        config: &'a BucketConfig,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<bool>>;

    /// Makes the bucket, or changes the one of that name to what `config` sets. When it is done the
    /// bucket is as asked; what the store cannot do is
    /// [`Unsupported`](crate::ErrorKind::Unsupported).
    fn create_bucket<'a>(
        &'a self,
        config: &'a BucketConfig,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<()>>;

    /// Deletes a bucket with all it holds; whether there was one.
    fn delete_bucket<'a>(
        &'a self,
        bucket: &'a str,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<bool>>;
}
