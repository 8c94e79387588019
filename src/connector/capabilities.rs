//! What the connected server can do. The client's own record lacks the API level and fails on old
//! servers' account answers, so it is read raw and leniently.

use serde::Deserialize;

use crate::error::{Error, ErrorKind, Result};

/// A feature that not every server has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Feature {
    /// Compressed streams and buckets.
    StreamCompression,
    /// Metadata on streams and buckets.
    StreamMetadata,
    /// A time to live on single messages and keys (ADR-43, ADR-48).
    PerKeyTtl,
    /// Reads of many keys by one request (ADR-31).
    MultiGet,
    /// Writes on the condition that another key stands.
    Fencing,
    /// Several keys or messages written together or not at all (ADR-50).
    Transactions,
    /// Counters that the server itself adds to (ADR-49).
    Counters,
    /// Messages that a stream publishes later, once (ADR-51).
    Schedules,
    /// Messages that a stream publishes again and again, by an interval or a calendar (ADR-51).
    RepeatingSchedules,
    /// Many messages published without an acknowledgement for each.
    FastIngest,
}

impl Feature {
    pub(crate) const ALL: [Feature; 10] = [
        Feature::StreamCompression,
        Feature::StreamMetadata,
        Feature::PerKeyTtl,
        Feature::MultiGet,
        Feature::Fencing,
        Feature::Transactions,
        Feature::Counters,
        Feature::Schedules,
        Feature::RepeatingSchedules,
        Feature::FastIngest,
    ];

    /// The feature in words.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.since().0
    }

    /// The JetStream API level that has it; 0 for what is older than levels.
    fn level(self) -> u32 {
        match self {
            Feature::StreamCompression | Feature::StreamMetadata => 0,
            Feature::PerKeyTtl | Feature::MultiGet | Feature::Fencing => 1,
            Feature::Transactions | Feature::Counters | Feature::Schedules => 2,
            Feature::RepeatingSchedules | Feature::FastIngest => 4,
        }
    }

    /// The feature in words, and the first server version that has it.
    fn since(self) -> (&'static str, (u64, u64, u64)) {
        match self {
            Feature::StreamCompression => ("compression", (2, 10, 0)),
            Feature::StreamMetadata => ("stream metadata", (2, 10, 0)),
            Feature::PerKeyTtl => ("per-key TTL", (2, 11, 0)),
            Feature::MultiGet => ("multi-get", (2, 11, 0)),
            Feature::Fencing => ("fencing", (2, 11, 0)),
            Feature::Transactions => ("transactions", (2, 12, 0)),
            Feature::Counters => ("server-side counters", (2, 12, 0)),
            Feature::Schedules => ("publishing later", (2, 12, 0)),
            Feature::RepeatingSchedules => ("publishing repeatedly", (2, 14, 0)),
            Feature::FastIngest => ("fast ingest", (2, 14, 0)),
        }
    }
}

/// What the connected server can do; read again after every reconnect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capabilities {
    version: String,
    parsed: (u64, u64, u64),
    api_level: u32,
    jetstream: bool,
    domain: Option<String>,
    max_payload: usize,
}

impl Capabilities {
    pub(crate) fn new(version: &str, info: Option<&ApiInfo>, max_payload: usize) -> Self {
        let parsed = parse_version(version);
        Capabilities {
            version: version.to_owned(),
            parsed,
            api_level: info.and_then(|info| info.api.level).unwrap_or(0),
            jetstream: info.is_some(),
            domain: info.and_then(|info| info.domain.clone()),
            max_payload,
        }
    }

    /// In process every feature that this library uses is there, but no JetStream API.
    pub(crate) fn memory() -> Self {
        Capabilities {
            version: "memory".to_owned(),
            parsed: (u64::MAX, 0, 0),
            api_level: 0,
            jetstream: false,
            domain: None,
            max_payload: crate::pubsub::memory::MAX_PAYLOAD,
        }
    }

    /// The server's version as it tells it, for example `2.15.1`; `memory` in process.
    #[must_use]
    pub fn server_version(&self) -> &str {
        &self.version
    }

    /// Major, minor and patch; zeros where the version cannot be read.
    #[must_use]
    pub fn version(&self) -> (u64, u64, u64) {
        self.parsed
    }

    /// The JetStream API level (1 since 2.11); 0 where the server tells none.
    #[must_use]
    pub fn api_level(&self) -> u32 {
        self.api_level
    }

