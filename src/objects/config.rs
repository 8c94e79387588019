//! What a bucket of objects keeps, and for how long.

use std::time::Duration;

use crate::kv::Storage;

/// A bucket of objects as it is to be.
///
/// What is not set keeps its default in a new bucket, and its present value in one that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "a configuration does nothing until it is given to a call"]
pub struct BucketConfig {
    pub(crate) name: String,
    pub(crate) ttl: Option<Duration>,
    pub(crate) description: Option<String>,
    pub(crate) replicas: Option<usize>,
    pub(crate) storage: Option<Storage>,
    pub(crate) compression: Option<bool>,
    pub(crate) max_bytes: Option<u64>,
    pub(crate) max_chunk_size: Option<usize>,
}

impl BucketConfig {
    /// The bucket `name` (letters, digits, `_` and `-`), everything else left at its default.
    pub fn new(name: impl Into<String>) -> Self {
        BucketConfig {
            name: name.into(),
            ttl: None,
            description: None,
            replicas: None,
            storage: None,
            compression: None,
            max_bytes: None,
            max_chunk_size: None,
        }
    }

    /// How long an object is kept after it was stored; at least 100 ms. Zero: until it is deleted,
    /// which is the default.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }

    /// What the bucket is for; at most 4,096 bytes.
    pub fn description(mut self, text: impl Into<String>) -> Self {
        self.description = Some(text.into());
        self
    }

    /// How many servers of a cluster keep a copy: 1 to 5. Default 1.
    pub fn replicas(mut self, replicas: usize) -> Self {
        self.replicas = Some(replicas);
        self
    }

    /// Where objects are kept. Default [`Storage::File`]; a bucket that is there cannot change it.
    pub fn storage(mut self, storage: Storage) -> Self {
        self.storage = Some(storage);
        self
    }

    /// Whether the server compresses what it stores. Default `false`; needs nats-server 2.10.
    pub fn compression(mut self, on: bool) -> Self {
        self.compression = Some(on);
        self
    }

    /// How much the whole bucket may hold, in bytes; a full one refuses objects. Zero: no limit,
    /// which is the default.
    pub fn max_bytes(mut self, bytes: u64) -> Self {
        self.max_bytes = Some(bytes);
        self
    }

    /// The most bytes of an object that one message holds, for what is stored through this bucket's
    /// handles. Default 128 KiB, and never more than the server's payload limit.
    pub fn max_chunk_size(mut self, bytes: usize) -> Self {
        self.max_chunk_size = Some(bytes);
        self
    }

    /// The bucket's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl From<&str> for BucketConfig {
    fn from(name: &str) -> Self {
        BucketConfig::new(name)
    }
}
