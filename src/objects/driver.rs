//! What an object store implements: raw bytes in and out, errors, capabilities. Serializer, handles,
//! digests, the following of links and argument checks are the portable type's.

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use tokio::time::Instant;

use super::info::Names;
use super::{BucketConfig, BucketStatus, Event, Link, ObjectInfo};
use crate::deadline::after;
use crate::error::Result;
pub use crate::kv::driver::Consistency;

/// What a driver can do with a bucket. What is not claimed is refused as
/// [`Unsupported`](crate::ErrorKind::Unsupported), never ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Capabilities {
    /// A source of changes: [`Driver::watch`].
    pub watch: bool,
    /// Names that stand for objects elsewhere: [`Driver::link`].
    pub links: bool,
    /// Headers and metadata are kept with an object, and can be changed: [`Driver::change`].
    pub metadata: bool,
    /// Buckets that take no changes any more: [`Driver::seal`].
    pub seal: bool,
    /// Buckets that compress what they hold: [`BucketConfig::compression`].
    pub compression: bool,
}

impl Capabilities {
    /// Plain uploads and downloads.
    #[must_use]
    pub const fn basic() -> Self {
        Capabilities {
            watch: false,
            links: false,
            metadata: false,
            seal: false,
            compression: false,
        }
    }

    /// All that there is.
    #[must_use]
    pub const fn full() -> Self {
        Capabilities { watch: true, links: true, metadata: true, seal: true, compression: true }
    }

    /// Whether it also tells changes.
    #[must_use]
    pub const fn with_watch(mut self, can: bool) -> Self {
        self.watch = can;
        self
    }

    /// Whether it also links.
    #[must_use]
    pub const fn with_links(mut self, can: bool) -> Self {
        self.links = can;
        self
    }

    /// Whether it also keeps and changes headers and metadata.
    #[must_use]
    pub const fn with_metadata(mut self, can: bool) -> Self {
        self.metadata = can;
        self
    }

    /// Whether it also seals buckets.
    #[must_use]
    pub const fn with_seal(mut self, can: bool) -> Self {
        self.seal = can;
        self
    }

    /// Whether it also compresses.
    #[must_use]
    pub const fn with_compression(mut self, can: bool) -> Self {
        self.compression = can;
        self
    }
}

/// How long a call that moves an object of any size may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// When the whole call ends, where it has such a limit.
    pub whole: Option<Instant>,
    /// How long it may go on without the back end having taken or given anything, while that is
    /// what it waits for. The time that the reader or writer at this side takes does not count.
    pub step: Duration,
}

impl Limits {
    /// No limit but that of each step.
    #[must_use]
    pub const fn steps(step: Duration) -> Self {
        Limits { whole: None, step }
    }

    /// The same with an end of the whole.
    #[must_use]
    pub const fn until(mut self, whole: Option<Instant>) -> Self {
        self.whole = whole;
        self
    }

    /// When a step that begins now ends.
    #[must_use]
    pub fn deadline(&self) -> Instant {
        let step = after(self.step);
        self.whole.map_or(step, |whole| whole.min(step))
    }
}

/// What is known of an object before its bytes are.
#[derive(Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Draft {
    /// Its name: any text that is not empty, of at most [`MAX_NAME_LEN`](super::MAX_NAME_LEN) bytes.
    pub name: String,
    /// What it is.
    pub description: Option<String>,
    /// Its headers.
    pub headers: BTreeMap<String, Vec<String>>,
    /// Its metadata.
    pub metadata: BTreeMap<String, String>,
    /// The most bytes in one chunk, where that was asked for.
    pub max_chunk_size: Option<usize>,
}

impl Draft {
    /// An object of this name, with nothing else to say.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Draft { name: name.into(), ..Draft::default() }
    }
}

impl fmt::Debug for Draft {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Draft")
            .field("name", &self.name)
            .field("description", &self.description)
            .field("headers", &Names(&self.headers))
            .field("metadata", &Names(&self.metadata))
            .field("max_chunk_size", &self.max_chunk_size)
            .finish()
    }
}

/// An object on its way in.
///
/// Dropping it before [`finish`](Self::finish) was called, or after an error, gives the object up:
/// nothing of it is visible, what was stored of its bytes is taken out in the background, and an
/// earlier object of its name stays.
pub trait Upload: Send {
    /// The most bytes that [`write`](Self::write) takes at a time. All but the last piece should have
    /// as many.
    fn chunk_size(&self) -> usize;

    /// Takes the next bytes, at most [`chunk_size`](Self::chunk_size) and at least one. It returns
    /// when there is room for more, which need not mean that these are stored. After an error, or
    /// dropped before it is done, the object can only be given up.
    fn write<'a>(&'a mut self, bytes: Bytes) -> BoxFuture<'a, Result<()>>;

    /// All bytes were given: `size` of them, with this [digest](ObjectInfo::digest). Waits until they
    /// are stored, then shows the object, in place of an earlier one of its name, whose bytes are
    /// taken out. Dropped before it is done, the object is either there as a whole or not at all.
    /// Called once.
    fn finish<'a>(&'a mut self, size: u64, digest: String) -> BoxFuture<'a, Result<ObjectInfo>>;
}