    /// JetStream answers for this account.
    #[must_use]
    pub fn jetstream(&self) -> bool {
        self.jetstream
    }

    /// The domain of the JetStream that answers, where it has one.
    pub(crate) fn domain(&self) -> Option<&str> {
        self.domain.as_deref()
    }

    /// The largest message, headers included, in bytes.
    #[must_use]
    pub fn max_payload(&self) -> usize {
        self.max_payload
    }

    /// Whether the server has a feature, and the one that answers for JetStream too, which in
    /// another domain or a cluster of several versions may be an older one.
    #[must_use]
    pub fn supports(&self, feature: Feature) -> bool {
        self.parsed >= feature.since().1 && !self.has_older_jetstream(feature)
    }

    fn has_older_jetstream(&self, feature: Feature) -> bool {
        self.jetstream && self.api_level < feature.level()
    }

    /// Refuses a feature that the server lacks.
    ///
    /// # Errors
    /// [`Unsupported`](ErrorKind::Unsupported), naming the feature, the version that has it and the
    /// one connected to.
    pub fn require(&self, feature: Feature) -> Result<()> {
        self.require_for(feature, feature.name())
    }

    /// The same, with the feature in the caller's words.
    pub(crate) fn require_for(&self, feature: Feature, name: &str) -> Result<()> {
        if self.supports(feature) {
            return Ok(());
        }
        let (_, (major, minor, _)) = feature.since();
        let need = if name.ends_with("transactions") || name.ends_with("counters") {
            "need"
        } else {
            "needs"
        };
        let older = if self.has_older_jetstream(feature) && self.parsed >= feature.since().1 {
            format!(", where JetStream is an older one's (API level {})", self.api_level)
        } else {
            String::new()
        };
        Err(Error::new(
            ErrorKind::Unsupported,
            format!(
                "{name} {need} nats-server {major}.{minor} or newer; connected to {}{older}",
                self.version
            ),
        ))
    }
}

/// The parts of `$JS.API.INFO` that every server since 2.9 agrees on.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct ApiInfo {
    #[serde(default)]
    pub(crate) api: ApiStats,
    pub(crate) domain: Option<String>,
    pub(crate) error: Option<ApiError>,
}

#[derive(Debug, Default, Deserialize)]
pub(crate) struct ApiStats {
    pub(crate) level: Option<u32>,
}

/// An error of the JetStream API.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct ApiError {
    #[serde(default)]
    pub(crate) code: u16,
    #[serde(default)]
    pub(crate) err_code: u64,
    #[serde(default)]
    pub(crate) description: String,
}

/// `2.11.0-RC.3` is `(2, 11, 0)`.
fn parse_version(text: &str) -> (u64, u64, u64) {
    let core = text.trim_start_matches('v').split(['-', '+']).next().unwrap_or_default();
    let mut parts = core.split('.').map(|part| part.parse().unwrap_or(0));
    let mut next = || parts.next().unwrap_or(0);
    (next(), next(), next())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_leniently() {
        assert_eq!(parse_version("2.15.1"), (2, 15, 1));
        assert_eq!(parse_version("2.11.0-RC.3"), (2, 11, 0));
        assert_eq!(parse_version("v2.9"), (2, 9, 0));
        assert_eq!(parse_version("nonsense"), (0, 0, 0));
    }

    #[test]
    fn a_missing_feature_is_refused_with_both_versions() {
        let error = Capabilities::new("2.9.10", None, 1).require(Feature::PerKeyTtl).unwrap_err();
        assert_eq!(
            error.to_string(),
            "per-key TTL needs nats-server 2.11 or newer; connected to 2.9.10"
        );
        assert!(Capabilities::new("2.11.0", None, 1).require(Feature::PerKeyTtl).is_ok());
    }

    #[test]
    fn the_server_that_answers_for_jetstream_counts_too() {
        let of_level = |level| ApiInfo { api: ApiStats { level }, ..ApiInfo::default() };
        let old = Capabilities::new("2.15.1", Some(&of_level(None)), 1);
        assert!(old.supports(Feature::StreamMetadata));
        assert_eq!(
            old.require(Feature::Fencing).unwrap_err().to_string(),
            "fencing needs nats-server 2.11 or newer; connected to 2.15.1, where JetStream is an \
             older one's (API level 0)"
        );
        let newer = Capabilities::new("2.15.1", Some(&of_level(Some(1))), 1);
        assert!(newer.supports(Feature::Fencing) && !newer.supports(Feature::Transactions));
    }
}
