//! A bucket as it is, and how that differs from what is asked for.

use std::time::{Duration, SystemTime};

use super::{BucketConfig, Storage};
use crate::difference::{Difference, Differences};

/// A bucket as it was at the moment of asking:
/// [`Objects::bucket_status`](super::Objects::bucket_status).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct BucketStatus {
    /// The bucket's full name and its options, all of those that the store tells.
    pub config: BucketConfig,
    /// The size of what it holds, in bytes.
    pub bytes: u64,
    /// The latest revision; 0 before the first write.
    pub revision: u64,
    /// It takes no changes any more.
    pub sealed: bool,
    /// When it was made, where the store knows.
    pub created: Option<SystemTime>,
}

impl BucketStatus {
    /// An empty bucket, as drivers begin to tell one.
    #[must_use]
    pub const fn new(config: BucketConfig) -> Self {
        BucketStatus { config, bytes: 0, revision: 0, sealed: false, created: None }
    }
}

impl BucketConfig {
    /// What this one sets and `found` has otherwise. The size of chunks is each handle's own.
    pub(crate) fn differences(&self, found: &BucketConfig) -> Vec<Difference> {
        let mut differences = Differences::default();
        let mut compare = |option, wanted, found| differences.compare(option, wanted, found);
        let ttl = |ttl: Duration| match ttl.is_zero() {
            true => "none".to_owned(),
            false => humantime::format_duration(ttl).to_string(),
        };
        let size = |bytes: u64| match bytes {
            0 => "no limit".to_owned(),
            bytes => format!("{bytes} bytes"),
        };
        let storage = |storage: Storage| storage.to_string();
        let text = |text: &String| format!("{text:?}");
        compare("ttl", self.ttl.map(ttl), found.ttl.map(ttl));
        compare(
            "description",
            self.description.as_ref().map(text),
            found.description.as_ref().map(text),
        );
        compare(
            "replicas",
            self.replicas.map(|n| n.to_string()),
            found.replicas.map(|n| n.to_string()),
        );
        compare("storage", self.storage.map(storage), found.storage.map(storage));
        compare(
            "compression",
            self.compression.map(|on| on.to_string()),
            found.compression.map(|on| on.to_string()),
        );
        compare("max_bytes", self.max_bytes.map(size), found.max_bytes.map(size));
        differences.into_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_asked_for_can_differ() {
        let found = BucketConfig::new("b").ttl(Duration::from_secs(90)).replicas(3).max_bytes(0);
        assert_eq!(BucketConfig::new("b").max_chunk_size(7).differences(&found), []);
        let wanted = BucketConfig::new("b").ttl(Duration::ZERO).replicas(3).max_bytes(10);
        let told: Vec<String> =
            wanted.differences(&found).iter().map(ToString::to_string).collect();
        assert_eq!(told, ["ttl is 1m 30s, not none", "max_bytes is no limit, not 10 bytes"]);
    }
}
