//! Where the responses of a method are kept.

use std::fmt;
use std::sync::Arc;

use crate::error::Result;
use crate::{kv, objects};

/// When a response is stored, and what a failure to do so means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Policy {
    /// After the reply has been sent. A failure is counted and logged. The default.
    #[default]
    AfterReply,
    /// Before the reply is sent. A failure is counted and logged.
    BeforeReply,
    /// Before the reply is sent. A failure fails the call.
    Required,
}

/// Where the responses of a method are kept, and under which key.
pub struct Persist<Req> {
    pub(crate) place: Place,
    pub(crate) key: Arc<dyn Fn(&Req) -> Result<String> + Send + Sync>,
    pub(crate) policy: Policy,
    pub(crate) client_only: bool,
}

/// Where responses go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    Kv(kv::BucketConfig),
    Objects(objects::BucketConfig),
}

impl<Req> Persist<Req> {
    /// In a key-value bucket, under what `key` makes of the request, mostly with a
    /// [`KeyText`](super::KeyText).
    #[must_use]
    pub fn kv(
        bucket: impl Into<kv::BucketConfig>,
        key: impl Fn(&Req) -> Result<String> + Send + Sync + 'static,
    ) -> Self {
        Persist::new(Place::Kv(bucket.into()), key)
    }

    /// In a bucket of objects, under what `key` makes of the request.
    #[must_use]
    pub fn objects(
        bucket: impl Into<objects::BucketConfig>,
        key: impl Fn(&Req) -> Result<String> + Send + Sync + 'static,
    ) -> Self {
        Persist::new(Place::Objects(bucket.into()), key)
    }

    fn new(place: Place, key: impl Fn(&Req) -> Result<String> + Send + Sync + 'static) -> Self {
        Persist { place, key: Arc::new(key), policy: Policy::default(), client_only: false }
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
}

impl<Req> Clone for Persist<Req> {
    fn clone(&self) -> Self {
        Persist {
            place: self.place.clone(),
            key: self.key.clone(),
            policy: self.policy,
            client_only: self.client_only,
        }
    }
}

impl<Req> fmt::Debug for Persist<Req> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Persist")
            .field("place", &self.place)
            .field("policy", &self.policy)
            .field("client_only", &self.client_only)
            .finish_non_exhaustive()
    }
}
