//! How a store of counters is made.

use std::time::Duration;

use crate::error::{Error, ErrorKind, Result};
use crate::kv::Storage;

/// The longest name of a stream is 255 bytes; `COUNTERS_` is in front.
const MAX_NAME: usize = 246;
/// The most copies that a nats-server cluster keeps.
const MAX_REPLICAS: usize = 5;
/// Less would leave no time for a second try.
const MIN_WINDOW: Duration = Duration::from_secs(1);

/// A store of counters as it is to be. It is made so by the first add; one that is there stays as it
/// is, and a warning tells how it differs.
///
/// ```
/// use nats_connector::counters::CountersConfig;
///
/// # let nats = nats_connector::Connector::memory();
/// let votes = nats.counters(CountersConfig::new("votes").replicas(3));
/// # let nats = votes;
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "a configuration does nothing until it is given to Connector::counters"]
pub struct CountersConfig {
    pub(super) name: String,
    pub(super) replicas: Option<usize>,
    pub(super) storage: Option<Storage>,
    pub(super) duplicate_window: Option<Duration>,
}

impl CountersConfig {
    /// The store `name` (letters, digits, `_` and `-`): one copy, on disk.
    pub fn new(name: impl Into<String>) -> Self {
        let name = name.into();
        CountersConfig { name, replicas: None, storage: None, duplicate_window: None }
    }

    /// Keeps this many copies, 1 to 5, each on another server of a cluster. Default 1.
    pub fn replicas(mut self, replicas: usize) -> Self {
        self.replicas = Some(replicas);
        self
    }

    /// Where the counters are kept. Default on disk.
    pub fn storage(mut self, storage: Storage) -> Self {
        self.storage = Some(storage);
        self
    }

    /// How long the server remembers the id of an add, at least 1 s. An add whose fate is unknown is
    /// tried again for half of this time, whatever the call's own limit. The server takes about
    /// 200 bytes of memory for each message of this time. Default 2 min.
    pub fn duplicate_window(mut self, window: Duration) -> Self {
        self.duplicate_window = Some(window);
        self
    }

    pub(super) fn check(&self) -> Result<()> {
        let legal = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
        let invalid = |message| Err(Error::new(ErrorKind::InvalidInput, message));
        if self.name.is_empty() || !self.name.bytes().all(legal) {
            return invalid(
                "the name of a store of counters has letters, digits, `_` and `-`, at least one",
            );
        }
        if self.name.len() > MAX_NAME {
            return invalid("the name of a store of counters has at most 246 bytes");
        }
        if self.replicas.is_some_and(|n| n == 0 || n > MAX_REPLICAS) {
            return invalid("a store of counters has 1 to 5 replicas");
        }
        if self.duplicate_window.is_some_and(|window| window < MIN_WINDOW) {
            return invalid("the duplicate window of a store of counters is at least 1 s");
        }
        Ok(())
    }
}

impl From<&str> for CountersConfig {
    fn from(name: &str) -> Self {
        CountersConfig::new(name)
    }
}

impl From<String> for CountersConfig {
    fn from(name: String) -> Self {
        CountersConfig::new(name)
    }
}
