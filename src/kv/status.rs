//! A bucket as it is, and how that differs from what is asked for.

use std::time::{Duration, SystemTime};

use super::{BucketConfig, KeyCodec, Storage};
use crate::difference::{Difference, Differences};

/// A bucket as it was at the moment of asking: [`Kv::bucket_status`](super::Kv::bucket_status).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct BucketStatus {
    /// The bucket's full name and its options, all of those that the store tells.
    pub config: BucketConfig,
    /// What it holds: values, with those of the history, and markers of deletes.
    pub messages: u64,
    /// The size of what it holds.
    pub bytes: u64,
    /// The latest revision; 0 before the first write.
    pub revision: u64,
    /// When it was made, where the store knows.
    pub created: Option<SystemTime>,
}

impl BucketStatus {
    /// An empty bucket, as drivers begin to tell one.
    #[must_use]
    pub const fn new(config: BucketConfig) -> Self {
        BucketStatus { config, messages: 0, bytes: 0, revision: 0, created: None }
    }
}

impl BucketConfig {
    /// What this one sets and `found` has otherwise.
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
        let codec = |codec: KeyCodec| codec.to_string();
        compare("ttl", self.ttl.map(ttl), found.ttl.map(ttl));
        compare(
            "replicas",
            self.replicas.map(|n| n.to_string()),
            found.replicas.map(|n| n.to_string()),
        );
        compare("storage", self.storage.map(storage), found.storage.map(storage));
        compare(
            "history",
            self.history.map(|n| n.to_string()),
            found.history.map(|n| n.to_string()),
        );
        compare(
            "max_value_size",
            self.max_value_size.map(|n| size(n as u64)),
            found.max_value_size.map(|n| size(n as u64)),
        );
        compare("max_bytes", self.max_bytes.map(size), found.max_bytes.map(size));
        compare(
            "description",
            self.description.as_ref().map(|text| format!("{text:?}")),
            found.description.as_ref().map(|text| format!("{text:?}")),
        );
        compare(
            "compression",
            self.compression.map(|on| on.to_string()),
            found.compression.map(|on| on.to_string()),
        );
        compare("key_codec", self.key_codec.map(codec), found.key_codec.map(codec));
        compare(
            "per_key_ttl",
            self.per_key_ttl.map(|on| on.to_string()),
            found.per_key_ttl.map(|on| on.to_string()),
        );
        compare(
            "transactions",
            self.transactions.map(|on| on.to_string()),
            found.transactions.map(|on| on.to_string()),
        );
        differences.into_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_asked_for_can_differ() {
        let found = BucketConfig::new("b").history(1).ttl(Duration::from_secs(90)).replicas(3);
        assert_eq!(BucketConfig::new("b").differences(&found), []);
        let wanted = BucketConfig::new("b").history(5).ttl(Duration::ZERO).replicas(3);
        let told: Vec<String> =
            wanted.differences(&found).iter().map(ToString::to_string).collect();
        assert_eq!(told, ["ttl is 1m 30s, not none", "history is 1, not 5"]);
    }
}
