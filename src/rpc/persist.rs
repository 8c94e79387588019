//! Where the responses of a method are kept.

mod counts;
mod keeper;
mod lanes;
mod plan;
mod receipt;
mod shelf;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

pub(crate) use counts::Counts;
pub(crate) use keeper::Keeper;
pub(crate) use plan::plan;
pub use receipt::Receipt;
pub use shelf::StoreStatus;
pub(crate) use shelf::{Shelf, Store, Stores};

use crate::error::Result;
use crate::{kv, objects};

/// How long a write may take by default.
const WRITE_TIME: Duration = Duration::from_secs(10);

/// When a response is stored, and what a failure to do so means.
///
/// Whatever the policy: only responses of calls that succeed are stored, byte for byte as they are
/// sent; writes of one key by one service instance have the order of its replies; a failure is
/// counted in the method's statistics and logged with bucket and key, at most once a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Policy {
    /// After the reply has been sent, so that the call takes no longer. The default.
    ///
    /// A drain waits for it. A process that is killed in between leaves the reply without its
    /// stored copy: where that matters, take another policy.
    ///
    /// At most 1,024 writes, and 64 MiB, wait in one service instance. When there are more, the next
    /// call is answered, and then stays one of the [running](super::Endpoint::concurrency) ones until
    /// there is room; while the store fails to
    /// answer, its write is refused in place of that, so that calls go on without the store.
    #[default]
    AfterReply,
    /// Before the reply is sent; a failure does not touch the call.
    BeforeReply,
    /// Before the reply is sent; a failure fails the call, with `UNAVAILABLE` when the store does not
    /// answer and `INTERNAL` else, naming bucket and key.
    ///
    /// The handler has done its work then: what it changed stands, and the caller that tries again
    /// meets it. A key that cannot be made of the request fails the call before the handler runs,
    /// with `INVALID_ARGUMENT`, and so does a bucket that is not there and cannot be made.
    Required,
}

/// Where the responses of a method are kept, and under which key.
///
/// A service makes the buckets of its methods when it starts, and again with a later write when that
/// fails; a bucket that is there stays as it is. Several methods of a service may share one: their
/// options are put together, and must agree. What nobody sets is as in every bucket of this crate,
/// but that keys are kept as they are ([`KeyCodec::Raw`](kv::KeyCodec::Raw)).
pub struct Persist<Req> {
    pub(crate) place: Place,
    pub(crate) key: Arc<KeyOf<Req>>,
    pub(crate) policy: Policy,
    pub(crate) client_only: bool,
    pub(crate) receipt: bool,
    pub(crate) timeout: Duration,
}

pub(crate) type KeyOf<Req> = dyn Fn(&Req) -> Result<String> + Send + Sync;

/// Where responses go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    Kv(kv::BucketConfig),
    Objects(objects::BucketConfig),
}

impl Place {
    /// What kind of store it is.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Place::Kv(_) => "kv",
            Place::Objects(_) => "objects",
        }
    }

    /// The bucket's name.
    pub(crate) fn bucket(&self) -> &str {
        match self {
            Place::Kv(config) => config.name(),
            Place::Objects(config) => config.name(),
        }
    }

    pub(crate) fn is_same_bucket(&self, other: &Place) -> bool {
        self.kind() == other.kind() && self.bucket() == other.bucket()
    }

    /// Checks what no store accepts.
    fn check(&self) -> Result<()> {
        match self {
            Place::Kv(config) => config.check(),
            Place::Objects(config) => config.check(),
        }
    }
}

impl<Req> Persist<Req> {
    /// In a key-value bucket, under what `key` makes of the request, mostly with a
    /// [`KeyText`](super::KeyText).
    #[must_use]
    pub fn kv(
        bucket: impl Into<kv::BucketConfig>,
        key: impl Fn(&Req) -> Result<String> + Send + Sync + 'static,
    ) -> Self {
        Persist::new(Place::Kv(bucket.into()), Arc::new(key))
    }

    /// In a bucket of objects, under what `key` makes of the request.
    #[must_use]
    pub fn objects(
        bucket: impl Into<objects::BucketConfig>,
        key: impl Fn(&Req) -> Result<String> + Send + Sync + 'static,
    ) -> Self {
        Persist::new(Place::Objects(bucket.into()), Arc::new(key))
    }

    fn new(place: Place, key: Arc<KeyOf<Req>>) -> Self {
        Persist {
            place,
            key,
            policy: Policy::default(),
            client_only: false,
            receipt: false,
            timeout: WRITE_TIME,
        }
    }

    /// When it is stored. Default [`Policy::AfterReply`].
    #[must_use]
    pub fn policy(mut self, policy: Policy) -> Self {
        self.policy = policy;
        self
    }

    /// The service makes the bucket and stores nothing: clients write and read it.
    #[must_use]
    pub fn client_only(mut self) -> Self {
        self.client_only = true;
        self
    }

    /// Tells the caller in a header where the response was stored: see [`Receipt`]. Not with
    /// [`Policy::AfterReply`], whose reply is sent before that is known.
    #[must_use]
    pub fn receipt(mut self) -> Self {
        self.receipt = true;
        self
    }

    /// How long a write may take, its wait for earlier writes of the key included; the time of the
    /// call does not count. Default 10 s.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }
}

impl<Req> Clone for Persist<Req> {
    fn clone(&self) -> Self {
        Persist { place: self.place.clone(), key: self.key.clone(), ..*self }
    }
}

impl<Req> fmt::Debug for Persist<Req> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Persist")
            .field("place", &self.place)
            .field("policy", &self.policy)
            .field("client_only", &self.client_only)
            .field("receipt", &self.receipt)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}
