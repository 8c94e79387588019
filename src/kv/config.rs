//! What a bucket keeps, and for how long.

use std::fmt;
use std::time::Duration;

use super::KeyCodec;
use crate::error::{Error, ErrorKind, Result};

/// Where a bucket keeps its values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Storage {
    /// On disk, surviving a restart. The default.
    #[default]
    File,
    /// In memory, lost when the servers that hold it stop.
    Memory,
}

/// A bucket as it is to be: what [`create_bucket`](crate::kv::create_bucket) makes or changes.
///
/// What is not set keeps its default in a new bucket, and its present value in one that is there.
///
/// ```
/// use std::time::Duration;
/// use nats_connector::kv::{BucketConfig, Storage};
///
/// let sessions = BucketConfig::new("sessions")
///     .ttl(Duration::from_secs(3600))
///     .storage(Storage::Memory)
///     .description("logins");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "a configuration does nothing until it is given to create_bucket"]
pub struct BucketConfig {
    pub(crate) name: String,
    pub(crate) ttl: Option<Duration>,
    pub(crate) replicas: Option<usize>,
    pub(crate) storage: Option<Storage>,
    pub(crate) history: Option<u8>,
    pub(crate) max_value_size: Option<usize>,
    pub(crate) max_bytes: Option<u64>,
    pub(crate) description: Option<String>,
    pub(crate) compression: Option<bool>,
    pub(crate) key_codec: Option<KeyCodec>,
    pub(crate) per_key_ttl: Option<bool>,
    pub(crate) transactions: Option<bool>,
}

/// The most values of one key that a bucket keeps.
const MAX_HISTORY: u8 = 64;
/// The shortest lifetime that a nats-server accepts for what a stream holds.
const MIN_TTL: Duration = Duration::from_millis(100);
/// The most copies that a nats-server cluster keeps.
const MAX_REPLICAS: usize = 5;
/// The longest description that a nats-server accepts, in bytes.
const MAX_DESCRIPTION: usize = 4096;
/// The longest name of a stream is 255 bytes; `KV_` is in front of a bucket's.
const MAX_NAME: usize = 252;

impl BucketConfig {
    /// The bucket `name` (letters, digits, `_` and `-`), everything else left at its default.
    pub fn new(name: impl Into<String>) -> Self {
        BucketConfig {
            name: name.into(),
            ttl: None,
            replicas: None,
            storage: None,
            history: None,
            max_value_size: None,
            max_bytes: None,
            description: None,
            compression: None,
            key_codec: None,
            per_key_ttl: None,
            transactions: None,
        }
    }

    /// How long a value is kept after it was written; at least 100 ms. Zero: until it is deleted,
    /// which is the default.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }

    /// How many servers of a cluster keep a copy: 1 to 5. Default 1.
    pub fn replicas(mut self, replicas: usize) -> Self {
        self.replicas = Some(replicas);
        self
    }

    /// Where values are kept. Default [`Storage::File`]; a bucket that is there cannot change it.
    pub fn storage(mut self, storage: Storage) -> Self {
        self.storage = Some(storage);
        self
    }

    /// How many values of each key are kept: 1 to 64. Default 1.
    pub fn history(mut self, values: u8) -> Self {
        self.history = Some(values);
        self
    }

    /// The largest value with its headers, in bytes. Zero: as large as the server allows, which is
    /// the default.
    pub fn max_value_size(mut self, bytes: usize) -> Self {
        self.max_value_size = Some(bytes);
        self
    }

    /// How much the whole bucket may hold, in bytes; a full one refuses writes. Zero: no limit,
    /// which is the default.
    pub fn max_bytes(mut self, bytes: u64) -> Self {
        self.max_bytes = Some(bytes);
        self
    }

    /// What the bucket is for; at most 4,096 bytes.
    pub fn description(mut self, text: impl Into<String>) -> Self {
        self.description = Some(text.into());
        self
    }

    /// Whether the server compresses what it stores. Default `false`; needs nats-server 2.10.
    pub fn compression(mut self, on: bool) -> Self {
        self.compression = Some(on);
        self
    }

    /// How keys are written. Default `NATS.KEY_CODEC`, kept with the bucket where the server can
    /// (nats-server 2.10), and then the same for every process; a bucket that holds keys cannot
    /// change it.
    pub fn key_codec(mut self, codec: KeyCodec) -> Self {
        self.key_codec = Some(codec);
        self
    }

    /// Whether single values may have a lifetime. Default: in a new bucket yes where the server can
    /// (nats-server 2.11); one that is there can be switched on, never off.
    pub fn per_key_ttl(mut self, on: bool) -> Self {
        self.per_key_ttl = Some(on);
        self
    }

    /// Whether several keys can be written together. Default: in a new bucket yes where the server
    /// can (nats-server 2.12).
    pub fn transactions(mut self, on: bool) -> Self {
        self.transactions = Some(on);
        self
    }

    /// The bucket's name; on what a [`BucketStatus`](super::BucketStatus) tells, with the handle's
    /// bucket prefix.
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
            (self.history.is_some_and(|n| !(1..=MAX_HISTORY).contains(&n)), "history", "1 to 64"),
            (
                self.max_value_size.is_some_and(|n| i32::try_from(n).is_err()),
                "max_value_size",
                "below 2 GiB",
            ),
            (self.max_bytes.is_some_and(|n| i64::try_from(n).is_err()), "max_bytes", "below 2^63"),
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
            replicas: other.replicas.or(self.replicas),
            storage: other.storage.or(self.storage),
            history: other.history.or(self.history),
            max_value_size: other.max_value_size.or(self.max_value_size),
            max_bytes: other.max_bytes.or(self.max_bytes),
            description: other.description.clone().or_else(|| self.description.clone()),
            compression: other.compression.or(self.compression),
            key_codec: other.key_codec.or(self.key_codec),
            per_key_ttl: other.per_key_ttl.or(self.per_key_ttl),
            transactions: other.transactions.or(self.transactions),
        }
    }
}

impl From<&str> for BucketConfig {
    fn from(name: &str) -> Self {
        BucketConfig::new(name)
    }
}

impl fmt::Display for Storage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Storage::File => "file",
            Storage::Memory => "memory",
        })
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
        "a bucket's name, prefix included, has at most 252 bytes"
    } else {
        return Ok(());
    };
    Err(Error::new(ErrorKind::InvalidInput, problem).with("bucket", name))
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
            (bucket().history(0), "history"),
            (bucket().history(65), "history"),
            (bucket().max_value_size(usize::MAX), "max_value_size"),
            (bucket().max_bytes(u64::MAX), "max_bytes"),
            (bucket().description("x".repeat(4097)), "description"),
            (BucketConfig::new(""), "no name"),
            (BucketConfig::new("a.b"), "letters"),
            (BucketConfig::new("a".repeat(253)), "252"),
        ];
        for (config, named) in wrong {
            let error = config.check().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert!(error.to_string().contains(named), "{error}");
        }
        let right = bucket().ttl(Duration::ZERO).replicas(5).history(64).max_value_size(0);
        right.max_bytes(0).description("x".repeat(4096)).check().unwrap();
        BucketConfig::new("a".repeat(252)).check().unwrap();
    }
}
