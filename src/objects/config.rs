//! What a bucket of objects keeps, and for how long.

use std::time::Duration;

use super::{MAX_CHUNK_SIZE, Storage};
use crate::error::{Error, ErrorKind, Result};

/// The shortest lifetime that a nats-server accepts for what a stream holds.
const MIN_TTL: Duration = Duration::from_millis(100);
/// The most copies that a nats-server cluster keeps.
const MAX_REPLICAS: usize = 5;
/// The longest description that a nats-server accepts, in bytes.
const MAX_DESCRIPTION: usize = 4096;
/// The longest name of a stream is 255 bytes; `OBJ_` is in front of a bucket's.
const MAX_NAME: usize = 251;

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

    /// The most bytes of an object that one message holds, for what is stored through the handle that
    /// the call with this config gives. Default 128 KiB, at most 64 MiB, and never more than the
    /// server's payload limit. It is kept with each object, not with the bucket.
    pub fn max_chunk_size(mut self, bytes: usize) -> Self {
        self.max_chunk_size = Some(bytes);
        self
    }

    /// The bucket's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Checks what no store accepts.
    pub(crate) fn check(&self) -> Result<()> {
        check_bucket_name(&self.name)?;
        let short = |ttl: Duration| !ttl.is_zero() && ttl < MIN_TTL;
        let limits = [
            (self.ttl.is_some_and(short), "ttl", "zero or at least 100ms"),
            (self.replicas.is_some_and(|n| !(1..=MAX_REPLICAS).contains(&n)), "replicas", "1 to 5"),
            (self.max_bytes.is_some_and(|n| i64::try_from(n).is_err()), "max_bytes", "below 2^63"),
            (
                self.max_chunk_size.is_some_and(|n| !(1..=MAX_CHUNK_SIZE).contains(&n)),
                "max_chunk_size",
                "1 byte to 64 MiB",
            ),
            (
                self.description.as_ref().is_some_and(|text| text.len() > MAX_DESCRIPTION),
                "description",
                "at most 4096 bytes",
            ),
        ];
        match limits.into_iter().find(|(wrong, ..)| *wrong) {
            None => Ok(()),
            Some((_, option, range)) => {
                Err(Error::new(ErrorKind::InvalidInput, format!("{option} must be {range}"))
                    .with("bucket", &self.name))
            }
        }
    }

    /// The same with what `other` sets on top.
    pub(crate) fn merged(&self, other: &BucketConfig) -> BucketConfig {
        BucketConfig {
            name: self.name.clone(),
            ttl: other.ttl.or(self.ttl),
            description: other.description.clone().or_else(|| self.description.clone()),
            replicas: other.replicas.or(self.replicas),
            storage: other.storage.or(self.storage),
            compression: other.compression.or(self.compression),
            max_bytes: other.max_bytes.or(self.max_bytes),
            max_chunk_size: other.max_chunk_size.or(self.max_chunk_size),
        }
    }
}

/// Checks the name of a bucket, its prefix included.
pub(crate) fn check_bucket_name(name: &str) -> Result<()> {
    let legal = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
    let problem = if name.is_empty() {
        "the bucket has no name"
    } else if !name.bytes().all(legal) {
        "a bucket's name is made of letters, digits, _ and - only"
    } else if name.len() > MAX_NAME {
        "a bucket's name, prefix included, has at most 251 bytes"
    } else {
        return Ok(());
    };
    Err(Error::new(ErrorKind::InvalidInput, problem).with("bucket", name))
}

impl From<&str> for BucketConfig {
    fn from(name: &str) -> Self {
        BucketConfig::new(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_store_accepts_is_refused_and_named() {
        let bucket = || BucketConfig::new("b");
        let wrong = [
            (bucket().ttl(Duration::from_millis(99)), "ttl"),
            (bucket().replicas(0), "replicas"),
            (bucket().replicas(6), "replicas"),
            (bucket().max_bytes(u64::MAX), "max_bytes"),
            (bucket().max_chunk_size(0), "max_chunk_size"),
            (bucket().max_chunk_size(MAX_CHUNK_SIZE + 1), "max_chunk_size"),
            (bucket().description("x".repeat(4097)), "description"),
            (BucketConfig::new(""), "no name"),
            (BucketConfig::new("a.b"), "letters"),
            (BucketConfig::new("a".repeat(252)), "251"),
        ];
        for (config, named) in wrong {
            let error = config.check().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert!(error.to_string().contains(named), "{error}");
        }
        let right = bucket().ttl(Duration::ZERO).replicas(5).max_chunk_size(1);
        right.max_bytes(0).description("x".repeat(4096)).check().unwrap();
        BucketConfig::new("a".repeat(251)).check().unwrap();
    }
}