/// An object on its way out.
pub struct Download {
    /// What it is.
    pub info: ObjectInfo,
    /// The bytes asked for, in order; none of a link. It ends behind the last of them, or after an
    /// error; [`Conflict`](crate::ErrorKind::Conflict) when the object was replaced or deleted
    /// meanwhile. Reading it slowly slows down the source. Dropping it ends it.
    pub bytes: BoxStream<'static, Result<Bytes>>,
}

impl fmt::Debug for Download {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Download").field("info", &self.info).finish_non_exhaustive()
    }
}

/// What is to be different about an object; the rest stays.
#[derive(Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Change {
    /// Its new name.
    pub name: Option<String>,
    /// Its new description; an empty one takes it off.
    pub description: Option<String>,
    /// Its new headers, in place of all it has.
    pub headers: Option<BTreeMap<String, Vec<String>>>,
    /// Its new metadata, in place of all it has.
    pub metadata: Option<BTreeMap<String, String>>,
}

impl fmt::Debug for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Change")
            .field("name", &self.name)
            .field("description", &self.description)
            .field("headers", &self.headers.as_ref().map(Names))
            .field("metadata", &self.metadata.as_ref().map(Names))
            .finish()
    }
}

/// An object store.
///
/// Buckets come by their full names, checked by [`Objects`](super::Objects), and so are the names of
/// objects.
///
/// Every method ends by its deadline: with [`Timeout`](crate::ErrorKind::Timeout) when the back end
/// was reached and did not answer, with [`Unavailable`](crate::ErrorKind::Unavailable) when it could
/// not be reached. An outage is an error, never a miss. What a bucket that does not exist is asked
/// for is missing; what is to be stored in one makes it.
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

    /// Begins to store an object. Makes a missing bucket.
    fn put<'a>(
        &'a self,
        bucket: &'a str,
        draft: Draft,
        limits: Limits,
    ) -> BoxFuture<'a, Result<Box<dyn Upload>>>;

    /// Begins to read the bytes of an object that are in `range`, which may go beyond its end; all of
    /// them for `0..u64::MAX`. `None` when there is no such object. Links are not followed.
    fn get<'a>(
        &'a self,
        bucket: &'a str,
        name: &'a str,
        range: Range<u64>,
        consistency: Consistency,
        limits: Limits,
    ) -> BoxFuture<'a, Result<Option<Download>>>;

    /// What an object is; `None` when there is none. Links are not followed.
    fn info<'a>(
        &'a self,
        bucket: &'a str,
        name: &'a str,
        consistency: Consistency,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<Option<ObjectInfo>>>;

    /// The objects there are, links among them, each once, in no order. The whole listing ends by
    /// the deadline; what it holds in memory is bounded, however many there are.
    fn list<'a>(
        &'a self,
        bucket: &'a str,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<BoxStream<'static, Result<ObjectInfo>>>>;

    /// The objects there are, then [`Event::Current`], once, then every change, without gaps, until
    /// the stream is dropped or the driver ends; an error ends it. Makes a missing bucket. The
    /// deadline is for the beginning alone: it has begun when the result is there.
    fn watch<'a>(
        &'a self,
        bucket: &'a str,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<BoxStream<'static, Result<Event>>>>;

    /// Deletes an object or a link with all it holds; whether there was one.
    fn delete<'a>(
        &'a self,
        bucket: &'a str,
        name: &'a str,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<bool>>;

    /// Changes what is told of an object or a link, which keeps its bytes; gives it as it is then, or
    /// `None` when there is none. [`AlreadyExists`](crate::ErrorKind::AlreadyExists) when its new
    /// name is another's.
    fn change<'a>(
        &'a self,
        bucket: &'a str,
        name: &'a str,
        change: Change,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<Option<ObjectInfo>>>;

    /// Makes a link, in place of an earlier one of its name; to the bucket `to.bucket`, which has its
    /// full name, where `to` names no object. [`AlreadyExists`](crate::ErrorKind::AlreadyExists) when
    /// `name` is an object's. Makes a missing bucket.
    fn link<'a>(
        &'a self,
        bucket: &'a str,
        name: &'a str,
        to: Link,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<ObjectInfo>>;

    /// Takes out bytes that belong to no object and were stored at least `age` ago, as a process
    /// that is killed in an upload leaves them; from how many uploads these were.
    fn purge_orphans<'a>(
        &'a self,
        bucket: &'a str,
        age: Duration,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<u64>>;

    /// The names of all buckets, in no order.
    fn buckets<'a>(&'a self, deadline: Instant) -> BoxFuture<'a, Result<Vec<String>>>;

    /// A bucket as it is now; `None` when it does not exist.
    fn bucket_status<'a>(
        &'a self,
        bucket: &'a str,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<Option<BucketStatus>>>;

    /// Makes the bucket unless there is one of that name, which stays as it is; whether it made it.
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

    /// Closes a bucket to every change, for good: what is to change something in it is
    /// [`Unsupported`](crate::ErrorKind::Unsupported) from then on, and it can only be read or
    /// deleted. [`NotFound`](crate::ErrorKind::NotFound) without such a bucket.
    fn seal<'a>(&'a self, bucket: &'a str, deadline: Instant) -> BoxFuture<'a, Result<()>>;

    /// Deletes a bucket with all it holds; whether there was one.
    fn delete_bucket<'a>(
        &'a self,
        bucket: &'a str,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<bool>>;
}
